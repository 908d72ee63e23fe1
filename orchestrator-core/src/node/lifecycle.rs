//! Lifecycle of one container: which of its runs is the newest, how it stands, and what is left of older ones.
//!
//! Everything derives from what the runtime shows and the status last recorded, so that an agent that
//! starts anew goes on where the last one stopped (S20).

use super::backoff::ran_well;
use crate::model::{Container, ContainerStatus, StateTerminated, Time};
use crate::runtime::{
    ContainerKey, ContainerObservation, ContainerRunState, Exit, SandboxObservation,
};

/// The exit code reported for a run whose end nobody saw: that of a killed program.
pub(crate) const EXIT_CODE_LOST: i32 = 137;
/// The reason given for a run whose end nobody saw, as in Kubernetes.
const REASON_LOST: &str = "ContainerStatusUnknown";

/// How the newest run of a container stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// It never ran.
    Absent,
    /// It is made but was not started.
    Created(ContainerKey),
    /// It ended, or is gone.
    Ended(Ended),
    /// It runs.
    Running(Running),
}

/// A run that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub key: ContainerKey,
    pub id: String,
    pub image: String,
    pub image_id: String,
    pub started_at: Option<Time>,
}

/// A run that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub attempt: u32,
    pub image: String,
    pub image_id: String,
    pub state: StateTerminated,
}

/// The runs of one container of a pod.
#[derive(Clone, Debug)]
pub(crate) struct Runs<'a> {
    /// The container.
    pub spec: &'a Container,
    /// The newest run.
    pub last: Last,
    /// The run before it, if known.
    pub previous: Option<StateTerminated>,
    /// How often the container was started again.
    pub restarts: u32,
    /// The number of the next run.
    pub next_attempt: u32,
    /// Older runs that still go on: never more than one may (S17).
    pub doubles: Vec<ContainerKey>,
    /// Older runs that are over and of which nothing is needed any more.
    pub surplus: Vec<ContainerKey>,
}

/// One container as observed, with whether its sandbox is alive.
struct Seen<'a> {
    alive: bool,
    container: &'a ContainerObservation,
}

impl Seen<'_> {
    fn attempt(&self) -> u32 {
        self.container.key.attempt
    }

    fn is_running(&self) -> bool {
        matches!(self.container.state, ContainerRunState::Running { .. })
    }

    fn is_created(&self) -> bool {
        matches!(self.container.state, ContainerRunState::Created)
    }

    fn is_exited(&self) -> bool {
        matches!(self.container.state, ContainerRunState::Exited(_))
    }
}

impl<'a> Runs<'a> {
    /// Finds out how a container stands. `sandboxes` are the pod's, `live` is the attempt of the one that is
    /// alive, `recorded` the status last recorded, and `lost_at` when a run whose end nobody saw was missed.
    pub fn of(
        spec: &'a Container,
        sandboxes: &[SandboxObservation],
        live: Option<u32>,
        recorded: Option<&ContainerStatus>,
        lost_at: Time,
    ) -> Self {
        let mut seen: Vec<Seen<'_>> = Vec::new();
        for sandbox in sandboxes {
            let alive = live == Some(sandbox.key.attempt);
            let named = sandbox.containers.iter().filter(|found| found.key.name == spec.name);
            seen.extend(named.map(|container| Seen { alive, container }));
        }
        seen.sort_by_key(Seen::attempt);
        let recorded_end = recorded.and_then(|status| recorded_end(status, lost_at));
        let last = newest(&seen, recorded_end.as_ref(), lost_at);
        let mut runs = Self {
            spec,
            previous: None,
            restarts: 0,
            next_attempt: 0,
            doubles: Vec::new(),
            surplus: Vec::new(),
            last,
        };
        runs.count(&seen, recorded, recorded_end.as_ref());
        runs.find_previous(&seen, recorded, recorded_end, lost_at);
        runs
    }

    /// The number of the newest run, if there is one.
    pub fn attempt(&self) -> Option<u32> {
        match &self.last {
            Last::Absent => None,
            Last::Created(key) => Some(key.attempt),
            Last::Ended(ended) => Some(ended.attempt),
            Last::Running(running) => Some(running.key.attempt),
        }
    }

    /// Whether the newest run is of another image than the pod wants now, as far as the runtime tells.
    pub fn has_other_image(&self) -> bool {
        let image = match &self.last {
            Last::Ended(ended) => &ended.image,
            Last::Running(running) => &running.image,
            Last::Absent | Last::Created(_) => return false,
        };
        !image.is_empty() && *image != self.spec.image
    }

    /// How many restarts in a row led to the newest run, as far as the runs themselves tell. A run that was lost
    /// while no agent looked (the machine or its pods were stopped) did not crash, and begins a new row.
    pub fn streak(&self) -> u32 {
        let is_clean = |run: &StateTerminated| ran_well(run) || run.reason == REASON_LOST;
        match (&self.last, &self.previous, self.attempt()) {
            (Last::Ended(ended), ..) if is_clean(&ended.state) => 0,
            (_, Some(previous), Some(attempt)) if is_clean(previous) => attempt.min(1),
            (_, Some(_) | None, attempt) => attempt.unwrap_or(0),
        }
    }

    fn count(
        &mut self,
        seen: &[Seen<'_>],
        recorded: Option<&ContainerStatus>,
        recorded_end: Option<&Ended>,
    ) {
        let recorded_restarts =
            recorded.map_or(0, |status| u32::try_from(status.restart_count).unwrap_or(0));
        self.restarts = match &self.last {
            Last::Absent | Last::Created(_) => recorded_restarts,
            Last::Ended(Ended { attempt, .. })
            | Last::Running(Running { key: ContainerKey { attempt, .. }, .. }) => {
                recorded_restarts.max(*attempt)
            }
        };
        // What was made in a sandbox that died before it started was no run; its number is free again.
        let used = seen.iter().filter(|seen| seen.alive || !seen.is_created()).map(Seen::attempt);
        let newest = used.max().max(recorded_end.map(|ended| ended.attempt));
        self.next_attempt = newest.map_or(0, |newest| newest.saturating_add(1));
        let Some(attempt) = self.attempt() else { return };
        let is_older = |seen: &&Seen<'_>| seen.attempt() < attempt;
        let older = || seen.iter().filter(is_older);
        let kept = older().filter(|older| older.is_exited()).map(Seen::attempt).max();
        for older in older().filter(|older| older.alive) {
            if older.is_running() {
                self.doubles.push(older.container.key.clone());
            } else if Some(older.attempt()) != kept {
                self.surplus.push(older.container.key.clone());
            }
        }
    }

    fn find_previous(
        &mut self,
        seen: &[Seen<'_>],
        recorded: Option<&ContainerStatus>,
        recorded_end: Option<Ended>,
        lost_at: Time,
    ) {
        let attempt = self.attempt().unwrap_or(u32::MAX);
        let older = seen.iter().rev().find(|seen| seen.attempt() < attempt && seen.is_exited());
        let older = older.map(|seen| ended(seen, lost_at));
        let recorded_older = match (recorded, recorded_end) {
            (Some(_), Some(end)) if end.attempt < attempt => Some(end.state),
            (Some(status), Some(_)) if status.state.waiting.is_none() => {
                status.last_state.terminated.clone()
            }
            (Some(_) | None, _) => None,
        };
        self.previous = older.map(|ended| ended.state).or(recorded_older);
    }
}

fn newest(seen: &[Seen<'_>], recorded_end: Option<&Ended>, lost_at: Time) -> Last {
    if let Some(running) = seen.iter().rev().find(|seen| seen.alive && seen.is_running()) {
        return Last::Running(running_of(running.container));
    }
    let end = seen.iter().rev().find(|seen| !seen.is_created());
    let created = seen.iter().rev().find(|seen| seen.alive && seen.is_created());
    let end = match (end, recorded_end) {
        (Some(end), Some(recorded)) if recorded.attempt > end.attempt() => Some(recorded.clone()),
        // A run lost with its sandbox is told of once: what was recorded then stays.
        (Some(end), Some(recorded)) if recorded.attempt == end.attempt() && !end.is_exited() => {
            Some(recorded.clone())
        }
        (Some(end), Some(_) | None) => Some(ended(end, lost_at)),
        (None, recorded) => recorded.cloned(),
    };
    match (created, end) {
        (Some(created), end) if end.as_ref().is_none_or(|end| end.attempt < created.attempt()) => {
            Last::Created(created.container.key.clone())
        }
        (Some(_) | None, Some(end)) => Last::Ended(end),
        (Some(_) | None, None) => Last::Absent,
    }
}

fn running_of(container: &ContainerObservation) -> Running {
    let started_at = match &container.state {
        ContainerRunState::Running { started_at } => *started_at,
        ContainerRunState::Created | ContainerRunState::Exited(_) => None,
    };
    Running {
        key: container.key.clone(),
        id: container.id.clone(),
        image: container.image.clone(),
        image_id: container.image_id.clone(),
        started_at,
    }
}

/// Describes how an observed run ended; one that goes on in a dead sandbox counts as lost.
fn ended(seen: &Seen<'_>, lost_at: Time) -> Ended {
    let container = seen.container;
    let state = match &container.state {
        ContainerRunState::Exited(exit) => terminated(&container.id, exit),
        ContainerRunState::Created => lost(&container.id, None, lost_at),
        ContainerRunState::Running { started_at } => lost(&container.id, *started_at, lost_at),
    };
    Ended {
        attempt: container.key.attempt,
        image: container.image.clone(),
        image_id: container.image_id.clone(),
        state,
    }
}

/// Describes how the run a status speaks of ended, now that the runtime does not show it any more.
fn recorded_end(status: &ContainerStatus, lost_at: Time) -> Option<Ended> {
    let state = if let Some(running) = &status.state.running {
        lost(&status.container_id, running.started_at, lost_at)
    } else if let Some(terminated) = &status.state.terminated {
        terminated.clone()
    } else {
        status.last_state.terminated.clone()?
    };
    Some(Ended {
        attempt: u32::try_from(status.restart_count).unwrap_or(0),
        image: status.image.clone(),
        image_id: status.image_id.clone(),
        state,
    })
}

fn terminated(id: &str, exit: &Exit) -> StateTerminated {
    let reason = match (exit.oom_killed, exit.code) {
        (true, _) => "OOMKilled",
        (false, 0) => "Completed",
        (false, _) => "Error",
    };
    StateTerminated {
        container_id: id.to_owned(),
        exit_code: exit.code,
        finished_at: exit.finished_at,
        message: exit.message.clone(),
        reason: reason.to_owned(),
        started_at: exit.started_at,
    }
}

fn lost(id: &str, started_at: Option<Time>, lost_at: Time) -> StateTerminated {
    StateTerminated {
        container_id: id.to_owned(),
        exit_code: EXIT_CODE_LOST,
        finished_at: Some(lost_at),
        message: "the container is gone, or its sandbox ended; its exit was not seen".to_owned(),
        reason: REASON_LOST.to_owned(),
        started_at,
    }
}
