//! `ManagedFieldsEntry`: which fields of an object somebody owns.

use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::time::Time;

/// The fields that a manager owns through one kind of request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedFieldsEntry {
    /// The version of the object that the fields are of.
    pub api_version: String,
    /// The form of the fields: `FieldsV1`.
    pub fields_type: String,
    /// The fields.
    pub fields_v1: FieldsV1,
    /// Who owns them.
    pub manager: String,
    /// `Apply` for a server-side apply, `Update` for everything else.
    pub operation: ManagedBy,
    /// The subresource through which they were written; empty for the object itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
    /// When the set of fields changed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// How fields came to be owned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ManagedBy {
    /// By server-side apply: what the manager does not name any more goes.
    Apply,
    /// By any other write.
    #[default]
    Update,
}

/// A set of fields as JSON: `{"f:spec":{"f:replicas":{}}}`. Kept as text, which takes far less room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldsV1(Arc<str>);

impl FieldsV1 {
    /// The set as JSON.
    pub fn to_value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

impl From<&Value> for FieldsV1 {
    fn from(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

impl Default for FieldsV1 {
    fn default() -> Self {
        Self("{}".into())
    }
}

impl Serialize for FieldsV1 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FieldsV1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            value @ Value::Object(_) => Ok(Self::from(&value)),
            other => Err(D::Error::custom(format!("invalid type: {other}, expected an object"))),
        }
    }
}
