//! Scale: sets the number of replicas.

use super::authorise::{Verb, may_try};
use super::update::{Change, Way, without_revision};
use super::{Context, Effect, Preconditions, Rejection, WriteOptions, bad_request, custom, find};
use crate::model::{Key, Object, Part};

pub(super) fn scale(
    context: &Context<'_>,
    key: &Key,
    replicas: i32,
    preconditions: &Preconditions,
    options: &WriteOptions,
) -> Result<Effect, Rejection> {
    may_try(context.caller, Verb::UpdateMain, key)?;
    let stored = find(context.world, key)?;
    let mut new = without_revision(&stored.object);
    if let Object::Custom(object) = &new {
        let scaled = custom::scale(context.world, object, replicas)?;
        new = Object::from(scaled).at_version_of(key.kind);
    } else if !new.set_replicas(replicas) {
        let resource = key.kind.resource();
        return Err(bad_request(format!("{resource} cannot be scaled: no replicas")));
    }
    Change { stored, new, preconditions, options, warnings: Vec::new(), way: Way::Scale }
        .decide(context, Part::Main)
}
