//! `Instance`: store, runtime, cluster and server wired together over one data directory.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use orchestrator_core::driver::Cluster;
use orchestrator_core::runtime::{Runtime, RuntimeError};
use orchestrator_core::store::StateStore;
use orchestrator_docker::DockerRuntime;
use orchestrator_http::{Listen, Server, ServerConfig};
use orchestrator_process::ProcessRuntime;
use orchestrator_sqlite::SqliteStore;

use crate::data_dir::DataDir;

/// The name of the one node.
pub const NODE_NAME: &str = "local";
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

impl RuntimeChoice {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Process => "process",
        }
    }
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
    /// Starts everything; when this returns the API is served. What fails leaves nothing running.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let dir = DataDir::open(&options.data_dir)?;
        let docker = choose(dir.runtime(options.runtime)?).await?;
        let pods = options.data_dir.join("process");
        if docker.is_none() {
            // Before the database is touched: what is refused stays as it was.
            ProcessRuntime::check(&pods).context(NO_PROCESSES)?;
        }
        let store = SqliteStore::open(dir.database()).await.with_context(|| {
            format!("cannot use the data directory {}", options.data_dir.display())
        })?;
        let store = Arc::new(store);
        let runtime = match docker {
            Some(docker) => Ok(RunningRuntime::Docker(Arc::new(docker))),
            None => ProcessRuntime::open(&pods)
                .map(|runtime| RunningRuntime::Process(Arc::new(runtime)))
                .context(NO_PROCESSES),
        };
        let started = match runtime {
            Ok(runtime) => Self::start_on(options, &dir, runtime, Arc::clone(&store)).await,
            Err(error) => Err(error),
        };
        if started.is_err() {
            store.close().await;
        }
        started
    }

    async fn start_on(
        options: &Options,
        dir: &DataDir,
        runtime: RunningRuntime,
        store: Arc<SqliteStore>,
    ) -> anyhow::Result<Self> {
        dir.remember(runtime.name())?;
        let cluster = Cluster::builder()
            .shared_store(Arc::clone(&store) as Arc<dyn StateStore>)
            .shared_runtime(runtime.shared())
            .node_name(NODE_NAME)
            .start()
            .await
            .context("cannot start the cluster")?;
        match Self::serve(options, &cluster).await {
            Ok((server, kubeconfig)) => {
                let url = server.url();
                Ok(Self { cluster, runtime, kubeconfig, url, server, store })
            }
            Err(error) => {
                cluster.shutdown(false).await;
                Err(error)
            }
        }
    }

    async fn serve(options: &Options, cluster: &Cluster) -> anyhow::Result<(Server, PathBuf)> {
        let config = ServerConfig {
            audit_log: Some(options.data_dir.join("audit.log")),
            ..ServerConfig::new(Listen::Tcp(options.listen), options.data_dir.join("pki"))
        };
        let server = Server::bind(config, cluster.clone())
            .await
            .with_context(|| format!("cannot serve the API on {}", options.listen))?;
        let kubeconfig = options.data_dir.join("kubeconfig");
        if let Err(error) = server.write_kubeconfig(&kubeconfig) {
            server.shutdown().await;
            return Err(error).with_context(|| format!("cannot write {}", kubeconfig.display()));
        }
        Ok((server, kubeconfig))
    }

    /// Waits until the node is Ready.
    pub async fn node_ready(&self) -> anyhow::Result<()> {
        let ready = self.cluster.node_ready();
        match tokio::time::timeout(NODE_READY_WITHIN, ready).await {
            Ok(outcome) => outcome.context("the cluster stopped"),
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

/// Connects to Docker, unless processes are wanted or, with no wish, no engine answers.
async fn choose(choice: Option<RuntimeChoice>) -> anyhow::Result<Option<DockerRuntime>> {
    match choice {
        Some(RuntimeChoice::Process) => Ok(None),
        Some(RuntimeChoice::Docker) => DockerRuntime::connect().await.map(Some).context(
            "no Docker engine answers; start one, set DOCKER_HOST, or use `--runtime process`",
        ),
        None => match DockerRuntime::connect().await {
            Ok(docker) => Ok(Some(docker)),
            Err(error @ RuntimeError::Unreachable(_)) => {
                // Who names an engine expects it; who does not need not have one.
                match std::env::var_os("DOCKER_HOST").filter(|host| !host.is_empty()) {
                    Some(host) => tracing::warn!(
                        %error, ?host, "no Docker engine answers at DOCKER_HOST; using processes"
                    ),
                    None => tracing::info!(%error, "no Docker engine answers; using processes"),
                }
                Ok(None)
            }
            Err(error) => Err(error)
                .context("the Docker engine cannot be used; `--runtime process` does without"),
        },
    }
}
