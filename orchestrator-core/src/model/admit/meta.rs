//! Names, labels, annotations, owners and finalizers.

use std::collections::BTreeSet;

use super::errors::{Errors, Path};
use crate::model::name_rule::DNS_LABEL;
use crate::model::{
    CLEANUP_FINALIZER, FOREGROUND_FINALIZER, FieldError, Kind, LabelSelector, NAMESPACE_FINALIZER,
    ORPHAN_FINALIZER, Object, ObjectMeta, OwnerReference, SelectorOperator, StringMap,
    is_dns_label, is_label_name, is_label_value,
};

/// The most bytes that names and values of an object's annotations may have together.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
/// The most labels an object may have.
pub const LABELS_MAX: usize = 256;
/// The most finalizers an object may have.
pub const FINALIZERS_MAX: usize = 64;
/// The most owners an object may have.
pub const OWNERS_MAX: usize = 64;

/// What a controller appends to a name: a template's hash, and for pods a suffix.
const HASH_CHARS: usize = 11;
const SUFFIX_CHARS: usize = 6;
const SUBDOMAIN_CHARS_MAX: usize = 253;

pub(super) const LABEL_NAME: &str = "must be a qualified name: an optional DNS subdomain and '/', then at most 63 letters, \
     digits, '-', '_' or '.', beginning and ending with a letter or digit (such as 'example.com/name')";
pub(super) const LABEL_VALUE: &str = "must be empty or at most 63 letters, digits, '-', '_' or '.', beginning and ending \
     with a letter or digit";

pub(super) fn validate(object: &Object, errors: &mut Errors) {
    let (kind, meta) = (object.kind(), object.meta());
    let at = Path::root("metadata");
    name(kind, &meta.name, &at.field("name"), errors);
    let namespace = at.field("namespace");
    if !kind.is_namespaced() {
        if !meta.namespace.is_empty() {
            errors.push(FieldError::forbidden(namespace, "not allowed on this type"));
        }
    } else if meta.namespace.is_empty() {
        errors.push(FieldError::required(namespace, ""));
    } else if !is_dns_label(&meta.namespace) {
        errors.push(FieldError::invalid(namespace, &*meta.namespace, DNS_LABEL));
    }
    labels_and_annotations(meta, &at, errors);
    finalizers(meta, &at.field("finalizers"), errors);
    owners(meta, &at.field("ownerReferences"), errors);
}

fn name(kind: Kind, name: &str, at: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(FieldError::required(at, "name or generateName is required"));
        return;
    }
    let chars_max = match kind {
        // Their replica sets and pods could not be named otherwise.
        Kind::Deployment => SUBDOMAIN_CHARS_MAX - HASH_CHARS - SUFFIX_CHARS,
        Kind::ReplicaSet => SUBDOMAIN_CHARS_MAX - SUFFIX_CHARS,
        Kind::ClusterRole
        | Kind::ClusterRoleBinding
        | Kind::ConfigMap
        | Kind::Custom(_)
        | Kind::CustomResourceDefinition
        | Kind::Event
        | Kind::Lease
        | Kind::Namespace
        | Kind::Node
        | Kind::Pod
        | Kind::PodDisruptionBudget
        | Kind::Role
        | Kind::RoleBinding
        | Kind::Secret
        | Kind::Service
        | Kind::ServiceAccount => SUBDOMAIN_CHARS_MAX,
    };
    if let Some(right) = kind.name_rule().broken_by(name) {
        errors.push(FieldError::invalid(at, name, right));
    } else if name.len() > chars_max {
        errors.push(FieldError::too_long(at, chars_max));
    }
}

pub(super) fn labels_and_annotations(meta: &ObjectMeta, at: &Path<'_>, errors: &mut Errors) {
    labels(&meta.labels, &at.field("labels"), errors);
    let at = at.field("annotations");
    for name in meta.annotations.keys() {
        // Upper case is allowed in the prefix of an annotation only.
        if !is_label_name(&name.to_ascii_lowercase()) {
            errors.push(FieldError::invalid(at, &**name, LABEL_NAME));
        }
    }
    let bytes: usize = meta.annotations.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.push(FieldError::too_long(at, ANNOTATIONS_BYTES_MAX));
    }
}

pub(super) fn labels(labels: &StringMap, at: &Path<'_>, errors: &mut Errors) {
    errors.at_most(at, labels.len(), LABELS_MAX);
    for (name, value) in labels {
        if !is_label_name(name) {
            errors.push(FieldError::invalid(at, &**name, LABEL_NAME));
        }
        if !is_label_value(value) {
            errors.push(FieldError::invalid(at, &**value, LABEL_VALUE));
        }
    }
}

pub(super) fn selector(selector: &LabelSelector, at: &Path<'_>, errors: &mut Errors) {
    labels(&selector.match_labels, &at.field("matchLabels"), errors);
    let at = at.field("matchExpressions");
    errors.at_most(&at, selector.match_expressions.len(), super::SELECTOR_TERMS_MAX);
    for (index, term) in selector.match_expressions.iter().enumerate() {
        let at = at.index(index);
        if !is_label_name(&term.key) {
            errors.push(FieldError::invalid(at.field("key"), &*term.key, LABEL_NAME));
        }
        let values = at.field("values");
        errors.at_most(&values, term.values.len(), super::SELECTOR_TERMS_MAX);
        match term.operator {
            SelectorOperator::In | SelectorOperator::NotIn if term.values.is_empty() => errors
                .push(FieldError::required(
                    values,
                    "must be there when `operator` is 'In' or 'NotIn'",
                )),
            SelectorOperator::In | SelectorOperator::NotIn => {
                for value in term.values.iter().filter(|value| !is_label_value(value)) {
                    errors.push(FieldError::invalid(values, &**value, LABEL_VALUE));
                }
            }
            SelectorOperator::DoesNotExist | SelectorOperator::Exists => {
                if !term.values.is_empty() {
                    let why = "may not be there when `operator` is 'Exists' or 'DoesNotExist'";
                    errors.push(FieldError::forbidden(values, why));
                }
            }
        }
    }
}

fn finalizers(meta: &ObjectMeta, at: &Path<'_>, errors: &mut Errors) {
    errors.at_most(at, meta.finalizers.len(), FINALIZERS_MAX);
    let mut seen = BTreeSet::new();
    for (index, name) in meta.finalizers.iter().enumerate() {
        let at = at.index(index);
        let own = [CLEANUP_FINALIZER, FOREGROUND_FINALIZER, NAMESPACE_FINALIZER, ORPHAN_FINALIZER];
        if !is_label_name(name) {
            errors.push(FieldError::invalid(at, &**name, LABEL_NAME));
        } else if !name.contains('/') && !own.contains(&&**name) {
            let right = "must be qualified with the domain of whoever removes it, such as 'example.com/backup'";
            errors.push(FieldError::invalid(at, &**name, right));
        } else if !seen.insert(name) {
            errors.push(FieldError::duplicate(at, &**name));
        }
    }
    if meta.has_finalizer(FOREGROUND_FINALIZER) && meta.has_finalizer(ORPHAN_FINALIZER) {
        let right = "finalizers 'foregroundDeletion' and 'orphan' exclude each other";
        errors.push(FieldError::invalid(at, meta.finalizers.clone(), right));
    }
}

fn owners(meta: &ObjectMeta, at: &Path<'_>, errors: &mut Errors) {
    errors.at_most(at, meta.owner_references.len(), OWNERS_MAX);
    let mut controller: Option<&OwnerReference> = None;
    let mut seen = BTreeSet::new();
    for (index, owner) in meta.owner_references.iter().enumerate() {
        let at = at.index(index);
        for (field, value) in
            [("apiVersion", &owner.api_version), ("kind", &owner.kind), ("name", &owner.name)]
        {
            if value.is_empty() {
                errors.push(FieldError::required(at.field(field), ""));
            }
        }
        if owner.uid.is_nil() {
            errors.push(FieldError::required(at.field("uid"), ""));
        } else if owner.uid == meta.uid {
            let right = "must not be the object itself";
            errors.push(FieldError::invalid(at.field("uid"), owner.uid.to_string(), right));
        } else if !seen.insert(owner.uid) {
            errors.push(FieldError::duplicate(at.field("uid"), owner.uid.to_string()));
        }
        if owner.controller {
            match controller {
                None => controller = Some(owner),
                Some(first) => {
                    let right = format!(
                        "only one owner may have `controller` set to true; {} {:?} has it",
                        first.kind, first.name
                    );
                    errors.push(FieldError::invalid(at.field("controller"), true, &right));
                }
            }
        }
    }
}
