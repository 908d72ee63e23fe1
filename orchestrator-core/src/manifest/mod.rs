//! Manifests: Kubernetes YAML and JSON, read strictly and with the line of every field.
//!
//! Multi-document streams; `kind: List` is taken apart. Duplicate keys, bombs (aliases, depth, size) and invalid
//! UTF-8 are errors with a line and a column. Scalars mean what they mean to kubectl (YAML 1.1). The YAML
//! parser behind it appears in `yaml` alone. Depends on `model` for one limit.

mod json;
mod scalar;
mod write;
mod yaml;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::model::DOCUMENT_VALUES_MAX;
pub use json::{DuplicateField, read_json};
pub use write::to_yaml;

/// The most bytes a manifest may have.
pub const MANIFEST_BYTES_MAX: usize = 16 << 20;
/// The deepest nesting of a document.
pub const DEPTH_MAX: usize = 100;
/// The most values a manifest may hold, aliases expanded.
pub const VALUES_MAX: usize = 500_000;
/// The most documents a manifest may hold.
pub const DOCUMENTS_MAX: usize = 10_000;
/// The most bytes of paths whose lines are remembered; what comes behind them has the line of what it lies in.
const PLACE_BYTES_MAX: usize = 64 << 20;
/// The most characters of a path in a message.
const PATH_CHARS_MAX: usize = 256;

/// One object of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The object as JSON.
    pub value: Value,
    /// The name of the source, such as the file's path.
    pub source: String,
    /// The line on which the object begins, from 1.
    pub line: usize,
    places: Arc<BTreeMap<String, usize>>,
    /// Where in the document the object is: empty, or `items[3]` in a list.
    prefix: String,
}

/// Why a manifest cannot be read. Prints `source:line:column: message`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}:{line}:{column}: {message}")]
pub struct ManifestError {
    /// The name of the source.
    pub source_name: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// What is wrong, and where; the source's name is added by [`parse`].
#[derive(Debug)]
struct Defect {
    line: usize,
    column: usize,
    message: String,
}

impl Defect {
    fn of(self, source_name: &str) -> ManifestError {
        let Self { line, column, message } = self;
        ManifestError { source_name: source_name.to_owned(), line, column, message }
    }
}

/// How much a reader takes in.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    documents_max: usize,
    /// Over all documents.
    values_max: usize,
    place_bytes_max: usize,
}

impl Bounds {
    const BODY: Self =
        Self { documents_max: 1, values_max: DOCUMENT_VALUES_MAX, place_bytes_max: 0 };
    const MANIFEST: Self = Self {
        documents_max: DOCUMENTS_MAX,
        values_max: VALUES_MAX,
        place_bytes_max: PLACE_BYTES_MAX,
    };

    fn too_many_documents(&self) -> String {
        match self.documents_max {
            1 => "more than one document".to_owned(),
            many => format!("more than {many} documents"),
        }
    }
}

/// A document as a parser gives it: its value, its first line, and the line of each path in it.
struct Parsed {
    value: Value,
    line: usize,
    places: BTreeMap<String, usize>,
}

/// Reads every object of a manifest. Empty documents are left out.
///
/// # Errors
/// [`ManifestError`] names source, line and column of the first thing that is wrong.
pub fn parse(bytes: &[u8], source_name: &str) -> Result<Vec<Document>, ManifestError> {
    parse_documents(bytes)
        .and_then(|parsed| flatten(parsed, source_name))
        .map_err(|defect| defect.of(source_name))
}

/// Reads the one object of a body that is YAML or JSON. Its lines are not remembered.
///
/// # Errors
/// [`ManifestError`] says what is wrong: more or less than one object, more than [`DOCUMENT_VALUES_MAX`] values.
pub fn read_yaml(bytes: &[u8], source_name: &str) -> Result<Value, ManifestError> {
    let read = |text: &str| {
        let mut values = match json::parse(text, Bounds::BODY) {
            Ok(values) => values.into_iter().map(|(value, _)| value).collect(),
            Err(_) if !text.trim_start().starts_with('{') => values_of(text)?,
            Err(defect) => values_of(text).map_err(|_| defect)?,
        };
        values.pop().ok_or_else(|| Defect {
            line: 1,
            column: 1,
            message: "expected an object, found nothing".to_owned(),
        })
    };
    text_of(bytes).and_then(read).map_err(|defect| defect.of(source_name))
}

fn values_of(text: &str) -> Result<Vec<Value>, Defect> {
    Ok(yaml::parse(text, Bounds::BODY)?.into_iter().map(|parsed| parsed.value).collect())
}

/// Finds the line of a field, such as `spec.template.spec.bogus` or `spec.containers[0].image`: its own, or that of
/// the nearest parent that is written down.
pub fn locate(document: &Document, path: &str) -> Option<usize> {
    let path = path.trim_start_matches('.');
    let mut wanted = match (document.prefix.as_str(), path) {
        (prefix, "") => prefix.to_owned(),
        ("", path) => path.to_owned(),
        (prefix, path) => format!("{prefix}.{path}"),
    };
    loop {
        if let Some(line) = document.places.get(&wanted) {
            return Some(*line);
        }
        // Kubernetes writes keys of maps as `labels[app]`.
        if let Some(line) = document.places.get(&keys_as_fields(&wanted)) {
            return Some(*line);
        }
        if wanted.is_empty() {
            return None;
        }
        wanted.truncate(wanted.rfind(['.', '[']).unwrap_or(0));
    }
}

/// Finds the fields that a server's message speaks of, each with its line: `unknown field "spec.bogus"` and
/// `spec.replicas: Invalid value: -1` both name one. In the order of the message, each once.
pub fn locate_mentioned(document: &Document, message: &str) -> Vec<(String, usize)> {
    let is_path = |c: char| c.is_alphanumeric() || "._-/[]".contains(c);
    let mut found: Vec<(String, usize)> = Vec::new();
    for word in message.split(|c: char| c.is_whitespace() || "\"',;()".contains(c)) {
        // The path ends at the colon behind it; a list of several begins with a bracket.
        let word = word.trim_end_matches([':', ']', '.']).trim_start_matches('[');
        let word = if word.matches('[').count() > word.matches(']').count() {
            format!("{word}]")
        } else {
            word.to_owned()
        };
        let top = word.split(['.', '[']).next().unwrap_or_default();
        let is_field = word.chars().all(is_path) && document.value.get(top).is_some();
        if is_field
            && !found.iter().any(|(path, _)| *path == word)
            && let Some(line) = locate(document, &word)
        {
            found.push((word, line));
        }
    }
    found
}

fn keys_as_fields(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('[') {
        let Some((key, tail)) = after.split_once(']') else { break };
        text.push_str(before);
        if key.bytes().all(|byte| byte.is_ascii_digit()) {
            text.push_str(&format!("[{key}]"));
        } else {
            text.push('.');
            text.push_str(key.trim_matches(['"', '\'']));
        }
        rest = tail;
    }
    text.push_str(rest);
    text
}

/// A path for a message, without its middle when it is long.
fn shortened(path: &str) -> String {
    let characters = path.chars().count();
    if characters <= PATH_CHARS_MAX {
        return path.to_owned();
    }
    let head: String = path.chars().take(PATH_CHARS_MAX / 2).collect();
    let tail: String = path.chars().skip(characters - PATH_CHARS_MAX / 2).collect();
    format!("{head}…{tail}")
}

fn text_of(bytes: &[u8]) -> Result<&str, Defect> {
    if bytes.len() > MANIFEST_BYTES_MAX {
        let message = format!(
            "{} bytes are too many for a manifest, at most {MANIFEST_BYTES_MAX}",
            bytes.len()
        );
        return Err(Defect { line: 1, column: 1, message });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let line_start = good.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        Defect {
            line: 1 + good.iter().filter(|byte| **byte == b'\n').count(),
            column: 1 + String::from_utf8_lossy(&good[line_start..]).chars().count(),
            message: format!("not valid UTF-8 (byte 0x{:02x})", bytes[error.valid_up_to()]),
        }
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn parse_documents(bytes: &[u8]) -> Result<Vec<Parsed>, Defect> {
    let text = text_of(bytes)?;
    let from_yaml = yaml::parse(text, Bounds::MANIFEST);
    if !text.trim_start().starts_with('{') {
        return from_yaml;
    }
    // JSON is nearly, not quite, a part of YAML; what is JSON is read as JSON, and YAML only tells the lines.
    match json::parse(text, Bounds::MANIFEST) {
        Ok(values) => {
            let mut places = from_yaml.unwrap_or_default().into_iter();
            Ok(values
                .into_iter()
                .map(|(value, line)| match places.next() {
                    Some(found) => Parsed { value, ..found },
                    None => Parsed { value, line, places: BTreeMap::new() },
                })
                .collect())
        }
        Err(defect) => from_yaml.map_err(|_| defect),
    }
}

fn flatten(parsed: Vec<Parsed>, source_name: &str) -> Result<Vec<Document>, Defect> {
    let mut documents = Vec::new();
    for Parsed { value, line, places } in parsed {
        let kind = match &value {
            Value::Null => continue,
            Value::Object(map) => map.get("kind").and_then(Value::as_str).unwrap_or_default(),
            Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                let message = format!("expected an object, found {}", name_of(&value));
                return Err(Defect { line, column: 1, message });
            }
        };
        let is_list = kind.ends_with("List") && value.get("items").is_some_and(Value::is_array);
        let whole = Document {
            value,
            source: source_name.to_owned(),
            line,
            places: Arc::new(places),
            prefix: String::new(),
        };
        if is_list {
            documents.extend(items_of(whole)?);
        } else {
            documents.push(whole);
        }
    }
    Ok(documents)
}

fn items_of(mut list: Document) -> Result<Vec<Document>, Defect> {
    let Value::Array(items) = list.value["items"].take() else { return Ok(Vec::new()) };
    let mut documents = Vec::with_capacity(items.len());
    for (index, value) in items.into_iter().enumerate() {
        let prefix = format!("items[{index}]");
        let line = list.places.get(&prefix).copied().unwrap_or(list.line);
        if !value.is_object() {
            let message = format!("{prefix}: expected an object, found {}", name_of(&value));
            return Err(Defect { line, column: 1, message });
        }
        let places = Arc::clone(&list.places);
        documents.push(Document { value, source: list.source.clone(), line, places, prefix });
    }
    Ok(documents)
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "a list",
        Value::Bool(_) => "a boolean",
        Value::Null => "nothing",
        Value::Number(_) => "a number",
        Value::Object(_) => "an object",
        Value::String(_) => "a string",
    }
}

#[cfg(test)]
mod tests;
