//! A pod, and the containers of pods and templates.

use std::fmt::Write as _;

use anyhow::Context as _;
use orchestrator_core::model::{
    Container, ContainerState, ContainerStatus, Kind, Pod, PodPhase, PodSpec, Probe, ResourceMap,
    RestartPolicy, TolerationOperator,
};
use serde_json::Value;

use super::page::Page;
use super::{conditions, metadata, since};

/// Describes a pod.
pub fn pod(page: &mut Page, object: &Value) -> anyhow::Result<()> {
    let pod: Pod = serde_json::from_value(object.clone()).context("cannot read the pod")?;
    metadata(page, Kind::Pod, &pod.metadata);
    let status = &pod.status;
    page.field("Node", if pod.is_bound() { &pod.node_name } else { "none yet" });
    let phase = match status.phase {
        PodPhase::Failed => "Failed",
        PodPhase::Pending => "Pending",
        PodPhase::Running => "Running",
        PodPhase::Succeeded => "Succeeded",
        PodPhase::Unknown => "Unknown",
    };
    let why = [status.reason.as_str(), status.message.as_str()].join(" ");
    page.field("Status", format_args!("{phase} {why}"));
    page.field("Address", &status.pod_ip);
    if let Some(at) = status.start_time {
        page.field("Started", since(at));
    }
    if !status.qos_class.is_empty() {
        page.field("QoS class", &status.qos_class);
    }
    spec(page, &pod.spec);
    page.title("Containers");
    for container in &pod.spec.containers {
        page.item(1, &container.name);
        let found = status.container_statuses.iter().find(|found| found.name == container.name);
        if let Some(found) = found {
            run(page, found);
        }
        program(page, container);
    }
    conditions(page, status.conditions.clone());
    Ok(())
}

/// What of a pod's spec is not its containers.
pub fn spec(page: &mut Page, spec: &PodSpec) {
    let policy = match spec.restart_policy {
        Some(RestartPolicy::Never) => "Never",
        Some(RestartPolicy::OnFailure) => "OnFailure",
        Some(RestartPolicy::Always) | None => "Always",
    };
    page.field("Restart policy", policy);
    page.pairs("Node selector", &spec.node_selector);
    let tolerations = spec.tolerations.iter().map(|toleration| {
        let mut text = match toleration.key.as_str() {
            "" => "everything".to_owned(),
            key => key.to_owned(),
        };
        if toleration.operator != Some(TolerationOperator::Exists) && !toleration.value.is_empty() {
            let _ = write!(text, "={}", toleration.value);
        }
        if let Some(effect) = toleration.effect {
            let _ = write!(text, ":{effect:?}");
        }
        if let Some(seconds) = toleration.toleration_seconds {
            let _ = write!(text, " for {seconds} s");
        }
        text
    });
    page.lines(0, "Tolerations", tolerations);
}

/// What a container is made of.
pub fn program(page: &mut Page, container: &Container) {
    page.nested(2, "Image", &container.image);
    if !container.command.is_empty() {
        page.nested(2, "Command", words(&container.command));
    }
    if !container.args.is_empty() {
        page.nested(2, "Arguments", words(&container.args));
    }
    if !container.working_dir.is_empty() {
        page.nested(2, "Directory", &container.working_dir);
    }
    let ports = container.ports.iter().map(|port| {
        let mut text = port.container_port.to_string();
        if let Some(host) = port.host_port {
            let _ = write!(text, ", on the host {host}");
        }
        if !port.name.is_empty() {
            let _ = write!(text, " ({})", port.name);
        }
        text
    });
    page.lines(2, "Ports", ports);
    page.lines(2, "Requests", amounts(&container.resources.requests));
    page.lines(2, "Limits", amounts(&container.resources.limits));
    for (name, probe) in
        [("Liveness", &container.liveness_probe), ("Readiness", &container.readiness_probe)]
    {
        if let Some(probe) = probe {
            page.nested(2, name, check(probe));
        }
    }
    let variables =
        container.env.iter().map(|variable| format!("{}={}", variable.name, variable.value));
    page.lines(2, "Environment", variables);
}

/// How a container does.
fn run(page: &mut Page, status: &ContainerStatus) {
    page.nested(2, "State", state(&status.state));
    if status.last_state != ContainerState::default() {
        page.nested(2, "Before", state(&status.last_state));
    }
    page.nested(2, "Ready", if status.ready { "yes" } else { "no" });
    page.nested(2, "Restarts", status.restart_count);
    if !status.container_id.is_empty() {
        page.nested(2, "ID", &status.container_id);
    }
}

fn state(state: &ContainerState) -> String {
    let mut text;
    if let Some(running) = &state.running {
        text = "running".to_owned();
        if let Some(at) = running.started_at {
            let _ = write!(text, " since {}", since(at));
        }
    } else if let Some(ended) = &state.terminated {
        text = format!("ended with exit code {}", ended.exit_code);
        if let Some(at) = ended.finished_at {
            let _ = write!(text, " at {}", since(at));
        }
        for part in [&ended.reason, &ended.message] {
            if !part.is_empty() {
                let _ = write!(text, ", {part}");
            }
        }
    } else {
        text = "waiting".to_owned();
        let waiting = state.waiting.iter();
        for part in waiting.flat_map(|waiting| [&waiting.reason, &waiting.message]) {
            if !part.is_empty() {
                let _ = write!(text, ", {part}");
            }
        }
    }
    text
}

fn check(probe: &Probe) -> String {
    let mut text = if let Some(get) = &probe.http_get {
        let path = if get.path.is_empty() { "/" } else { &get.path };
        format!("GET {path} on port {}", get.port)
    } else if let Some(socket) = &probe.tcp_socket {
        format!("connect to port {}", socket.port)
    } else {
        let command = probe.exec.as_ref().map(|exec| words(&exec.command)).unwrap_or_default();
        format!("run {command}")
    };
    let _ = write!(
        text,
        ", every {} s within {} s, from {} s; fails after {}, passes after {}",
        probe.period_seconds.unwrap_or(10),
        probe.timeout_seconds.unwrap_or(1),
        probe.initial_delay_seconds.unwrap_or(0),
        probe.failure_threshold.unwrap_or(3),
        probe.success_threshold.unwrap_or(1)
    );
    text
}

fn amounts(resources: &ResourceMap) -> Option<String> {
    let parts: Vec<_> =
        resources.iter().map(|(name, quantity)| format!("{name}={quantity}")).collect();
    if parts.is_empty() { None } else { Some(parts.join(", ")) }
}

/// Words of a command line, told apart.
fn words(words: &[String]) -> String {
    let is_plain = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_./=:,+@%".contains(c))
    };
    let shown: Vec<_> = words
        .iter()
        .map(|word| if is_plain(word) { word.clone() } else { format!("{word:?}") })
        .collect();
    shown.join(" ")
}
