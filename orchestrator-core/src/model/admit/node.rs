//! Nodes: taints and amounts.

use std::collections::BTreeSet;

use super::errors::{Errors, Path};
use super::meta::{LABEL_NAME, LABEL_VALUE};
use crate::model::{Cidr, FieldError, NodeSpec, NodeStatus, is_label_name, is_label_value};

/// The most taints a node may have.
pub const TAINTS_MAX: usize = 256;

/// The most slices a node may have: one, of IPv4.
const POD_CIDRS_MAX: usize = 1;

pub(super) fn validate(spec: &NodeSpec, at: &Path<'_>, errors: &mut Errors) {
    validate_slices(spec, at, errors);
    let at = at.field("taints");
    errors.at_most(&at, spec.taints.len(), TAINTS_MAX);
    let mut seen = BTreeSet::new();
    for (index, taint) in spec.taints.iter().enumerate() {
        let at = at.index(index);
        if taint.key.is_empty() {
            errors.push(FieldError::required(at.field("key"), ""));
        } else if !is_label_name(&taint.key) {
            errors.push(FieldError::invalid(at.field("key"), &*taint.key, LABEL_NAME));
        }
        if !is_label_value(&taint.value) {
            errors.push(FieldError::invalid(at.field("value"), &*taint.value, LABEL_VALUE));
        }
        if !seen.insert((&taint.key, taint.effect)) {
            errors.push(FieldError::duplicate(at, format!("{}:{:?}", taint.key, taint.effect)));
        }
    }
}

fn validate_slices(spec: &NodeSpec, at: &Path<'_>, errors: &mut Errors) {
    let named = [(at.field("podCIDR"), &spec.pod_cidr)];
    let at = at.field("podCIDRs");
    errors.at_most(&at, spec.pod_cidrs.len(), POD_CIDRS_MAX);
    let listed = spec.pod_cidrs.iter().enumerate().map(|(index, cidr)| (at.index(index), cidr));
    for (at, cidr) in named.into_iter().filter(|(_, cidr)| !cidr.is_empty()).chain(listed) {
        if let Err(error) = cidr.parse::<Cidr>() {
            errors.push(FieldError::invalid(at, &**cidr, &error.to_string()));
        }
    }
    let first = spec.pod_cidrs.first();
    if first.is_some_and(|first| *first != spec.pod_cidr) {
        let right = "must begin with podCIDR";
        errors.push(FieldError::invalid(at, spec.pod_cidrs.join(","), right));
    }
}

pub(super) fn validate_status(status: &NodeStatus, errors: &mut Errors) {
    let at = Path::root("status");
    for (field, amounts) in [("allocatable", &status.allocatable), ("capacity", &status.capacity)] {
        let at = at.field(field);
        for (name, amount) in amounts.iter().filter(|(_, amount)| amount.is_negative()) {
            let right = "must be greater than or equal to 0";
            errors.push(FieldError::invalid(at.key(name), amount.to_string(), right));
        }
    }
}
