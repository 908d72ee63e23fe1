//! `PodTally`: how the pods of an owner stand, counted as they change: of a thousand pods nobody need look at all for the sake of one.

use std::ops::Bound;
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use crate::model::{Key, Object, Pod, Resource, StringMap, Time, Uid};

/// How the pods of one owner, or of nobody, stand in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodTally {
    alike: RedBlackTreeMapSync<Arc<StringMap>, PodsAlike>,
}

/// How pods of one owner that have the same labels stand; those of one template have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodsAlike {
    /// Having run to their end.
    pub finished: usize,
    /// Active and ready.
    pub ready: usize,
    /// Being deleted and not finished.
    pub terminating: usize,
    /// Active and not ready.
    pub unready: usize,
    /// Those that are ready, by when they became so; `None` for those that do not say.
    since: RedBlackTreeMapSync<Option<Time>, usize>,
}

impl PodTally {
    /// Lists those that have the same labels, with these.
    pub fn alike(&self) -> impl Iterator<Item = (&StringMap, &PodsAlike)> {
        self.alike.iter().map(|(labels, pods)| (&**labels, pods))
    }

    /// How many pods there are.
    pub fn pods(&self) -> usize {
        self.alike().map(|(_, pods)| pods.count()).sum()
    }

    fn change(&mut self, labels: &StringMap, change: impl FnOnce(&mut PodsAlike)) {
        match self.alike.get_mut(labels) {
            Some(pods) => change(pods),
            None => {
                let mut pods = PodsAlike::default();
                change(&mut pods);
                self.alike.insert_mut(Arc::new(labels.clone()), pods);
            }
        }
        if self.alike.get(labels).is_some_and(|pods| pods.count() == 0) {
            self.alike.remove_mut(labels);
        }
    }
}

impl PodsAlike {
    /// How many there are.
    pub const fn count(&self) -> usize {
        self.active() + self.finished + self.terminating
    }

    /// How many are neither finished nor being deleted.
    pub const fn active(&self) -> usize {
        self.ready + self.unready
    }

    /// How many have been ready since a time, or for longer.
    pub fn ready_since(&self, time: Time) -> usize {
        self.since
            .range(Some(Time::from_seconds(i64::MIN))..=Some(time))
            .map(|(_, count)| count)
            .sum()
    }

    /// The first time after `time` since when any is ready.
    pub fn next_ready(&self, time: Time) -> Option<Time> {
        let later = (Bound::Excluded(Some(time)), Bound::Unbounded);
        self.since.range(later).next().and_then(|(since, _)| *since)
    }

    fn enter(&mut self, state: State) {
        match state {
            State::Finished => self.finished += 1,
            State::Ready(since) => {
                self.ready += 1;
                let count = self.since.get(&since).copied().unwrap_or_default();
                self.since.insert_mut(since, count + 1);
            }
            State::Terminating => self.terminating += 1,
            State::Unready => self.unready += 1,
        }
    }

    fn leave(&mut self, state: State) {
        match state {
            State::Finished => self.finished -= 1,
            State::Ready(since) => {
                self.ready -= 1;
                match self.since.get(&since).copied().unwrap_or_default() {
                    0 | 1 => drop(self.since.remove_mut(&since)),
                    more => self.since.insert_mut(since, more - 1),
                }
            }
            State::Terminating => self.terminating -= 1,
            State::Unready => self.unready -= 1,
        }
    }
}

/// The tallies of all owners. A clone is a snapshot in O(1).
#[derive(Clone, Debug, Default)]
pub(super) struct Tallies {
    /// By the uid of whoever manages the pods, the nil uid for nobody, and by namespace.
    of: RedBlackTreeMapSync<Uid, RedBlackTreeMapSync<Arc<str>, PodTally>>,
}

impl Tallies {
    /// Takes in the new state of an object; `old` is the state it replaces.
    pub(super) fn replace(&mut self, key: &Key, old: Option<&Object>, new: Option<&Object>) {
        let (old, new) = (old.and_then(Standing::of), new.and_then(Standing::of));
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.change(key, &old, |pods| pods.leave(old.state));
        }
        if let Some(new) = new {
            self.change(key, &new, |pods| pods.enter(new.state));
        }
    }

    pub(super) fn of(&self, owner: Uid, namespace: &str) -> Option<&PodTally> {
        self.of.get(&owner)?.get(namespace)
    }

    pub(super) fn within<'t>(
        &'t self,
        namespace: &'t str,
    ) -> impl Iterator<Item = (Uid, &'t PodTally)> {
        self.of.iter().filter_map(move |(owner, places)| Some((*owner, places.get(namespace)?)))
    }

    fn change(&mut self, key: &Key, standing: &Standing<'_>, change: impl FnOnce(&mut PodsAlike)) {
        let owner = standing.owner;
        if !self.of.contains_key(&owner) {
            self.of.insert_mut(owner, RedBlackTreeMapSync::default());
        }
        let Some(places) = self.of.get_mut(&owner) else { return };
        if !places.contains_key(&key.namespace) {
            places.insert_mut(Arc::clone(&key.namespace), PodTally::default());
        }
        let Some(tally) = places.get_mut(&key.namespace) else { return };
        tally.change(standing.labels, change);
        if tally.alike.is_empty() {
            places.remove_mut(&key.namespace);
        }
        if places.is_empty() {
            self.of.remove_mut(&owner);
        }
    }
}

/// What of a pod is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Standing<'p> {
    owner: Uid,
    labels: &'p StringMap,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Finished,
    Ready(Option<Time>),
    Terminating,
    Unready,
}

impl<'p> Standing<'p> {
    /// How an object stands if it is a pod.
    fn of(object: &'p Object) -> Option<Self> {
        let pod = Pod::from_object(object)?;
        let state = match () {
            () if pod.is_finished() => State::Finished,
            () if pod.metadata.is_deleting() => State::Terminating,
            () if pod.is_ready() => State::Ready(ready_since(pod)),
            () => State::Unready,
        };
        let owner = pod.metadata.controller().map_or(Uid::default(), |owner| owner.uid);
        Some(Self { owner, labels: &pod.metadata.labels, state })
    }
}

fn ready_since(pod: &Pod) -> Option<Time> {
    let ready = pod.status.conditions.iter().find(|condition| condition.kind == "Ready");
    ready.and_then(|ready| ready.last_transition_time)
}
