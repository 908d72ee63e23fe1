//! `orchd demo --nodes 3`: a server and several nodes, one of which dies.

mod machines;
mod place;
mod processes;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use orchestrator_core::driver::Cluster;
use orchestrator_core::model::{Key, Kind, Node};
use orchestrator_core::world::World;

use super::progress::Progress;
use super::{STEP_WITHIN, client, end_workload, hint, situation, wait, web};
use crate::control_plane::{ControlPlane, Endpoint};
use crate::data_dir::DataDir;
use crate::runtime::RuntimeChoice;
use crate::signals::Signals;
use crate::store::{Backend, EtcdArgs, Store};
use place::Place;

/// The most nodes of a demo.
pub const NODES_MAX: i64 = 9;
/// How often it is looked for what no commit tells.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How many pods each node has, if they are spread evenly.
const PODS_PER_NODE: i32 = 2;

/// Runs the demo on several nodes, and takes down everything it made.
pub async fn demo(count: u8, runtime: Option<RuntimeChoice>, exit: bool) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let dir = tempfile::Builder::new()
        .prefix("orchd-demo-")
        .tempdir()
        .context("cannot make a temporary directory")?;
    let progress = Progress::start();
    progress.waiting("starting a server");
    let control_plane = serve(dir.path()).await?;
    let mut place = None;
    let told = tokio::select! {
        told = tell(&control_plane, dir.path(), &mut place, count, runtime, &progress) => told,
        happened = signals.any() => Err(anyhow::anyhow!(happened)),
    };
    if told.is_ok() && !exit {
        progress.end();
        hint(&control_plane.kubeconfig);
        signals.any().await;
    }
    progress.waiting("taking everything down");
    let cleaned = tokio::select! {
        cleaned = take_down(control_plane, place, &progress) => cleaned,
        () = signals.interrupted() => Err(anyhow::anyhow!(
            "interrupted while taking down: processes and files in {} may be left", dir.path().display()
        )),
    };
    progress.end();
    told.and(cleaned)
}

async fn serve(dir: &Path) -> anyhow::Result<ControlPlane> {
    let data = dir.join("server");
    let dir = DataDir::open(&data)?;
    let backend = Backend::open(&dir.own_store(), &EtcdArgs::default()).await?;
    let store = Store::new(backend, dir.keys()?);
    let endpoint = Endpoint {
        listen: ([127, 0, 0, 1], 0).into(),
        names: vec![orchd_machines::Lan::GATEWAY.to_string()],
        url_among: None,
    };
    let started = ControlPlane::start(&data, store.clone(), &endpoint, None).await;
    if started.is_err() {
        store.close().await;
    }
    started
}

/// The story: each step waits for its effect and says how long that took.
async fn tell(
    control_plane: &ControlPlane,
    dir: &Path,
    place: &mut Option<Place>,
    count: u8,
    runtime: Option<RuntimeChoice>,
    progress: &Progress,
) -> anyhow::Result<()> {
    let cluster = &control_plane.cluster;
    progress.tell(format_args!("a server is up, API at {}", control_plane.url));
    let place = place.insert(Place::choose(control_plane, dir, runtime, progress)?);
    let names: Vec<String> = (1..=count).map(|number| format!("node-{number}")).collect();
    for name in &names {
        progress.waiting(format_args!("starting {name}"));
        place.add(name, control_plane).await.with_context(|| format!("cannot start {name}"))?;
        wait(cluster, progress, &format!("{name} to be Ready"), |world| is_ready(world, name))
            .await?;
        progress.tell(format_args!("{name} has joined and is Ready"));
    }

    let replicas = i32::from(count) * PODS_PER_NODE;
    cluster.apply(web(place.runtime(), cluster, "v1", replicas)?).await?;
    wait(cluster, progress, &format!("{replicas} replicas to be ready"), |world| {
        world.deployment("web").is_available()
    })
    .await?;
    progress.tell(format_args!("deployed {replicas} replicas, all ready:"));
    tell_where(cluster, &names, progress);

    know_rhythms(cluster, &names, progress).await?;
    let victim = names.last().context("there are nodes")?;
    place.kill(victim, cluster).await.with_context(|| format!("cannot kill {victim}"))?;
    let killed = Instant::now();
    progress.tell(format_args!("killed {victim}: agent, {}, all at once", place.killed_with_it()));
    wait(cluster, progress, "its pods to run elsewhere", |world| {
        let elsewhere = pods_by_node(world).filter(|node| node != victim).count();
        elsewhere == usize::try_from(replicas).unwrap_or_default()
    })
    .await?;
    progress.tell(format_args!(
        "all {replicas} are ready again, without {victim}, {:.1} s after it died:",
        killed.elapsed().as_secs_f64()
    ));
    tell_where(cluster, &names, progress);

    place.revive(victim).await.with_context(|| format!("cannot start {victim} again"))?;
    wait(cluster, progress, &format!("{victim} to be Ready again"), |world| {
        is_ready(world, victim)
    })
    .await?;
    progress.tell(format_args!("{victim} is back, by the certificate it has, without a token"));
    let replicas = replicas + PODS_PER_NODE;
    cluster.scale(&Key::new(Kind::Deployment, "default", "web"), replicas).await?;
    wait(cluster, progress, &format!("{replicas} replicas, some on {victim}"), |world| {
        world.deployment("web").status.ready_replicas == replicas
            && pods_by_node(world).any(|node| node == *victim)
    })
    .await?;
    progress.tell(format_args!("scaled to {replicas} replicas, all ready:"));
    tell_where(cluster, &names, progress);
    Ok(())
}

/// Waits until every node has reported often enough to be missed by its own rhythm; before that, a silence has to be long.
async fn know_rhythms(
    cluster: &Cluster,
    names: &[String],
    progress: &Progress,
) -> anyhow::Result<()> {
    progress.waiting("waiting until each node has reported a few times");
    let known = async {
        loop {
            let world = cluster.world();
            if names.iter().all(|name| world.signal(name).rhythm.silence_ms().is_some()) {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let known = tokio::time::timeout(STEP_WITHIN, known).await;
    known.map_err(|_| anyhow::anyhow!("some node does not report; {}", situation(&cluster.world())))
}

fn is_ready(world: &World, node: &str) -> bool {
    world.at::<Node>(&Key::cluster(Kind::Node, node)).is_some_and(|node| node.is_ready())
}

/// The node of each Ready pod.
fn pods_by_node(world: &World) -> impl Iterator<Item = String> {
    client::ready_in(world).into_iter().map(|pod| pod.node_name.clone())
}

fn tell_where(cluster: &Cluster, names: &[String], progress: &Progress) {
    let world = cluster.world();
    for name in names {
        let pods = pods_by_node(&world).filter(|node| node == name).count();
        progress.tell(format_args!("  {name} runs {pods}"));
    }
}

/// Ends the workload and every node, and stops the server. Every step is tried.
async fn take_down(
    control_plane: ControlPlane,
    place: Option<Place>,
    progress: &Progress,
) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    if let Some(place) = place {
        if place.needs_pods_to_end() {
            outcome = end_workload(&control_plane.cluster, progress).await;
        }
        let ended = place.end().await;
        outcome = outcome.and(ended);
    }
    control_plane.stop(false).await;
    if outcome.is_ok() {
        progress.tell("everything is taken down");
    }
    outcome
}

/// Waits until an agent has said that it is ready; what else it says is its error.
async fn said_ready(output: &Path, has_ended: impl Fn() -> bool) -> anyhow::Result<()> {
    loop {
        let said = std::fs::read_to_string(output).unwrap_or_default();
        if said.lines().any(|line| line.starts_with("ready ")) {
            return Ok(());
        }
        if has_ended() {
            bail!("its agent has ended: {}", said.trim());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
