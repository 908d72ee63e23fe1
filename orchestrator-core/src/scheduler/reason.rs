//! `Reason`: why a pod cannot be on a node.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{Protocol, Quantity, Taint, TaintEffect};

/// One reason why a pod cannot be on a node, with the numbers behind it.
///
/// Prints as Kubernetes words it (`Insufficient cpu`); [`Reason::detail`] adds the numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Reason {
    /// A pod on the node has the port.
    HostPortTaken {
        /// The port.
        port: i32,
        /// The protocol.
        protocol: Protocol,
        /// The address asked for; empty for all.
        #[serde(rename = "hostIP")]
        host_ip: String,
    },
    /// The node has too little of a resource left.
    Insufficient {
        /// The resource: `cpu`, `memory`, ….
        resource: String,
        /// How much the pod requests.
        requested: Quantity,
        /// How much is free; below zero on a node that was over-committed by pods born with its name.
        free: Quantity,
    },
    /// There is no such node.
    NoSuchNode {
        /// The name.
        node: String,
    },
    /// The node lacks a label that the pod selects.
    NodeSelectorMismatch {
        /// The label's name.
        label: String,
        /// The value the pod wants.
        wanted: String,
        /// The value the node has, if any.
        #[serde(skip_serializing_if = "Option::is_none")]
        found: Option<String>,
    },
    /// The node is not ready.
    NotReady,
    /// The pod names another node.
    OtherNode {
        /// The node it names.
        wanted: String,
    },
    /// The node has as many pods as it may have.
    PodLimit {
        /// How many it may have.
        limit: i64,
    },
    /// The scheduler has a reason of its own.
    Refused {
        /// Which part of it.
        by: String,
        /// Why.
        message: String,
    },
    /// The node is cordoned.
    Unschedulable,
    /// The node has a taint that the pod does not tolerate.
    UntoleratedTaint {
        /// The taint.
        taint: Taint,
    },
}

/// What sort of reason: what nodes are counted by when a pod fits nowhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReasonKind {
    /// [`Reason::HostPortTaken`].
    HostPortTaken,
    /// [`Reason::Insufficient`], by resource.
    Insufficient(String),
    /// [`Reason::NoSuchNode`].
    NoSuchNode(String),
    /// [`Reason::NodeSelectorMismatch`].
    NodeSelectorMismatch,
    /// [`Reason::NotReady`].
    NotReady,
    /// [`Reason::OtherNode`].
    OtherNode,
    /// [`Reason::PodLimit`].
    PodLimit,
    /// [`Reason::Refused`], by part.
    Refused(String),
    /// [`Reason::Unschedulable`].
    Unschedulable,
    /// [`Reason::UntoleratedTaint`], by key and value.
    UntoleratedTaint(String, String),
}

/// A check that every placement passes, whoever made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Filter {
    /// The scheduler's own.
    Custom,
    /// Ports of the host are free.
    HostPorts,
    /// The node is the one the pod names, if it names one.
    NodeName,
    /// The node has the labels that the pod selects.
    NodeSelector,
    /// The node is ready.
    Ready,
    /// Requests fit into what is free.
    Resources,
    /// Taints are tolerated.
    Taints,
    /// The node is not cordoned.
    Unschedulable,
}

impl Reason {
    /// What sort of reason it is.
    pub fn kind(&self) -> ReasonKind {
        match self {
            Self::HostPortTaken { .. } => ReasonKind::HostPortTaken,
            Self::Insufficient { resource, .. } => ReasonKind::Insufficient(resource.clone()),
            Self::NoSuchNode { node } => ReasonKind::NoSuchNode(node.clone()),
            Self::NodeSelectorMismatch { .. } => ReasonKind::NodeSelectorMismatch,
            Self::NotReady => ReasonKind::NotReady,
            Self::OtherNode { .. } => ReasonKind::OtherNode,
            Self::PodLimit { .. } => ReasonKind::PodLimit,
            Self::Refused { by, .. } => ReasonKind::Refused(by.clone()),
            Self::Unschedulable => ReasonKind::Unschedulable,
            Self::UntoleratedTaint { taint } => {
                ReasonKind::UntoleratedTaint(taint.key.clone(), taint.value.clone())
            }
        }
    }

    /// The check that failed.
    pub const fn filter(&self) -> Filter {
        match self {
            Self::HostPortTaken { .. } => Filter::HostPorts,
            Self::Insufficient { .. } | Self::PodLimit { .. } => Filter::Resources,
            Self::NoSuchNode { .. } | Self::OtherNode { .. } => Filter::NodeName,
            Self::NodeSelectorMismatch { .. } => Filter::NodeSelector,
            Self::NotReady => Filter::Ready,
            Self::Refused { .. } => Filter::Custom,
            Self::Unschedulable => Filter::Unschedulable,
            Self::UntoleratedTaint { .. } => Filter::Taints,
        }
    }

    /// Whether it also speaks against a pod that is bound to the node already, so that its agent refuses it.
    ///
    /// Readiness, cordon and taints other than `NoExecute` only keep new placements away.
    pub const fn bars_bound_pods(&self) -> bool {
        match self {
            Self::HostPortTaken { .. }
            | Self::Insufficient { .. }
            | Self::NoSuchNode { .. }
            | Self::NodeSelectorMismatch { .. }
            | Self::OtherNode { .. }
            | Self::PodLimit { .. } => true,
            Self::NotReady | Self::Refused { .. } | Self::Unschedulable => false,
            Self::UntoleratedTaint { taint } => matches!(taint.effect, TaintEffect::NoExecute),
        }
    }

    /// The reason with its numbers, for one node.
    pub fn detail(&self) -> String {
        match self {
            Self::HostPortTaken { port, protocol, host_ip } => {
                let address = if host_ip.is_empty() { "all addresses" } else { host_ip };
                format!("host port {port}/{protocol:?} on {address} is taken").to_lowercase()
            }
            Self::Insufficient { resource, requested, free } => {
                format!("insufficient {resource}: {requested} requested, {free} free")
            }
            Self::NoSuchNode { node } => format!("there is no node {node:?}"),
            Self::NodeSelectorMismatch { label, wanted, found: Some(found) } => {
                format!("node selector {label}={wanted}: the node has {found:?}")
            }
            Self::NodeSelectorMismatch { label, wanted, found: None } => {
                format!("node selector {label}={wanted}: the node has no such label")
            }
            Self::NotReady => "the node is not ready".to_owned(),
            Self::OtherNode { wanted } => format!("the pod names the node {wanted:?}"),
            Self::PodLimit { limit } => format!("the node has its {limit} pods"),
            Self::Refused { by, message } => format!("{by}: {message}"),
            Self::Unschedulable => "the node is cordoned".to_owned(),
            Self::UntoleratedTaint { taint: Taint { key, value, effect, .. } } => {
                let equals = if value.is_empty() { "" } else { "=" };
                format!("taint {key}{equals}{value}:{effect:?} is not tolerated")
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind().fmt(f)
    }
}

impl fmt::Display for ReasonKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostPortTaken => {
                f.write_str("node(s) didn't have free ports for the requested pod ports")
            }
            Self::Insufficient(resource) => write!(f, "Insufficient {resource}"),
            Self::NoSuchNode(node) => write!(f, "no node named {node:?}"),
            Self::NodeSelectorMismatch => {
                f.write_str("node(s) didn't match Pod's node affinity/selector")
            }
            Self::NotReady => f.write_str("node(s) were not ready"),
            Self::OtherNode => f.write_str("node(s) didn't match the requested node name"),
            Self::PodLimit => f.write_str("Too many pods"),
            Self::Refused(by) => write!(f, "node(s) were refused by {by}"),
            Self::Unschedulable => f.write_str("node(s) were unschedulable"),
            Self::UntoleratedTaint(key, value) => {
                write!(f, "node(s) had untolerated taint {{{key}: {value}}}")
            }
        }
    }
}
