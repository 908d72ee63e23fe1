//! `Residual`: what a client sent and we do not model, kept in place.
//!
//! A part of an object (its metadata, spec or status) is parsed into typed fields; each field no type claims
//! is kept here under its path and merged back on output, so that nothing a user wrote is lost and a
//! repeated apply finds no difference. Controllers never read it. It takes part in equality.

use serde_json::Value;

/// One step of a path into JSON.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// An element of a list.
    Index(usize),
    /// A field of an object.
    Field(String),
}

/// Fields of one part that no type claims, by path, in path order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Residual(Vec<(Vec<Step>, Value)>);

impl Residual {
    /// Whether every field was claimed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Yields each kept field with its path, printed as `containers[0].securityContext`.
    pub fn fields(&self) -> impl Iterator<Item = (String, &Value)> + '_ {
        self.0.iter().map(|(path, value)| (print_path(path), value))
    }

    /// Whether a field is kept under this printed path.
    pub(crate) fn holds(&self, path: &str) -> bool {
        self.fields().any(|(kept, _)| kept == path)
    }

    /// Keeps `value` under `path`, in its place: mostly the last, since a document is read in order.
    pub(crate) fn keep(&mut self, path: Vec<Step>, value: Value) {
        let place = self.0.partition_point(|(kept, _)| *kept <= path);
        self.0.insert(place, (path, value));
    }

    /// Puts each kept field back into `part`; a field whose parent is gone is left out.
    pub(crate) fn merge_into(&self, part: &mut Value) {
        for (path, value) in &self.0 {
            merge_at(part, path, value);
        }
    }
}

/// Prints a path the way validation errors do: `spec.containers[0].image`.
fn print_path(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Index(index) => text.push_str(&format!("[{index}]")),
            Step::Field(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
            }
        }
    }
    text
}

fn merge_at(target: &mut Value, path: &[Step], value: &Value) {
    let Some((step, rest)) = path.split_first() else { return };
    match (step, target) {
        (Step::Field(name), Value::Object(map)) => {
            if rest.is_empty() {
                map.entry(name).or_insert_with(|| value.clone());
            } else {
                let child = map.entry(name).or_insert_with(|| match rest.first() {
                    Some(Step::Index(_)) => Value::Array(Vec::new()),
                    Some(Step::Field(_)) | None => Value::Object(serde_json::Map::new()),
                });
                merge_at(child, rest, value);
            }
        }
        (Step::Index(index), Value::Array(list)) => {
            if let Some(child) = list.get_mut(*index) {
                merge_at(child, rest, value);
            }
        }
        _ => {}
    }
}

/// Converts the path of an ignored field and takes its value out of `input`.
pub(crate) fn steps(path: &serde_ignored::Path<'_>) -> Vec<Step> {
    use serde_ignored::Path;
    let (parent, step) = match path {
        Path::Root => return Vec::new(),
        Path::Seq { parent, index } => (parent, Some(Step::Index(*index))),
        Path::Map { parent, key } => (parent, Some(Step::Field(key.clone()))),
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => (parent, None),
    };
    let mut all = steps(parent);
    all.extend(step);
    all
}

/// Returns the value under `path`.
pub(crate) fn value_at<'v>(input: &'v Value, path: &[Step]) -> Option<&'v Value> {
    path.iter().try_fold(input, |value, step| match step {
        Step::Index(index) => value.get(*index),
        Step::Field(name) => value.get(name),
    })
}

/// Removes every `null`: clients send them for absent fields.
pub(crate) fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, child| !child.is_null());
            map.values_mut().for_each(strip_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(strip_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Says what a number should be without naming one of Rust's types.
fn in_plain_words(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let is_type = |name: &str| ["u8", "u16", "u32", "u64", "i32", "i64"].contains(&name);
    match message.rsplit_once(", expected ") {
        Some((found, name)) if is_type(name) => format!("{found}, expected a whole number"),
        Some(_) | None => message,
    }
}

/// Returns `path: message`, or `path.inner: message` when the message begins with an inner path.
pub(crate) fn located_message(path: &str, message: &str) -> String {
    let path = if path == "." { "" } else { path };
    match message.strip_prefix('.') {
        Some(inner) if path.is_empty() => format!(".{inner}"),
        Some(inner) => format!(".{path}.{inner}"),
        None if path.is_empty() => message.to_owned(),
        None => format!(".{path}: {message}"),
    }
}

/// Reads from JSON, knows where it is, and tells of fields that no type claims. The same for every part, so that types
/// which lie in several parts are compiled once.
pub(crate) type PartDeserializer<'i> = serde_ignored::Deserializer<
    'i,
    'i,
    serde_path_to_error::Deserializer<'i, 'i, &'i Value>,
    &'i mut dyn FnMut(serde_ignored::Path<'_>),
>;

/// Reads one part: typed fields by `typed`, the rest into a residual. An error begins with the path of its field.
///
/// Not generic over the deserializer: every use would compile the part anew.
pub(crate) fn read_part<T>(
    input: &Value,
    typed: impl FnOnce(PartDeserializer<'_>) -> Result<T, serde_json::Error>,
) -> Result<(T, Residual), String> {
    if !input.is_object() {
        return Err("expected an object".to_owned());
    }
    let mut residual = Residual::default();
    let mut keep = |path: serde_ignored::Path<'_>| {
        let path = steps(&path);
        if let Some(value) = value_at(input, &path).filter(|value| !value.is_null()) {
            residual.keep(path, value.clone());
        }
    };
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(input, &mut track);
    let mut unclaimed: &mut dyn FnMut(serde_ignored::Path<'_>) = &mut keep;
    match typed(serde_ignored::Deserializer::new(tracked, &mut unclaimed)) {
        Ok(part) => Ok((part, residual)),
        Err(error) => Err(located_message(&track.path().to_string(), &in_plain_words(&error))),
    }
}

/// What is read from JSON with everything that no type claims.
pub(crate) trait ReadPart: Sized {
    /// Reads it; an error begins with the path of its field.
    fn read(input: &Value) -> Result<Self, String>;
}

/// Implements serde for a part that has a `residual` field and derives with `#[serde(remote = "Self")]`.
macro_rules! keep_residual {
    ($($part:ty),+ $(,)?) => {$(
        impl serde::Serialize for $part {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if self.residual.is_empty() {
                    return Self::serialize(self, serializer);
                }
                let mut value = Self::serialize(self, serde_json::value::Serializer)
                    .map_err(serde::ser::Error::custom)?;
                self.residual.merge_into(&mut value);
                serde::Serialize::serialize(&value, serializer)
            }
        }

        impl $crate::model::residual::ReadPart for $part {
            fn read(input: &serde_json::Value) -> Result<Self, String> {
                let (part, residual) =
                    $crate::model::residual::read_part(input, |part| Self::deserialize(part))?;
                Ok(Self { residual, ..part })
            }
        }

        impl<'de> serde::Deserialize<'de> for $part {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let input = <serde_json::Value as serde::Deserialize>::deserialize(deserializer)?;
                $crate::model::residual::ReadPart::read(&input).map_err(serde::de::Error::custom)
            }
        }
    )+};
}
pub(crate) use keep_residual;
