//! A cluster with pods, for the benchmarks that run some: what `orchd` wires, on a runtime of choice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use orchestrator_core::driver::Cluster;
use orchestrator_core::model::{Container, Deployment, ImagePullPolicy, Key, Kind, Pod};
use orchestrator_core::runtime::{Runtime, Scope};
use orchestrator_core::world::World;
use orchestrator_sqlite::SqliteStore;
use tempfile::TempDir;

/// The name of the one node.
const NODE: &str = "bench";
/// How long anything may take before a benchmark gives up.
const WITHIN: Duration = Duration::from_secs(120);
/// How often the runtime is asked.
const POLL: Duration = Duration::from_millis(20);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A running cluster, in a directory of its own.
pub struct Pods {
    pub cluster: Cluster,
    runtime: Arc<dyn Runtime>,
    _dir: TempDir,
}

impl Pods {
    /// Starts a cluster and waits for its node.
    pub async fn start(runtime: Arc<dyn Runtime>) -> Result<Self, Failure> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let cluster = Cluster::builder()
            .store(SqliteStore::open(dir.path().join("cluster.db")).await?)
            .shared_runtime(Arc::clone(&runtime))
            .node_name(NODE)
            .start()
            .await?;
        let pods = Self { cluster, runtime, _dir: dir };
        pods.wait(|world| world.node(NODE).is_some_and(|node| node.is_ready())).await?;
        Ok(pods)
    }

    /// Whose pods these are.
    pub fn scope(&self) -> Scope {
        Scope { cluster: self.cluster.id().to_owned(), node: NODE.to_owned() }
    }

    /// Deploys pods that sleep, and waits until they are available.
    pub async fn deploy(&self, name: &str, image: &str, replicas: i32) -> Result<(), Failure> {
        let mut container = Container::new("main", image).command(["sleep", "100000"]);
        container.image_pull_policy = Some(ImagePullPolicy::Never);
        let mut deployment = Deployment::of(name, vec![container]).replicas(replicas);
        let spec = Arc::make_mut(&mut deployment.spec.template.spec);
        spec.termination_grace_period_seconds = Some(0);
        self.cluster.apply(deployment).await?;
        let name = name.to_owned();
        self.wait(move |world| world.deployment(&name).is_available()).await
    }

    /// Deletes a deployment and waits until nothing of its pods is left.
    pub async fn delete(&self, name: &str) -> Result<(), Failure> {
        self.cluster.delete(&Key::new(Kind::Deployment, "default", name)).await?;
        self.wait(|world| world.all::<Pod>(Some("default")).next().is_none()).await?;
        // Without grace, the record of a pod goes before its containers.
        let started = Instant::now();
        while !self.runtime.list(&self.scope()).await?.is_empty() {
            if started.elapsed() > WITHIN {
                return Err(format!("containers of {name} stay").into());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until the container of a pod runs again after its first end.
    pub async fn healed(&self, pod: &str) -> Result<(), Failure> {
        let key = Key::pod("default", pod);
        let healed = move |world: &World| {
            world.at::<Pod>(&key).is_some_and(|pod| {
                let mut statuses = pod.status.container_statuses.iter();
                pod.is_ready() && statuses.any(|status| status.restart_count > 0)
            })
        };
        self.wait(healed).await
    }

    /// Ends the cluster and its pods.
    pub async fn end(self) {
        self.cluster.shutdown(true).await;
    }

    async fn wait(&self, is_true: impl FnMut(&World) -> bool + Send) -> Result<(), Failure> {
        let waited = tokio::time::timeout(WITHIN, self.cluster.wait_for(is_true)).await;
        waited.map_err(|_| format!("nothing within {WITHIN:?}"))?.map(drop).map_err(Failure::from)
    }
}
