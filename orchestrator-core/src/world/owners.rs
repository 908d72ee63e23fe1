//! The index of owners: who depends on whom, by uid, and which owners are gone.

use std::ops::Bound;

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use super::{insert_into, remove_from};
use crate::model::{Key, Kind, Object, Uid};

/// Who depends on whom. A clone is a snapshot in O(1).
#[derive(Clone, Debug, Default)]
pub(super) struct OwnerIndex {
    /// Objects by the uid of each owner; those without owner under the nil uid.
    dependents: RedBlackTreeMapSync<Uid, RedBlackTreeSetSync<Key>>,
    /// Uids that exist. A set of pairs, since a corrupted store may hold a uid twice.
    uids: RedBlackTreeSetSync<(Uid, Key)>,
    /// Owners that somebody depends on and that do not exist.
    absent: RedBlackTreeSetSync<Uid>,
}

impl OwnerIndex {
    /// Takes in the new state of an object; `old` is the state it replaces.
    pub(super) fn replace(&mut self, key: &Key, old: Option<&Object>, new: Option<&Object>) {
        if let (Some(old), Some(new)) = (old, new) {
            // Most changes are of a status and touch neither.
            if old.meta().uid == new.meta().uid && owners(old).eq(owners(new)) {
                return;
            }
        }
        if let Some(old) = old {
            self.remove(key, old);
        }
        if let Some(new) = new {
            self.insert(key, new);
        }
    }

    /// Lists what names this uid as an owner, in key order.
    pub(super) fn dependents(&self, owner: Uid) -> impl Iterator<Item = &Key> {
        self.dependents.get(&owner).into_iter().flatten()
    }

    /// Lists what names this uid as an owner, from a key on, in key order.
    pub(super) fn dependents_from(&self, owner: Uid, first: Key) -> impl Iterator<Item = &Key> {
        let range = (Bound::Included(first), Bound::Unbounded);
        self.dependents.get(&owner).into_iter().flat_map(move |keys| keys.range(range.clone()))
    }

    /// Finds an object by its uid.
    pub(super) fn find(&self, uid: Uid) -> Option<&Key> {
        // The least key there is.
        let first = Key { kind: Kind::ALL[0], namespace: "".into(), name: "".into() };
        let mut from = self.uids.range((Bound::Included((uid, first)), Bound::Unbounded));
        from.next().filter(|(found, _)| *found == uid).map(|(_, key)| key)
    }

    /// Lists the owners that somebody depends on and that do not exist.
    pub(super) fn absent(&self) -> impl Iterator<Item = Uid> {
        self.absent.iter().copied()
    }

    fn insert(&mut self, key: &Key, object: &Object) {
        let uid = object.meta().uid;
        if !uid.is_nil() {
            self.uids.insert_mut((uid, key.clone()));
            self.absent.remove_mut(&uid);
        }
        for owner in owners(object) {
            insert_into(&mut self.dependents, owner, key);
            if !owner.is_nil() && self.find(owner).is_none() {
                self.absent.insert_mut(owner);
            }
        }
    }

    fn remove(&mut self, key: &Key, object: &Object) {
        let uid = object.meta().uid;
        if !uid.is_nil() {
            self.uids.remove_mut(&(uid, key.clone()));
            if self.find(uid).is_none() && self.dependents.contains_key(&uid) {
                self.absent.insert_mut(uid);
            }
        }
        for owner in owners(object) {
            remove_from(&mut self.dependents, &owner, key);
            if !self.dependents.contains_key(&owner) {
                self.absent.remove_mut(&owner);
            }
        }
    }
}

/// The uids of an object's owners; the nil uid stands for having none.
fn owners(object: &Object) -> impl Iterator<Item = Uid> + '_ {
    let owners = &object.meta().owner_references;
    let none = owners.is_empty().then(Uid::default);
    owners.iter().map(|owner| owner.uid).chain(none)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConfigMap, ObjectMeta, OwnerReference};

    fn uid(number: u128) -> Uid {
        Uid::from_uuid(uuid::Uuid::from_u128(number))
    }

    fn map(name: &str, id: u128, owners: &[u128]) -> (Key, Object) {
        let mut metadata = ObjectMeta { uid: uid(id), ..ObjectMeta::named("default", name) };
        metadata.owner_references = owners
            .iter()
            .map(|owner| OwnerReference { uid: uid(*owner), ..OwnerReference::default() })
            .collect();
        let object = Object::from(ConfigMap { metadata, ..ConfigMap::default() });
        (object.key(), object)
    }

    #[test]
    fn an_owner_is_absent_only_while_somebody_depends_on_it() {
        let mut index = OwnerIndex::default();
        let (owner, child) = (map("owner", 1, &[]), map("child", 2, &[1]));
        index.replace(&child.0, None, Some(&child.1));
        assert_eq!(index.absent().collect::<Vec<_>>(), [uid(1)], "not there yet");
        index.replace(&owner.0, None, Some(&owner.1));
        assert_eq!(index.absent().count(), 0);
        assert_eq!(index.find(uid(1)), Some(&owner.0));
        index.replace(&owner.0, Some(&owner.1), None);
        assert_eq!(index.absent().collect::<Vec<_>>(), [uid(1)]);
        index.replace(&child.0, Some(&child.1), None);
        assert_eq!(index.absent().count(), 0);
    }

    #[test]
    fn an_object_of_the_same_name_with_another_uid_is_no_owner() {
        let mut index = OwnerIndex::default();
        let (old, new, child) = (map("owner", 1, &[]), map("owner", 9, &[]), map("child", 2, &[1]));
        index.replace(&old.0, None, Some(&old.1));
        index.replace(&child.0, None, Some(&child.1));
        index.replace(&old.0, Some(&old.1), Some(&new.1));
        assert_eq!(index.absent().collect::<Vec<_>>(), [uid(1)]);
        assert_eq!(index.dependents(uid(1)).collect::<Vec<_>>(), [&child.0]);
        assert_eq!(index.dependents(uid(9)).count(), 0);
    }
}
