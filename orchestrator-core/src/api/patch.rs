//! Patch: every kind of it; here JSON, merge and strategic merge patches.

use json_patch::{PatchErrorKind, PatchOperation};
use serde_json::Value;

use super::apply_server_side::Wish;
use super::authorise::{Action, may_try};
use super::decode::decode;
use super::update::{Change, Way, without_revision};
use super::{
    Context, Effect, Patch, Preconditions, Rejection, WriteOptions, apply, apply_server_side,
    bad_request, find, strategic,
};
use crate::model::{FieldError, Key, Kind, Object, Part};
use crate::schema::{Place, schema};

/// The most operations of a JSON patch, as in Kubernetes.
const OPERATIONS_MAX: usize = 10_000;
/// The most bytes that the copies of a JSON patch may add up to: each may double the object.
const COPIED_BYTES_MAX: usize = 3 << 20;
/// The deepest a patch may be nested.
const PATCH_DEPTH_MAX: usize = 128;

pub(super) fn patch(
    context: &Context<'_>,
    key: &Key,
    part: Part,
    patch: &Patch,
    preconditions: &Preconditions,
    options: &WriteOptions,
) -> Result<Effect, Rejection> {
    let patched: fn(&Object, &Value) -> Result<Value, Rejection>;
    let change = match patch {
        Patch::Apply(manifest) => {
            return apply::apply(context, key, part, manifest, preconditions, options);
        }
        Patch::ApplyServerSide { manifest, force } => {
            let wish = Wish { key, part, manifest, force: *force, preconditions };
            return apply_server_side::apply(context, wish, options);
        }
        Patch::Json(operations) => {
            patched = operate;
            operations
        }
        Patch::Merge(change) => {
            patched = merged;
            change
        }
        Patch::Strategic(_) if key.kind.custom().is_some() => {
            return Err(Rejection::UnsupportedPatch { key: key.clone() });
        }
        Patch::Strategic(change) => {
            patched = strategically_merged;
            change
        }
    };
    may_try(context.caller, Action::verb_of(part), key)?;
    let stored = find(context.world, key)?;
    // A `resourceVersion` that is then in it came from the patch.
    let value = patched(&stored.object.at_version_of(key.kind), change)?;
    let decoded = decode(context.world, key.kind, value, options.validation, Some(&stored.object))?;
    let warnings = decoded.warnings;
    Change { stored, new: decoded.object, preconditions, options, warnings, way: Way::Object }
        .decide(context, part)
}

fn merged(object: &Object, change: &Value) -> Result<Value, Rejection> {
    if !change.is_object() {
        return Err(bad_request("a merge patch must be a JSON object"));
    }
    let mut value = without_revision(object).to_value();
    merge_patch(&mut value, change)?;
    Ok(value)
}

/// Changes a document as a JSON merge patch says (RFC 7386): objects are merged by field, `null` removes, everything else
/// replaces.
///
/// # Errors
/// [`Rejection::BadRequest`] when the patch is nested deeper than any object may be; the document is half changed then.
pub fn merge_patch(target: &mut Value, patch: &Value) -> Result<(), Rejection> {
    match merge_into(target, patch, PATCH_DEPTH_MAX) {
        true => Ok(()),
        false => Err(bad_request(format!("the patch is nested deeper than {PATCH_DEPTH_MAX}"))),
    }
}

fn strategically_merged(object: &Object, change: &Value) -> Result<Value, Rejection> {
    if !change.is_object() {
        return Err(bad_request("a strategic merge patch must be a JSON object"));
    }
    let kind = object.kind();
    let place = Place::root(schema().of_kind(kind.api_version(), kind.name()));
    strategic::merge(place, without_revision(object).to_value(), change)
        .map_err(|error| bad_request(format!("the patch cannot be applied: {error}")))
}

fn operate(object: &Object, operations: &Value) -> Result<Value, Rejection> {
    json_patch(&object.key(), object.to_value(), operations)
}

/// Returns what the operations of a JSON patch (RFC 6902) make of an object. It has a `resourceVersion` only if they set one.
///
/// # Errors
/// [`Rejection::Invalid`] when one of them cannot be done, [`Rejection::BadRequest`] when they are none or too many.
pub fn json_patch(key: &Key, mut value: Value, operations: &Value) -> Result<Value, Rejection> {
    let read: json_patch::Patch = serde_json::from_value(operations.clone())
        .map_err(|error| bad_request(format!("the body is not a JSON patch: {error}")))?;
    if read.len() > OPERATIONS_MAX {
        let message = format!(
            "the JSON patch has {} operations, at most {OPERATIONS_MAX} are done",
            read.len()
        );
        return Err(bad_request(message));
    }
    // Operations may test and replace the revision; only one that they set is a precondition.
    let mut copied = 0usize;
    for (index, operation) in read.iter().enumerate() {
        if let PatchOperation::Copy(copy) = operation {
            let bytes = value.pointer(copy.from.as_str()).map_or(0, |it| it.to_string().len());
            copied = copied.saturating_add(bytes);
            if copied > COPIED_BYTES_MAX {
                return Err(bad_request(format!(
                    "the JSON patch copies more than {COPIED_BYTES_MAX} bytes"
                )));
            }
        }
        if let Err(error) = json_patch::patch(&mut value, std::slice::from_ref(operation)) {
            let errors = vec![cannot_be_done(key.kind, &value, index, operation, &error.kind)];
            return Err(Rejection::Invalid { key: key.clone(), errors });
        }
    }
    let is_pinned = read.iter().any(|operation| {
        !matches!(operation, PatchOperation::Test(_))
            && operation.path() == "/metadata/resourceVersion"
    });
    if let (Some(Value::Object(metadata)), false) = (value.get_mut("metadata"), is_pinned) {
        metadata.remove("resourceVersion");
    }
    Ok(value)
}

/// Says why an operation cannot be done, and what it finds. The values of a secret are not repeated.
fn cannot_be_done(
    kind: Kind,
    value: &Value,
    index: usize,
    operation: &PatchOperation,
    error: &PatchErrorKind,
) -> FieldError {
    let path = operation.path().to_string();
    let nothing_at =
        |path: String| FieldError::required(path, &format!("operation {index} finds nothing here"));
    match (error, operation) {
        (PatchErrorKind::InvalidPointer, _) => nothing_at(path),
        (PatchErrorKind::InvalidFromPointer, PatchOperation::Copy(copy)) => {
            nothing_at(copy.from.to_string())
        }
        (PatchErrorKind::InvalidFromPointer, PatchOperation::Move(moved)) => {
            nothing_at(moved.from.to_string())
        }
        (PatchErrorKind::TestFailed, _) => {
            let there = if kind == Kind::Secret {
                Value::from("…")
            } else {
                value.pointer(&path).cloned().unwrap_or_default()
            };
            FieldError::invalid(path, there, &format!("operation {index} tests for another value"))
        }
        (other, _) => FieldError::forbidden(path, &format!("operation {index}: {other}")),
    }
}

/// Merges `patch` into `target`: objects by field, `null` removes, everything else replaces. Returns false when it is
/// nested deeper than `depth`.
fn merge_into(target: &mut Value, patch: &Value, depth: usize) -> bool {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return true;
    };
    if depth == 0 {
        return false;
    }
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else { return true };
    for (name, change) in patch {
        if change.is_null() {
            target.remove(name);
        } else if !merge_into(target.entry(name).or_insert(Value::Null), change, depth - 1) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(mut target: Value, patch: Value, expected: Value) {
        assert!(merge_into(&mut target, &patch, PATCH_DEPTH_MAX));
        assert_eq!(target, expected, "{patch}");
    }

    #[test]
    fn the_cases_of_rfc_7386_hold() {
        check(json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"}));
        check(json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"}));
        check(json!({"a": "b"}), json!({"a": null}), json!({}));
        check(json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"}));
        check(json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"}));
        check(json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]}));
        check(
            json!({"a": {"b": "c"}}),
            json!({"a": {"b": "d", "c": null}}),
            json!({"a": {"b": "d"}}),
        );
        check(json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]}));
        check(json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"]));
        check(json!({"a": "b"}), json!(["c"]), json!(["c"]));
        check(json!({"a": "foo"}), json!("bar"), json!("bar"));
        check(json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1}));
        check(json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"}));
        check(json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}}));
    }

    #[test]
    fn a_patch_too_deep_is_refused() {
        let deep = (0..PATCH_DEPTH_MAX + 1).fold(json!(1), |inner, _| json!({ "a": inner }));
        assert!(!merge_into(&mut json!({}), &deep, PATCH_DEPTH_MAX));
    }
}
