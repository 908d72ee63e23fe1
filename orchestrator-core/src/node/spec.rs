//! From a pod to what a runtime makes: `SandboxSpec`, `ContainerSpec`, with `$(NAME)` expanded.
//!
//! Depends on `model` and `runtime`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::{Container, Pod, Quantity, ResourceMap};
use crate::runtime::{
    ContainerKey, ContainerSpec, Limits, PortMapping, SandboxKey, SandboxSpec, StandardStreams,
};

/// Returns the sandbox of a pod.
///
/// # Errors
/// Says which host port or host address of the pod cannot be one.
pub fn sandbox_spec(pod: &Pod, key: SandboxKey) -> Result<SandboxSpec, String> {
    let mut ports = Vec::new();
    for container in &pod.spec.containers {
        for port in &container.ports {
            let Some(host_port) = port.host_port.filter(|port| *port != 0) else { continue };
            ports.push(PortMapping {
                host_ip: host_ip(&port.host_ip)?,
                host_port: port_number("hostPort", host_port)?,
                container_port: port_number("containerPort", port.container_port)?,
                protocol: port.protocol.unwrap_or_default(),
            });
        }
    }
    Ok(SandboxSpec {
        key,
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        ports,
    })
}

/// Returns a container of a pod.
pub fn container_spec(container: &Container, key: ContainerKey) -> ContainerSpec {
    let mut known: BTreeMap<&str, String> = BTreeMap::new();
    let mut env = Vec::with_capacity(container.env.len());
    for variable in &container.env {
        let value = expand(&variable.value, &known);
        known.insert(&variable.name, value.clone());
        env.push((variable.name.clone(), value));
    }
    ContainerSpec {
        key,
        image: container.image.clone(),
        command: container.command.iter().map(|text| expand(text, &known)).collect(),
        args: container.args.iter().map(|text| expand(text, &known)).collect(),
        working_dir: container.working_dir.clone(),
        env,
        limits: limits(container),
        stdio: StandardStreams {
            stdin: container.stdin,
            stdin_once: container.stdin_once,
            terminal: container.tty,
        },
    }
}

fn host_ip(text: &str) -> Result<Option<IpAddr>, String> {
    match text {
        "" => Ok(None),
        text => {
            let parsed = text.parse().map(Some);
            parsed.map_err(|_| format!("hostIP {text:?} is not an IP address"))
        }
    }
}

fn port_number(field: &str, port: i32) -> Result<u16, String> {
    let in_range = u16::try_from(port).ok().filter(|port| *port != 0);
    in_range.ok_or_else(|| format!("{field} {port} is not a port: expected 1 to 65535"))
}

fn limits(container: &Container) -> Limits {
    let amount = |map: &ResourceMap, name: &str| map.get(name).copied();
    let whole = |quantity: Option<Quantity>| {
        quantity.map_or(0, |quantity| u64::try_from(quantity.units_ceil()).unwrap_or(0))
    };
    let milli = |quantity: Option<Quantity>| {
        quantity.map_or(0, |quantity| u64::try_from(quantity.milli()).unwrap_or(0))
    };
    let resources = &container.resources;
    let cpu_limit = amount(&resources.limits, "cpu");
    Limits {
        cpu_milli: milli(cpu_limit),
        memory_bytes: whole(amount(&resources.limits, "memory")),
        cpu_request_milli: milli(amount(&resources.requests, "cpu").or(cpu_limit)),
    }
}

/// Replaces `$(NAME)` by the value of a known variable and `$$` by a dollar sign; leaves the rest alone.
fn expand(text: &str, known: &BTreeMap<&str, String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let reference = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = reference {
            match known.get(name) {
                Some(value) => result.push_str(value),
                None => result.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContainerPort, Uid};
    use crate::runtime::Scope;

    fn key() -> SandboxKey {
        let scope = Scope { cluster: "c".to_owned(), node: "n".to_owned() };
        SandboxKey { scope, pod: Uid::default(), attempt: 0 }
    }

    fn container_key() -> ContainerKey {
        ContainerKey { sandbox: key(), name: "main".to_owned(), attempt: 0 }
    }

    #[test]
    fn variables_see_those_defined_before_them() {
        let container = Container::new("main", "x:1")
            .env("A", "1")
            .env("B", "$(A)2")
            .env("C", "$(D)-$$(A)-$x-$(")
            .env("D", "late")
            .command(["run", "$(B)", "$(NONE)"]);
        let spec = container_spec(&container, container_key());
        let values: Vec<&str> = spec.env.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["1", "12", "$(D)-$(A)-$x-$(", "late"]);
        assert_eq!(spec.command, ["run", "12", "$(NONE)"]);
    }

    #[test]
    fn limits_are_taken_exactly_and_requests_default_to_them() {
        let mut container = Container::new("main", "x:1");
        container.resources.limits.insert("cpu".to_owned(), Quantity::from_milli(1500));
        container.resources.limits.insert("memory".to_owned(), Quantity::from_bytes(64 << 20));
        let spec = container_spec(&container, container_key());
        let expected = Limits { cpu_milli: 1500, memory_bytes: 64 << 20, cpu_request_milli: 1500 };
        assert_eq!(spec.limits, expected);
    }

    #[test]
    fn only_ports_with_a_host_port_are_mapped() {
        let mut container = Container::new("main", "x:1").port(80);
        container.ports.push(ContainerPort {
            container_port: 81,
            host_port: Some(8081),
            host_ip: "127.0.0.1".to_owned(),
            ..ContainerPort::default()
        });
        let spec = sandbox_spec(&Pod::of("a", vec![container.clone()]), key()).expect("valid");
        assert_eq!(spec.ports.len(), 1);
        assert_eq!((spec.ports[0].host_port, spec.ports[0].container_port), (8081, 81));
        container.ports[1].host_ip = "home".to_owned();
        let error = sandbox_spec(&Pod::of("a", vec![container]), key()).expect_err("no address");
        assert!(error.contains("\"home\""), "{error}");
    }
}
