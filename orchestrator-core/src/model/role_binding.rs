//! `RoleBinding` and `ClusterRoleBinding`: who has which rights.

use serde::{Deserialize, Serialize};

use super::meta::ObjectMeta;
use super::residual::{Residual, keep_residual};
use super::service_account::ServiceAccount;

/// The API group of roles, and of subjects that are users and groups.
pub const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

/// Gives subjects the rights of a role, or of a cluster role, in its namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct RoleBinding {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// The role. Immutable.
    pub role_ref: RoleRef,
    /// Who has its rights.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<Subject>,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

/// Gives subjects the rights of a cluster role everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct ClusterRoleBinding {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// The cluster role. Immutable.
    pub role_ref: RoleRef,
    /// Who has its rights.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<Subject>,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

keep_residual!(RoleBinding, ClusterRoleBinding);

/// Names a role or cluster role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RoleRef {
    /// `rbac.authorization.k8s.io`.
    pub api_group: String,
    /// `Role` or `ClusterRole`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// Somebody as requests name them: a service account is a user, too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SubjectName {
    /// All who are of a group.
    Group(String),
    /// The user of a name.
    User(String),
}

/// Names a user, a group or a service account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subject {
    /// Empty for a service account, else `rbac.authorization.k8s.io`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    /// `User`, `Group` or `ServiceAccount`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The namespace of a service account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

impl Subject {
    /// Who is meant, as requests name them; `None` for a kind or names that nobody has.
    pub fn in_requests(&self) -> Option<SubjectName> {
        match &*self.kind {
            "Group" => Some(SubjectName::Group(self.name.clone())),
            "ServiceAccount" => {
                let user = ServiceAccount::user_name(&self.namespace, &self.name);
                let is_this = ServiceAccount::of_user(&user) == Some((&self.namespace, &self.name));
                is_this.then_some(SubjectName::User(user))
            }
            "User" => Some(SubjectName::User(self.name.clone())),
            _ => None,
        }
    }
}
