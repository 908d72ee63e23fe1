//! `Demand`: what a pod takes from a node, computed once per pod.

use std::collections::BTreeMap;

use crate::hash::Fnv128;
use crate::model::{Container, Pod, Protocol, Quantity, ResourceMap, Uid};

/// Thousandths of a CPU that scoring counts for a container which says nothing (Kubernetes' value).
pub const SCORED_CPU_MILLI: i64 = 100;
/// Bytes of memory that scoring counts for a container which says nothing (Kubernetes' value).
pub const SCORED_MEMORY_BYTES: i64 = 200 << 20;

/// A port of the host that a pod listens on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// The port, 1 to 65535.
    pub port: i32,
    /// The protocol.
    pub protocol: Protocol,
    /// The host's address; empty for all.
    pub host_ip: String,
}

impl HostPort {
    /// Whether the two cannot be on one node.
    pub fn clashes_with(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && addresses_clash(&self.host_ip, &other.host_ip)
    }
}

/// Whether listening on both addresses with one port is impossible.
pub(super) fn addresses_clash(a: &str, b: &str) -> bool {
    let all = |address: &str| matches!(address, "" | "0.0.0.0" | "::");
    a == b || all(a) || all(b)
}

/// What a pod takes from a node: requests (limits where there is no request), host ports, a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    pub(super) cpu_milli: i64,
    pub(super) memory_bytes: i64,
    pub(super) scored_cpu_milli: i64,
    pub(super) scored_memory_bytes: i64,
    /// Amounts above zero of other resources, by name.
    pub(super) extended: Vec<(String, i64)>,
    pub(super) ports: Vec<HostPort>,
    /// The hash of what makes pods replicas of each other; `None` for a pod that is like no other.
    pub(super) group: Option<u128>,
}

impl Demand {
    /// Computes the demand of a pod.
    pub fn of(pod: &Pod) -> Self {
        let mut demand = Self { group: group(pod), ..Self::default() };
        let mut extended: BTreeMap<&str, i64> = BTreeMap::new();
        for container in &pod.spec.containers {
            demand.add(container, &mut extended);
        }
        let some = extended.into_iter().filter(|(_, amount)| *amount > 0);
        demand.extended = some.map(|(name, amount)| (name.to_owned(), amount)).collect();
        demand
    }

    fn add<'p>(&mut self, container: &'p Container, extended: &mut BTreeMap<&'p str, i64>) {
        let (mut cpu, mut memory) = (None, None);
        let resources = &container.resources;
        let implied =
            resources.limits.iter().filter(|(name, _)| !resources.requests.contains_key(*name));
        for (name, quantity) in resources.requests.iter().chain(implied) {
            match name.as_str() {
                "cpu" => cpu = Some(quantity.milli().max(0)),
                "memory" => memory = Some(quantity.units_ceil().max(0)),
                // Each pod takes exactly one place, whatever it asks for.
                "pods" => {}
                other => add_to(extended.entry(other).or_default(), quantity.units_ceil().max(0)),
            }
        }
        add_to(&mut self.cpu_milli, cpu.unwrap_or(0));
        add_to(&mut self.memory_bytes, memory.unwrap_or(0));
        add_to(&mut self.scored_cpu_milli, cpu.unwrap_or(SCORED_CPU_MILLI));
        add_to(&mut self.scored_memory_bytes, memory.unwrap_or(SCORED_MEMORY_BYTES));
        for port in &container.ports {
            let Some(host_port) = port.host_port.filter(|port| *port > 0) else { continue };
            self.ports.push(HostPort {
                port: host_port,
                protocol: port.protocol.unwrap_or_default(),
                host_ip: port.host_ip.clone(),
            });
        }
    }

    /// Thousandths of a CPU.
    pub const fn cpu_milli(&self) -> i64 {
        self.cpu_milli
    }

    /// Bytes of memory.
    pub const fn memory_bytes(&self) -> i64 {
        self.memory_bytes
    }

    /// Amounts above zero of other resources, in name order.
    pub fn extended(&self) -> impl Iterator<Item = (&str, i64)> {
        self.extended.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// Ports of the host.
    pub fn host_ports(&self) -> &[HostPort] {
        &self.ports
    }

    /// The demand as resources by name, without those of which nothing is asked.
    pub fn to_resources(&self) -> ResourceMap {
        let mut map = ResourceMap::new();
        if self.cpu_milli > 0 {
            map.insert("cpu".to_owned(), Quantity::from_milli(self.cpu_milli));
        }
        if self.memory_bytes > 0 {
            map.insert("memory".to_owned(), Quantity::from_bytes(self.memory_bytes));
        }
        let extended = self.extended.iter();
        map.extend(extended.map(|(name, amount)| (name.clone(), Quantity::from_units(*amount))));
        map
    }
}

fn add_to(sum: &mut i64, amount: i64) {
    *sum = sum.saturating_add(amount);
}

/// Pods of one controller, else pods of one namespace with the same labels, are replicas of each other.
///
/// Names, not uids: no decision depends on a uid.
fn group(pod: &Pod) -> Option<u128> {
    let meta = &pod.metadata;
    let mut hash = Fnv128::new();
    hash.write(meta.namespace.as_bytes());
    if let Some(owner) = meta.controller() {
        hash.write(owner.kind.as_bytes());
        hash.write(owner.name.as_bytes());
    } else if meta.labels.is_empty() {
        return None;
    } else {
        hash.write(&[]);
        for (name, value) in &meta.labels {
            hash.write(name.as_bytes());
            hash.write(value.as_bytes());
        }
    }
    Some(hash.finish())
}

/// The uid of a pod, or one made from its name if it has none yet (in a plan or a test).
pub(super) fn identity(pod: &Pod) -> Uid {
    let meta = &pod.metadata;
    if meta.uid.is_nil() {
        let name = format!("{}/{}", meta.namespace, meta.name);
        Uid::derived(Uid::default(), &name, crate::model::Revision::ZERO)
    } else {
        meta.uid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(pairs: &[(&str, &str)]) -> ResourceMap {
        let parsed = pairs.iter().map(|(name, text)| {
            ((*name).to_owned(), text.parse::<Quantity>().expect("a quantity"))
        });
        parsed.collect()
    }

    #[test]
    fn requests_default_to_limits_and_sum_over_containers() {
        let mut first = Container::new("a", "i");
        first.resources.limits = amounts(&[("cpu", "1"), ("memory", "1Gi"), ("gpu", "2")]);
        first.resources.requests = amounts(&[("cpu", "250m"), ("pods", "9")]);
        let second = Container::new("b", "i").requests(100, 5);
        let demand = Demand::of(&Pod::of("p", vec![first, second]));
        assert_eq!((demand.cpu_milli(), demand.memory_bytes()), (350, (1 << 30) + 5));
        assert_eq!(demand.extended().collect::<Vec<_>>(), [("gpu", 2)]);
    }

    #[test]
    fn silence_takes_nothing_and_scores_a_little() {
        let demand = Demand::of(&Pod::new("p", "i"));
        assert_eq!((demand.cpu_milli, demand.memory_bytes), (0, 0));
        assert_eq!(demand.scored_cpu_milli, SCORED_CPU_MILLI);
        assert_eq!(demand.scored_memory_bytes, SCORED_MEMORY_BYTES);
    }

    #[test]
    fn negative_and_endless_amounts_stay_in_range() {
        let mut container = Container::new("a", "i");
        container.resources.requests = amounts(&[("cpu", "-1"), ("memory", "100E")]);
        let demand = Demand::of(&Pod::of("p", vec![container.clone(), container]));
        assert_eq!((demand.cpu_milli, demand.memory_bytes), (0, i64::MAX));
    }

    #[test]
    fn ports_clash_on_one_address_or_on_all() {
        let port = |port, protocol, ip: &str| HostPort { port, protocol, host_ip: ip.to_owned() };
        let any = port(80, Protocol::Tcp, "");
        let one = port(80, Protocol::Tcp, "10.0.0.1");
        assert!(any.clashes_with(&one) && one.clashes_with(&any) && one.clashes_with(&one));
        assert!(!one.clashes_with(&port(80, Protocol::Tcp, "10.0.0.2")));
        assert!(!any.clashes_with(&port(80, Protocol::Udp, "")));
        assert!(!any.clashes_with(&port(81, Protocol::Tcp, "")));
    }
}
