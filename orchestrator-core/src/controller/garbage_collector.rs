//! `GarbageCollector`: what goes with its owners, in which order, and what goes at last.
//!
//! Depends on `model` and `world`. What must hold: an object is collected only if every one of its owners is
//! absent, by uid, from one consistent world; uids are never used again, so that cannot become untrue (S24).
//! Nothing is concluded from a record that could not be read.

use std::collections::BTreeSet;

use super::{Change, Controller, DECISION_PROPOSALS_MAX, Decision, TimerReason};
use crate::model::{
    CustomKind, FOREGROUND_FINALIZER, Key, Kind, ORPHAN_FINALIZER, Object, ObjectMeta,
    OwnerReference, Timestamp, Uid,
};
use crate::mutants::{self, Mutant};
use crate::world::{Proposal, Stored, World, graceful_delete, is_held};

/// How often an owner that waits for its dependents is looked at again without a change, in milliseconds.
pub const COLLECTOR_RECHECK_MS: i64 = 30_000;

/// Collects what has no owner left: in the background, in the foreground, or not at all (orphan).
#[derive(Clone, Copy, Debug, Default)]
pub struct GarbageCollector;

impl Controller for GarbageCollector {
    fn name(&self) -> &'static str {
        "garbage-collector"
    }

    fn interest(&self, change: &Change, keys: &mut BTreeSet<Key>) {
        let Change::Object(change) = change else { return };
        let [before, after] =
            [&change.before, &change.after].map(|side| side.as_ref().map(Object::meta));
        let held = [&change.before, &change.after].map(|side| side.as_ref().map(is_held));
        let matters = |meta: &ObjectMeta| !meta.owner_references.is_empty() || meta.is_deleting();
        if let (Some(before), Some(after)) = (before, after) {
            let same = before.uid == after.uid
                && before.owner_references == after.owner_references
                && before.finalizers == after.finalizers
                && before.is_deleting() == after.is_deleting()
                && held[0] == held[1];
            if same {
                return;
            }
        }
        // An object that is gone leaves dependents behind, an object that changes may be one.
        let replaced = before.is_some_and(|b| after.is_some_and(|after| after.uid != b.uid));
        if replaced || after.is_none_or(matters) {
            keys.insert(change.key.clone());
        }
        for side in [before, after].into_iter().flatten() {
            for owner in &side.owner_references {
                keys.extend(keys_of(owner, &side.namespace));
            }
        }
    }

    fn reconcile(&self, key: &Key, world: &World, now: Timestamp) -> Decision {
        let mut run = Run { world, now, decision: Decision::nothing() };
        run.collect_left_behind(key);
        if let Some(stored) = world.get(key) {
            if stored.object.meta().is_deleting() {
                run.advance_deletion(stored);
            } else {
                run.check_owners(stored);
            }
        }
        run.decision
    }
}

/// How an owner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// There is no such object.
    Absent,
    /// It is there, or nobody knows.
    Present,
    /// It is being deleted and waits for its dependents to go.
    Waiting,
}

/// One look at one key.
struct Run<'w> {
    world: &'w World,
    now: Timestamp,
    decision: Decision,
}

impl<'w> Run<'w> {
    /// Looks at what depended on earlier objects of this name.
    fn collect_left_behind(&mut self, key: &Key) {
        let world = self.world;
        let left = world.absent_owners().flat_map(|owner| {
            world.dependents(owner).filter(move |dependent| {
                let meta = dependent.object.meta();
                meta.owner_references.iter().any(|reference| {
                    reference.uid == owner && names(reference, &meta.namespace, key)
                })
            })
        });
        for dependent in left {
            if !dependent.object.meta().is_deleting() {
                self.check_owners(dependent);
            }
        }
    }

    /// Deletes an object without owners left; takes lost owners off one that has others.
    fn check_owners(&mut self, stored: &Stored) {
        let meta = stored.object.meta();
        let standings: Vec<_> = meta
            .owner_references
            .iter()
            .map(|owner| self.standing(owner, &meta.namespace))
            .collect();
        if standings.iter().all(|standing| *standing == Standing::Present) {
            return;
        }
        if standings.contains(&Standing::Present) {
            let mut object = stored.object.clone();
            let mut keep = standings.iter().map(|standing| *standing == Standing::Present);
            object.meta_mut().owner_references.retain(|_| keep.next().unwrap_or(true));
            self.propose(Proposal::put_main(stored, object));
        } else if standings.contains(&Standing::Waiting) {
            self.delete_in_foreground(stored);
        } else {
            self.delete(stored);
        }
    }

    /// Does what holds an object that is being deleted, and removes it when nothing holds it any more.
    fn advance_deletion(&mut self, stored: &Stored) {
        let meta = stored.object.meta();
        if meta.has_finalizer(ORPHAN_FINALIZER) {
            let dependents: Vec<_> = self.dependents(meta.uid).collect();
            if dependents.is_empty() {
                self.release(stored, ORPHAN_FINALIZER);
            }
            for dependent in dependents {
                // Owners it lost meanwhile go too: who is left to itself is not collected for them.
                let mut object = dependent.object.clone();
                let namespace = object.meta().namespace.clone();
                object.meta_mut().owner_references.retain(|owner| {
                    owner.uid != meta.uid && self.standing(owner, &namespace) != Standing::Absent
                });
                self.propose(Proposal::put_main(dependent, object));
            }
        } else if meta.has_finalizer(FOREGROUND_FINALIZER) {
            let dependents: Vec<_> =
                self.dependents(meta.uid).filter(|d| blocks(d, meta.uid)).collect();
            if dependents.is_empty() {
                self.release(stored, FOREGROUND_FINALIZER);
                return;
            }
            for dependent in dependents {
                if !dependent.object.meta().is_deleting() {
                    self.check_owners(dependent);
                }
            }
            self.look_again();
        } else if may_remove(&stored.object) {
            self.propose(Proposal::delete(stored));
        }
    }

    /// Takes a finalizer off; the object goes with it if that was the last thing to hold it.
    fn release(&mut self, stored: &Stored, finalizer: &str) {
        let mut object = stored.object.clone();
        object.meta_mut().finalizers.retain(|name| name != finalizer);
        if may_remove(&object) {
            self.propose(Proposal::delete(stored));
        } else {
            self.propose(Proposal::put_main(stored, object));
        }
    }

    fn delete(&mut self, stored: &Stored) {
        if let Some(proposal) = graceful_delete(stored, None, self.now) {
            self.propose(proposal);
        }
    }

    /// Deletes a dependent of a waiting owner; it waits for its own dependents in turn.
    fn delete_in_foreground(&mut self, stored: &Stored) {
        let uid = stored.object.meta().uid;
        if !self.dependents(uid).any(|dependent| blocks(dependent, uid)) {
            return self.delete(stored);
        }
        let mut waiting = stored.clone();
        let meta = waiting.object.meta_mut();
        if !meta.has_finalizer(FOREGROUND_FINALIZER) {
            meta.finalizers.push(FOREGROUND_FINALIZER.to_owned());
        }
        self.delete(&waiting);
    }

    fn standing(&mut self, owner: &OwnerReference, namespace: &str) -> Standing {
        if owner.uid.is_nil() {
            // A reference to nobody in particular proves nothing.
            return Standing::Present;
        }
        if let Some(found) = self.world.by_uid(owner.uid) {
            if !names(owner, namespace, &found.object.key()) {
                // The reference names it wrongly, so nobody tells this dependent when it goes.
                self.look_again();
            }
            let meta = found.object.meta();
            let waits = meta.is_deleting() && meta.has_finalizer(FOREGROUND_FINALIZER);
            return if waits { Standing::Waiting } else { Standing::Present };
        }
        let kinds = match built_in(owner) {
            Some(kind) => vec![kind],
            None => self.world.defined_kinds(owner.group(), &owner.kind).collect(),
        };
        let may_be_there = |kind: &Kind| {
            let key = owner.key_in(namespace, *kind);
            self.world.is_quarantined(&key)
                || (mutants::on(Mutant::GarbageByName) && self.world.get(&key).is_some())
        };
        // A record that cannot be read, or a kind that is not kept here, may be the owner.
        if kinds.iter().any(may_be_there) {
            // Nobody is told when what could not be read goes: nothing that was known has changed.
            self.look_again();
            return Standing::Present;
        }
        match kinds.is_empty() {
            true => Standing::Present,
            false => Standing::Absent,
        }
    }

    fn look_again(&mut self) {
        let again = self.now.plus_millis(COLLECTOR_RECHECK_MS);
        self.decision.recheck(again, TimerReason::Periodic);
    }

    /// Lists what names this uid as an owner. Those without owner are filed under the nil uid: they are nobody's.
    fn dependents(&self, owner: Uid) -> impl Iterator<Item = &'w Stored> + use<'w> {
        let world = self.world;
        let dependents = (!owner.is_nil()).then(|| world.dependents(owner));
        dependents.into_iter().flatten()
    }

    fn propose(&mut self, proposal: Proposal) {
        if self.decision.proposals.len() < DECISION_PROPOSALS_MAX {
            self.decision.propose(proposal);
        }
    }
}

/// Whether foreground deletion of the owner waits for this dependent.
fn blocks(dependent: &Stored, owner: Uid) -> bool {
    let references = &dependent.object.meta().owner_references;
    references.iter().any(|reference| reference.uid == owner && reference.block_owner_deletion)
}

/// Whether nothing holds an object. A namespace goes with its own controller, which knows whether it is empty.
fn may_remove(object: &Object) -> bool {
    object.kind() != Kind::Namespace && !is_held(object)
}

/// Whether an owner reference from a namespace names an object, as far as can be told without its uid. No definition is
/// asked: what is gone may have been of a kind that is gone, too.
fn names(owner: &OwnerReference, namespace: &str, key: &Key) -> bool {
    owner.is_of(key.kind) && owner.key_in(namespace, key.kind) == *key
}

/// The keys an owner reference may name, told without a world.
fn keys_of(owner: &OwnerReference, namespace: &str) -> Vec<Key> {
    let kinds = match built_in(owner) {
        Some(kind) => vec![kind],
        None => {
            CustomKind::named(owner.group(), &owner.kind).into_iter().map(Kind::Custom).collect()
        }
    };
    kinds.into_iter().map(|kind| owner.key_in(namespace, kind)).collect()
}

/// The built-in kind of an owner, if it is of one.
fn built_in(owner: &OwnerReference) -> Option<Kind> {
    Kind::from_name(&owner.kind).filter(|kind| owner.is_of(*kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConfigMap, Namespace, Pod, Resource};
    use crate::store::RecordKey;
    use crate::testkit::objects::uid_of;
    use crate::testkit::sandbox::Sandbox;

    fn key(name: &str) -> Key {
        Key::new(Kind::ConfigMap, "default", name)
    }

    /// A config map owned by others; those whose name ends in `!` wait for it when deleted in the foreground.
    fn map(name: &str, owners: &[&str]) -> ConfigMap {
        let mut metadata = ObjectMeta::named("default", name);
        metadata.uid = uid_of(&key(name), 1);
        metadata.owner_references = owners
            .iter()
            .map(|owner| {
                let named = owner.trim_end_matches('!');
                OwnerReference {
                    block_owner_deletion: owner.ends_with('!'),
                    kind: "ConfigMap".to_owned(),
                    name: named.to_owned(),
                    uid: uid_of(&key(named), 1),
                    ..OwnerReference::default()
                }
            })
            .collect();
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    fn sandbox(maps: &[(&str, &[&str])]) -> Sandbox {
        let mut sandbox = Sandbox::new(vec![Box::new(GarbageCollector)]);
        for (name, owners) in maps {
            sandbox.put(map(name, owners));
        }
        sandbox.settle().expect("settled");
        sandbox
    }

    fn names(sandbox: &Sandbox) -> Vec<String> {
        sandbox.world().all::<ConfigMap>(None).map(|map| map.metadata.name.clone()).collect()
    }

    fn delete_with(sandbox: &mut Sandbox, name: &str, finalizer: &str) {
        let now = sandbox.now.to_time();
        sandbox.change(&key(name), |map: &mut ConfigMap| {
            map.metadata.deletion_timestamp = Some(now);
            map.metadata.deletion_grace_period_seconds = Some(0);
            map.metadata.finalizers = vec![finalizer.to_owned()];
        });
    }

    #[test]
    fn what_an_owner_leaves_behind_goes_after_it() {
        let mut sandbox = sandbox(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("other", &[])]);
        assert_eq!(names(&sandbox), ["a", "b", "c", "other"]);
        sandbox.remove(&key("a"));
        sandbox.settle().expect("settled");
        assert_eq!(names(&sandbox), ["other"]);
    }

    #[test]
    fn who_names_its_owner_wrongly_goes_after_it_all_the_same() {
        let mut sandbox = sandbox(&[("a", &[]), ("b", &["a"]), ("c", &["a"])]);
        sandbox.change(&key("b"), |map: &mut ConfigMap| {
            map.metadata.owner_references[0].name = "x".to_owned();
        });
        let mut far = map("far", &["a"]);
        far.metadata.namespace = "elsewhere".to_owned();
        sandbox.put(far);
        sandbox.settle().expect("settled");
        assert_eq!(names(&sandbox), ["a", "b", "c", "far"], "the owner lives");
        sandbox.remove(&key("a"));
        sandbox.settle().expect("settled");
        sandbox.advance(COLLECTOR_RECHECK_MS);
        sandbox.settle().expect("settled");
        assert_eq!(names(&sandbox), [""; 0]);
    }

    #[test]
    fn what_has_another_owner_stays_and_forgets_the_lost_one() {
        let mut sandbox = sandbox(&[("a", &[]), ("b", &[]), ("c", &["a", "b"])]);
        sandbox.remove(&key("a"));
        sandbox.settle().expect("settled");
        assert_eq!(names(&sandbox), ["b", "c"]);
        let left = sandbox.world().at::<ConfigMap>(&key("c")).expect("there").meta().clone();
        assert_eq!(left.owner_references.len(), 1);
        assert_eq!(left.owner_references[0].name, "b");
    }

    #[test]
    fn a_namesake_with_another_uid_is_no_owner() {
        let mut sandbox = sandbox(&[("a", &[]), ("b", &["a"])]);
        let mut namesake = map("a", &[]);
        namesake.metadata.uid = uid_of(&key("a"), 2);
        sandbox.put(namesake);
        sandbox.settle().expect("settled");
        assert_eq!(names(&sandbox), ["a"]);
    }

    #[test]
    fn an_owner_that_cannot_be_read_keeps_what_it_owns() {
        let mut sandbox = Sandbox::new(vec![Box::new(GarbageCollector)]);
        sandbox.put_raw(RecordKey::main(key("a")), "{ torn".into());
        sandbox.put(map("b", &["a"]));
        let mut custom = map("c", &["x"]);
        custom.metadata.owner_references[0].kind = "Gadget".to_owned();
        sandbox.put(custom);
        sandbox.settle().expect("settled");
        assert_eq!(names(&sandbox), ["b", "c"]);
    }

    #[test]
    fn in_the_foreground_dependents_go_first() {
        let mut sandbox = sandbox(&[("a", &[]), ("b", &["a!"]), ("c", &["b!"])]);
        sandbox.change(&key("c"), |map: &mut ConfigMap| {
            map.metadata.finalizers = vec!["example.org/backup".to_owned()];
        });
        delete_with(&mut sandbox, "a", FOREGROUND_FINALIZER);
        sandbox.settle().expect("settled");
        assert_eq!(names(&sandbox), ["a", "b", "c"], "all wait for the backup");
        let middle = sandbox.world().at::<ConfigMap>(&key("b")).expect("there").meta().clone();
        assert!(middle.is_deleting() && middle.has_finalizer(FOREGROUND_FINALIZER));
        sandbox.change(&key("c"), |map: &mut ConfigMap| map.metadata.finalizers.clear());
        sandbox.settle().expect("settled");
        assert_eq!(names(&sandbox), [""; 0]);
    }

    #[test]
    fn orphans_stay_without_their_owner() {
        let mut sandbox = sandbox(&[("a", &[]), ("b", &["a!"])]);
        delete_with(&mut sandbox, "a", ORPHAN_FINALIZER);
        sandbox.settle().expect("settled");
        assert_eq!(names(&sandbox), ["b"]);
        let left = sandbox.world().at::<ConfigMap>(&key("b")).expect("there");
        assert!(left.metadata.owner_references.is_empty());
    }

    #[test]
    fn s24_a_namespace_without_finalizers_is_left_to_its_controller() {
        let mut sandbox = sandbox(&[("a", &[])]);
        let metadata = ObjectMeta {
            deletion_timestamp: Some(sandbox.now.to_time()),
            finalizers: vec![FOREGROUND_FINALIZER.to_owned()],
            ..ObjectMeta::named("", "default")
        };
        sandbox.put(Namespace { metadata, ..Namespace::default() });
        sandbox.settle().expect("settled");
        let namespace = sandbox.world().find::<Namespace>("", "default").expect("it is not empty");
        assert_eq!(namespace.metadata.finalizers, [""; 0]);
    }

    #[test]
    fn a_running_pod_waits_for_its_agent() {
        let mut sandbox = sandbox(&[("a", &[]), ("b", &["a"])]);
        let mut pod = Pod::new("web", "nginx");
        pod.metadata.owner_references = map("x", &["a"]).metadata.owner_references;
        pod.node_name = "n1".to_owned();
        sandbox.put(pod.clone());
        sandbox.remove(&key("a"));
        sandbox.settle().expect("settled");
        let marked = sandbox.world().at::<Pod>(&pod.key()).expect("still there");
        assert!(marked.metadata.is_deleting());
        sandbox.change(&pod.key(), |pod: &mut Pod| {
            pod.metadata.deletion_grace_period_seconds = Some(0);
        });
        sandbox.settle().expect("settled");
        assert!(sandbox.world().get(&pod.key()).is_none());
    }
}
