//! Structural schemas: what a CustomResourceDefinition says of its objects, and what follows from it.
//!
//! Schemas stay JSON (OpenAPI v3 with Kubernetes' extensions) and are walked together with a document. Checked once, when the
//! definition is recorded; then [`prune`] takes out what no schema names, [`complete`] fills in defaults, and [`validate`]
//! says what is wrong, in Kubernetes' words. Pure. Rules in CEL are not evaluated; definitions with them are refused.

mod check;
mod complete;
mod format;
mod list_type;
mod merging;
mod prune;
#[cfg(test)]
mod tests;
mod validate;

use serde_json::Value;

pub(crate) use check::check;
pub use complete::complete;
pub(crate) use list_type::{ListKey, ListType};
pub use prune::prune;
pub use validate::validate;

/// The deepest a schema may be nested.
pub const SCHEMA_DEPTH_MAX: usize = 64;
/// The most parts a schema may have.
pub const SCHEMA_PARTS_MAX: usize = 20_000;

/// What every whole object has, whatever its schema names.
const OF_OBJECTS: [&str; 3] = ["apiVersion", "kind", "metadata"];

fn text<'s>(schema: &'s Value, keyword: &str) -> &'s str {
    schema.get(keyword).and_then(Value::as_str).unwrap_or_default()
}

fn flag(schema: &Value, keyword: &str) -> bool {
    schema.get(keyword).and_then(Value::as_bool).unwrap_or(false)
}

fn parts<'s>(schema: &'s Value, keyword: &str) -> impl Iterator<Item = &'s Value> {
    schema.get(keyword).and_then(Value::as_array).into_iter().flatten()
}

fn keeps_unknown(schema: &Value) -> bool {
    flag(schema, "x-kubernetes-preserve-unknown-fields")
}

/// Whether a whole object is to be where a schema is of.
pub(crate) fn is_whole_object(schema: &Value) -> bool {
    flag(schema, "x-kubernetes-embedded-resource")
}

/// Whether a map is one value to those who own fields.
pub(crate) fn is_atomic_map(schema: &Value) -> bool {
    text(schema, "x-kubernetes-map-type") == "atomic"
}

/// The schema of a field: its own, or that of any field.
pub(crate) fn of_field<'s>(schema: &'s Value, name: &str) -> Option<&'s Value> {
    let own = schema.get("properties").and_then(|properties| properties.get(name));
    own.or_else(|| schema.get("additionalProperties").filter(|any| any.is_object()))
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
