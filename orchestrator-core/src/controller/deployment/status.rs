//! The status of a deployment: counts, and the conditions `Available`, `Progressing` and `ReplicaFailure`.

use super::Run;
use super::rolling::clamp;
use crate::controller::TimerReason;
use crate::model::{
    Condition, ConditionStatus, Deployment, DeploymentStatus, Resource, Time, Timestamp,
};
use crate::world::Proposal;

/// Seconds without progress after which a rollout counts as failed, when the deployment does not say.
const PROGRESS_DEADLINE_SECONDS: i32 = 600;

/// What a condition shall say.
struct Verdict {
    status: ConditionStatus,
    reason: &'static str,
    message: String,
    /// Whether to note the time even if it says the same as before.
    renewed: bool,
}

impl Run<'_> {
    /// Proposes the status if it changed.
    pub(super) fn put_status(&mut self) {
        let old = &self.deployment.status;
        let mut new = DeploymentStatus {
            conditions: old.conditions.clone(),
            residual: old.residual.clone(),
            ..self.counted()
        };
        let now = self.now.to_time();
        let available = self.available(&new);
        conclude(&mut new.conditions, "Available", available, now);
        if let Some(verdict) = self.progressing(&new) {
            conclude(&mut new.conditions, "Progressing", verdict, now);
        }
        match self.failed() {
            Some(verdict) => conclude(&mut new.conditions, "ReplicaFailure", verdict, now),
            None => new.conditions.retain(|condition| condition.kind != "ReplicaFailure"),
        }
        for member in &self.members {
            if let Some(at) = member.counts.next_available {
                self.decision.recheck(at, TimerReason::Progress);
            }
        }
        // The first status is guarded by the main record; it waits if that is being written.
        let busy = self.stored.status.is_none() && self.writes_deployment;
        if new != *old && !busy {
            let new = Deployment { status: new, ..self.deployment.clone() };
            self.decision.propose(Proposal::put_status(self.stored, new));
        }
    }

    fn counted(&self) -> DeploymentStatus {
        let sum = |count: fn(&super::Member<'_>) -> i32| {
            clamp(self.members.iter().map(|member| i64::from(count(member))).sum())
        };
        let available = sum(|member| member.counts.available);
        let wanted = sum(|member| member.set.spec.replicas.unwrap_or(1).max(0));
        DeploymentStatus {
            available_replicas: available,
            observed_generation: self.deployment.metadata.generation,
            ready_replicas: sum(|member| member.counts.ready),
            replicas: sum(|member| member.counts.replicas),
            terminating_replicas: sum(|member| member.counts.terminating),
            unavailable_replicas: (wanted - available).max(0),
            updated_replicas: self.current.map_or(0, |index| self.members[index].counts.replicas),
            ..DeploymentStatus::default()
        }
    }

    fn available(&self, new: &DeploymentStatus) -> Verdict {
        let (has, least) = (new.available_replicas, self.bounds.least);
        let enough = has >= least;
        Verdict {
            status: enough.into(),
            reason: if enough { "MinimumReplicasAvailable" } else { "MinimumReplicasUnavailable" },
            message: if enough {
                "enough pods are available".to_owned()
            } else {
                format!("fewer than {least} pods are available")
            },
            renewed: false,
        }
    }

    /// What to say about progress; `None` leaves it as it was.
    fn progressing(&mut self, new: &DeploymentStatus) -> Option<Verdict> {
        let old = &self.deployment.status;
        let known = old.conditions.iter().find(|condition| condition.kind == "Progressing");
        let reason = known.map_or("", |condition| condition.reason.as_str());
        let name = self.current.map(|index| self.members[index].set.metadata.name.clone());
        let name = name.or_else(|| self.created.clone()).unwrap_or_default();
        let say =
            |status, reason, message| Some(Verdict { status, reason, message, renewed: false });
        if self.deployment.spec.paused {
            let message = "the deployment is paused".to_owned();
            return say(ConditionStatus::Unknown, "DeploymentPaused", message);
        }
        if self.is_complete(new) {
            let message = format!("replica set {name} is available");
            return say(ConditionStatus::True, "NewReplicaSetAvailable", message);
        }
        if reason == "NewReplicaSetAvailable" && new.replicas == new.updated_replicas {
            // Losing a pod, or being scaled, is no rollout.
            return None;
        }
        let begins = matches!(reason, "" | "NewReplicaSetAvailable" | "DeploymentPaused");
        let changed = old.observed_generation < new.observed_generation;
        if begins || changed || has_progressed(old, new) {
            let message = format!("replica set {name} is progressing");
            let verdict = say(ConditionStatus::True, "ReplicaSetUpdated", message);
            return verdict.map(|verdict| Verdict { renewed: true, ..verdict });
        }
        let deadline = self.deadline(known)?;
        if self.now < deadline {
            self.decision.recheck(deadline, TimerReason::Progress);
            return None;
        }
        let message = format!("replica set {name} has not progressed in time");
        say(ConditionStatus::False, "ProgressDeadlineExceeded", message)
    }

    /// When a rollout that was last seen to progress as `known` says has failed.
    fn deadline(&self, known: Option<&Condition>) -> Option<Timestamp> {
        let seconds = self.deployment.spec.progress_deadline_seconds;
        // Kubernetes reads the largest number as: never.
        let seconds =
            Some(seconds.unwrap_or(PROGRESS_DEADLINE_SECONDS)).filter(|s| *s < i32::MAX)?;
        let since = known?.last_update_time?.to_timestamp();
        Some(since.plus_millis(i64::from(seconds) * 1000))
    }

    fn failed(&self) -> Option<Verdict> {
        let told = self.current.and_then(|index| {
            let status = &self.members[index].set.status;
            status.conditions.iter().find(|condition| condition.kind == "ReplicaFailure")
        });
        let message = self.failure.clone().or_else(|| told.map(|told| told.message.clone()))?;
        let status = ConditionStatus::True;
        Some(Verdict { status, reason: "FailedCreate", message, renewed: false })
    }

    /// Whether all pods are of the current template, as many as wanted, and available.
    pub(super) fn is_complete(&self, status: &DeploymentStatus) -> bool {
        let wanted = self.bounds.wanted;
        self.current.is_some()
            && status.updated_replicas == wanted
            && status.replicas == wanted
            && status.available_replicas == wanted
    }

    /// Whether the rollout is over.
    pub(super) fn is_done(&self) -> bool {
        self.is_complete(&self.counted())
    }

    /// Tells people about the deployment.
    pub(super) fn tell(&mut self, reason: &str, message: String) {
        self.decision.events.push(crate::world::EventNote {
            about: self.deployment.key(),
            uid: self.deployment.metadata.uid,
            kind: crate::model::EventType::Normal,
            reason: reason.to_owned(),
            message,
        });
    }
}

/// Whether more is new, ready or available, or less is old, than before.
fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let outdated =
        |status: &DeploymentStatus| i64::from(status.replicas) - i64::from(status.updated_replicas);
    new.updated_replicas > old.updated_replicas
        || outdated(new) < outdated(old)
        || new.ready_replicas > old.ready_replicas
        || new.available_replicas > old.available_replicas
}

/// Writes a condition if it says something new.
fn conclude(conditions: &mut Vec<Condition>, kind: &str, verdict: Verdict, now: Time) {
    let Verdict { status, reason, message, renewed } = verdict;
    let known = conditions.iter().find(|condition| condition.kind == kind);
    let same = known.is_some_and(|known| {
        known.status == status && known.reason == reason && known.message == message
    });
    if same && !renewed {
        return;
    }
    let condition = Condition {
        kind: kind.to_owned(),
        status,
        reason: reason.to_owned(),
        message,
        last_update_time: Some(now),
        ..Condition::default()
    };
    crate::model::set_condition(conditions, condition, now);
}
