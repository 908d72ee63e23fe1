//! The strategic merge patch: like a merge patch, but lists whose elements have a key merge by it.
//!
//! Directives: `$patch: replace|delete|merge` in a map or an element, `$retainKeys` drops what it does not name,
//! `$deleteFromPrimitiveList/f` takes values out of a list, `$setElementOrder/f` says in which order a list comes out. The
//! rules are those of apimachinery's `strategicpatch`, with `IgnoreUnmatchedNulls` and `MergeParallelList`, as API servers use them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::schema::{Merge, Place};

/// Says what to do with the map it lies in.
const PATCH: &str = "$patch";
/// Names the fields that stay.
const RETAIN_KEYS: &str = "$retainKeys";
/// Before a list's name: values to take out of it.
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
/// Before a list's name: the order of its elements.
const ORDER: &str = "$setElementOrder/";
/// The deepest a patch may be nested.
const DEPTH_MAX: usize = 128;

/// Why a patch cannot be applied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StrategicError {
    #[error("it is nested deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("{PATCH}: {0} is none of \"delete\", \"merge\", \"replace\"")]
    UnknownDirective(Value),
    #[error("{field}: an element has no {key:?}, by which elements of this list are told apart")]
    NoKey { field: String, key: String },
    #[error("{directive}: expected a list")]
    NotAList { directive: String },
    #[error("{RETAIN_KEYS} does not name {field:?}, which the patch sets")]
    NotRetained { field: String },
    #[error("{ORDER}{field} does not name an element that the patch has")]
    NotOrdered { field: String },
}

type Outcome<T> = Result<T, StrategicError>;

/// Returns what `patch` makes of `original`.
///
/// # Errors
/// [`StrategicError`] when the patch contradicts itself or is too deep.
pub(super) fn merge(place: Place, original: Value, patch: &Value) -> Outcome<Value> {
    match (original, patch) {
        (Value::Object(original), Value::Object(patch)) => {
            merge_map(place, original, patch, DEPTH_MAX).map(Value::Object)
        }
        (original, _) => Ok(original),
    }
}

fn merge_map(
    place: Place,
    mut original: Map<String, Value>,
    patch: &Map<String, Value>,
    depth: usize,
) -> Outcome<Map<String, Value>> {
    let depth = depth.checked_sub(1).ok_or(StrategicError::TooDeep)?;
    match Directive::of(patch)? {
        Some(Directive::Delete) => return Ok(Map::new()),
        Some(Directive::Replace) => return plain_map(patch, depth),
        Some(Directive::Merge) | None => {}
    }
    retain(&mut original, patch)?;
    for (name, change) in patch {
        let field = if let Some(field) = name.strip_prefix(DELETE_FROM) {
            take_values(original.get_mut(field), list_of(name, change)?);
            continue;
        } else if name == PATCH || name == RETAIN_KEYS {
            continue;
        } else if let Some(field) = name.strip_prefix(ORDER) {
            if patch.contains_key(field) {
                // It is ordered together with what comes into it.
                continue;
            }
            field
        } else {
            name
        };
        let order = patch.get(&format!("{ORDER}{field}"));
        let order = order.map(|order| list_of(&format!("{ORDER}{field}"), order)).transpose()?;
        let change = patch.get(field);
        match (original.remove(field), change) {
            (_, Some(Value::Null)) | (None, None) => {}
            (None, Some(change)) => {
                original.insert(field.to_owned(), plain(change, depth)?);
            }
            (Some(Value::Object(live)), Some(Value::Object(change)))
                if !place.child(field).is_replaced =>
            {
                let merged = merge_map(place.child(field), live, change, depth)?;
                original.insert(field.to_owned(), Value::Object(merged));
            }
            (Some(Value::Array(live)), None | Some(Value::Array(_))) => {
                let change = change.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let list = List { field, place: place.child(field), order, depth };
                original.insert(field.to_owned(), Value::Array(list.merge(live, change)?));
            }
            (Some(live), None) => drop(original.insert(field.to_owned(), live)),
            (Some(_), Some(change)) => {
                original.insert(field.to_owned(), plain(change, depth)?);
            }
        }
    }
    Ok(original)
}

/// What a map says is to be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directive {
    Delete,
    Merge,
    Replace,
}

impl Directive {
    fn of(map: &Map<String, Value>) -> Outcome<Option<Self>> {
        match map.get(PATCH) {
            None => Ok(None),
            Some(Value::String(text)) if text == "delete" => Ok(Some(Self::Delete)),
            Some(Value::String(text)) if text == "merge" => Ok(Some(Self::Merge)),
            Some(Value::String(text)) if text == "replace" => Ok(Some(Self::Replace)),
            Some(other) => Err(StrategicError::UnknownDirective(other.clone())),
        }
    }
}

/// Drops what `$retainKeys` does not name.
fn retain(original: &mut Map<String, Value>, patch: &Map<String, Value>) -> Outcome<()> {
    let Some(retained) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let retained = list_of(RETAIN_KEYS, retained)?;
    let is_retained = |name: &str| retained.iter().any(|one| one == name);
    let set = patch.iter().filter(|(name, value)| !name.starts_with('$') && !value.is_null());
    if let Some((field, _)) = set.clone().find(|(name, _)| !is_retained(name)) {
        return Err(StrategicError::NotRetained { field: field.clone() });
    }
    original.retain(|name, _| is_retained(name));
    Ok(())
}

fn list_of<'v>(directive: &str, value: &'v Value) -> Outcome<&'v [Value]> {
    let list = value.as_array().map(Vec::as_slice);
    list.ok_or_else(|| StrategicError::NotAList { directive: directive.to_owned() })
}

fn take_values(list: Option<&mut Value>, values: &[Value]) {
    if let Some(Value::Array(list)) = list {
        list.retain(|one| !values.contains(one));
    }
}

/// What a patch's value is where there was nothing: itself, without nulls in maps and directives.
fn plain(value: &Value, depth: usize) -> Outcome<Value> {
    let depth = depth.checked_sub(1).ok_or(StrategicError::TooDeep)?;
    match value {
        Value::Array(list) => {
            let mut plain_list = Vec::with_capacity(list.len());
            for one in list {
                let directive = one.as_object().map(Directive::of).transpose()?.flatten();
                let is_bare = one.as_object().is_some_and(|map| map.len() == 1);
                match directive {
                    Some(Directive::Delete) => {}
                    Some(Directive::Replace) if is_bare => {}
                    _ => plain_list.push(plain(one, depth)?),
                }
            }
            Ok(Value::Array(plain_list))
        }
        Value::Object(map) => plain_map(map, depth).map(Value::Object),
        other => Ok(other.clone()),
    }
}

fn plain_map(map: &Map<String, Value>, depth: usize) -> Outcome<Map<String, Value>> {
    let is_plain = |name: &str| {
        let directives = [DELETE_FROM, ORDER];
        name != PATCH && name != RETAIN_KEYS && !directives.iter().any(|it| name.starts_with(it))
    };
    let mut plain_fields = Map::new();
    for (name, value) in map.iter().filter(|(name, value)| is_plain(name) && !value.is_null()) {
        plain_fields.insert(name.clone(), plain(value, depth)?);
    }
    Ok(plain_fields)
}

/// A list of the original for which the patch has something.
struct List<'p> {
    field: &'p str,
    place: Place,
    order: Option<&'p [Value]>,
    depth: usize,
}

impl List<'_> {
    fn merge(&self, live: Vec<Value>, change: &[Value]) -> Outcome<Vec<Value>> {
        match self.place.merge {
            Merge::Replace if self.order.is_none() || !change.is_empty() => {
                change.iter().map(|one| plain(one, self.depth)).collect()
            }
            Merge::Replace => Ok(live),
            Merge::Set => {
                let mut seen = BTreeSet::new();
                let all = live.iter().chain(change);
                let merged = all.filter(|one| seen.insert(one.to_string())).cloned().collect();
                self.in_order(None, merged, &live, change)
            }
            Merge::ByKey(key) => {
                let (merged, patched) = self.merge_by_key(key, &live, change)?;
                self.in_order(Some(key), merged, &live, &patched)
            }
        }
    }

    /// Merges elements by their key. Returns them, and those of the patch that are no directives.
    fn merge_by_key(
        &self,
        key: &str,
        live: &[Value],
        change: &[Value],
    ) -> Outcome<(Vec<Value>, Vec<Value>)> {
        let mut deleted = BTreeSet::new();
        let mut patched = Vec::new();
        let directive = |one: &Value| one.as_object().map(Directive::of).transpose();
        for one in change {
            match directive(one)?.flatten() {
                Some(Directive::Replace) => {
                    // The elements beside it are the whole list.
                    let mut whole = Vec::new();
                    for one in change {
                        if directive(one)?.flatten().is_none() {
                            whole.push(plain(one, self.depth)?);
                        }
                    }
                    return Ok((whole.clone(), whole));
                }
                Some(Directive::Delete) => {
                    deleted.insert(self.id(key, one)?);
                }
                Some(Directive::Merge) | None => patched.push(one.clone()),
            }
        }
        let is_left =
            |live: &&Value| id_of(Some(key), live).is_none_or(|id| !deleted.contains(&id));
        let mut merged: Vec<Value> = live.iter().filter(is_left).cloned().collect();
        let mut places = places(Some(key), &merged);
        for one in &patched {
            let id = self.id(key, one)?;
            let Value::Object(change) = one else { continue };
            match places.get(&id).and_then(|index| merged.get_mut(*index)) {
                Some(Value::Object(known)) => {
                    let live = std::mem::take(known);
                    *known = merge_map(self.place.element(), live, change, self.depth)?;
                }
                Some(_) => {}
                None => {
                    places.insert(id, merged.len());
                    merged.push(plain(one, self.depth)?);
                }
            }
        }
        Ok((merged, patched))
    }

    fn id(&self, key: &str, element: &Value) -> Outcome<String> {
        id_of(Some(key), element).ok_or_else(|| StrategicError::NoKey {
            field: self.field.to_owned(),
            key: key.to_owned(),
        })
    }

    /// Orders a merged list: what the patch names in its order, the others where they were among them, as well as that
    /// can be.
    fn in_order(
        &self,
        key: Option<&str>,
        merged: Vec<Value>,
        live: &[Value],
        patched: &[Value],
    ) -> Outcome<Vec<Value>> {
        let in_order = places(key, self.order.unwrap_or(patched));
        let in_live = places(key, live);
        let at = |places: &BTreeMap<String, usize>, one: &Value| {
            id_of(key, one).and_then(|id| places.get(&id).copied())
        };
        if patched.iter().any(|one| at(&in_order, one).is_none()) {
            return Err(StrategicError::NotOrdered { field: self.field.to_owned() });
        }
        let (mut named, others): (Vec<Value>, Vec<Value>) =
            merged.into_iter().partition(|one| at(&in_order, one).is_some());
        named.sort_by_cached_key(|one| at(&in_order, one));
        let mut ordered = Vec::with_capacity(named.len() + others.len());
        let mut named = named.into_iter().peekable();
        for other in others {
            // It comes before the first of those named that stood behind it.
            let place = at(&in_live, &other);
            while let Some(next) = named.peek() {
                match (place, at(&in_live, next)) {
                    (Some(other), Some(next)) if other.cmp(&next) == Ordering::Less => break,
                    _ => ordered.extend(named.next()),
                }
            }
            ordered.push(other);
        }
        ordered.extend(named);
        Ok(ordered)
    }
}

/// What tells an element apart: the value of its key, or all of it.
fn id_of(key: Option<&str>, element: &Value) -> Option<String> {
    match key {
        Some(key) => element.get(key).map(Value::to_string),
        None => Some(element.to_string()),
    }
}

/// Where in a list each element is; of equals the first.
fn places(key: Option<&str>, list: &[Value]) -> BTreeMap<String, usize> {
    let mut places = BTreeMap::new();
    for (index, one) in list.iter().enumerate() {
        if let Some(id) = id_of(key, one) {
            places.entry(id).or_insert(index);
        }
    }
    places
}

#[cfg(test)]
mod tests;
