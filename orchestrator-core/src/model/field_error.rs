//! `FieldError`: what is wrong with one field, in the forms Kubernetes' clients know. Values are cut short.

use serde_json::Value;

/// The most characters of a wrong value that a message repeats.
const VALUE_CHARS_MAX: usize = 128;

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FieldErrorKind {
    /// A value that must be unique is there twice.
    Duplicate,
    /// The field may not be set or changed.
    Forbidden,
    /// The value is not valid.
    Invalid,
    /// The value is none of those possible.
    NotSupported,
    /// The field must be there.
    Required,
    /// The value is too long, or there are too many.
    TooLong,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldError {
    /// The field's path, such as `spec.containers[0].image`.
    pub field: String,
    /// What is wrong with it.
    pub kind: FieldErrorKind,
    /// The value and what would be right, such as `Invalid value: -1: must be greater than or equal to 0`.
    pub message: String,
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.field.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl FieldError {
    /// Says that a value is there twice.
    pub fn duplicate(field: impl ToString, value: impl Into<Value>) -> Self {
        let message = format!("Duplicate value: {}", shown(&value.into()));
        Self { field: field.to_string(), kind: FieldErrorKind::Duplicate, message }
    }

    /// Says that a field may not be set or changed, and why.
    pub fn forbidden(field: impl ToString, why: &str) -> Self {
        let message = format!("Forbidden: {why}");
        Self { field: field.to_string(), kind: FieldErrorKind::Forbidden, message }
    }

    /// Says that a value is not valid, and what would be.
    pub fn invalid(field: impl ToString, value: impl Into<Value>, right: &str) -> Self {
        let message = format!("Invalid value: {}: {right}", shown(&value.into()));
        Self { field: field.to_string(), kind: FieldErrorKind::Invalid, message }
    }

    /// Says that a value is none of those possible, which are listed.
    pub fn not_supported(field: impl ToString, value: impl Into<Value>, known: &[&str]) -> Self {
        let known: Vec<_> = known.iter().map(|name| format!("{name:?}")).collect();
        let message = format!(
            "Unsupported value: {}: supported values: {}",
            shown(&value.into()),
            known.join(", ")
        );
        Self { field: field.to_string(), kind: FieldErrorKind::NotSupported, message }
    }

    /// Says that a field must be there, and why or which.
    pub fn required(field: impl ToString, why: &str) -> Self {
        let message = match why {
            "" => "Required value".to_owned(),
            why => format!("Required value: {why}"),
        };
        Self { field: field.to_string(), kind: FieldErrorKind::Required, message }
    }

    /// Says that a value has too many bytes.
    pub fn too_long(field: impl ToString, bytes_max: usize) -> Self {
        let message = format!("Too long: may not be more than {bytes_max} bytes");
        Self { field: field.to_string(), kind: FieldErrorKind::TooLong, message }
    }

    /// Says that a list or map has too many entries.
    pub fn too_many(field: impl ToString, found: usize, entries_max: usize) -> Self {
        let message = format!("Too many: {found}: must have at most {entries_max} items");
        Self { field: field.to_string(), kind: FieldErrorKind::TooLong, message }
    }
}

/// Prints a value as JSON, cut to [`VALUE_CHARS_MAX`].
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
