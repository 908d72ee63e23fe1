//! Signals: what is heard of nodes between commits. Kept in the world without a revision, never stored.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rhythm::Rhythm;
use crate::model::{Timestamp, Uid};

/// Something heard of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// The node's agent is alive.
    Heartbeat {
        /// The node.
        node: String,
        /// When it was heard.
        at: Timestamp,
    },
    /// What the node and its pods use.
    Usage {
        /// The node.
        node: String,
        /// When it was measured.
        at: Timestamp,
        /// The sample.
        sample: Arc<NodeUsage>,
    },
}

impl Signal {
    /// The node it concerns.
    pub fn node(&self) -> &str {
        match self {
            Self::Heartbeat { node, .. } | Self::Usage { node, .. } => node,
        }
    }
}

/// What a node and its pods use at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeUsage {
    /// CPU in use on the whole machine, in thousandths of a core.
    pub cpu_milli: u64,
    /// Memory in use on the whole machine, in bytes.
    pub memory_bytes: u64,
    /// Disk in use where pods keep their data, in bytes.
    pub disk_bytes: u64,
    /// Bytes received by the machine since boot.
    pub network_received_bytes: u64,
    /// Bytes sent by the machine since boot.
    pub network_sent_bytes: u64,
    /// What containers use.
    pub containers: Vec<ContainerUsage>,
}

/// What a container uses at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerUsage {
    /// The pod's uid.
    pub pod: Uid,
    /// The container's name.
    pub container: String,
    /// CPU in use, in thousandths of a core.
    pub cpu_milli: u64,
    /// Memory in use, in bytes.
    pub memory_bytes: u64,
    /// Disk in use, in bytes; 0 when unknown.
    pub disk_bytes: u64,
    /// Bytes its pod received.
    pub network_received_bytes: u64,
    /// Bytes its pod sent.
    pub network_sent_bytes: u64,
}

/// The newest of what is heard of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSignal {
    /// When the agent was last heard; `None` if never in this lead.
    pub last_heard: Option<Timestamp>,
    /// How regularly it is heard.
    pub rhythm: Rhythm,
    /// The newest usage sample.
    pub usage: Option<Arc<NodeUsage>>,
}

impl NodeSignal {
    pub(super) fn with(mut self, signal: &Signal) -> Self {
        let (Signal::Heartbeat { at, .. } | Signal::Usage { at, .. }) = signal;
        if let Some(last) = self.last_heard.filter(|last| last < at) {
            self.rhythm = self.rhythm.with_gap(at.as_millis() - last.as_millis());
        }
        self.last_heard = self.last_heard.max(Some(*at));
        if let Signal::Usage { sample, .. } = signal {
            self.usage = Some(Arc::clone(sample));
        }
        self
    }
}
