//! Containers: image, ports, environment, resources.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::errors::{Errors, Path};
use super::meta::LABEL_NAME;
use super::probe;
use crate::model::name_rule::DNS_LABEL;
use crate::model::{
    Container, ContainerPort, FieldError, Residual, ResourceRequirements, is_dns_label,
    is_label_name,
};

/// The most words `command` and `args` may each have.
pub const COMMAND_MAX: usize = 4096;
/// The most environment variables a container may have.
pub const ENV_MAX: usize = 4096;
/// The most ports a container may name.
pub const PORTS_MAX: usize = 1024;

/// Resources every node has, by their plain names.
const PLAIN_RESOURCES: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];

/// `part` is the container's path in the pod's spec, under which `residual` keeps what is not modelled.
pub(super) fn validate(
    container: &Container,
    part: &str,
    residual: &Residual,
    at: &Path<'_>,
    errors: &mut Errors,
) {
    let name = at.field("name");
    if container.name.is_empty() {
        errors.push(FieldError::required(name, ""));
    } else if !is_dns_label(&container.name) {
        errors.push(FieldError::invalid(name, &*container.name, DNS_LABEL));
    }
    image(container, &at.field("image"), errors);
    for (field, words) in [("command", &container.command), ("args", &container.args)] {
        let at = at.field(field);
        errors.at_most(&at, words.len(), COMMAND_MAX);
        for (index, word) in words.iter().enumerate() {
            errors.no_nul(&at.index(index), word);
        }
    }
    errors.no_nul(&at.field("workingDir"), &container.working_dir);
    env(container, &at.field("env"), errors);
    ports(&container.ports, &at.field("ports"), errors);
    resources(&container.resources, &at.field("resources"), errors);
    for (field, found) in [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
    ] {
        let Some(found) = found else { continue };
        let has_other_handler = residual.holds(&format!("{part}.{field}.grpc"));
        probe::validate(found, has_other_handler, &at.field(field), errors);
    }
    if let Some(found) = &container.liveness_probe {
        let at = at.field("livenessProbe");
        if let Some(threshold) = found.success_threshold.filter(|threshold| *threshold != 1) {
            errors.push(FieldError::invalid(at.field("successThreshold"), threshold, "must be 1"));
        }
    }
}

/// An image may be left out when there is a command: processes of the host need none. A runtime that does need one
/// says so on the pod.
fn image(container: &Container, at: &Path<'_>, errors: &mut Errors) {
    let image = &container.image;
    if image.is_empty() {
        if container.command.is_empty() {
            errors.push(FieldError::required(at, "or a command, for processes of the host"));
        }
    } else if image.trim() != image {
        let right = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(at, &**image, right));
    } else if image.contains(|c: char| c.is_whitespace() || c.is_control()) {
        errors.push(FieldError::invalid(at, &**image, "must not contain whitespace"));
    }
}

fn env(container: &Container, at: &Path<'_>, errors: &mut Errors) {
    errors.at_most(at, container.env.len(), ENV_MAX);
    for (index, variable) in container.env.iter().enumerate() {
        let at = at.index(index);
        let name = at.field("name");
        if variable.name.is_empty() {
            errors.push(FieldError::required(name, ""));
        } else if !variable.name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=') {
            let right = "must consist of printable ASCII characters other than '='";
            errors.push(FieldError::invalid(name, &*variable.name, right));
        }
        errors.no_nul(&at.field("value"), &variable.value);
    }
}

fn ports(ports: &[ContainerPort], at: &Path<'_>, errors: &mut Errors) {
    errors.at_most(at, ports.len(), PORTS_MAX);
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let at = at.index(index);
        let name = at.field("name");
        if !port.name.is_empty() {
            if !is_port_name(&port.name) {
                errors.push(FieldError::invalid(name, &*port.name, PORT_NAME));
            } else if !names.insert(&port.name) {
                errors.push(FieldError::duplicate(name, &*port.name));
            }
        }
        errors.port(&at.field("containerPort"), port.container_port);
        if let Some(host_port) = port.host_port {
            errors.port(&at.field("hostPort"), host_port);
        }
        if !port.host_ip.is_empty() && port.host_ip.parse::<IpAddr>().is_err() {
            let right = "must be an IP address, such as 10.9.8.7";
            errors.push(FieldError::invalid(at.field("hostIP"), &*port.host_ip, right));
        }
    }
}

pub(super) const PORT_NAME: &str = "must be at most 15 lower-case letters, digits or single '-', with at least one \
     letter, beginning and ending with a letter or digit";

/// Whether `name` is a name of a port (RFC 6335).
pub(super) fn is_port_name(name: &str) -> bool {
    name.len() <= 15
        && is_dns_label(name)
        && !name.contains("--")
        && name.contains(|c: char| c.is_ascii_lowercase())
}

fn resources(resources: &ResourceRequirements, at: &Path<'_>, errors: &mut Errors) {
    for (field, amounts) in [("limits", &resources.limits), ("requests", &resources.requests)] {
        let at = at.field(field);
        for (name, amount) in amounts {
            let at = at.key(name);
            if !is_label_name(name) {
                errors.push(FieldError::invalid(at, &**name, LABEL_NAME));
            } else if !name.contains('/')
                && !name.starts_with("hugepages-")
                && !PLAIN_RESOURCES.contains(&&**name)
            {
                let right = "must be cpu, memory, ephemeral-storage, or qualified with a domain";
                errors.push(FieldError::invalid(at, &**name, right));
            }
            if amount.is_negative() {
                let right = "must be greater than or equal to 0";
                errors.push(FieldError::invalid(at, amount.to_string(), right));
            } else if name.contains('/') && !amount.is_whole() {
                errors.push(FieldError::invalid(at, amount.to_string(), "must be an integer"));
            }
        }
    }
    let at = at.field("requests");
    for (name, request) in &resources.requests {
        if let Some(limit) = resources.limits.get(name).filter(|limit| request > *limit) {
            let right = format!("must be less than or equal to {name} limit of {limit}");
            errors.push(FieldError::invalid(at.key(name), request.to_string(), &right));
        }
    }
}
