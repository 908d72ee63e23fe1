//! `ServiceAccount`: an identity for programs.

use serde::{Deserialize, Serialize};

use super::meta::ObjectMeta;
use super::residual::{Residual, keep_residual};

/// What the names of users that are service accounts begin with.
const USER_PREFIX: &str = "system:serviceaccount:";

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
        format!("{USER_PREFIX}{namespace}:{name}")
    }

    /// The namespace and name of the service account that a user is, if it is one.
    pub fn of_user(user: &str) -> Option<(&str, &str)> {
        user.strip_prefix(USER_PREFIX)?.split_once(':')
    }
}
