//! `Definitions`: accepts the names of custom kinds, and deletes the objects of a kind with its definition.
//!
//! Depends on `model` and `world`. What must hold: a kind is served under names that no other kind of its group has; a
//! definition goes only when no object of its kind is left, and nothing that such an object left behind. Whoever creates an
//! object guards its definition, so that nothing slips in while the finalizer is taken off.

use std::collections::BTreeSet;

use super::{Change, Controller, DECISION_PROPOSALS_MAX, Decision};
use crate::model::{
    CLEANUP_FINALIZER, CUSTOM_KINDS_MAX, Condition, ConditionStatus, CustomKind,
    CustomResourceDefinition, DefinitionNames, Key, Kind, Object, ObjectMeta, OwnerReference,
    Timestamp, set_condition,
};
use crate::world::{Proposal, Stored, World, graceful_delete, is_held};

/// Keeps the status of definitions, and deletes them with every object of their kinds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Definitions;

impl Controller for Definitions {
    fn name(&self) -> &'static str {
        "definition"
    }

    fn interest(&self, change: &Change, keys: &mut BTreeSet<Key>) {
        let Change::Object(change) = change else { return };
        match change.key.kind {
            Kind::CustomResourceDefinition => {
                // A name that is free again may be wanted by a sibling.
                let group = change.key.name.split_once('.').map_or("", |(_, group)| group);
                keys.insert(group_key(group));
            }
            Kind::Custom(kind) if change.after.is_none() => {
                keys.insert(Key::cluster(Kind::CustomResourceDefinition, &kind.definition_name()));
            }
            _ => {}
        }
        if let Some(before) = &change.before {
            let after = change.after.as_ref().map(Object::meta);
            let owned = |meta: &ObjectMeta| (meta.owner_references.clone(), meta.is_deleting());
            if after.map(owned) != Some(owned(before.meta())) {
                // What was left behind may be so no more. Built-in groups have no dot, but some of them.
                let owners = before.meta().owner_references.iter().map(OwnerReference::group);
                keys.extend(owners.filter(|group| group.contains('.')).map(group_key));
            }
        }
    }

    fn reconcile(&self, key: &Key, world: &World, now: Timestamp) -> Decision {
        let mut decision = Decision::nothing();
        if let Some(group) = key.name.strip_prefix("*.") {
            for found in world.all::<CustomResourceDefinition>(None) {
                let key = Key::cluster(Kind::CustomResourceDefinition, &found.metadata.name);
                if found.spec.group == group && decision.proposals.len() < DECISION_PROPOSALS_MAX {
                    keep(&mut decision, &key, world, now);
                }
            }
            return decision;
        }
        keep(&mut decision, key, world, now);
        decision
    }
}

/// Stands for all definitions of a group; no object has such a name.
fn group_key(group: &str) -> Key {
    Key::cluster(Kind::CustomResourceDefinition, &format!("*.{group}"))
}

fn keep(decision: &mut Decision, key: &Key, world: &World, now: Timestamp) {
    let Some(stored) = world.get(key) else { return };
    let Some(definition) = world.at::<CustomResourceDefinition>(key) else { return };
    if definition.metadata.is_deleting() {
        empty(decision, stored, definition, world, now);
    } else {
        accept(decision, stored, definition, world, now);
    }
}

/// Sets the names by which the kind is served, and whether it is.
fn accept(
    decision: &mut Decision,
    stored: &Stored,
    definition: &CustomResourceDefinition,
    world: &World,
    now: Timestamp,
) {
    let mut new = definition.clone();
    let status = &mut new.status;
    let taken = conflict(definition, world);
    let kind = definition.kind();
    if taken.is_none() {
        status.accepted_names.clone_from(&definition.spec.names);
    }
    let condition = |kind: &str, holds: bool, reason: &str, message: String| Condition {
        kind: kind.to_owned(),
        status: ConditionStatus::from(holds),
        reason: reason.to_owned(),
        message,
        ..Condition::default()
    };
    let now = now.to_time();
    let accepted = match &taken {
        None => condition("NamesAccepted", true, "NoConflicts", "no conflicts found".to_owned()),
        Some((reason, message)) => condition("NamesAccepted", false, reason, message.clone()),
    };
    set_condition(&mut status.conditions, accepted, now);
    // What is served stays so when it wants other names in vain.
    let is_established = definition.is_established() || taken.is_none();
    let established = match (kind, is_established) {
        (None, _) => {
            let message = format!("more than {CUSTOM_KINDS_MAX} custom kinds since the start");
            condition("Established", false, "TooManyKinds", message)
        }
        (Some(_), true) => {
            let message = "the initial names have been accepted".to_owned();
            condition("Established", true, "InitialNamesAccepted", message)
        }
        (Some(_), false) => {
            let message = "not all names are accepted".to_owned();
            condition("Established", false, "NotAccepted", message)
        }
    };
    set_condition(&mut status.conditions, established, now);
    if let Some(storage) = definition.storage()
        && !status.stored_versions.contains(&storage.name)
    {
        status.stored_versions.push(storage.name.clone());
    }
    if new != *definition {
        decision.propose(Proposal::put_status(stored, new));
    }
}

/// A name that another kind of the group is served by: why, in a word and in a sentence.
fn conflict(
    definition: &CustomResourceDefinition,
    world: &World,
) -> Option<(&'static str, String)> {
    let spec = &definition.spec;
    let others = world.all::<CustomResourceDefinition>(None).filter(|other| {
        other.spec.group == spec.group
            && other.metadata.name != definition.metadata.name
            // Of two that are new the first by name has the names, so that never both are served.
            && (other.is_established()
                || (!definition.is_established()
                    && other.metadata.name < definition.metadata.name))
    });
    let mut words = BTreeSet::new();
    let mut kinds = BTreeSet::new();
    for other in others {
        let names = match other.is_established() {
            true => &other.status.accepted_names,
            false => &other.spec.names,
        };
        words.extend(resource_words(names));
        kinds.extend([names.kind.as_str(), names.list_kind.as_str()]);
    }
    let in_use = |name: &str| format!("{name:?} is already in use");
    if let Some(name) = resource_words(&spec.names).find(|name| words.contains(name)) {
        let reason = match name {
            _ if name == spec.names.plural => "PluralConflict",
            _ if name == spec.names.singular => "SingularConflict",
            _ => "ShortNamesConflict",
        };
        return Some((reason, in_use(name)));
    }
    let mut own = [("KindConflict", &spec.names.kind), ("ListKindConflict", &spec.names.list_kind)]
        .into_iter();
    own.find(|(_, name)| !name.is_empty() && kinds.contains(name.as_str()))
        .map(|(reason, name)| (reason, in_use(name)))
}

fn resource_words(names: &DefinitionNames) -> impl Iterator<Item = &str> {
    let short = names.short_names.iter().map(String::as_str);
    let all = [names.plural.as_str(), names.singular.as_str()].into_iter().chain(short);
    all.filter(|name| !name.is_empty())
}

/// Deletes every object of the kind, and lets the definition go when none is left.
fn empty(
    decision: &mut Decision,
    stored: &Stored,
    definition: &CustomResourceDefinition,
    world: &World,
    now: Timestamp,
) {
    if !definition.metadata.has_finalizer(CLEANUP_FINALIZER) {
        return;
    }
    let mut is_empty = true;
    if let Some(kind) = definition.kind() {
        for (_, found) in world.list(Kind::Custom(kind), None) {
            is_empty = false;
            if decision.proposals.len() < DECISION_PROPOSALS_MAX {
                decision.proposals.extend(graceful_delete(found, None, now));
            }
        }
        is_empty &= !has_unreadable(kind, world) && !has_left_behind(kind, world);
    }
    if !is_empty {
        return;
    }
    let mut released = definition.clone();
    released.metadata.finalizers.retain(|name| name != CLEANUP_FINALIZER);
    let proposal = match is_held(&released.clone().into()) {
        false => Proposal::delete(stored),
        true => Proposal::put_main(stored, released),
    };
    decision.propose(proposal);
}

/// Whether there is a record of the kind that could not be read.
fn has_unreadable(kind: CustomKind, world: &World) -> bool {
    world.quarantined_keys().any(|key| key.kind == Kind::Custom(kind))
}

/// Whether something still names an object of the kind as an owner that is gone. The garbage collector can tell that the owner
/// was of this kind, and so that it is gone, only as long as there is a definition.
fn has_left_behind(kind: CustomKind, world: &World) -> bool {
    world.absent_owners().any(|owner| {
        world.dependents(owner).any(|dependent| {
            let meta = dependent.object.meta();
            let mut owners = meta.owner_references.iter();
            let is_left = owners.any(|found| found.uid == owner && found.is_of(Kind::Custom(kind)));
            is_left && !meta.is_deleting()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::GarbageCollector;
    use crate::model::{ConfigMap, CustomObject, DefinitionVersion};
    use crate::testkit::objects::uid_of;
    use crate::testkit::sandbox::Sandbox;

    fn definition(plural: &str, kind: &str) -> CustomResourceDefinition {
        let mut new = CustomResourceDefinition::default();
        let key = Key::cluster(Kind::CustomResourceDefinition, &format!("{plural}.example.com"));
        new.metadata = ObjectMeta { uid: uid_of(&key, 1), ..ObjectMeta::named("", &key.name) };
        new.metadata.finalizers.push(CLEANUP_FINALIZER.to_owned());
        "example.com".clone_into(&mut new.spec.group);
        "Namespaced".clone_into(&mut new.spec.scope);
        kind.clone_into(&mut new.spec.names.kind);
        plural.clone_into(&mut new.spec.names.plural);
        let version = DefinitionVersion { name: "v1".to_owned(), ..DefinitionVersion::default() };
        new.spec.versions.push(DefinitionVersion { served: true, storage: true, ..version });
        new
    }

    fn sandbox(definitions: &[CustomResourceDefinition]) -> Sandbox {
        let mut sandbox = Sandbox::new(vec![Box::new(Definitions)]);
        for definition in definitions {
            sandbox.put(definition.clone());
        }
        sandbox.settle().expect("settled");
        sandbox
    }

    fn find<'s>(sandbox: &'s Sandbox, plural: &str) -> Option<&'s CustomResourceDefinition> {
        let name = format!("{plural}.example.com");
        sandbox.world().find::<CustomResourceDefinition>("", &name).map(|found| &**found)
    }

    #[test]
    fn of_two_kinds_of_one_name_one_is_served() {
        let sandbox = sandbox(&[definition("gizmos", "Widget"), definition("widgets", "Widget")]);
        let first = find(&sandbox, "gizmos").expect("there");
        assert!(first.is_established());
        assert_eq!(first.status.stored_versions, ["v1"]);
        let second = find(&sandbox, "widgets").expect("there");
        assert!(!second.is_established());
        let accepted = second.status.conditions.iter().find(|it| it.kind == "NamesAccepted");
        let accepted = accepted.expect("a condition");
        assert_eq!(accepted.reason, "KindConflict");
        assert_eq!(accepted.message, "\"Widget\" is already in use");
    }

    #[test]
    fn what_an_object_leaves_behind_goes_before_the_definition_whatever_version_it_speaks_of() {
        let mut sandbox = Sandbox::new(vec![Box::new(Definitions), Box::new(GarbageCollector)]);
        let definition = definition("widgets", "Widget");
        let kind = definition.kind().expect("a kind");
        sandbox.put(definition);
        let mut owner = CustomObject::empty(kind);
        let key = Key::new(Kind::Custom(kind), "default", "a");
        owner.metadata = ObjectMeta { uid: uid_of(&key, 1), ..ObjectMeta::named("default", "a") };
        let reference = OwnerReference::controller_of(Kind::Custom(kind), &owner.metadata);
        let api_version = "example.com/never-heard-of".to_owned();
        let mut metadata = ObjectMeta::named("default", "left");
        metadata.owner_references = vec![OwnerReference { api_version, ..reference }];
        let left = ConfigMap { metadata, ..ConfigMap::default() };
        sandbox.put(owner);
        sandbox.put(left);
        sandbox.settle().expect("settled");
        assert!(sandbox.world().find::<ConfigMap>("default", "left").is_some(), "its owner lives");
        let name = Key::cluster(Kind::CustomResourceDefinition, "widgets.example.com");
        let stored = sandbox.world().get(&name).expect("there").clone();
        let deletion = graceful_delete(&stored, None, sandbox.now).expect("a change");
        sandbox.commit(&deletion).expect("no conflict");
        sandbox.settle().expect("settled");
        assert!(sandbox.world().find::<ConfigMap>("default", "left").is_none());
        assert!(find(&sandbox, "widgets").is_none());
    }

    #[test]
    fn a_name_that_is_free_again_is_given_to_who_waits() {
        let mut sandbox =
            sandbox(&[definition("gizmos", "Widget"), definition("widgets", "Widget")]);
        let key = Key::cluster(Kind::CustomResourceDefinition, "gizmos.example.com");
        let stored = sandbox.world().get(&key).expect("there").clone();
        sandbox.commit(&Proposal::delete(&stored)).expect("no conflict");
        sandbox.settle().expect("settled");
        assert!(find(&sandbox, "widgets").expect("there").is_established());
    }

    #[test]
    fn a_definition_goes_after_its_objects() {
        let mut sandbox = sandbox(&[definition("widgets", "Widget")]);
        let kind = find(&sandbox, "widgets").and_then(|found| found.kind()).expect("a kind");
        let mut held = CustomObject::empty(kind);
        held.metadata = ObjectMeta::named("default", "held");
        held.metadata.finalizers.push("example.com/backup".to_owned());
        let mut free = CustomObject::empty(kind);
        free.metadata = ObjectMeta::named("default", "free");
        sandbox.put(held);
        sandbox.put(free);
        let key = Key::cluster(Kind::CustomResourceDefinition, "widgets.example.com");
        let stored = sandbox.world().get(&key).expect("there").clone();
        let deletion = graceful_delete(&stored, None, sandbox.now).expect("a change");
        sandbox.commit(&deletion).expect("no conflict");
        sandbox.settle().expect("settled");
        let held = Key::new(Kind::Custom(kind), "default", "held");
        let left: Vec<_> = sandbox.world().list(Kind::Custom(kind), None).map(|it| it.0).collect();
        assert_eq!(left, [&held]);
        assert!(find(&sandbox, "widgets").is_some(), "it waits");
        let stored = sandbox.world().get(&held).expect("there").clone();
        sandbox.commit(&Proposal::delete(&stored)).expect("no conflict");
        sandbox.settle().expect("settled");
        assert!(find(&sandbox, "widgets").is_none());
    }
}
