//! `World`: all objects at one revision, with indexes and signals; what every decision reads.
//!
//! Persistent maps: a clone is a snapshot in O(1), so that readers, `explain` and forks never disturb the
//! engine. Depends on `model` and `store`. Iteration follows key order.

mod change;
mod codec;
mod deletion;
mod note;
mod owners;
mod proposal;
mod rhythm;
mod signal;
mod subjects;
mod tally;
mod written;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use crate::model::{
    CustomResourceDefinition, Deployment, Key, Kind, Node, Object, Part, Pod, ReplicaSet, Resource,
    Revision, SubjectName, Uid,
};
use crate::store::{Batch, Page, Quarantined, RecordChange, RecordKey, STATUS_MARK};

use owners::OwnerIndex;
use subjects::SubjectIndex;
use tally::Tallies;

pub use change::{Change, ObjectChange};
pub use codec::{CodecError, SCHEMA_VERSION, decode_main, decode_status, encode};
pub use deletion::{GRACE_SECONDS_MAX, graceful_delete, is_held};
pub use note::EventNote;
pub use proposal::{ObjectWrite, Proposal};
pub use rhythm::Rhythm;
pub use signal::{ContainerUsage, NodeSignal, NodeUsage, Signal};
pub use tally::{PodTally, PodsAlike};
pub use written::Written;

/// An object together with the revisions of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The object; its `resourceVersion` is the larger of the two revisions.
    pub object: Object,
    /// The revision that last wrote the main record.
    pub main: Revision,
    /// The revision that last wrote the status record; `None` if there is none yet.
    pub status: Option<Revision>,
}

/// All objects at one revision, and what is heard of nodes.
#[derive(Clone, Debug, Default)]
pub struct World {
    revision: Revision,
    objects: RedBlackTreeMapSync<Key, Stored>,
    /// How many there are of each kind.
    counts: RedBlackTreeMapSync<Kind, usize>,
    owners: OwnerIndex,
    pods_by_node: RedBlackTreeMapSync<String, RedBlackTreeSetSync<Key>>,
    tallies: Tallies,
    signals: RedBlackTreeMapSync<String, NodeSignal>,
    subjects: SubjectIndex,
    quarantine: RedBlackTreeMapSync<String, Unread>,
}

/// A record that is there and could not be read.
#[derive(Clone, Debug)]
struct Unread {
    reason: String,
    revision: Option<Revision>,
}

/// An object whose main record is there and could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable<'w> {
    /// Why.
    pub reason: &'w str,
    /// The commit that last wrote the main record, as far as is known.
    pub main: Option<Revision>,
    /// The one that last wrote the status record, if there is one.
    pub status: Option<Revision>,
}

impl World {
    /// Builds a world from the pages of a store's listing.
    pub fn from_pages(pages: impl IntoIterator<Item = Page>) -> Self {
        let mut world = Self::default();
        for page in pages {
            world.revision = page.revision;
            for Quarantined { key, reason, revision } in page.quarantined {
                world.quarantine.insert_mut(key, Unread { reason, revision });
            }
            // Main sorts before status, so that a status finds its object.
            for record in page.records {
                let change = RecordChange { key: record.key, value: Some(record.value) };
                world.apply_record(&change, record.revision, None);
            }
        }
        world.know_unread_statuses();
        world
    }

    /// Takes note of the statuses that the store has and cannot read, so that they are written anew and deleted with their objects.
    fn know_unread_statuses(&mut self) {
        let unread = self.quarantine.iter().filter_map(|(record, unread)| {
            Some((record.strip_suffix(STATUS_MARK)?.parse::<Key>().ok()?, unread.revision?))
        });
        for (key, revision) in unread.collect::<Vec<_>>() {
            self.know_unread_status(&key, revision);
        }
    }

    /// Takes note that an object has a status of a revision, which could not be read: what was known of it stays.
    fn know_unread_status(&mut self, key: &Key, revision: Revision) {
        if let Some(old) = self.objects.get(key).cloned() {
            let new = Stored { status: Some(revision), ..old.clone() };
            self.replace(key, Some(old), Some(new));
        }
    }

    /// The revision of the newest commit this world has seen.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Applies a commit and returns what changed, an entry per object.
    pub fn apply(&mut self, batch: &Batch) -> Vec<ObjectChange> {
        self.apply_written(batch, &mut Written::default())
    }

    /// The same, without reading what was `written` here.
    pub fn apply_written(&mut self, batch: &Batch, written: &mut Written) -> Vec<ObjectChange> {
        let mut changes: Vec<ObjectChange> = Vec::new();
        let mut places: BTreeMap<&Key, usize> = BTreeMap::new();
        for record in &batch.changes {
            let key = &record.key.object;
            let before = self.objects.get(key).map(|stored| stored.object.clone());
            self.apply_record(record, batch.revision, written.take(record));
            let after = self.objects.get(key).map(|stored| stored.object.clone());
            if let Some(place) = places.get(key) {
                changes[*place].after = after;
                continue;
            }
            places.insert(key, changes.len());
            changes.push(ObjectChange {
                key: key.clone(),
                revision: batch.revision,
                before,
                after,
            });
        }
        self.revision = self.revision.max(batch.revision);
        changes.retain(|change| change.before.is_some() || change.after.is_some());
        changes
    }

    /// Takes in what is heard of a node; not part of any revision.
    pub fn hear(&mut self, signal: &Signal) {
        let name = signal.node().to_owned();
        let known = self.signals.get(&name).cloned();
        // A node that was removed is heard no more, though its connection ends only now.
        if known.is_none() && matches!(signal, Signal::Cut { .. }) {
            return;
        }
        let known = known.unwrap_or_default();
        self.signals.insert_mut(name, known.with(signal));
    }

    /// Returns an object with its revisions.
    pub fn get(&self, key: &Key) -> Option<&Stored> {
        self.objects.get(key)
    }

    /// Returns an object of a kind.
    pub fn find<T: Resource>(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        self.get(&Key::new(T::KIND, namespace, name))
            .and_then(|stored| T::from_object(&stored.object))
    }

    /// Returns an object of a kind by key.
    pub fn at<T: Resource>(&self, key: &Key) -> Option<&Arc<T>> {
        self.get(key).and_then(|stored| T::from_object(&stored.object))
    }

    /// Returns a deployment of the namespace `default`; an absent one reads as empty (and is not available).
    pub fn deployment(&self, name: &str) -> Arc<Deployment> {
        self.find::<Deployment>("default", name).cloned().unwrap_or_else(|| {
            // A deployment that does not exist must not look available.
            let mut absent = Deployment::new(name, "");
            absent.metadata.generation = i64::MAX;
            Arc::new(absent)
        })
    }

    /// Lists the objects of a kind in key order; of one namespace, or of all.
    pub fn list<'w>(
        &'w self,
        kind: Kind,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = (&'w Key, &'w Stored)> {
        let namespace: Option<Arc<str>> = namespace.map(Into::into);
        let first = Key {
            kind,
            namespace: namespace.clone().unwrap_or_else(|| "".into()),
            name: "".into(),
        };
        self.objects.range((Bound::Included(first), Bound::Unbounded)).take_while(
            move |(key, _)| {
                key.kind == kind
                    && namespace.as_ref().is_none_or(|namespace| key.namespace == *namespace)
            },
        )
    }

    /// Lists the custom kinds of a group that are defined by a name, served or not; more than one only while two definitions
    /// want the same name.
    pub fn defined_kinds<'w>(
        &'w self,
        group: &'w str,
        name: &'w str,
    ) -> impl Iterator<Item = Kind> + use<'w> {
        let all = self.all::<CustomResourceDefinition>(None);
        let found =
            all.filter(move |found| found.spec.group == group && found.spec.names.kind == name);
        found.filter_map(|found| found.kind().map(Kind::Custom))
    }

    /// Lists the keys of what could not be read, as far as those can.
    pub fn quarantined_keys(&self) -> impl Iterator<Item = Key> {
        self.quarantined()
            .filter_map(|(record, _)| record.trim_end_matches(STATUS_MARK).parse().ok())
    }

    /// Lists the custom kinds of which there are objects, defined or not.
    pub fn custom_kinds_kept(&self) -> impl Iterator<Item = Kind> {
        // Behind every object of the built-in kinds; no namespace sorts behind "~".
        let mut last = Kind::ALL[Kind::ALL.len() - 1];
        std::iter::from_fn(move || {
            let after = Key { kind: last, namespace: "~".into(), name: "".into() };
            let mut rest = self.objects.range((Bound::Excluded(after), Bound::Unbounded));
            last = rest.next()?.0.kind;
            Some(last)
        })
    }

    /// Lists the objects of a kind after a key, in key order; for paging.
    pub fn list_after<'w>(
        &'w self,
        after: &Key,
    ) -> impl Iterator<Item = (&'w Key, &'w Stored)> + use<'w> {
        let kind = after.kind;
        self.objects
            .range((Bound::Excluded(after.clone()), Bound::Unbounded))
            .take_while(move |(key, _)| key.kind == kind)
    }

    /// Lists every object in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Stored)> {
        self.objects.iter()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.objects.size()
    }

    /// How many objects of a kind there are; costs no look at them.
    pub fn count(&self, kind: Kind) -> usize {
        self.counts.get(&kind).copied().unwrap_or_default()
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Lists typed objects of a kind in key order.
    pub fn all<'w, T: Resource>(
        &'w self,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = &'w Arc<T>> {
        self.list(T::KIND, namespace).filter_map(|(_, stored)| T::from_object(&stored.object))
    }

    /// Lists the objects that name this uid as an owner, in key order.
    pub fn dependents(&self, owner: Uid) -> impl Iterator<Item = &Stored> {
        self.owners.dependents(owner).filter_map(|key| self.objects.get(key))
    }

    /// Finds an object by its uid.
    pub fn by_uid(&self, uid: Uid) -> Option<&Stored> {
        self.owners.find(uid).and_then(|key| self.objects.get(key))
    }

    /// Lists the uids that somebody names as an owner and that no object has.
    pub fn absent_owners(&self) -> impl Iterator<Item = Uid> + '_ {
        self.owners.absent()
    }

    /// Lists the objects of a kind in a namespace that have no owner, in key order.
    pub fn ownerless<'w>(
        &'w self,
        kind: Kind,
        namespace: &'w str,
    ) -> impl Iterator<Item = &'w Stored> {
        let first = Key::new(kind, namespace, "");
        self.owners
            .dependents_from(Uid::default(), first)
            .take_while(move |key| key.kind == kind && *key.namespace == *namespace)
            .filter_map(|key| self.objects.get(key))
            .filter(|stored| stored.object.meta().owner_references.is_empty())
    }

    /// Lists the pods bound to a node, in key order.
    pub fn pods_on<'w>(&'w self, node: &str) -> impl Iterator<Item = &'w Arc<Pod>> {
        self.pods_by_node.get(node).into_iter().flatten().filter_map(|key| self.at::<Pod>(key))
    }

    /// How the pods that an owner manages in a namespace stand; `None` if there are none.
    pub fn tally(&self, owner: Uid, namespace: &str) -> Option<&PodTally> {
        (!owner.is_nil()).then(|| self.tallies.of(owner, namespace))?
    }

    /// Lists how the pods of a namespace stand, by the uid of who manages them, the nil uid for those that nobody does.
    pub fn tallies<'w>(&'w self, namespace: &'w str) -> impl Iterator<Item = (Uid, &'w PodTally)> {
        self.tallies.within(namespace)
    }

    /// Lists the bindings (of a kind of them) in a namespace that name a user or a group, in key order; cluster role bindings
    /// are in no namespace.
    pub fn bindings_of<'w, T: Resource>(
        &'w self,
        subject: &SubjectName,
        namespace: &str,
    ) -> impl Iterator<Item = &'w Arc<T>> + use<'w, T> {
        self.subjects.bindings(subject, T::KIND, namespace).filter_map(|key| self.at::<T>(key))
    }

    /// Returns a node.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.at(&Key::node(name))
    }

    /// Returns what is heard of a node; the default (never heard) if nothing.
    pub fn signal(&self, node: &str) -> NodeSignal {
        self.signals.get(node).cloned().unwrap_or_default()
    }

    /// Lists what could not be read: (record, reason).
    pub fn quarantined(&self) -> impl Iterator<Item = (&String, &String)> {
        self.quarantine.iter().map(|(record, unread)| (record, &unread.reason))
    }

    /// Lists the pods whose main records could not be read. Nobody knows their nodes.
    pub fn unreadable_pods(&self) -> impl Iterator<Item = Key> {
        self.quarantined_keys().filter(|key| key.kind == Kind::Pod && self.is_quarantined(key))
    }

    /// Returns what is known of an object whose main record is there and could not be read.
    pub fn unreadable(&self, key: &Key) -> Option<Unreadable<'_>> {
        let Unread { reason, revision } = self.quarantine.get(&key.to_string())?;
        let status = self.quarantine.get(&RecordKey::status(key.clone()).to_string());
        Some(Unreadable { reason, main: *revision, status: status.and_then(|it| it.revision) })
    }

    /// Whether the status of an object is there but could not be read.
    pub fn has_unread_status(&self, key: &Key) -> bool {
        let status = || RecordKey::status(key.clone()).to_string();
        !self.quarantine.is_empty() && self.quarantine.contains_key(&status())
    }

    /// Whether the main record of an object is there but could not be read; then nobody knows whether the object
    /// exists, and nothing may be concluded from its absence.
    pub fn is_quarantined(&self, key: &Key) -> bool {
        !self.quarantine.is_empty() && self.quarantine.contains_key(&key.to_string())
    }

    /// Applies a record; `written` is what reading it would give, if that is known.
    fn apply_record(&mut self, record: &RecordChange, revision: Revision, written: Option<Object>) {
        let key = &record.key.object;
        let old = self.objects.get(key).cloned();
        let new = match (record.key.part, &record.value) {
            (Part::Main, None) => Ok(None),
            (Part::Status, None) => Ok(old.clone().map(|mut stored| {
                stored.status = None;
                stored
            })),
            (Part::Main, Some(value)) => known(written, || decode_main(key, value)).map(|object| {
                let status = old.as_ref().and_then(|stored| stored.status);
                let object = match (&old, status) {
                    (Some(old), Some(_)) => object.with_status_of(&old.object),
                    _ => object,
                };
                Some(Stored { object, main: revision, status })
            }),
            (Part::Status, Some(value)) => match &old {
                Some(old) => {
                    let written = written.map(|written| old.object.with_status_of(&written));
                    known(written, || decode_status(&old.object, value)).map(|object| {
                        Some(Stored { object, main: old.main, status: Some(revision) })
                    })
                }
                None => Err(CodecError::no_object()),
            },
        };
        match new {
            Ok(new) => {
                self.quarantine.remove_mut(&record.key.to_string());
                self.replace(key, old, new);
            }
            Err(error) => {
                let unread = Unread { reason: error.to_string(), revision: Some(revision) };
                self.quarantine.insert_mut(record.key.to_string(), unread);
                if record.key.part == Part::Status {
                    self.know_unread_status(key, revision);
                }
            }
        }
    }

    /// Puts `new` in the place of `old` in the map and in every index.
    fn replace(&mut self, key: &Key, old: Option<Stored>, new: Option<Stored>) {
        let (before, after) = (old.as_ref(), new.as_ref());
        let objects = (before.map(|stored| &stored.object), after.map(|stored| &stored.object));
        let count = self.count(key.kind);
        match (old.is_some(), new.is_some()) {
            (false, true) => self.counts.insert_mut(key.kind, count + 1),
            (true, false) => self.counts.insert_mut(key.kind, count.saturating_sub(1)),
            (false, false) | (true, true) => {}
        }
        self.owners.replace(key, objects.0, objects.1);
        self.subjects.replace(key, objects.0, objects.1);
        self.tallies.replace(key, objects.0, objects.1);
        if let Some(node) = old.as_ref().and_then(|stored| node_of(&stored.object)) {
            remove_from(&mut self.pods_by_node, &node, key);
        }
        match new {
            None => {
                self.objects.remove_mut(key);
                if key.kind == Kind::Node {
                    self.signals.remove_mut(&key.name.to_string());
                }
            }
            Some(mut stored) => {
                stored.object.set_revision(
                    stored.status.map_or(stored.main, |status| status.max(stored.main)),
                );
                self.share_template(&mut stored.object);
                if let Some(node) = node_of(&stored.object) {
                    insert_into(&mut self.pods_by_node, node, key);
                }
                self.objects.insert_mut(key.clone(), stored);
            }
        }
    }

    /// Lets a pod share the spec of its replica set's template when they are equal.
    fn share_template(&self, object: &mut Object) {
        let Object::Pod(pod) = object else { return };
        let Some(owner) = pod.metadata.controller() else { return };
        let Some(owner) = self.find::<ReplicaSet>(&pod.metadata.namespace, &owner.name) else {
            return;
        };
        let template = &owner.spec.template.spec;
        if !Arc::ptr_eq(template, &pod.spec) && **template == *pod.spec {
            Arc::make_mut(pod).spec = Arc::clone(template);
        }
    }
}

fn node_of(object: &Object) -> Option<String> {
    match object {
        Object::Pod(pod) if pod.is_bound() => Some(pod.node_name.clone()),
        Object::ClusterRole(_)
        | Object::ClusterRoleBinding(_)
        | Object::ConfigMap(_)
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
        | Object::Role(_)
        | Object::RoleBinding(_)
        | Object::Secret(_)
        | Object::Service(_)
        | Object::ServiceAccount(_) => None,
    }
}

fn insert_into<I: Ord + Clone>(
    index: &mut RedBlackTreeMapSync<I, RedBlackTreeSetSync<Key>>,
    at: I,
    key: &Key,
) {
    let set = index.get(&at).cloned().unwrap_or_default();
    index.insert_mut(at, set.insert(key.clone()));
}

fn remove_from<I: Ord + Clone>(
    index: &mut RedBlackTreeMapSync<I, RedBlackTreeSetSync<Key>>,
    at: &I,
    key: &Key,
) {
    let Some(set) = index.get(at) else { return };
    let set = set.remove(key);
    if set.is_empty() {
        index.remove_mut(at);
    } else {
        index.insert_mut(at.clone(), set);
    }
}

/// What a record says: as it was written, or else as it is read.
fn known(
    written: Option<Object>,
    read: impl Fn() -> Result<Object, CodecError>,
) -> Result<Object, CodecError> {
    let Some(written) = written else { return read() };
    debug_assert!(
        read().is_ok_and(|read| read == written),
        "what is read differs from what was written: {written:?}"
    );
    Ok(written)
}
