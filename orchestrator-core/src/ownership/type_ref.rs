//! `TypeRef`: what is known of a place in an object, by whatever knows its kind.

use serde_json::Value;

use crate::model::structural::{self, ListKey, ListType};
use crate::schema::{Ownership, Place, Shape, schema};

/// Fields of keys that have a value when they are left out, where the field table says of whom they are keys.
const KEY_DEFAULTS: [(&str, &str); 1] = [("protocol", "TCP")];

/// What is known of a place in an object.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TypeRef<'s> {
    /// What the schema of a custom kind says of it; of a whole object its metadata is known besides.
    Structural {
        /// The schema of the place.
        schema: &'s Value,
        /// Whether a whole object is there.
        is_object: bool,
    },
    /// What the field table says of it. Of a place that nobody names it is known that maps are owned field by field, and
    /// lists as a whole.
    Table(Place),
}

impl<'s> TypeRef<'s> {
    /// The whole of an object with a message of the field table.
    pub(crate) fn of_message(name: &str) -> Self {
        Self::Table(Place::root(schema().find(name)))
    }

    /// The whole of an object with a schema.
    pub(crate) const fn of_object(schema: &'s Value) -> Self {
        Self::Structural { schema, is_object: true }
    }

    fn of_part(schema: Option<&'s Value>) -> Self {
        schema.map_or(Self::Table(Place::root(None)), |schema| Self::Structural {
            schema,
            is_object: structural::is_whole_object(schema),
        })
    }

    /// A field (or a name in a map) in this place.
    pub(super) fn child(self, name: &str) -> Self {
        match self {
            Self::Structural { is_object: true, .. } if name == "metadata" => {
                Self::of_message("meta/v1.ObjectMeta")
            }
            Self::Structural { schema, .. } => Self::of_part(structural::of_field(schema, name)),
            Self::Table(place) => Self::Table(place.child(name)),
        }
    }

    /// An element of the list that is in this place.
    pub(super) fn element(self) -> Self {
        match self {
            Self::Structural { schema, .. } => Self::of_part(schema.get("items")),
            Self::Table(place) => Self::Table(place.element()),
        }
    }

    /// How the elements of the list that is in this place are told apart.
    pub(crate) fn list_type(self) -> ListType<'s> {
        match self {
            Self::Structural { schema, .. } => ListType::of(schema),
            Self::Table(place) => match place.ownership {
                Ownership::Atomic | Ownership::Granular => ListType::Atomic,
                Ownership::ByKeys(keys) => ListType::Map(keys.split(',').map(table_key).collect()),
                Ownership::Set => ListType::Set,
            },
        }
    }

    /// Whether what is here changes hands as a whole.
    pub(super) fn is_atomic(self, value: &Value) -> bool {
        match value {
            Value::Array(_) => self.list_type() == ListType::Atomic,
            Value::Object(_) => self.has_atomic_map(),
            Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => true,
        }
    }

    /// Whether a map that is here changes hands as a whole.
    pub(super) fn has_atomic_map(self) -> bool {
        match self {
            Self::Structural { schema, is_object } => {
                // A whole object in a field may be; the object itself has metadata that several own.
                structural::is_atomic_map(schema)
                    && (!is_object || structural::is_whole_object(schema))
            }
            Self::Table(place) => {
                let is_struct = place.shape == Shape::One;
                let message = place.message.filter(|_| is_struct);
                place.ownership == Ownership::Atomic || message.is_some_and(|it| it.is_atomic)
            }
        }
    }
}

fn table_key(name: &'static str) -> ListKey<'static> {
    let default = KEY_DEFAULTS.iter().find(|(key, _)| *key == name);
    ListKey { name, default: default.map(|(_, value)| (*value).into()) }
}

/// The name of the branch of a list's element; `None` when it cannot be told from others.
pub(crate) fn branch_of(list: &ListType<'_>, element: &Value) -> Option<String> {
    let prefix = match list {
        ListType::Atomic => return None,
        ListType::Map(_) => 'k',
        ListType::Set => 'v',
    };
    list.identity(element).map(|id| format!("{prefix}:{id}"))
}
