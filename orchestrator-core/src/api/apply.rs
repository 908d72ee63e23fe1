//! Apply: a whole manifest, merged three ways with the one applied last and the object as it is.

use base64::Engine as _;
use serde_json::{Map, Value};

use super::authorise::{Verb, may_try};
use super::create::{is_gone, may_create, record};
use super::decode::{Decoded, decode};
use super::three_way::three_way;
use super::update::{Change, Way, check, without_revision};
use super::{
    Context, Effect, FieldValidation, Preconditions, Rejection, WriteOptions, bad_request,
};
use crate::model::{Key, Kind, LAST_APPLIED_ANNOTATION, Object, Part};

pub(super) fn apply(
    context: &Context<'_>,
    key: &Key,
    part: Part,
    manifest: &Value,
    preconditions: &Preconditions,
    options: &WriteOptions,
) -> Result<Effect, Rejection> {
    if part == Part::Status {
        return Err(bad_request("apply does not change a status; use update or a merge patch"));
    }
    let stored = context.world.get(key);
    let verb = if stored.is_some() { Verb::UpdateMain } else { Verb::Create };
    may_try(context.caller, verb, key)?;
    let (manifest, pins) = prepare(key, manifest)?;
    let Decoded { object, warnings } =
        decode(context.world, key.kind, manifest.clone(), options.validation, None)?;
    let annotation = format!("{manifest}\n");
    let Some(stored) = stored else {
        if *preconditions != Preconditions::default() {
            return Err(Rejection::NotFound { key: key.clone() });
        }
        if let Some(uid) = pins.get("uid") {
            return Err(is_gone(key, uid));
        }
        if pins.contains_key("resourceVersion") {
            return Err(bad_request("resourceVersion should not be set on objects to be created"));
        }
        may_create(context, key)?;
        let decoded = Decoded { object: annotated(object, annotation), warnings };
        return record(context, &key.namespace, decoded, options, false);
    };
    let live = without_revision(&stored.object).at_version_of(key.kind).to_value();
    let last = last_applied(&stored.object);
    let mut merged =
        three_way(key.kind, &live, &comparable(key.kind, &last), &comparable(key.kind, &manifest));
    if let (Some(Value::Object(meta)), false) = (merged.get_mut("metadata"), pins.is_empty()) {
        meta.extend(pins);
    }
    let merged =
        decode(context.world, key.kind, merged, FieldValidation::Ignore, Some(&stored.object))?;
    check(preconditions, stored)?;
    let new = annotated(merged.object, annotation);
    Change { stored, new, preconditions, options, warnings, way: Way::Object }.decide(context, part)
}

/// Returns the manifest as it is remembered, in kubectl's form, and what in it is a precondition. What only the control
/// plane sets is not part of what is wanted.
fn prepare(key: &Key, manifest: &Value) -> Result<(Value, Map<String, Value>), Rejection> {
    let Value::Object(manifest) = manifest else {
        return Err(bad_request("a manifest must be a JSON object"));
    };
    let mut manifest = manifest.clone();
    manifest
        .insert("apiVersion".to_owned(), agreed(&manifest, "apiVersion", key.kind.api_version())?);
    manifest.insert("kind".to_owned(), agreed(&manifest, "kind", key.kind.name())?);
    manifest.remove("status");
    let meta = manifest.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(meta) = meta else {
        return Err(bad_request("metadata: a JSON object is needed"));
    };
    if meta.get("generateName").is_some_and(|prefix| !prefix.is_null()) {
        return Err(bad_request("metadata.generateName: apply needs a name to find the object by"));
    }
    let name = agreed(meta, "name", &key.name)?;
    meta.insert("name".to_owned(), name);
    if key.kind.is_namespaced() {
        let namespace = agreed(meta, "namespace", &key.namespace)?;
        meta.insert("namespace".to_owned(), namespace);
    }
    let mut pins = Map::new();
    for field in ["resourceVersion", "uid"] {
        if let Some(value) = meta.remove(field).filter(|value| !value.is_null()) {
            pins.insert(field.to_owned(), value);
        }
    }
    for field in [
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generation",
        "managedFields",
        "selfLink",
    ] {
        meta.remove(field);
    }
    let annotations = meta.entry("annotations").or_insert(Value::Null);
    match annotations {
        Value::Null => *annotations = Value::Object(Map::new()),
        Value::Object(map) => drop(map.remove(LAST_APPLIED_ANNOTATION)),
        Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    Ok((Value::Object(manifest), pins))
}

/// Returns `expected` if the manifest says the same or nothing.
fn agreed(map: &Map<String, Value>, field: &str, expected: &str) -> Result<Value, Rejection> {
    match map.get(field) {
        None | Some(Value::Null) => Ok(expected.into()),
        Some(Value::String(found)) if found == expected || found.is_empty() => Ok(expected.into()),
        Some(found) => Err(bad_request(format!(
            "the {field} of the manifest ({found}) does not match that of the request ({expected:?})"
        ))),
    }
}

/// What was applied last; nothing when there is no record of it or it is not readable.
pub(super) fn last_applied(object: &Object) -> Value {
    let annotation = object.meta().annotations.get(LAST_APPLIED_ANNOTATION);
    annotation
        .and_then(|text| serde_json::from_str(text).ok())
        .filter(Value::is_object)
        .unwrap_or_else(|| Value::Object(Map::new()))
}

/// Returns a manifest in the form in which live objects are: plain values of a secret are among its data.
fn comparable(kind: Kind, manifest: &Value) -> Value {
    let mut manifest = manifest.clone();
    let Some(map) = manifest.as_object_mut().filter(|_| kind == Kind::Secret) else {
        return manifest;
    };
    if let Some(Value::Object(plain)) = map.remove("stringData") {
        let data = map.entry("data").or_insert(Value::Null);
        if data.is_null() {
            *data = Value::Object(Map::new());
        }
        for (name, value) in plain {
            if let (Some(data), Some(text)) = (data.as_object_mut(), value.as_str()) {
                let encoded = base64::engine::general_purpose::STANDARD.encode(text);
                data.insert(name, encoded.into());
            }
        }
    }
    manifest
}

fn annotated(mut object: Object, annotation: String) -> Object {
    object.meta_mut().annotations.insert(LAST_APPLIED_ANNOTATION.to_owned(), annotation);
    object
}
