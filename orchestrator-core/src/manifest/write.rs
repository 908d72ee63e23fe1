//! Values as YAML, in the form kubectl prints: block style, two spaces, fields in alphabetical order.

use serde_json::Value;

use super::scalar;

/// Prints a value as a YAML document; [`parse`](super::parse) reads the same value back.
pub fn to_yaml(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_fields(&mut text, map, 0),
        Value::Array(items) if !items.is_empty() => write_items(&mut text, items, 0),
        other => {
            write_leaf(&mut text, other, 0);
            text.push('\n');
        }
    }
    text
}

fn write_fields(text: &mut String, map: &serde_json::Map<String, Value>, indent: usize) {
    for (index, (name, value)) in map.iter().enumerate() {
        // The first field follows the dash of a list's item, where the caller has indented.
        if index > 0 {
            text.push_str(&" ".repeat(indent));
        }
        write_text(text, name, None);
        text.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                text.push('\n');
                text.push_str(&" ".repeat(indent + 2));
                write_fields(text, map, indent + 2);
            }
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                text.push_str(&" ".repeat(indent));
                write_items(text, items, indent);
            }
            leaf => {
                text.push(' ');
                write_leaf(text, leaf, indent + 2);
                text.push('\n');
            }
        }
    }
}

fn write_items(text: &mut String, items: &[Value], indent: usize) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push_str(&" ".repeat(indent));
        }
        text.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => write_fields(text, map, indent + 2),
            Value::Array(items) if !items.is_empty() => write_items(text, items, indent + 2),
            leaf => {
                write_leaf(text, leaf, indent + 2);
                text.push('\n');
            }
        }
    }
}

fn write_leaf(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Array(_) => text.push_str("[]"),
        Value::Object(_) => text.push_str("{}"),
        Value::String(value) => write_text(text, value, Some(indent)),
        Value::Null | Value::Bool(_) | Value::Number(_) => text.push_str(&value.to_string()),
    }
}

/// Writes text plainly when it reads back as the same text, as a literal block where lines allow it, else quoted.
fn write_text(text: &mut String, value: &str, block_indent: Option<usize>) {
    if is_plain(value) {
        text.push_str(value);
        return;
    }
    match block_indent.filter(|_| is_block(value)) {
        Some(indent) => {
            text.push_str(if value.ends_with('\n') { "|" } else { "|-" });
            for line in value.lines() {
                text.push('\n');
                if !line.is_empty() {
                    text.push_str(&" ".repeat(indent));
                    text.push_str(line);
                }
            }
        }
        // A JSON string is a YAML double-quoted one.
        None => text.push_str(&Value::String(value.to_owned()).to_string()),
    }
}

fn is_plain(value: &str) -> bool {
    let safe_inside =
        |c: char| c.is_ascii_alphanumeric() || "-_./=+@%^*()<>,;!?$~&|'\"[]{}: #".contains(c);
    let safe_first = |c: char| c.is_ascii_alphanumeric() || "/_.+=^(~;$<".contains(c) || c == '-';
    value.chars().all(safe_inside)
        && value.starts_with(safe_first)
        && !value.ends_with([' ', ':'])
        && !value.contains(": ")
        && !value.contains(" #")
        && !value.starts_with("- ")
        && !value.starts_with("---")
        && !value.starts_with("...")
        && value != "-"
        && value != "<<"
        && scalar::resolve(value) == Ok(Value::String(value.to_owned()))
}

fn is_block(value: &str) -> bool {
    value.contains('\n')
        && !value.starts_with([' ', '\n'])
        && !value.ends_with("\n\n")
        && value.chars().all(|c| {
            c == '\n'
                || !c.is_control()
                    && c != '\u{feff}'
                    && c != '\u{85}'
                    && c != '\u{2028}'
                    && c != '\u{2029}'
        })
}
