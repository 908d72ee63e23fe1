//! `FieldSet`: a set of places in an object, as Kubernetes' `FieldsV1` writes it.
//!
//! A tree whose branches are named as on the wire: `f:name` a field, `k:{"name":"a"}` the element of a list with that key,
//! `v:"x"` the element with that value.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// How a place that has others below it says that it is in the set itself.
const SELF: &str = ".";

/// A set of places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    /// Whether the place at the root of this tree is in the set.
    pub(super) is_member: bool,
    pub(super) below: BTreeMap<String, Self>,
}

impl FieldSet {
    /// Whether nothing is in the set.
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_member && self.below.is_empty()
    }

    /// The branch of this name, made if it is not there.
    pub(super) fn branch(&mut self, name: String) -> &mut Self {
        self.below.entry(name).or_default()
    }

    /// Adds what is in another set.
    pub(crate) fn add(&mut self, other: &Self) {
        self.is_member |= other.is_member;
        for (name, other) in &other.below {
            self.branch(name.clone()).add(other);
        }
    }

    /// Adds what holds a place of the set.
    pub(super) fn fill(&mut self) {
        self.is_member = true;
        self.below.values_mut().for_each(Self::fill);
    }

    /// Takes out what is in another set.
    pub(crate) fn subtract(&mut self, other: &Self) {
        self.is_member &= !other.is_member;
        self.below.retain(|name, below| {
            if let Some(other) = other.below.get(name) {
                below.subtract(other);
            }
            !below.is_empty()
        });
    }

    /// Calls `note` with each place that is in this set and in another, as `.spec.replicas`.
    pub(crate) fn each_common(&self, other: &Self, path: &mut String, note: &mut dyn FnMut(&str)) {
        if self.is_member && other.is_member {
            note(path);
        }
        for (name, below) in &self.below {
            let Some(other) = other.below.get(name) else { continue };
            let length = path.len();
            path.push_str(&printed(name));
            below.each_common(other, path, note);
            path.truncate(length);
        }
    }

    /// Reads a set; `None` when it is not one.
    pub(crate) fn from_value(value: &Value) -> Option<Self> {
        Self::read(value.as_object()?, false)
    }

    fn read(map: &Map<String, Value>, is_below: bool) -> Option<Self> {
        let mut set = Self { is_member: is_below && map.is_empty(), below: BTreeMap::new() };
        for (name, value) in map {
            if name == SELF {
                set.is_member = true;
                continue;
            }
            if !["f:", "k:", "v:", "i:"].iter().any(|prefix| name.starts_with(prefix)) {
                return None;
            }
            set.below.insert(name.clone(), Self::read(value.as_object()?, true)?);
        }
        Some(set)
    }

    /// Writes the set.
    pub(crate) fn to_value(&self) -> Value {
        let mut map: Map<String, Value> =
            self.below.iter().map(|(name, below)| (name.clone(), below.to_value())).collect();
        if self.is_member && !map.is_empty() {
            map.insert(SELF.to_owned(), Value::Object(Map::new()));
        }
        Value::Object(map)
    }
}

/// A branch's name as people read it: `.replicas`, `[name="a"]`, `[="x"]`.
pub(super) fn printed(name: &str) -> String {
    match name.split_once(':') {
        Some(("f", field)) => format!(".{field}"),
        Some(("k", key)) => {
            let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
            let parts: Vec<_> = key.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("[{}]", parts.join(","))
        }
        Some(("v", value)) => format!("[={value}]"),
        Some((_, other)) => format!("[{other}]"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(value: Value) -> FieldSet {
        FieldSet::from_value(&value).expect("a set")
    }

    #[test]
    fn sets_come_back_as_they_were() {
        for value in [
            json!({}),
            json!({ "f:a": {} }),
            json!({ "f:spec": { "f:x": { "k:{\"name\":\"a\"}": { ".": {}, "f:image": {} } } } }),
        ] {
            assert_eq!(set(value.clone()).to_value(), value);
        }
        assert_eq!(FieldSet::from_value(&json!({ "spec": {} })), None);
        assert_eq!(FieldSet::from_value(&json!({ "f:spec": 1 })), None);
    }

    #[test]
    fn what_is_added_can_be_subtracted() {
        let mut both = set(json!({ "f:a": {}, "f:b": { "f:c": {} } }));
        let other = set(json!({ "f:b": { ".": {}, "f:d": {} } }));
        both.add(&other);
        assert_eq!(both.to_value(), json!({ "f:a": {}, "f:b": { ".": {}, "f:c": {}, "f:d": {} } }));
        both.subtract(&other);
        assert_eq!(both.to_value(), json!({ "f:a": {}, "f:b": { "f:c": {} } }));
    }

    #[test]
    fn what_is_common_is_told_in_words() {
        let one = set(json!({ "f:spec": {
            "f:list": { "k:{\"port\":1,\"protocol\":\"TCP\"}": { ".": {}, "f:x": {} } },
            "f:set": { "v:\"a\"": {} },
        } }));
        let mut told = Vec::new();
        one.each_common(&one, &mut String::new(), &mut |path| told.push(path.to_owned()));
        let item = ".spec.list[port=1,protocol=\"TCP\"]";
        assert_eq!(told, [item, &format!("{item}.x"), ".spec.set[=\"a\"]"]);
    }
}
