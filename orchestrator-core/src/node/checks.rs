//! The part of a plan that deals with probes: which checks are due, and what verdicts lead to.

use super::lifecycle::{Last, Running, Runs};
use super::plan::{RuntimeOp, StopReason};
use super::planner::Planner;
use super::probe::{ProbeDue, ProbeKind, ProbeMemory, check_of, timeout_ms};
use crate::model::{Probe, Timestamp};

impl Planner<'_> {
    /// Asks for the checks of a container that are due, and stops one whose liveness probe failed.
    pub(super) fn probe(&mut self, runs: &Runs<'_>) {
        let Last::Running(running) = &runs.last else { return };
        if runs.has_other_image() {
            // It is stopped anyway.
            return;
        }
        let since = self.running_since(running);
        let carried = self.carried_readiness(runs, running);
        for (kind, probe) in [
            (ProbeKind::Liveness, &runs.spec.liveness_probe),
            (ProbeKind::Readiness, &runs.spec.readiness_probe),
        ] {
            let Some(probe) = probe else { continue };
            let carried = match kind {
                ProbeKind::Liveness => None,
                ProbeKind::Readiness => carried,
            };
            self.check(runs, running, kind, probe, since, carried);
        }
        let memory = self.plan.memory.container(&runs.spec.name);
        let failed = memory.liveness.as_ref().is_some_and(|probe| probe.passing == Some(false));
        if failed && !self.cleanup_must_wait() {
            let grace_ms = self.grace_ms();
            let containers = vec![running.key.clone()];
            let reason = StopReason::Liveness;
            self.plan.ops.push(RuntimeOp::Stop { containers, grace_ms, reason });
        }
    }

    /// Whether a container counts as ready: it runs, and its readiness probe passes if it has one.
    pub(super) fn is_ready(&self, runs: &Runs<'_>) -> bool {
        let Last::Running(running) = &runs.last else { return false };
        if runs.spec.readiness_probe.is_none() {
            return true;
        }
        let memory = self.plan.memory.containers.get(&runs.spec.name);
        let probe = memory.and_then(|memory| memory.readiness.as_ref());
        let probe = probe.filter(|probe| probe.attempt == running.key.attempt);
        match probe {
            Some(probe) => probe.passing == Some(true),
            None => self.carried_readiness(runs, running) == Some(true),
        }
    }

    fn check(
        &mut self,
        runs: &Runs<'_>,
        running: &Running,
        kind: ProbeKind,
        probe: &Probe,
        since: Timestamp,
        carried: Option<bool>,
    ) {
        let now = self.input.now;
        let attempt = running.key.attempt;
        let pod_ip = self.live.and_then(|sandbox| sandbox.ip).map(|ip| ip.to_string());
        let memory = self.plan.memory.container(&runs.spec.name);
        let slot = match kind {
            ProbeKind::Liveness => &mut memory.liveness,
            ProbeKind::Readiness => &mut memory.readiness,
        };
        if slot.as_ref().is_none_or(|memory| memory.attempt != attempt) {
            *slot = Some(ProbeMemory::for_attempt(attempt, carried));
        }
        let Some(memory) = slot else { return };
        // A failed liveness verdict stands until the run has ended.
        let stopping = kind == ProbeKind::Liveness && memory.passing == Some(false);
        if memory.in_flight || stopping {
            return;
        }
        let due_at = memory.due_at(probe, kind, since);
        if now < due_at {
            self.recheck(due_at);
            return;
        }
        memory.in_flight = true;
        memory.last_begun = Some(now);
        self.plan.probes.push(ProbeDue {
            container: running.key.clone(),
            kind,
            check: check_of(probe, runs.spec, &pod_ip.unwrap_or_default()),
            timeout_ms: timeout_ms(probe),
        });
    }

    /// Readiness recorded for this very run by an agent before this one stands until a check says otherwise.
    fn carried_readiness(&self, runs: &Runs<'_>, running: &Running) -> Option<bool> {
        let recorded = self.recorded.container_statuses.iter();
        let recorded = recorded.filter(|status| status.name == runs.spec.name);
        let mut same = recorded.filter(|status| status.container_id == running.id);
        same.next().filter(|status| status.ready).map(|_| true)
    }

    fn running_since(&mut self, running: &Running) -> Timestamp {
        if let Some(time) = running.started_at {
            return time.to_timestamp();
        }
        let now = self.input.now;
        let attempt = running.key.attempt;
        let seen = &mut self.plan.memory.container(&running.key.name).running_seen;
        match seen {
            Some((known, at)) if *known == attempt => *at,
            Some(_) | None => {
                *seen = Some((attempt, now));
                now
            }
        }
    }
}
