//! The three-way merge behind apply: what the last manifest had and the new one lacks goes, what the new one has comes,
//! what others added stays.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::model::Kind;
use crate::model::structural::ListType;
use crate::ownership::{TypeRef, branch_of};
use crate::schema::{Place, schema};

/// Merges `new` into `live`, given the manifest that was applied last.
pub(super) fn three_way(kind: Kind, live: &Value, last: &Value, new: &Value) -> Value {
    let place = Place::root(schema().of_kind(kind.api_version(), kind.name()));
    merge(place, live, Some(last), new)
}

fn merge(place: Place, live: &Value, last: Option<&Value>, new: &Value) -> Value {
    match (live, new) {
        (Value::Object(live), Value::Object(new)) => {
            Value::Object(merge_map(place, live, last.and_then(Value::as_object), new))
        }
        (Value::Array(live), Value::Array(new)) => {
            Value::Array(merge_list(place, live, last.and_then(Value::as_array), new))
        }
        _ => new.clone(),
    }
}

fn merge_map(
    place: Place,
    live: &Map<String, Value>,
    last: Option<&Map<String, Value>>,
    new: &Map<String, Value>,
) -> Map<String, Value> {
    let mut merged = live.clone();
    for name in last.into_iter().flat_map(Map::keys).filter(|name| !new.contains_key(*name)) {
        merged.remove(name);
    }
    for (name, value) in new {
        let value = match live.get(name) {
            _ if value.is_null() => {
                merged.remove(name);
                continue;
            }
            Some(live) => {
                merge(place.child(name), live, last.and_then(|last| last.get(name)), value)
            }
            None => value.clone(),
        };
        merged.insert(name.clone(), value);
    }
    // A choice: what the manifest does not name goes, also defaults of another choice.
    if place.retain_keys {
        merged.retain(|name, _| new.contains_key(name));
    }
    merged
}

fn merge_list(
    place: Place,
    live: &[Value],
    last: Option<&Vec<Value>>,
    new: &[Value],
) -> Vec<Value> {
    let last = last.map(Vec::as_slice).unwrap_or_default();
    let list_type = TypeRef::Table(place).list_type();
    match list_type {
        ListType::Atomic => return new.to_vec(),
        ListType::Set => {
            let foreign = live.iter().filter(|one| !new.contains(one) && !last.contains(one));
            return new.iter().chain(foreign).cloned().collect();
        }
        ListType::Map(_) => {}
    }
    let places = |list: &[Value]| -> BTreeMap<String, usize> {
        let mut places = BTreeMap::new();
        for (index, one) in list.iter().enumerate() {
            if let Some(id) = branch_of(&list_type, one) {
                places.entry(id).or_insert(index);
            }
        }
        places
    };
    let (in_live, in_last) = (places(live), places(last));
    let mut known = BTreeSet::new();
    let mut ids: Vec<String> = Vec::with_capacity(new.len());
    for one in new {
        match branch_of(&list_type, one) {
            Some(id) if known.insert(id.clone()) => ids.push(id),
            // Without a key of its own an element cannot be matched: the list counts as a whole.
            Some(_) | None => return new.to_vec(),
        }
    }
    let element = place.element();
    let mut merged: Vec<_> = new
        .iter()
        .zip(&ids)
        .map(|(one, id)| {
            let last = in_last.get(id).map(|index| &last[*index]);
            let live = in_live.get(id).map(|index| &live[*index]);
            live.map_or_else(|| one.clone(), |live| merge(element, live, last, one))
        })
        .collect();
    merged.extend(
        live.iter()
            .filter(|one| match branch_of(&list_type, one) {
                Some(id) => !known.contains(&id) && !in_last.contains_key(&id),
                None => false,
            })
            .cloned(),
    );
    merged
}
