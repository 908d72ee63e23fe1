//! Delete: with grace, cascade and preconditions.

use serde_json::json;

use super::authorise::{Action, Verb, authorise, may_try};
use super::update::{check, guard};
use super::{Cascade, Context, DeleteOptions, Effect, Preconditions, Rejection, find};
use crate::model::{FOREGROUND_FINALIZER, Key, Kind, ORPHAN_FINALIZER, Object, Part};
use crate::world::{ObjectWrite, Proposal, Stored, Unreadable, graceful_delete};

/// Namespaces that every cluster has.
const LASTING_NAMESPACES: [&str; 2] = ["default", "kube-system"];

pub(super) fn delete(
    context: &Context<'_>,
    key: &Key,
    options: &DeleteOptions,
) -> Result<Effect, Rejection> {
    may_try(context.caller, Verb::Delete, key)?;
    if let Some(found) = context.world.unreadable(key) {
        return delete_unread(context, key, &found, options);
    }
    let stored = find(context.world, key)?;
    let (old, grace_seconds) = (&stored.object, options.grace_seconds);
    authorise(context, Action::Delete { old, grace_seconds })?;
    let is_pinned = check(&options.preconditions, stored)?;
    if key.kind == Kind::Namespace && LASTING_NAMESPACES.contains(&&*key.name) {
        return Err(Rejection::Forbidden {
            message: format!(
                "namespaces {:?} is forbidden: this namespace may not be deleted",
                key.name
            ),
        });
    }
    // A node confirms a deletion; how it cascades is for whoever asked for it.
    let held = match context.caller {
        super::Caller::Admin { .. } | super::Caller::User { .. } => {
            with_cascade(stored, options.cascade)
        }
        super::Caller::Node { .. } => stored.clone(),
    };
    let proposal = graceful_delete(&held, grace_seconds, context.now)
        .or_else(|| (held != *stored).then(|| Proposal::put_main(stored, held.object.clone())));
    let (reply, deleted) = outcome(proposal.as_ref(), old);
    let proposal = proposal.filter(|_| !options.dry_run).map(|proposal| {
        let writes_status =
            proposal.writes.iter().any(|write| matches!(write, ObjectWrite::PutStatus { .. }));
        if is_pinned && !deleted && !writes_status {
            guard(proposal, stored, Part::Status)
        } else {
            proposal
        }
    });
    let reply = reply.at_version_of(key.kind);
    Ok(Effect { proposal, reply, deleted, created: false, warnings: Vec::new() })
}

/// Removes what cannot be read, at once: nobody knows what would have to happen before. Only who asks for it by name, without
/// preconditions that nobody can judge.
fn delete_unread(
    context: &Context<'_>,
    key: &Key,
    found: &Unreadable<'_>,
    options: &DeleteOptions,
) -> Result<Effect, Rejection> {
    let refused = || Rejection::absent(context.world, key);
    let is_node = matches!(context.caller, super::Caller::Node { .. });
    if is_node || options.preconditions != Preconditions::default() {
        return Err(refused());
    }
    if options.cascade == Cascade::Orphan {
        return Err(Rejection::Forbidden {
            message: format!(
                "{} {:?} cannot be read ({}), so nothing that it owns can be kept: delete it without orphaning, or restore a backup",
                key.kind.resource(),
                key.name,
                found.reason
            ),
        });
    }
    let named = json!({ "metadata": { "namespace": &*key.namespace, "name": &*key.name } });
    let reply = Object::from_value(key.kind, named).map_err(|_| refused())?;
    let main = found.main.ok_or_else(refused)?;
    let write = ObjectWrite::Delete { key: key.clone(), main, status: found.status };
    let proposal = Proposal { guards: Vec::new(), writes: vec![write] };
    let proposal = (!options.dry_run).then_some(proposal);
    Ok(Effect { proposal, reply, deleted: true, created: false, warnings: Vec::new() })
}

/// Returns the object with the finalizer that makes the garbage collector see to its dependents first.
fn with_cascade(stored: &Stored, cascade: Cascade) -> Stored {
    let mut stored = stored.clone();
    let (wanted, other) = match cascade {
        Cascade::Background => return stored,
        Cascade::Foreground => (FOREGROUND_FINALIZER, ORPHAN_FINALIZER),
        Cascade::Orphan => (ORPHAN_FINALIZER, FOREGROUND_FINALIZER),
    };
    let finalizers = &mut stored.object.meta_mut().finalizers;
    finalizers.retain(|name| name != other);
    if !finalizers.iter().any(|name| name == wanted) {
        finalizers.push(wanted.to_owned());
    }
    stored
}

/// The object as it will be or, when it goes at once, last was; and whether it goes.
fn outcome(proposal: Option<&Proposal>, old: &Object) -> (Object, bool) {
    let Some(proposal) = proposal else { return (old.clone(), false) };
    let mut reply = old.clone();
    for write in &proposal.writes {
        match write {
            ObjectWrite::Delete { .. } => return (old.clone(), true),
            ObjectWrite::Create { object } | ObjectWrite::PutMain { object, .. } => {
                reply = object.with_status_of(&reply);
            }
            ObjectWrite::PutStatus { object, .. } => reply = reply.with_status_of(object),
        }
    }
    (reply, false)
}
