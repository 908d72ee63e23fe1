//! Fields that no schema names.

use serde_json::Value;

use super::{OF_OBJECTS, below, is_whole_object, keeps_unknown, of_field};

/// Takes out of a document every field that its schema does not name, and returns their paths, such as `spec.sice`.
///
/// The document is an object without its type and metadata.
pub fn prune(schema: &Value, document: &mut Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(schema, document, "", &mut found);
    found
}

fn walk(schema: &Value, value: &mut Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let keeps_all = keeps_unknown(schema)
                || schema.get("additionalProperties").is_some_and(|any| *any == Value::Bool(true));
            let is_whole = is_whole_object(schema);
            map.retain(|name, value| {
                let path = below(path, name);
                if is_whole && OF_OBJECTS.contains(&name.as_str()) {
                    return true;
                }
                match of_field(schema, name) {
                    Some(schema) => {
                        walk(schema, value, &path, found);
                        true
                    }
                    None if keeps_all => true,
                    None => {
                        found.push(path);
                        false
                    }
                }
            });
        }
        Value::Array(list) => {
            let Some(schema) = schema.get("items") else { return };
            for (index, element) in list.iter_mut().enumerate() {
                walk(schema, element, &format!("{path}[{index}]"), found);
            }
        }
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => {}
    }
}
