//! A rollout of 20 replicas on Docker, against a bare loop over the engine's API that makes the same containers.
//!
//! The loop makes as many pods at a time as the agent does, from what an inspection of the cluster's own containers told.
//! Both make their network first.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use orchestrator_docker::DockerRuntime;
use tokio::runtime::Runtime;

use crate::Outcome;
use crate::engine::{IMAGE, RawEngine, Recipe};
use crate::pods::Pods;
use crate::report::{Floor, Report, Unit};

pub const NAME: &str = "rollout of 20 replicas, docker";
/// How many replicas are rolled out.
const REPLICAS: usize = 20;
/// How many pods the loop makes at a time; as the agent.
const CONCURRENCY: usize = 4;
/// What a rollout must reach of the bare loop.
const FLOOR: Floor = Floor(Some(0.7));
/// The network of the bare loop.
const NETWORK: &str = "orchestrator-bench";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures from the request to the last replica available.
pub fn run(report: &mut Report, engine: &RawEngine) -> Outcome {
    if !report.wants(NAME) {
        return Ok(());
    }
    let runtime = Runtime::new()?;
    let docker = Arc::new(runtime.block_on(DockerRuntime::connect_to(&engine.host()))?);
    let pods = runtime.block_on(Pods::start(Arc::clone(&docker) as _))?;
    let mut figures = Vec::new();
    for _ in 0..report.options.pairs {
        let start = Instant::now();
        runtime.block_on(pods.deploy("web", IMAGE, REPLICAS as i32))?;
        let ours = start.elapsed();
        let recipe = engine.recipe(pods.cluster.id())?;
        runtime.block_on(pods.delete("web"))?;
        figures.push((ours.as_secs_f64(), bare(engine, &recipe)?));
    }
    let cluster = pods.cluster.id().to_owned();
    runtime.block_on(pods.end());
    runtime.block_on(docker.remove_cluster(&cluster))?;
    report.pairs(NAME, Unit::Seconds, FLOOR, &figures);
    Ok(())
}

/// Makes the same by the engine's API alone; the seconds it took.
fn bare(engine: &RawEngine, recipe: &Recipe) -> Result<f64, Failure> {
    let (next, made) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let start = Instant::now();
    engine.make_network(NETWORK)?;
    let work = || -> Outcome {
        while next.fetch_add(1, Ordering::Relaxed) < REPLICAS {
            let pod = engine.make_pod(recipe, NETWORK)?;
            made.lock().unwrap_or_else(PoisonError::into_inner).push(pod);
        }
        Ok(())
    };
    let outcome = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONCURRENCY).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| thread.join().expect("it does not panic"));
        joined.collect::<Outcome>()
    });
    let took = start.elapsed();
    for id in made.into_inner().unwrap_or_else(PoisonError::into_inner).iter().flatten().rev() {
        engine.remove(id)?;
    }
    engine.remove_network(NETWORK)?;
    outcome.map(|()| took.as_secs_f64())
}
