//! What agents and the server say to one another, as JSON.

use std::sync::Arc;

use orchestrator_core::model::{EventType, Key, Kind, Object, Pod, PodStatus, Revision, Uid};
use orchestrator_core::node::{Assignments, NodeNetwork, StatusOutcome};
use orchestrator_core::world::{EventNote, NodeUsage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The record of a node, to be brought up to date.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Registration {
    pub(crate) node: Value,
}

/// Asks for the node's pods: all, or what has changed after a revision.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Following {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<u64>,
}

/// The answer to [`Following`]; with nothing but a revision, that nothing has changed so far.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AssignmentsForm {
    revision: u64,
    /// Of a complete list only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pods: Vec<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    removed: Vec<PodName>,
}

/// A pod by its name, and which one of that name.
#[derive(Debug, Serialize, Deserialize)]
struct PodName {
    namespace: String,
    name: String,
    uid: Uid,
}

impl PodName {
    fn new(key: &Key, uid: Uid) -> Self {
        Self { namespace: key.namespace.to_string(), name: key.name.to_string(), uid }
    }

    fn key(&self) -> Key {
        Key::pod(&self.namespace, &self.name)
    }
}

impl AssignmentsForm {
    /// Says that nothing has changed since a revision.
    pub(crate) fn nothing_after(revision: Revision) -> Self {
        Self { revision: revision.0, ..Self::default() }
    }

    pub(crate) fn of(assignments: &Assignments) -> Self {
        let values = |pods: &[Arc<Pod>]| {
            pods.iter().map(|pod| Object::Pod(Arc::clone(pod)).to_value()).collect()
        };
        match assignments {
            Assignments::Complete { epoch, revision, pods } => Self {
                revision: revision.0,
                epoch: Some(*epoch),
                pods: values(pods),
                removed: Vec::new(),
            },
            Assignments::Changes { revision, changed, removed } => Self {
                revision: revision.0,
                epoch: None,
                pods: values(changed),
                removed: removed.iter().map(|(key, uid)| PodName::new(key, *uid)).collect(),
            },
        }
    }

    /// Reads the answer to who has asked for what comes `after` a revision; `None` when nothing has changed since. Who has named none
    /// is told of no pod then.
    ///
    /// # Errors
    /// A text that says which pod cannot be read. Nothing of the rest is believed then: a pod that is left out looks gone.
    pub(crate) fn read(self, after: Option<Revision>) -> Result<Option<Assignments>, String> {
        let Self { revision, epoch, pods, removed } = self;
        let revision = Revision(revision);
        let pods = pods.into_iter().map(read_pod).collect::<Result<Vec<_>, _>>()?;
        Ok(match epoch {
            Some(epoch) => Some(Assignments::Complete { epoch, revision, pods }),
            None if after.is_some() && pods.is_empty() && removed.is_empty() => None,
            None => {
                let removed = removed.iter().map(|pod| (pod.key(), pod.uid)).collect();
                Some(Assignments::Changes { revision, changed: pods, removed })
            }
        })
    }
}

fn read_pod(value: Value) -> Result<Arc<Pod>, String> {
    match Object::from_value(Kind::Pod, value) {
        Ok(Object::Pod(pod)) => Ok(pod),
        Ok(other) => Err(format!("a {} is no pod", other.kind())),
        Err(error) => Err(format!("a pod cannot be read: {error}")),
    }
}

/// What a node must know of the network between pods.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NetworkForm {
    pub(crate) revision: u64,
    /// Whether this is news; else nothing has changed so far.
    pub(crate) changed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<NodeNetwork>,
    /// Whether the node may get one any moment.
    #[serde(default, rename = "expected")]
    pub(crate) is_expected: bool,
}

/// The status of a pod.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pod: PodName,
    pub(crate) status: PodStatus,
}

impl Status {
    pub(crate) fn new(key: &Key, uid: Uid, status: PodStatus) -> Self {
        Self { pod: PodName::new(key, uid), status }
    }

    pub(crate) fn pod(&self) -> (Key, Uid) {
        (self.pod.key(), self.pod.uid)
    }
}

/// Says that nothing is left of a pod.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Deletion {
    pod: PodName,
}

impl Deletion {
    pub(crate) fn new(key: &Key, uid: Uid) -> Self {
        Self { pod: PodName::new(key, uid) }
    }

    pub(crate) fn pod(&self) -> (Key, Uid) {
        (self.pod.key(), self.pod.uid)
    }
}

/// The answer to a [`Status`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Gone,
    Recorded,
}

impl From<StatusOutcome> for Outcome {
    fn from(outcome: StatusOutcome) -> Self {
        match outcome {
            StatusOutcome::Gone => Self::Gone,
            StatusOutcome::Recorded => Self::Recorded,
        }
    }
}

impl From<Outcome> for StatusOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Gone => Self::Gone,
            Outcome::Recorded => Self::Recorded,
        }
    }
}

/// Something to be told to people about a pod or the node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Note {
    about: About,
    #[serde(rename = "type")]
    kind: EventType,
    reason: String,
    message: String,
}

/// What is spoken of.
#[derive(Debug, Serialize, Deserialize)]
enum About {
    Node { name: String, uid: Uid },
    Pod(PodName),
}

impl Note {
    /// Writes it down.
    ///
    /// # Errors
    /// The key, when it is about neither.
    pub(crate) fn of(note: EventNote) -> Result<Self, Key> {
        let EventNote { about, uid, kind, reason, message } = note;
        let about = match about.kind {
            Kind::Node => About::Node { name: about.name.to_string(), uid },
            Kind::Pod => About::Pod(PodName::new(&about, uid)),
            _ => return Err(about),
        };
        Ok(Self { about, kind, reason, message })
    }

    pub(crate) fn into_event(self) -> EventNote {
        let Self { about, kind, reason, message } = self;
        let (about, uid) = match about {
            About::Node { name, uid } => (Key::node(&name), uid),
            About::Pod(pod) => (pod.key(), pod.uid),
        };
        EventNote { about, uid, kind, reason, message }
    }
}

/// Says that the node is alive, and what it uses.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<NodeUsage>,
}

/// The answer to a [`Report`].
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reported {
    /// The URLs of the cluster's servers, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) servers: Vec<String>,
}
