//! The status of a pod: container states in the spec's order, conditions, phase, addresses.
//!
//! Transition times are kept from the status recorded last; conditions that others set are kept as they are.

use super::lifecycle::{Last, Runs};
use super::plan::{Planner, Refusal};
use crate::model::{
    Condition, ContainerState, ContainerStatus, Pod, PodIp, PodPhase, PodStatus, Quantity,
    RestartPolicy, StateRunning, StateWaiting, set_condition,
};

/// Why a container waits, as shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub reason: String,
    pub message: String,
}

impl Waiting {
    pub fn new(reason: &str, message: &str) -> Self {
        Self { reason: reason.to_owned(), message: message.to_owned() }
    }
}

/// A container as its status shows it.
pub(super) struct Shown<'r> {
    pub runs: &'r Runs<'r>,
    pub waiting: Option<Waiting>,
    pub ready: bool,
    /// Whether it ended for good.
    pub over: bool,
}

/// The conditions this agent writes.
const OURS: [&str; 4] = ["PodScheduled", "Initialized", "ContainersReady", "Ready"];

/// Returns the status of a pod that runs, will run, or has just ended.
pub(super) fn running(planner: &Planner<'_>, shown: &[Shown<'_>]) -> PodStatus {
    let input = planner.input;
    let mut status = base(planner);
    status.container_statuses = shown.iter().map(container_status).collect();
    let phase = phase(shown, input.pod.spec.restart_policy());
    // A pod that ran does not become pending again, whatever happened to its containers.
    let ran = matches!(planner.recorded.phase, PodPhase::Running);
    status.phase = if ran && phase == PodPhase::Pending { PodPhase::Running } else { phase };
    if status.phase.is_final() {
        status.container_statuses.iter_mut().for_each(|container| container.ready = false);
    }
    if let Some(ip) = planner.live.and_then(|sandbox| sandbox.ip) {
        status.pod_ip = ip.to_string();
        status.pod_ips = vec![PodIp { ip: ip.to_string() }];
    }
    set_conditions(planner, &mut status);
    status
}

/// Keeps the status of a finished pod.
pub(super) fn keep(planner: &mut Planner<'_>) {
    let mut status = planner.recorded.clone();
    status.residual = planner.input.pod.status.residual.clone();
    planner.plan.status = status;
}

/// Makes the status of a pod the node cannot take.
pub(super) fn refuse(planner: &mut Planner<'_>, refusal: &Refusal) {
    let mut status = base(planner);
    status.phase = PodPhase::Failed;
    status.reason.clone_from(&refusal.reason);
    status.message.clone_from(&refusal.message);
    status.container_statuses.clear();
    set_conditions(planner, &mut status);
    planner.plan.status = status;
}

fn base(planner: &Planner<'_>) -> PodStatus {
    let input = planner.input;
    let mut status = planner.recorded.clone();
    status.residual = input.pod.status.residual.clone();
    status.conditions.retain(|condition| OURS.contains(&condition.kind.as_str()));
    let others = input.pod.status.conditions.iter();
    let others = others.filter(|condition| !OURS.contains(&condition.kind.as_str()));
    status.conditions.extend(others.cloned());
    status.host_ip.clone_from(&input.node.host_ip);
    status.qos_class = qos_class(input.pod).to_owned();
    status.start_time = status.start_time.or(Some(input.now.to_time()));
    status
}

fn container_status(shown: &Shown<'_>) -> ContainerStatus {
    let runs = shown.runs;
    let mut status = ContainerStatus {
        image: runs.spec.image.clone(),
        name: runs.spec.name.clone(),
        ready: shown.ready,
        restart_count: i32::try_from(runs.restarts).unwrap_or(i32::MAX),
        ..ContainerStatus::default()
    };
    status.last_state.terminated.clone_from(&runs.previous);
    let waiting = shown.waiting.as_ref().map(|waiting| StateWaiting {
        message: waiting.message.clone(),
        reason: waiting.reason.clone(),
    });
    match &runs.last {
        Last::Absent | Last::Created(_) => status.state.waiting = waiting,
        Last::Ended(ended) => {
            status.container_id.clone_from(&ended.state.container_id);
            status.image_id.clone_from(&ended.image_id);
            if waiting.is_some() {
                status.last_state.terminated = Some(ended.state.clone());
                status.state = ContainerState { waiting, ..ContainerState::default() };
            } else {
                status.state.terminated = Some(ended.state.clone());
            }
        }
        Last::Running(running) => {
            status.container_id.clone_from(&running.id);
            if !running.image.is_empty() {
                status.image.clone_from(&running.image);
            }
            status.image_id.clone_from(&running.image_id);
            status.started = true;
            status.state.running = Some(StateRunning { started_at: running.started_at });
        }
    }
    status
}

fn phase(shown: &[Shown<'_>], policy: RestartPolicy) -> PodPhase {
    let never_ran = |shown: &Shown<'_>| {
        matches!(shown.runs.last, Last::Absent | Last::Created(_)) && shown.runs.previous.is_none()
    };
    if shown.iter().any(never_ran) {
        return PodPhase::Pending;
    }
    if !shown.iter().all(|shown| shown.over) || policy == RestartPolicy::Always {
        return PodPhase::Running;
    }
    let failed = shown.iter().any(|shown| match &shown.runs.last {
        Last::Ended(ended) => ended.state.exit_code != 0,
        Last::Absent | Last::Created(_) | Last::Running(_) => false,
    });
    if failed { PodPhase::Failed } else { PodPhase::Succeeded }
}

fn set_conditions(planner: &Planner<'_>, status: &mut PodStatus) {
    let now = planner.input.now.to_time();
    let spec = &planner.input.pod.spec.containers;
    let ready = |name: &str| {
        status.container_statuses.iter().any(|container| container.name == name && container.ready)
    };
    let unready: Vec<&str> =
        spec.iter().map(|container| container.name.as_str()).filter(|name| !ready(name)).collect();
    let (reason, message) = match status.phase {
        PodPhase::Succeeded => ("PodCompleted", String::new()),
        PodPhase::Failed => ("PodFailed", String::new()),
        PodPhase::Pending | PodPhase::Running | PodPhase::Unknown if !unready.is_empty() => (
            "ContainersNotReady",
            format!("containers with unready status: [{}]", unready.join(" ")),
        ),
        PodPhase::Pending | PodPhase::Running | PodPhase::Unknown => ("", String::new()),
    };
    let is_ready = reason.is_empty();
    for kind in OURS {
        let about_readiness = matches!(kind, "ContainersReady" | "Ready");
        let mut condition = Condition {
            kind: kind.to_owned(),
            status: (is_ready || !about_readiness).into(),
            ..Condition::default()
        };
        if about_readiness {
            condition.reason = reason.to_owned();
            condition.message.clone_from(&message);
        }
        set_condition(&mut status.conditions, condition, now);
    }
}

/// Returns the quality-of-service class by Kubernetes' rule: `Guaranteed` when every container limits CPU and
/// memory and requests as much, `BestEffort` when none asks for anything, else `Burstable`.
pub fn qos_class(pod: &Pod) -> &'static str {
    const NAMES: [&str; 2] = ["cpu", "memory"];
    let some = |quantity: Option<&Quantity>| {
        quantity.copied().filter(|quantity| *quantity != Quantity::default())
    };
    let containers = &pod.spec.containers;
    let asks = containers.iter().any(|container| {
        NAMES.iter().any(|name| {
            some(container.resources.limits.get(*name)).is_some()
                || some(container.resources.requests.get(*name)).is_some()
        })
    });
    let guaranteed = containers.iter().all(|container| {
        NAMES.iter().all(|name| {
            let limit = some(container.resources.limits.get(*name));
            let request = some(container.resources.requests.get(*name)).or(limit);
            limit.is_some() && limit == request
        })
    });
    match (asks, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
