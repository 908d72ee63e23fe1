//! The columns that a definition wants tables to have.

use std::sync::Arc;

use orchestrator_core::model::{Kind, Object, PrinterColumn, Time};
use orchestrator_core::world::World;
use serde_json::{Value, json};

use super::of;
use crate::age::brief;

/// The columns of a custom kind beside the name; `None` for a built-in one.
pub(crate) fn of_kind(world: &World, kind: Kind) -> Option<Arc<[PrinterColumn]>> {
    kind.custom()?;
    let own = of(world, kind).map(|served| served.version.additional_printer_columns.clone());
    let own = own.filter(|columns| !columns.is_empty()).unwrap_or_else(|| {
        vec![PrinterColumn {
            name: "Age".to_owned(),
            kind: "date".to_owned(),
            json_path: ".metadata.creationTimestamp".to_owned(),
            ..PrinterColumn::default()
        }]
    });
    Some(own.into())
}

/// What a table says of its columns.
pub(crate) fn columns(own: &[PrinterColumn]) -> Value {
    let name = json!({
        "name": "Name", "type": "string", "format": "name", "description": "Name", "priority": 0,
    });
    let own = own.iter().map(|column| {
        json!({
            "name": column.name,
            "type": column.kind,
            "format": column.format,
            "description": if column.description.is_empty() { &column.name } else { &column.description },
            "priority": column.priority,
        })
    });
    std::iter::once(name).chain(own).collect()
}

/// An object's cells.
pub(crate) fn cells(object: &Object, own: &[PrinterColumn], now: Time) -> Value {
    let whole = object.to_value();
    let name = Value::from(object.meta().name.clone());
    let own = own.iter().map(|column| cell(&whole, column, now));
    std::iter::once(name).chain(own).collect()
}

fn cell(object: &Value, column: &PrinterColumn, now: Time) -> Value {
    let Some(found) = at_path(object, &column.json_path).filter(|found| !found.is_null()) else {
        return Value::Null;
    };
    match (column.kind.as_str(), found) {
        ("date", Value::String(text)) => match text.parse::<Time>() {
            Ok(since) => brief(now.as_seconds() - since.as_seconds()).into(),
            Err(_) => "<invalid>".into(),
        },
        ("string", Value::String(_))
        | ("integer" | "number", Value::Number(_))
        | ("boolean", Value::Bool(_)) => found.clone(),
        ("string", other) => other.to_string().into(),
        // A value of another type than the column's is not shown.
        _ => Value::Null,
    }
}

/// The first value under a simple path: names, indexes, and filters by one field, as in
/// `.status.conditions[?(@.type=="Ready")].status`.
pub(super) fn at_path<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    let mut rest = path;
    let mut value = value;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let (inner, after) = after.split_once(']')?;
            rest = after;
            value = in_brackets(value, inner)?;
        } else {
            let after = rest.strip_prefix('.')?;
            let end = step_end(after);
            let (name, after) = after.split_at(end);
            rest = after;
            value = value.get(name.replace("\\.", "."))?;
        }
    }
    Some(value)
}

/// Where a name ends: at a dot or bracket; a dot after a backslash is part of it.
fn step_end(text: &str) -> usize {
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        if c == '[' || (c == '.' && before != '\\') {
            return at;
        }
        before = c;
    }
    text.len()
}

fn in_brackets<'v>(value: &'v Value, inner: &str) -> Option<&'v Value> {
    if let Ok(index) = inner.parse::<usize>() {
        return value.get(index);
    }
    if inner == "*" {
        return value.get(0);
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        let (field, wanted) = filter.split_once("==")?;
        let field = field.trim().strip_prefix("@.")?;
        let wanted = wanted.trim().trim_matches(['"', '\'']);
        let mut elements = value.as_array()?.iter();
        return elements.find(|element| element.get(field).and_then(Value::as_str) == Some(wanted));
    }
    value.get(inner.trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_through_names_indexes_and_filters() {
        let value = json!({
            "metadata": { "labels": { "example.com/tier": "gold" } },
            "list": [{ "a": 1 }, { "a": 2 }],
            "conditions": [{ "type": "Up", "status": "False" }, { "type": "Ready", "status": "True" }],
        });
        let check = |path: &str, expected: Option<Value>| {
            assert_eq!(at_path(&value, path), expected.as_ref(), "{path}");
        };
        check(".list[1].a", Some(json!(2)));
        check(".list[*].a", Some(json!(1)));
        check(r#".conditions[?(@.type=="Ready")].status"#, Some(json!("True")));
        check(r".metadata.labels.example\.com/tier", Some(json!("gold")));
        check(".metadata.labels['example.com/tier']", Some(json!("gold")));
        check(".list[7].a", None);
        check("list", None);
        check(".list[", None);
    }
}
