//! Pod specs, in pods and in templates.

use std::collections::{BTreeMap, BTreeSet};

use super::container;
use super::errors::{Errors, Path};
use super::meta::{self, LABEL_NAME};
use crate::model::name_rule::DNS_SUBDOMAIN;
use crate::model::{
    FieldError, Pod, PodSpec, PodTemplate, TaintEffect, Toleration, TolerationOperator,
    is_dns_subdomain, is_label_name, is_label_value,
};

/// The most containers a pod may have.
pub const CONTAINERS_MAX: usize = 64;
/// The most labels a node selector may name.
pub const NODE_SELECTOR_MAX: usize = meta::LABELS_MAX;
/// The most tolerations a pod may have.
pub const TOLERATIONS_MAX: usize = 256;

pub(super) fn validate_template(template: &PodTemplate, at: &Path<'_>, errors: &mut Errors) {
    meta::labels_and_annotations(&template.metadata, &at.field("metadata"), errors);
    validate(&template.spec, &at.field("spec"), errors);
}

pub(super) fn validate(spec: &PodSpec, at: &Path<'_>, errors: &mut Errors) {
    containers(spec, &at.field("containers"), errors);
    if let Some(seconds) = spec.termination_grace_period_seconds {
        errors.at_least(&at.field("terminationGracePeriodSeconds"), seconds, 0);
    }
    if !is_dns_subdomain(&spec.scheduler_name) {
        let at = at.field("schedulerName");
        errors.push(FieldError::invalid(at, &*spec.scheduler_name, DNS_SUBDOMAIN));
    }
    meta::labels(&spec.node_selector, &at.field("nodeSelector"), errors);
    let at = at.field("tolerations");
    errors.at_most(&at, spec.tolerations.len(), TOLERATIONS_MAX);
    for (index, one) in spec.tolerations.iter().enumerate() {
        toleration(one, &at.index(index), errors);
    }
}

pub(super) fn validate_node_name(pod: &Pod, spec: &Path<'_>, errors: &mut Errors) {
    if pod.is_bound() && !is_dns_subdomain(&pod.node_name) {
        errors.push(FieldError::invalid(spec.field("nodeName"), &*pod.node_name, DNS_SUBDOMAIN));
    }
}

fn containers(spec: &PodSpec, at: &Path<'_>, errors: &mut Errors) {
    if spec.containers.is_empty() {
        errors.push(FieldError::required(at, ""));
    }
    errors.at_most(at, spec.containers.len(), CONTAINERS_MAX);
    let mut names = BTreeSet::new();
    let mut host_ports = BTreeMap::new();
    for (index, one) in spec.containers.iter().enumerate() {
        let part = format!("containers[{index}]");
        let at = at.index(index);
        container::validate(one, &part, &spec.residual, &at, errors);
        if !one.name.is_empty() && !names.insert(&one.name) {
            errors.push(FieldError::duplicate(at.field("name"), &*one.name));
        }
        for (index, port) in one.ports.iter().enumerate() {
            let Some(host_port) = port.host_port else { continue };
            let taken = (host_port, port.protocol.unwrap_or_default(), &port.host_ip);
            if host_ports.insert(taken, index).is_some() {
                let ports = at.field("ports");
                let at = ports.index(index);
                errors.push(FieldError::duplicate(at.field("hostPort"), host_port));
            }
        }
    }
}

fn toleration(toleration: &Toleration, at: &Path<'_>, errors: &mut Errors) {
    let operator = toleration.operator.unwrap_or_default();
    if !toleration.key.is_empty() && !is_label_name(&toleration.key) {
        errors.push(FieldError::invalid(at.field("key"), &*toleration.key, LABEL_NAME));
    }
    if toleration.key.is_empty() && operator != TolerationOperator::Exists {
        let right = "must be 'Exists' when `key` is empty, which means every key and value";
        errors.push(FieldError::invalid(at.field("operator"), "Equal", right));
    }
    let value = at.field("value");
    match operator {
        TolerationOperator::Equal if !is_label_value(&toleration.value) => {
            errors.push(FieldError::invalid(value, &*toleration.value, meta::LABEL_VALUE));
        }
        TolerationOperator::Exists if !toleration.value.is_empty() => {
            let right = "must be empty when `operator` is 'Exists'";
            errors.push(FieldError::invalid(value, &*toleration.value, right));
        }
        TolerationOperator::Equal | TolerationOperator::Exists => {}
    }
    if toleration.toleration_seconds.is_some() && toleration.effect != Some(TaintEffect::NoExecute)
    {
        let right = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(FieldError::invalid(
            at.field("effect"),
            toleration.effect.map(|effect| format!("{effect:?}")),
            right,
        ));
    }
}
