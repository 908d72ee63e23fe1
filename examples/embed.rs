//! A cluster inside a program: state in SQLite, pods in Docker or, where no engine answers, as processes.

use std::{error::Error, sync::Arc};

use orchestrator_core::{driver::Cluster, model::*, runtime::Runtime};
use orchestrator_docker::DockerRuntime;
use orchestrator_process::ProcessRuntime;
use orchestrator_sqlite::SqliteStore;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let runtime: Arc<dyn Runtime> = match DockerRuntime::connect().await {
        Ok(docker) => Arc::new(docker),
        Err(_) => Arc::new(ProcessRuntime::open(dir.path().join("pods"))?),
    };
    let store = SqliteStore::open(dir.path().join("cluster.db")).await?;
    let cluster = Cluster::builder().store(store).shared_runtime(runtime).start().await?;

    let sleeper = Container::new("sleeper", "busybox:1.36").command(["/bin/sleep", "3600"]);
    cluster.apply(Deployment::of("web", vec![sleeper]).replicas(3)).await?;
    let world = cluster.wait_for(|world| world.deployment("web").is_available()).await?;
    for pod in world.all::<Pod>(Some("default")) {
        println!("{} runs on {} at {}", pod.metadata.name, pod.node_name, pod.status.pod_ip);
    }

    let stop_pods = true;
    cluster.shutdown(stop_pods).await;
    Ok(())
}
