//! What is wrong with a document, in the words Kubernetes has for it.

use std::collections::{BTreeMap, BTreeSet};

use regex_lite::Regex;
use serde_json::{Map, Value};

use super::{ListType, OF_OBJECTS, below, flag, format, is_whole_object, of_field, parts, text};
use crate::model::FieldError;
use crate::model::admit::ERRORS_MAX;

/// Says what is wrong with a document (an object without its type and metadata), at most [`ERRORS_MAX`] entries.
pub fn validate(schema: &Value, document: &Value) -> Vec<FieldError> {
    let mut run = Run::default();
    walk(schema, document, "", true, &mut run);
    run.errors.truncate(ERRORS_MAX);
    run.errors
}

/// Says what is wrong with a value that lies below an object, such as a default.
pub(super) fn validate_part(schema: &Value, value: &Value) -> Vec<FieldError> {
    let mut run = Run::default();
    walk(schema, value, "", false, &mut run);
    run.errors
}

/// A look at a document.
#[derive(Default)]
struct Run {
    errors: Vec<FieldError>,
    /// The patterns met so far, each made once.
    patterns: BTreeMap<String, Option<Regex>>,
}

impl Run {
    /// Whether a text is as a pattern wants it. A pattern that is none was refused with its definition.
    fn fits(&mut self, pattern: &str, found: &str) -> bool {
        if !self.patterns.contains_key(pattern) {
            self.patterns.insert(pattern.to_owned(), Regex::new(pattern).ok());
        }
        let made = self.patterns.get(pattern).and_then(Option::as_ref);
        made.is_none_or(|pattern| pattern.is_match(found))
    }

    /// Whether a value is as a schema wants it; nothing is noted.
    fn holds(&mut self, schema: &Value, value: &Value, path: &str, is_root: bool) -> bool {
        let noted = std::mem::take(&mut self.errors);
        walk(schema, value, path, is_root, self);
        std::mem::replace(&mut self.errors, noted).is_empty()
    }
}

fn walk(schema: &Value, value: &Value, path: &str, is_root: bool, run: &mut Run) {
    if run.errors.len() >= ERRORS_MAX || (value.is_null() && flag(schema, "nullable")) {
        return;
    }
    if !has_type(schema, value) {
        let right = format!("{} in body must be of type {}", shown(path), wanted(schema));
        run.errors.push(FieldError::invalid(path, type_of(value), &right));
        return;
    }
    one_of_values(schema, value, path, run);
    let name = text(schema, "format");
    if !name.is_empty() && !format::has(name, value) {
        let right = format!("{} in body must be of type {name}", shown(path));
        run.errors.push(FieldError::invalid(path, value.clone(), &right));
    }
    match value {
        Value::Array(list) => in_list(schema, list, path, run),
        Value::Number(number) => in_number(schema, number, path, run),
        Value::Object(map) => {
            let has_type = is_root || is_whole_object(schema);
            in_map(schema, map, path, has_type, run);
        }
        Value::String(found) => in_text(schema, found, path, run),
        Value::Bool(_) | Value::Null => {}
    }
    combined(schema, value, path, is_root, run);
}

fn shown(path: &str) -> &str {
    if path.is_empty() { "<root>" } else { path }
}

fn wanted(schema: &Value) -> &str {
    if flag(schema, "x-kubernetes-int-or-string") { "integer,string" } else { text(schema, "type") }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "array",
        Value::Bool(_) => "boolean",
        Value::Null => "null",
        Value::Number(number) if is_whole(number) => "integer",
        Value::Number(_) => "number",
        Value::Object(_) => "object",
        Value::String(_) => "string",
    }
}

fn is_whole(number: &serde_json::Number) -> bool {
    number.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn has_type(schema: &Value, value: &Value) -> bool {
    let found = type_of(value);
    if flag(schema, "x-kubernetes-int-or-string") {
        return matches!(found, "integer" | "string");
    }
    match text(schema, "type") {
        "" => true,
        "number" => matches!(found, "integer" | "number"),
        wanted => wanted == found,
    }
}

fn one_of_values(schema: &Value, value: &Value, path: &str, run: &mut Run) {
    let Some(known) = schema.get("enum").and_then(Value::as_array) else { return };
    if known.contains(value) {
        return;
    }
    let known: Vec<String> = known
        .iter()
        .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        .collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    run.errors.push(FieldError::not_supported(path, value.clone(), &known));
}

/// A bound that a schema sets, if it does.
fn bound(schema: &Value, keyword: &str) -> Option<usize> {
    schema.get(keyword).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok())
}

fn in_text(schema: &Value, found: &str, path: &str, run: &mut Run) {
    let mut wrong = |right: String| {
        let right = format!("{} in body {right}", shown(path));
        run.errors.push(FieldError::invalid(path, found, &right));
    };
    let chars = found.chars().count();
    if let Some(least) = bound(schema, "minLength").filter(|least| chars < *least) {
        wrong(format!("should be at least {least} chars long"));
    }
    if let Some(most) = bound(schema, "maxLength").filter(|most| chars > *most) {
        wrong(format!("should be at most {most} chars long"));
    }
    let pattern = text(schema, "pattern");
    if !pattern.is_empty() && !run.fits(pattern, found) {
        let right = format!("{} in body should match '{pattern}'", shown(path));
        run.errors.push(FieldError::invalid(path, found, &right));
    }
}

fn in_number(schema: &Value, number: &serde_json::Number, path: &str, run: &mut Run) {
    let Some(found) = number.as_f64() else { return };
    let mut wrong = |right: String| {
        let right = format!("{} in body {right}", shown(path));
        run.errors.push(FieldError::invalid(path, number.clone(), &right));
    };
    let bound = |keyword: &str| Some((schema.get(keyword)?, schema.get(keyword)?.as_f64()?));
    if let Some((least, bound)) = bound("minimum") {
        match flag(schema, "exclusiveMinimum") {
            true if found <= bound => wrong(format!("should be greater than {least}")),
            false if found < bound => wrong(format!("should be greater than or equal to {least}")),
            true | false => {}
        }
    }
    if let Some((most, bound)) = bound("maximum") {
        match flag(schema, "exclusiveMaximum") {
            true if found >= bound => wrong(format!("should be less than {most}")),
            false if found > bound => wrong(format!("should be less than or equal to {most}")),
            true | false => {}
        }
    }
    if let Some((step, by)) = bound("multipleOf")
        && by > 0.0
        && ((found / by) - (found / by).round()).abs() > 1e-9
    {
        wrong(format!("should be a multiple of {step}"));
    }
}

fn in_list(schema: &Value, list: &[Value], path: &str, run: &mut Run) {
    if let Some(least) = bound(schema, "minItems").filter(|least| list.len() < *least) {
        let right = format!("{} in body should have at least {least} items", shown(path));
        run.errors.push(FieldError::invalid(path, list.len(), &right));
    }
    if let Some(most) = bound(schema, "maxItems").filter(|most| list.len() > *most) {
        run.errors.push(FieldError::too_many(path, list.len(), most));
        return;
    }
    if let Some(items) = schema.get("items") {
        for (index, element) in list.iter().enumerate() {
            walk(items, element, &format!("{path}[{index}]"), false, run);
        }
    }
    let list_type = ListType::of(schema);
    let mut seen = BTreeSet::new();
    for (index, element) in list.iter().enumerate() {
        let Some(identity) = list_type.identity(element) else { continue };
        if !seen.insert(identity.to_string()) {
            run.errors.push(FieldError::duplicate(format!("{path}[{index}]"), identity));
        }
    }
}

fn in_map(schema: &Value, map: &Map<String, Value>, path: &str, has_type: bool, run: &mut Run) {
    for name in parts(schema, "required").filter_map(Value::as_str) {
        let is_given = has_type && path.is_empty() && OF_OBJECTS.contains(&name);
        if !map.contains_key(name) && !is_given {
            run.errors.push(FieldError::required(below(path, name), ""));
        }
    }
    if has_type && !path.is_empty() {
        for name in ["apiVersion", "kind"] {
            if map.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
                run.errors.push(FieldError::required(below(path, name), "must not be empty"));
            }
        }
    }
    if let Some(least) = bound(schema, "minProperties").filter(|least| map.len() < *least) {
        let right = format!("{} in body should have at least {least} properties", shown(path));
        run.errors.push(FieldError::invalid(path, map.len(), &right));
    }
    if let Some(most) = bound(schema, "maxProperties").filter(|most| map.len() > *most) {
        run.errors.push(FieldError::too_many(path, map.len(), most));
    }
    for (name, value) in map {
        if let Some(schema) = of_field(schema, name) {
            walk(schema, value, &below(path, name), false, run);
        }
    }
}

/// `allOf`, `anyOf`, `oneOf` and `not`.
fn combined(schema: &Value, value: &Value, path: &str, is_root: bool, run: &mut Run) {
    for part in parts(schema, "allOf") {
        walk(part, value, path, is_root, run);
    }
    let mut wrong = Vec::new();
    let at = shown(path);
    let mut count = |keyword| {
        parts(schema, keyword).filter(|part| run.holds(part, value, path, is_root)).count()
    };
    if schema.get("anyOf").is_some() && count("anyOf") == 0 {
        wrong.push(format!("{at:?} must validate at least one schema (anyOf)"));
    }
    if schema.get("oneOf").is_some() {
        match count("oneOf") {
            1 => {}
            found => {
                let found = if found == 0 { "none".to_owned() } else { found.to_string() };
                wrong.push(format!(
                    "{at:?} must validate one and only one schema (oneOf). Found {found} valid"
                ));
            }
        }
    }
    if schema.get("not").is_some_and(|part| run.holds(part, value, path, is_root)) {
        wrong.push(format!("{at:?} must not validate the schema (not)"));
    }
    let errors = wrong.iter().map(|right| FieldError::invalid(path, type_of(value), right));
    run.errors.extend(errors);
}
