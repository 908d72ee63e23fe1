//! Role-based access control: whether a user's roles permit what is asked.
//!
//! A pure function of the world: roles and bindings are objects like any other, and a change of them counts at once. The
//! rules are Kubernetes': rights add up, nothing denies, and nobody gives what they do not hold (`grant`).

mod attributes;
mod built_in;
mod grant;
mod rules;
#[cfg(test)]
mod scan_tests;
#[cfg(test)]
mod tests;

use crate::model::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Resource, Role, RoleBinding, RoleRef,
    ServiceAccount, SubjectName,
};
use crate::world::World;

use super::Caller;

pub use attributes::{Asked, Attributes};
pub use built_in::{AUTO_UPDATE_ANNOTATION, built_in_access};
pub(super) use grant::may_grant;

/// The group of those who may do everything.
pub const GROUP_MASTERS: &str = "system:masters";
/// The group of everybody whose identity is known.
pub const GROUP_AUTHENTICATED: &str = "system:authenticated";
/// The group of nodes.
pub const GROUP_NODES: &str = "system:nodes";
/// What the names of users that are nodes begin with.
pub const NODE_USER_PREFIX: &str = "system:node:";
/// The group of all service accounts; with `:` and a namespace, of those of that namespace.
pub const GROUP_SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

impl Caller {
    /// Makes the caller that a user is: an administrator if they are of [`GROUP_MASTERS`].
    pub fn user(name: impl Into<String>, groups: impl IntoIterator<Item = String>) -> Self {
        let name = name.into();
        let mut groups: Vec<String> = groups.into_iter().collect();
        if groups.iter().any(|group| group == GROUP_MASTERS) {
            return Self::Admin { name };
        }
        groups.push(GROUP_AUTHENTICATED.to_owned());
        groups.sort();
        groups.dedup();
        Self::User { name, groups }
    }

    /// Makes the caller that a service account is.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let groups =
            [GROUP_SERVICE_ACCOUNTS.to_owned(), format!("{GROUP_SERVICE_ACCOUNTS}:{namespace}")];
        Self::user(ServiceAccount::user_name(namespace, name), groups)
    }

    /// The name by which roles are bound to them, and under which they are told of.
    pub fn user_name(&self) -> String {
        match self {
            Self::Admin { name } | Self::User { name, .. } => name.clone(),
            Self::Node { name } => format!("{NODE_USER_PREFIX}{name}"),
        }
    }

    /// The groups they are of.
    pub fn groups(&self) -> Vec<String> {
        match self {
            Self::Admin { .. } => vec![GROUP_MASTERS.to_owned(), GROUP_AUTHENTICATED.to_owned()],
            Self::Node { .. } => vec![GROUP_NODES.to_owned(), GROUP_AUTHENTICATED.to_owned()],
            Self::User { groups, .. } => groups.clone(),
        }
    }
}

/// Whether somebody may do something, as far as that can be told without the objects: an administrator everything, a user
/// what their roles permit, a node speak for itself. What of that it may write is told when it does (S40).
pub fn permits(world: &World, caller: &Caller, attributes: &Attributes) -> bool {
    match caller {
        Caller::Admin { .. } => true,
        Caller::Node { name } => speaks_for(name, &attributes.asked),
        Caller::User { name, groups } => {
            let who = Who { name, groups };
            let namespace = attributes.namespace();
            who.rules(world, namespace).any(|rule| rules::matches(rule, attributes))
        }
    }
}

/// Whether something is below the node of this name, where its agent says what it has to say.
fn speaks_for(node: &str, asked: &Asked) -> bool {
    match asked {
        Asked::Path(_) => false,
        Asked::Resource { group, resource, subresource, name, .. } => {
            group == "orchestrator.dev"
                && resource == "nodes"
                && !subresource.is_empty()
                && name == node
        }
    }
}

/// All that the roles of somebody permit in a namespace, and everywhere.
pub fn permitted_rules(world: &World, caller: &Caller, namespace: &str) -> Vec<PolicyRule> {
    match caller {
        Caller::Admin { .. } => rules::everything().to_vec(),
        Caller::Node { .. } => Vec::new(),
        Caller::User { name, groups } => {
            let mut found: Vec<_> = Who { name, groups }.rules(world, namespace).cloned().collect();
            found.sort();
            found.dedup();
            found
        }
    }
}

/// A user as bindings name them.
#[derive(Clone, Copy, Debug)]
struct Who<'a> {
    name: &'a str,
    groups: &'a [String],
}

impl<'a> Who<'a> {
    /// The rules of all roles bound to the user: everywhere, and (unless it is empty) in a namespace. One that is bound to
    /// several of their names comes several times.
    fn rules<'w>(
        self,
        world: &'w World,
        namespace: &'w str,
    ) -> impl Iterator<Item = &'w PolicyRule> + use<'w, 'a> {
        let everywhere = self
            .names()
            .flat_map(|name| world.bindings_of::<ClusterRoleBinding>(&name, ""))
            .flat_map(|binding| cluster_rules(world, &binding.role_ref));
        let here = (!namespace.is_empty())
            .then(|| self.names())
            .into_iter()
            .flatten()
            .flat_map(move |name| world.bindings_of::<RoleBinding>(&name, namespace))
            .flat_map(move |binding| rules_of(world, namespace, &binding.role_ref));
        everywhere.chain(here)
    }

    /// The user and the groups.
    fn names(self) -> impl Iterator<Item = SubjectName> + use<'a> {
        let groups = self.groups.iter().cloned().map(SubjectName::Group);
        std::iter::once(SubjectName::User(self.name.to_owned())).chain(groups)
    }
}

/// The rules of a role that a binding of a namespace names; none if there is no such role.
fn rules_of<'w>(world: &'w World, namespace: &str, role: &RoleRef) -> &'w [PolicyRule] {
    match &*role.kind {
        kind if kind == Role::KIND.name() => {
            world.find::<Role>(namespace, &role.name).map_or(&[], |role| &role.rules)
        }
        _ => cluster_rules(world, role),
    }
}

/// The rules of a cluster role; none if there is no such role.
fn cluster_rules<'w>(world: &'w World, role: &RoleRef) -> &'w [PolicyRule] {
    world.find::<ClusterRole>("", &role.name).map_or(&[], |role| &role.rules)
}
