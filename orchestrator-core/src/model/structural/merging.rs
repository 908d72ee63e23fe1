//! Whether what a schema says of how lists and maps merge can be.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{flag, is_atomic_map, parts, text};
use crate::model::FieldError;

const LIST_TYPE: &str = "x-kubernetes-list-type";
const MAP_KEYS: &str = "x-kubernetes-list-map-keys";
const MAP_TYPE: &str = "x-kubernetes-map-type";
const LIST_TYPES: [&str; 3] = ["atomic", "map", "set"];
const MAP_TYPES: [&str; 2] = ["atomic", "granular"];

/// Notes what is wrong with how a schema says that its lists and maps merge, in Kubernetes' words.
pub(super) fn check(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for (keyword, known, of) in
        [(LIST_TYPE, LIST_TYPES.as_slice(), "array"), (MAP_TYPE, &MAP_TYPES, "object")]
    {
        let Some(said) = schema.get(keyword).filter(|said| !said.is_null()) else { continue };
        if !said.as_str().is_some_and(|said| known.contains(&said)) {
            let at = format!("{path}.{keyword}");
            errors.push(FieldError::not_supported(at, said.clone(), known));
        }
        let found = text(schema, "type");
        if found != of {
            let right = format!("must be {of} if {keyword} is specified");
            errors.push(match found {
                "" => FieldError::required(format!("{path}.type"), &right),
                found => FieldError::invalid(format!("{path}.type"), found, &right),
            });
        }
    }
    let list_type = text(schema, LIST_TYPE);
    let items = schema.get("items").unwrap_or(&Value::Null);
    if matches!(list_type, "map" | "set") && flag(items, "nullable") {
        let why = format!("cannot be nullable when {LIST_TYPE} is {list_type}");
        errors.push(FieldError::forbidden(format!("{path}.items.nullable"), &why));
    }
    match list_type {
        "map" => keys(schema, items, path, errors),
        "set" => set(items, path, errors),
        _ => {}
    }
    let has_keys = parts(schema, MAP_KEYS).next().is_some();
    if list_type != "map" && has_keys {
        let right = format!("must be map if {MAP_KEYS} is non-empty");
        let at = format!("{path}.{LIST_TYPE}");
        errors.push(match list_type {
            "" => FieldError::required(at, &right),
            found => FieldError::invalid(at, found, &right),
        });
    }
}

/// The elements of a set are equal or not: they have no parts that several could own.
fn set(items: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let (keyword, is_one) = match text(items, "type") {
        "array" => (LIST_TYPE, matches!(text(items, LIST_TYPE), "" | "atomic")),
        "object" => (MAP_TYPE, is_atomic_map(items)),
        _ => return,
    };
    if !is_one {
        let right = format!("must be atomic as item of a list with {LIST_TYPE}=set");
        let found = items.get(keyword).cloned().unwrap_or_default();
        errors.push(FieldError::invalid(format!("{path}.items.{keyword}"), found, &right));
    }
}

/// Every element must have each key, and a key must be one value.
fn keys(schema: &Value, items: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let at = format!("{path}.{MAP_KEYS}");
    let said = schema.get(MAP_KEYS).cloned().unwrap_or_default();
    let names: Vec<&str> = parts(schema, MAP_KEYS).filter_map(Value::as_str).collect();
    if names.is_empty() || said.as_array().is_none_or(|said| said.len() != names.len()) {
        let why = format!("must be a list of names, not empty, if {LIST_TYPE} is map");
        errors.push(match said {
            Value::Null => FieldError::required(at, &why),
            said => FieldError::invalid(at, said, &why),
        });
        return;
    }
    if text(items, "type") != "object" {
        let right = format!("must be object if parent array's {LIST_TYPE} is map");
        let found = text(items, "type");
        errors.push(FieldError::invalid(format!("{path}.items.type"), found, &right));
        return;
    }
    let mut seen = BTreeSet::new();
    for name in names {
        let field = format!("{path}.items.properties[{name}]");
        if !seen.insert(name) {
            let right = format!("must not contain duplicate entries: {name}");
            errors.push(FieldError::invalid(&at, said.clone(), &right));
        }
        let Some(key) = items.get("properties").and_then(|properties| properties.get(name)) else {
            let right = format!("entries must all be names of item properties: {name}");
            errors.push(FieldError::invalid(&at, said.clone(), &right));
            continue;
        };
        if let found @ ("array" | "object") = text(key, "type") {
            let right = format!("must be a scalar type if parent array's {LIST_TYPE} is map");
            errors.push(FieldError::invalid(format!("{field}.type"), found, &right));
        }
        let is_required = parts(items, "required").any(|required| required == name);
        let has_default = key.get("default").is_some_and(|default| !default.is_null());
        let why = format!("this property is in {MAP_KEYS}, so it ");
        if !is_required && !has_default {
            let why = format!("{why}must have a default or be a required property");
            errors.push(FieldError::required(format!("{field}.default"), &why));
        }
        if flag(key, "nullable") {
            let why = format!("{why}cannot be nullable");
            errors.push(FieldError::forbidden(format!("{field}.nullable"), &why));
        }
    }
}
