//! Merging what is applied into what is there, and taking out what is not applied any more.

use std::collections::BTreeMap;

use serde_json::Value;

use super::field_set::FieldSet;
use super::type_ref::{TypeRef, branch_of};
use crate::model::structural::ListType;

/// Puts what is applied into a document: what it names gets its value, all else stays.
pub(crate) fn merge(of: TypeRef<'_>, live: &mut Value, applied: &Value) {
    match (live, applied) {
        (live, applied) if of.is_atomic(applied) => live.clone_from(applied),
        (Value::Object(live), Value::Object(applied)) => {
            for (name, value) in applied {
                match live.get_mut(name) {
                    Some(live) => merge(of.child(name), live, value),
                    None => drop(live.insert(name.clone(), value.clone())),
                }
            }
        }
        (Value::Array(live), Value::Array(applied)) => merge_list(of, live, applied),
        (live, applied) => live.clone_from(applied),
    }
}

/// Merges a list by the identity of its elements. Those that were there come in the order in which they are applied, in the
/// places they have had among the others; a new one comes behind the one it is applied behind, so that the same again changes
/// nothing. With nothing that was there, new ones come last.
fn merge_list(of: TypeRef<'_>, live: &mut Vec<Value>, applied: &[Value]) {
    let (list_type, mut places) = (of.list_type(), BTreeMap::new());
    for (index, element) in live.iter().enumerate() {
        if let Some(branch) = branch_of(&list_type, element) {
            places.entry(branch).or_insert(index);
        }
    }
    // Each run is an element that was there, and the new ones behind it; the first run has only new ones.
    let (mut slots, mut runs) = (Vec::new(), vec![Vec::new()]);
    for element in applied {
        // A place is taken once.
        let branch = branch_of(&list_type, element);
        let mut value = element.clone();
        if let Some(index) = branch.and_then(|branch| places.remove(&branch)) {
            value.clone_from(&live[index]);
            merge(of.element(), &mut value, element);
            slots.push(index);
            runs.push(Vec::new());
        }
        if let Some(run) = runs.last_mut() {
            run.push(value);
        }
    }
    slots.sort_unstable();
    let (mut slots, mut runs) = (slots.into_iter().peekable(), runs.into_iter());
    let first = runs.next().unwrap_or_default();
    let mut merged = Vec::with_capacity(live.len() + applied.len());
    let mut before = Some(first);
    for (index, element) in std::mem::take(live).into_iter().enumerate() {
        if slots.next_if_eq(&index).is_some() {
            merged.extend(before.take().into_iter().flatten());
            merged.extend(runs.next().into_iter().flatten());
        } else {
            merged.push(element);
        }
    }
    merged.extend(before.into_iter().flatten());
    *live = merged;
}

/// Takes the places of a set out of a document. An element of a list in which somebody owns something stays, with its key.
pub(crate) fn remove(
    of: TypeRef<'_>,
    value: &mut Value,
    dropped: &FieldSet,
    owned: Option<&FieldSet>,
) {
    match value {
        Value::Object(map) => {
            for (branch, below) in &dropped.below {
                let Some(name) = branch.strip_prefix("f:") else { continue };
                let Some(inner) = map.get_mut(name) else { continue };
                let owned = owned.and_then(|owned| owned.below.get(branch));
                if below.is_member && owned.is_none() {
                    map.remove(name);
                    continue;
                }
                remove(of.child(name), inner, below, owned);
                // What held only what went goes too.
                let is_empty = match inner {
                    Value::Array(list) => list.is_empty(),
                    Value::Object(map) => map.is_empty(),
                    _ => false,
                };
                if is_empty && owned.is_none() {
                    map.remove(name);
                }
            }
        }
        Value::Array(list) => {
            let list_type = of.list_type();
            list.retain_mut(|element| {
                let branch = branch_of(&list_type, element).unwrap_or_default();
                let Some(below) = dropped.below.get(&branch) else { return true };
                let owned = owned.and_then(|owned| owned.below.get(&branch));
                if below.is_member && owned.is_none() {
                    return false;
                }
                let key = key_of(&list_type, element);
                remove(of.element(), element, below, owned);
                if let Value::Object(map) = element {
                    map.extend(key);
                }
                true
            });
        }
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => {}
    }
}

/// The fields of an element by which it is known.
fn key_of(list_type: &ListType<'_>, element: &Value) -> Vec<(String, Value)> {
    let ListType::Map(keys) = list_type else { return Vec::new() };
    let field = |name: &str| Some((name.to_owned(), element.get(name)?.clone()));
    keys.iter().filter_map(|key| field(key.name)).collect()
}
