//! OpenAPI v3, made of the field table: an index of documents, and one document per group and version.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use orchestrator_core::model::Kind;
use orchestrator_core::schema::{Field, Merge, Message, Ownership, Shape, Type, schema};
use serde_json::{Map, Value, json};

use crate::custom;
use crate::registry::{RESOURCES, Resource, VERSION};

/// What is said of a field that we do not implement.
const NOT_IMPLEMENTED: &str = "Known to Kubernetes and kept, but without effect here.";
/// What the schemas of values with a name of their own are called.
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
/// What the schema of definitions is called.
const DEFINITION: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition";
/// The schema of metadata, by reference.
pub(crate) const METADATA: &str =
    "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// A document, and a hash of what is in it.
pub(crate) struct Document {
    pub(crate) content: Bytes,
    pub(crate) hash: String,
}

/// Documents by group; the core group has no name.
static DOCUMENTS: LazyLock<BTreeMap<&'static str, Document>> = LazyLock::new(|| {
    RESOURCES
        .iter()
        .map(|resource| resource.kind.group())
        .map(|group| (group, Document::new(&document(group))))
        .collect()
});

impl Document {
    fn new(value: &Value) -> Self {
        let content = Bytes::from(value.to_string());
        let hash = hash(&content);
        Self { content, hash }
    }
}

/// FNV-1a: it only has to differ when what it is of does.
pub(crate) fn hash(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016X}")
}

/// `/openapi/v3`: where the documents are.
pub(crate) fn index() -> Value {
    let paths: Map<String, Value> = DOCUMENTS
        .iter()
        .map(|(group, document)| {
            let path = path(group);
            let url = format!("/openapi/v3{path}?hash={}", document.hash);
            (path.trim_start_matches('/').to_owned(), json!({ "serverRelativeURL": url }))
        })
        .collect();
    json!({ "paths": paths })
}

/// `/openapi/v3/api/v1` and the like.
pub(crate) fn of_group(group: &str) -> Option<&'static Document> {
    DOCUMENTS.get(group)
}

fn path(group: &str) -> String {
    match group {
        "" => format!("/api/{VERSION}"),
        group => format!("/apis/{group}/{VERSION}"),
    }
}

fn document(group: &str) -> Value {
    let served = || RESOURCES.iter().filter(|resource| resource.kind.group() == group);
    let mut schemas = BTreeMap::from(named_values());
    for resource in served() {
        let kind = resource.kind;
        let name = match (kind, schema().of_kind(kind.api_version(), kind.name())) {
            (_, Some(message)) => {
                add(message, &mut schemas);
                full_name(message.name)
            }
            (Kind::CustomResourceDefinition, None) => {
                schemas.extend(metadata());
                schemas.insert(DEFINITION.to_owned(), custom::definition_schema());
                DEFINITION.to_owned()
            }
            (_, None) => continue,
        };
        let Some(described) = schemas.get_mut(&name) else { continue };
        describe_kind(described, group_version_kind(resource));
    }
    let paths: Map<String, Value> = served()
        .map(|resource| {
            let kind = resource.kind;
            let namespaced = if kind.is_namespaced() { "/namespaces/{namespace}" } else { "" };
            let path = format!("{}{namespaced}/{}/{{name}}", path(group), kind.plural());
            // Clients ask here whether the server checks fields itself.
            let check =
                json!({ "name": "fieldValidation", "in": "query", "schema": { "type": "string" } });
            let patch = json!({
                "x-kubernetes-action": "patch",
                "x-kubernetes-group-version-kind": group_version_kind(resource),
                "parameters": [check],
                "responses": {},
            });
            (path, json!({ "patch": patch }))
        })
        .collect();
    json!({
        "openapi": "3.0.0",
        "info": { "title": "orchd", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

fn group_version_kind(resource: &Resource) -> Value {
    let kind = resource.kind;
    json!({ "group": kind.group(), "version": VERSION, "kind": kind.name() })
}

/// Says in the schema of a kind which one it is, and what every kind has.
pub(crate) fn describe_kind(described: &mut Value, group_version_kind: Value) {
    described["x-kubernetes-group-version-kind"] = json!([group_version_kind]);
    for (field, text) in
        [("apiVersion", "The group and version of the kind."), ("kind", "The kind of the object.")]
    {
        described["properties"][field] = json!({ "type": "string", "description": text });
    }
}

/// The schema of metadata, and of all that it is made of.
pub(crate) fn metadata() -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    if let Some(message) = schema().find("meta/v1.ObjectMeta") {
        add(message, &mut found);
    }
    found
}

/// Adds the schema of a message, and of all that it is made of.
fn add(message: &Message, schemas: &mut BTreeMap<String, Value>) {
    let name = full_name(message.name);
    if schemas.contains_key(&name) {
        return;
    }
    let properties: Map<String, Value> =
        message.fields().map(|field| (field.name.to_owned(), property(field))).collect();
    let required: Vec<_> =
        message.fields().filter(|field| field.is_required).map(|field| field.name).collect();
    let mut described = json!({ "type": "object", "properties": properties });
    if !message.doc.is_empty() {
        described["description"] = message.doc.into();
    }
    if !required.is_empty() {
        described["required"] = json!(required);
    }
    schemas.insert(name, described);
    for inner in message.fields().filter_map(Field::message) {
        add(inner, schemas);
    }
}

fn property(field: &Field) -> Value {
    let one = value_type(field);
    let mut property = match field.shape {
        Shape::One => one,
        Shape::List => json!({ "type": "array", "items": one }),
        Shape::Map => json!({ "type": "object", "additionalProperties": one }),
    };
    let text = match field.doc {
        Some(text) if !text.is_empty() => text,
        Some(_) | None => NOT_IMPLEMENTED,
    };
    property["description"] = text.into();
    match field.merge {
        Merge::ByKey(key) => {
            let strategy = if field.retain_keys { "merge,retainKeys" } else { "merge" };
            property["x-kubernetes-patch-merge-key"] = key.into();
            property["x-kubernetes-patch-strategy"] = strategy.into();
        }
        Merge::Set => property["x-kubernetes-patch-strategy"] = "merge".into(),
        Merge::Replace if field.retain_keys => {
            property["x-kubernetes-patch-strategy"] = "retainKeys".into();
        }
        Merge::Replace => {}
    }
    match (field.ownership, field.shape) {
        (Ownership::ByKeys(keys), _) => {
            property["x-kubernetes-list-type"] = "map".into();
            property["x-kubernetes-list-map-keys"] = keys.split(',').collect();
        }
        (Ownership::Set, _) => property["x-kubernetes-list-type"] = "set".into(),
        (Ownership::Atomic, Shape::List) => property["x-kubernetes-list-type"] = "atomic".into(),
        (Ownership::Atomic, _) => property["x-kubernetes-map-type"] = "atomic".into(),
        (Ownership::Granular, _) => {}
    }
    property
}

fn value_type(field: &Field) -> Value {
    match field.of {
        Type::Bool => json!({ "type": "boolean" }),
        Type::Bytes => json!({ "type": "string", "format": "byte" }),
        Type::FieldsV1 => json!({ "type": "object" }),
        Type::Int32 => json!({ "type": "integer", "format": "int32" }),
        Type::Int64 => json!({ "type": "integer", "format": "int64" }),
        Type::IntOrString => reference(INT_OR_STRING),
        Type::Message(id) => reference(&full_name(schema().message(id).name)),
        Type::MicroTime | Type::Time => json!({ "type": "string", "format": "date-time" }),
        Type::Quantity => reference(QUANTITY),
        Type::String => json!({ "type": "string" }),
    }
}

/// Refers to a schema. Beside a reference nothing else counts; inside `allOf` it does.
fn reference(name: &str) -> Value {
    json!({ "allOf": [{ "$ref": format!("#/components/schemas/{name}") }] })
}

/// The schemas of values that are no messages and have a name of their own, by which people are told of them.
fn named_values() -> [(String, Value); 2] {
    let either = |other: &str| json!([{ "type": other }, { "type": "string" }]);
    let number = "A number or a text: mostly a percentage, or the name of a port.";
    let quantity = "An amount with an optional suffix, such as 500m, 2, 64Mi or 1.5G.";
    [
        (
            INT_OR_STRING.to_owned(),
            json!({ "description": number, "oneOf": either("integer"), "format": "int-or-string" }),
        ),
        (QUANTITY.to_owned(), json!({ "description": quantity, "oneOf": either("number") })),
    ]
}

/// `core/v1.Pod` as OpenAPI has it: `io.k8s.api.core.v1.Pod`.
fn full_name(message: &str) -> String {
    let package = if message.starts_with("meta/") { "apimachinery.pkg.apis" } else { "api" };
    format!("io.k8s.{package}.{}", message.replace('/', "."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(group: &str) -> Value {
        serde_json::from_slice(&of_group(group).expect("served").content).expect("JSON")
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let mut references = 0;
        for group in DOCUMENTS.keys() {
            let document = read(group);
            let schemas = document["components"]["schemas"].as_object().expect("schemas");
            let text = document.to_string();
            for rest in text.split("#/components/schemas/").skip(1) {
                let name = rest.split('"').next().unwrap_or_default();
                assert!(schemas.contains_key(name), "{name}");
                references += 1;
            }
        }
        assert!(references > 100, "{references}");
    }

    #[test]
    fn kinds_are_described_in_our_words_and_merge_by_their_keys() {
        let document = read("apps");
        let schemas = &document["components"]["schemas"];
        let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
        let kind = json!([{ "group": "apps", "version": "v1", "kind": "Deployment" }]);
        assert_eq!(deployment["x-kubernetes-group-version-kind"], kind);
        assert_eq!(deployment["properties"]["kind"]["type"], "string");
        let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["description"], "The programs; at least one.");
        let volumes = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["volumes"];
        assert_eq!(volumes["description"], NOT_IMPLEMENTED);
        let path = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}";
        assert_eq!(document["paths"][path]["patch"]["x-kubernetes-action"], "patch");
    }
}
