//! `Service`: a name for a set of pods. Recorded only; nothing routes to it yet.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::meta::{Condition, ObjectMeta, StringMap};
use super::residual::{Residual, keep_residual};

/// A name for the pods a selector matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct Service {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: ServiceSpec,
    /// What is.
    pub status: ServiceStatus,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

/// What is wanted of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// The service's address, `None` for a headless service; empty until one is given.
    #[serde(rename = "clusterIP", skip_serializing_if = "String::is_empty")]
    pub cluster_ip: String,
    /// The ports it answers on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePort>,
    /// Labels of the pods behind it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: StringMap,
    /// `None` or `ClientIP`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub session_affinity: String,
    /// `ClusterIP` (the default), `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

/// The state of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct ServiceStatus {
    /// Conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Always emitted, as clients expect it.
    pub load_balancer: serde_json::Map<String, serde_json::Value>,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

keep_residual!(Service, ServiceSpec, ServiceStatus);

/// A port of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// The port's name; needed when there are several.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The port it answers on, 1 to 65535.
    pub port: i32,
    /// `TCP` (the default), `UDP` or `SCTP`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// The port or port name of the pods; the same port by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_port: Option<super::container::PortOrName>,
}
