//! Which places a document has, and in which two documents differ.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::field_set::{FieldSet, printed};
use crate::schema::{Ownership, Place, Shape};

/// Fields of keys that have a value when they are left out.
const KEY_DEFAULTS: [(&str, &str); 1] = [("protocol", "TCP")];

/// What two documents differ in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Places that are new or have another value.
    pub changed: FieldSet,
    /// Places that are gone.
    pub removed: FieldSet,
}

/// Whether what is here changes hands as a whole.
pub(super) fn is_atomic(place: Place, value: &Value) -> bool {
    match value {
        Value::Array(_) => !matches!(place.ownership, Ownership::ByKeys(_) | Ownership::Set),
        Value::Object(_) => {
            let is_struct = place.shape == Shape::One;
            let message = place.message.filter(|_| is_struct);
            place.ownership == Ownership::Atomic || message.is_some_and(|it| it.is_atomic)
        }
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => true,
    }
}

/// The name of the branch of a list's element; `None` when it lacks a key that has no default.
pub(crate) fn branch_of(ownership: Ownership, element: &Value) -> Option<String> {
    match ownership {
        Ownership::ByKeys(keys) => {
            let element = element.as_object()?;
            let default = |key: &str| KEY_DEFAULTS.iter().find(|(name, _)| *name == key);
            let mut id = Map::new();
            for key in keys.split(',') {
                let value = match element.get(key).filter(|value| !value.is_null()) {
                    Some(value) => value.clone(),
                    None => default(key)?.1.into(),
                };
                id.insert(key.to_owned(), value);
            }
            Some(format!("k:{}", Value::Object(id)))
        }
        Ownership::Set => Some(format!("v:{element}")),
        Ownership::Atomic | Ownership::Granular => None,
    }
}

/// Adds every place that a document has.
pub(crate) fn collect(place: Place, value: &Value, set: &mut FieldSet) {
    match value {
        _ if is_atomic(place, value) => set.is_member = true,
        Value::Object(map) if map.is_empty() => set.is_member = true,
        Value::Object(map) => {
            for (name, value) in map {
                collect(place.child(name), value, set.branch(format!("f:{name}")));
            }
        }
        Value::Array(list) => {
            for element in list {
                let Some(branch) = branch_of(place.ownership, element) else { continue };
                let branch = set.branch(branch);
                branch.is_member = true;
                if let (Value::Object(map), false) = (element, is_atomic(place.element(), element))
                {
                    for (name, value) in map {
                        let below = branch.branch(format!("f:{name}"));
                        collect(place.element().child(name), value, below);
                    }
                }
            }
        }
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => set.is_member = true,
    }
}

/// Compares two documents.
pub(crate) fn compare(place: Place, old: &Value, new: &Value) -> Difference {
    let mut difference = Difference::default();
    compare_into(place, Some(old), Some(new), &mut difference);
    prune_empty(&mut difference.changed);
    prune_empty(&mut difference.removed);
    difference
}

fn compare_into(
    place: Place,
    old: Option<&Value>,
    new: Option<&Value>,
    difference: &mut Difference,
) {
    match (old, new) {
        (None, None) => {}
        (None, Some(new)) => collect(place, new, &mut difference.changed),
        (Some(old), None) => collect(place, old, &mut difference.removed),
        (Some(old), Some(new)) if old == new => {}
        (Some(Value::Object(before)), Some(Value::Object(after)))
            if !is_atomic(place, &Value::Object(Map::new())) =>
        {
            for name in before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)))
            {
                let branch = format!("f:{name}");
                descend(difference, branch, |below| {
                    compare_into(place.child(name), before.get(name), after.get(name), below);
                });
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after)))
            if !is_atomic(place, &Value::Array(Vec::new())) =>
        {
            let (before, after) = (by_branch(place, before), by_branch(place, after));
            let ids: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for id in ids {
                let (before, after) = (before.get(id).copied(), after.get(id).copied());
                descend(difference, id.clone(), |below| {
                    match (before, after) {
                        (None, Some(_)) => below.changed.is_member = true,
                        (Some(_), None) => below.removed.is_member = true,
                        _ => {}
                    }
                    let is_struct = |side: Option<&Value>| side.is_some_and(Value::is_object);
                    if is_struct(before) || is_struct(after) {
                        compare_into(place.element(), before, after, below);
                    }
                });
            }
        }
        (Some(_), Some(_)) => difference.changed.is_member = true,
    }
}

/// The elements of a list by the names of their branches; of equals the first.
pub(super) fn by_branch(place: Place, list: &[Value]) -> BTreeMap<String, &Value> {
    let mut found = BTreeMap::new();
    for element in list {
        if let Some(branch) = branch_of(place.ownership, element) {
            found.entry(branch).or_insert(element);
        }
    }
    found
}

/// The first element of a list in a document that cannot be told from others: it is there twice, or lacks what tells it
/// apart. Its path, and what is wrong.
pub(crate) fn indistinct(place: Place, value: &Value) -> Option<(String, String)> {
    match value {
        Value::Array(list) if !is_atomic(place, value) => {
            let mut seen = BTreeSet::new();
            list.iter().enumerate().find_map(|(index, element)| {
                match (branch_of(place.ownership, element), place.ownership) {
                    (None, Ownership::ByKeys(keys)) => {
                        let what = format!("an element of this list needs its key, {keys}");
                        Some((format!("[{index}]"), what))
                    }
                    (Some(branch), _) if seen.contains(&branch) => {
                        let what = "two elements of the list have this key".to_owned();
                        Some((printed(&branch), what))
                    }
                    (branch, _) => {
                        seen.extend(branch);
                        indistinct(place.element(), element)
                    }
                }
            })
        }
        Value::Object(map) if !is_atomic(place, value) => map.iter().find_map(|(name, value)| {
            let (inner, what) = indistinct(place.child(name), value)?;
            Some((format!(".{name}{inner}"), what))
        }),
        _ => None,
    }
}

/// Lets `fill` write into the branches of a name.
fn descend(difference: &mut Difference, branch: String, fill: impl FnOnce(&mut Difference)) {
    let mut below = Difference {
        changed: difference.changed.below.remove(&branch).unwrap_or_default(),
        removed: difference.removed.below.remove(&branch).unwrap_or_default(),
    };
    fill(&mut below);
    if !below.changed.is_empty() {
        difference.changed.below.insert(branch.clone(), below.changed);
    }
    if !below.removed.is_empty() {
        difference.removed.below.insert(branch, below.removed);
    }
}

fn prune_empty(set: &mut FieldSet) {
    set.below.retain(|_, below| {
        prune_empty(below);
        !below.is_empty()
    });
}
