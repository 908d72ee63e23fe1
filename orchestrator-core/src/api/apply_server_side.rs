//! Server-side apply: what a manifest says, with a record of who owns which fields.

use serde_json::{Map, Value};

use super::apply::last_applied;
use super::authorise::{Verb, may_try};
use super::create::{is_gone, may_create, record};
use super::decode::{Decoded, decode};
use super::update::{Change, Way, admitted, check, without_revision};
use super::{
    Context, Effect, FieldValidation, Preconditions, Rejection, WriteOptions, bad_request, custom,
};
use crate::model::{Key, Object, Part};
use crate::ownership::{self, Force};
use crate::schema::{schema, take_unknown};
use crate::world::World;

/// Whose manifests an object may remember that were applied by the client.
const KUBECTL: &str = "kubectl";

/// What is applied, to what.
pub(super) struct Wish<'a> {
    pub(super) key: &'a Key,
    pub(super) part: Part,
    pub(super) manifest: &'a Value,
    pub(super) force: bool,
    pub(super) preconditions: &'a Preconditions,
}

pub(super) fn apply(
    context: &Context<'_>,
    wish: Wish<'_>,
    options: &WriteOptions,
) -> Result<Effect, Rejection> {
    let key = wish.key;
    let stored = context.world.get(key);
    let verb = match (stored, wish.part) {
        (None, _) => Verb::Create,
        (Some(_), Part::Main) => Verb::UpdateMain,
        (Some(_), Part::Status) => Verb::UpdateStatus,
    };
    may_try(context.caller, verb, key)?;
    // Types and unknown fields are looked at in the whole, whatever of it counts.
    let Decoded { object, warnings } =
        decode(context.world, key.kind, wish.manifest.clone(), options.validation, None)?;
    let manifest = prepare(context.world, key, wish.manifest)?;
    let form = custom::form(context.world, key.kind);
    let manager = context.manager(options);
    let now = context.now.to_time();
    let Some(stored) = stored else {
        if wish.part == Part::Status || *wish.preconditions != Preconditions::default() {
            return Err(Rejection::NotFound { key: key.clone() });
        }
        if !object.meta().uid.is_nil() {
            return Err(is_gone(key, object.meta().uid));
        }
        may_create(context, key)?;
        let mut object = object;
        let meta = object.meta_mut();
        (*key.name).clone_into(&mut meta.name);
        meta.managed_fields = ownership::created(form, manager, &manifest, now);
        return record(context, &key.namespace, Decoded { object, warnings }, options, true);
    };
    let live = without_revision(&stored.object).at_version_of(key.kind).to_value();
    let (merged, managed) = match wish.part {
        Part::Main => {
            let last = applied_by_client(context, &stored.object);
            let entries = match stored.object.meta().managed_fields.as_slice() {
                [] => &ownership::before_first_apply(form, &live, &last, now),
                entries => entries,
            };
            let force = match wish.force {
                true => Force::All,
                false if manager == KUBECTL => Force::LastApplied(&last),
                false => Force::None,
            };
            let applied = ownership::apply(form, &live, entries, manager, &manifest, force, now);
            let applied = applied
                .map_err(|conflicts| Rejection::ApplyConflict { key: key.clone(), conflicts })?;
            (applied.value, applied.managed)
        }
        // The status is a record of its own, of which nobody owns parts.
        Part::Status => (ownership::merged(form, live, &manifest), Vec::new()),
    };
    let mut merged =
        decode(context.world, key.kind, merged, FieldValidation::Ignore, Some(&stored.object))?
            .object;
    pin(&mut merged, &object);
    check(wish.preconditions, stored)?;
    if wish.part == Part::Main {
        merged.meta_mut().managed_fields = managed;
    }
    let preconditions = wish.preconditions;
    Change { stored, new: merged, preconditions, options, warnings, way: Way::Applied }
        .decide(context, wish.part)
}

/// A uid or `resourceVersion` in the manifest is a precondition.
fn pin(merged: &mut Object, said: &Object) {
    let (meta, said) = (merged.meta_mut(), said.meta());
    meta.resource_version = said.resource_version;
    if !said.uid.is_nil() {
        meta.uid = said.uid;
    }
}

/// What the client applied last, completed as if it were new; as it is remembered if nothing new could be like that.
fn applied_by_client(context: &Context<'_>, object: &Object) -> Value {
    let last = last_applied(object);
    if last.as_object().is_none_or(Map::is_empty) {
        return last;
    }
    let decoded = decode(context.world, object.kind(), last.clone(), FieldValidation::Ignore, None);
    let completed = decoded.and_then(|decoded| admitted(context, None, decoded.object));
    completed.map_or(last, |object| object.to_value())
}

/// Returns the manifest without nulls and without what Kubernetes does not know.
fn prepare(world: &World, key: &Key, manifest: &Value) -> Result<Value, Rejection> {
    let Value::Object(map) = manifest else {
        return Err(bad_request("a manifest must be a JSON object"));
    };
    let text = |map: &Map<String, Value>, field: &str| {
        map.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    for (field, expected) in [("apiVersion", key.kind.api_version()), ("kind", key.kind.name())] {
        if text(map, field) != expected {
            return Err(bad_request(format!(
                "{field}: server-side apply needs it to be {expected:?}"
            )));
        }
    }
    let metadata = map.get("metadata").and_then(Value::as_object);
    for (field, expected) in [("name", &*key.name), ("namespace", &*key.namespace)] {
        let said = metadata.map(|metadata| text(metadata, field)).unwrap_or_default();
        if !said.is_empty() && said != expected {
            return Err(bad_request(format!(
                "the {field} of the manifest ({said:?}) does not match that of the request ({expected:?})"
            )));
        }
    }
    let sent = metadata.and_then(|metadata| metadata.get("managedFields"));
    if sent.is_some_and(|sent| !sent.is_null()) {
        return Err(bad_request(
            "metadata.managedFields must be nil: who applies does not say who owns",
        ));
    }
    let mut manifest = manifest.clone();
    crate::model::strip_nulls(&mut manifest);
    if let Some(map) = manifest.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
        if let Some(defined) = key.kind.custom().and_then(|kind| custom::defined(world, kind)) {
            custom::prune(defined, map);
        }
    }
    if let Some(message) = schema().of_kind(key.kind.api_version(), key.kind.name()) {
        take_unknown(message, &mut manifest);
    }
    if let Some((path, what)) = ownership::indistinct(custom::form(world, key.kind), &manifest) {
        return Err(bad_request(format!("{path}: {what}")));
    }
    Ok(manifest)
}
