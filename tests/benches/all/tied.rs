//! Pods that the agent ties to the network itself, against pods on a network of the engine's own: the same runtime, the same pods.

use std::time::{Duration, Instant};

use orchestrator_core::runtime::{
    ContainerKey, ContainerSpec, Limits, Runtime as _, SandboxKey, SandboxSpec, Scope,
    StandardStreams,
};
use orchestrator_docker::DockerRuntime;
use orchestrator_tests::engine::TestEngine;
use orchestrator_tests::tied::TiedNode;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::Outcome;
use crate::engine::{IMAGE, RawEngine};
use crate::report::{Floor, Report, Unit};

pub const NAME: &str = "20 pods tied by the agent, against the engine's network";
/// How many pods are made.
const PODS: u32 = 20;
/// How many at a time; as the agent.
const CONCURRENCY: u32 = 4;
/// What tying must reach of the engine's own.
const FLOOR: Floor = Floor(Some(1.5));

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures from the first request until all run.
pub fn run(report: &mut Report, engine: &RawEngine) -> Outcome {
    if !report.wants(NAME) {
        return Ok(());
    }
    let host = engine.host();
    let engine = TestEngine::at(host.trim_start_matches("unix://").as_ref());
    let runtime = Runtime::new()?;
    let figures = runtime.block_on(async {
        let node = TiedNode::new(&engine).await;
        let plain = engine.connect().await;
        // Neither pays for what is made once: the image of sandboxes.
        pods(&plain, 1).await?;
        let mut figures = Vec::new();
        for _ in 0..report.options.pairs {
            figures.push((
                pods(&node.runtime, PODS).await?.as_secs_f64(),
                pods(&plain, PODS).await?.as_secs_f64(),
            ));
        }
        node.end().await;
        Ok::<_, Failure>(figures)
    })?;
    report.pairs(NAME, Unit::Seconds, FLOOR, &figures);
    Ok(())
}

/// Makes pods and removes them; how long the making took.
async fn pods(docker: &DockerRuntime, count: u32) -> Result<Duration, Failure> {
    let start = Instant::now();
    for_each(count, docker, |docker, key| async move { pod(&docker, &key).await }).await?;
    let took = start.elapsed();
    let remove = |docker: DockerRuntime, key| async move { Ok(docker.remove_sandbox(&key).await?) };
    for_each(count, docker, remove).await?;
    Ok(took)
}

/// Does something with each of the pods, several at a time.
async fn for_each<F>(
    count: u32,
    docker: &DockerRuntime,
    work: impl Fn(DockerRuntime, SandboxKey) -> F + Copy + Send + 'static,
) -> Outcome
where
    F: Future<Output = Outcome> + Send,
{
    let mut tasks = JoinSet::new();
    for first in 0..CONCURRENCY {
        let docker = docker.clone();
        tasks.spawn(async move {
            for number in (first..count).step_by(CONCURRENCY as usize) {
                work(docker.clone(), key(number)?).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    tasks.join_all().await.into_iter().collect()
}

fn key(number: u32) -> Result<SandboxKey, Failure> {
    let scope = Scope { cluster: "bench".to_owned(), node: "bench".to_owned() };
    let pod = format!("00000000-0000-0000-0000-{number:012}").parse()?;
    Ok(SandboxKey { scope, pod, attempt: 0 })
}

async fn pod(docker: &DockerRuntime, key: &SandboxKey) -> Outcome {
    let sandbox = SandboxSpec {
        key: key.clone(),
        namespace: "default".to_owned(),
        name: format!("pod-{}", key.pod),
        ports: Vec::new(),
    };
    docker.create_sandbox(&sandbox).await?;
    let container = ContainerSpec {
        key: ContainerKey { sandbox: key.clone(), name: "main".to_owned(), attempt: 0 },
        image: IMAGE.to_owned(),
        command: ["sleep", "100000"].map(str::to_owned).into(),
        args: Vec::new(),
        working_dir: String::new(),
        env: Vec::new(),
        limits: Limits::default(),
        stdio: StandardStreams::default(),
    };
    docker.create_container(&container).await?;
    Ok(docker.start_container(&container.key).await?)
}
