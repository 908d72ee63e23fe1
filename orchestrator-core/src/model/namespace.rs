//! `Namespace`: a scope for names.

use serde::{Deserialize, Serialize};

use super::meta::{Condition, ObjectMeta};
use super::residual::{Residual, keep_residual};

/// The label with a namespace's own name.
pub const LABEL_NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// The finalizer in `spec.finalizers` that holds a namespace until its objects are gone.
pub const NAMESPACE_FINALIZER: &str = "kubernetes";

/// A scope for names, deleted with everything in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct Namespace {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: NamespaceSpec,
    /// What is.
    pub status: NamespaceStatus,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

/// What is wanted of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct NamespaceSpec {
    /// What must be done before the namespace may go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

/// The state of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct NamespaceStatus {
    /// Why deletion takes long, if it does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// `Active` or `Terminating`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<NamespacePhase>,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

keep_residual!(Namespace, NamespaceSpec, NamespaceStatus);

/// The life of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NamespacePhase {
    /// In use.
    Active,
    /// Being emptied; nothing new may be made in it.
    Terminating,
}
