//! JSON that tells duplicate fields, which `serde_json` alone would swallow.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{DEPTH_MAX, DOCUMENTS_MAX, Defect};

/// The path of a field that is given twice, such as `spec.replicas`; the last value counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuplicateField(pub String);

/// Reads one JSON value and notes the fields that are given twice.
///
/// # Errors
/// What is not JSON, nests more than [`DEPTH_MAX`] levels deep, or goes on after the value.
pub fn read_json(bytes: &[u8]) -> Result<(Value, Vec<DuplicateField>), serde_json::Error> {
    let mut duplicates = Vec::new();
    let mut path = String::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let seed = Seed {
        depth: 0,
        path: &mut path,
        on_duplicate: &mut |path| {
            duplicates.push(DuplicateField(path.to_owned()));
            Ok(())
        },
    };
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok((value, duplicates))
}

/// Reads values that follow each other, each with the line on which it begins.
pub(super) fn parse(text: &str) -> Result<Vec<(Value, usize)>, Defect> {
    let mut values = Vec::new();
    let mut offset = 0;
    loop {
        let rest = &text[offset..];
        let trimmed = rest.trim_start();
        offset += rest.len() - trimmed.len();
        let before = &text[..offset];
        let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        if trimmed.is_empty() {
            return Ok(values);
        }
        let mut path = String::new();
        let seed = Seed {
            depth: 0,
            path: &mut path,
            on_duplicate: &mut |path| Err(format!("{path}: given twice")),
        };
        let mut numbers = serde_json::Deserializer::from_str(trimmed).into_iter::<Value>();
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
        // Two passes: the first finds where the value ends, the second watches its keys.
        let end = match numbers.next() {
            Some(Ok(_)) => numbers.byte_offset(),
            Some(Err(error)) => return Err(place(&error)),
            None => return Ok(values),
        };
        let mut deserializer = serde_json::Deserializer::from_str(&trimmed[..end]);
        let value = seed.deserialize(&mut deserializer).map_err(|error| place(&error))?;
        if values.len() >= DOCUMENTS_MAX {
            return Err(Defect {
                line,
                column: 1,
                message: format!("more than {DOCUMENTS_MAX} documents"),
            });
        }
        values.push((value, line));
        offset += end;
    }
}

fn deeper<E: serde::de::Error>(depth: usize) -> Result<usize, E> {
    match depth {
        DEPTH_MAX.. => Err(E::custom(format!("nested more than {DEPTH_MAX} levels deep"))),
        _ => Ok(depth + 1),
    }
}

struct Seed<'a> {
    depth: usize,
    path: &'a mut String,
    on_duplicate: &'a mut dyn FnMut(&str) -> Result<(), String>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
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
        let mut list = Vec::new();
        let length = self.path.len();
        let depth = deeper(self.depth)?;
        loop {
            self.path.push_str(&format!("[{}]", list.len()));
            let seed = Seed { depth, path: &mut *self.path, on_duplicate: &mut *self.on_duplicate };
            let item = items.next_element_seed(seed)?;
            self.path.truncate(length);
            match item {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        let length = self.path.len();
        let depth = deeper(self.depth)?;
        while let Some(name) = fields.next_key::<String>()? {
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(&name);
            if map.contains_key(&name) {
                (self.on_duplicate)(self.path).map_err(A::Error::custom)?;
            }
            let seed = Seed { depth, path: &mut *self.path, on_duplicate: &mut *self.on_duplicate };
            let value = fields.next_value_seed(seed)?;
            self.path.truncate(length);
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}
