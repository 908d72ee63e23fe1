//! `Pod`: containers that share a network and a fate; `PodSpec`, `PodTemplate`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::container::Container;
use super::meta::{ObjectMeta, StringMap};
use super::node::{Taint, TaintEffect};
use super::pod_status::PodStatus;
use super::quantity::Quantity;
use super::residual::{ReadPart, Residual, keep_residual, located_message, read_part};

/// Amounts of resources by name (`cpu`, `memory`, …).
pub type ResourceMap = BTreeMap<String, Quantity>;

/// The scheduler that places pods which name none.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";
/// The annotation in which a replica set numbers its pods.
pub const SLOT_ANNOTATION: &str = "orchestrator.dev/slot";

/// Containers that run together on one node.
///
/// The spec is shared between pods of one template; the node's name lies beside it in memory and inside it
/// on the wire (`spec.nodeName`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// What is wanted, without the node.
    pub spec: Arc<PodSpec>,
    /// The node the pod is bound to; write-once (S13). Empty while it is pending.
    pub node_name: String,
    /// What is.
    pub status: PodStatus,
    /// What was sent and is not modelled.
    pub residual: Residual,
}

/// What is wanted of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The programs; at least one.
    pub containers: Vec<Container>,
    /// Labels the node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: StringMap,
    /// When ended containers start again; `Always` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// Who places the pod; [`DEFAULT_SCHEDULER`] by default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scheduler_name: String,
    /// Seconds from TERM to KILL; 30 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<i64>,
    /// Taints the pod puts up with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// What was sent and is not modelled.
    #[serde(skip)]
    pub residual: Residual,
}

/// How a controller makes pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodTemplate {
    /// Labels and annotations of the pods.
    pub metadata: ObjectMeta,
    /// Their spec.
    pub spec: Arc<PodSpec>,
}

keep_residual!(PodSpec);

/// The wire form of a pod: as [`Pod`], with the node inside the spec.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct PodOnWire {
    metadata: ObjectMeta,
    spec: Value,
    status: PodStatus,
}

impl Serialize for Pod {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Spec<'a> {
            #[serde(skip_serializing_if = "str::is_empty")]
            node_name: &'a str,
            #[serde(flatten)]
            spec: &'a PodSpec,
        }
        #[derive(Serialize)]
        struct Borrowed<'a> {
            metadata: &'a ObjectMeta,
            spec: Spec<'a>,
            status: &'a PodStatus,
        }
        let spec = Spec { node_name: &self.node_name, spec: &self.spec };
        let wire = Borrowed { metadata: &self.metadata, spec, status: &self.status };
        if self.residual.is_empty() {
            return wire.serialize(serializer);
        }
        let mut value = serde_json::to_value(&wire).map_err(S::Error::custom)?;
        self.residual.merge_into(&mut value);
        value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let input = Value::deserialize(deserializer)?;
        Self::read(&input).map_err(D::Error::custom)
    }
}

impl ReadPart for Pod {
    fn read(input: &Value) -> Result<Self, String> {
        let (mut wire, residual) = read_part(input, |part| PodOnWire::deserialize(part))?;
        if wire.spec.is_null() {
            wire.spec = Value::Object(serde_json::Map::new());
        }
        let node_name = match wire.spec.as_object_mut().and_then(|spec| spec.remove("nodeName")) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(name)) => name,
            Some(other) => {
                return Err(format!(".spec.nodeName: invalid type: {other}, expected a string"));
            }
        };
        let spec = PodSpec::read(&wire.spec).map_err(|error| located_message("spec", &error))?;
        Ok(Self {
            metadata: wire.metadata,
            spec: Arc::new(spec),
            node_name,
            status: wire.status,
            residual,
        })
    }
}

impl PodSpec {
    /// When ended containers start again.
    pub fn restart_policy(&self) -> RestartPolicy {
        self.restart_policy.unwrap_or_default()
    }

    /// Seconds from TERM to KILL: what the spec says, or 30 (Kubernetes' default).
    pub fn grace_seconds(&self) -> i64 {
        self.termination_grace_period_seconds.unwrap_or(30)
    }
}

/// When ended containers start again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Whatever the exit code.
    #[default]
    Always,
    /// Not at all.
    Never,
    /// When the exit code is not 0.
    OnFailure,
}

/// A taint the pod puts up with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Toleration {
    /// The effect; every effect when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// The taint's key; every key when empty with `Exists`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// How key and value are compared; `Equal` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// For `NoExecute`: seconds the pod stays; for ever when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
    /// The taint's value, for `Equal`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// How a toleration is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TolerationOperator {
    /// Key and value must be equal.
    #[default]
    Equal,
    /// The key must be equal.
    Exists,
}

impl Toleration {
    /// Whether this toleration covers the taint (Kubernetes' rules).
    pub fn tolerates(&self, taint: &Taint) -> bool {
        let effect = self.effect.is_none_or(|effect| effect == taint.effect);
        effect
            && match self.operator.unwrap_or_default() {
                TolerationOperator::Equal => self.key == taint.key && self.value == taint.value,
                TolerationOperator::Exists => self.key.is_empty() || self.key == taint.key,
            }
    }
}

impl Pod {
    /// Makes a pod of one container.
    pub fn new(name: &str, image: &str) -> Self {
        let container =
            Container { name: "main".to_owned(), image: image.to_owned(), ..Container::default() };
        let spec = PodSpec { containers: vec![container], ..PodSpec::default() };
        Self {
            metadata: ObjectMeta::named("default", name),
            spec: Arc::new(spec),
            ..Self::default()
        }
    }

    /// Whether the pod has a node.
    pub const fn is_bound(&self) -> bool {
        !self.node_name.is_empty()
    }

    /// Whether the pod has run to its end: it holds no resources and never runs again.
    pub const fn is_finished(&self) -> bool {
        self.status.phase.is_final()
    }

    /// Whether the pod counts towards its owner's replicas: neither finished nor being deleted.
    pub const fn is_active(&self) -> bool {
        !self.is_finished() && !self.metadata.is_deleting()
    }

    /// Whether the pod says it is ready.
    pub fn is_ready(&self) -> bool {
        super::meta::condition_status(&self.status.conditions, "Ready")
            == super::meta::ConditionStatus::True
    }
}
