//! `Rig`: a runtime and a directory of its own on which a scenario runs clusters; afterwards nothing may be left.

use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use orchestrator_core::driver::Cluster;
use orchestrator_core::model::Pod;
use orchestrator_core::runtime::{
    ContainerObservation, ContainerRunState, Runtime, SandboxObservation, Scope,
};
use orchestrator_core::store::StateStore;
use orchestrator_core::world::World;
use orchestrator_docker::DockerRuntime;
use orchestrator_process::ProcessRuntime;
use orchestrator_sqlite::SqliteStore;
use tempfile::TempDir;

use crate::engine::TestEngine;
use crate::machine;

/// The name of the node of every cluster on a rig; that of orchd's, too.
pub const NODE: &str = "local";
/// How long anything may take. Far more than it does.
const WITHIN: Duration = Duration::from_secs(120);
/// How often polled conditions are looked at.
const POLL: Duration = Duration::from_millis(20);

/// What runs pods.
#[derive(Debug)]
pub enum Platform {
    /// The Docker engine of the tests.
    Docker(TestEngine, DockerRuntime),
    /// Processes.
    Process(Arc<ProcessRuntime>),
}

/// A runtime and a directory for one scenario.
#[derive(Debug)]
pub struct Rig {
    /// What runs pods.
    pub platform: Platform,
    /// The rig's own directory.
    pub dir: TempDir,
    scopes: Mutex<Vec<Scope>>,
    clusters: Mutex<Vec<(Cluster, Arc<SqliteStore>)>>,
}

impl Rig {
    /// Makes a rig on the Docker engine of the tests.
    ///
    /// # Panics
    /// When there is none.
    pub async fn docker() -> Self {
        let engine = TestEngine::from_env();
        let runtime = engine.connect().await;
        Self::on(Platform::Docker(engine, runtime), directory())
    }

    /// Makes a rig on processes. The runtime's state lies where `orchd dev --data-dir` with [`Self::data_dir`] has it.
    ///
    /// # Panics
    /// When the runtime does not open.
    pub fn process() -> Self {
        let dir = directory();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).expect("a new directory");
        let runtime = ProcessRuntime::open(data.join("process")).expect("a new state directory");
        Self::on(Platform::Process(Arc::new(runtime)), dir)
    }

    fn on(platform: Platform, dir: TempDir) -> Self {
        Self { platform, dir, scopes: Mutex::default(), clusters: Mutex::default() }
    }

    /// Runs a scenario, then takes down what it has left when it failed, and checks that it left nothing when it did not.
    ///
    /// # Panics
    /// When the scenario fails or something is left.
    pub async fn run<S, F>(self, scenario: S)
    where
        S: FnOnce(Arc<Self>) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let rig = Arc::new(self);
        let outcome = tokio::spawn(scenario(Arc::clone(&rig))).await;
        let clusters =
            std::mem::take(&mut *rig.clusters.lock().unwrap_or_else(PoisonError::into_inner));
        for (cluster, store) in clusters {
            cluster.shutdown(false).await;
            store.close().await;
        }
        if let Err(error) = outcome {
            rig.remove_everything().await;
            match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => panic!("the scenario did not run: {error}"),
            }
        }
        rig.assert_nothing_left().await;
    }

    async fn remove_everything(&self) {
        for scope in self.scopes() {
            for sandbox in self.runtime().list(&scope).await.unwrap_or_default() {
                // What cannot be removed does not hide why the scenario failed.
                let _ = self.runtime().remove_sandbox(&sandbox.key).await;
            }
            if let Platform::Docker(_, runtime) = &self.platform {
                let _ = runtime.remove_cluster(&scope.cluster).await;
            }
        }
    }

    /// Waits until nothing is left of any cluster of this rig.
    ///
    /// # Panics
    /// When something stays.
    pub async fn assert_nothing_left(&self) {
        let started = Instant::now();
        loop {
            let left = self.left().await;
            if left.is_empty() {
                return;
            }
            if started.elapsed() > WITHIN {
                self.remove_everything().await;
                panic!("left behind: {left:#?}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until the runtime has no pods of any cluster of this rig.
    pub async fn assert_no_pods(&self) {
        poll("the runtime has no pods", || async {
            let mut left = Vec::new();
            for scope in self.scopes() {
                left.append(&mut self.list(&scope).await);
            }
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
    }

    async fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for scope in self.scopes() {
            let sandboxes = self.list(&scope).await;
            left.extend(sandboxes.iter().map(|sandbox| format!("sandbox {}", sandbox.name)));
            if let Platform::Docker(engine, _) = &self.platform {
                let found = engine.left_of(&scope.cluster).await;
                left.extend(found.iter().map(ToString::to_string));
            }
        }
        if let Platform::Process(_) = &self.platform {
            let dir = self.dir.path();
            let processes = machine::processes_with(&dir.display().to_string());
            left.extend(processes.iter().map(|(pid, line)| format!("process {pid}: {line}")));
            left.extend(machine::claims_below(dir).iter().map(|it| it.display().to_string()));
        }
        left
    }

    /// The runtime.
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        match &self.platform {
            Platform::Docker(_, runtime) => Arc::new(runtime.clone()),
            Platform::Process(runtime) => Arc::clone(runtime) as Arc<dyn Runtime>,
        }
    }

    /// Opens another runtime on the same pods, as another program would.
    ///
    /// # Panics
    /// When it does not open.
    pub async fn another_runtime(&self) -> Arc<dyn Runtime> {
        match &self.platform {
            Platform::Docker(engine, _) => Arc::new(engine.connect().await),
            Platform::Process(_) => {
                let runtime = ProcessRuntime::open(self.data_dir().join("process"));
                Arc::new(runtime.expect("an open state directory opens again"))
            }
        }
    }

    /// The data directory for an orchd whose pods this rig sees.
    pub fn data_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    /// A directory for the files of workloads, as they see it.
    pub fn state_dir(&self) -> &Path {
        match &self.platform {
            Platform::Docker(..) => Path::new("/tmp"),
            Platform::Process(_) => self.dir.path(),
        }
    }

    /// Starts a cluster with a store of its own; it is shut down with the rig.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(&self, name: &str) -> Cluster {
        let store = SqliteStore::open(self.dir.path().join(format!("{name}.db"))).await;
        let store = Arc::new(store.expect("a new database opens"));
        let cluster = Cluster::builder()
            .shared_store(Arc::clone(&store) as Arc<dyn StateStore>)
            .shared_runtime(self.runtime())
            .node_name(NODE)
            .start()
            .await
            .expect("a cluster starts");
        self.know(&scope(&cluster));
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.push((cluster.clone(), store));
        cluster
    }

    /// Has the rig look after the pods of a scope.
    pub fn know(&self, scope: &Scope) {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        if !scopes.contains(scope) {
            scopes.push(scope.clone());
        }
    }

    fn scopes(&self) -> Vec<Scope> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lists a scope.
    ///
    /// # Panics
    /// When the runtime fails.
    pub async fn list(&self, scope: &Scope) -> Vec<SandboxObservation> {
        self.runtime().list(scope).await.expect("a scope is listed")
    }

    /// Finds the running container of a pod.
    ///
    /// # Panics
    /// When there is not exactly one.
    pub async fn running(&self, cluster: &Cluster, pod: &Pod) -> ContainerObservation {
        let sandboxes = self.list(&scope(cluster)).await;
        let of_pod = sandboxes.into_iter().filter(|sandbox| sandbox.key.pod == pod.metadata.uid);
        let mut running = of_pod.flat_map(|sandbox| sandbox.containers).filter(is_running);
        let first = running.next().expect("a container of the pod runs");
        assert!(running.next().is_none(), "one container of the pod runs");
        first
    }

    /// Kills the program of a running container behind the cluster's back.
    ///
    /// # Panics
    /// When it does not run.
    pub async fn kill(&self, container: &ContainerObservation) {
        match &self.platform {
            Platform::Docker(engine, _) => engine.kill_process(&container.id).await,
            Platform::Process(runtime) => machine::kill(process_id(runtime, container)),
        }
    }

    /// Takes a running container away behind the cluster's back: `docker rm -f`, or a kill of its supervisor.
    ///
    /// # Panics
    /// When it does not run.
    pub async fn remove(&self, container: &ContainerObservation) {
        match &self.platform {
            Platform::Docker(engine, _) => engine.remove_container(&container.id).await,
            Platform::Process(runtime) => {
                let supervisor = machine::parent_of(process_id(runtime, container));
                machine::kill(supervisor.expect("a command has its supervisor as parent"));
            }
        }
    }

    /// Runs a shell script in the running container of a pod.
    ///
    /// # Panics
    /// When it fails.
    pub async fn exec(&self, cluster: &Cluster, pod: &Pod, script: &str) {
        let container = self.running(cluster, pod).await;
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        let outcome = self.runtime().exec(&container.key, &command, 30_000).await;
        let outcome = outcome.expect("a program runs in the container");
        assert_eq!(outcome.code, 0, "{script:?} printed {:?}", outcome.output);
    }
}

fn directory() -> TempDir {
    tempfile::Builder::new().prefix("orch-e2e-").tempdir().expect("a temporary directory")
}

fn process_id(runtime: &ProcessRuntime, container: &ContainerObservation) -> u32 {
    runtime.process_id(&container.key).expect("the container exists").expect("it runs")
}

/// The scope of a cluster on a rig.
pub fn scope(cluster: &Cluster) -> Scope {
    Scope { cluster: cluster.id().to_owned(), node: NODE.to_owned() }
}

/// The id of the cluster whose namespace `kube-system` has this uid.
///
/// # Panics
/// When it is no uid.
pub fn cluster_id(uid: &str) -> String {
    let tail = uid.len().checked_sub(12).expect("uids are longer");
    format!("c{}", &uid[tail..])
}

/// Whether a container runs.
pub fn is_running(container: &ContainerObservation) -> bool {
    matches!(container.state, ContainerRunState::Running { .. })
}

/// Waits until something is true of a cluster's world.
///
/// # Panics
/// After two minutes, with what the pods say.
pub async fn until(
    cluster: &Cluster,
    what: &str,
    is_true: impl FnMut(&World) -> bool + Send,
) -> World {
    match tokio::time::timeout(WITHIN, cluster.wait_for(is_true)).await {
        Ok(world) => world.expect("the cluster runs"),
        Err(_) => panic!("waited {WITHIN:?} until {what}; {}", situation(&cluster.world())),
    }
}

fn situation(world: &World) -> String {
    let pods =
        world.all::<Pod>(None).map(|pod| format!("{}: {:#?}", pod.metadata.name, pod.status));
    pods.collect::<Vec<_>>().join("\n")
}

/// Asks again and again until there is an answer.
///
/// # Panics
/// After two minutes, with what was asked last.
pub async fn poll<T, E, Ask, Answer>(what: &str, mut ask: Ask) -> T
where
    E: std::fmt::Debug,
    Ask: FnMut() -> Answer,
    Answer: Future<Output = Result<T, E>>,
{
    let started = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(why) if started.elapsed() > WITHIN => {
                panic!("waited {WITHIN:?} until {what}; {why:#?}")
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
