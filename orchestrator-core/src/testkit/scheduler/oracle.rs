//! `Ledger`: which pod is where, and what may come next, by plain sums over the objects. Slow and obvious.

use std::collections::BTreeMap;

use crate::model::{
    Container, ContainerPort, Node, Pod, Quantity, TAINT_UNSCHEDULABLE, Taint, TaintEffect,
};
use crate::testkit::strategies::Scenario;

/// A cluster as a list of nodes and of pods on them.
#[derive(Clone, Debug)]
pub struct Ledger {
    nodes: Vec<Node>,
    pods: Vec<Pod>,
}

impl Ledger {
    /// Starts with the nodes and bound pods of a scenario.
    pub fn new(scenario: &Scenario) -> Self {
        Self { nodes: scenario.nodes.clone(), pods: scenario.bound.clone() }
    }

    /// Binds a pod.
    pub fn bind(&mut self, pod: &Pod, node: &str) {
        self.pods.push(Pod { node_name: node.to_owned(), ..pod.clone() });
    }

    /// Why the node has too little left for the pod, if so.
    pub fn over_commits(&self, pod: &Pod, node: &str) -> Option<String> {
        let Some(node) = self.node(node) else { return Some(format!("no node {node}")) };
        let others = self.others(pod, node);
        for (resource, requested) in requests(pod) {
            let taken: i128 =
                others.iter().filter_map(|other| requests(other).remove(&resource)).sum();
            let has = node.status.allocatable.get(&resource).map_or(0, |it| i128::from(it.milli()));
            if requested > 0 && taken + requested > has {
                return Some(format!("{resource}: {taken} taken, {requested} more, {has} there"));
            }
        }
        let limit = node.status.allocatable.get("pods").map_or(110, |it| it.units_ceil());
        let pods = others.len() as i64;
        (pods >= limit).then(|| format!("{pods} pods of {limit}"))
    }

    /// Why the node keeps the pod away, if so: not ready, cordoned, tainted.
    pub fn keeps_away(&self, pod: &Pod, node: &str) -> Option<String> {
        let Some(node) = self.node(node) else { return Some(format!("no node {node}")) };
        let is_hard = |taint: &&Taint| taint.effect != TaintEffect::PreferNoSchedule;
        let mut taints: Vec<_> = node.spec.taints.iter().filter(is_hard).cloned().collect();
        if node.spec.unschedulable {
            // A cordon and its taint are one thing, whatever effect the taint has.
            taints.retain(|taint| taint.key != TAINT_UNSCHEDULABLE);
            taints.push(Taint { key: TAINT_UNSCHEDULABLE.to_owned(), ..Taint::default() });
        }
        if !node.is_ready() {
            return Some("not ready".to_owned());
        }
        let tolerations = &pod.spec.tolerations;
        let mut bad =
            taints.iter().filter(|taint| !tolerations.iter().any(|it| it.tolerates(taint)));
        bad.next().map(|taint| format!("taint {taint:?}"))
    }

    /// Why the node is not what the pod asks for, if so: selector, host ports, name.
    pub fn is_not_asked_for(&self, pod: &Pod, node: &str) -> Option<String> {
        let Some(node) = self.node(node) else { return Some(format!("no node {node}")) };
        let name = &node.metadata.name;
        if pod.is_bound() && pod.node_name != *name {
            return Some(format!("the pod names {}", pod.node_name));
        }
        for (label, value) in &pod.spec.node_selector {
            if node.metadata.labels.get(label) != Some(value) {
                return Some(format!("label {label} is not {value}"));
            }
        }
        for other in self.others(pod, node) {
            for (mine, theirs) in ports(pod).flat_map(|mine| ports(other).map(move |it| (mine, it)))
            {
                if clash(mine, theirs) {
                    return Some(format!("host port {:?} is taken", mine.host_port));
                }
            }
        }
        None
    }

    /// Any of the three.
    pub fn objection(&self, pod: &Pod, node: &str) -> Option<String> {
        self.over_commits(pod, node)
            .or_else(|| self.keeps_away(pod, node))
            .or_else(|| self.is_not_asked_for(pod, node))
    }

    fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.metadata.name == name)
    }

    fn others(&self, pod: &Pod, node: &Node) -> Vec<&Pod> {
        let here = self.pods.iter().filter(|other| other.node_name == node.metadata.name);
        here.filter(|other| other.metadata.name != pod.metadata.name).collect()
    }
}

fn requests(pod: &Pod) -> BTreeMap<String, i128> {
    let mut sums = BTreeMap::new();
    for container in &pod.spec.containers {
        for (resource, quantity) in asked(container) {
            *sums.entry(resource).or_default() += i128::from(quantity.milli());
        }
    }
    sums
}

fn asked(container: &Container) -> BTreeMap<String, Quantity> {
    let mut asked = container.resources.limits.clone();
    asked.extend(container.resources.requests.clone());
    asked
}

fn ports(pod: &Pod) -> impl Iterator<Item = &ContainerPort> {
    let all = pod.spec.containers.iter().flat_map(|container| &container.ports);
    all.filter(|port| port.host_port.is_some())
}

fn clash(a: &ContainerPort, b: &ContainerPort) -> bool {
    let everywhere = |port: &ContainerPort| ["", "0.0.0.0", "::"].contains(&port.host_ip.as_str());
    a.host_port == b.host_port
        && a.protocol.unwrap_or_default() == b.protocol.unwrap_or_default()
        && (everywhere(a) || everywhere(b) || a.host_ip == b.host_ip)
}
