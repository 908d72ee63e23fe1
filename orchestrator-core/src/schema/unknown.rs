//! Fields that Kubernetes does not have.

use serde_json::Value;

use super::{Field, Message, Shape};

/// Takes out of a document every field that a message lacks, and returns their paths in order, such as `spec.replcas`.
/// What has not the form of the message is left for others to complain about.
pub fn take_unknown(message: &Message, document: &mut Value) -> Vec<String> {
    let mut found = Vec::new();
    in_message(message, document, &mut String::new(), &mut found);
    found.sort();
    found
}

fn in_message(message: &Message, value: &mut Value, path: &mut String, found: &mut Vec<String>) {
    let Value::Object(map) = value else { return };
    map.retain(|name, value| {
        let length = path.len();
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(name);
        let field = message.field(name);
        match field {
            Some(field) => in_field(field, value, path, found),
            None => found.push(path.clone()),
        }
        path.truncate(length);
        field.is_some()
    });
}

fn in_field(field: &Field, value: &mut Value, path: &mut String, found: &mut Vec<String>) {
    let Some(message) = field.message() else { return };
    let length = path.len();
    match (field.shape, value) {
        (Shape::One, value) => in_message(message, value, path, found),
        (Shape::List, Value::Array(list)) => {
            for (index, element) in list.iter_mut().enumerate() {
                path.push_str(&format!("[{index}]"));
                in_message(message, element, path, found);
                path.truncate(length);
            }
        }
        (Shape::Map, Value::Object(map)) => {
            for (name, element) in map {
                path.push('.');
                path.push_str(name);
                in_message(message, element, path, found);
                path.truncate(length);
            }
        }
        (Shape::List | Shape::Map, _) => {}
    }
}
