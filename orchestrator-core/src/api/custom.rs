//! Custom kinds: which definition counts for an object, and what it asks of it.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{Context, Rejection, bad_request};
use crate::model::structural;
use crate::model::{
    CustomKind, CustomObject, CustomResourceDefinition, DefinitionVersion, FieldError, Key, Kind,
    Object,
};
use crate::ownership::Form;
use crate::schema::{schema, take_unknown};
use crate::store::{Expect, Guard, RecordKey};
use crate::world::{Stored, World};

/// What counts for the objects of a custom kind in one of its versions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defined<'w> {
    stored: &'w Stored,
    definition: &'w CustomResourceDefinition,
    pub(super) version: &'w DefinitionVersion,
}

/// Finds the definition of a kind that is served.
pub(super) fn defined(world: &World, kind: CustomKind) -> Option<Defined<'_>> {
    let key = Key::cluster(Kind::CustomResourceDefinition, &kind.definition_name());
    let stored = world.get(&key)?;
    let definition = world.at::<CustomResourceDefinition>(&key)?;
    let is_right = definition.is_established() && definition.defines(kind);
    let version = definition.version_of(kind).filter(|_| is_right)?;
    Some(Defined { stored, definition, version })
}

/// Returns the kind in the version in which it is spoken of; for one that leaves it open that of storage.
///
/// # Errors
/// [`Rejection::NotFound`] when the kind is not served, or not in this version.
pub(super) fn resolved(world: &World, kind: Kind) -> Result<Kind, Rejection> {
    let Kind::Custom(custom) = kind else { return Ok(kind) };
    let found = defined(world, custom).and_then(|found| custom.at_version(&found.version.name));
    found.map(Kind::Custom).ok_or_else(|| Rejection::NotFound {
        key: Key::cluster(Kind::CustomResourceDefinition, &custom.definition_name()),
    })
}

/// Returns a key with its kind [`resolved`].
pub(super) fn resolved_key<'k>(world: &World, key: &'k Key) -> Result<Cow<'k, Key>, Rejection> {
    match key.kind {
        Kind::Custom(_) => Ok(Cow::Owned(Key { kind: resolved(world, key.kind)?, ..key.clone() })),
        _ => Ok(Cow::Borrowed(key)),
    }
}

/// Takes out what the schema does not name. Returns the paths of what went.
pub(super) fn prune(defined: Defined<'_>, map: &mut Map<String, Value>) -> Vec<String> {
    let metadata = map.remove("metadata");
    let mut unknown = in_body(map, |body| structural::prune(defined.version.schema(), body));
    if let Some(mut metadata) = metadata {
        if let Some(message) = schema().find("meta/v1.ObjectMeta") {
            let found = take_unknown(message, &mut metadata);
            unknown.extend(found.into_iter().map(|path| format!("metadata.{path}")));
        }
        map.insert("metadata".to_owned(), metadata);
    }
    unknown.sort();
    unknown
}

/// Takes out what the schema does not name, and fills in defaults. Returns the paths of what went.
pub(super) fn shape(defined: Defined<'_>, map: &mut Map<String, Value>) -> Vec<String> {
    let unknown = prune(defined, map);
    let metadata = map.remove("metadata");
    in_body(map, |body| structural::complete(defined.version.schema(), body));
    map.extend(metadata.map(|metadata| ("metadata".to_owned(), metadata)));
    unknown
}

fn in_body<T>(map: &mut Map<String, Value>, change: impl FnOnce(&mut Value) -> T) -> T {
    let mut body = Value::Object(std::mem::take(map));
    let outcome = change(&mut body);
    if let Value::Object(body) = body {
        *map = body;
    }
    outcome
}

/// What is known of the objects of a kind to those who ask who owns what.
pub(super) fn form(world: &World, kind: Kind) -> Form<'_> {
    let Kind::Custom(custom) = kind else { return Form::of_kind(kind) };
    let version = defined(world, custom).map(|found| found.version);
    let schema = version.map_or(&Value::Null, DefinitionVersion::schema);
    Form::of_custom(custom, schema, version.is_none_or(DefinitionVersion::has_status))
}

/// Says what is wrong with an object by the schema of its kind.
pub(super) fn validate(world: &World, object: &Object) -> Vec<FieldError> {
    let Object::Custom(custom) = object else { return Vec::new() };
    match defined(world, custom.kind) {
        Some(found) => structural::validate(found.version.schema(), &custom.body()),
        None => Vec::new(),
    }
}

/// Whether an object's status is written by itself.
pub(super) fn has_own_status(world: &World, kind: Kind) -> bool {
    match kind {
        Kind::Custom(kind) => defined(world, kind).is_some_and(|found| found.version.has_status()),
        built_in => built_in.has_status(),
    }
}

/// Returns an object in the version in which its kind is stored.
pub(super) fn in_storage(world: &World, object: &Object) -> Object {
    let storage = match object {
        Object::Custom(custom) => defined(world, custom.kind)
            .and_then(|found| found.definition.storage())
            .and_then(|version| custom.kind.at_version(&version.name)),
        _ => None,
    };
    storage.map_or_else(|| object.clone(), |kind| object.at_version_of(Kind::Custom(kind)))
}

/// The definition must be there, stay there until the commit, and not be on its way out.
pub(super) fn definition_guard(
    context: &Context<'_>,
    kind: Kind,
) -> Result<Option<Guard>, Rejection> {
    let Kind::Custom(custom) = kind else { return Ok(None) };
    let Some(found) = defined(context.world, custom) else {
        return Err(Rejection::NotFound {
            key: Key::cluster(Kind::CustomResourceDefinition, &custom.definition_name()),
        });
    };
    if found.definition.metadata.is_deleting() {
        let message =
            "create not allowed while custom resource definition is terminating".to_owned();
        return Err(Rejection::Forbidden { message });
    }
    let key = RecordKey::main(found.stored.object.key());
    Ok(Some(Guard { key, expect: Expect::At(found.stored.main) }))
}

/// Sets the number of replicas where the definition says it is.
pub(super) fn scale(
    world: &World,
    object: &CustomObject,
    replicas: i32,
) -> Result<CustomObject, Rejection> {
    let found = defined(world, object.kind);
    let Some(scale) = found.and_then(|found| found.version.scale()) else {
        let resource = Kind::Custom(object.kind).resource();
        return Err(bad_request(format!("{resource} cannot be scaled: no scale subresource")));
    };
    if replicas < 0 {
        let errors = vec![FieldError::invalid(
            "spec.replicas",
            replicas,
            "should be a non-negative integer",
        )];
        return Err(Rejection::Invalid { key: Object::from(object.clone()).key(), errors });
    }
    let mut scaled = object.clone();
    let mut steps = scale.spec_replicas_path.trim_start_matches('.').split('.');
    let Some(last) = steps.next_back() else { return Ok(scaled) };
    let mut map = &mut scaled.content;
    for step in steps {
        let inner = map.entry(step).or_insert_with(|| Value::Object(Map::new()));
        if !inner.is_object() {
            *inner = Value::Object(Map::new());
        }
        let Value::Object(inner) = inner else { return Ok(object.clone()) };
        map = inner;
    }
    map.insert(last.to_owned(), replicas.into());
    Ok(scaled)
}
