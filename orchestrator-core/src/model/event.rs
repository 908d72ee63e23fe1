//! `Event`: something that happened, told to people. Losing one loses nothing else.

use serde::{Deserialize, Serialize};

use super::ids::{Key, Kind, Revision, Uid};
use super::meta::ObjectMeta;
use super::residual::{Residual, keep_residual};
use super::time::Time;

/// Something that happened to an object. Equal events are counted, not repeated; one expires an hour after its last count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct Event {
    /// How often it happened.
    pub count: i32,
    /// When it first happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_timestamp: Option<Time>,
    /// The object it happened to.
    pub involved_object: ObjectReference,
    /// When it last happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_timestamp: Option<Time>,
    /// What happened, for people.
    pub message: String,
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Why, in CamelCase, for programs.
    pub reason: String,
    /// Who tells.
    pub reporting_component: String,
    /// Which of them; a node's name for its agent.
    pub reporting_instance: String,
    /// Who tells, in the older form.
    pub source: EventSource,
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

keep_residual!(Event);

/// Whether an event is news or trouble.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EventType {
    /// News.
    #[default]
    Normal,
    /// Trouble.
    Warning,
}

/// The component an event comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EventSource {
    /// The component's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub component: String,
    /// The node it runs on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
}

/// A reference to an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectReference {
    /// The object's apiVersion.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// The part of the object, such as `spec.containers{web}`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field_path: String,
    /// The object's kind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The object's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The object's namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The revision of the object.
    #[serde(skip_serializing_if = "is_unset")]
    pub resource_version: Revision,
    /// The object's uid.
    #[serde(skip_serializing_if = "Uid::is_nil")]
    pub uid: Uid,
}

fn is_unset(revision: &Revision) -> bool {
    *revision == Revision::ZERO
}

impl ObjectReference {
    /// Refers to the object with this key and metadata.
    pub fn to(key: &Key, uid: Uid) -> Self {
        Self {
            api_version: key.kind.api_version().to_owned(),
            kind: key.kind.name().to_owned(),
            name: key.name.to_string(),
            namespace: key.namespace.to_string(),
            uid,
            ..Self::default()
        }
    }

    /// The key this reference names, if its kind is a built-in one.
    pub fn key(&self) -> Option<Key> {
        Kind::from_name(&self.kind).map(|kind| Key::new(kind, &self.namespace, &self.name))
    }
}
