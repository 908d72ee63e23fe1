//! Who owns a child: adoption of ownerless ones, release of those that no longer match, and what a child needs
//! before it may be made. Shared by the controllers that have children. Owners are matched by uid only (S24).

use crate::model::{Kind, Namespace, Object, ObjectMeta, OwnerReference, Resource, Uid};
use crate::world::{Proposal, Stored, World};

/// The longest name of an object (a DNS subdomain).
const NAME_MAX: usize = 253;

/// Whether the object with this uid manages the child.
pub(super) fn is_controlled_by(child: &ObjectMeta, owner: Uid) -> bool {
    child.controller().is_some_and(|found| found.uid == owner)
}

/// Lists the children of a kind that an owner manages, in key order.
pub(super) fn children<'w, T: Resource>(
    world: &'w World,
    owner: &'w ObjectMeta,
) -> impl Iterator<Item = (&'w Stored, &'w T)> {
    world.dependents(owner.uid).filter_map(move |stored| {
        let child = T::from_object(&stored.object)?;
        let meta = child.meta();
        let ours = meta.namespace == owner.namespace && is_controlled_by(meta, owner.uid);
        ours.then_some((stored, &**child))
    })
}

/// Proposes that `owner` manages an ownerless child from now on.
pub(super) fn adopt(owner: &Stored, child: &Stored) -> Proposal {
    let mut object = child.object.clone();
    let reference = OwnerReference::controller_of(owner.object.kind(), owner.object.meta());
    object.meta_mut().owner_references.push(reference);
    Proposal::put_main(child, object).guarded_by_main(owner)
}

/// Proposes that a child is nobody's; `owner` is the owner to take off.
pub(super) fn release(child: &Stored, owner: Uid) -> Proposal {
    let mut object = child.object.clone();
    object.meta_mut().owner_references.retain(|reference| reference.uid != owner);
    Proposal::put_main(child, object)
}

/// Why no child may be made in a namespace; `None` when one may.
pub(super) fn refusal(world: &World, namespace: &str) -> Option<String> {
    namespace_of(world, namespace)
        .is_some_and(|stored| stored.object.meta().is_deleting())
        .then(|| format!("namespace {namespace} is being deleted"))
}

/// Proposes to create a child in a namespace that is as it is now: an emptied namespace must not fill again.
pub(super) fn create_in_namespace(world: &World, child: impl Into<Object>) -> Proposal {
    let child = child.into();
    let namespace = child.meta().namespace.clone();
    let key = crate::model::Key::cluster(Kind::Namespace, &namespace);
    let proposal = Proposal::create(child);
    match namespace_of(world, &namespace) {
        Some(stored) => proposal.guarded_by_main(stored),
        None if world.is_quarantined(&key) => proposal,
        None => proposal.guarded_by_absence(key),
    }
}

/// Joins an owner's name and a suffix to a child's name, shortening the owner's so that the name stays valid.
pub(super) fn child_name(owner: &str, suffix: &str) -> String {
    let room = NAME_MAX.saturating_sub(suffix.len() + 1);
    let mut end = room.min(owner.len());
    while !owner.is_char_boundary(end) {
        end -= 1;
    }
    // A label of the name must not end in a dash.
    format!("{}-{suffix}", owner[..end].trim_end_matches(['-', '.']))
}

fn namespace_of<'w>(world: &'w World, namespace: &str) -> Option<&'w Stored> {
    let stored = world.get(&crate::model::Key::cluster(Kind::Namespace, namespace))?;
    Namespace::from_object(&stored.object).map(|_| stored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::is_dns_subdomain;

    #[test]
    fn the_longest_owner_has_children_with_valid_names() {
        assert_eq!(child_name("web", "abc"), "web-abc");
        let long = format!("{}.{}", "a".repeat(246), "b".repeat(6));
        let name = child_name(&long, "xyz12");
        assert!(name.len() <= NAME_MAX && !name.contains(".-"), "{name}");
        assert!(is_dns_subdomain(&child_name("a.b", "xyz12")));
    }
}
