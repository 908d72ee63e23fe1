//! The control plane of a simulation: the engine, what is on its way to and from the store, and its deaths.

use std::sync::Arc;

use super::{RECENT_MAX, Simulation, at_once, ready};
use crate::api::{Caller, Rejection, Request, decide};
use crate::controller::{Controller, built_in};
use crate::election::{Election, LEASE_MS};
use crate::engine::{Engine, Output};
use crate::model::{Kind, Object, Timestamp, Uid};
use crate::scheduler::{FilterScore, Scheduler};
use crate::store::{CommitOutcome, Expect, Guard, StateStore, Txn, Write};
use crate::world::World;

/// At which commit of the control plane it dies, counted from 0, and whether the store still gets that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    /// The commit.
    pub commit: u64,
    /// Whether it is applied; its acknowledgement is lost in any case.
    pub applied: bool,
}

impl Simulation {
    /// The control plane dies. What was on its way to the store arrives or not; what it knew is gone.
    pub(super) fn crash(&mut self) -> Result<(), String> {
        for (_, txn) in std::mem::take(&mut self.commits) {
            match self.rng.below(3) {
                0 => _ = self.commit(txn)?,
                // A bind that arrives this late would overfill a node: its lead must be over by then. A store that is not
                // shared dies with the process that writes to it.
                1 if is_led(&txn) || !is_bind(&txn) => self.ghosts.push(txn),
                _ => {}
            }
        }
        self.restart()
    }

    /// A control plane that was paused does the next thing that it has in mind.
    pub(super) fn wake_paused(&mut self) -> Result<(), String> {
        let output = self.paused.as_mut().and_then(|engine| engine.poll_output(self.now));
        match output {
            Some(Output::Commit { txn, .. }) => match self.commit(txn)? {
                CommitOutcome::Committed(revision) => {
                    Err(format!("S32: a leader of an old lead wrote revision {revision}"))
                }
                CommitOutcome::Conflict { .. } | CommitOutcome::Unknown => Ok(()),
            },
            Some(Output::Answer { .. }) | None => Ok(()),
        }
    }

    /// Takes the lead from whoever had it.
    fn take_lead(&mut self) -> Result<Guard, String> {
        self.uids += 1;
        let mut election = Election::new(&format!("control-plane-{}", self.uids));
        election.handle_world(&self.truth, self.now);
        // The lease of the one before is over by then.
        let over = self.now.plus_millis(LEASE_MS);
        let claim =
            election.poll_claim(&self.truth, over, self.now).ok_or("L7: nobody may lead")?;
        self.commit(claim.to_txn())?;
        election.handle_world(&self.truth, over);
        election.lead(&self.truth, over).map(|lead| lead.guard).ok_or_else(|| "L7".to_owned())
    }

    /// A new control plane starts on what the store has.
    fn restart(&mut self) -> Result<(), String> {
        self.commits.clear();
        self.acknowledgements.clear();
        self.oracle.forget_decisions();
        self.undelivered.clear();
        let lead = if self.elects { Some(self.take_lead()?) } else { None };
        let page = at_once(self.store.load(None)).map_err(|error| error.to_string())?;
        let world = World::from_pages([page]);
        self.engine_watch =
            at_once(self.store.watch(world.revision())).map_err(|error| error.to_string())?;
        let engine = engine(world, self.now);
        let before = match lead {
            Some(lead) => std::mem::replace(&mut self.engine, engine.led_by(lead)),
            None => std::mem::replace(&mut self.engine, engine),
        };
        // One that was never elected had the store to itself, and died.
        let is_paused = self.elects && before.is_led() && self.rng.percent(50);
        self.paused = is_paused.then_some(before);
        Ok(())
    }

    /// Hands the engine what the store has committed; with `lag` only some of it.
    pub(super) fn deliver(&mut self, lag: u64) -> Result<(), String> {
        while let Some(batch) = ready(self.engine_watch.next()) {
            self.undelivered.push_back(batch.map_err(|error| error.to_string())?);
        }
        let held_back = self.rng.percent(lag);
        let mut count = if held_back { self.rng.below(2) } else { self.undelivered.len() };
        while count > 0 {
            let Some(batch) = self.undelivered.pop_front() else { break };
            self.engine.handle_batch(&batch);
            if self.hit(self.faults.batch_twice) {
                self.engine.handle_batch(&batch);
            }
            count -= 1;
        }
        Ok(())
    }

    pub(super) fn poll(&mut self, outputs: usize) {
        for _ in 0..outputs {
            match self.engine.poll_output(self.now) {
                Some(Output::Commit { ticket, txn }) => self.commits.push((ticket, txn)),
                Some(Output::Answer { .. }) => {}
                None => break,
            }
        }
    }

    /// One of the commits on their way arrives, in no particular order.
    pub(super) fn execute_one(&mut self) -> Result<(), String> {
        if self.commits.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.commits.len());
        let (ticket, txn) = self.commits.swap_remove(at);
        let number = self.decided;
        self.decided += 1;
        if let Some(point) = self.crash_at.filter(|point| point.commit == number) {
            if point.applied {
                self.commit(txn)?;
            }
            return self.restart();
        }
        let outcome = if self.hit(self.faults.commit_lost) {
            CommitOutcome::Unknown
        } else {
            let outcome = self.commit(txn.clone())?;
            self.oracle.decided(&txn, &outcome)?;
            if self.hit(self.faults.ack_lost) { CommitOutcome::Unknown } else { outcome }
        };
        self.acknowledgements.push((ticket, outcome));
        Ok(())
    }

    pub(super) fn acknowledge_one(&mut self) {
        if self.acknowledgements.is_empty() {
            return;
        }
        let at = self.rng.below(self.acknowledgements.len());
        let (ticket, outcome) = self.acknowledgements.swap_remove(at);
        self.engine.handle_committed(ticket, outcome, self.truth.revision(), self.now);
    }

    /// Decides and commits a request on the truth, as the API does.
    pub(super) fn request(
        &mut self,
        caller: &Caller,
        request: &Request,
    ) -> Result<CommitOutcome, String> {
        self.uids += 1;
        let uid = Uid::from_uuid(uuid::Uuid::from_u128(self.uids));
        match decide(&self.truth, caller, request, self.now, uid) {
            Ok(effect) => match effect.proposal {
                Some(proposal) => self.commit(proposal.to_txn()),
                None => Ok(CommitOutcome::Committed(self.truth.revision())),
            },
            Err(Rejection::NotFound { key }) => Err(format!("{REFUSED}{key} not found")),
            Err(rejection) => Err(format!("{REFUSED}{rejection}")),
        }
    }

    /// Commits, and checks every invariant on what that changed.
    pub(super) fn commit(&mut self, txn: Txn) -> Result<CommitOutcome, String> {
        let outcome = at_once(self.store.commit(txn)).map_err(|error| error.to_string())?;
        while let Some(batch) = ready(self.truth_watch.next()) {
            let batch = batch.map_err(|error| error.to_string())?;
            for change in &batch.changes {
                self.trace.write(change.key.object.to_string().as_bytes());
                self.trace.write(change.value.as_deref().unwrap_or_default());
            }
            let changes = self.truth.apply(&batch);
            for change in &changes {
                self.recent.push_back(describe(change));
            }
            while self.recent.len() > RECENT_MAX {
                self.recent.pop_front();
            }
            if let Some((name, reason)) = self.truth.quarantined().next() {
                return Err(format!("S11: {name} cannot be read: {reason}"));
            }
            self.oracle.check(&changes, &self.truth)?;
        }
        Ok(outcome)
    }
}

/// Marks an error that is a refused request and no broken invariant.
const REFUSED: &str = "refused: ";

pub(super) fn only_refused(error: String) -> Result<(), String> {
    if error.starts_with(REFUSED) { Ok(()) } else { Err(error) }
}

pub(super) fn engine(world: World, now: Timestamp) -> Engine {
    let scheduler: Arc<dyn Scheduler> = Arc::new(FilterScore::default());
    let controllers = built_in().into_iter().map(Arc::from).collect::<Vec<Arc<dyn Controller>>>();
    Engine::new(world, scheduler, controllers, now)
}

/// Whether a transaction is guarded by a lead.
fn is_led(txn: &Txn) -> bool {
    txn.guards.iter().any(|guard| guard.key.object.kind == Kind::Lease)
}

/// Whether a transaction gives a pod its node.
fn is_bind(txn: &Txn) -> bool {
    txn.writes.iter().any(|write| {
        write.key().object.kind == Kind::Pod
            && matches!((write, write.expect()), (Write::Put { .. }, Expect::At(_)))
    })
}

/// A change in a line.
fn describe(change: &crate::world::ObjectChange) -> String {
    let told = match &change.after {
        None => "is gone".to_owned(),
        Some(Object::Deployment(object)) => {
            let image = &object.spec.template.spec.containers[0].image;
            format!(
                "wants {:?} of {image}, {} ready",
                object.spec.replicas, object.status.ready_replicas
            )
        }
        Some(Object::ReplicaSet(object)) => {
            format!("wants {:?}, {} ready", object.spec.replicas, object.status.ready_replicas)
        }
        Some(Object::Pod(pod)) => {
            let deleting = if pod.metadata.is_deleting() { ", deleting" } else { "" };
            format!(
                "on {:?} is {:?}, ready: {}{deleting}",
                pod.node_name,
                pod.status.phase,
                pod.is_ready()
            )
        }
        Some(_) => "changed".to_owned(),
    };
    format!("{} {} {told}", change.revision, change.key)
}
