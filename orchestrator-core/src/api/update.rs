//! Update: replaces a part of an object. Patch, apply and scale end here too.

use serde_json::Value;

use super::authorise::{Action, authorise, may_try};
use super::decode::decode;
use super::{Context, Effect, Preconditions, Rejection, WriteOptions, bad_request, custom, find};
use crate::model::admit::{admit, admit_status};
use crate::model::{FieldError, Key, Kind, ManagedFieldsEntry, Object, Part, Revision};
use crate::ownership::{self, Writer};
use crate::store::{Expect, Guard, RecordKey, TXN_BYTES_MAX};
use crate::world::{Proposal, Stored, encode, is_held};

/// The most bytes each part of an object may have as JSON; leaves a transaction room for both.
pub const OBJECT_BYTES_MAX: usize = TXN_BYTES_MAX - 16 * 1024;

const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

pub(super) fn update(
    context: &Context<'_>,
    key: &Key,
    part: Part,
    object: &Value,
    options: &WriteOptions,
) -> Result<Effect, Rejection> {
    may_try(context.caller, Action::verb_of(part), key)?;
    let stored = find(context.world, key)?;
    let decoded = decode(context.world, key.kind, object.clone(), options.validation, None)?;
    let change = Change {
        stored,
        new: decoded.object,
        preconditions: &Preconditions::default(),
        options,
        warnings: decoded.warnings,
        way: Way::Object,
    };
    change.decide(context, part)
}

/// A decoded object that is to replace a part of a stored one.
pub(super) struct Change<'a> {
    pub(super) stored: &'a Stored,
    pub(super) new: Object,
    pub(super) preconditions: &'a Preconditions,
    pub(super) options: &'a WriteOptions,
    pub(super) warnings: Vec<String>,
    pub(super) way: Way,
}

/// How a change came about, for the record of who owns what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By a server-side apply, which has made the record already.
    Applied,
    /// By a write to the object.
    Object,
    /// By its scale.
    Scale,
}

impl Change<'_> {
    /// Checks and admits the new part; the other stays as it is.
    pub(super) fn decide(self, context: &Context<'_>, part: Part) -> Result<Effect, Rejection> {
        check_target(&self.stored.object.key(), &self.new)?;
        let is_pinned =
            check(self.preconditions, self.stored)? | check_meta(&self.new, self.stored)?;
        match part {
            Part::Main => self.decide_main(context, is_pinned),
            Part::Status => self.decide_status(context, is_pinned),
        }
    }

    fn decide_main(self, context: &Context<'_>, is_pinned: bool) -> Result<Effect, Rejection> {
        let (stored, old) = (self.stored, &self.stored.object);
        let key = old.key();
        // Without a subresource of its own the status is a field like any other.
        let status_within = matches!(key.kind, Kind::Custom(_))
            && !custom::has_own_status(context.world, self.new.kind());
        let new = if status_within { self.new.clone() } else { self.new.with_status_of(old) };
        let mut new = admitted(context, Some(old), new)?;
        let changes_status = status_within && new != new.with_status_of(old);
        let is_same = new.has_spec_of(old) && !changes_status;
        if old.meta().generation > 0 && !is_same {
            new.meta_mut().generation = old.meta().generation.saturating_add(1);
        }
        self.note_ownership(context, &mut new)?;
        authorise(context, Action::UpdateMain { old, new: &new })?;
        check_size(&key, &new, Part::Main)?;
        if new == *old {
            return Ok(unchanged(new, self.warnings));
        }
        // The last one to let go of an object whose deletion was asked for removes it.
        let deleted = new.meta().is_deleting() && !is_held(&new);
        let proposal = if deleted {
            Proposal::delete(stored)
        } else {
            let kept = custom::in_storage(context.world, &new);
            let mut proposal = Proposal::put_main(stored, kept.clone());
            if changes_status {
                proposal = proposal.and(Proposal::put_status(stored, kept));
                return Ok(effect(proposal, new, deleted, self.options, self.warnings));
            }
            if is_pinned { guard(proposal, stored, Part::Status) } else { proposal }
        };
        Ok(effect(proposal, new, deleted, self.options, self.warnings))
    }

    /// Records who owns what, once anything was applied to the object. A client may send the record changed, to hand fields
    /// over, or with one empty entry, to end it.
    fn note_ownership(&self, context: &Context<'_>, new: &mut Object) -> Result<(), Rejection> {
        let old = &self.stored.object;
        let (known, sent) = (&old.meta().managed_fields, &self.new.meta().managed_fields);
        let base = match sent.as_slice() {
            [] => known,
            [only] if *only == ManagedFieldsEntry::default() => {
                new.meta_mut().managed_fields.clear();
                return Ok(());
            }
            sent if ownership::is_readable(sent) => sent,
            _ => {
                let right = "must be entries of FieldsV1";
                let errors =
                    vec![FieldError::invalid("metadata.managedFields", Value::Null, right)];
                return Err(Rejection::Invalid { key: old.key(), errors });
            }
        };
        let subresource = match self.way {
            Way::Applied => return Ok(()),
            Way::Object => "",
            Way::Scale => "scale",
        };
        if base.is_empty() {
            return Ok(());
        }
        let (before, after) = (old.at_version_of(new.kind()).to_value(), new.to_value());
        let form = custom::form(context.world, new.kind());
        let writer = Writer { manager: context.manager(self.options), subresource };
        let now = context.now.to_time();
        new.meta_mut().managed_fields =
            ownership::updated(form, base, writer, &before, &after, now);
        Ok(())
    }

    fn decide_status(self, context: &Context<'_>, is_pinned: bool) -> Result<Effect, Rejection> {
        let (stored, old) = (self.stored, &self.stored.object);
        let key = old.key();
        if !custom::has_own_status(context.world, self.new.kind()) {
            return Err(bad_request(format!("{} have no status", key.kind.resource())));
        }
        let new = old.at_version_of(self.new.kind()).with_status_of(&self.new);
        let new = admit_status(old, new)
            .and_then(|new| none_or(custom::validate(context.world, &new), new))
            .map_err(|errors| Rejection::Invalid { key: key.clone(), errors })?;
        authorise(context, Action::UpdateStatus { old, new: &new })?;
        check_size(&key, &new, Part::Status)?;
        // One that cannot be read is known from before, if at all.
        if new == *old && !context.world.has_unread_status(&key) {
            return Ok(unchanged(new, self.warnings));
        }
        let proposal = Proposal::put_status(stored, custom::in_storage(context.world, &new));
        // The first status is guarded by the main record in any case.
        let proposal = match stored.status {
            Some(_) if is_pinned => guard(proposal, stored, Part::Main),
            Some(_) | None => proposal,
        };
        Ok(effect(proposal, new, false, self.options, self.warnings))
    }
}

/// Completes and checks the main part of an object, also by the schema of a custom kind.
pub(super) fn admitted(
    context: &Context<'_>,
    old: Option<&Object>,
    new: Object,
) -> Result<Object, Rejection> {
    let key = old.unwrap_or(&new).key();
    admit(old, new)
        .and_then(|new| none_or(custom::validate(context.world, &new), new))
        .map_err(|errors| Rejection::Invalid { key, errors })
}

fn none_or(errors: Vec<FieldError>, object: Object) -> Result<Object, Vec<FieldError>> {
    if errors.is_empty() { Ok(object) } else { Err(errors) }
}

/// Returns the object as the base of a change: a `resourceVersion` found in the result was put there by the client.
pub(super) fn without_revision(object: &Object) -> Object {
    let mut object = object.clone();
    object.set_revision(Revision::ZERO);
    object
}

/// Adds the precondition that a part which is not written has not changed: a client's `resourceVersion` speaks of both.
pub(super) fn guard(mut proposal: Proposal, stored: &Stored, part: Part) -> Proposal {
    let object = stored.object.key();
    let guard = match part {
        Part::Main => Guard { key: RecordKey::main(object), expect: Expect::At(stored.main) },
        Part::Status => Guard {
            key: RecordKey::status(object),
            expect: stored.status.map_or(Expect::Absent, Expect::At),
        },
    };
    proposal.guards.push(guard);
    proposal
}

fn unchanged(reply: Object, warnings: Vec<String>) -> Effect {
    Effect { proposal: None, reply, deleted: false, created: false, warnings }
}

fn effect(
    proposal: Proposal,
    reply: Object,
    deleted: bool,
    options: &WriteOptions,
    warnings: Vec<String>,
) -> Effect {
    let proposal = (!options.dry_run).then_some(proposal);
    Effect { proposal, reply, deleted, created: false, warnings }
}

/// Checks what the caller says must be true; returns whether that pins the object's revision.
pub(super) fn check(preconditions: &Preconditions, stored: &Stored) -> Result<bool, Rejection> {
    let meta = stored.object.meta();
    let conflict = |reason| Err(Rejection::Conflict { key: stored.object.key(), reason });
    match (preconditions.uid, preconditions.revision) {
        (Some(uid), _) if uid != meta.uid => {
            conflict(format!("the object's uid is {}, not {uid}", meta.uid))
        }
        (_, Some(revision)) if revision != meta.resource_version => conflict(MODIFIED.to_owned()),
        (_, revision) => Ok(revision.is_some()),
    }
}

/// A uid and a `resourceVersion` in the object are preconditions like any other.
fn check_meta(new: &Object, stored: &Stored) -> Result<bool, Rejection> {
    let meta = new.meta();
    let said = Preconditions {
        revision: Some(meta.resource_version).filter(|revision| revision.0 != 0),
        uid: Some(meta.uid).filter(|uid| !uid.is_nil()),
    };
    check(&said, stored)
}

/// Name and namespace in the object must be those of the request, or absent.
fn check_target(key: &Key, new: &Object) -> Result<(), Rejection> {
    let meta = new.meta();
    for (field, found, expected) in
        [("name", &meta.name, &key.name), ("namespace", &meta.namespace, &key.namespace)]
    {
        if !found.is_empty() && **found != **expected {
            return Err(bad_request(format!(
                "the {field} of the object ({found}) does not match that of the request ({expected})"
            )));
        }
    }
    Ok(())
}

pub(super) fn check_size(key: &Key, object: &Object, part: Part) -> Result<(), Rejection> {
    // A part is hardly longer than the whole, which is mostly far from the limit: then nothing need be made of it.
    if bytes_of(object) <= OBJECT_BYTES_MAX / 2 || encode(object, part).len() <= OBJECT_BYTES_MAX {
        return Ok(());
    }
    let field = match part {
        Part::Main => "",
        Part::Status => "status",
    };
    let errors = vec![FieldError::too_long(field, OBJECT_BYTES_MAX)];
    Err(Rejection::Invalid { key: key.clone(), errors })
}

/// Counts the bytes of an object's JSON, which is not kept.
fn bytes_of(object: &Object) -> usize {
    struct Count(usize);

    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let mut count = Count(0);
    serde_json::to_writer(&mut count, object).expect("maps of the model have string keys");
    count.0
}
