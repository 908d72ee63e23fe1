//! `Instance`: store, runtime, cluster and server wired together over one data directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use orchestrator_core::driver::Cluster;
use orchestrator_core::runtime::Runtime;
use orchestrator_core::store::StateStore;
use orchestrator_docker::DockerRuntime;
use orchestrator_http::{Listen, Server, ServerConfig};
use orchestrator_process::ProcessRuntime;
use orchestrator_sqlite::SqliteStore;

/// The name of the one node.
pub const NODE_NAME: &str = "local";
/// The database in a data directory.
const DATABASE: &str = "cluster.db";
/// What else there may be in a data directory that has no database yet: what an earlier start made, and what file systems do.
const BESIDE: [&str; 4] = ["kubeconfig", "lost+found", "pki", "process"];
/// What goes wrong when processes cannot be used.
const NO_PROCESSES: &str = "cannot set up the process runtime";
/// How long the node may take to become Ready.
const NODE_READY_WITHIN: Duration = Duration::from_secs(30);

/// What runs pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RuntimeChoice {
    /// Docker Engine, at $DOCKER_HOST or its usual socket
    Docker,
    /// Processes of this machine, without isolation
    Process,
}

/// What an instance is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where the API listens.
    pub listen: SocketAddr,
    /// What runs pods; Docker when an engine answers, else processes, if not given.
    pub runtime: Option<RuntimeChoice>,
}

/// A running orchd.
pub struct Instance {
    pub cluster: Cluster,
    pub runtime: RunningRuntime,
    pub kubeconfig: PathBuf,
    /// The API's URL.
    pub url: String,
    server: Server,
    store: Arc<SqliteStore>,
}

/// The runtime of an instance, with what only its kind can do.
#[derive(Clone, Debug)]
pub enum RunningRuntime {
    Docker(Arc<DockerRuntime>),
    Process(Arc<ProcessRuntime>),
}

impl RunningRuntime {
    /// The runtime as the cluster knows it.
    pub fn shared(&self) -> Arc<dyn Runtime> {
        match self {
            Self::Docker(runtime) => Arc::clone(runtime) as Arc<dyn Runtime>,
            Self::Process(runtime) => Arc::clone(runtime) as Arc<dyn Runtime>,
        }
    }

    /// Its name, for people.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Docker(_) => "docker",
            Self::Process(_) => "process",
        }
    }
}

impl Instance {
    /// Starts everything; when this returns the API is served.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        make_private_dir(&options.data_dir)?;
        refuse_foreign(&options.data_dir)?;
        let docker = choose(options.runtime).await?;
        let process_dir = options.data_dir.join("process");
        if docker.is_none() {
            // Before the database is touched: what is refused stays as it was.
            ProcessRuntime::check(&process_dir).context(NO_PROCESSES)?;
        }
        let database = options.data_dir.join(DATABASE);
        let store = SqliteStore::open(&database).await.with_context(|| {
            format!("cannot use the data directory {}", options.data_dir.display())
        })?;
        let store = Arc::new(store);
        let runtime = match docker {
            Some(docker) => RunningRuntime::Docker(Arc::new(docker)),
            None => {
                let process = ProcessRuntime::open(&process_dir).context(NO_PROCESSES)?;
                RunningRuntime::Process(Arc::new(process))
            }
        };
        let cluster = Cluster::builder()
            .shared_store(Arc::clone(&store) as Arc<dyn StateStore>)
            .shared_runtime(runtime.shared())
            .node_name(NODE_NAME)
            .start()
            .await
            .context("cannot start the cluster")?;
        let config = ServerConfig::new(Listen::Tcp(options.listen), options.data_dir.join("pki"));
        let server = match Server::bind(config, cluster.clone()).await {
            Ok(server) => server,
            Err(error) => {
                cluster.shutdown(false).await;
                return Err(error)
                    .with_context(|| format!("cannot serve the API on {}", options.listen));
            }
        };
        let kubeconfig = options.data_dir.join("kubeconfig");
        server
            .write_kubeconfig(&kubeconfig)
            .with_context(|| format!("cannot write {}", kubeconfig.display()))?;
        let url = server.url();
        Ok(Self { cluster, runtime, kubeconfig, url, server, store })
    }

    /// Waits until the node is Ready.
    pub async fn node_ready(&self) -> anyhow::Result<()> {
        let ready = self
            .cluster
            .wait_for(|world| world.node(NODE_NAME).is_some_and(|node| node.is_ready()));
        match tokio::time::timeout(NODE_READY_WITHIN, ready).await {
            Ok(outcome) => outcome.map(|_| ()).context("the cluster stopped"),
            Err(_) => bail!(
                "node {NODE_NAME:?} did not become Ready within {NODE_READY_WITHIN:?}; `orchd describe node {NODE_NAME}` may tell why"
            ),
        }
    }

    /// Stops everything and waits for every task. Pods keep running unless `stop_pods`.
    pub async fn stop(self, stop_pods: bool) {
        self.server.shutdown().await;
        self.cluster.shutdown(stop_pods).await;
        self.store.close().await;
    }
}

/// The directory used when none is given: `$XDG_DATA_HOME/orchd`, `~/.local/share/orchd`, or `/var/lib/orchd`.
pub fn default_data_dir() -> PathBuf {
    let from =
        |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    match (from("XDG_DATA_HOME"), from("HOME")) {
        (Some(data), _) => data.join("orchd"),
        (None, Some(home)) => home.join(".local/share/orchd"),
        (None, None) => PathBuf::from("/var/lib/orchd"),
    }
}

/// Makes a directory that only its owner may enter; an existing one is left as it is.
fn make_private_dir(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("cannot make the data directory {}", dir.display()))
}

/// Refuses a directory that holds something, but nothing that makes it a data directory: the mistyped path of a home, say.
fn refuse_foreign(dir: &Path) -> anyhow::Result<()> {
    if dir.join(DATABASE).exists() {
        return Ok(());
    }
    let read = || format!("cannot read the data directory {}", dir.display());
    for entry in std::fs::read_dir(dir).with_context(read)? {
        let name = entry.with_context(read)?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with(DATABASE) && !BESIDE.contains(&&*name) {
            bail!(
                "{} is not a data directory of orchd: it holds {name:?} and no {DATABASE}; choose an empty or a new one",
                dir.display()
            );
        }
    }
    Ok(())
}

/// Connects to Docker if that is wanted, or nothing else is and an engine answers; with `None` it is processes.
async fn choose(choice: Option<RuntimeChoice>) -> anyhow::Result<Option<DockerRuntime>> {
    match choice {
        Some(RuntimeChoice::Process) => Ok(None),
        Some(RuntimeChoice::Docker) => DockerRuntime::connect().await.map(Some).context(
            "no Docker engine answers; start one, set DOCKER_HOST, or use `--runtime process`",
        ),
        None => match DockerRuntime::connect().await {
            Ok(docker) => Ok(Some(docker)),
            Err(error) => {
                tracing::debug!(%error, "no Docker engine answers; using processes");
                Ok(None)
            }
        },
    }
}
