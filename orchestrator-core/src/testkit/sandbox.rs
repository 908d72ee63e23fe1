//! `Sandbox`: controllers over records in memory, with a queue, timers and a clock that only tests move.
//!
//! No engine and no store: decisions are committed one by one, with every precondition checked. Pure; what must
//! hold is that equal calls give equal states.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug};

use bytes::Bytes;

use crate::controller::{Controller, Decision, Recheck, TimerReason};
use crate::model::{
    Condition, ConditionStatus, Key, Kind, Object, Part, Pod, PodPhase, Resource, Revision,
    Timestamp, set_condition,
};
use crate::store::{Batch, Expect, Page, Record, RecordChange, RecordKey, Txn, Write};
use crate::world::{Change, EventNote, ObjectChange, Proposal, Signal, World, encode};

/// The most runs [`Sandbox::settle`] makes before it gives up.
pub const SETTLE_RUNS_MAX: usize = 20_000;
/// The node that [`Sandbox::run_pods`] binds pods to.
pub const SANDBOX_NODE: &str = "n1";

/// Controllers that never come to rest.
#[derive(Debug)]
pub struct Unsettled {
    /// The controller and key that ran last.
    pub last: (&'static str, Key),
}

impl fmt::Display for Unsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (controller, key) = &self.last;
        write!(f, "not at rest after {SETTLE_RUNS_MAX} runs; last ran {controller} on {key}")
    }
}

/// A commit that a precondition refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The record whose precondition failed.
    pub key: RecordKey,
}

/// Controllers over records in memory.
#[derive(Debug)]
pub struct Sandbox {
    /// The controllers' clock.
    pub now: Timestamp,
    /// What controllers told people, in order.
    pub events: Vec<EventNote>,
    /// How many transactions controllers committed.
    pub commits: usize,
    controllers: Vec<Box<dyn Controller>>,
    records: BTreeMap<RecordKey, (Revision, Bytes)>,
    revision: Revision,
    world: World,
    queue: BTreeSet<(usize, Key)>,
    timers: BTreeMap<(usize, Key), Recheck>,
    heard: Vec<Signal>,
}

impl Sandbox {
    /// Makes an empty sandbox.
    pub fn new(controllers: Vec<Box<dyn Controller>>) -> Self {
        Self {
            now: Timestamp::from_millis(1_700_000_000_000),
            events: Vec::new(),
            commits: 0,
            controllers,
            records: BTreeMap::new(),
            revision: Revision::ZERO,
            world: World::default(),
            queue: BTreeSet::new(),
            timers: BTreeMap::new(),
            heard: Vec::new(),
        }
    }

    /// The newest world.
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// The controllers.
    pub fn controllers(&self) -> &[Box<dyn Controller>] {
        &self.controllers
    }

    /// Records an object as given, status included, whatever was there before.
    pub fn put(&mut self, object: impl Into<Object>) {
        let object = object.into();
        let mut parts = vec![Part::Main];
        parts.extend(object.kind().has_status().then_some(Part::Status));
        let changes = parts.into_iter().map(|part| RecordChange {
            key: RecordKey { object: object.key(), part },
            value: Some(encode(&object, part)),
        });
        self.apply(changes.collect());
    }

    /// Changes an object that is there.
    ///
    /// # Panics
    /// When there is no such object: a mistake of the test.
    pub fn change<T: Resource>(&mut self, key: &Key, change: impl FnOnce(&mut T)) {
        let object = self.world.at::<T>(key).expect("the test names an object that exists");
        let mut object = T::clone(object);
        change(&mut object);
        self.put(object.into_object());
    }

    /// Removes an object, if it is there.
    pub fn remove(&mut self, key: &Key) {
        let parts = [RecordKey::main(key.clone()), RecordKey::status(key.clone())];
        let there = parts.into_iter().filter(|key| self.records.contains_key(key));
        self.apply(there.map(|key| RecordChange { key, value: None }).collect());
    }

    /// Puts bytes into a record, readable or not.
    pub fn put_raw(&mut self, key: RecordKey, value: Bytes) {
        self.apply(vec![RecordChange { key, value: Some(value) }]);
    }

    /// Lets something be heard of a node.
    pub fn hear(&mut self, signal: Signal) {
        self.world.hear(&signal);
        self.heard.push(signal.clone());
        self.notify(&Change::Signal(signal));
    }

    /// Commits a proposal if all of its preconditions hold.
    ///
    /// # Errors
    /// [`Refused`] names the first precondition that does not hold; nothing is written then.
    ///
    /// # Panics
    /// When the transaction is malformed: a defect of whoever proposed it.
    pub fn commit(&mut self, proposal: &Proposal) -> Result<Vec<ObjectChange>, Refused> {
        let txn: Txn = proposal.to_txn();
        assert_eq!(txn.defect(), None, "a proposal must be a well-formed transaction");
        let guards = txn.guards.iter().map(|guard| (&guard.key, guard.expect));
        let writes = txn.writes.iter().map(|write| (write.key(), write.expect()));
        for (key, expect) in guards.chain(writes) {
            let current = self.records.get(key).map(|(revision, _)| *revision);
            let holds = match expect {
                Expect::Absent => current.is_none(),
                Expect::At(revision) => current == Some(revision),
            };
            if !holds {
                return Err(Refused { key: key.clone() });
            }
        }
        let changes = txn.writes.into_iter().map(|write| match write {
            Write::Delete { key, .. } => RecordChange { key, value: None },
            Write::Put { key, value, .. } => RecordChange { key, value: Some(value) },
        });
        Ok(self.apply(changes.collect()))
    }

    /// Takes over every record of another sandbox, as a program that starts loads a store.
    pub fn load(&mut self, other: &Self) {
        self.records = other.records.clone();
        self.revision = other.revision;
        let records = self.records.iter().map(|(key, (revision, value))| Record {
            key: key.clone(),
            revision: *revision,
            value: value.clone(),
        });
        let page = Page { revision: self.revision, records: records.collect(), ..Page::default() };
        self.world = World::from_pages([page]);
        for signal in &self.heard {
            self.world.hear(signal);
        }
        self.restart();
    }

    /// Queues every key that every object marks, as after a start.
    pub fn restart(&mut self) {
        self.timers.clear();
        let objects: Vec<_> = self
            .world
            .iter()
            .map(|(key, stored)| ObjectChange {
                key: key.clone(),
                revision: self.revision,
                before: None,
                after: Some(stored.object.clone()),
            })
            .collect();
        for change in objects {
            self.notify(&Change::Object(change));
        }
    }

    /// The keys that wait to be run, with the index of their controller.
    pub const fn queue(&self) -> &BTreeSet<(usize, Key)> {
        &self.queue
    }

    /// Forgets a key that waits to be run, or all.
    pub fn forget(&mut self, which: Option<&(usize, Key)>) {
        match which {
            Some(which) => drop(self.queue.remove(which)),
            None => self.queue.clear(),
        }
    }

    /// Runs one key of a controller now and commits its decision; returns the decision and how much of it held.
    pub fn run(&mut self, controller: usize, key: &Key) -> (Decision, usize) {
        self.queue.remove(&(controller, key.clone()));
        let decision = self.controllers[controller].reconcile(key, &self.world, self.now);
        let held = self.execute(controller, key, &decision);
        (decision, held)
    }

    /// Commits a decision, however old; returns how many of its transactions held.
    pub fn execute(&mut self, controller: usize, key: &Key, decision: &Decision) -> usize {
        self.timers.remove(&(controller, key.clone()));
        if let Some(recheck) = decision.recheck {
            self.timers.insert((controller, key.clone()), recheck);
        }
        self.events.extend(decision.events.iter().cloned());
        let mut held = 0;
        for proposal in &decision.proposals {
            match self.commit(proposal) {
                Ok(_) => held += 1,
                // Whoever meets a conflict looks again.
                Err(_) => drop(self.queue.insert((controller, key.clone()))),
            }
        }
        self.commits += held;
        held
    }

    /// Runs the first queued key; returns whether there was one.
    pub fn step(&mut self) -> bool {
        let Some((controller, key)) = self.queue.first().cloned() else { return false };
        self.run(controller, &key);
        true
    }

    /// Runs queued keys until none is left; time stands still.
    ///
    /// # Errors
    /// [`Unsettled`] after [`SETTLE_RUNS_MAX`] runs.
    pub fn settle(&mut self) -> Result<usize, Unsettled> {
        for runs in 0..SETTLE_RUNS_MAX {
            let Some((controller, key)) = self.queue.first().cloned() else { return Ok(runs) };
            if runs + 1 == SETTLE_RUNS_MAX {
                return Err(Unsettled { last: (self.controllers[controller].name(), key) });
            }
            self.run(controller, &key);
        }
        Ok(SETTLE_RUNS_MAX)
    }

    /// When the next timer runs.
    pub fn next_timer(&self) -> Option<Recheck> {
        self.timers.values().min_by_key(|recheck| recheck.at).copied()
    }

    /// Moves the clock and queues the keys whose timers have run.
    pub fn advance(&mut self, millis: i64) {
        self.now = self.now.plus_millis(millis);
        let now = self.now;
        let due: Vec<_> =
            self.timers.iter().filter(|(_, r)| r.at <= now).map(|(at, _)| at.clone()).collect();
        for at in due {
            self.timers.remove(&at);
            self.queue.insert(at);
        }
    }

    /// Settles, lets pods run, and moves the clock to timers that lead somewhere, until nothing is left to do.
    ///
    /// # Errors
    /// [`Unsettled`] when that takes too long.
    pub fn complete(&mut self) -> Result<(), Unsettled> {
        for _ in 0..SETTLE_RUNS_MAX {
            self.settle()?;
            if self.run_pods() > 0 {
                continue;
            }
            let timers = self.timers.values().filter(|r| r.reason == TimerReason::Progress);
            let Some(next) = timers.map(|recheck| recheck.at).min() else { return Ok(()) };
            self.advance(next.millis_since(self.now).max(1));
        }
        let first = self.queue.first().cloned();
        let (controller, key) = first.unwrap_or((0, Key::node("")));
        Err(Unsettled { last: (self.controllers[controller].name(), key) })
    }

    /// Does one thing to each pod, as a scheduler and an agent would: binds it, makes it run and ready, or removes it
    /// when it is to go. Returns how many pods changed.
    pub fn run_pods(&mut self) -> usize {
        let keys: Vec<_> = self.world.list(Kind::Pod, None).map(|(key, _)| key.clone()).collect();
        keys.iter().filter(|key| self.run_pod(key)).count()
    }

    /// Does the next thing to one pod; returns whether there was one.
    pub fn run_pod(&mut self, key: &Key) -> bool {
        let Some(pod) = self.world.at::<Pod>(key).cloned() else { return false };
        if pod.metadata.is_deleting() && pod.metadata.finalizers.is_empty() {
            self.remove(key);
        } else if !pod.is_bound() {
            self.change(key, |pod: &mut Pod| pod.node_name = SANDBOX_NODE.to_owned());
        } else if !pod.is_ready() && pod.is_active() {
            self.set_ready(key, true);
        } else {
            return false;
        }
        true
    }

    /// Makes a pod run and say whether it is ready.
    pub fn set_ready(&mut self, key: &Key, ready: bool) {
        let now = self.now.to_time();
        self.change(key, |pod: &mut Pod| {
            pod.status.phase = PodPhase::Running;
            let status = ConditionStatus::from(ready);
            let condition = Condition { kind: "Ready".to_owned(), status, ..Condition::default() };
            set_condition(&mut pod.status.conditions, condition, now);
        });
    }

    /// Ends a pod for ever.
    pub fn finish(&mut self, key: &Key, phase: PodPhase) {
        self.set_ready(key, false);
        self.change(key, |pod: &mut Pod| pod.status.phase = phase);
    }

    /// Lists the pods of a namespace that are neither finished nor being deleted.
    pub fn active_pods(&self, namespace: &str) -> Vec<Key> {
        let pods = self.world.all::<Pod>(Some(namespace));
        pods.filter(|pod| pod.is_active()).map(|pod| pod.key()).collect()
    }

    fn apply(&mut self, changes: Vec<RecordChange>) -> Vec<ObjectChange> {
        self.revision = Revision(self.revision.0 + 1);
        for change in &changes {
            match &change.value {
                Some(value) => {
                    self.records.insert(change.key.clone(), (self.revision, value.clone()));
                }
                None => drop(self.records.remove(&change.key)),
            }
        }
        let changes = self.world.apply(&Batch { revision: self.revision, changes });
        for change in &changes {
            self.notify(&Change::Object(change.clone()));
        }
        changes
    }

    fn notify(&mut self, change: &Change) {
        for (index, controller) in self.controllers.iter().enumerate() {
            let mut keys = BTreeSet::new();
            controller.interest(change, &mut keys);
            self.queue.extend(keys.into_iter().map(|key| (index, key)));
        }
    }
}
