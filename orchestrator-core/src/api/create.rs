//! Create: records a new object.

use std::fmt::Display;

use serde_json::Value;

use super::authorise::{Action, Verb, authorise, may_try};
use super::decode::{Decoded, decode};
use super::update::{admitted, check_size};
use super::{
    Attributes, Caller, Context, Effect, Rejection, WriteOptions, bad_request, custom, permits,
};
use crate::model::{Key, Kind, Namespace, NamespacePhase, Object, Part, Resource, Revision};
use crate::store::{Expect, Guard, RecordKey};
use crate::world::Proposal;

/// How many characters a generated name gets after its prefix, and how long the prefix may be.
const SUFFIX_CHARS: usize = 5;
const PREFIX_CHARS_MAX: usize = 63 - SUFFIX_CHARS;
/// How many generated names are tried.
const GENERATE_ATTEMPTS_MAX: u8 = 8;

pub(super) fn create(
    context: &Context<'_>,
    kind: Kind,
    namespace: &str,
    object: &Value,
    options: &WriteOptions,
) -> Result<Effect, Rejection> {
    let decoded = decode(context.world, kind, object.clone(), options.validation, None)?;
    let name = &decoded.object.meta().name;
    may_try(context.caller, Verb::Create, &Key::new(kind, namespace, name))?;
    record(context, namespace, decoded, options, false)
}

/// Refuses a user who may patch and not create: an apply that finds nothing is a create, and a right of its own.
pub(super) fn may_create(context: &Context<'_>, key: &Key) -> Result<(), Rejection> {
    let Caller::User { name, .. } = context.caller else { return Ok(()) };
    let create = Attributes::collection("create", key.kind, &key.namespace);
    match permits(context.world, context.caller, &create) {
        true => Ok(()),
        false => Err(create.forbidden(name)),
    }
}

/// Refuses to apply what says which object is meant, where there is none: a new one has another uid.
pub(super) fn is_gone(key: &Key, uid: impl Display) -> Rejection {
    let reason =
        format!("the manifest is of an object with uid {uid}, which is not there any more");
    Rejection::Conflict { key: key.clone(), reason }
}

/// Records a decoded object in a namespace; one that comes of a server-side apply says who owns its fields. The caller may
/// create it.
pub(super) fn record(
    context: &Context<'_>,
    namespace: &str,
    decoded: Decoded,
    options: &WriteOptions,
    is_applied: bool,
) -> Result<Effect, Rejection> {
    let Decoded { object, warnings } = decoded;
    let mut object = with_namespace(object, namespace)?;
    stamp(context, &mut object, is_applied)?;
    let key = object.key();
    let guard = namespace_guard(context, &key)?;
    let object = admitted(context, None, object)?;
    authorise(context, Action::Create { new: &object })?;
    check_size(&key, &object, Part::Main)?;
    check_size(&key, &object, Part::Status)?;
    if context.world.get(&key).is_some() {
        return Err(Rejection::AlreadyExists { key });
    }
    if context.world.is_quarantined(&key) {
        return Err(Rejection::absent(context.world, &key));
    }
    let mut proposal = Proposal::create(custom::in_storage(context.world, &object));
    proposal.guards.extend(guard);
    proposal.guards.extend(custom::definition_guard(context, key.kind)?);
    let proposal = (!options.dry_run).then_some(proposal);
    Ok(Effect { proposal, reply: object, deleted: false, created: true, warnings })
}

fn with_namespace(mut object: Object, namespace: &str) -> Result<Object, Rejection> {
    if !object.kind().is_namespaced() {
        return Ok(object);
    }
    let meta = object.meta_mut();
    match (namespace, &*meta.namespace) {
        ("", "") => "default".clone_into(&mut meta.namespace),
        (asked, "") => asked.clone_into(&mut meta.namespace),
        ("", _) => {}
        (asked, said) if asked == said => {}
        (asked, said) => {
            return Err(bad_request(format!(
                "the namespace of the object ({said}) does not match that of the request ({asked})"
            )));
        }
    }
    Ok(object)
}

/// Sets what only the control plane sets, whatever the client sent.
fn stamp(context: &Context<'_>, object: &mut Object, is_applied: bool) -> Result<(), Rejection> {
    // A node comes with the state it is in; every other status is reported by someone else later.
    if object.kind() != Kind::Node && custom::has_own_status(context.world, object.kind()) {
        *object = object.without_status();
    }
    if let Some(namespace) = Namespace::from_object(object) {
        let mut namespace = (**namespace).clone();
        namespace.status.phase = Some(NamespacePhase::Active);
        *object = namespace.into_object();
    }
    let kind = object.kind();
    let meta = object.meta_mut();
    if meta.resource_version != Revision::ZERO {
        return Err(bad_request("resourceVersion should not be set on objects to be created"));
    }
    meta.uid = context.fresh;
    meta.creation_timestamp = Some(context.now.to_time());
    meta.deletion_timestamp = None;
    if !is_applied {
        meta.managed_fields.clear();
    }
    meta.deletion_grace_period_seconds = None;
    meta.generation = i64::from(kind.has_status());
    if meta.name.is_empty() && !meta.generate_name.is_empty() {
        let (namespace, prefix) = (meta.namespace.clone(), meta.generate_name.clone());
        object.meta_mut().name = generate(context, kind, &namespace, &prefix);
    }
    Ok(())
}

/// Makes a name from a prefix: the first one free. When none is, the last one tried is refused as taken.
fn generate(context: &Context<'_>, kind: Kind, namespace: &str, prefix: &str) -> String {
    let end =
        (0..=prefix.len().min(PREFIX_CHARS_MAX)).rev().find(|end| prefix.is_char_boundary(*end));
    let prefix = &prefix[..end.unwrap_or(0)];
    let fresh = context.fresh.to_string();
    let mut name = String::new();
    for attempt in 0..GENERATE_ATTEMPTS_MAX {
        name = format!(
            "{prefix}{}",
            crate::hash::name_suffix(&[fresh.as_bytes(), &[attempt]], SUFFIX_CHARS)
        );
        if context.world.get(&Key::new(kind, namespace, &name)).is_none() {
            break;
        }
    }
    name
}

/// The namespace must be there, stay there until the commit, and not be on its way out.
fn namespace_guard(context: &Context<'_>, key: &Key) -> Result<Option<Guard>, Rejection> {
    if !key.kind.is_namespaced() {
        return Ok(None);
    }
    let namespace = Key::cluster(Kind::Namespace, &key.namespace);
    let Some(stored) = context.world.get(&namespace) else {
        return Err(Rejection::NotFound { key: namespace });
    };
    if stored.object.meta().is_deleting() {
        return Err(Rejection::Forbidden {
            message: format!(
                "{} {:?} is forbidden: unable to create new content in namespace {} because it is being terminated",
                key.kind.resource(),
                key.name,
                key.namespace
            ),
        });
    }
    Ok(Some(Guard { key: RecordKey::main(namespace), expect: Expect::At(stored.main) }))
}
