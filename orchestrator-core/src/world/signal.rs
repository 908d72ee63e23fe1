//! Signals: what is heard of nodes between commits. Kept in the world without a revision, never stored.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rhythm::Rhythm;
use crate::model::{Timestamp, Uid};

/// Something heard of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// The connection of the node's agent has ended: it may be dead.
    Cut {
        /// The node.
        node: String,
        /// When it ended.
        at: Timestamp,
    },
    /// Nobody could hear the node for a while, for the control plane itself did not run: its silence until now does not count.
    Excused {
        /// The node.
        node: String,
        /// Until when.
        at: Timestamp,
    },
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
            Self::Cut { node, .. }
            | Self::Excused { node, .. }
            | Self::Heartbeat { node, .. }
            | Self::Usage { node, .. } => node,
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
    /// Whether its connection has ended since it was heard.
    pub is_cut: bool,
    /// How regularly it is heard.
    pub rhythm: Rhythm,
    /// The newest usage sample.
    pub usage: Option<Arc<NodeUsage>>,
}

impl NodeSignal {
    /// How long a silence must be to mean that the node is lost, in milliseconds; `None` when too little has been heard. Of a node
    /// whose connection has ended it need not be as long.
    pub fn silence_ms(&self) -> Option<i64> {
        match self.is_cut {
            true => self.rhythm.cut_silence_ms(),
            false => self.rhythm.silence_ms(),
        }
    }

    pub(super) fn with(mut self, signal: &Signal) -> Self {
        match signal {
            Signal::Cut { .. } => self.is_cut = true,
            // No gap in its rhythm: that it was late is not the node's doing.
            Signal::Excused { at, .. } => self.last_heard = self.last_heard.max(Some(*at)),
            Signal::Heartbeat { at, .. } => self.hear(*at),
            Signal::Usage { at, sample, .. } => {
                self.hear(*at);
                self.usage = Some(Arc::clone(sample));
            }
        }
        self
    }

    fn hear(&mut self, at: Timestamp) {
        if let Some(last) = self.last_heard.filter(|last| *last < at) {
            let gap_ms = at.as_millis() - last.as_millis();
            self.rhythm = match self.is_cut {
                true => self.rhythm.with_absence(gap_ms),
                false => self.rhythm.with_gap(gap_ms),
            };
        }
        self.last_heard = self.last_heard.max(Some(at));
        self.is_cut = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a node may be silent that reported for half a minute, then something else, and is back after an hour.
    fn after_an_hour(meanwhile: Option<Signal>) -> Option<i64> {
        let heard = |seconds: i64| Signal::Heartbeat { node: "n".to_owned(), at: at(seconds) };
        let signals = (0..30).map(heard).chain(meanwhile).chain([heard(3_630)]);
        signals.fold(NodeSignal::default(), |known, signal| known.with(&signal)).silence_ms()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_000 * seconds)
    }

    #[test]
    fn who_was_away_is_missed_sooner_than_who_was_slow() {
        let cut = Signal::Cut { node: "n".to_owned(), at: at(31) };
        let (away, slow) = (after_an_hour(Some(cut)), after_an_hour(None));
        assert!(away.is_some_and(|away| away < 4_000), "{away:?}");
        assert!(slow.is_some_and(|slow| slow > 4_000), "{slow:?}");
    }
}
