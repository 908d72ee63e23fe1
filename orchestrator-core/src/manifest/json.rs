//! JSON that tells duplicate fields, which `serde_json` alone would swallow.

use std::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{Bounds, DEPTH_MAX, Defect, shortened};
use crate::model::DOCUMENT_VALUES_MAX;

/// The most fields given twice that are told.
const DUPLICATES_MAX: usize = 32;

/// The path of a field that is given twice, such as `spec.replicas`; the last value counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuplicateField(pub String);

/// Reads one JSON value and notes the fields that are given twice, of many only some.
///
/// # Errors
/// What is not JSON, nests more than [`DEPTH_MAX`] levels deep, holds more than [`DOCUMENT_VALUES_MAX`] values, or goes on
/// after the value.
pub fn read_json(bytes: &[u8]) -> Result<(Value, Vec<DuplicateField>), serde_json::Error> {
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let mut on_duplicate = |path: &str| {
        if duplicates.len() < DUPLICATES_MAX {
            duplicates.push(DuplicateField(shortened(path)));
        }
        Ok(())
    };
    let mut reading = Reading::new(DOCUMENT_VALUES_MAX, &mut on_duplicate);
    let value = Seed { depth: 0, reading: &mut reading }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok((value, duplicates))
}

/// Reads values that follow each other, each with the line on which it begins.
pub(super) fn parse(text: &str, bounds: Bounds) -> Result<Vec<(Value, usize)>, Defect> {
    let mut values = Vec::new();
    let (mut rest, mut line) = (text, 1);
    let mut on_duplicate = |path: &str| Err(format!("{}: given twice", shortened(path)));
    let mut reading = Reading::new(bounds.values_max, &mut on_duplicate);
    let lines = |text: &str| text.bytes().filter(|byte| *byte == b'\n').count();
    loop {
        let trimmed = rest.trim_start();
        line += lines(&rest[..rest.len() - trimmed.len()]);
        if trimmed.is_empty() {
            return Ok(values);
        }
        let place = |error: &serde_json::Error| {
            let text = error.to_string();
            let message = match text.split(" at line ").next().unwrap_or(&text) {
                "recursion limit exceeded" => format!("nested more than {DEPTH_MAX} levels deep"),
                message => message.to_owned(),
            };
            Defect {
                line: line + error.line().saturating_sub(1),
                column: error.column().max(1),
                message,
            }
        };
        // Two passes: the first finds where the value ends, the second makes it and watches its keys. What has no end is
        // left to the second, whose error is the better one.
        let mut ends = serde_json::Deserializer::from_str(trimmed).into_iter::<IgnoredAny>();
        let end = match ends.next() {
            Some(Ok(_)) => ends.byte_offset(),
            Some(Err(_)) | None => trimmed.len(),
        };
        let mut deserializer = serde_json::Deserializer::from_str(&trimmed[..end]);
        let seed = Seed { depth: 0, reading: &mut reading };
        let value = seed.deserialize(&mut deserializer).map_err(|error| place(&error))?;
        if values.len() >= bounds.documents_max {
            let message = bounds.too_many_documents();
            return Err(Defect { line, column: 1, message });
        }
        values.push((value, line));
        line += lines(&trimmed[..end]);
        rest = &trimmed[end..];
    }
}

fn deeper<E: serde::de::Error>(depth: usize) -> Result<usize, E> {
    match depth {
        DEPTH_MAX.. => Err(E::custom(format!("nested more than {DEPTH_MAX} levels deep"))),
        _ => Ok(depth + 1),
    }
}

/// Where a reader is, and how much it may still take in.
struct Reading<'a> {
    path: String,
    values_left: usize,
    values_max: usize,
    on_duplicate: &'a mut dyn FnMut(&str) -> Result<(), String>,
}

impl<'a> Reading<'a> {
    fn new(values_max: usize, on_duplicate: &'a mut dyn FnMut(&str) -> Result<(), String>) -> Self {
        Self { path: String::new(), values_left: values_max, values_max, on_duplicate }
    }
}

struct Seed<'r, 'a> {
    depth: usize,
    reading: &'r mut Reading<'a>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let reading = &mut *self.reading;
        reading.values_left = reading.values_left.checked_sub(1).ok_or_else(|| {
            D::Error::custom(format!("it holds more than {} values", reading.values_max))
        })?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let Self { depth, reading } = self;
        let mut list = Vec::new();
        let length = reading.path.len();
        let depth = deeper(depth)?;
        loop {
            // Writing to a text does not fail.
            let _ = write!(reading.path, "[{}]", list.len());
            let item = items.next_element_seed(Seed { depth, reading: &mut *reading })?;
            reading.path.truncate(length);
            match item {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let Self { depth, reading } = self;
        let mut map = Map::new();
        let length = reading.path.len();
        let depth = deeper(depth)?;
        while let Some(name) = fields.next_key::<String>()? {
            if length > 0 {
                reading.path.push('.');
            }
            reading.path.push_str(&name);
            if map.contains_key(&name) {
                (reading.on_duplicate)(&reading.path).map_err(A::Error::custom)?;
            }
            let value = fields.next_value_seed(Seed { depth, reading: &mut *reading })?;
            reading.path.truncate(length);
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}
