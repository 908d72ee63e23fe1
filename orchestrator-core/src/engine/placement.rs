//! `Placer`: finds nodes for pending pods, and is the only place that binds.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{Ticket, gate};
use crate::api::{Effect, Rejection, bind_proposal};
use crate::model::{
    Condition, ConditionStatus, DEFAULT_SCHEDULER, EventType, Key, Kind, Object, Pod, Resource,
    Revision, Timestamp, Uid, set_condition,
};
use crate::mutants::{self, Mutant};
use crate::scheduler::{ClusterView, PodGroup, Scheduler, Trial};
use crate::world::{EventNote, ObjectChange, Proposal, World};

/// The most pods placed in one go, so that other work gets its turn.
const PLACEMENT_BATCH_MAX: usize = 512;

/// Pods that need a node.
#[derive(Debug)]
pub(super) struct Placer {
    scheduler: Arc<dyn Scheduler>,
    /// To be tried.
    pending: BTreeSet<Key>,
    /// Tried; they fit nowhere. Tried again when anything that could help changes (L4).
    waiting: BTreeSet<Key>,
    /// Their bind is in flight, or committed and not yet seen.
    bound: BTreeMap<Key, Uid>,
    flying: BTreeMap<Ticket, Key>,
    /// Their bind conflicted: to be tried when the world has reached the revision.
    held: Vec<(Revision, Key)>,
    /// What is to be told of binds that have been seen.
    arrived: Vec<EventNote>,
}

/// What a round of placing came to.
#[derive(Debug, Default)]
pub(super) struct Placed {
    pub(super) binds: Vec<(Key, Proposal)>,
    pub(super) statuses: Vec<(Key, Proposal)>,
    pub(super) notes: Vec<EventNote>,
    pub(super) panics: u64,
}

impl Placer {
    pub(super) fn new(scheduler: Arc<dyn Scheduler>) -> Self {
        Self {
            scheduler,
            pending: BTreeSet::new(),
            waiting: BTreeSet::new(),
            bound: BTreeMap::new(),
            flying: BTreeMap::new(),
            held: Vec::new(),
            arrived: Vec::new(),
        }
    }

    pub(super) const fn scheduler(&self) -> &Arc<dyn Scheduler> {
        &self.scheduler
    }

    /// How many pods need a node.
    pub(super) fn pending(&self) -> usize {
        self.pending.len() + self.waiting.len() + self.held.len()
    }

    /// Learns what a change means for pods that need a node.
    pub(super) fn note(&mut self, change: &ObjectChange) {
        if change.key.kind == Kind::Node {
            self.retry_all();
        } else if change.key.kind == Kind::Pod {
            self.note_pod(change);
        }
    }

    /// Learns that a commit's fate is known; one that failed is tried again when the world has caught up.
    pub(super) fn settled(
        &mut self,
        ticket: Ticket,
        committed: bool,
        newest: Revision,
        view: &mut ClusterView,
    ) {
        let Some(key) = self.flying.remove(&ticket) else { return };
        if committed {
            return;
        }
        if let Some(uid) = self.bound.remove(&key) {
            view.forget(uid);
            // The room it was to take is free again.
            self.retry_all();
        }
        self.held.push((newest, key));
    }

    /// Learns how far the world is.
    pub(super) fn reached(&mut self, revision: Revision) {
        let (due, held) =
            std::mem::take(&mut self.held).into_iter().partition(|(until, _)| *until <= revision);
        self.held = held;
        let due: Vec<(Revision, Key)> = due;
        self.pending.extend(due.into_iter().map(|(_, key)| key));
    }

    /// Learns the ticket of a bind, or of the status that says why there is none.
    pub(super) fn took_off(&mut self, ticket: Ticket, pod: &Key) {
        self.flying.insert(ticket, pod.clone());
    }

    /// Tries the pending pods in key order, as one batch.
    pub(super) fn place(
        &mut self,
        world: &World,
        view: &mut ClusterView,
        now: Timestamp,
    ) -> Placed {
        let notes = std::mem::take(&mut self.arrived);
        let mut placed = Placed { notes, ..Placed::default() };
        let mut batch = Vec::new();
        while batch.len() < PLACEMENT_BATCH_MAX {
            let Some(key) = self.pending.pop_first() else { break };
            batch.extend(world.at::<Pod>(&key).filter(|pod| self.is_ours(pod)).cloned());
        }
        if batch.is_empty() {
            return placed;
        }
        let scheduler = Arc::clone(&self.scheduler);
        let decided = catch_unwind(AssertUnwindSafe(|| {
            let mut trial = Trial::new(view.clone());
            scheduler.place_batch(&PodGroup::group(batch.iter().cloned()), &mut trial);
            trial.into_outcomes()
        }));
        let Ok(outcomes) = decided else {
            placed.panics += 1;
            for pod in &batch {
                self.unfit(pod, "the scheduler panicked", world, now, &mut placed);
            }
            return placed;
        };
        let mut forgotten: BTreeMap<Uid, &Arc<Pod>> =
            batch.iter().map(|pod| (pod.metadata.uid, pod)).collect();
        for (pod, outcome) in outcomes {
            // A scheduler may say what it likes; only pods it was asked about, once each, count.
            if forgotten.remove(&pod.metadata.uid).is_none() {
                continue;
            }
            let bound = match outcome {
                Err(unfit) => Err(unfit.to_string()),
                Ok(placement) => self.bind(&pod, &placement.node, world, view, now),
            };
            match bound {
                Ok(proposal) => placed.binds.push((pod.key(), proposal)),
                Err(reason) => self.unfit(&pod, &reason, world, now, &mut placed),
            }
        }
        for pod in forgotten.into_values() {
            self.unfit(pod, "the scheduler said nothing about this pod", world, now, &mut placed);
        }
        placed
    }

    /// Binds a pod where a caller wants it, if it fits there.
    pub(super) fn bind_on_request(
        &mut self,
        key: &Key,
        node: &str,
        world: &World,
        view: &mut ClusterView,
        now: Timestamp,
    ) -> Result<(Effect, Proposal), Rejection> {
        let conflict =
            |reason: &str| Rejection::Conflict { key: key.clone(), reason: reason.to_owned() };
        if self.bound.contains_key(key) {
            return Err(conflict("the pod is being bound"));
        }
        // Validates before anything else, so that a missing pod is told from one that does not fit.
        bind_proposal(world, key, node, now)?;
        let pod = world.at::<Pod>(key).ok_or_else(|| Rejection::NotFound { key: key.clone() })?;
        let proposal =
            self.bind(pod, node, world, view, now).map_err(|reason| conflict(&reason))?;
        self.pending.remove(key);
        self.waiting.remove(key);
        let mut reply = (**pod).clone();
        node.clone_into(&mut reply.node_name);
        let effect = Effect {
            proposal: None,
            reply: Object::from(reply),
            deleted: false,
            created: false,
            warnings: Vec::new(),
        };
        Ok((effect, proposal))
    }

    /// The gate of every bind: the same `feasible`, on the view that includes binds in flight.
    fn bind(
        &mut self,
        pod: &Arc<Pod>,
        node: &str,
        world: &World,
        view: &mut ClusterView,
        now: Timestamp,
    ) -> Result<Proposal, String> {
        let mut wanted = (**pod).clone();
        node.clone_into(&mut wanted.node_name);
        gate::fits(&wanted, view)?;
        let key = pod.key();
        let proposal =
            bind_proposal(world, &key, node, now).map_err(|rejection| rejection.to_string())?;
        if !mutants::on(Mutant::FlightsForgotten) {
            view.assume(pod, node);
        }
        self.bound.insert(key, pod.metadata.uid);
        Ok(proposal)
    }

    /// Records why a pod has no node, once per reason.
    fn unfit(
        &mut self,
        pod: &Arc<Pod>,
        message: &str,
        world: &World,
        now: Timestamp,
        placed: &mut Placed,
    ) {
        let key = pod.key();
        self.waiting.insert(key.clone());
        let known = pod.status.conditions.iter().find(|condition| condition.kind == "PodScheduled");
        if known
            .is_some_and(|known| known.status == ConditionStatus::False && known.message == message)
        {
            return;
        }
        let Some(stored) = world.get(&key) else { return };
        let mut new = (**pod).clone();
        let condition = Condition {
            kind: "PodScheduled".to_owned(),
            status: ConditionStatus::False,
            reason: "Unschedulable".to_owned(),
            message: message.to_owned(),
            ..Condition::default()
        };
        set_condition(&mut new.status.conditions, condition, now.to_time());
        placed.statuses.push((key.clone(), Proposal::put_status(stored, new)));
        placed.notes.push(EventNote {
            about: key,
            uid: pod.metadata.uid,
            kind: EventType::Warning,
            reason: "FailedScheduling".to_owned(),
            message: message.to_owned(),
        });
    }

    fn note_pod(&mut self, change: &ObjectChange) {
        let key = &change.key;
        let pod = |object: &Option<Object>| match object {
            Some(Object::Pod(pod)) => Some(Arc::clone(pod)),
            Some(_) | None => None,
        };
        let (before, after) = (pod(&change.before), pod(&change.after));
        let holds = |pod: &Option<Arc<Pod>>| {
            pod.as_ref().is_some_and(|pod| pod.is_bound() && !pod.is_finished())
        };
        if holds(&before) && !holds(&after) {
            self.retry_all();
        }
        match &after {
            Some(pod) if self.is_ours(pod) => {
                if !self.bound.contains_key(key) && !self.held.iter().any(|(_, held)| held == key) {
                    self.waiting.remove(key);
                    self.pending.insert(key.clone());
                }
            }
            Some(_) | None => {
                self.pending.remove(key);
                self.waiting.remove(key);
                let flew = self.bound.remove(key).is_some();
                match after.filter(|pod| pod.is_bound()) {
                    Some(pod) if flew => self.arrived.push(arrived(key, &pod)),
                    // It was on its way to a node and will not arrive: its room is free again.
                    None if flew => self.retry_all(),
                    Some(_) | None => {}
                }
            }
        }
    }

    fn retry_all(&mut self) {
        if !mutants::on(Mutant::UnfitForgotten) {
            self.pending.append(&mut self.waiting);
        }
    }

    /// Whether the pod is to be placed by this scheduler.
    fn is_ours(&self, pod: &Pod) -> bool {
        let name = pod.spec.scheduler_name.as_str();
        !pod.is_bound()
            && pod.is_active()
            && (name.is_empty() || name == DEFAULT_SCHEDULER || name == self.scheduler.name())
    }
}

fn arrived(key: &Key, pod: &Pod) -> EventNote {
    EventNote {
        about: key.clone(),
        uid: pod.metadata.uid,
        kind: EventType::Normal,
        reason: "Scheduled".to_owned(),
        message: format!(
            "Successfully assigned {}/{} to {}",
            key.namespace, key.name, pod.node_name
        ),
    }
}
