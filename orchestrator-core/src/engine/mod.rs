//! The engine: every controller, the scheduler and the commit gate as one sans-IO state machine.
//!
//! Inputs are `handle_*`, outputs `poll_*`; time is a parameter. Nothing here awaits, reads a clock or
//! iterates in hash order, so that equal inputs give equal outputs. Depends on everything but `driver`.
//!
//! ```text
//!   batch, signal, bind request, timeout          commit, answer
//!            │ handle_*                                ▲ poll_output(now)
//!            ▼                                         │
//!   World ─ interest ─> Queue ─ reconcile ─> gate ─> in flight ─ handle_committed ─> (waits for its own commit)
//! ```

mod events;
mod gate;
mod placement;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::api::{Effect, Rejection};
use crate::controller::{Controller, Recheck, TimerReason};
use crate::model::{Key, Kind, Node, Revision, Timestamp, Workload};
use crate::mutants::{self, Mutant};
use crate::scheduler::{ClusterView, Scheduler};
use crate::store::{Batch, CommitOutcome, Guard, Txn};
use crate::world::{
    Change, EventNote, ObjectChange, ObjectWrite, Proposal, Signal, World, Written,
};

use events::EventRecorder;
pub use events::{EVENT_REFILL_MS, EVENTS_BURST_MAX, EVENTS_PENDING_MAX};
use placement::Placer;
use queue::{Queue, Work};

/// The least time between two roll-ups of one object's status, unless a condition changes.
pub const ROLL_UP_MS: i64 = 200;
/// How many conflicts in a row a piece of work may meet before it backs off.
const CONFLICTS_MAX: u32 = 16;

/// Identifies a commit in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Identifies a request for a bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Something the shell is to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Answer a bind request.
    Answer {
        /// Which.
        request: RequestId,
        /// The answer.
        result: Result<Effect, Rejection>,
    },
    /// Commit a transaction and report what became of it with [`Engine::handle_committed`].
    Commit {
        /// Its ticket.
        ticket: Ticket,
        /// The writes.
        txn: Txn,
    },
}

/// Counts of what the engine has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Binds proposed.
    pub binds: u64,
    /// Commits that conflicted.
    pub conflicts: u64,
    /// Events dropped for their rate.
    pub events_dropped: u64,
    /// Commits whose fate is not known yet.
    pub in_flight: u64,
    /// Proposals the gate refused.
    pub gated: u64,
    /// Panics of plug-ins, caught.
    pub panics: u64,
    /// Pods that wait for a node.
    pub pending_pods: u64,
    /// Work that waits.
    pub queued: u64,
    /// Times a controller was run.
    pub reconciles: u64,
}

/// Where a commit in flight came from.
#[derive(Clone, Debug)]
enum Origin {
    Controller(Work),
    Event(Key),
    Placement,
    Request { request: RequestId, effect: Box<Effect> },
}

/// What a piece of work waits for.
#[derive(Clone, Debug, Default)]
struct Hold {
    in_flight: u32,
    /// The world must have seen this much.
    until: Revision,
    /// Whether to run again afterwards.
    rerun: bool,
}

impl Hold {
    /// Whether a world that has seen this much has seen all that is waited for.
    fn is_over(&self, seen: Revision) -> bool {
        self.in_flight == 0 && self.until <= seen
    }
}

/// The control plane's decisions.
#[derive(Debug)]
pub struct Engine {
    world: World,
    view: ClusterView,
    controllers: Vec<Arc<dyn Controller>>,
    queue: Queue,
    holds: BTreeMap<Work, Hold>,
    /// Conflicts in a row.
    conflicts: BTreeMap<Work, u32>,
    placer: Placer,
    events: EventRecorder,
    in_flight: BTreeMap<Ticket, Origin>,
    outputs: VecDeque<Output>,
    roll_ups: BTreeMap<Key, Timestamp>,
    /// A guard of every transaction: that nobody else decides.
    lead: Option<Guard>,
    next_ticket: u64,
    stats: EngineStats,
}

impl Engine {
    /// Starts on a world as loaded from the store; every key that any controller is interested in is looked at once,
    /// and every node counts as just heard.
    pub fn new(
        mut world: World,
        scheduler: Arc<dyn Scheduler>,
        controllers: Vec<Arc<dyn Controller>>,
        now: Timestamp,
    ) -> Self {
        let nodes: Vec<String> =
            world.list(Kind::Node, None).map(|(key, _)| key.name.to_string()).collect();
        for node in nodes {
            world.hear(&Signal::Heartbeat { node, at: now });
        }
        let mut engine = Self {
            view: ClusterView::from_world(&world),
            world,
            controllers,
            queue: Queue::default(),
            holds: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            placer: Placer::new(scheduler),
            events: EventRecorder::default(),
            in_flight: BTreeMap::new(),
            outputs: VecDeque::new(),
            roll_ups: BTreeMap::new(),
            lead: None,
            next_ticket: 0,
            stats: EngineStats::default(),
        };
        let existing: Vec<_> =
            engine.world.iter().map(|(key, stored)| (key.clone(), stored.object.clone())).collect();
        for (key, object) in existing {
            let revision = object.meta().resource_version;
            engine.look_at(&Change::Object(ObjectChange {
                key,
                revision,
                before: None,
                after: Some(object),
            }));
        }
        engine
    }

    /// Has every transaction guarded, so that the store refuses it once somebody else leads (S32).
    #[must_use]
    pub fn led_by(mut self, lead: Guard) -> Self {
        self.lead = Some(lead);
        self
    }

    /// Whether its transactions are guarded by a lead.
    pub const fn is_led(&self) -> bool {
        self.lead.is_some()
    }

    /// The world as the engine has seen it.
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// The scheduler's view, binds in flight included.
    pub const fn view(&self) -> &ClusterView {
        &self.view
    }

    /// The scheduler.
    pub fn scheduler(&self) -> &Arc<dyn Scheduler> {
        self.placer.scheduler()
    }

    /// Counts of what was done.
    pub fn stats(&self) -> EngineStats {
        EngineStats {
            events_dropped: self.events.dropped(),
            in_flight: self.in_flight.len() as u64,
            pending_pods: self.placer.pending() as u64,
            queued: self.queue.len() as u64,
            ..self.stats
        }
    }

    /// Takes in a commit; returns what changed.
    pub fn handle_batch(&mut self, batch: &Batch) -> Vec<ObjectChange> {
        self.handle_written(batch, &mut Written::default())
    }

    /// The same, without reading what was `written` here.
    pub fn handle_written(&mut self, batch: &Batch, written: &mut Written) -> Vec<ObjectChange> {
        if batch.revision <= self.world.revision() {
            // Told twice; the world has it already.
            return Vec::new();
        }
        let changes = self.world.apply_written(batch, written);
        for change in &changes {
            self.view.apply(change);
            if change.after.is_none() {
                self.roll_ups.remove(&change.key);
            }
            if let (Kind::Node, None, Some(_)) = (change.key.kind, &change.before, &change.after) {
                // A node that nobody has heard yet would otherwise never be missed.
                self.hear_if_silent(&change.key);
            }
            if !(mutants::on(Mutant::LostEvent) && batch.revision.0.is_multiple_of(7)) {
                self.look_at(&Change::Object(change.clone()));
            }
        }
        self.placer.reached(self.world.revision());
        self.release_holds();
        changes
    }

    /// Takes in what became of a commit. `newest` is a revision of the store read after the outcome was known: what
    /// conflicted is looked at again once the world has reached it.
    pub fn handle_committed(
        &mut self,
        ticket: Ticket,
        outcome: CommitOutcome,
        newest: Revision,
        now: Timestamp,
    ) {
        let Some(origin) = self.in_flight.remove(&ticket) else { return };
        let committed = matches!(outcome, CommitOutcome::Committed(_));
        if !committed {
            self.stats.conflicts += 1;
        }
        match origin {
            Origin::Controller(work) => self.settle_work(work, committed, newest, now),
            Origin::Event(key) => self.events.settled(&key),
            Origin::Placement => self.settle_placement(ticket, committed, newest),
            Origin::Request { request, effect } => {
                self.settle_placement(ticket, committed, newest);
                let result = match outcome {
                    CommitOutcome::Committed(revision) => {
                        let mut effect = *effect;
                        effect.reply.set_revision(revision);
                        Ok(effect)
                    }
                    CommitOutcome::Conflict { key, .. } => Err(Rejection::Conflict {
                        key: key.object,
                        reason: "the object has been modified; please try again".to_owned(),
                    }),
                    CommitOutcome::Unknown => Err(Rejection::Unavailable {
                        message: "the fate of the bind is not known".to_owned(),
                    }),
                };
                self.outputs.push_back(Output::Answer { request, result });
            }
        }
    }

    /// Takes in something heard of a node.
    pub fn handle_signal(&mut self, signal: Signal) {
        self.world.hear(&signal);
        self.look_at(&Change::Signal(signal));
    }

    /// Takes in that nobody could hear anything until now, for the control plane did not run: as after a start every node counts as
    /// just heard, but for those that were missed before.
    pub fn handle_pause(&mut self, now: Timestamp) {
        let nodes = self.world.all::<Node>(None).filter(|node| !node.is_missed());
        let names: Vec<String> = nodes.map(|node| node.metadata.name.clone()).collect();
        for node in names {
            self.handle_signal(Signal::Excused { node, at: now });
        }
    }

    /// Takes a note for people.
    pub fn handle_note(&mut self, note: EventNote, now: Timestamp) {
        self.events.note(note, now);
    }

    /// Takes a request to bind a pod; the answer is an output.
    pub fn handle_bind(&mut self, request: RequestId, pod: &Key, node: &str, now: Timestamp) {
        match self.placer.bind_on_request(pod, node, &self.world, &mut self.view, now) {
            Ok((effect, proposal)) => {
                let origin = Origin::Request { request, effect: Box::new(effect) };
                let ticket = self.fly(origin, self.guarded(&proposal));
                self.placer.took_off(ticket, pod);
            }
            Err(rejection) => {
                self.outputs.push_back(Output::Answer { request, result: Err(rejection) })
            }
        }
    }

    /// Makes work ready whose time has come.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.queue.fire(now);
    }

    /// Returns the next thing to do, or `None` when there is nothing until the next input.
    pub fn poll_output(&mut self, now: Timestamp) -> Option<Output> {
        self.queue.fire(now);
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if let Some(work) = self.queue.pop() {
                self.run(work, now);
                continue;
            }
            if self.place(now) {
                continue;
            }
            let (key, proposal) = self.events.next(&self.world)?;
            self.fly(Origin::Event(key), self.guarded(&proposal));
        }
    }

    /// When to call [`Self::handle_timeout`] next, and why.
    pub fn poll_timeout(&self) -> Option<(Timestamp, TimerReason)> {
        self.queue.next_timer()
    }

    fn hear_if_silent(&mut self, key: &Key) {
        if self.world.signal(&key.name).last_heard.is_none() {
            let at = self
                .world
                .at::<crate::model::Node>(key)
                .and_then(|node| node.metadata.creation_timestamp);
            let at = at.map_or(Timestamp::default(), crate::model::Time::to_timestamp);
            self.world.hear(&Signal::Heartbeat { node: key.name.to_string(), at });
        }
    }

    /// Marks what a change makes worth looking at.
    fn look_at(&mut self, change: &Change) {
        if let Change::Object(change) = change {
            self.placer.note(change);
        }
        let mut keys = BTreeSet::new();
        for (controller, plug_in) in self.controllers.iter().enumerate() {
            keys.clear();
            if catch_unwind(AssertUnwindSafe(|| plug_in.interest(change, &mut keys))).is_err() {
                self.stats.panics += 1;
                tracing::debug!(controller = plug_in.name(), "interest panicked");
            }
            for key in std::mem::take(&mut keys) {
                self.queue.push(Work { controller, key });
            }
        }
    }

    /// Runs a controller on a key, unless its own commits are not all seen yet.
    fn run(&mut self, work: Work, now: Timestamp) {
        if let Some(hold) = self.holds.get_mut(&work)
            && !(mutants::on(Mutant::NoRevisionBarrier) && hold.in_flight == 0)
        {
            hold.rerun = true;
            return;
        }
        self.queue.clear_timer(&work);
        self.stats.reconciles += 1;
        let controller = &self.controllers[work.controller];
        let decided =
            catch_unwind(AssertUnwindSafe(|| controller.reconcile(&work.key, &self.world, now)));
        let Ok(decision) = decided else {
            self.stats.panics += 1;
            tracing::debug!(controller = controller.name(), key = %work.key, "reconcile panicked; backing off");
            self.queue.back_off(work, now);
            return;
        };
        if decision.proposals.is_empty() {
            self.queue.succeeded(&work);
            self.conflicts.remove(&work);
        }
        if let Some(recheck) = decision.recheck {
            self.queue.wake(work.clone(), recheck);
        }
        for note in decision.events {
            self.events.note(note, now);
        }
        for proposal in decision.proposals {
            self.propose(&work, proposal, now);
        }
    }

    /// Passes a controller's proposal through the gate and lets it fly.
    fn propose(&mut self, work: &Work, proposal: Proposal, now: Timestamp) {
        if let Some(at) = self.roll_up_later(&proposal, now) {
            self.queue.wake(work.clone(), Recheck { at, reason: TimerReason::Progress });
            return;
        }
        let txn = self.guarded(&proposal);
        match gate::check(&proposal, &txn, &self.world, &self.view) {
            Ok(()) => {
                self.holds.entry(work.clone()).or_default().in_flight += 1;
                self.fly(Origin::Controller(work.clone()), txn);
            }
            Err(reason) => {
                self.stats.gated += 1;
                tracing::debug!(key = %work.key, %reason, "proposal refused; backing off");
                self.queue.back_off(work.clone(), now);
            }
        }
    }

    /// Returns when a lone roll-up of a status may be written, if not now.
    fn roll_up_later(&mut self, proposal: &Proposal, now: Timestamp) -> Option<Timestamp> {
        let [ObjectWrite::PutStatus { object, .. }] = proposal.writes.as_slice() else {
            return None;
        };
        let new = object.workload()?.conditions;
        let key = object.key();
        let old = self.world.get(&key).and_then(|stored| stored.object.workload());
        let same = old.is_some_and(|Workload { conditions: old, .. }| {
            old.len() == new.len()
                && old.iter().zip(new).all(|(old, new)| {
                    old.kind == new.kind && old.status == new.status && old.reason == new.reason
                })
        });
        let last = self.roll_ups.get(&key).copied();
        match last.map(|last| last.plus_millis(ROLL_UP_MS)) {
            Some(at) if same && now < at => Some(at),
            Some(_) | None => {
                self.roll_ups.insert(key, now);
                None
            }
        }
    }

    /// Places pending pods; returns whether that led to anything.
    fn place(&mut self, now: Timestamp) -> bool {
        let placed = self.placer.place(&self.world, &mut self.view, now);
        self.stats.panics += placed.panics;
        let busy = !placed.binds.is_empty() || !placed.statuses.is_empty();
        for (pod, proposal) in placed.binds {
            self.stats.binds += 1;
            let ticket = self.fly(Origin::Placement, self.guarded(&proposal));
            self.placer.took_off(ticket, &pod);
        }
        for (pod, proposal) in placed.statuses {
            let ticket = self.fly(Origin::Placement, self.guarded(&proposal));
            self.placer.took_off(ticket, &pod);
        }
        for note in placed.notes {
            self.events.note(note, now);
        }
        busy
    }

    /// Encodes a proposal, on the condition that nobody else leads.
    fn guarded(&self, proposal: &Proposal) -> Txn {
        let mut txn = proposal.to_txn();
        txn.guards.extend(self.lead.clone());
        txn
    }

    fn fly(&mut self, origin: Origin, txn: Txn) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.in_flight.insert(ticket, origin);
        self.outputs.push_back(Output::Commit { ticket, txn });
        ticket
    }

    fn settle_work(&mut self, work: Work, committed: bool, newest: Revision, now: Timestamp) {
        let Some(hold) = self.holds.get_mut(&work) else { return };
        hold.in_flight -= 1;
        hold.until = hold.until.max(newest);
        if committed {
            self.queue.succeeded(&work);
            self.conflicts.remove(&work);
        } else {
            let conflicts = self.conflicts.entry(work.clone()).or_default();
            *conflicts += 1;
            hold.rerun = *conflicts <= CONFLICTS_MAX;
            if !hold.rerun {
                self.conflicts.remove(&work);
                self.queue.back_off(work.clone(), now);
            }
        }
        if hold.is_over(self.world.revision())
            && let Some(Hold { rerun: true, .. }) = self.holds.remove(&work)
        {
            self.queue.push(work);
        }
    }

    /// What conflicted is tried again once the world has caught up, which it may have already: no batch need come for it.
    fn settle_placement(&mut self, ticket: Ticket, committed: bool, newest: Revision) {
        self.placer.settled(ticket, committed, newest, &mut self.view);
        self.placer.reached(self.world.revision());
    }

    /// Lets work go on whose commits are all seen, now that the world has seen more.
    fn release_holds(&mut self) {
        let seen = self.world.revision();
        let queue = &mut self.queue;
        self.holds.retain(|work, hold| {
            let is_over = hold.is_over(seen);
            if is_over && hold.rerun {
                queue.push(work.clone());
            }
            !is_over
        });
    }
}
