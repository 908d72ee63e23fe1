//! `Container`: one program of a pod, and its probes.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::meta::is_false;
use super::pod::ResourceMap;

/// One program of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Arguments; replace the image's CMD.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The program; replaces the image's ENTRYPOINT.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Environment variables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// The image, such as `nginx:1.27`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// When to pull: `Always` with the tag `latest` or none, else `IfNotPresent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Restarts the container when it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,
    /// The container's name, a DNS label unique in the pod.
    pub name: String,
    /// Ports the program listens on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ContainerPort>,
    /// Takes the pod out of the ready set while it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,
    /// What it needs and what it may use.
    pub resources: ResourceRequirements,
    /// Whether the program has a standard input that attaching clients write to; else it is at its end from the start.
    #[serde(skip_serializing_if = "is_false")]
    pub stdin: bool,
    /// Whether standard input ends with the first attached client that sends it any.
    #[serde(skip_serializing_if = "is_false")]
    pub stdin_once: bool,
    /// Whether the program runs at a terminal, where standard output and error are one.
    #[serde(skip_serializing_if = "is_false")]
    pub tty: bool,
    /// The working directory.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
}

/// An environment variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvVar {
    /// The variable's name.
    pub name: String,
    /// The variable's value. `$(NAME)` stands for a variable defined earlier; `$$` for a dollar sign.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// When to pull an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ImagePullPolicy {
    /// Before each start.
    Always,
    /// When it is missing.
    #[default]
    IfNotPresent,
    /// Never; a missing image is an error.
    Never,
}

/// A port a program listens on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// The port, 1 to 65535.
    pub container_port: i32,
    /// The address of the host to listen on; all by default.
    #[serde(rename = "hostIP", skip_serializing_if = "String::is_empty")]
    pub host_ip: String,
    /// The port of the host that leads here; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_port: Option<i32>,
    /// A name for probes and services to use.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// TCP by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// A transport protocol.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// SCTP.
    Sctp,
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// What a container needs (`requests`, for placing it) and what it may use (`limits`, enforced).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceRequirements {
    /// Upper bounds.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: ResourceMap,
    /// What is set aside; the limits by default.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: ResourceMap,
}

/// A check of a container, done by the agent. Defaults are Kubernetes'.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Probe {
    /// A program to run in the container; exit code 0 is success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecAction>,
    /// Failures in a row that count; 3 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_threshold: Option<i32>,
    /// A page to fetch; a status from 200 to 399 is success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGetAction>,
    /// Seconds from start to the first check; 0 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_delay_seconds: Option<i32>,
    /// Seconds between checks; 10 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_seconds: Option<i32>,
    /// Successes in a row that count; 1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_threshold: Option<i32>,
    /// A port to connect to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocketAction>,
    /// Seconds a check may take; 1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i32>,
}

/// A program to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecAction {
    /// The program and its arguments; no shell.
    pub command: Vec<String>,
}

/// A page to fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpGetAction {
    /// The host; the pod's address by default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Headers to send.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http_headers: Vec<HttpHeader>,
    /// The path; `/` by default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// The port, by number or name.
    pub port: PortOrName,
    /// `HTTP` (the default). `HTTPS` is not done yet.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scheme: String,
}

/// A header of a probe's request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpHeader {
    /// The header's name.
    pub name: String,
    /// The header's value.
    pub value: String,
}

/// A port to connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpSocketAction {
    /// The host; the pod's address by default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// The port, by number or name.
    pub port: PortOrName,
}

/// A port by number, or by the name a container gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortOrName {
    /// The name of a container's port.
    Name(String),
    /// A port number.
    Port(i32),
}

impl Default for PortOrName {
    fn default() -> Self {
        Self::Port(0)
    }
}

impl PortOrName {
    /// Returns the number: itself, or that of the container's port of this name.
    pub fn resolve(&self, container: &Container) -> Option<i32> {
        match self {
            Self::Port(port) => Some(*port),
            Self::Name(name) => container
                .ports
                .iter()
                .find(|port| port.name == *name)
                .map(|port| port.container_port),
        }
    }
}

impl fmt::Display for PortOrName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Port(port) => write!(f, "{port}"),
        }
    }
}

impl Serialize for PortOrName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Name(name) => serializer.serialize_str(name),
            Self::Port(port) => serializer.serialize_i32(*port),
        }
    }
}

impl<'de> Deserialize<'de> for PortOrName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = PortOrName;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a string")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<PortOrName, E> {
                Ok(text
                    .parse()
                    .map_or_else(|_| PortOrName::Name(text.to_owned()), PortOrName::Port))
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<PortOrName, E> {
                i32::try_from(number).map(PortOrName::Port).map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<PortOrName, E> {
                i32::try_from(number).map(PortOrName::Port).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
