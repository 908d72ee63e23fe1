//! The node's own record: registered at once, and again when something of it changes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::submit::chain;
use super::core::{Core, LINK_TIMEOUT_MS, Retry};
use super::machine::Facts;
use super::tasks::{Event, limited, limited_link};
use crate::model::{
    AGENT_ANNOTATION, ConditionStatus, LABEL_HOSTNAME, Node, NodeAddress, NodeCondition,
    NodeStatus, ObjectMeta, Quantity, ResourceMap,
};
use crate::node::LinkError;
use crate::runtime::{RuntimeError, RuntimeInfo};

/// How long the runtime may take to describe itself, in milliseconds.
const DESCRIBE_TIMEOUT_MS: u64 = 5_000;
/// A runtime that did not describe itself is asked again this often.
const DESCRIBE_INTERVAL: Duration = Duration::from_secs(2);

/// The node's record, as known here.
#[derive(Debug, Default)]
pub(super) struct Registration {
    facts: Option<Facts>,
    info: Option<RuntimeInfo>,
    describing: bool,
    described_at: Option<Instant>,
    /// The record as last accepted.
    accepted: Option<Node>,
    in_flight: bool,
    retry: Retry,
    /// Why the node was not registered, as told last.
    told: String,
}

impl Registration {
    /// Whether the control plane knows this node, and did not refuse it since.
    pub const fn is_accepted(&self) -> bool {
        self.accepted.is_some()
    }

    /// The record as last accepted by the control plane.
    pub const fn accepted(&self) -> Option<&Node> {
        self.accepted.as_ref()
    }

    /// Makes the node register again.
    pub fn forget(&mut self) {
        self.accepted = None;
    }

    /// Says why the node is not registered, once.
    fn tell(&mut self, error: &LinkError) {
        let message = chain(error);
        if self.told == message {
            tracing::debug!(error = %message, "the node was not registered");
        } else {
            tracing::warn!(
                error = %message,
                "the node was not registered; it is tried again, and its pods run on"
            );
            self.told = message;
        }
    }

    pub fn cpus(&self) -> i64 {
        self.facts.as_ref().map_or(1, |facts| facts.cpus)
    }
}

impl Core {
    /// Reads what machine and runtime are.
    pub(super) fn describe(&mut self) {
        self.registration.describing = true;
        let runtime = Arc::clone(&self.runtime);
        let known = self.registration.facts.clone();
        let (machine, disk_path) = (self.config.machine, self.config.disk_path.clone());
        self.tasks.spawn(async move {
            let read = async move {
                match known {
                    Some(facts) => facts,
                    None => Facts::of(machine, disk_path).await,
                }
            };
            let describe = limited("asking what it is", DESCRIBE_TIMEOUT_MS, runtime.describe());
            let (facts, outcome) = tokio::join!(read, describe);
            Event::Described { facts: Box::new(facts), outcome }
        });
    }

    pub(super) fn handle_described(
        &mut self,
        facts: Facts,
        outcome: Result<RuntimeInfo, RuntimeError>,
    ) {
        let registration = &mut self.registration;
        registration.describing = false;
        registration.described_at = Some(Instant::now());
        registration.facts = Some(facts);
        match outcome {
            Ok(info) => {
                self.context.uses_images = info.uses_images;
                registration.info = Some(info);
            }
            Err(error) => tracing::warn!(%error, "the runtime does not say what it is"),
        }
    }

    pub(super) fn act_registration(&mut self) -> Option<Instant> {
        let mut next = None;
        if self.registration.info.is_none() && !self.registration.describing {
            let again = self.registration.described_at.map(|at| at + DESCRIBE_INTERVAL);
            match again.filter(|at| *at > Instant::now()) {
                Some(at) => next = Some(at),
                None => self.describe(),
            }
        }
        let node = self.node();
        let registration = &mut self.registration;
        let Some(node) = node.filter(|_| !registration.in_flight) else { return next };
        if registration.accepted.as_ref().is_some_and(|accepted| same(accepted, &node)) {
            return next;
        }
        if let Some(retry) = registration.retry.at() {
            return Some(next.map_or(retry, |next: Instant| next.min(retry)));
        }
        registration.in_flight = true;
        let link = Arc::clone(&self.link);
        self.tasks.spawn(async move {
            let outcome = limited_link(LINK_TIMEOUT_MS, link.register(node.clone())).await;
            Event::Registered { node: Box::new(node), outcome }
        });
        next
    }

    pub(super) fn handle_registered(&mut self, node: Node, outcome: Result<(), LinkError>) {
        let registration = &mut self.registration;
        registration.in_flight = false;
        match outcome {
            Ok(()) => {
                registration.accepted = Some(node);
                registration.retry = Retry::default();
                registration.told.clear();
            }
            Err(error) => {
                registration.retry.failed(&self.config.scope.node);
                registration.tell(&error);
                if matches!(error, LinkError::Unreachable(_)) {
                    self.heard_nothing();
                }
            }
        }
    }

    /// The record as it should be; `None` before the machine was read.
    pub(super) fn node(&self) -> Option<Node> {
        let registration = &self.registration;
        let facts = registration.facts.as_ref()?;
        let name = &self.config.scope.node;
        let mut labels = self.config.labels.clone();
        for (label, value) in [
            (LABEL_HOSTNAME, name.as_str()),
            ("kubernetes.io/os", facts.info.operating_system.as_str()),
            ("kubernetes.io/arch", facts.info.architecture.as_str()),
        ] {
            labels.entry(label.to_owned()).or_insert_with(|| value.to_owned());
        }
        let id = self.config.id.as_ref();
        let mut annotations = self.config.annotations.clone();
        annotations.extend(id.map(|id| (AGENT_ANNOTATION.to_owned(), id.to_string())));
        let mut info = facts.info.clone();
        if let Some(runtime) = &registration.info {
            info.container_runtime_version = format!("{}://{}", runtime.name, runtime.version);
        }
        let capacity = facts.capacity(self.config.pods_max);
        let host_name =
            if facts.host_name.is_empty() { name.clone() } else { facts.host_name.clone() };
        let address = |kind: &str, address: String| NodeAddress { address, kind: kind.to_owned() };
        Some(Node {
            metadata: ObjectMeta { annotations, labels, ..ObjectMeta::named("", name) },
            status: NodeStatus {
                addresses: vec![
                    address("InternalIP", self.config.address.clone()),
                    address("Hostname", host_name),
                ],
                allocatable: allocatable(&capacity, &self.config.reserve),
                capacity,
                conditions: vec![self.ready_condition()],
                node_info: info,
                ..NodeStatus::default()
            },
            ..Node::default()
        })
    }

    fn ready_condition(&self) -> NodeCondition {
        let down = self.registration.info.is_none() || self.listing.is_down();
        let (status, reason, message) = if down {
            (ConditionStatus::False, "ContainerRuntimeDown", "the runtime does not answer")
        } else {
            (ConditionStatus::True, "AgentReady", "the agent runs and the runtime answers")
        };
        let now = self.now().to_time();
        let accepted = self.registration.accepted.as_ref();
        let before = accepted.and_then(|node| node.status.conditions.first());
        let since = before.filter(|before| before.status == status);
        NodeCondition {
            last_heartbeat_time: Some(now),
            last_transition_time: since.map_or(Some(now), |before| before.last_transition_time),
            message: message.to_owned(),
            reason: reason.to_owned(),
            status,
            kind: "Ready".to_owned(),
        }
    }
}

/// Whether two records say the same; when the node last spoke is no difference.
fn same(accepted: &Node, node: &Node) -> bool {
    let still = |node: &Node| {
        let mut node = node.clone();
        node.status.conditions.iter_mut().for_each(|condition| {
            condition.last_heartbeat_time = None;
            condition.last_transition_time = None;
        });
        node
    };
    still(accepted) == still(node)
}

fn allocatable(capacity: &ResourceMap, reserve: &ResourceMap) -> ResourceMap {
    let left = |name: &String, quantity: &Quantity| match reserve.get(name) {
        None => *quantity,
        Some(reserved) if name == "cpu" => {
            Quantity::from_milli(quantity.milli().saturating_sub(reserved.milli()).max(0))
        }
        Some(reserved) => {
            let left = quantity.units_ceil().saturating_sub(reserved.units_ceil()).max(0);
            match name.as_str() {
                "memory" | "ephemeral-storage" => Quantity::from_bytes(left),
                _ => Quantity::from_units(left),
            }
        }
    };
    capacity.iter().map(|(name, quantity)| (name.clone(), left(name, quantity))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocatable_is_capacity_less_the_reserve_and_never_below_zero() {
        let map = |cpu_milli, memory, pods| -> ResourceMap {
            [
                ("cpu".to_owned(), Quantity::from_milli(cpu_milli)),
                ("memory".to_owned(), Quantity::from_bytes(memory)),
                ("pods".to_owned(), Quantity::from_units(pods)),
            ]
            .into()
        };
        let mut reserve = map(500, 1 << 30, 0);
        reserve.remove("pods");
        assert_eq!(allocatable(&map(2000, 4 << 30, 110), &reserve), map(1500, 3 << 30, 110));
        assert_eq!(allocatable(&map(100, 1, 110), &reserve), map(0, 0, 110));
    }
}
