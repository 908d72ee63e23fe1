//! `Object`: any object, its key, and its two records.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::custom_object::CustomObject;
use super::ids::{Key, Kind, Revision};
use super::meta::ObjectMeta;
use super::residual::{ReadPart, Residual, located_message, strip_nulls};
use super::{
    ClusterRole, ClusterRoleBinding, ConfigMap, CustomResourceDefinition, Deployment, Event, Lease,
    Namespace, Node, Pod, PodDisruptionBudget, PodTemplate, ReplicaSet, Role, RoleBinding, Secret,
    Service, ServiceAccount,
};

/// A part of an object that is stored as a record of its own (so that an agent's status and a user's edit never
/// fight over one revision).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Metadata and spec (and data).
    Main,
    /// Status.
    Status,
}

/// Any object. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Object {
    ClusterRole(Arc<ClusterRole>),
    ClusterRoleBinding(Arc<ClusterRoleBinding>),
    ConfigMap(Arc<ConfigMap>),
    Custom(Arc<CustomObject>),
    CustomResourceDefinition(Arc<CustomResourceDefinition>),
    Deployment(Arc<Deployment>),
    Event(Arc<Event>),
    Lease(Arc<Lease>),
    Namespace(Arc<Namespace>),
    Node(Arc<Node>),
    Pod(Arc<Pod>),
    PodDisruptionBudget(Arc<PodDisruptionBudget>),
    ReplicaSet(Arc<ReplicaSet>),
    Role(Arc<Role>),
    RoleBinding(Arc<RoleBinding>),
    Secret(Arc<Secret>),
    Service(Arc<Service>),
    ServiceAccount(Arc<ServiceAccount>),
}

/// A typed kind of object.
pub trait Resource: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// The kind.
    const KIND: Kind;

    /// The metadata.
    fn meta(&self) -> &ObjectMeta;

    /// The metadata, to change.
    fn meta_mut(&mut self) -> &mut ObjectMeta;

    /// Wraps the object.
    fn into_object(self) -> Object;

    /// Unwraps an object, if it is of this kind.
    fn from_object(object: &Object) -> Option<&Arc<Self>>;

    /// The object's key.
    fn key(&self) -> Key {
        Key::new(Self::KIND, &self.meta().namespace, &self.meta().name)
    }
}

/// A document that is not an object of the expected form.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The document is not an object with `apiVersion` and `kind`.
    #[error("not an object: {reason}")]
    NotAnObject {
        /// What is wrong.
        reason: String,
    },
    /// The kind is not served.
    #[error("no kind {kind:?} in version {api_version:?}; this server knows {known}")]
    UnknownKind {
        /// The kind asked for.
        kind: String,
        /// The version asked for.
        api_version: String,
        /// The kinds there are.
        known: String,
    },
    /// A field has the wrong type or form.
    #[error("{message}")]
    Field {
        /// Path and reason, such as `spec.replicas: invalid type: string "x", expected a whole number`.
        message: String,
    },
}

macro_rules! for_each_kind {
    ($object:expr, $each:ident => $body:expr) => {
        match $object {
            Object::ClusterRole($each) => $body,
            Object::ClusterRoleBinding($each) => $body,
            Object::ConfigMap($each) => $body,
            Object::Custom($each) => $body,
            Object::CustomResourceDefinition($each) => $body,
            Object::Deployment($each) => $body,
            Object::Event($each) => $body,
            Object::Lease($each) => $body,
            Object::Namespace($each) => $body,
            Object::Node($each) => $body,
            Object::Pod($each) => $body,
            Object::PodDisruptionBudget($each) => $body,
            Object::ReplicaSet($each) => $body,
            Object::Role($each) => $body,
            Object::RoleBinding($each) => $body,
            Object::Secret($each) => $body,
            Object::Service($each) => $body,
            Object::ServiceAccount($each) => $body,
        }
    };
}

macro_rules! resources {
    ($($kind:ident),+) => {$(
        impl Resource for $kind {
            const KIND: Kind = Kind::$kind;

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }

            fn into_object(self) -> Object {
                Object::$kind(Arc::new(self))
            }

            fn from_object(object: &Object) -> Option<&Arc<Self>> {
                if let Object::$kind(found) = object { Some(found) } else { None }
            }
        }

        impl From<$kind> for Object {
            fn from(object: $kind) -> Self {
                object.into_object()
            }
        }

        impl From<Arc<$kind>> for Object {
            fn from(object: Arc<$kind>) -> Self {
                Self::$kind(object)
            }
        }
    )+};
}

resources!(
    ClusterRole,
    ClusterRoleBinding,
    ConfigMap,
    CustomResourceDefinition,
    Deployment,
    Event,
    Lease,
    Namespace,
    Node,
    Pod,
    PodDisruptionBudget,
    ReplicaSet,
    Role,
    RoleBinding,
    Secret,
    Service,
    ServiceAccount
);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OnWire<'a, T> {
    /// Of a record only.
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<u64>,
    api_version: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    object: &'a T,
}

impl Serialize for Object {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.on_wire(None, serializer)
    }
}

impl Object {
    /// The kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::ClusterRole(_) => Kind::ClusterRole,
            Self::ClusterRoleBinding(_) => Kind::ClusterRoleBinding,
            Self::ConfigMap(_) => Kind::ConfigMap,
            Self::Custom(object) => Kind::Custom(object.kind),
            Self::CustomResourceDefinition(_) => Kind::CustomResourceDefinition,
            Self::Deployment(_) => Kind::Deployment,
            Self::Event(_) => Kind::Event,
            Self::Lease(_) => Kind::Lease,
            Self::Namespace(_) => Kind::Namespace,
            Self::Node(_) => Kind::Node,
            Self::Pod(_) => Kind::Pod,
            Self::PodDisruptionBudget(_) => Kind::PodDisruptionBudget,
            Self::ReplicaSet(_) => Kind::ReplicaSet,
            Self::Role(_) => Kind::Role,
            Self::RoleBinding(_) => Kind::RoleBinding,
            Self::Secret(_) => Kind::Secret,
            Self::Service(_) => Kind::Service,
            Self::ServiceAccount(_) => Kind::ServiceAccount,
        }
    }

    /// The metadata.
    pub fn meta(&self) -> &ObjectMeta {
        for_each_kind!(self, object => &object.metadata)
    }

    /// The metadata, to change; copies the object first if it is shared.
    pub fn meta_mut(&mut self) -> &mut ObjectMeta {
        for_each_kind!(self, object => &mut Arc::make_mut(object).metadata)
    }

    /// The key.
    pub fn key(&self) -> Key {
        Key::new(self.kind(), &self.meta().namespace, &self.meta().name)
    }

    /// Returns the object as JSON, `apiVersion` and `kind` included.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("maps of the model have string keys")
    }

    /// Returns the object as the bytes of its JSON, in the model's order of fields, `apiVersion` and `kind` included.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("maps of the model have string keys")
    }

    fn on_wire<S: serde::Serializer>(
        &self,
        schema: Option<u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let kind = self.kind();
        let (api_version, kind) = (kind.api_version(), kind.name());
        for_each_kind!(self, object => {
            OnWire { schema, api_version, kind, object: &**object }.serialize(serializer)
        })
    }

    /// Returns one part of the object as the bytes of its record: JSON with the version of the stored form in front, without a
    /// revision.
    pub(crate) fn to_record(&self, part: Part, schema: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut serializer = serde_json::Serializer::new(&mut bytes);
        let written = match part {
            Part::Main => {
                let mut main = self.without_status();
                if main.meta().resource_version != Revision::ZERO {
                    main.set_revision(Revision::ZERO);
                }
                main.on_wire(Some(schema), &mut serializer)
            }
            Part::Status => self.status_on_wire(schema, &mut serializer),
        };
        written.expect("maps of the model have string keys");
        bytes
    }

    /// Writes the status alone.
    fn status_on_wire<S: serde::Serializer>(
        &self,
        schema: u64,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Record<'a, T> {
            schema: u64,
            status: &'a T,
        }
        macro_rules! record {
            ($status:expr) => {
                Record { schema, status: $status }.serialize(serializer)
            };
        }
        match self {
            Self::ClusterRole(_)
            | Self::ClusterRoleBinding(_)
            | Self::ConfigMap(_)
            | Self::Event(_)
            | Self::Lease(_)
            | Self::Role(_)
            | Self::RoleBinding(_)
            | Self::Secret(_)
            | Self::ServiceAccount(_) => record!(&Value::Null),
            Self::Custom(object) => record!(&object.status),
            Self::CustomResourceDefinition(object) => record!(&object.status),
            Self::Deployment(object) => record!(&object.status),
            Self::Namespace(object) => record!(&object.status),
            Self::Node(object) => record!(&object.status),
            Self::Pod(object) => record!(&object.status),
            Self::PodDisruptionBudget(object) => record!(&object.status),
            Self::ReplicaSet(object) => record!(&object.status),
            Self::Service(object) => record!(&object.status),
        }
    }

    /// Reads an object of a known kind from JSON; `apiVersion` and `kind` may be absent, `null`s count as absent.
    ///
    /// # Errors
    /// [`DecodeError::Field`] names the first field that has the wrong type or form. Fields that no type
    /// claims are no error here: they are kept (see [`Object::residuals`]).
    pub fn from_value(kind: Kind, mut value: Value) -> Result<Self, DecodeError> {
        match (kind, value.get_mut("metadata")) {
            // Whether nulls count elsewhere the schema of its kind says.
            (Kind::Custom(_), Some(metadata)) => strip_nulls(metadata),
            (Kind::Custom(_), None) => {}
            _ => strip_nulls(&mut value),
        }
        let Value::Object(mut map) = value else {
            return Err(DecodeError::NotAnObject { reason: "expected a JSON object".to_owned() });
        };
        let said = map.remove("apiVersion");
        map.remove("kind");
        if let Some(Value::Object(metadata)) = map.get_mut("metadata") {
            // Of former days; some clients still send it.
            metadata.remove("selfLink");
        }
        let value = Value::Object(map);
        match kind {
            Kind::ClusterRole => read(&value).map(Self::ClusterRole),
            Kind::ClusterRoleBinding => read(&value).map(Self::ClusterRoleBinding),
            Kind::ConfigMap => read(&value).map(Self::ConfigMap),
            Kind::Custom(kind) => {
                let said = said.as_ref().and_then(Value::as_str);
                let kind = said.and_then(|said| kind.at_api_version(said)).unwrap_or(kind);
                CustomObject::read(kind, value).map(Self::from)
            }
            Kind::CustomResourceDefinition => read(&value).map(Self::CustomResourceDefinition),
            Kind::Deployment => read(&value).map(Self::Deployment),
            Kind::Event => read(&value).map(Self::Event),
            Kind::Lease => read(&value).map(Self::Lease),
            Kind::Namespace => read(&value).map(Self::Namespace),
            Kind::Node => read(&value).map(Self::Node),
            Kind::Pod => read(&value).map(Self::Pod),
            Kind::PodDisruptionBudget => read(&value).map(Self::PodDisruptionBudget),
            Kind::ReplicaSet => read(&value).map(Self::ReplicaSet),
            Kind::Role => read(&value).map(Self::Role),
            Kind::RoleBinding => read(&value).map(Self::RoleBinding),
            Kind::Secret => read(&value).map(Self::Secret),
            Kind::Service => read(&value).map(Self::Service),
            Kind::ServiceAccount => read(&value).map(Self::ServiceAccount),
        }
    }

    /// Finds the kind a JSON document says it is.
    ///
    /// # Errors
    /// [`DecodeError`] when `apiVersion` or `kind` is missing, or the pair is not served.
    pub fn kind_of(value: &Value) -> Result<Kind, DecodeError> {
        let text = |name: &str| match value.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.as_str()),
            Some(_) | None => Err(DecodeError::NotAnObject {
                reason: format!("{name}: a non-empty string is needed"),
            }),
        };
        let (api_version, kind) = (text("apiVersion")?, text("kind")?);
        Kind::from_name(kind).filter(|found| found.api_version() == api_version).ok_or_else(|| {
            let known: Vec<_> =
                Kind::ALL.iter().map(|kind| format!("{}/{}", kind.api_version(), kind)).collect();
            DecodeError::UnknownKind {
                kind: kind.to_owned(),
                api_version: api_version.to_owned(),
                known: known.join(", "),
            }
        })
    }

    /// Yields what was sent and is not modelled: the whole path of each field, and its value.
    pub fn residuals<'s>(&'s self) -> Vec<(String, &'s Value)> {
        let mut parts = Vec::new();
        let mut note = |part, residual| parts.push((part, residual));
        note("metadata", &self.meta().residual);
        for_each_kind!(self, object => note("", &object.residual));
        let mut template = |template: &'s PodTemplate| {
            note("spec.template.metadata", &template.metadata.residual);
            note("spec.template.spec", &template.spec.residual);
        };
        match self {
            Self::ClusterRole(_)
            | Self::ClusterRoleBinding(_)
            | Self::ConfigMap(_)
            | Self::Custom(_)
            | Self::Event(_)
            | Self::Role(_)
            | Self::RoleBinding(_)
            | Self::Secret(_)
            | Self::ServiceAccount(_) => {}
            Self::CustomResourceDefinition(object) => {
                note("spec", &object.spec.residual);
                note("status", &object.status.residual);
            }
            Self::Deployment(object) => {
                template(&object.spec.template);
                note("spec", &object.spec.residual);
                note("status", &object.status.residual);
            }
            Self::Lease(object) => note("spec", &object.spec.residual),
            Self::Namespace(object) => {
                note("spec", &object.spec.residual);
                note("status", &object.status.residual);
            }
            Self::Node(object) => {
                note("spec", &object.spec.residual);
                note("status", &object.status.residual);
            }
            Self::Pod(object) => {
                note("spec", &object.spec.residual);
                note("status", &object.status.residual);
            }
            Self::PodDisruptionBudget(object) => {
                note("spec", &object.spec.residual);
                note("status", &object.status.residual);
            }
            Self::ReplicaSet(object) => {
                template(&object.spec.template);
                note("spec", &object.spec.residual);
                note("status", &object.status.residual);
            }
            Self::Service(object) => {
                note("spec", &object.spec.residual);
                note("status", &object.status.residual);
            }
        }
        let fields = |(part, residual): (&'static str, &'s Residual)| {
            residual.fields().map(move |(path, value)| match part {
                "" => (path, value),
                part => (format!("{part}.{path}"), value),
            })
        };
        parts.into_iter().flat_map(fields).collect()
    }

    /// Sets the revision that clients see.
    pub fn set_revision(&mut self, revision: Revision) {
        self.meta_mut().resource_version = revision;
    }
}

fn read<T: ReadPart>(value: &Value) -> Result<Arc<T>, DecodeError> {
    T::read(value).map(Arc::new).map_err(|message| wrong_field("", &message))
}

/// Says which field has the wrong form, when what is below `path` was read.
pub(super) fn wrong_field(path: &str, message: &str) -> DecodeError {
    let message = located_message(path, message);
    DecodeError::Field { message: message.strip_prefix('.').unwrap_or(&message).to_owned() }
}
