//! Nobody gives what they do not hold: who makes a role or a binding must have its rights.

use super::rules::{everything, missing};
use super::{Attributes, Who, permits, rules_of};
use crate::api::{Caller, Context, Rejection, find};
use crate::model::{Key, Kind, Object, PolicyRule, Revision, RoleRef, Subject};

/// Refuses a role or binding that would give rights its writer does not hold. Writers of anything else, and of what gives
/// nothing new, need no more than the right to write it.
pub(in crate::api) fn may_grant(
    context: &Context<'_>,
    old: Option<&Object>,
    new: &Object,
) -> Result<(), Rejection> {
    let Caller::User { name, groups } = context.caller else { return Ok(()) };
    let grant = Grant { context, who: Who { name, groups }, key: new.key() };
    match (old, new) {
        // A role's labels are rights too: with them it becomes part of others. As in Kubernetes, only what the garbage
        // collector writes is free.
        (Some(old @ (Object::Role(_) | Object::ClusterRole(_))), new)
            if is_same_but_owners(old, new) =>
        {
            Ok(())
        }
        (_, Object::Role(new)) => grant.role(&new.rules),
        // Whoever labels a role later would add to this one.
        (_, Object::ClusterRole(new)) if new.aggregation_rule.is_some() => grant.role(everything()),
        (_, Object::ClusterRole(new)) => grant.role(&new.rules),
        (Some(Object::RoleBinding(old)), Object::RoleBinding(new))
            if adds_nobody(&old.subjects, &new.subjects) =>
        {
            Ok(())
        }
        (_, Object::RoleBinding(new)) => grant.binding(&new.role_ref),
        (Some(Object::ClusterRoleBinding(old)), Object::ClusterRoleBinding(new))
            if adds_nobody(&old.subjects, &new.subjects) =>
        {
            Ok(())
        }
        (_, Object::ClusterRoleBinding(new)) => grant.binding(&new.role_ref),
        (
            _,
            Object::ConfigMap(_)
            | Object::Custom(_)
            | Object::CustomResourceDefinition(_)
            | Object::Deployment(_)
            | Object::Event(_)
            | Object::Lease(_)
            | Object::Namespace(_)
            | Object::Node(_)
            | Object::Pod(_)
            | Object::PodDisruptionBudget(_)
            | Object::ReplicaSet(_)
            | Object::Secret(_)
            | Object::Service(_)
            | Object::ServiceAccount(_),
        ) => Ok(()),
    }
}

/// Whether an object differs in nothing but its owners and finalizers (and what the API itself keeps of it).
fn is_same_but_owners(old: &Object, new: &Object) -> bool {
    let bare = |object: &Object| {
        let mut object = object.clone();
        let meta = object.meta_mut();
        meta.finalizers.clear();
        meta.managed_fields.clear();
        meta.owner_references.clear();
        meta.resource_version = Revision::ZERO;
        object
    };
    bare(old) == bare(new)
}

/// Whether everybody of `new` was there already. (The role of a binding cannot change.)
fn adds_nobody(old: &[Subject], new: &[Subject]) -> bool {
    new.iter().all(|subject| old.contains(subject))
}

/// A role or binding that a user wants to write.
struct Grant<'a> {
    context: &'a Context<'a>,
    who: Who<'a>,
    key: Key,
}

impl Grant<'_> {
    fn role(&self, rules: &[PolicyRule]) -> Result<(), Rejection> {
        let escalate = Attributes::of_key("escalate", &self.key, "");
        if permits(self.context.world, self.context.caller, &escalate) {
            return Ok(());
        }
        self.held(rules, "escalate")
    }

    fn binding(&self, role: &RoleRef) -> Result<(), Rejection> {
        let kind = if role.kind == Kind::Role.name() { Kind::Role } else { Kind::ClusterRole };
        let target = Key::new(kind, &self.key.namespace, &role.name);
        let mut bind = Attributes::of_key("bind", &target, "");
        if let super::Asked::Resource { namespace, .. } = &mut bind.asked {
            // The right to bind a cluster role in a namespace may be given there.
            *namespace = self.key.namespace.to_string();
        }
        let world = self.context.world;
        if permits(world, self.context.caller, &bind) {
            return Ok(());
        }
        // What a role that is still to come will give, nobody can hold.
        find(world, &target)?;
        self.held(rules_of(world, &self.key.namespace, role), "bind")
    }

    fn held(&self, rules: &[PolicyRule], verb: &str) -> Result<(), Rejection> {
        let held: Vec<&PolicyRule> =
            self.who.rules(self.context.world, &self.key.namespace).collect();
        let why = match missing(&held, rules) {
            Ok(None) => return Ok(()),
            Ok(Some(right)) => format!("it gives a right that you do not hold: {right}"),
            Err(most) => {
                format!("it gives more than {most} rights, too many to compare with yours")
            }
        };
        Err(Rejection::Forbidden {
            message: format!(
                "{} {:?} is forbidden: user {:?} is attempting to grant RBAC permissions not currently held: {why}; hold \
                 it, or have the verb {verb:?} on the role",
                self.key.kind.resource(),
                self.key.name,
                self.who.name
            ),
        })
    }
}
