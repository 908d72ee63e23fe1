//! Requests in protobuf: from Kubernetes' wire form to JSON, by the field table.
//!
//! Clients made with client-go send bodies so, whatever the server answers in; answers are JSON. The form: four bytes
//! `k8s\0`, then `Unknown{typeMeta: 1, raw: 2}`, and in `raw` the object. Fields that the table lacks are left out, as API
//! servers do.

use base64::Engine as _;
use orchestrator_core::manifest;
use orchestrator_core::model::{DOCUMENT_VALUES_MAX, Time, TooManyValues, count_values};
use orchestrator_core::schema::{Field, Message, Shape, Type, schema};
use serde_json::{Map, Value};

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// The deepest that messages may be nested.
const DEPTH_MAX: usize = 64;
/// Kinds that every group has, and that are Kubernetes' own.
const META_KINDS: [&str; 1] = ["DeleteOptions"];

/// Why a body cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtobufError {
    #[error("it does not begin with \"k8s\\0\"")]
    NotKubernetes,
    #[error("{0}: it ends in the middle, or is not protobuf")]
    Truncated(String),
    #[error("{field}: wire type {found} does not go with it")]
    WireType { field: String, found: u8 },
    #[error("{0}: the text is not UTF-8")]
    NotText(String),
    #[error("{0}: the bytes are not JSON")]
    NotJson(String),
    #[error("it is nested deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error(transparent)]
    TooManyValues(#[from] TooManyValues),
    #[error("there is no {kind:?} in {api_version:?}")]
    UnknownKind { api_version: String, kind: String },
}

type Outcome<T> = Result<T, ProtobufError>;

/// Reads a body into the JSON of its object, `apiVersion` and `kind` included.
///
/// # Errors
/// [`ProtobufError`] says what is wrong with the bytes.
pub(crate) fn decode(bytes: &[u8]) -> Outcome<Value> {
    let body = bytes.strip_prefix(MAGIC).ok_or(ProtobufError::NotKubernetes)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &body[..0]);
    for part in Parts(body) {
        match part? {
            (1, Wire::Bytes(type_meta)) => {
                for part in Parts(type_meta) {
                    match part? {
                        (1, Wire::Bytes(text)) => api_version = read_text(text, "apiVersion")?,
                        (2, Wire::Bytes(text)) => kind = read_text(text, "kind")?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(found)) => raw = found,
            _ => {}
        }
    }
    let message = match META_KINDS.contains(&kind.as_str()) {
        true => schema().find(&format!("meta/v1.{kind}")),
        false => schema().of_kind(&api_version, &kind),
    };
    let Some(message) = message else {
        return Err(ProtobufError::UnknownKind { api_version, kind });
    };
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    Reader { values_left: DOCUMENT_VALUES_MAX }.message(message, raw, &mut object, DEPTH_MAX)?;
    Ok(Value::Object(object))
}

/// A value as it lies on the wire.
#[derive(Clone, Copy, Debug)]
enum Wire<'b> {
    Bytes(&'b [u8]),
    Number(u64),
}

/// The fields of a message, by their numbers, in the order of the wire.
struct Parts<'b>(&'b [u8]);

impl<'b> Parts<'b> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for (index, byte) in self.0.iter().enumerate().take(10) {
            number |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: u64) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn part(&mut self) -> Option<(u32, Wire<'b>)> {
        let tag = self.number()?;
        let number = u32::try_from(tag >> 3).ok()?;
        let fixed = |bytes: &[u8]| {
            bytes.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let wire = match tag & 7 {
            0 => Wire::Number(self.number()?),
            1 => Wire::Number(fixed(self.take(8)?)),
            2 => {
                let length = self.number()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Number(fixed(self.take(4)?)),
            _ => return None,
        };
        Some((number, wire))
    }
}

impl<'b> Iterator for Parts<'b> {
    type Item = Outcome<(u32, Wire<'b>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let part = self.part();
        if part.is_none() {
            self.0 = &[];
        }
        Some(part.ok_or_else(|| ProtobufError::Truncated("the body".to_owned())))
    }
}

/// Reads messages, as long as there are not too many values in them.
struct Reader {
    values_left: usize,
}

impl Reader {
    fn take(&mut self, values: usize) -> Result<(), TooManyValues> {
        self.values_left = self.values_left.checked_sub(values).ok_or(TooManyValues)?;
        Ok(())
    }

    fn message(
        &mut self,
        message: &Message,
        bytes: &[u8],
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Outcome<()> {
        let depth = depth.checked_sub(1).ok_or(ProtobufError::TooDeep)?;
        for part in Parts(bytes) {
            let (number, wire) = part?;
            let Some(field) = message.numbered(number) else { continue };
            match (field.shape, wire) {
                (Shape::One, Wire::Bytes(bytes)) if field.is_inline => {
                    if let Some(message) = field.message() {
                        self.message(message, bytes, object, depth)?;
                    }
                }
                (Shape::One, wire) => {
                    if let Some(value) =
                        self.value(field, wire, depth)?.filter(|it| says(field, it))
                    {
                        object.insert(field.name.to_owned(), value);
                    }
                }
                (Shape::List, wire) => {
                    let list = object.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                    if let (Value::Array(list), Some(value)) =
                        (list, self.value(field, wire, depth)?)
                    {
                        list.push(value);
                    }
                }
                (Shape::Map, Wire::Bytes(entry)) => {
                    let (name, value) = self.entry(field, entry, depth)?;
                    let map = object.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                    if let Value::Object(map) = map {
                        map.insert(name, value);
                    }
                }
                (Shape::Map, Wire::Number(_)) => return Err(wire_type(field, 0)),
            }
        }
        Ok(())
    }

    fn entry(&mut self, field: &Field, bytes: &[u8], depth: usize) -> Outcome<(String, Value)> {
        let (mut name, mut value) = (String::new(), None);
        for part in Parts(bytes) {
            match part? {
                (1, Wire::Bytes(text)) => name = read_text(text, field.name)?,
                (2, wire) => value = self.value(field, wire, depth)?,
                _ => {}
            }
        }
        // An empty value may be left out on the wire.
        if value.is_none() {
            self.take(1)?;
        }
        let value = match (value, field.message()) {
            (Some(value), _) => value,
            (None, Some(_)) => Value::Object(Map::new()),
            (None, None) => Value::String(String::new()),
        };
        Ok((name, value))
    }

    /// Reads one value; `None` for a time that is not set.
    fn value(&mut self, field: &Field, wire: Wire<'_>, depth: usize) -> Outcome<Option<Value>> {
        self.take(1)?;
        let bytes = || match wire {
            Wire::Bytes(bytes) => Ok(bytes),
            Wire::Number(_) => Err(wire_type(field, 0)),
        };
        let number = || match wire {
            Wire::Number(number) => Ok(number.cast_signed()),
            Wire::Bytes(_) => Err(wire_type(field, 2)),
        };
        let value = match field.of {
            Type::Bool => Value::Bool(number()? != 0),
            Type::Bytes => base64::engine::general_purpose::STANDARD.encode(bytes()?).into(),
            Type::FieldsV1 => {
                let raw = first_bytes(bytes()?)?;
                let (value, _) = manifest::read_json(raw)
                    .map_err(|_| ProtobufError::NotJson(field.name.to_owned()))?;
                self.take(count_values(&value)?)?;
                value
            }
            Type::Int32 | Type::Int64 => number()?.into(),
            Type::IntOrString => read_int_or_string(field, bytes()?)?,
            Type::Message(id) => {
                let mut object = Map::new();
                self.message(schema().message(id), bytes()?, &mut object, depth)?;
                Value::Object(object)
            }
            Type::MicroTime | Type::Time => return read_time(field, bytes()?),
            Type::Quantity => match read_text(first_bytes(bytes()?)?, field.name)? {
                text if text.is_empty() => "0".into(),
                text => text.into(),
            },
            Type::String => read_text(bytes()?, field.name)?.into(),
        };
        Ok(Some(value))
    }
}

/// Whether a value says anything: protobuf writes the zeros of what was not set.
fn says(field: &Field, value: &Value) -> bool {
    let is_zero = match value {
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(_) | Value::Null | Value::Object(_) => false,
    };
    let is_scalar = matches!(field.of, Type::Bool | Type::Int32 | Type::Int64 | Type::String);
    !is_zero || !is_scalar || field.keeps_zero
}

fn wire_type(field: &Field, found: u8) -> ProtobufError {
    ProtobufError::WireType { field: field.name.to_owned(), found }
}

fn read_text(bytes: &[u8], field: &str) -> Outcome<String> {
    let text = std::str::from_utf8(bytes).map_err(|_| ProtobufError::NotText(field.to_owned()))?;
    Ok(text.to_owned())
}

/// The first field of a message that wraps bytes or a text.
fn first_bytes(bytes: &[u8]) -> Outcome<&[u8]> {
    for part in Parts(bytes) {
        if let (1, Wire::Bytes(found)) = part? {
            return Ok(found);
        }
    }
    Ok(&bytes[..0])
}

fn read_int_or_string(field: &Field, bytes: &[u8]) -> Outcome<Value> {
    let (mut is_text, mut number, mut text) = (false, 0i32, String::new());
    for part in Parts(bytes) {
        match part? {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            // Negative numbers are written in 64 bits; the lower ones count.
            (2, Wire::Number(found)) => number = (found & 0xffff_ffff) as u32 as i32,
            (3, Wire::Bytes(found)) => text = read_text(found, field.name)?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

fn read_time(field: &Field, bytes: &[u8]) -> Outcome<Option<Value>> {
    let (mut seconds, mut nanos) = (None, 0i64);
    for part in Parts(bytes) {
        match part? {
            (1, Wire::Number(found)) => seconds = Some(found.cast_signed()),
            (2, Wire::Number(found)) => nanos = found.cast_signed(),
            _ => {}
        }
    }
    let Some(seconds) = seconds else { return Ok(None) };
    let whole = Time::from_seconds(seconds).to_string();
    let text = match field.of {
        Type::MicroTime => format!("{}.{:06}Z", whole.trim_end_matches('Z'), nanos / 1_000),
        _ => whole,
    };
    Ok(Some(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Writes a field that has bytes.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).expect("short");
        assert!(length < 128, "one byte of length");
        [&[number << 3 | 2, length], bytes].concat()
    }

    fn number(number: u8, value: u8) -> Vec<u8> {
        vec![number << 3, value]
    }

    fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &meta), field(2, raw)].concat()
    }

    #[test]
    fn a_config_map_is_read() {
        let entry = [field(1, b"key"), field(2, b"value")].concat();
        let binary = [field(1, b"bin"), field(2, &[0, 255])].concat();
        let created = field(8, &[]);
        let meta = [field(1, b"name"), field(2, b""), created].concat();
        let raw = [field(1, &meta), field(2, &entry), field(3, &binary), number(4, 0)].concat();
        let expected = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "name" },
            "data": { "key": "value" },
            "binaryData": { "bin": "AP8=" },
            "immutable": false,
        });
        assert_eq!(decode(&body("v1", "ConfigMap", &raw)), Ok(expected));
    }

    #[test]
    fn a_deployment_is_read_down_to_its_probes() {
        let port = [number(1, 0), number(2, 80), field(3, b"")].concat();
        let get = [field(1, b"/healthz"), field(2, &port)].concat();
        let probe = [field(1, &field(2, &get)), number(2, 0)].concat();
        let container = [field(1, b"c"), field(2, b"nginx"), field(10, &probe)].concat();
        let spec = [field(2, &container), number(11, 0)].concat();
        let template = field(2, &spec);
        let surge = [number(1, 1), field(3, b"25%")].concat();
        let strategy = field(2, &field(2, &surge));
        let spec = [number(1, 0), field(3, &template), field(4, &strategy)].concat();
        let raw = field(2, &spec);
        let expected = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "spec": {
                "replicas": 0,
                "strategy": { "rollingUpdate": { "maxSurge": "25%" } },
                "template": { "spec": { "containers": [{
                    "name": "c", "image": "nginx",
                    "livenessProbe": { "httpGet": { "path": "/healthz", "port": 80 } },
                }] } },
            },
        });
        assert_eq!(decode(&body("apps/v1", "Deployment", &raw)), Ok(expected));
    }

    #[test]
    fn delete_options_are_the_same_in_every_group() {
        let raw = [number(1, 0), field(4, b"Foreground")].concat();
        let read = decode(&body("apps/v1", "DeleteOptions", &raw)).expect("read");
        assert_eq!(read["gracePeriodSeconds"], 0);
        assert_eq!(read["propagationPolicy"], "Foreground");
    }

    #[test]
    fn a_body_of_empty_containers_is_refused_before_they_are_made() {
        let filled = |count: usize| {
            let length = |number: u8, length: usize| {
                let bytes = [7, 14, 21].map(|shift| (length >> shift) as u8);
                let [b, c, d] = bytes.map(|byte| byte & 0x7f);
                [number << 3 | 2, length as u8 | 0x80, b | 0x80, c | 0x80, d]
            };
            let containers = [2 << 3 | 2, 0].repeat(count);
            let spec = [&length(2, containers.len())[..], &containers].concat();
            let meta = field(1, &[field(1, b"v1"), field(2, b"Pod")].concat());
            [MAGIC, &meta, &length(2, spec.len()), &spec].concat()
        };
        let read = decode(&filled(1_000)).expect("few enough");
        assert_eq!(read["spec"]["containers"].as_array().map(Vec::len), Some(1_000));
        assert_eq!(decode(&filled(1_400_000)), Err(TooManyValues.into()));
    }

    #[test]
    fn what_is_broken_is_refused() {
        assert_eq!(decode(b"{}"), Err(ProtobufError::NotKubernetes));
        let kind = "Gadget".to_owned();
        let unknown = ProtobufError::UnknownKind { api_version: "v1".to_owned(), kind };
        assert_eq!(decode(&body("v1", "Gadget", &[])), Err(unknown));
        let pod = body("v1", "Pod", &field(1, b"\x0a\x04name"));
        for length in 4..pod.len() {
            // Never a panic; a cut in the middle is an error unless it falls between fields.
            let _ = decode(&pod[..length]);
        }
        assert!(matches!(decode(&pod[..pod.len() - 1]), Err(ProtobufError::Truncated(_))));
        let wrong = decode(&body("v1", "ConfigMap", &number(1, 3)));
        assert_eq!(wrong, Err(ProtobufError::WireType { field: "metadata".to_owned(), found: 0 }));
        let text = decode(&body("v1", "ConfigMap", &field(1, &field(1, &[0xff]))));
        assert_eq!(text, Err(ProtobufError::NotText("name".to_owned())));
    }
}
