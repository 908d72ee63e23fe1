//! Container killed until it runs again, as the cluster shows it; beside the least that starting one takes.
//!
//! Each kill is the first of its pod, which is restarted without a back-off.

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use orchestrator_core::runtime::{ContainerKey, Runtime as PodRuntime};
use orchestrator_docker::DockerRuntime;
use orchestrator_process::ProcessRuntime;
use tokio::runtime::Runtime;

use crate::Outcome;
use crate::engine::{IMAGE, RawEngine};
use crate::pods::Pods;
use crate::report::{Floor, Report, Unit};

/// The figure that needs an engine.
pub const ON_DOCKER: &str = "killed until running again, docker";
/// The network of the bare containers.
const NETWORK: &str = "orchestrator-bench";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures on processes, beside starting a process.
pub fn run_on_processes(report: &mut Report) -> Outcome {
    let name = "killed until running again, process";
    if !report.wants(name) {
        return Ok(());
    }
    let runtime = Runtime::new()?;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let processes = Arc::new(ProcessRuntime::open(dir.path().join("process"))?);
    let pods = runtime.block_on(Pods::start(Arc::clone(&processes) as _))?;
    runtime.block_on(pods.deploy("web", "", report.options.pairs as i32))?;
    let mut figures = Vec::new();
    for (name, key, _) in runtime.block_on(running(&*processes, &pods))? {
        let pid = processes.process_id(&key)?.ok_or("it runs")?;
        let ours = runtime.block_on(heal(&pods, &name, pid))?;
        let start = Instant::now();
        let mut child = Command::new("sleep").arg("100000").spawn()?;
        let theirs = millis(start);
        child.kill()?;
        child.wait()?;
        figures.push((ours, theirs));
    }
    runtime.block_on(pods.end());
    report.pairs(name, Unit::Milliseconds, Floor(None), &figures);
    Ok(())
}

/// Measures on Docker, beside the engine's create and start of such a container.
pub fn run_on_docker(report: &mut Report, engine: &RawEngine) -> Outcome {
    let name = ON_DOCKER;
    if !report.wants(name) {
        return Ok(());
    }
    let runtime = Runtime::new()?;
    let docker = Arc::new(runtime.block_on(DockerRuntime::connect_to(&engine.host()))?);
    let pods = runtime.block_on(Pods::start(Arc::clone(&docker) as _))?;
    runtime.block_on(pods.deploy("web", IMAGE, report.options.pairs as i32))?;
    let recipe = engine.recipe(pods.cluster.id())?;
    engine.make_network(NETWORK)?;
    let mut made = engine.make_pod(&recipe, NETWORK)?.to_vec();
    let mut figures = Vec::new();
    for (name, _, id) in runtime.block_on(running(&*docker, &pods))? {
        let pid = engine.process_id(id.trim_start_matches("docker://"))?;
        let ours = runtime.block_on(heal(&pods, &name, pid))?;
        let start = Instant::now();
        let container = engine.make_container(&recipe, &made[0])?;
        figures.push((ours, millis(start)));
        made.push(container);
    }
    for id in made.iter().rev() {
        engine.remove(id)?;
    }
    engine.remove_network(NETWORK)?;
    let cluster = pods.cluster.id().to_owned();
    runtime.block_on(pods.end());
    runtime.block_on(docker.remove_cluster(&cluster))?;
    report.pairs(name, Unit::Milliseconds, Floor(None), &figures);
    Ok(())
}

/// The pods with their containers and the containers' ids.
async fn running(
    runtime: &dyn PodRuntime,
    pods: &Pods,
) -> Result<Vec<(String, ContainerKey, String)>, Failure> {
    let sandboxes = runtime.list(&pods.scope()).await?;
    let containers = sandboxes.into_iter().flat_map(|sandbox| {
        let name = sandbox.name;
        sandbox.containers.into_iter().map(move |it| (name.clone(), it.key, it.id))
    });
    Ok(containers.collect())
}

/// Kills a process and waits until its pod has a new container running; the milliseconds that took.
async fn heal(pods: &Pods, pod: &str, pid: u32) -> Result<f64, Failure> {
    let start = Instant::now();
    kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL)?;
    pods.healed(pod).await?;
    Ok(millis(start))
}

fn millis(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}
