//! The engine's answers to observations. Pure.
//!
//! A listing has everything but when a container began and how it ended; those come from an inspection, which the runtime
//! asks for once per container and state ([`Detail`]).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerSummary,
    ContainerSummaryStateEnum as EngineState,
};
use orchestrator_core::model::Time;
use orchestrator_core::runtime::{
    ContainerKey, ContainerObservation, ContainerRunState, Exit, SandboxKey, SandboxObservation,
    Scope,
};

use crate::tied::Tied;
use crate::translate::{self as label, Labels, SandboxFacts};

/// What a container does, as far as a listing tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Made, and not started or not able to start.
    Created,
    /// Running, also when paused.
    Running,
    /// Ended, also when half removed.
    Ended,
}

/// One container of a listing.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) key: ListedKey,
    pub(crate) phase: Phase,
    namespace: String,
    pod_name: String,
    image: String,
    image_id: String,
    ip: Option<IpAddr>,
    /// Whether it is tied to the network by us.
    pub(crate) is_tied: bool,
    created_at: Option<Time>,
}

/// Which part of a pod a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListedKey {
    Container(ContainerKey),
    Sandbox(SandboxKey),
}

impl ListedKey {
    fn sandbox(&self) -> &SandboxKey {
        match self {
            Self::Container(key) => &key.sandbox,
            Self::Sandbox(key) => key,
        }
    }
}

/// What only an inspection tells of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Detail {
    pub(crate) phase: Phase,
    pub(crate) state: ContainerRunState,
    /// The process id on the engine's machine; 0 when it does not run.
    pub(crate) pid: u32,
    /// Where the engine keeps what it writes, on the engine's machine: its layer and its log.
    pub(crate) written: Vec<PathBuf>,
}

/// Reads a container of a listing; `None` when its labels carry no key, so it is not ours.
pub(crate) fn listed(summary: ContainerSummary) -> Option<Listed> {
    let by_engine = engine_address(&summary);
    let labels = summary.labels.unwrap_or_default();
    let text = |name: &str| labels.get(name).cloned();
    let tied = Tied::read(&labels);
    let ip = tied.as_ref().map(|tied| tied.wire.address).or(by_engine);
    Some(Listed {
        id: summary.id?,
        key: key_of(&labels)?,
        phase: phase_of(summary.state?),
        namespace: text(label::LABEL_POD_NAMESPACE)?,
        pod_name: text(label::LABEL_POD_NAME)?,
        image: text(label::LABEL_IMAGE).unwrap_or_default(),
        image_id: summary.image_id.unwrap_or_default(),
        ip: ip.map(IpAddr::V4),
        is_tied: tied.is_some(),
        created_at: summary.created.map(Time::from_seconds),
    })
}

/// The address that the engine has given a container of a listing.
pub(crate) fn engine_address(summary: &ContainerSummary) -> Option<Ipv4Addr> {
    let networks = summary.network_settings.as_ref().and_then(|it| it.networks.as_ref());
    let mut endpoints = networks.into_iter().flatten();
    endpoints.find_map(|(_, endpoint)| endpoint.ip_address.as_ref()?.parse().ok())
}

fn key_of(labels: &Labels) -> Option<ListedKey> {
    let text = |name: &str| labels.get(name).cloned();
    let scope = Scope { cluster: text(label::LABEL_CLUSTER)?, node: text(label::LABEL_NODE)? };
    let pod = labels.get(label::LABEL_POD_UID)?.parse().ok()?;
    let attempt = labels.get(label::LABEL_SANDBOX_ATTEMPT)?.parse().ok()?;
    let sandbox = SandboxKey { scope, pod, attempt };
    let Some(name) = text(label::LABEL_CONTAINER) else {
        return Some(ListedKey::Sandbox(sandbox));
    };
    let attempt = labels.get(label::LABEL_CONTAINER_ATTEMPT)?.parse().ok()?;
    Some(ListedKey::Container(ContainerKey { sandbox, name, attempt }))
}

pub(crate) fn phase_of(state: EngineState) -> Phase {
    match state {
        EngineState::CREATED => Phase::Created,
        EngineState::RUNNING
        | EngineState::PAUSED
        | EngineState::RESTARTING
        | EngineState::STOPPING => Phase::Running,
        EngineState::EMPTY | EngineState::EXITED | EngineState::REMOVING | EngineState::DEAD => {
            Phase::Ended
        }
    }
}

/// Puts a listing together into sandboxes. `details` has what inspections told, by container id; a container whose
/// inspection is missing went away meanwhile and is left out.
pub(crate) fn sandboxes(
    listing: Vec<Listed>,
    details: &BTreeMap<String, Detail>,
) -> Vec<SandboxObservation> {
    let mut sandboxes: BTreeMap<SandboxKey, SandboxObservation> = BTreeMap::new();
    for item in listing {
        // Containers whose sandbox was removed from outside still have to be seen, to be removed: so each makes its own.
        let sandbox = sandboxes.entry(item.key.sandbox().clone()).or_insert_with_key(|key| {
            SandboxObservation {
                key: key.clone(),
                namespace: item.namespace.clone(),
                name: item.pod_name.clone(),
                ready: false,
                ip: None,
                created_at: None,
                containers: Vec::new(),
            }
        });
        match item.key {
            ListedKey::Sandbox(_) => {
                sandbox.ready = item.phase == Phase::Running;
                sandbox.ip = item.ip;
                sandbox.created_at = item.created_at;
            }
            ListedKey::Container(key) => {
                let Some(detail) = details.get(&item.id) else { continue };
                sandbox.containers.push(ContainerObservation {
                    key,
                    id: format!("docker://{}", item.id),
                    image: item.image,
                    image_id: item.image_id,
                    state: detail.state.clone(),
                });
            }
        }
    }
    let mut sandboxes: Vec<_> = sandboxes.into_values().collect();
    for sandbox in &mut sandboxes {
        sandbox.containers.sort_by(|one, two| one.key.cmp(&two.key));
    }
    sandboxes
}

/// Reads an inspection.
pub(crate) fn detail(inspection: ContainerInspectResponse) -> Detail {
    let layer = inspection.graph_driver.and_then(|mut driver| driver.data.remove("UpperDir"));
    let log = inspection.log_path.filter(|path| !path.is_empty());
    let written = layer.into_iter().chain(log).map(PathBuf::from).collect();
    let state = inspection.state.unwrap_or_default();
    let pid = state.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    let started_at = time(state.started_at.as_deref());
    if state.running == Some(true) {
        let state = ContainerRunState::Running { started_at };
        return Detail { phase: Phase::Running, state, pid, written };
    }
    let message = state.error.clone().unwrap_or_default();
    if started_at.is_none() && message.is_empty() {
        let state = ContainerRunState::Created;
        return Detail { phase: Phase::Created, state, pid, written };
    }
    // A container that could not start stays `created` in the engine's eyes, with the reason; for us it has ended.
    let phase = if started_at.is_none() { Phase::Created } else { Phase::Ended };
    let state = ContainerRunState::Exited(exit(state, started_at, message));
    Detail { phase, state, pid, written }
}

fn exit(state: ContainerState, started_at: Option<Time>, message: String) -> Exit {
    Exit {
        code: state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(255),
        oom_killed: state.oom_killed == Some(true),
        started_at,
        finished_at: time(state.finished_at.as_deref()),
        message,
    }
}

/// Reads what a container must know of its sandbox; `None` when it is not running, so nothing can join it.
pub(crate) fn sandbox_facts(inspection: ContainerInspectResponse) -> Option<SandboxFacts> {
    let labels = inspection.config.and_then(|config| config.labels).unwrap_or_default();
    let text = |name: &str| labels.get(name).cloned().unwrap_or_default();
    let networks = inspection.network_settings.and_then(|settings| settings.networks);
    let by_engine = networks
        .into_iter()
        .flatten()
        .filter_map(|(_, endpoint)| endpoint.ip_address)
        .find(|ip| !ip.is_empty());
    let tied = Tied::read(&labels);
    let ip = tied.as_ref().map(|tied| tied.wire.address.to_string()).or(by_engine);
    inspection.state.and_then(|state| state.running).filter(|running| *running)?;
    Some(SandboxFacts {
        id: inspection.id?,
        ip,
        files: tied.map(|tied| tied.files),
        namespace: text(label::LABEL_POD_NAMESPACE),
        pod_name: text(label::LABEL_POD_NAME),
    })
}

/// Reads the engine's time; the year 1 means never.
fn time(text: Option<&str>) -> Option<Time> {
    let time: Time = text?.parse().ok()?;
    (time.as_seconds() > 0).then_some(time)
}

#[cfg(test)]
mod tests {
    use bollard::models::{ContainerSummaryNetworkSettings, EndpointSettings};

    use super::*;

    fn summary(id: &str, name: Option<(&str, u32)>, state: EngineState) -> ContainerSummary {
        let mut labels: Labels = [
            (label::LABEL_CLUSTER, "home"),
            (label::LABEL_NODE, "n1"),
            (label::LABEL_POD_UID, "00000000-0000-0000-0000-000000000007"),
            (label::LABEL_SANDBOX_ATTEMPT, "0"),
            (label::LABEL_POD_NAMESPACE, "default"),
            (label::LABEL_POD_NAME, "web-1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        if let Some((name, attempt)) = name {
            labels.insert(label::LABEL_CONTAINER.to_owned(), name.to_owned());
            labels.insert(label::LABEL_CONTAINER_ATTEMPT.to_owned(), attempt.to_string());
        }
        let endpoint =
            EndpointSettings { ip_address: Some("172.18.0.2".to_owned()), ..Default::default() };
        ContainerSummary {
            id: Some(id.to_owned()),
            labels: Some(labels),
            state: Some(state),
            network_settings: Some(ContainerSummaryNetworkSettings {
                networks: name.is_none().then(|| [("net".to_owned(), endpoint)].into()),
            }),
            ..Default::default()
        }
    }

    fn inspection(state: ContainerState) -> ContainerInspectResponse {
        ContainerInspectResponse { state: Some(state), ..Default::default() }
    }

    fn known(ids: &[&str]) -> BTreeMap<String, Detail> {
        ids.iter()
            .map(|id| ((*id).to_owned(), detail(inspection(ContainerState::default()))))
            .collect()
    }

    #[test]
    fn a_listing_is_grouped_by_sandbox_and_ordered_by_key() {
        let listing = [
            summary("c3", Some(("web", 10)), EngineState::CREATED),
            summary("c2", Some(("web", 9)), EngineState::EXITED),
            summary("s", None, EngineState::RUNNING),
            summary("c1", Some(("db", 0)), EngineState::RUNNING),
        ];
        let listing = listing.into_iter().filter_map(listed).collect();
        let sandboxes = sandboxes(listing, &known(&["c1", "c2", "c3"]));
        assert_eq!(sandboxes.len(), 1);
        assert!(sandboxes[0].ready);
        assert_eq!(sandboxes[0].ip, "172.18.0.2".parse().ok());
        let order: Vec<_> = sandboxes[0].containers.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(order, ["docker://c1", "docker://c2", "docker://c3"]);
    }

    #[test]
    fn containers_without_their_sandbox_are_still_seen() {
        let listing = listed(summary("c1", Some(("db", 0)), EngineState::RUNNING));
        let sandboxes = sandboxes(listing.into_iter().collect(), &known(&["c1"]));
        assert!(!sandboxes[0].ready);
        assert_eq!(sandboxes[0].name, "web-1");
        assert_eq!(sandboxes[0].containers.len(), 1);
    }

    #[test]
    fn a_container_that_vanished_before_its_inspection_is_left_out() {
        let listing = listed(summary("c1", Some(("db", 0)), EngineState::RUNNING));
        let sandboxes = sandboxes(listing.into_iter().collect(), &known(&[]));
        assert_eq!(sandboxes[0].containers, []);
    }

    #[test]
    fn what_carries_no_whole_key_is_not_ours() {
        for missing in [label::LABEL_NODE, label::LABEL_POD_UID, label::LABEL_CONTAINER_ATTEMPT] {
            let mut summary = summary("c1", Some(("db", 0)), EngineState::RUNNING);
            summary.labels.as_mut().expect("set").remove(missing);
            assert!(listed(summary).is_none(), "{missing}");
        }
    }

    #[test]
    fn an_inspection_tells_how_a_container_ended() {
        let ended = detail(inspection(ContainerState {
            running: Some(false),
            exit_code: Some(137),
            oom_killed: Some(true),
            started_at: Some("2026-11-24T10:00:00.5Z".to_owned()),
            finished_at: Some("2026-11-24T10:00:01.9Z".to_owned()),
            ..Default::default()
        }));
        let exit = Exit {
            code: 137,
            oom_killed: true,
            started_at: "2026-11-24T10:00:00Z".parse().ok(),
            finished_at: "2026-11-24T10:00:01Z".parse().ok(),
            message: String::new(),
        };
        assert_eq!(ended.state, ContainerRunState::Exited(exit));
    }

    #[test]
    fn a_container_that_could_not_start_has_ended_with_the_reason() {
        let never = || Some("0001-01-01T00:00:00Z".to_owned());
        let state = ContainerState {
            running: Some(false),
            exit_code: Some(127),
            error: Some("no such file or directory".to_owned()),
            started_at: never(),
            finished_at: never(),
            ..Default::default()
        };
        let ContainerRunState::Exited(exit) = detail(inspection(state)).state else {
            panic!("it has ended");
        };
        assert_eq!((exit.code, exit.started_at, exit.finished_at), (127, None, None));
        assert_eq!(exit.message, "no such file or directory");
        let fresh = ContainerState { started_at: never(), ..Default::default() };
        assert_eq!(detail(inspection(fresh)).state, ContainerRunState::Created);
    }

    #[test]
    fn nothing_can_join_a_sandbox_that_does_not_run() {
        let state = ContainerState { running: Some(false), ..Default::default() };
        assert_eq!(sandbox_facts(inspection(state)), None);
    }
}
