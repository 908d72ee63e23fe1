//! Specs to the engine's requests: names, labels, limits. Pure.
//!
//! A container's name is spelt from its key, so that a create whose answer was lost is found again, and its labels carry the
//! whole key, so that a container is adopted by labels alone.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Ipam, IpamConfig, NetworkCreateRequest,
    PortBinding,
};
use orchestrator_core::model::{Cidr, Protocol};
use orchestrator_core::runtime::{
    ContainerKey, ContainerSpec, Limits, PortMapping, RuntimeError, SandboxKey, SandboxSpec, Scope,
};

use crate::files;
use crate::network::PodBridge;
use crate::tied::Tied;

pub(crate) const LABEL_CLUSTER: &str = "orchestrator.dev/cluster";
pub(crate) const LABEL_NODE: &str = "orchestrator.dev/node";
pub(crate) const LABEL_POD_CIDR: &str = "orchestrator.dev/pod-cidr";
pub(crate) const LABEL_POD_FILES: &str = "orchestrator.dev/pod-files";
pub(crate) const LABEL_POD_IP: &str = "orchestrator.dev/pod-ip";
pub(crate) const LABEL_POD_PORTS: &str = "orchestrator.dev/pod-ports";
pub(crate) const LABEL_POD_UID: &str = "orchestrator.dev/pod-uid";
pub(crate) const LABEL_POD_NAMESPACE: &str = "orchestrator.dev/pod-namespace";
pub(crate) const LABEL_POD_NAME: &str = "orchestrator.dev/pod-name";
pub(crate) const LABEL_SANDBOX_ATTEMPT: &str = "orchestrator.dev/sandbox-attempt";
pub(crate) const LABEL_CONTAINER: &str = "orchestrator.dev/container";
pub(crate) const LABEL_CONTAINER_ATTEMPT: &str = "orchestrator.dev/container-attempt";
pub(crate) const LABEL_IMAGE: &str = "orchestrator.dev/image";

/// The labels that make up a key; the others only describe.
const KEY_LABELS: [&str; 6] = [
    LABEL_CLUSTER,
    LABEL_NODE,
    LABEL_POD_UID,
    LABEL_SANDBOX_ATTEMPT,
    LABEL_CONTAINER,
    LABEL_CONTAINER_ATTEMPT,
];

/// The most processes and threads of a container.
const CONTAINER_PIDS_MAX: i64 = 4096;
/// The most processes of a sandbox container; it has one, and room for a look inside.
const SANDBOX_PIDS_MAX: i64 = 16;
/// The size at which the engine turns over a container's log.
const LOG_FILE_BYTES_MAX: &str = "10m";
/// How many turned-over logs of a container the engine keeps.
const LOG_FILES_MAX: &str = "3";
/// The CPU accounting period in microseconds; the kernel's default.
const CPU_PERIOD_US: i64 = 100_000;
/// The smallest CPU quota that the kernel takes, in microseconds.
const CPU_QUOTA_US_MIN: i64 = 1_000;
/// The range of CPU shares that the kernel takes.
const CPU_SHARES_RANGE: (i64, i64) = (2, 262_144);
/// The longest host name that the kernel takes.
const HOST_NAME_BYTES_MAX: usize = 63;

pub(crate) type Labels = HashMap<String, String>;

/// What of the sandbox a container of it must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SandboxFacts {
    pub(crate) id: String,
    pub(crate) ip: Option<String>,
    /// Where the files are that containers of it must have.
    pub(crate) files: Option<PathBuf>,
    pub(crate) namespace: String,
    pub(crate) pod_name: String,
}

/// Returns the name of a sandbox's container.
pub(crate) fn sandbox_name(key: &SandboxKey) -> Result<String, RuntimeError> {
    let scope = &key.scope;
    name_of(&[
        "orchestrator",
        &scope.cluster,
        &scope.node,
        &key.pod.to_string(),
        &key.attempt.to_string(),
    ])
}

/// Returns the name of a container.
pub(crate) fn container_name(key: &ContainerKey) -> Result<String, RuntimeError> {
    let sandbox = sandbox_name(&key.sandbox)?;
    let own = name_of(&[&key.name, &key.attempt.to_string()])?;
    Ok(format!("{sandbox}_{own}"))
}

/// Returns the name of a cluster's network, or of a node's with addresses of its own.
pub(crate) fn network_name(cluster: &str, slice: Option<Cidr>) -> Result<String, RuntimeError> {
    match slice {
        None => name_of(&["orchestrator", cluster]),
        Some(slice) => name_of(&["orchestrator", cluster, &slice.first().to_string()]),
    }
}

/// Joins parts of names with `_`, which is in none of them, so that no two keys have one name. Other characters would
/// mean something in the path of a request.
fn name_of(parts: &[&str]) -> Result<String, RuntimeError> {
    for part in parts {
        let named = part.starts_with(|first: char| first.is_ascii_alphanumeric())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
        if !named {
            return Err(RuntimeError::Invalid {
                message: format!("{part:?} is no name for the engine: letters, digits, - and ."),
            });
        }
    }
    Ok(parts.join("_"))
}

/// Returns the filter that finds what belongs to a cluster.
pub(crate) fn cluster_label(cluster: &str) -> String {
    format!("{LABEL_CLUSTER}={cluster}")
}

/// Returns the filters that find what belongs to a scope.
pub(crate) fn scope_labels(scope: &Scope) -> Vec<String> {
    vec![cluster_label(&scope.cluster), format!("{LABEL_NODE}={}", scope.node)]
}

/// Returns the filters that find a sandbox and its containers.
pub(crate) fn sandbox_labels(key: &SandboxKey) -> Vec<String> {
    let mut labels = scope_labels(&key.scope);
    labels.push(format!("{LABEL_POD_UID}={}", key.pod));
    labels.push(format!("{LABEL_SANDBOX_ATTEMPT}={}", key.attempt));
    labels
}

/// Whether two sets of labels carry the same key.
pub(crate) fn is_same_key(one: &Labels, two: &Labels) -> bool {
    KEY_LABELS.iter().all(|label| one.get(*label) == two.get(*label))
}

fn labels_of(key: &SandboxKey, namespace: &str, pod_name: &str) -> Labels {
    [
        (LABEL_CLUSTER, key.scope.cluster.clone()),
        (LABEL_NODE, key.scope.node.clone()),
        (LABEL_POD_UID, key.pod.to_string()),
        (LABEL_SANDBOX_ATTEMPT, key.attempt.to_string()),
        (LABEL_POD_NAMESPACE, namespace.to_owned()),
        (LABEL_POD_NAME, pod_name.to_owned()),
    ]
    .map(|(label, value)| (label.to_owned(), value))
    .into()
}

/// Returns the request that makes a cluster's network.
pub(crate) fn network_request(
    cluster: &str,
    name: &str,
    bridge: Option<&PodBridge>,
) -> NetworkCreateRequest {
    let mut request = NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        labels: Some([(LABEL_CLUSTER.to_owned(), cluster.to_owned())].into()),
        ..Default::default()
    };
    let Some(PodBridge { bridge, slice }) = bridge else { return request };
    let labels = request.labels.get_or_insert_default();
    labels.insert(LABEL_POD_CIDR.to_owned(), slice.to_string());
    let addresses = IpamConfig {
        subnet: Some(slice.to_string()),
        gateway: Some(bridge.address.to_string()),
        ..Default::default()
    };
    request.ipam = Some(Ipam { config: Some(vec![addresses]), ..Default::default() });
    let options = [
        ("com.docker.network.bridge.name", bridge.name.clone()),
        // Pods keep their addresses on the way to other nodes; what leaves the cluster is not the engine's to change.
        ("com.docker.network.bridge.enable_ip_masquerade", "false".to_owned()),
        // Newer engines otherwise drop what comes from other machines.
        ("com.docker.network.bridge.gateway_mode_ipv4", "nat-unprotected".to_owned()),
        ("com.docker.network.driver.mtu", bridge.mtu.to_string()),
    ];
    request.options = Some(options.map(|(name, value)| (name.to_owned(), value)).into());
    request
}

/// Where a sandbox's network comes from.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A network of the engine's, by its id.
    Network(String),
    /// The engine gives it none: it is tied by us.
    Tied(Tied),
}

/// Returns the request that makes a sandbox's container.
pub(crate) fn sandbox_request(
    spec: &SandboxSpec,
    image: &str,
    place: &Place,
) -> ContainerCreateBody {
    let mut request = ContainerCreateBody {
        image: Some(image.to_owned()),
        hostname: Some(host_name(&spec.name)),
        labels: Some(labels_of(&spec.key, &spec.namespace, &spec.name)),
        ..Default::default()
    };
    let mut host = HostConfig {
        readonly_rootfs: Some(true),
        cap_drop: Some(vec!["ALL".to_owned()]),
        pids_limit: Some(SANDBOX_PIDS_MAX),
        // The pause program prints nothing; without a log the engine has a file less to make.
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        ..hardened()
    };
    match place {
        Place::Network(network) => {
            let bindings = port_bindings(&spec.ports);
            host.network_mode = Some(network.clone());
            if !bindings.is_empty() {
                request.exposed_ports = Some(bindings.keys().cloned().collect());
                host.port_bindings = Some(bindings);
            }
        }
        Place::Tied(tied) => {
            request.network_disabled = Some(true);
            request.labels.get_or_insert_default().extend(tied.labels());
        }
    }
    request.host_config = Some(host);
    request
}

fn port_bindings(ports: &[PortMapping]) -> HashMap<String, Option<Vec<PortBinding>>> {
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in ports {
        let binding = PortBinding {
            host_ip: Some(port.host_ip.map(|ip| ip.to_string()).unwrap_or_default()),
            host_port: Some(port.host_port.to_string()),
        };
        let of_port = bindings.entry(container_port(port)).or_default();
        of_port.get_or_insert_default().push(binding);
    }
    bindings
}

/// Returns the request that makes a container in a sandbox.
pub(crate) fn container_request(
    spec: &ContainerSpec,
    sandbox: &SandboxFacts,
) -> ContainerCreateBody {
    let mut labels = labels_of(&spec.key.sandbox, &sandbox.namespace, &sandbox.pod_name);
    labels.insert(LABEL_CONTAINER.to_owned(), spec.key.name.clone());
    labels.insert(LABEL_CONTAINER_ATTEMPT.to_owned(), spec.key.attempt.to_string());
    labels.insert(LABEL_IMAGE.to_owned(), spec.image.clone());
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        labels: Some(labels),
        env: Some(environment(&spec.env, sandbox.ip.as_deref())),
        working_dir: (!spec.working_dir.is_empty()).then(|| spec.working_dir.clone()),
        // The engine drops the image's arguments when a program is given, and keeps its program when arguments are.
        entrypoint: (!spec.command.is_empty()).then(|| spec.command.clone()),
        cmd: (!spec.args.is_empty()).then(|| spec.args.clone()),
        open_stdin: Some(spec.stdio.stdin),
        stdin_once: Some(spec.stdio.stdin_once),
        tty: Some(spec.stdio.terminal),
        host_config: Some(HostConfig {
            network_mode: Some(format!("container:{}", sandbox.id)),
            mounts: sandbox.files.as_deref().map(files::mounts),
            cap_drop: Some(vec!["NET_RAW".to_owned()]),
            pids_limit: Some(CONTAINER_PIDS_MAX),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(
                    [("max-size", LOG_FILE_BYTES_MAX), ("max-file", LOG_FILES_MAX)]
                        .map(|(option, value)| (option.to_owned(), value.to_owned()))
                        .into(),
                ),
            }),
            ..limited(spec.limits)
        }),
        ..Default::default()
    }
}

fn hardened() -> HostConfig {
    HostConfig { security_opt: Some(vec!["no-new-privileges".to_owned()]), ..Default::default() }
}

fn limited(limits: Limits) -> HostConfig {
    let quantity = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let mut config = hardened();
    if limits.cpu_milli > 0 {
        // Not as nano CPUs: the engine refuses more of those than the machine has CPUs, and a limit may be higher.
        let quota = quantity(limits.cpu_milli).saturating_mul(CPU_PERIOD_US / 1000);
        config.cpu_period = Some(CPU_PERIOD_US);
        config.cpu_quota = Some(quota.max(CPU_QUOTA_US_MIN));
    }
    if limits.memory_bytes > 0 {
        config.memory = Some(quantity(limits.memory_bytes));
        // Memory and swap together: equal means no swap.
        config.memory_swap = config.memory;
    }
    if limits.cpu_request_milli > 0 {
        let shares = quantity(limits.cpu_request_milli).saturating_mul(1024) / 1000;
        config.cpu_shares = Some(shares.clamp(CPU_SHARES_RANGE.0, CPU_SHARES_RANGE.1));
    }
    config
}

fn environment(env: &[(String, String)], ip: Option<&str>) -> Vec<String> {
    let own = ip.filter(|_| env.iter().all(|(name, _)| name != "POD_IP"));
    own.map(|ip| format!("POD_IP={ip}"))
        .into_iter()
        .chain(env.iter().map(|(name, value)| format!("{name}={value}")))
        .collect()
}

/// Cuts a pod's name to what the kernel takes as a host name, at an end that a name may have.
pub(crate) fn host_name(pod: &str) -> String {
    let cut: String = pod.chars().take(HOST_NAME_BYTES_MAX).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

fn container_port(port: &PortMapping) -> String {
    format!("{}/{}", port.container_port, protocol(port.protocol))
}

pub(crate) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Sctp => "sctp",
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// If a start failed because a port of the host is taken, says so for the user.
pub(crate) fn taken_port_message(ports: &[PortMapping], engine: &str) -> Option<String> {
    let taken = ["port is already allocated", "address already in use"];
    if ports.is_empty() || !taken.iter().any(|phrase| engine.contains(phrase)) {
        return None;
    }
    let named: Vec<_> = ports
        .iter()
        .filter(|port| {
            let spelt = format!(":{}", port.host_port);
            engine.match_indices(&spelt).any(|(at, _)| {
                !engine[at + spelt.len()..].starts_with(|next: char| next.is_ascii_digit())
            })
        })
        .collect();
    let blamed = if named.is_empty() { ports.iter().collect() } else { named };
    let mut message = String::from("host port ");
    for (index, port) in blamed.iter().enumerate() {
        let separator = if index == 0 { "" } else { " or " };
        // Writing to a text cannot fail.
        let _ = write!(message, "{separator}{}/{}", port.host_port, protocol(port.protocol));
    }
    message.push_str(" is taken");
    Some(message)
}

/// If a start failed because of what it was asked to run, says so for the user.
pub(crate) fn cannot_run_message(engine: &str) -> Option<String> {
    let reasons = [
        "executable file not found",
        "exec format error",
        "is a directory",
        "no such file or directory",
        "not a directory",
        "permission denied",
    ];
    reasons
        .iter()
        .any(|reason| engine.contains(reason))
        .then(|| format!("cannot start: {}", engine.trim_end()))
}

/// Returns the reference with the tag that is meant when it has none, or why it is none.
pub(crate) fn image_reference(image: &str) -> Result<String, RuntimeError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/:@".contains(&byte);
    let parts = |text: &str| text.split('/').all(|part| !part.is_empty() && part != "..");
    // The reference becomes part of a request's path.
    if image.is_empty() || !image.bytes().all(allowed) || !parts(image) || image.contains("/.") {
        return Err(RuntimeError::Invalid {
            message: format!("{image:?} is not an image reference such as registry/name:tag"),
        });
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    let is_complete = last.contains(':') || last.contains('@');
    Ok(if is_complete { image.to_owned() } else { format!("{image}:latest") })
}

#[cfg(test)]
#[path = "translate_tests.rs"]
mod tests;
