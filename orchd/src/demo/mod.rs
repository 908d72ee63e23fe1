//! `orchd demo`: a whole cluster, from nothing to a rolling update, told step by step.

mod client;
mod image;
mod nodes;
mod progress;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use orchestrator_core::driver::Cluster;
use orchestrator_core::model::{
    Container, Deployment, HttpGetAction, ImagePullPolicy, Key, Kind, LabelSelector, Pod,
    PortOrName, Probe,
};
use orchestrator_core::runtime::ContainerRunState;
use orchestrator_core::world::World;

use crate::cluster_keys::NewKeysArgs;
use crate::control_plane::Endpoint;
use crate::instance::{Instance, NODE_NAME, Options};
use crate::runtime::{RunningRuntime, RuntimeChoice};
use crate::signals::Signals;
use client::Client;
use progress::Progress;

/// How long any step may take before the demo gives up.
const STEP_WITHIN: Duration = Duration::from_secs(120);

/// Options of `orchd demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// End after the last step instead of staying up
    #[arg(long)]
    exit: bool,
    /// How many nodes there are, each with an agent of its own. As root, with Docker Engine installed, each is a machine made of
    /// namespaces with its own engine; else all are on this machine and run processes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=nodes::NODES_MAX))]
    nodes: Option<u8>,
    /// What runs pods [default: docker when an engine answers, else process]
    #[arg(long, value_enum)]
    runtime: Option<RuntimeChoice>,
}

/// Runs the demo and takes down everything it made.
pub async fn demo(args: DemoArgs) -> anyhow::Result<()> {
    if let Some(count) = args.nodes {
        return nodes::demo(count, args.runtime, args.exit).await;
    }
    // A terminal that is closed is no reason to leave anything behind.
    let mut signals = Signals::new()?;
    let dir = tempfile::Builder::new()
        .prefix("orchd-demo-")
        .tempdir()
        .context("cannot make a temporary directory")?;
    let options = Options {
        data_dir: dir.path().to_owned(),
        endpoint: Endpoint {
            listen: ([127, 0, 0, 1], 0).into(),
            names: Vec::new(),
            url_among: None,
        },
        runtime: args.runtime,
        new_keys: NewKeysArgs::default(),
    };
    let progress = Progress::start();
    progress.waiting("starting a cluster");
    let instance = tokio::select! {
        started = Instance::start(&options) => started?,
        happened = signals.any() => bail!(happened),
    };
    let told = tokio::select! {
        told = tell(&instance, &progress, &options.data_dir) => told,
        happened = signals.any() => Err(anyhow::anyhow!(happened)),
    };
    if told.is_ok() && !args.exit {
        progress.end();
        hint(&instance.kubeconfig);
        signals.any().await;
    }
    progress.waiting("taking everything down");
    let cluster = instance.cluster.id().to_owned();
    let cleaned = tokio::select! {
        cleaned = take_down(instance, &progress) => cleaned,
        () = signals.interrupted() => Err(anyhow::anyhow!(
            "interrupted while taking down: containers of cluster {cluster} may be left"
        )),
    };
    progress.end();
    told.and(cleaned)
}

/// The story: each step waits for its effect and says how long that took.
async fn tell(instance: &Instance, progress: &Progress, dir: &Path) -> anyhow::Result<()> {
    let cluster = &instance.cluster;
    instance.node_ready().await?;
    progress.tell(format_args!(
        "cluster is up in {}: SQLite, {} runtime, API at {}",
        dir.display(),
        instance.runtime.name(),
        instance.url
    ));
    if let RunningRuntime::Docker(docker) = &instance.runtime {
        progress.waiting("making an image from this program");
        image::build(docker, &image_of(cluster.id())).await?;
        progress.tell("made an image from this program; no registry needed");
    }

    cluster.apply(web(instance.runtime.choice(), cluster, "v1", 3)?).await?;
    wait(cluster, progress, "3 replicas to be ready", |world| {
        world.deployment("web").is_available()
    })
    .await?;
    progress.tell("deployed 3 replicas, all ready");
    for pod in client::ready_pods(cluster) {
        let page = client::fetch(&pod.status.pod_ip).await?;
        progress.tell(format_args!("  {} answers: {page}", pod.status.pod_ip));
    }

    let victim = kill_one(instance).await?;
    let before = instance.cluster.world();
    let before = before.at::<Pod>(&Key::pod("default", &victim)).context("the pod is gone")?;
    progress.tell(format_args!("killed the container of {victim}"));
    let healed = Key::pod("default", &victim);
    wait(cluster, progress, "it to heal", |world| {
        world.at::<Pod>(&healed).is_some_and(|pod| {
            pod.is_ready()
                && pod.status.container_statuses.iter().any(|status| status.restart_count > 0)
        })
    })
    .await?;
    let after = cluster.world();
    let after = after.at::<Pod>(&healed).context("the pod is gone")?;
    ensure!(
        (&after.metadata.uid, &after.status.pod_ip)
            == (&before.metadata.uid, &before.status.pod_ip),
        "{victim} has become another pod: it was at {}, it is at {}",
        before.status.pod_ip,
        after.status.pod_ip
    );
    progress.tell(format_args!("{victim} runs again: same pod, same address, container restarted"));

    let key = Key::new(Kind::Deployment, "default", "web");
    cluster.scale(&key, 5).await?;
    wait(cluster, progress, "5 replicas", |world| {
        world.deployment("web").status.ready_replicas == 5 && world.deployment("web").is_available()
    })
    .await?;
    progress.tell("scaled to 5 replicas, all ready");

    let visitor = Client::start(cluster.clone());
    cluster.apply(web(instance.runtime.choice(), cluster, "v2", 5)?).await?;
    wait(cluster, progress, "version 2 to roll out", |world| {
        world.deployment("web").is_available() && only_new(world)
    })
    .await?;
    let tally = visitor.stop().await?;
    ensure!(
        tally.failures.is_empty(),
        "{} of {} requests failed during the rollout, the first: {}",
        tally.failures.len(),
        tally.fetched + tally.failures.len() as u64,
        tally.failures[0]
    );
    progress.tell(format_args!(
        "rolled to version 2 while a client fetched {} pages; none failed",
        tally.fetched
    ));
    for pod in client::ready_pods(cluster) {
        let page = client::fetch(&pod.status.pod_ip).await?;
        ensure!(page.ends_with("v2"), "{} still answers {page:?}", pod.metadata.name);
    }
    progress.tell("every replica answers with version 2");
    Ok(())
}

/// Whether only pods of the newest version are left.
fn only_new(world: &World) -> bool {
    let selector = LabelSelector::from_labels([("app".to_owned(), "web".to_owned())].into());
    let mut pods =
        world.all::<Pod>(Some("default")).filter(|pod| selector.matches(&pod.metadata.labels));
    pods.all(|pod| {
        pod.spec.containers.iter().all(|container| {
            container.args.iter().chain(&container.command).any(|argument| argument == "v2")
        })
    })
}

/// The workload: this program's own small web server.
fn web(
    runtime: RuntimeChoice,
    cluster: &Cluster,
    version: &str,
    replicas: i32,
) -> anyhow::Result<Deployment> {
    let mut container = Container::new("web", &image_of(cluster.id()));
    let arguments = ["workload", "web", "--text", version].map(str::to_owned);
    match runtime {
        RuntimeChoice::Docker => container.args = arguments.to_vec(),
        RuntimeChoice::Process => {
            let program = std::env::current_exe().context("cannot find this program's own file")?;
            container.command = vec![program.to_string_lossy().into_owned()];
            container.args = arguments.to_vec();
        }
    }
    container.image_pull_policy = Some(ImagePullPolicy::Never);
    container = container.port(i32::from(client::PORT));
    container.readiness_probe = Some(Probe {
        http_get: Some(HttpGetAction {
            port: PortOrName::Port(i32::from(client::PORT)),
            ..HttpGetAction::default()
        }),
        period_seconds: Some(1),
        ..Probe::default()
    });
    let mut deployment = Deployment::of("web", vec![container]).replicas(replicas);
    let spec = std::sync::Arc::make_mut(&mut deployment.spec.template.spec);
    spec.termination_grace_period_seconds = Some(10);
    Ok(deployment)
}

/// Kills a container behind the cluster's back; returns its pod's name.
async fn kill_one(instance: &Instance) -> anyhow::Result<String> {
    let runtime = instance.runtime.shared();
    let scope = orchestrator_core::runtime::Scope {
        cluster: instance.cluster.id().to_owned(),
        node: NODE_NAME.to_owned(),
    };
    for sandbox in runtime.list(&scope).await.context("cannot list containers")? {
        let running = sandbox
            .containers
            .iter()
            .find(|container| matches!(container.state, ContainerRunState::Running { .. }));
        if let Some(container) = running {
            runtime.stop_container(&container.key, 0).await.context("cannot kill a container")?;
            return Ok(sandbox.name);
        }
    }
    bail!("no container runs");
}

async fn wait(
    cluster: &Cluster,
    progress: &Progress,
    what: &str,
    is_true: impl FnMut(&World) -> bool + Send,
) -> anyhow::Result<()> {
    progress.waiting(format_args!("waiting for {what}"));
    match tokio::time::timeout(STEP_WITHIN, cluster.wait_for(is_true)).await {
        Ok(outcome) => outcome.map(|_| ()).context("the cluster stopped"),
        Err(_) => {
            bail!("waited {STEP_WITHIN:?} for {what}; {}", situation(&cluster.world()))
        }
    }
}

/// What the pods say, for an error.
fn situation(world: &World) -> String {
    let pods = world.all::<Pod>(Some("default")).map(|pod| {
        let conditions = pod.status.conditions.iter().map(|condition| {
            format!("{}={:?} {}", condition.kind, condition.status, condition.message)
        });
        format!(
            "{} is {:?} ({})",
            pod.metadata.name,
            pod.status.phase,
            conditions.collect::<Vec<_>>().join("; ")
        )
    });
    let pods: Vec<_> = pods.collect();
    if pods.is_empty() { "there are no pods".to_owned() } else { pods.join(", ") }
}

fn hint(kubeconfig: &Path) {
    crate::say(format_args!(
        "\nThe cluster stays up. In another terminal, try:\n\n  \
         export KUBECONFIG={}\n  \
         orchd get pods -o wide\n  \
         orchd explain pod NAME\n  \
         orchd logs -f NAME\n  \
         orchd scale deployment web --replicas 2\n  \
         orchd events\n\n\
         Press Ctrl-C to take it down.",
        kubeconfig.display()
    ));
}

/// Deletes the workload, and waits until its containers are gone.
async fn end_workload(cluster: &Cluster, progress: &Progress) -> anyhow::Result<()> {
    let key = Key::new(Kind::Deployment, "default", "web");
    if cluster.world().get(&key).is_none() {
        return Ok(());
    }
    cluster.delete(&key).await.context("cannot delete the workload")?;
    let gone = cluster.wait_for(|world| world.all::<Pod>(Some("default")).next().is_none());
    if tokio::time::timeout(STEP_WITHIN, gone).await.is_err() {
        progress.tell("pods did not end in time; removing them by force");
    }
    Ok(())
}

/// Ends the workload, stops everything, and removes what was made. Every step is
/// tried, whatever became of the ones before.
async fn take_down(instance: Instance, progress: &Progress) -> anyhow::Result<()> {
    let mut outcome = end_workload(&instance.cluster, progress).await;
    let (runtime, cluster) = (instance.runtime.clone(), instance.cluster.id().to_owned());
    instance.stop(true).await;
    if let RunningRuntime::Docker(docker) = runtime {
        let removed = docker.remove_cluster(&cluster).await;
        outcome = outcome.and(removed.context("cannot remove the demo's containers and network"));
        let removed = docker.remove_image(&image_of(&cluster)).await;
        outcome = outcome.and(removed.context("cannot remove the demo's image"));
        let removed = docker.remove_unused_pause_image().await;
        outcome = outcome.and(removed.context("cannot remove the pause image"));
    }
    if outcome.is_ok() {
        progress.tell("everything is taken down");
    }
    outcome
}

/// The image of a demo's pods: each demo has its own, since several may share an engine.
fn image_of(cluster: &str) -> String {
    format!("orchestrator.dev/demo:{cluster}")
}
