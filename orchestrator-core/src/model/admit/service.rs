//! Services.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::container::{PORT_NAME, is_port_name};
use super::errors::{Errors, Path};
use super::meta;
use crate::model::name_rule::DNS_LABEL;
use crate::model::{FieldError, PortOrName, ServicePort, ServiceSpec, is_dns_label};

/// The most ports a service may have.
pub const SERVICE_PORTS_MAX: usize = 256;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const AFFINITIES: [&str; 2] = ["ClientIP", "None"];

pub(super) fn validate(spec: &ServiceSpec, at: &Path<'_>, errors: &mut Errors) {
    if !TYPES.contains(&&*spec.kind) {
        errors.push(FieldError::not_supported(at.field("type"), &*spec.kind, &TYPES));
    }
    if !AFFINITIES.contains(&&*spec.session_affinity) {
        let at = at.field("sessionAffinity");
        errors.push(FieldError::not_supported(at, &*spec.session_affinity, &AFFINITIES));
    }
    let address = &spec.cluster_ip;
    if !address.is_empty() && address != "None" && address.parse::<IpAddr>().is_err() {
        let right = "must be empty, 'None', or a valid IP address";
        errors.push(FieldError::invalid(at.field("clusterIP"), &**address, right));
    }
    meta::labels(&spec.selector, &at.field("selector"), errors);
    let at = at.field("ports");
    errors.at_most(&at, spec.ports.len(), SERVICE_PORTS_MAX);
    if spec.ports.is_empty() && spec.kind != "ExternalName" && address != "None" {
        errors.push(FieldError::required(at, ""));
    }
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    for (index, one) in spec.ports.iter().enumerate() {
        let at = at.index(index);
        port(one, spec.ports.len(), &at, errors);
        if !one.name.is_empty() && !names.insert(&one.name) {
            errors.push(FieldError::duplicate(at.field("name"), &*one.name));
        }
        if !numbers.insert((one.port, &one.protocol)) {
            errors.push(FieldError::duplicate(at, format!("{}/{}", one.port, one.protocol)));
        }
    }
}

fn port(port: &ServicePort, count: usize, at: &Path<'_>, errors: &mut Errors) {
    let name = at.field("name");
    if port.name.is_empty() {
        if count > 1 {
            errors.push(FieldError::required(name, "with several ports each needs one"));
        }
    } else if !is_dns_label(&port.name) {
        errors.push(FieldError::invalid(name, &*port.name, DNS_LABEL));
    }
    errors.port(&at.field("port"), port.port);
    if !PROTOCOLS.contains(&&*port.protocol) {
        let at = at.field("protocol");
        errors.push(FieldError::not_supported(at, &*port.protocol, &PROTOCOLS));
    }
    let at = at.field("targetPort");
    match &port.target_port {
        Some(PortOrName::Name(name)) if !is_port_name(name) => {
            errors.push(FieldError::invalid(at, &**name, PORT_NAME));
        }
        Some(PortOrName::Port(number)) => errors.port(&at, *number),
        Some(PortOrName::Name(_)) | None => {}
    }
}
