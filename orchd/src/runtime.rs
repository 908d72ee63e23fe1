//! What runs pods: which runtime is meant, and that runtime once it is open.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use orchestrator_core::runtime::{Runtime, RuntimeError};
use orchestrator_docker::DockerRuntime;
use orchestrator_process::ProcessRuntime;

/// What goes wrong when processes cannot be used.
const NO_PROCESSES: &str = "cannot set up the process runtime";

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

/// A runtime that is open, with what only its kind can do.
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

    /// Which it is.
    pub const fn choice(&self) -> RuntimeChoice {
        match self {
            Self::Docker(_) => RuntimeChoice::Docker,
            Self::Process(_) => RuntimeChoice::Process,
        }
    }

    /// Its name, for people.
    pub const fn name(&self) -> &'static str {
        self.choice().name()
    }
}

/// A runtime that has been found usable, before anything of the data directory is touched.
pub enum Chosen {
    Docker(DockerRuntime),
    Process,
}

impl Chosen {
    /// Opens it; processes keep what they need in a directory.
    pub fn open(self, pods: &Path) -> anyhow::Result<RunningRuntime> {
        match self {
            Self::Docker(docker) => Ok(RunningRuntime::Docker(Arc::new(docker))),
            Self::Process => ProcessRuntime::open(pods)
                .map(|runtime| RunningRuntime::Process(Arc::new(runtime)))
                .context(NO_PROCESSES),
        }
    }
}

/// Finds the runtime that is wanted or, with no wish, the one there is. Refuses what could not be opened, where that can be
/// told without making anything.
pub async fn choose(choice: Option<RuntimeChoice>, pods: &Path) -> anyhow::Result<Chosen> {
    if let Some(docker) = connect(choice).await? {
        return Ok(Chosen::Docker(docker));
    }
    ProcessRuntime::check(pods).context(NO_PROCESSES)?;
    Ok(Chosen::Process)
}

/// Connects to Docker, unless processes are wanted or, with no wish, no engine answers.
async fn connect(choice: Option<RuntimeChoice>) -> anyhow::Result<Option<DockerRuntime>> {
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
