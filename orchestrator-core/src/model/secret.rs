//! `Secret`: named bytes that never appear in logs.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::meta::{ObjectMeta, StringMap, is_false};
use super::residual::{Residual, keep_residual};

/// A value whose `Debug` form does not show it (S41).
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sensitive<T>(pub T);

impl<T> fmt::Debug for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Confidential data. At most 1 MiB in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct Secret {
    /// Base64 values.
    #[serde(skip_serializing_if = "is_empty")]
    pub data: Sensitive<StringMap>,
    /// Whether the data may never change again.
    #[serde(skip_serializing_if = "is_false")]
    pub immutable: bool,
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Plain values a client may send; admission moves them into `data`.
    #[serde(skip_serializing_if = "is_empty")]
    pub string_data: Sensitive<StringMap>,
    /// What the secret is for, such as `Opaque` (the default).
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

keep_residual!(Secret);

fn is_empty(map: &Sensitive<StringMap>) -> bool {
    BTreeMap::is_empty(&map.0)
}
