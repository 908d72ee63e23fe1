//! The objects of the cluster: plain data whose serde form is the Kubernetes JSON.
//!
//! Depends on nothing else in the crate (but the hash). Values are parsed on the way in: quantities, names,
//! selectors and times that exist are valid. What Kubernetes knows and we do not model is kept in a
//! [`Residual`] and merged back on output.

pub mod admit;
mod agent_id;
mod build;
mod cidr;
mod cluster_network;
mod config_map;
mod container;
mod custom_kind;
mod custom_object;
mod custom_resource_definition;
mod deployment;
mod event;
mod field_error;
mod ids;
mod lease;
mod managed_fields;
mod meta;
mod name_rule;
mod namespace;
mod node;
mod object;
mod parts;
mod pod;
mod pod_disruption_budget;
mod pod_status;
mod quantity;
mod replica_set;
mod residual;
mod role;
mod role_binding;
mod secret;
mod selector;
mod service;
mod service_account;
pub mod structural;
#[cfg(test)]
mod tests;
mod time;
mod values;
mod workload;

pub use agent_id::{AGENT_ANNOTATION, AgentId, InvalidAgentId};
pub use cidr::{Cidr, InvalidCidr};
pub use cluster_network::{
    ClusterNetwork, InvalidClusterNetwork, NETWORK_KEY_ANNOTATION, POD_CIDR_DEFAULT, SLICE_PREFIX,
};
pub use config_map::ConfigMap;
pub use container::{
    Container, ContainerPort, EnvVar, ExecAction, HttpGetAction, HttpHeader, ImagePullPolicy,
    PortOrName, Probe, Protocol, ResourceRequirements, TcpSocketAction,
};
pub use custom_kind::{CUSTOM_KINDS_MAX, CUSTOM_VERSIONS_MAX, CustomKind};
pub use custom_object::CustomObject;
pub use custom_resource_definition::{
    CLEANUP_FINALIZER, Conversion, CustomResourceDefinition, DefinitionNames, DefinitionScale,
    DefinitionSchema, DefinitionSpec, DefinitionStatus, DefinitionSubresources, DefinitionVersion,
    PrinterColumn,
};
pub use deployment::{
    CountOrPercent, Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy,
    REVISION_ANNOTATION, RollingUpdate, StrategyType, TEMPLATE_HASH_LABEL,
};
pub use event::{Event, EventSource, EventType, ObjectReference};
pub use field_error::{FieldError, FieldErrorKind};
pub use ids::{
    InvalidKey, Key, Kind, Revision, Uid, is_dns_label, is_dns_subdomain, is_path_segment,
};
pub use lease::{Lease, LeaseSpec};
pub use managed_fields::{FieldsV1, ManagedBy, ManagedFieldsEntry};
pub use meta::{
    Condition, ConditionStatus, FOREGROUND_FINALIZER, LAST_APPLIED_ANNOTATION, ORPHAN_FINALIZER,
    ObjectMeta, OwnerReference, StringMap, condition_status, set_condition,
};
pub use name_rule::NameRule;
pub use namespace::{
    LABEL_NAMESPACE_NAME, NAMESPACE_FINALIZER, Namespace, NamespacePhase, NamespaceSpec,
    NamespaceStatus,
};
pub use node::{
    LABEL_HOSTNAME, Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo,
    TAINT_NOT_READY, TAINT_UNREACHABLE, TAINT_UNSCHEDULABLE, Taint, TaintEffect,
};
pub use object::{DecodeError, Object, Part, Resource};
pub use pod::{
    DEFAULT_SCHEDULER, Pod, PodSpec, PodTemplate, ResourceMap, RestartPolicy, SLOT_ANNOTATION,
    Toleration, TolerationOperator,
};
pub use pod_disruption_budget::{
    PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus,
    UnhealthyPodEvictionPolicy,
};
pub use pod_status::{
    ContainerState, ContainerStatus, PodIp, PodPhase, PodStatus, StateRunning, StateTerminated,
    StateWaiting,
};
pub use quantity::{InvalidQuantity, Quantity};
pub use replica_set::{ReplicaSet, ReplicaSetSpec, ReplicaSetStatus};
pub(crate) use residual::strip_nulls;
pub use residual::{Residual, Step};
pub use role::{AggregationRule, ClusterRole, PolicyRule, Role};
pub use role_binding::{
    ClusterRoleBinding, RBAC_GROUP, RoleBinding, RoleRef, Subject, SubjectName,
};
pub use secret::{Secret, Sensitive};
pub use selector::{
    InvalidSelector, LabelRequirement, LabelSelector, SelectorOperator, is_label_name,
    is_label_value,
};
pub use service::{Service, ServicePort, ServiceSpec, ServiceStatus};
pub use service_account::ServiceAccount;
pub use time::{InvalidTime, MicroTime, Time, Timestamp};
pub use values::{DOCUMENT_VALUES_MAX, TooManyValues, count_values};
pub use workload::Workload;
