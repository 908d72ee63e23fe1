//! Definitions of custom kinds: names, versions, schemas.

use super::errors::{Errors, Path};
use super::immutable::IMMUTABLE;
use crate::model::structural;
use crate::model::{
    CLEANUP_FINALIZER, CustomResourceDefinition, DefinitionNames, DefinitionScale,
    DefinitionVersion, FieldError, Kind, is_dns_label, is_dns_subdomain,
};

/// The most versions of a kind.
pub const VERSIONS_MAX: usize = 32;
/// The most columns of a version, and the most short names and categories of a kind.
const COLUMNS_MAX: usize = 64;

/// Groups that others serve.
const TAKEN_GROUPS: [&str; 7] = [
    "authentication.k8s.io",
    "authorization.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "metrics.k8s.io",
    "networking.k8s.io",
    "orchestrator.dev",
];
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];

/// Holds a new definition until its objects are gone.
pub(super) fn complete_new(definition: &mut CustomResourceDefinition) {
    if !definition.metadata.has_finalizer(CLEANUP_FINALIZER) {
        definition.metadata.finalizers.push(CLEANUP_FINALIZER.to_owned());
    }
}

/// Fills in the names that follow from others.
pub(super) fn complete(definition: &mut CustomResourceDefinition) {
    let spec = &mut definition.spec;
    if spec.conversion.strategy.is_empty() {
        "None".clone_into(&mut spec.conversion.strategy);
    }
    let names = &mut spec.names;
    if names.singular.is_empty() {
        names.singular = names.kind.to_lowercase();
    }
    if names.list_kind.is_empty() && !names.kind.is_empty() {
        names.list_kind = format!("{}List", names.kind);
    }
}

pub(super) fn validate(definition: &CustomResourceDefinition, errors: &mut Errors) {
    let (spec, at) = (&definition.spec, Path::root("spec"));
    group(definition, errors);
    let wanted = format!("{}.{}", spec.names.plural, spec.group);
    if definition.metadata.name != wanted {
        let right = format!("must be spec.names.plural+\".\"+spec.group: {wanted:?}");
        let field = Path::root("metadata").field("name").to_string();
        errors.push(FieldError::invalid(field, &*definition.metadata.name, &right));
    }
    if !matches!(&*spec.scope, "Namespaced" | "Cluster") {
        let known = ["Cluster", "Namespaced"];
        errors.push(FieldError::not_supported(at.field("scope"), &*spec.scope, &known));
    }
    if spec.conversion.strategy != "None" {
        let (field, found) = (at.field("conversion"), &*spec.conversion.strategy);
        let why = format!("{found} conversion is not implemented by this server; only None is");
        errors.push(FieldError::forbidden(field.field("strategy"), &why));
    }
    if spec.preserve_unknown_fields {
        let why = "must be false: set x-kubernetes-preserve-unknown-fields in the schema instead";
        errors.push(FieldError::invalid(at.field("preserveUnknownFields"), true, why));
    }
    names(&spec.names, &at.field("names"), errors);
    let at = at.field("versions");
    errors.at_most(&at, spec.versions.len(), VERSIONS_MAX);
    match spec.versions.iter().filter(|version| version.storage).count() {
        1 => {}
        found => {
            let right = "must have exactly one version marked as storage version";
            errors.push(FieldError::invalid(at, found, right));
        }
    }
    for (index, one) in spec.versions.iter().enumerate().take(VERSIONS_MAX) {
        let at = at.index(index);
        if spec.versions.iter().take(index).any(|other| other.name == one.name) {
            errors.push(FieldError::duplicate(at.field("name"), &*one.name));
        }
        version(one, &at, errors);
    }
}

fn group(definition: &CustomResourceDefinition, errors: &mut Errors) {
    let spec = Path::root("spec");
    let (group, at) = (&*definition.spec.group, spec.field("group"));
    if group.is_empty() {
        errors.push(FieldError::required(at, ""));
    } else if !is_dns_subdomain(group) || !group.contains('.') {
        let right = "should be a domain with at least one dot";
        errors.push(FieldError::invalid(at, group, right));
    } else if TAKEN_GROUPS.contains(&group) || Kind::ALL.iter().any(|kind| kind.group() == group) {
        errors.push(FieldError::forbidden(at, "this server serves the group itself"));
    } else if (group.ends_with(".k8s.io") || group.ends_with(".kubernetes.io"))
        && !definition.metadata.annotations.contains_key("api-approved.kubernetes.io")
    {
        let field = "metadata.annotations[api-approved.kubernetes.io]";
        let why = "protected groups must have approval annotation \"api-approved.kubernetes.io\"";
        errors.push(FieldError::required(field, why));
    }
}

fn names(names: &DefinitionNames, at: &Path<'_>, errors: &mut Errors) {
    const LABEL: &str = "must be a lower-case RFC 1035 label: letters, digits and '-', at most 63";
    const MIXED: &str = "may have mixed case, but should otherwise be an RFC 1035 label: letters, digits and '-', at most 63";
    let mut label = |field: &str, name: &str, is_lower: bool| {
        let lower = name.to_ascii_lowercase();
        let begins_well = lower.starts_with(|c: char| c.is_ascii_lowercase());
        if name.is_empty() {
            errors.push(FieldError::required(at.field(field), ""));
        } else if !is_dns_label(&lower) || !begins_well || (is_lower && lower != name) {
            let right = if is_lower { LABEL } else { MIXED };
            errors.push(FieldError::invalid(at.field(field), name, right));
        }
    };
    label("plural", &names.plural, true);
    label("singular", &names.singular, true);
    label("kind", &names.kind, false);
    label("listKind", &names.list_kind, false);
    for name in names.short_names.iter().take(COLUMNS_MAX) {
        label("shortNames", name, true);
    }
    for name in names.categories.iter().take(COLUMNS_MAX) {
        label("categories", name, true);
    }
    errors.at_most(&at.field("shortNames"), names.short_names.len(), COLUMNS_MAX);
    errors.at_most(&at.field("categories"), names.categories.len(), COLUMNS_MAX);
    if names.kind == names.list_kind && !names.kind.is_empty() {
        let right = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(at.field("listKind"), &*names.list_kind, right));
    }
}

fn version(version: &DefinitionVersion, at: &Path<'_>, errors: &mut Errors) {
    if !is_dns_label(&version.name) {
        let right = "must be a lower-case RFC 1123 label, such as v1";
        errors.push(FieldError::invalid(at.field("name"), &*version.name, right));
    }
    let schema = at.field("schema");
    let schema_at = schema.field("openAPIV3Schema");
    if version.schema().is_null() {
        errors.push(FieldError::required(schema_at, "schemas are required"));
    } else {
        for error in structural::check(version.schema(), &schema_at.to_string()) {
            errors.push(error);
        }
    }
    let below = at.field("subresources");
    if let Some(scale) = version.scale() {
        scale_paths(scale, &below.field("scale"), errors);
    }
    let columns = at.field("additionalPrinterColumns");
    errors.at_most(&columns, version.additional_printer_columns.len(), COLUMNS_MAX);
    for (index, column) in version.additional_printer_columns.iter().enumerate().take(COLUMNS_MAX) {
        let at = columns.index(index);
        if column.name.is_empty() {
            errors.push(FieldError::required(at.field("name"), ""));
        }
        if !COLUMN_TYPES.contains(&&*column.kind) {
            errors.push(FieldError::not_supported(at.field("type"), &*column.kind, &COLUMN_TYPES));
        }
        if !column.json_path.starts_with('.') {
            let right = "must be a simple json path starting with .";
            errors.push(FieldError::invalid(at.field("jsonPath"), &*column.json_path, right));
        }
    }
}

fn scale_paths(scale: &DefinitionScale, at: &Path<'_>, errors: &mut Errors) {
    let mut path = |field: &str, path: &str, roots: &[&str]| {
        let is_simple = path.split('.').skip(1).all(|step| {
            !step.is_empty()
                && step.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        });
        if path.is_empty() {
            errors.push(FieldError::required(at.field(field), ""));
        } else if !is_simple || !roots.iter().any(|root| path.starts_with(root)) {
            let right = format!("should be a json path under {}", roots.join(" or "));
            errors.push(FieldError::invalid(at.field(field), path, &right));
        }
    };
    path("specReplicasPath", &scale.spec_replicas_path, &[".spec."]);
    path("statusReplicasPath", &scale.status_replicas_path, &[".status."]);
    if let Some(selector) = &scale.label_selector_path {
        path("labelSelectorPath", selector, &[".spec.", ".status."]);
    }
}

/// Notes what is part of the identity of the kind and was changed, and versions that go although objects may be stored in
/// them.
pub(super) fn compare(
    old: &CustomResourceDefinition,
    new: &CustomResourceDefinition,
    errors: &mut Errors,
) {
    let stored = &old.status.stored_versions;
    let (old, new, spec) = (&old.spec, &new.spec, Path::root("spec"));
    let names = spec.field("names");
    for (field, old, new) in [
        (spec.field("group"), &old.group, &new.group),
        (spec.field("scope"), &old.scope, &new.scope),
        (names.field("plural"), &old.names.plural, &new.names.plural),
        (names.field("kind"), &old.names.kind, &new.names.kind),
    ] {
        if old != new {
            errors.push(FieldError::invalid(field, &**new, IMMUTABLE));
        }
    }
    for stored in stored {
        if !new.versions.iter().any(|version| version.name == *stored) {
            let right = format!("must appear in spec.versions: {stored}");
            errors.push(FieldError::invalid("status.storedVersions", &**stored, &right));
        }
    }
}
