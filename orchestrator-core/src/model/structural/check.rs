//! Whether a schema is one, and structural.

use regex_lite::Regex;
use serde_json::Value;

use super::validate::validate_part;
use super::{
    SCHEMA_DEPTH_MAX, SCHEMA_PARTS_MAX, flag, is_whole_object, keeps_unknown, merging, parts,
    prune, text,
};
use crate::model::FieldError;

/// The most bytes of a pattern.
const PATTERN_BYTES_MAX: usize = 4_096;
/// The most errors that are told of a schema.
const ERRORS_MAX: usize = 16;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const LOGIC: [&str; 3] = ["allOf", "anyOf", "oneOf"];
/// Whatever may be said in a schema.
const KEYWORDS: [&str; 38] = [
    "additionalProperties",
    "allOf",
    "anyOf",
    "default",
    "description",
    "enum",
    "example",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "externalDocs",
    "format",
    "id",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "nullable",
    "oneOf",
    "pattern",
    "properties",
    "required",
    "title",
    "type",
    "uniqueItems",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

/// Notes what is wrong with the schema of a kind.
pub(crate) fn check(schema: &Value, path: &str) -> Vec<FieldError> {
    let mut check = Check { errors: Vec::new(), parts: 0 };
    if text(schema, "type") != "object" {
        let found = text(schema, "type");
        let right = "must be object at the root";
        check.errors.push(FieldError::invalid(format!("{path}.type"), found, right));
    }
    if is_whole_object(schema) {
        let at = format!("{path}.x-kubernetes-embedded-resource");
        check.errors.push(FieldError::forbidden(at, "must not be true at the root"));
    }
    check.walk(schema, path, SCHEMA_DEPTH_MAX, true);
    check.errors
}

struct Check {
    errors: Vec<FieldError>,
    parts: usize,
}

impl Check {
    fn walk(&mut self, schema: &Value, path: &str, depth: usize, is_structure: bool) {
        self.parts += 1;
        if self.errors.len() >= ERRORS_MAX {
            return;
        }
        let Some(map) = schema.as_object() else {
            self.errors.push(FieldError::invalid(path, schema.clone(), "must be a schema"));
            return;
        };
        if depth == 0 || self.parts > SCHEMA_PARTS_MAX {
            let why = format!(
                "at most {SCHEMA_PARTS_MAX} parts, nested at most {SCHEMA_DEPTH_MAX} deep, are read"
            );
            self.errors.push(FieldError::forbidden(path, &why));
            return;
        }
        for name in map.keys().filter(|name| !KEYWORDS.contains(&name.as_str())) {
            let why = "no keyword of a structural schema";
            self.errors.push(FieldError::forbidden(format!("{path}.{name}"), why));
        }
        self.refused(schema, path);
        self.types(schema, path, is_structure);
        self.pattern(schema, path);
        self.list(schema, path, is_structure);
        self.inner(schema, path, depth, is_structure);
        if is_structure {
            self.default(schema, path);
        }
    }

    /// What is valid elsewhere and not here.
    fn refused(&mut self, schema: &Value, path: &str) {
        if parts(schema, "x-kubernetes-validations").next().is_some() {
            let why = "CEL rules are not evaluated by this server, and an object that breaks one must not pass: take the rules out, or check them elsewhere";
            self.errors
                .push(FieldError::forbidden(format!("{path}.x-kubernetes-validations"), why));
        }
        if flag(schema, "uniqueItems") {
            let why = "uniqueItems cannot be set to true; use x-kubernetes-list-type: set";
            self.errors.push(FieldError::forbidden(format!("{path}.uniqueItems"), why));
        }
        let any = schema.get("additionalProperties");
        if any.is_some() && schema.get("properties").is_some_and(|fields| !is_empty(fields)) {
            let why = "additionalProperties and properties are mutual exclusive";
            self.errors.push(FieldError::forbidden(format!("{path}.additionalProperties"), why));
        }
        if any == Some(&Value::Bool(false)) {
            let why = "additionalProperties cannot be set to false";
            self.errors.push(FieldError::forbidden(format!("{path}.additionalProperties"), why));
        }
    }

    fn types(&mut self, schema: &Value, path: &str, is_structure: bool) {
        let at = format!("{path}.type");
        match schema.get("type") {
            None | Some(Value::Null) => {
                let is_free = keeps_unknown(schema) || flag(schema, "x-kubernetes-int-or-string");
                if is_structure && !is_free {
                    let why = "must not be empty for specified object fields";
                    self.errors.push(FieldError::required(at, why));
                }
            }
            Some(Value::String(name)) if TYPES.contains(&name.as_str()) => {}
            Some(other) => {
                self.errors.push(FieldError::not_supported(at, other.clone(), &TYPES));
            }
        }
        if let Some(required) = schema.get("required") {
            let is_names = required.as_array().is_some_and(|all| all.iter().all(Value::is_string));
            if !is_names {
                let right = "must be a list of names";
                self.errors.push(FieldError::invalid(
                    format!("{path}.required"),
                    required.clone(),
                    right,
                ));
            }
        }
    }

    fn pattern(&mut self, schema: &Value, path: &str) {
        let pattern = text(schema, "pattern");
        if pattern.is_empty() {
            return;
        }
        let at = format!("{path}.pattern");
        if pattern.len() > PATTERN_BYTES_MAX {
            self.errors.push(FieldError::too_long(at, PATTERN_BYTES_MAX));
        } else if let Err(error) = Regex::new(pattern) {
            let right = format!("must be a valid regular expression: {error}");
            self.errors.push(FieldError::invalid(at, pattern, &right));
        }
    }

    fn list(&mut self, schema: &Value, path: &str, is_structure: bool) {
        if is_structure && text(schema, "type") == "array" && schema.get("items").is_none() {
            self.errors.push(FieldError::required(format!("{path}.items"), "must be specified"));
        }
        merging::check(schema, path, &mut self.errors);
    }

    fn inner(&mut self, schema: &Value, path: &str, depth: usize, is_structure: bool) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            for (name, inner) in properties {
                let path = format!("{path}.properties[{name}]");
                self.walk(inner, &path, depth - 1, is_structure);
            }
        }
        if let Some(inner) = schema.get("items") {
            self.walk(inner, &format!("{path}.items"), depth - 1, is_structure);
        }
        if let Some(inner) = schema.get("additionalProperties").filter(|inner| !inner.is_boolean())
        {
            self.walk(inner, &format!("{path}.additionalProperties"), depth - 1, is_structure);
        }
        for keyword in LOGIC {
            for (index, inner) in parts(schema, keyword).enumerate() {
                self.walk(inner, &format!("{path}.{keyword}[{index}]"), depth - 1, false);
            }
        }
        if let Some(inner) = schema.get("not") {
            self.walk(inner, &format!("{path}.not"), depth - 1, false);
        }
    }

    fn default(&mut self, schema: &Value, path: &str) {
        let Some(default) = schema.get("default").filter(|default| !default.is_null()) else {
            return;
        };
        let at = format!("{path}.default");
        if let Some(unknown) = prune(schema, &mut default.clone()).first() {
            let right = format!("must not have unknown fields: {unknown}");
            self.errors.push(FieldError::invalid(at, default.clone(), &right));
        } else if let Some(error) = validate_part(schema, default).first() {
            let right = format!("must be valid: {error}");
            self.errors.push(FieldError::invalid(at, default.clone(), &right));
        }
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_none_or(serde_json::Map::is_empty)
}
