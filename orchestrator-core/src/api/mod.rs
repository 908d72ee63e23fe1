//! The verbs: what a request means, whoever makes it.
//!
//! Pure functions of (request, caller, world, now, fresh uid) to a transaction or a rejection. HTTP, `Cluster`,
//! the command line and agents all go through [`decide`]. Depends on `model` and `world`. What must hold: the typed
//! object that was authorised is the one that is written.

mod apply;
mod apply_server_side;
mod authorise;
mod bind;
mod create;
mod custom;
mod decode;
mod delete;
mod evict;
mod other_agent;
mod patch;
mod rbac;
mod rejection;
mod request;
mod scale;
mod strategic;
#[cfg(test)]
mod tests;
mod three_way;
mod update;
mod without_effect;

use crate::model::{Key, Timestamp, Uid};
use crate::world::{Stored, World};

pub use crate::model::{FieldError, FieldErrorKind};
pub use crate::ownership::ApplyConflict;
pub use bind::bind_proposal;
pub use patch::{json_patch, merge_patch};
pub use rbac::{
    AUTO_UPDATE_ANNOTATION, Asked, Attributes, GROUP_AUTHENTICATED, GROUP_MASTERS, GROUP_NODES,
    GROUP_SERVICE_ACCOUNTS, NODE_USER_PREFIX, built_in_access, permits, permitted_rules,
};
pub use rejection::Rejection;
pub use request::{
    Caller, Cascade, DeleteOptions, Effect, FieldValidation, Patch, Preconditions, Request,
    WriteOptions,
};
pub use update::OBJECT_BYTES_MAX;

/// What every verb is given besides the request.
#[derive(Clone, Copy, Debug)]
struct Context<'a> {
    caller: &'a Caller,
    fresh: Uid,
    now: Timestamp,
    world: &'a World,
}

impl<'a> Context<'a> {
    /// Who owns what is written.
    fn manager(&self, options: &'a WriteOptions) -> &'a str {
        match self.caller {
            _ if !options.manager.is_empty() => &options.manager,
            Caller::Admin { name } | Caller::Node { name } | Caller::User { name, .. } => name,
        }
    }
}

/// Decides what a request comes to in this world; nothing is written by it.
///
/// `fresh` is the uid of the object that may be created, never used before. The effect's proposal carries every
/// precondition: committed to a newer world it either means the same or conflicts, and then the request is decided
/// anew.
///
/// # Errors
/// [`Rejection`] says why the request is refused, in the terms of a Kubernetes Status.
///
/// # Example
/// ```
/// use orchestrator_core::api::{Caller, Request, WriteOptions, decide};
/// use orchestrator_core::model::{Kind, Timestamp, Uid};
/// use orchestrator_core::world::World;
///
/// let request = Request::Create {
///     kind: Kind::Namespace,
///     namespace: String::new(),
///     object: serde_json::json!({ "metadata": { "name": "web" } }),
///     options: WriteOptions::default(),
/// };
/// let admin = Caller::Admin { name: "root".to_owned() };
/// let now = Timestamp::from_millis(0);
/// let effect = decide(&World::default(), &admin, &request, now, Uid::default()).expect("valid");
/// assert!(effect.created && effect.proposal.is_some());
/// ```
pub fn decide(
    world: &World,
    caller: &Caller,
    request: &Request,
    now: Timestamp,
    fresh: Uid,
) -> Result<Effect, Rejection> {
    let context = Context { caller, fresh, now, world };
    may_ask(&context, request)?;
    match request {
        Request::Bind { pod, node } => bind::bind(&context, pod, node),
        Request::Create { kind, namespace, object, options } => {
            let kind = custom::resolved(world, *kind)?;
            create::create(&context, kind, namespace, object, options)
        }
        Request::Delete { key, options } => {
            let key = custom::resolved_key(world, key)?;
            delete::delete(&context, &key, options)
        }
        Request::Evict { pod, options } => evict::evict(&context, pod, options),
        Request::Patch { key, part, patch, preconditions, options } => {
            let key = custom::resolved_key(world, key)?;
            patch::patch(&context, &key, *part, patch, preconditions, options)
        }
        Request::Scale { key, replicas, preconditions, options } => {
            let key = custom::resolved_key(world, key)?;
            scale::scale(&context, &key, *replicas, preconditions, options)
        }
        Request::Update { key, part, object, options } => {
            let key = custom::resolved_key(world, key)?;
            update::update(&context, &key, *part, object, options)
        }
    }
}

/// Refuses a user whose roles do not permit the request, before anything is said about objects. What a node may do is
/// looked at with the objects at hand.
fn may_ask(context: &Context<'_>, request: &Request) -> Result<(), Rejection> {
    let Caller::User { name, .. } = context.caller else { return Ok(()) };
    let asked = Attributes::of_request(request);
    match asked.iter().any(|attributes| permits(context.world, context.caller, attributes)) {
        true => Ok(()),
        false => Err(asked[0].forbidden(name)),
    }
}

/// Finds an object.
fn find<'w>(world: &'w World, key: &Key) -> Result<&'w Stored, Rejection> {
    world.get(key).ok_or_else(|| Rejection::absent(world, key))
}

fn bad_request(message: impl Into<String>) -> Rejection {
    Rejection::BadRequest { message: message.into() }
}
