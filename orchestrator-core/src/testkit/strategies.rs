//! Proptest strategies for clusters and workloads: small numbers, so that pods compete and clash.

use std::fmt;
use std::sync::Arc;

use proptest::collection::{SizeRange, btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::model::{
    Container, ContainerPort, Deployment, LABEL_HOSTNAME, Node, NodeCondition, ObjectMeta,
    OwnerReference, Pod, PodSpec, Protocol, Quantity, Resource, ResourceMap, StringMap,
    TAINT_UNSCHEDULABLE, Taint, TaintEffect, Toleration, TolerationOperator, Uid,
};
use crate::scheduler::ClusterView;

/// A resource beyond cpu and memory that some nodes have and some pods want.
pub const EXTENDED_RESOURCE: &str = "example.com/gpu";

/// A cluster with pods on it, and pods that wait for a node.
///
/// Bound pods were not placed with care: some nodes may have less than they give.
#[derive(Clone, PartialEq, Eq)]
pub struct Scenario {
    /// The nodes, in name order.
    pub nodes: Vec<Node>,
    /// Pods with a node's name.
    pub bound: Vec<Pod>,
    /// Pods without; replicas of each other stand together.
    pub pending: Vec<Pod>,
}

impl Scenario {
    /// The view of the nodes and bound pods.
    pub fn view(&self) -> ClusterView {
        ClusterView::of(self.nodes.clone(), self.bound.clone())
    }
}

/// Prints each object as a line of JSON, so that a failing case can be read and kept.
impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.nodes.iter().map(|node| node.clone().into_object());
        let pods = self.bound.iter().chain(&self.pending).map(|pod| pod.clone().into_object());
        for object in nodes.chain(pods) {
            writeln!(f, "{}", object.to_value())?;
        }
        Ok(())
    }
}

/// Clusters of `nodes` nodes with bound pods, and up to some twenty pending pods.
pub fn scenario(nodes: impl Into<SizeRange>) -> impl Strategy<Value = Scenario> {
    let bound = vec((pod_template(), any::<prop::sample::Index>()), 0..8);
    (self::nodes(nodes), bound, workload(0..6)).prop_map(|(nodes, bound, mut pending)| {
        let mut on_nodes = Vec::new();
        for (number, (mut pod, at)) in bound.into_iter().enumerate() {
            if nodes.is_empty() {
                break;
            }
            pod.node_name = at.get(&nodes).metadata.name.clone();
            name(&mut pod, &format!("bound-{number:02}"), 1_000 + number);
            on_nodes.push(pod);
        }
        for (number, pod) in pending.iter_mut().enumerate() {
            let of = pod.metadata.name.clone();
            name(pod, &of, 2_000 + number);
        }
        Scenario { nodes, bound: on_nodes, pending }
    })
}

/// Nodes `node-00`, `node-01`, …: most are ready, some cordoned, tainted, labelled, tiny, or without a limit of pods.
pub fn nodes(count: impl Into<SizeRange>) -> impl Strategy<Value = Vec<Node>> {
    vec(node(), count).prop_map(|mut nodes| {
        for (number, node) in nodes.iter_mut().enumerate() {
            let name = format!("node-{number:02}");
            node.metadata.labels.insert(LABEL_HOSTNAME.to_owned(), name.clone());
            node.metadata.name = name;
        }
        nodes
    })
}

/// A node without a name.
pub fn node() -> impl Strategy<Value = Node> {
    let cpu = prop_oneof![1 => Just(0), 2 => (1..16i64).prop_map(|n| n * 250), 5 => (1..9i64).prop_map(|n| n * 1000)];
    let amounts = (cpu, 0..64i64, option::weighted(0.3, 0..6i64), option::weighted(0.3, 0..4i64));
    let state = (prop::bool::weighted(0.85), prop::bool::weighted(0.1));
    (amounts, state, node_labels(), vec(taint(), 0..3)).prop_map(
        |(amounts, state, labels, taints)| {
            let mut node = Node {
                metadata: ObjectMeta { labels, ..ObjectMeta::default() },
                ..Node::default()
            };
            let (cpu_milli, memory, pods, gpus) = amounts;
            let all = &mut node.status.allocatable;
            all.insert("cpu".to_owned(), Quantity::from_milli(cpu_milli));
            all.insert("memory".to_owned(), Quantity::from_bytes(memory << 27));
            all.extend(pods.map(|pods| ("pods".to_owned(), Quantity::from_units(pods))));
            all.extend(gpus.map(|gpus| (EXTENDED_RESOURCE.to_owned(), Quantity::from_units(gpus))));
            let (ready, cordoned) = state;
            node.status.conditions = vec![NodeCondition {
                kind: "Ready".to_owned(),
                status: ready.into(),
                ..NodeCondition::default()
            }];
            node.spec.unschedulable = cordoned;
            node.spec.taints = taints;
            node
        },
    )
}

/// A deployment of this name, with up to `replicas_max` pods.
pub fn deployment(name: &'static str, replicas_max: i32) -> impl Strategy<Value = Deployment> {
    (pod_template(), 0..=replicas_max).prop_map(move |(pod, replicas)| {
        let mut deployment = Deployment::of(name, pod.spec.containers.clone()).replicas(replicas);
        deployment.spec.template.spec = pod.spec;
        deployment
    })
}

/// Pods of some `templates`, up to five of each; replicas stand together, each has a name of its own.
pub fn workload(templates: impl Into<SizeRange>) -> impl Strategy<Value = Vec<Pod>> {
    vec((pod_template(), 1..6usize), templates).prop_map(|templates| {
        let mut pods = Vec::new();
        for (number, (template, replicas)) in templates.into_iter().enumerate() {
            for replica in 0..replicas {
                let mut pod = template.clone();
                let at = pods.len();
                name(&mut pod, &format!("pod-{number:02}-{replica}"), at);
                pods.push(pod);
            }
        }
        pods
    })
}

/// A pod without name, uid and node: requests or limits or neither, now and then a host port, selector, toleration.
pub fn pod_template() -> impl Strategy<Value = Pod> {
    let owner = option::weighted(0.6, select(vec!["rs-a", "rs-b", "rs-c"]));
    let labels = btree_map(Just("app".to_owned()), select(words(&["web", "db"])), 0..2);
    let tolerations = prop_oneof![3 => Just(Vec::new()), 2 => vec(toleration(), 1..3)];
    (vec(container(), 1..3), node_selector(), tolerations, owner, labels).prop_map(
        |(mut containers, node_selector, tolerations, owner, labels)| {
            for (number, container) in containers.iter_mut().enumerate() {
                container.name = format!("c{number}");
            }
            let spec = PodSpec { containers, node_selector, tolerations, ..PodSpec::default() };
            let owner = owner.map(|name| OwnerReference {
                api_version: "apps/v1".to_owned(),
                controller: true,
                kind: "ReplicaSet".to_owned(),
                name: name.to_owned(),
                ..OwnerReference::default()
            });
            let owner_references = owner.into_iter().collect();
            let metadata =
                ObjectMeta { labels, owner_references, ..ObjectMeta::named("default", "") };
            Pod { metadata, spec: Arc::new(spec), ..Pod::default() }
        },
    )
}

fn name(pod: &mut Pod, name: &str, number: usize) {
    pod.metadata.name = name.to_owned();
    pod.metadata.uid = Uid::from_uuid(uuid::Uuid::from_u128(number as u128 + 1));
}

fn container() -> impl Strategy<Value = Container> {
    let ports = option::weighted(0.2, host_port());
    (resources(), resources(), ports).prop_map(|(requests, limits, port)| {
        let mut container = Container::new("", "image");
        container.resources.requests = requests;
        container.resources.limits = limits;
        container.ports.extend(port);
        container
    })
}

fn resources() -> impl Strategy<Value = ResourceMap> {
    let cpu = option::weighted(0.6, (0..12i64).prop_map(|n| n * 125));
    let memory = option::weighted(0.6, 0..24i64);
    let gpus = option::weighted(0.1, 0..3i64);
    (cpu, memory, gpus).prop_map(|(cpu, memory, gpus)| {
        let mut map = ResourceMap::new();
        map.extend(cpu.map(|milli| ("cpu".to_owned(), Quantity::from_milli(milli))));
        map.extend(memory.map(|many| ("memory".to_owned(), Quantity::from_bytes(many << 26))));
        map.extend(gpus.map(|gpus| (EXTENDED_RESOURCE.to_owned(), Quantity::from_units(gpus))));
        map
    })
}

fn host_port() -> impl Strategy<Value = ContainerPort> {
    let protocol = option::of(select(vec![Protocol::Tcp, Protocol::Udp]));
    let address = select(words(&["", "", "0.0.0.0", "10.0.0.1", "10.0.0.2"]));
    (80..83i32, protocol, address).prop_map(|(port, protocol, host_ip)| ContainerPort {
        container_port: port,
        host_ip,
        host_port: Some(port),
        protocol,
        ..ContainerPort::default()
    })
}

fn node_labels() -> impl Strategy<Value = StringMap> {
    let zone = option::weighted(0.8, select(words(&["a", "b"])));
    let disk = option::weighted(0.5, select(words(&["hdd", "ssd"])));
    (zone, disk).prop_map(|(zone, disk)| {
        let zone = zone.map(|zone| ("zone".to_owned(), zone));
        zone.into_iter().chain(disk.map(|disk| ("disk".to_owned(), disk))).collect()
    })
}

fn node_selector() -> impl Strategy<Value = StringMap> {
    prop_oneof![3 => Just(StringMap::new()), 1 => node_labels()]
}

fn taint() -> impl Strategy<Value = Taint> {
    let effect = select(vec![
        TaintEffect::NoExecute,
        TaintEffect::NoSchedule,
        TaintEffect::PreferNoSchedule,
        TaintEffect::PreferNoSchedule,
    ]);
    let key = select(words(&["dedicated", "flaky", TAINT_UNSCHEDULABLE]));
    let value = select(words(&["", "batch"]));
    (effect, key, value).prop_map(|(effect, key, value)| Taint {
        effect,
        key,
        time_added: None,
        value,
    })
}

fn toleration() -> impl Strategy<Value = Toleration> {
    let operator = option::of(select(vec![TolerationOperator::Equal, TolerationOperator::Exists]));
    let effect =
        select(vec![None, None, Some(TaintEffect::NoExecute), Some(TaintEffect::NoSchedule)]);
    let key = select(words(&["", "dedicated", "flaky", TAINT_UNSCHEDULABLE]));
    let value = select(words(&["", "batch"]));
    (operator, effect, key, value).prop_map(|(operator, effect, key, value)| Toleration {
        effect,
        key,
        operator,
        toleration_seconds: None,
        value,
    })
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
