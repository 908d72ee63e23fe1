//! Patch: an RFC 7386 merge patch of an object.

use serde_json::Value;

use super::authorise::{Action, may_try};
use super::decode::decode;
use super::update::{Change, without_revision};
use super::{Context, Effect, Preconditions, Rejection, WriteOptions, bad_request, find};
use crate::model::{Key, Part};

/// The deepest a patch may be nested.
const PATCH_DEPTH_MAX: usize = 128;

pub(super) fn merge(
    context: &Context<'_>,
    key: &Key,
    part: Part,
    change: &Value,
    preconditions: &Preconditions,
    options: WriteOptions,
) -> Result<Effect, Rejection> {
    may_try(context.caller, Action::verb_of(part), key)?;
    let stored = find(context.world, key)?;
    if !change.is_object() {
        return Err(bad_request("a merge patch must be a JSON object"));
    }
    let mut value = without_revision(&stored.object).to_value();
    if !merge_into(&mut value, change, PATCH_DEPTH_MAX) {
        return Err(bad_request(format!("the patch is nested deeper than {PATCH_DEPTH_MAX}")));
    }
    let decoded = decode(key.kind, value, options.validation, Some(&stored.object))?;
    let warnings = decoded.warnings;
    Change { stored, new: decoded.object, preconditions, options, warnings }.decide(context, part)
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
