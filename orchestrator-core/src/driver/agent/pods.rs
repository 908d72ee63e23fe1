//! The pods of the node: planning each when something of it changed or is due, and recording its status.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::admission::admit;
use super::core::{Core, LINK_TIMEOUT_MS, Retry};
use super::tasks::{Event, limited_link};
use crate::model::{Key, Pod, PodStatus, Timestamp, Uid};
use crate::node::{
    FINISHED_SANDBOXES_MAX, LinkError, OpFailure, PodInput, PodMemory, PodPlan, ProbeKind,
    ProbeResult, Refusal, RuntimeOp, StatusOutcome, orphan_removal, plan, surplus_finished,
};
use crate::runtime::{ContainerKey, SandboxKey, SandboxObservation};

/// While verbs for a pod are in flight, a status waits this long for what they come to: most are done sooner,
/// and one write is enough.
const STATUS_SETTLE: Duration = Duration::from_millis(500);

/// A pod assigned to this node.
#[derive(Debug)]
pub(super) struct Slot {
    pub pod: Arc<Pod>,
    pub memory: PodMemory,
    /// Whether something changed since the last plan.
    pub dirty: bool,
    recheck_at: Option<Timestamp>,
    /// Whether the node takes the pod, once that was decided.
    fits: Option<Result<(), Refusal>>,
    planned: Option<PodStatus>,
    /// The status the control plane has, as far as is known.
    recorded: PodStatus,
    /// Whether the planned status is another than the recorded one. Compared when either changes, and not in each of the many turns.
    differs: bool,
    /// Since when it is another.
    differs_since: Option<Instant>,
    writing: bool,
    /// Whether the control plane has told a status since the write under way began: that may be newer than what is written.
    told_meanwhile: bool,
    write_retry: Retry,
    deleted: bool,
    confirming: bool,
    confirmed: bool,
    confirm_retry: Retry,
}

impl Slot {
    pub fn new(pod: Arc<Pod>) -> Self {
        Self {
            recorded: pod.status.clone(),
            pod,
            memory: PodMemory::default(),
            dirty: true,
            recheck_at: None,
            fits: None,
            planned: None,
            differs: false,
            differs_since: None,
            writing: false,
            told_meanwhile: false,
            write_retry: Retry::default(),
            deleted: false,
            confirming: false,
            confirmed: false,
            confirm_retry: Retry::default(),
        }
    }

    pub fn replace(&mut self, pod: Arc<Pod>) {
        self.record(pod.status.clone());
        self.told_meanwhile = true;
        // A status that comes back as it was planned changes nothing.
        let same = self.planned.as_ref() == Some(&pod.status)
            && self.pod.metadata.deletion_timestamp == pod.metadata.deletion_timestamp
            && self.pod.spec == pod.spec;
        self.dirty |= !same;
        self.pod = pod;
    }

    fn record(&mut self, status: PodStatus) {
        self.recorded = status;
        self.compare();
    }

    fn compare(&mut self) {
        self.differs = self.planned.as_ref().is_some_and(|planned| *planned != self.recorded);
    }

    /// The status the control plane has, as far as is known.
    pub const fn recorded(&self) -> &PodStatus {
        &self.recorded
    }

    fn key(&self) -> Key {
        Key::pod(&self.pod.metadata.namespace, &self.pod.metadata.name)
    }

    /// Whether the pod has run to its end, as planned here or recorded by others.
    fn is_finished(&self) -> bool {
        self.pod.is_finished()
            || self.planned.as_ref().is_some_and(|status| status.phase.is_final())
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.dirty || self.recheck_at.is_some_and(|at| at <= now)
    }
}

impl Core {
    pub(super) fn act_pods(&mut self) -> Option<Instant> {
        let now = self.now();
        let mut next: Option<Instant> = None;
        let uids: Vec<Uid> = self.slots.keys().copied().collect();
        for uid in uids {
            self.plan_pod(uid, now);
            let wakes = [self.write_pod(uid), self.confirm_pod(uid), self.pod_wakes(uid, now)];
            next = wakes.into_iter().flatten().chain(next).min();
        }
        self.bound_finished();
        next
    }

    /// Whether the runtime was listed since the last verb for a pod, so that a plan may give the next.
    fn is_fresh(&self, uid: Uid) -> bool {
        self.listing.is_after(self.barriers.get(&uid).copied().unwrap_or(0))
    }

    fn plan_pod(&mut self, uid: Uid, now: Timestamp) {
        let busy = self.busy.contains_key(&uid);
        let fresh = self.is_fresh(uid);
        if !self.listing.has_listed() || !(fresh || busy) {
            return;
        }
        if !self.slots.get(&uid).is_some_and(|slot| slot.is_due(now)) {
            return;
        }
        let fits = self.fits(uid);
        let Some(slot) = self.slots.get_mut(&uid) else { return };
        slot.dirty = false;
        slot.fits = Some(fits.clone());
        let observed = self.listing.of_pod(uid);
        let input = PodInput {
            node: &self.context,
            pod: &slot.pod,
            observed,
            fits,
            memory: &slot.memory,
            now,
        };
        let PodPlan { ops, probes, status, memory, recheck_at, events, deleted } = plan(&input);
        slot.memory = memory;
        slot.recheck_at = recheck_at;
        slot.deleted = deleted && !busy;
        if !slot.deleted {
            slot.planned = Some(status);
            slot.compare();
        }
        let pod = Arc::clone(&slot.pod);
        self.note(events);
        for due in probes {
            self.start_probe(uid, due);
        }
        if !busy && !ops.is_empty() {
            self.start_verbs(uid, ops, Some(&pod));
        }
    }

    /// Judges once whether the node takes a pod; what runs already was taken.
    fn fits(&self, uid: Uid) -> Result<(), Refusal> {
        let runs = |uid: &Uid| !self.listing.of_pod(*uid).is_empty();
        let Some(slot) = self.slots.get(&uid) else { return Ok(()) };
        if let Some(decided) = &slot.fits {
            return decided.clone();
        }
        if runs(&uid) || slot.pod.is_finished() || slot.pod.metadata.is_deleting() {
            return Ok(());
        }
        // Without the control plane's word the node is what it would say of itself.
        let accepted = self.registration.accepted();
        let own = if accepted.is_none() { self.node() } else { None };
        let Some(node) = accepted.or(own.as_ref()) else { return Ok(()) };
        let taken = self.slots.iter().filter(|(other, slot)| {
            **other != uid && (slot.fits == Some(Ok(())) || runs(other)) && !slot.is_finished()
        });
        admit(&slot.pod, node, taken.map(|(_, slot)| &*slot.pod))
    }

    fn pod_wakes(&self, uid: Uid, now: Timestamp) -> Option<Instant> {
        let slot = self.slots.get(&uid)?;
        if !self.is_fresh(uid) && !self.busy.contains_key(&uid) {
            return None;
        }
        let wait = slot.recheck_at?.millis_since(now);
        Some(Instant::now() + Duration::from_millis(u64::try_from(wait).unwrap_or(0)))
    }

    fn write_pod(&mut self, uid: Uid) -> Option<Instant> {
        let settled = !self.busy.contains_key(&uid) && self.is_fresh(uid);
        let slot = self.slots.get_mut(&uid)?;
        let planned = slot.planned.as_ref().filter(|_| slot.differs && !slot.deleted);
        let Some(planned) = planned else {
            slot.differs_since = None;
            return None;
        };
        let since = *slot.differs_since.get_or_insert_with(Instant::now);
        if slot.writing {
            return None;
        }
        let settles_at = if settled { since } else { since + STATUS_SETTLE };
        let due = slot.write_retry.at().map_or(settles_at, |retry| retry.max(settles_at));
        if due > Instant::now() {
            return Some(due);
        }
        (slot.writing, slot.told_meanwhile) = (true, false);
        let (key, status) = (slot.key(), planned.clone());
        let (link, writes) = (Arc::clone(&self.link), Arc::clone(&self.writes));
        self.tasks.spawn(async move {
            let _permit = writes.acquire_owned().await;
            let write = link.write_status(&key, uid, status.clone());
            let outcome = limited_link(LINK_TIMEOUT_MS, write).await;
            Event::Written { pod: uid, status: Box::new(status), outcome }
        });
        None
    }

    pub(super) fn handle_written(
        &mut self,
        uid: Uid,
        status: PodStatus,
        outcome: Result<StatusOutcome, LinkError>,
    ) {
        let Some(slot) = self.slots.get_mut(&uid) else { return };
        slot.writing = false;
        match outcome {
            Ok(StatusOutcome::Recorded) => {
                slot.write_retry = Retry::default();
                slot.differs_since = None;
                // What was told meanwhile may be somebody's doubt of after the write; if it is older, what is written is told yet.
                if !slot.told_meanwhile {
                    slot.record(status);
                }
            }
            Ok(StatusOutcome::Gone) => {
                self.slots.remove(&uid);
                self.kept.changed();
                self.question_strangers();
            }
            Err(error) => {
                tracing::debug!(pod = %uid, %error, "a status was not written");
                slot.write_retry.failed(&self.config.scope.node);
                self.heard_refusal(&error);
            }
        }
    }

    fn confirm_pod(&mut self, uid: Uid) -> Option<Instant> {
        let slot = self.slots.get_mut(&uid)?;
        if !slot.deleted || slot.confirming || slot.confirmed {
            return None;
        }
        if let Some(retry) = slot.confirm_retry.at() {
            return Some(retry);
        }
        slot.confirming = true;
        let (key, link) = (slot.key(), Arc::clone(&self.link));
        self.tasks.spawn(async move {
            let outcome = limited_link(LINK_TIMEOUT_MS, link.confirm_deleted(&key, uid)).await;
            Event::Confirmed { pod: uid, outcome }
        });
        None
    }

    pub(super) fn handle_confirmed(&mut self, uid: Uid, outcome: &Result<(), LinkError>) {
        let Some(slot) = self.slots.get_mut(&uid) else { return };
        slot.confirming = false;
        match outcome {
            Ok(()) => slot.confirmed = true,
            Err(error) => {
                tracing::debug!(pod = %uid, %error, "a deletion was not confirmed");
                slot.confirm_retry.failed(&self.config.scope.node);
                self.heard_refusal(error);
            }
        }
    }

    pub(super) fn handle_probed(
        &mut self,
        uid: Uid,
        container: &ContainerKey,
        kind: ProbeKind,
        result: &ProbeResult,
    ) {
        let Some(slot) = self.slots.get_mut(&uid) else { return };
        slot.dirty = true;
        let notes = slot.memory.record_probe(&slot.pod, container, kind, result);
        self.note(notes);
    }

    pub(super) fn handle_verbs_ended(
        &mut self,
        uid: Uid,
        outcomes: Vec<(RuntimeOp, Result<(), OpFailure>)>,
    ) {
        self.busy.remove(&uid);
        self.barriers.insert(uid, self.listing.begun());
        self.listing.want();
        let now = self.now();
        let failed = outcomes.iter().any(|(_, outcome)| outcome.is_err());
        match self.slots.get_mut(&uid) {
            Some(slot) => {
                slot.dirty = true;
                let mut notes = Vec::new();
                for (op, outcome) in &outcomes {
                    notes.extend(slot.memory.record(&slot.pod, op, outcome, now));
                }
                self.note(notes);
            }
            None if failed => {
                let retry = self.orphan_retry.entry(uid).or_default();
                retry.failed(&self.config.scope.node);
            }
            None => drop(self.orphan_retry.remove(&uid)),
        }
    }

    /// Ends what is left of pods that are gone.
    pub(super) fn act_orphans(&mut self) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for uid in self.orphans.clone() {
            if self.busy.contains_key(&uid) || !self.is_fresh(uid) {
                continue;
            }
            let left: Vec<&SandboxObservation> = self.listing.of_pod(uid).iter().collect();
            if left.is_empty() {
                self.orphans.remove(&uid);
                self.orphan_retry.remove(&uid);
                continue;
            }
            if let Some(retry) = self.orphan_retry.get(&uid).and_then(Retry::at) {
                next = Some(next.map_or(retry, |next| next.min(retry)));
                continue;
            }
            tracing::info!(pod = %uid, "ending a pod that is gone");
            let ops = orphan_removal(&left);
            self.start_verbs(uid, ops, None);
        }
        next
    }

    /// Removes the oldest sandboxes of finished pods beyond the number that is kept.
    fn bound_finished(&mut self) {
        let finished = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.is_finished() && slot.recorded.phase.is_final());
        let finished: BTreeSet<Uid> = finished.map(|(uid, _)| *uid).collect();
        if finished.len() <= FINISHED_SANDBOXES_MAX {
            return;
        }
        let observed = self.listing.observed();
        let surplus: Vec<SandboxKey> =
            surplus_finished(observed, &finished, FINISHED_SANDBOXES_MAX);
        for key in surplus {
            let uid = key.pod;
            if !self.busy.contains_key(&uid) && self.is_fresh(uid) {
                self.start_verbs(uid, vec![RuntimeOp::RemoveSandbox(key)], None);
            }
        }
    }
}
