//! `CustomObject`: an object of a kind that a CustomResourceDefinition defines.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::custom_kind::CustomKind;
use super::ids::Kind;
use super::meta::ObjectMeta;
use super::object::{DecodeError, Object, wrong_field};
use super::residual::{ReadPart as _, Residual};

/// An object of a custom kind: metadata as every object has, the rest as JSON that its definition's schema has checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomObject {
    /// The kind, in the version in which the object was written or is read.
    pub kind: CustomKind,
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Every field but metadata and status.
    pub content: Map<String, Value>,
    /// The status; null when there is none.
    pub status: Value,
    /// Nothing: every field is in `content`.
    pub residual: Residual,
}

impl CustomObject {
    /// Makes an object with nothing in it.
    pub fn empty(kind: CustomKind) -> Self {
        Self {
            kind,
            metadata: ObjectMeta::default(),
            content: Map::new(),
            status: Value::Null,
            residual: Residual::default(),
        }
    }

    /// Reads what [`Object::from_value`] has left to read.
    pub(super) fn read(kind: CustomKind, value: Value) -> Result<Self, DecodeError> {
        let mut content = match value {
            Value::Object(content) => content,
            _ => Map::new(),
        };
        let metadata = match content.remove("metadata").unwrap_or_default() {
            Value::Null => ObjectMeta::default(),
            metadata => {
                ObjectMeta::read(&metadata).map_err(|error| wrong_field("metadata", &error))?
            }
        };
        let status = content.remove("status").unwrap_or(Value::Null);
        Ok(Self { kind, metadata, content, status, residual: Residual::default() })
    }

    /// The whole, as its schema sees it, but for the type and the metadata.
    pub fn body(&self) -> Value {
        let mut body = self.content.clone();
        if !self.status.is_null() {
            body.insert("status".to_owned(), self.status.clone());
        }
        Value::Object(body)
    }
}

impl Serialize for CustomObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("metadata", &self.metadata)?;
        for (name, value) in &self.content {
            map.serialize_entry(name, value)?;
        }
        if !self.status.is_null() {
            map.serialize_entry("status", &self.status)?;
        }
        map.end()
    }
}

impl Object {
    /// Returns the object as it reads in the version that a kind is spoken of: nothing but `apiVersion` differs between
    /// versions of a custom kind, and built-in kinds have one version.
    pub fn at_version_of(&self, kind: Kind) -> Self {
        match (self, kind) {
            (Self::Custom(object), Kind::Custom(kind))
                if object.kind == kind
                    && !kind.version().is_empty()
                    && object.kind.api_version() != kind.api_version() =>
            {
                let mut object = (**object).clone();
                object.kind = kind;
                object.into()
            }
            _ => self.clone(),
        }
    }
}

impl From<CustomObject> for Object {
    fn from(object: CustomObject) -> Self {
        Self::Custom(std::sync::Arc::new(object))
    }
}
