//! `ListType`: how the elements of a list are told apart.

use serde_json::{Map, Value};

use super::{parts, text};

/// How the elements of a list are told apart, as `x-kubernetes-list-type` says it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ListType<'s> {
    /// Not at all: the list is one value.
    Atomic,
    /// By the values of some of their fields.
    Map(Vec<ListKey<'s>>),
    /// By their values.
    Set,
}

/// A field by which elements are told apart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListKey<'s> {
    /// Its name.
    pub(crate) name: &'s str,
    /// What it is when it is left out, if it may be.
    pub(crate) default: Option<Value>,
}

impl<'s> ListType<'s> {
    /// What a schema says of the list that it is of.
    pub(crate) fn of(schema: &'s Value) -> Self {
        let properties = schema.get("items").and_then(|items| items.get("properties"));
        let key = |name: &'s str| ListKey {
            name,
            default: properties
                .and_then(|properties| properties.get(name)?.get("default"))
                .filter(|default| !default.is_null())
                .cloned(),
        };
        let keys = || parts(schema, "x-kubernetes-list-map-keys").filter_map(Value::as_str);
        match text(schema, "x-kubernetes-list-type") {
            "map" => Self::Map(keys().map(key).collect()),
            "set" => Self::Set,
            _ => Self::Atomic,
        }
    }

    /// What an element is known by; `None` when the list is one value, or when the element lacks a key that has no default.
    pub(crate) fn identity(&self, element: &Value) -> Option<Value> {
        match self {
            Self::Atomic => None,
            Self::Map(keys) => {
                let element = element.as_object()?;
                let mut id = Map::new();
                for key in keys {
                    let said = element.get(key.name).filter(|value| !value.is_null());
                    id.insert(key.name.to_owned(), said.or(key.default.as_ref())?.clone());
                }
                Some(Value::Object(id))
            }
            Self::Set => Some(element.clone()),
        }
    }
}
