//! Which places a document has, and in which two documents differ.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::field_set::{FieldSet, printed};
use super::type_ref::{TypeRef, branch_of};
use crate::model::structural::ListType;

/// What two documents differ in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Places that are new or have another value.
    pub changed: FieldSet,
    /// Places that are gone.
    pub removed: FieldSet,
}

/// Adds every place that a document has.
pub(crate) fn collect(of: TypeRef<'_>, value: &Value, set: &mut FieldSet) {
    match value {
        _ if of.is_atomic(value) => set.is_member = true,
        Value::Array(list) if list.is_empty() => set.is_member = true,
        Value::Object(map) if map.is_empty() => set.is_member = true,
        Value::Object(map) => {
            for (name, value) in map {
                collect(of.child(name), value, set.branch(format!("f:{name}")));
            }
        }
        Value::Array(list) => {
            let (list_type, of) = (of.list_type(), of.element());
            for element in list {
                let Some(branch) = branch_of(&list_type, element) else { continue };
                let branch = set.branch(branch);
                branch.is_member = true;
                if element.is_object() {
                    collect(of, element, branch);
                }
            }
        }
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => set.is_member = true,
    }
}

/// Compares two documents.
pub(crate) fn compare(of: TypeRef<'_>, old: &Value, new: &Value) -> Difference {
    let mut difference = Difference::default();
    compare_into(of, Some(old), Some(new), &mut difference);
    prune_empty(&mut difference.changed);
    prune_empty(&mut difference.removed);
    difference
}

fn compare_into(
    of: TypeRef<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    difference: &mut Difference,
) {
    match (old, new) {
        (None, None) => {}
        (None, Some(new)) => collect(of, new, &mut difference.changed),
        (Some(old), None) => difference.removed.add(&everything(of, old)),
        (Some(old), Some(new)) if old == new => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) if !of.has_atomic_map() => {
            for name in before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)))
            {
                let branch = format!("f:{name}");
                descend(difference, branch, |below| {
                    compare_into(of.child(name), before.get(name), after.get(name), below);
                });
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after)))
            if of.list_type() != ListType::Atomic =>
        {
            let list_type = of.list_type();
            let (before, after) = (by_branch(&list_type, before), by_branch(&list_type, after));
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
                        compare_into(of.element(), before, after, below);
                    }
                });
            }
        }
        (Some(old), Some(_)) => {
            // Who owned parts of what is something else now owns them no more.
            if !of.is_atomic(old) {
                difference.removed.add(&everything(of, old));
            }
            difference.changed.is_member = true;
        }
    }
}

/// All places that a document has, those that only hold others among them.
fn everything(of: TypeRef<'_>, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(of, value, &mut set);
    set.fill();
    set
}

/// The elements of a list by the names of their branches; of equals the first.
fn by_branch<'v>(list_type: &ListType<'_>, list: &'v [Value]) -> BTreeMap<String, &'v Value> {
    let mut found = BTreeMap::new();
    for element in list {
        if let Some(branch) = branch_of(list_type, element) {
            found.entry(branch).or_insert(element);
        }
    }
    found
}

/// The first element of a list in a document that cannot be told from others: it is there twice, or lacks what tells it
/// apart. Its path, and what is wrong.
pub(crate) fn indistinct(of: TypeRef<'_>, value: &Value) -> Option<(String, String)> {
    match value {
        Value::Array(list) if !of.is_atomic(value) => {
            let (list_type, mut seen) = (of.list_type(), BTreeSet::new());
            list.iter().enumerate().find_map(|(index, element)| {
                match (branch_of(&list_type, element), &list_type) {
                    (None, ListType::Map(keys)) => {
                        let keys: Vec<_> = keys.iter().map(|key| key.name).collect();
                        let keys = keys.join(",");
                        let what = format!("an element of this list needs its key, {keys}");
                        Some((format!("[{index}]"), what))
                    }
                    (Some(branch), _) if seen.contains(&branch) => {
                        let what = "two elements of the list have this key".to_owned();
                        Some((printed(&branch), what))
                    }
                    (branch, _) => {
                        seen.extend(branch);
                        indistinct(of.element(), element)
                    }
                }
            })
        }
        Value::Object(map) if !of.is_atomic(value) => map.iter().find_map(|(name, value)| {
            let (inner, what) = indistinct(of.child(name), value)?;
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
