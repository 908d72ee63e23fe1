//! From what a client sent to a typed object: types, unknown fields, warnings.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::without_effect::{is_so_anyway, values_without_effect};
use super::{FieldValidation, Rejection, custom};
use crate::model::{DecodeError, Kind, Object, count_values};
use crate::schema::{schema, take_unknown};
use crate::world::World;

/// The most unknown fields that a message names, and the most warnings an answer carries.
const NAMED_MAX: usize = 32;

/// A typed object, and what to tell its sender.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) object: Object,
    pub(super) warnings: Vec<String>,
}

/// Reads an object of `kind`.
///
/// Fields that Kubernetes has and we do not are kept, with a warning each, unless `before` (the object that the
/// document was made from) had them already. What Kubernetes does not know either is treated as `validation` says.
///
/// # Errors
/// [`Rejection::BadRequest`] names the wrong field, or all unknown ones, or says that the document holds too many values.
pub(super) fn decode(
    world: &World,
    kind: Kind,
    mut value: Value,
    validation: FieldValidation,
    before: Option<&Object>,
) -> Result<Decoded, Rejection> {
    check_type(kind, &value)?;
    // Before anything typed is made of them: a patch may have multiplied what was few.
    count_values(&value).map_err(|error| cannot_be_handled(kind, &error))?;
    if let Some(map) = value.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
    }
    let message = schema().of_kind(kind.api_version(), kind.name());
    let defined = kind.custom().and_then(|kind| custom::defined(world, kind));
    let unknown = match (message, defined, value.as_object_mut()) {
        (Some(message), _, _) => take_unknown(message, &mut value),
        (None, Some(defined), Some(map)) => custom::shape(defined, map),
        _ => Vec::new(),
    };
    let object = Object::from_value(kind, value).map_err(|error| match kind {
        Kind::Secret => cannot_be_handled(kind, &masked(&error.to_string())),
        _ => cannot_be_handled(kind, &error),
    })?;
    let kept_before: BTreeMap<_, _> =
        before.map(Object::residuals).unwrap_or_default().into_iter().collect();
    let kept = object.residuals().into_iter();
    let news = kept
        .filter(|(path, value)| kept_before.get(path) != Some(value) && !is_so_anyway(path, value));
    let mut kept: Vec<String> = news.map(|(path, _)| path).collect();
    kept.sort();
    let mut warnings: Vec<_> = kept
        .iter()
        .map(|field| match message {
            Some(_) => {
                format!(
                    "{field}: known to Kubernetes but not implemented here; kept, without effect"
                )
            }
            None => format!("{field}: not known to this server; kept, without effect"),
        })
        .collect();
    let values_before: BTreeSet<_> =
        before.map(values_without_effect).unwrap_or_default().into_iter().collect();
    let values = values_without_effect(&object);
    let new = values.iter().filter(|value| !values_before.contains(*value));
    warnings.extend(
        new.map(|(value, so)| {
            format!("{value}: known to Kubernetes but not implemented here; {so}")
        }),
    );
    match validation {
        FieldValidation::Strict if !unknown.is_empty() => return Err(strict(kind, &unknown)),
        FieldValidation::Warn => {
            warnings.extend(unknown.iter().map(|field| format!("unknown field {field:?}")));
        }
        FieldValidation::Ignore | FieldValidation::Strict => {}
    }
    if warnings.len() > NAMED_MAX {
        let left_out = warnings.len() - NAMED_MAX;
        warnings.truncate(NAMED_MAX);
        warnings.push(format!("and {left_out} more fields"));
    }
    Ok(Decoded { object, warnings })
}

/// `apiVersion` and `kind` may be absent, but not others than those asked for.
fn check_type(kind: Kind, value: &Value) -> Result<(), Rejection> {
    for (field, expected) in [("apiVersion", kind.api_version()), ("kind", kind.name())] {
        match value.get(field) {
            None | Some(Value::Null) => {}
            Some(Value::String(found)) if found == expected || found.is_empty() => {}
            Some(found) => {
                return Err(Rejection::BadRequest {
                    message: format!(
                        "{field} in the data is {found}, where {expected:?} is expected"
                    ),
                });
            }
        }
    }
    Ok(())
}

fn strict(kind: Kind, unknown: &[String]) -> Rejection {
    let mut names: Vec<_> =
        unknown.iter().take(NAMED_MAX).map(|field| format!("unknown field {field:?}")).collect();
    if unknown.len() > NAMED_MAX {
        names.push(format!("and {} more", unknown.len() - NAMED_MAX));
    }
    cannot_be_handled(kind, &format!("strict decoding error: {}", names.join(", ")))
}

/// Returns a message without the values that it quotes (S41).
fn masked(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    let mut quote = None;
    for c in message.chars() {
        match quote {
            None => {
                text.push(c);
                if matches!(c, '`' | '"') {
                    text.push('…');
                    quote = Some(c);
                }
            }
            Some(end) if c == end => {
                text.push(c);
                quote = None;
            }
            Some(_) => {}
        }
    }
    text
}

fn cannot_be_handled(kind: Kind, reason: &dyn std::fmt::Display) -> Rejection {
    let version = kind.api_version().rsplit('/').next().unwrap_or_default();
    Rejection::BadRequest {
        message: format!("{kind} in version {version:?} cannot be handled as a {kind}: {reason}"),
    }
}

impl From<DecodeError> for Rejection {
    fn from(error: DecodeError) -> Self {
        Self::BadRequest { message: error.to_string() }
    }
}
