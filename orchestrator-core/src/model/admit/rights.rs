//! Roles and their bindings.

use super::errors::{Errors, Path};
use super::meta;
use crate::model::name_rule::DNS_LABEL;
use crate::model::{
    AggregationRule, ClusterRole, ClusterRoleBinding, FieldError, Kind, PolicyRule, RBAC_GROUP,
    Role, RoleBinding, RoleRef, Subject, is_dns_label,
};

/// The most rules a role may have.
pub const RULES_MAX: usize = 1_024;
/// The most subjects a binding may have.
pub const SUBJECTS_MAX: usize = 1_024;

const SUBJECT_KINDS: [&str; 3] = ["Group", "ServiceAccount", "User"];

/// Fills in the group of the role, and of subjects that are users and groups.
pub(super) fn complete_binding(role_ref: &mut RoleRef, subjects: &mut [Subject]) {
    if role_ref.api_group.is_empty() {
        RBAC_GROUP.clone_into(&mut role_ref.api_group);
    }
    for subject in subjects {
        let is_person = matches!(&*subject.kind, "Group" | "User");
        if is_person && subject.api_group.is_empty() {
            RBAC_GROUP.clone_into(&mut subject.api_group);
        }
    }
}

pub(super) fn validate_role(role: &Role, errors: &mut Errors) {
    rules(&role.rules, true, errors);
}

pub(super) fn validate_cluster_role(role: &ClusterRole, errors: &mut Errors) {
    if let Some(AggregationRule { cluster_role_selectors }) = &role.aggregation_rule {
        let root = Path::root("aggregationRule");
        let at = root.field("clusterRoleSelectors");
        if cluster_role_selectors.is_empty() {
            errors.push(FieldError::required(at, "at least one is needed"));
        }
        errors.at_most(&at, cluster_role_selectors.len(), super::SELECTOR_TERMS_MAX);
        for (index, selector) in cluster_role_selectors.iter().enumerate() {
            meta::selector(selector, &at.index(index), errors);
        }
    }
    rules(&role.rules, false, errors);
}

fn rules(rules: &[PolicyRule], is_namespaced: bool, errors: &mut Errors) {
    let at = Path::root("rules");
    errors.at_most(&at, rules.len(), RULES_MAX);
    for (index, one) in rules.iter().enumerate() {
        rule(one, is_namespaced, &at.index(index), errors);
    }
}

fn rule(rule: &PolicyRule, is_namespaced: bool, at: &Path<'_>, errors: &mut Errors) {
    if rule.verbs.is_empty() {
        errors
            .push(FieldError::required(at.field("verbs"), "verbs must contain at least one value"));
    }
    if !rule.non_resource_urls.is_empty() {
        let at = at.field("nonResourceURLs");
        let urls = rule.non_resource_urls.clone();
        if is_namespaced {
            let right = "namespaced rules cannot apply to non-resource URLs";
            errors.push(FieldError::invalid(at, urls, right));
        } else if !(rule.api_groups.is_empty()
            && rule.resources.is_empty()
            && rule.resource_names.is_empty())
        {
            let right = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(FieldError::invalid(at, urls, right));
        }
        return;
    }
    for (field, values) in [("apiGroups", &rule.api_groups), ("resources", &rule.resources)] {
        if values.is_empty() {
            let why = "resource rules must supply at least one";
            errors.push(FieldError::required(at.field(field), why));
        }
    }
}

pub(super) fn validate_role_binding(binding: &RoleBinding, errors: &mut Errors) {
    let kinds = [Kind::ClusterRole.name(), Kind::Role.name()];
    role_ref(&binding.role_ref, &kinds, errors);
    subjects(&binding.subjects, errors);
}

pub(super) fn validate_cluster_role_binding(binding: &ClusterRoleBinding, errors: &mut Errors) {
    role_ref(&binding.role_ref, &[Kind::ClusterRole.name()], errors);
    subjects(&binding.subjects, errors);
}

fn role_ref(role_ref: &RoleRef, kinds: &[&str], errors: &mut Errors) {
    let at = Path::root("roleRef");
    if role_ref.api_group != RBAC_GROUP {
        let at = at.field("apiGroup");
        errors.push(FieldError::not_supported(at, &*role_ref.api_group, &[RBAC_GROUP]));
    }
    if !kinds.contains(&&*role_ref.kind) {
        errors.push(FieldError::not_supported(at.field("kind"), &*role_ref.kind, kinds));
    }
    if role_ref.name.is_empty() {
        errors.push(FieldError::required(at.field("name"), ""));
    }
}

fn subjects(subjects: &[Subject], errors: &mut Errors) {
    let at = Path::root("subjects");
    errors.at_most(&at, subjects.len(), SUBJECTS_MAX);
    for (index, one) in subjects.iter().enumerate() {
        subject(one, &at.index(index), errors);
    }
}

fn subject(subject: &Subject, at: &Path<'_>, errors: &mut Errors) {
    if subject.name.is_empty() {
        errors.push(FieldError::required(at.field("name"), ""));
    }
    let is_account = match &*subject.kind {
        "ServiceAccount" => true,
        "Group" | "User" => false,
        kind => {
            errors.push(FieldError::not_supported(at.field("kind"), kind, &SUBJECT_KINDS));
            return;
        }
    };
    let group = if is_account { "" } else { RBAC_GROUP };
    if subject.api_group != group {
        let at = at.field("apiGroup");
        errors.push(FieldError::not_supported(at, &*subject.api_group, &[group]));
    }
    let namespace = at.field("namespace");
    if is_account && subject.namespace.is_empty() {
        errors.push(FieldError::required(namespace, ""));
    } else if is_account && !is_dns_label(&subject.namespace) {
        errors.push(FieldError::invalid(namespace, &*subject.namespace, DNS_LABEL));
    }
}
