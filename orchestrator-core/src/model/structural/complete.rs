//! Defaults.

use serde_json::Value;

use super::{flag, of_field};

/// Fills in the defaults of fields that a document leaves out, in what is there already. A null that may not be one counts as
/// left out where there is a default.
pub fn complete(schema: &Value, document: &mut Value) {
    match document {
        Value::Object(map) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, schema) in properties.into_iter().flatten() {
                let Some(default) = schema.get("default").filter(|default| !default.is_null())
                else {
                    continue;
                };
                let is_absent = match map.get(name) {
                    None => true,
                    Some(Value::Null) => !flag(schema, "nullable"),
                    Some(_) => false,
                };
                if is_absent {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in map {
                if let Some(schema) = of_field(schema, name) {
                    complete(schema, value);
                }
            }
        }
        Value::Array(list) => {
            if let Some(schema) = schema.get("items") {
                list.iter_mut().for_each(|element| complete(schema, element));
            }
        }
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => {}
    }
}
