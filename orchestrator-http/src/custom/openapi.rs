//! OpenAPI v3 of custom kinds: their schemas, as `kubectl explain` reads them.

use std::collections::BTreeSet;

use orchestrator_core::world::World;
use serde_json::{Map, Value, json};

use super::{Served, served};
use crate::openapi::{Document, METADATA, describe_kind, hash, metadata};

/// The document of a group and version.
pub(crate) fn document(world: &World, group: &str, version: &str) -> Document {
    let api_version = format!("{group}/{version}");
    let mut schemas = Map::new();
    let mut paths = Map::new();
    for served in served(world).filter(|served| served.kind.api_version() == api_version) {
        let kind = served.kind;
        schemas.insert(name_of(&served), described(&served));
        let namespaced = if kind.is_namespaced() { "/namespaces/{namespace}" } else { "" };
        let path = format!("/apis/{api_version}{namespaced}/{}/{{name}}", kind.plural());
        // Clients ask here whether the server checks fields itself.
        let check =
            json!({ "name": "fieldValidation", "in": "query", "schema": { "type": "string" } });
        let patch = json!({
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": group_version_kind(&served),
            "parameters": [check],
            "responses": {},
        });
        paths.insert(path, json!({ "patch": patch }));
    }
    schemas.extend(metadata());
    let document = json!({
        "openapi": "3.0.0",
        "info": { "title": "orchd", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": schemas },
    });
    Document { content: document.to_string().into(), hash: hash_of(world, group, version) }
}

/// What differs whenever the document of a group and version may: the program and the definitions it is made of.
fn hash_of(world: &World, group: &str, version: &str) -> String {
    let api_version = format!("{group}/{version}");
    let mut sources = env!("CARGO_PKG_VERSION").to_owned();
    for served in served(world).filter(|served| served.kind.api_version() == api_version) {
        let meta = &served.definition.metadata;
        sources.push_str(&format!(" {}/{}", meta.uid, meta.resource_version));
    }
    hash(sources.as_bytes())
}

/// Adds to what `/openapi/v3` answers.
pub(crate) fn add_to_index(world: &World, index: &mut Value) {
    let versions: BTreeSet<_> =
        served(world).map(|served| (served.kind.group(), served.version.name.as_str())).collect();
    for (group, version) in versions {
        let hash = hash_of(world, group, version);
        let path = format!("apis/{group}/{version}");
        let url = format!("/openapi/v3/{path}?hash={hash}");
        index["paths"][path] = json!({ "serverRelativeURL": url });
    }
}

/// The name of a schema: the group backwards, version and kind, such as `com.example.v1.Widget`.
fn name_of(served: &Served<'_>) -> String {
    let mut group: Vec<_> = served.kind.group().split('.').collect();
    group.reverse();
    format!("{}.{}.{}", group.join("."), served.version.name, served.kind.name())
}

fn group_version_kind(served: &Served<'_>) -> Value {
    let kind = served.kind;
    json!({ "group": kind.group(), "version": served.version.name, "kind": kind.name() })
}

fn described(served: &Served<'_>) -> Value {
    let mut schema = served.version.schema().clone();
    describe_kind(&mut schema, group_version_kind(served));
    schema["properties"]["metadata"] =
        json!({ "description": "Metadata.", "allOf": [{ "$ref": METADATA }] });
    schema
}
