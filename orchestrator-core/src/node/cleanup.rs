//! The part of a plan that stops and removes: deletion, finished pods, dead sandboxes, what is left of older runs.

use super::lifecycle::{Last, Runs};
use super::plan::{RuntimeOp, StopReason};
use super::planner::Planner;
use super::restart::Step;
use super::status::{self, Shown};
use crate::runtime::{ContainerKey, ContainerRunState, SandboxObservation};

impl Planner<'_> {
    pub(super) fn delete(&mut self) {
        if self.input.observed.is_empty() {
            self.plan.deleted = true;
            return;
        }
        if self.recorded.phase.is_final() {
            status::keep(self);
        } else {
            let runs = self.runs();
            let shown: Vec<Shown<'_>> = runs.iter().map(|runs| self.shown(runs, None)).collect();
            self.plan.status = status::running(self, &shown);
        }
        if self.cleanup_must_wait() {
            return;
        }
        let stops = self.stop_all(self.deletion_grace_ms(), StopReason::Deleted);
        if stops && !self.input.pod.metadata.finalizers.is_empty() {
            // Its record stays: first see how it ended.
            return;
        }
        for sandbox in self.input.observed {
            self.plan.ops.push(RuntimeOp::RemoveSandbox(sandbox.key.clone()));
        }
    }

    /// Does nothing but keep a finished pod finished; its sandbox stays for its logs.
    pub(super) fn rest(&mut self) {
        status::keep(self);
        if !self.cleanup_must_wait() {
            self.stop_all(self.grace_ms(), StopReason::Finished);
        }
    }

    /// Stops runs of another image than the pod wants now; they begin again with it.
    pub(super) fn stop_changed(&mut self, runs: &[Runs<'_>]) {
        let changed = runs.iter().filter(|runs| runs.has_other_image());
        let changed = changed.filter_map(|runs| match &runs.last {
            Last::Running(running) => Some(running.key.clone()),
            Last::Absent | Last::Created(_) | Last::Ended(_) => None,
        });
        let containers: Vec<ContainerKey> = changed.collect();
        if !containers.is_empty() && !self.cleanup_must_wait() {
            let grace_ms = self.grace_ms();
            let reason = StopReason::Changed;
            self.plan.ops.push(RuntimeOp::Stop { containers, grace_ms, reason });
        }
    }

    /// Stops older runs that still go on. Returns whether anything else must wait for that.
    pub(super) fn stop_doubles(&mut self, runs: &[Runs<'_>]) -> bool {
        let doubles: Vec<ContainerKey> =
            runs.iter().flat_map(|runs| runs.doubles.iter().cloned()).collect();
        if doubles.is_empty() {
            return false;
        }
        if !self.cleanup_must_wait() {
            let grace_ms = self.grace_ms();
            let reason = StopReason::Double;
            self.plan.ops.push(RuntimeOp::Stop { containers: doubles, grace_ms, reason });
        }
        true
    }

    /// Removes every sandbox but the live one. Returns whether anything else must wait for that: a run in a
    /// dead sandbox may still go on.
    pub(super) fn remove_old_sandboxes(&mut self, steps: &[Step]) -> bool {
        let live = self.live.map(|sandbox| sandbox.key.attempt);
        let old = self.input.observed.iter().filter(|sandbox| Some(sandbox.key.attempt) != live);
        let old: Vec<&SandboxObservation> = old.collect();
        let finished = steps.iter().all(|step| matches!(step, Step::Over));
        if old.is_empty() || finished && live.is_none() && !old.iter().any(|old| runs_in(old)) {
            return false;
        }
        if self.cleanup_must_wait() {
            return true;
        }
        for sandbox in old {
            self.plan.ops.push(RuntimeOp::RemoveSandbox(sandbox.key.clone()));
        }
        false
    }

    /// Removes what is left of runs before the previous one.
    pub(super) fn tidy(&mut self, runs: &[Runs<'_>]) {
        let surplus: Vec<ContainerKey> =
            runs.iter().flat_map(|runs| runs.surplus.iter().cloned()).collect();
        if !surplus.is_empty() && !self.cleanup_must_wait() {
            self.plan.ops.extend(surplus.into_iter().map(RuntimeOp::RemoveContainer));
        }
    }

    /// Stops what runs. Returns whether anything does.
    pub(super) fn stop_all(&mut self, grace_ms: u64, reason: StopReason) -> bool {
        let running = self.input.observed.iter().flat_map(|sandbox| &sandbox.containers);
        let running = running
            .filter(|container| matches!(container.state, ContainerRunState::Running { .. }));
        let containers: Vec<ContainerKey> =
            running.map(|container| container.key.clone()).collect();
        let stops = !containers.is_empty();
        if stops {
            self.plan.ops.push(RuntimeOp::Stop { containers, grace_ms, reason });
        }
        stops
    }

    pub(super) fn cleanup_must_wait(&mut self) -> bool {
        let now = self.input.now;
        match self.plan.memory.cleanup_trouble.clone() {
            Some(trouble) if trouble.holds(now) => {
                self.recheck(trouble.retry_at(now));
                true
            }
            Some(_) | None => false,
        }
    }

    pub(super) fn grace_ms(&self) -> u64 {
        u64::try_from(self.input.pod.spec.grace_seconds()).unwrap_or(0).saturating_mul(1000)
    }

    /// What is left of the grace that the deletion was given. The stored time has whole seconds, so the one
    /// it was cut from is counted in.
    pub(super) fn deletion_grace_ms(&self) -> u64 {
        let meta = &self.input.pod.metadata;
        let whole = meta
            .deletion_grace_period_seconds
            .unwrap_or_else(|| self.input.pod.spec.grace_seconds());
        let whole = u64::try_from(whole).unwrap_or(0).saturating_mul(1000);
        let left = meta
            .deletion_timestamp
            .map_or(0, |at| at.to_timestamp().plus_millis(999).millis_since(self.input.now));
        u64::try_from(left).unwrap_or(0).min(whole)
    }
}

fn runs_in(sandbox: &SandboxObservation) -> bool {
    sandbox
        .containers
        .iter()
        .any(|container| matches!(container.state, ContainerRunState::Running { .. }))
}
