//! `ConfigMap`: named texts for pods to read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::meta::{ObjectMeta, StringMap, is_false};
use super::residual::{Residual, keep_residual};

/// Configuration that is not secret. At most 1 MiB in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct ConfigMap {
    /// Base64 values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub binary_data: StringMap,
    /// Text values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub data: StringMap,
    /// Whether the data may never change again.
    #[serde(skip_serializing_if = "is_false")]
    pub immutable: bool,
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

keep_residual!(ConfigMap);
