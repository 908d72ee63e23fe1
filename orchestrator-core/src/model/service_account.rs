//! `ServiceAccount`: an identity for programs.

use serde::{Deserialize, Serialize};

use super::meta::ObjectMeta;
use super::residual::{Residual, keep_residual};

/// An identity for programs. Tokens for it are made by its subresource `token`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct ServiceAccount {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

keep_residual!(ServiceAccount);

impl ServiceAccount {
    /// The name under which a service account is a user: `system:serviceaccount:NAMESPACE:NAME`.
    pub fn user_name(namespace: &str, name: &str) -> String {
        format!("system:serviceaccount:{namespace}:{name}")
    }
}
