//! `Place`: where the nodes of a demo are: on machines made of namespaces, or all on this one.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use orchd_machines::Engine;
use orchestrator_core::driver::Cluster;
use orchestrator_http::JoinRole;

use super::machines::Machines;
use super::processes::Processes;
use crate::control_plane::ControlPlane;
use crate::demo::progress::Progress;
use crate::runtime::RuntimeChoice;
use crate::verbs::session::Session;
use crate::verbs::token::new_token;

/// How long the token of a node is good for.
const TOKEN_GOOD_FOR: Duration = Duration::from_secs(600);

/// Where nodes are.
pub enum Place {
    /// Each is a machine of its own, with a Docker engine.
    Machines(Machines),
    /// All are agents on this machine, with processes.
    Processes(Processes),
}

impl Place {
    /// Takes machines where they can be made, unless processes are wanted.
    pub fn choose(
        control_plane: &ControlPlane,
        dir: &Path,
        runtime: Option<RuntimeChoice>,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        if runtime != Some(RuntimeChoice::Process) {
            let made = Engine::installed().and_then(|()| Machines::new(&control_plane.url));
            match made {
                Ok(machines) => {
                    progress.tell(
                        "each node is a machine made of namespaces, with its own Docker engine",
                    );
                    return Ok(Self::Machines(machines));
                }
                Err(error) if runtime.is_some() => {
                    return Err(error).context(
                        "cannot make machines with Docker engines; `--runtime process` does without",
                    );
                }
                Err(error) => {
                    let why = crate::out::chain(&error);
                    progress.tell(format_args!(
                        "all nodes are on this machine and run processes ({why})"
                    ));
                }
            }
        } else {
            progress.tell("all nodes are on this machine and run processes");
        }
        Ok(Self::Processes(Processes::new(dir, &control_plane.url)))
    }

    /// What runs their pods.
    pub const fn runtime(&self) -> RuntimeChoice {
        match self {
            Self::Machines(_) => RuntimeChoice::Docker,
            Self::Processes(_) => RuntimeChoice::Process,
        }
    }

    /// What dies with a node's agent.
    pub const fn killed_with_it(&self) -> &'static str {
        match self {
            Self::Machines(_) => "Docker engine and containers",
            Self::Processes(_) => "processes of its pods",
        }
    }

    /// Whether something is left when nodes end before their pods.
    pub const fn needs_pods_to_end(&self) -> bool {
        match self {
            Self::Machines(_) => false,
            Self::Processes(_) => true,
        }
    }

    /// Starts a node and has it join.
    pub async fn add(&mut self, name: &str, control_plane: &ControlPlane) -> anyhow::Result<()> {
        let session = Session::at(&control_plane.kubeconfig, None)?;
        let token =
            new_token(&session, JoinRole::Agent, TOKEN_GOOD_FOR, Some(name)).await?.reveal();
        match self {
            Self::Machines(machines) => {
                machines
                    .add(name, &token, &super::super::image_of(control_plane.cluster.id()))
                    .await
            }
            Self::Processes(processes) => processes.add(name, &token).await,
        }
    }

    /// Kills a node and all that runs there.
    pub async fn kill(&mut self, name: &str, cluster: &Cluster) -> anyhow::Result<()> {
        match self {
            Self::Machines(machines) => machines.kill(name),
            Self::Processes(processes) => processes.kill(name, cluster.id()).await,
        }
    }

    /// Starts a node again that was killed.
    pub async fn revive(&mut self, name: &str) -> anyhow::Result<()> {
        match self {
            Self::Machines(machines) => machines.revive(name).await,
            Self::Processes(processes) => processes.start(name, None).await,
        }
    }

    /// Ends every node.
    pub async fn end(self) -> anyhow::Result<()> {
        match self {
            Self::Machines(machines) => {
                machines.end();
                Ok(())
            }
            Self::Processes(processes) => processes.end().await,
        }
    }
}
