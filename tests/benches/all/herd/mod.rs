//! Agents in numbers at one `orchd server`: what it takes of the machine, how soon it answers, a rolling update, and the whole herd
//! coming back after the server was killed.
//!
//! The agents are this process's: the real link over TLS, with simulated runtimes. Both sides share the machine's processors.

mod agents;
mod process;
mod pulse;
mod server;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use orchestrator_core::model::{
    Deployment, Key, Kind, Object, TaintEffect, Toleration, TolerationOperator,
};
use orchestrator_http::{Client, DeleteParams, Selector, WriteParams, read_kubeconfig};
use serde_json::{Value, json};

use crate::Outcome;
use crate::daemon::{Failure, built};
use crate::report::{Report, Unit};
use agents::Tally;
use pulse::Pulse;
use server::Server;

/// What every name of these benchmarks begins with.
const NAME: &str = "herd";
/// Pods of a node.
const PODS_PER_NODE: usize = 30;
/// Replicas of a deployment.
const REPLICAS: usize = 1_000;
/// How many deployments are rolled to another version at once.
const ROLLED: usize = 3;
/// How long anything may take before it has failed.
const WITHIN: Duration = Duration::from_secs(900);
/// How long what is idle is looked at.
const LOOK: Duration = Duration::from_secs(15);
/// How often a change is timed until its watch tells it.
const CHANGES: usize = 200;
/// How long the server is away.
const AWAY: Duration = Duration::from_secs(5);

/// The most memory of a server without nodes and of an agent without pods, in MiB (25 and 15 MB).
const IDLE_SERVER_MEBIBYTES_MAX: f64 = 25e6 / (1 << 20) as f64;
const IDLE_AGENT_MEBIBYTES_MAX: f64 = 15e6 / (1 << 20) as f64;
/// The most CPU of an agent without pods, in percent of a core.
const IDLE_AGENT_PERCENT_MAX: f64 = 1.0;
/// The most memory of the server for each thousand agents, in MiB.
const MEBIBYTES_MAX: f64 = 1_024.0;
/// The most CPU of the server with nothing to do but to hear a thousand agents, in percent of a core.
const IDLE_PERCENT_MAX: f64 = 50.0;
const HEARTBEAT_P99_MS_MAX: f64 = 100.0;
const WATCH_P99_MS_MAX: f64 = 100.0;
/// For each thousand pods, in seconds.
const ROLL_SECONDS_MAX: f64 = 60.0;
/// When nine of ten reports arrive again (L11), in seconds.
const BACK_SECONDS_MAX: f64 = 60.0;
/// The most calls of an agent that fail while its server is away, per second.
const FAILED_PER_SECOND_MAX: f64 = 10.0;

/// Measures a herd once: it takes minutes.
pub fn run(report: &mut Report) -> Outcome {
    if !report.wants(NAME) {
        return Ok(());
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard)?;
    let program = built(&mut None)?.to_owned();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(measure(report, program))
}

async fn measure(report: &mut Report, program: PathBuf) -> Outcome {
    let count = report.options.agents;
    let mut server = Server::start(&program)?;
    tokio::time::sleep(crate::daemon::IDLE).await;
    let name = |what: &str| format!("{NAME}: {what}");
    let resident = server.process.memory()?.resident;
    report.against(&name("idle server"), Unit::Mebibytes, IDLE_SERVER_MEBIBYTES_MAX, &[resident]);

    let client = Client::from_kubeconfig(&server.kubeconfig())?;
    let root = read_kubeconfig(&server.kubeconfig())?.ca_pem.ok_or("no root")?;
    let alone = server.agent(&client, &root).await?;
    tokio::time::sleep(crate::daemon::IDLE).await;
    let percent = alone.cpu_percent(LOOK).await?;
    report.against(&name("idle agent's CPU"), Unit::Percent, IDLE_AGENT_PERCENT_MAX, &[percent]);
    let resident = alone.memory()?.resident;
    report.against(&name("idle agent"), Unit::Mebibytes, IDLE_AGENT_MEBIBYTES_MAX, &[resident]);
    drop(alone);
    client.delete(&Key::node("alone"), &DeleteParams::default()).await?;
    let tally = Arc::new(Tally::default());
    let start = Instant::now();
    let agents = agents::start(&client, &root, count, &tally).await?;
    crate::say(&format!("{count} agents have joined after {:.0?}", start.elapsed()));
    let deployments = (count * PODS_PER_NODE).div_ceil(REPLICAS);
    let start = Instant::now();
    for number in 0..deployments {
        let app = Deployment::new(&format!("app-{number}"), "app:1");
        let mut app = app.replicas(i32::try_from(REPLICAS)?);
        // How soon a node is given up is measured elsewhere: here agents and server share the processors, and may be late.
        let staying = Toleration {
            effect: Some(TaintEffect::NoExecute),
            operator: Some(TolerationOperator::Exists),
            ..Toleration::default()
        };
        Arc::make_mut(&mut app.spec.template.spec).tolerations.push(staying);
        let value = Object::from(app).to_value();
        let params = WriteParams { strict: false, ..WriteParams::default() };
        client.create(Kind::Deployment, Some("default"), &value, params).await?;
    }
    settled(&client, "app:1", deployments).await?;
    let pods = deployments * REPLICAS;
    crate::say(&format!("{pods} pods are ready after {:.0?}", start.elapsed()));

    let with = |what: &str| format!("{NAME} of {count} agents, {pods} pods: {what}");
    let thousands = count as f64 / 1_000.0;
    report.against(
        &with("server's memory"),
        Unit::Mebibytes,
        MEBIBYTES_MAX * thousands.max(0.25),
        &[server.process.memory()?.resident],
    );
    tokio::time::sleep(crate::daemon::IDLE).await;
    let pulse = Pulse::start(&client, &root).await?;
    let percent = server.process.cpu_percent(LOOK).await?;
    report.against(&with("server's CPU when idle"), Unit::Percent, IDLE_PERCENT_MAX, &[percent]);
    let (name, p99) = (with("heartbeat, p99"), percentile_99(pulse.take_times()));
    report.against(&name, Unit::Milliseconds, HEARTBEAT_P99_MS_MAX, &[p99]);
    let (name, p99) = (with("change until watched, p99"), percentile_99(watched(&client).await?));
    report.against(&name, Unit::Milliseconds, WATCH_P99_MS_MAX, &[p99]);

    let rolled = ROLLED.min(deployments);
    pulse.take_times();
    let start = Instant::now();
    for number in 0..rolled {
        let key = Key::new(Kind::Deployment, "default", &format!("app-{number}"));
        let container = json!({ "spec": { "template": { "spec": { "containers": [
            { "name": container_name(&client, &key).await?, "image": "app:2" },
        ] } } } });
        client.merge(&key, &container, WriteParams::default()).await?;
    }
    settled(&client, "app:2", rolled).await?;
    let seconds = start.elapsed().as_secs_f64();
    let name = with(&format!("{} of them rolled", rolled * REPLICAS));
    report.against(&name, Unit::Seconds, ROLL_SECONDS_MAX * rolled as f64, &[seconds]);
    let (name, p99) = (with("heartbeat while rolling, p99"), percentile_99(pulse.take_times()));
    report.against(&name, Unit::Milliseconds, 10.0 * HEARTBEAT_P99_MS_MAX, &[p99]);

    drop(pulse);
    let failed = tally.failed.load(Ordering::Relaxed);
    let down = Instant::now();
    tokio::task::block_in_place(|| server.crash_and_start(AWAY))?;
    let up = Instant::now();
    back(&tally, count).await?;
    let seconds = up.elapsed().as_secs_f64();
    report.against(&with("herd is back"), Unit::Seconds, BACK_SECONDS_MAX, &[seconds]);
    let failed = (tally.failed.load(Ordering::Relaxed) - failed) as f64;
    let per_second = failed / count as f64 / down.elapsed().as_secs_f64();
    crate::say(&format!(
        "while the server was away each agent failed {per_second:.1} times a second"
    ));
    if per_second > FAILED_PER_SECOND_MAX {
        return Err(format!("each agent tried {per_second:.1} times a second").into());
    }
    for agent in agents {
        agent.shutdown(false).await;
    }
    Ok(())
}

/// Waits until so many deployments run an image and nothing else.
async fn settled(client: &Client, image: &str, count: usize) -> Outcome {
    let start = Instant::now();
    while start.elapsed() < WITHIN {
        let all = client.list(Kind::Deployment, Some("default"), &Selector::default()).await?;
        let all = all["items"].as_array().ok_or("no list")?;
        if all.iter().filter(|it| runs(it, image)).count() >= count {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Err(format!("{count} deployments do not run {image} within {WITHIN:?}").into())
}

fn runs(deployment: &Value, image: &str) -> bool {
    let (spec, status) = (&deployment["spec"], &deployment["status"]);
    let is_all = |field: &str| status[field].as_u64() == Some(REPLICAS as u64);
    spec["template"]["spec"]["containers"][0]["image"] == image
        && status["observedGeneration"] == deployment["metadata"]["generation"]
        && ["replicas", "updatedReplicas", "readyReplicas"].into_iter().all(is_all)
}

async fn container_name(client: &Client, key: &Key) -> Result<String, Failure> {
    let found = client.get(key).await?;
    let name = found["spec"]["template"]["spec"]["containers"][0]["name"].as_str();
    Ok(name.ok_or("a container without a name")?.to_owned())
}

/// How long changes take from the request until a watch tells them, in milliseconds.
async fn watched(client: &Client) -> Result<Vec<f64>, Failure> {
    let (kind, namespace) = (Kind::ConfigMap, Some("default"));
    let mut watch = client.watch(kind, namespace, &Selector::default(), None).await?;
    let mut times = Vec::new();
    for number in 0..CHANGES {
        let name = format!("change-{number}");
        let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
        let start = Instant::now();
        client.create(kind, namespace, &map, WriteParams::default()).await?;
        loop {
            let event = watch.next().await.ok_or("the watch ended")??;
            if format!("{event:?}").contains(&name) {
                break;
            }
        }
        times.push(start.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(times)
}

/// Waits until, within a second, nine of ten agents are heard.
async fn back(tally: &Tally, count: usize) -> Outcome {
    let start = Instant::now();
    while start.elapsed() < WITHIN {
        let before = tally.heard.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let heard = tally.heard.load(Ordering::Relaxed) - before;
        if heard * 10 >= 9 * count as u64 {
            return Ok(());
        }
    }
    Err("the herd does not come back".into())
}

fn percentile_99(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let place = (figures.len() * 99 / 100).min(figures.len().saturating_sub(1));
    figures.get(place).copied().unwrap_or(f64::INFINITY)
}
