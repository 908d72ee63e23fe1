//! The shell of the node agent: does what `node::plan` decides, and reports.
//!
//! One task owns all state and waits for the results of short-lived tasks; each of those has a time limit,
//! and no verb of one pod keeps another pod waiting (L15).
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // the shell may read clock and machine

mod admission;
mod assign;
mod connection;
mod core;
mod kept;
mod listing;
mod machine;
mod pods;
mod probes;
mod registration;
mod sampling;
mod shutdown;
mod streams;
mod tasks;
mod verbs;

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::core::Core;
pub use self::machine::Machine;
use self::streams::Streams;
use super::clock::{Clock, SystemClock};
use super::network::{HostNetwork, PodNetwork};
use crate::model::{AgentId, ResourceMap, StringMap};
use crate::node::{NodeLink, NodeStreams};
use crate::runtime::{Runtime, Scope};

/// The most pods of a node, unless configured otherwise; Kubernetes' number.
pub const PODS_MAX: i64 = 110;

/// How an agent runs its node.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The cluster and the node's name.
    pub scope: Scope,
    /// By what the agent is told from a copy of it; without one it is not.
    pub id: Option<AgentId>,
    /// Labels of the node, beside those of its operating system. A node may give itself `orchestrator.dev/runtime`; with
    /// any other it is not let in.
    pub labels: StringMap,
    /// Annotations of the node. It may give itself `orchestrator.dev/network-key`; with any other it is not let in.
    pub annotations: StringMap,
    /// What is kept from pods.
    pub reserve: ResourceMap,
    /// The address by which the node is reached.
    pub address: String,
    /// The most pods the node takes.
    pub pods_max: i64,
    /// A path on the disk where pods keep their data, whose size and use are reported.
    pub disk_path: PathBuf,
    /// What machine the node stands for.
    pub machine: Machine,
    /// How the node reaches its pods' ports.
    pub network: Arc<dyn PodNetwork>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where the node's pods are kept, so that an agent that is started while the control plane is away knows them; without
    /// one it waits for it.
    pub keep: Option<Arc<dyn Keep>>,
}

/// Where an agent keeps the pods of its node beyond its own end. They are written whole, and hold what their specs hold:
/// whatever is given to containers in clear is in them in clear.
pub trait Keep: Debug + Send + Sync + 'static {
    /// Returns what was written last, if anything was. Blocks.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&self) -> io::Result<Option<Vec<u8>>>;

    /// Writes in the place of what was written before: all of it, or nothing when the machine stops meanwhile. Blocks.
    ///
    /// # Errors
    /// When it cannot be written; then what was written before is still there.
    fn write(&self, bytes: &[u8]) -> io::Result<()>;
}

impl AgentConfig {
    /// Configures the agent of a node on the loopback address that keeps nothing from its pods.
    pub fn new(scope: Scope) -> Self {
        Self {
            scope,
            id: None,
            labels: StringMap::new(),
            annotations: StringMap::new(),
            reserve: ResourceMap::new(),
            address: "127.0.0.1".to_owned(),
            pods_max: PODS_MAX,
            disk_path: PathBuf::from("/"),
            machine: Machine::default(),
            network: Arc::new(HostNetwork),
            clock: Arc::new(SystemClock),
            keep: None,
        }
    }
}

/// Runs the pods of a node.
#[derive(Debug)]
pub struct Agent;

impl Agent {
    /// Starts an agent. It registers its node at once and adopts what runs already.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn(
        config: AgentConfig,
        runtime: Arc<dyn Runtime>,
        link: Arc<dyn NodeLink>,
    ) -> AgentHandle {
        let (stop, stopped) = oneshot::channel();
        let streams =
            Streams::new(Arc::clone(&runtime), config.scope.clone(), Arc::clone(&config.network));
        let core = Core::new(config, runtime, link);
        let task = tokio::spawn(core.run(stopped));
        AgentHandle { stop, task, streams: Arc::new(streams) }
    }
}

/// A running agent. Dropping it stops the agent as [`AgentHandle::shutdown`] does, without waiting and
/// without touching pods.
#[derive(Debug)]
pub struct AgentHandle {
    stop: oneshot::Sender<Stop>,
    task: JoinHandle<()>,
    streams: Arc<Streams>,
}

/// How an agent stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Pods go on without it.
    KeepPods,
    /// It ends its pods first.
    StopPods,
}

impl AgentHandle {
    /// Returns what serves logs of this node's pods, also after the agent has stopped.
    pub fn streams(&self) -> Arc<dyn NodeStreams> {
        Arc::clone(&self.streams) as Arc<dyn NodeStreams>
    }

    /// Stops the agent and waits until every task of it has ended. Pods go on unless `stop_pods`; then each is
    /// ended within its grace (at most [`SHUTDOWN_GRACE_MS_MAX`](shutdown::SHUTDOWN_GRACE_MS_MAX)) and removed.
    pub async fn shutdown(self, stop_pods: bool) {
        let stop = if stop_pods { Stop::StopPods } else { Stop::KeepPods };
        let _ = self.stop.send(stop);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "agent ended badly");
        }
    }
}
