//! How many values a document may hold: a few bytes of one can become a kilobyte of a typed object.

use serde_json::Value;

/// The most values that one document may hold: every object, list, text, number, boolean and null counts. An object of 1 MiB
/// passes with eleven bytes for each; the empty containers that fill a body are refused before they are made.
pub const DOCUMENT_VALUES_MAX: usize = 100_000;

/// The refusal of a document that holds more, for every reader of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it holds more than {DOCUMENT_VALUES_MAX} values, the most that a document may")]
pub struct TooManyValues;

/// Counts the values of a document.
///
/// # Errors
/// [`TooManyValues`] above [`DOCUMENT_VALUES_MAX`].
pub fn count_values(document: &Value) -> Result<usize, TooManyValues> {
    let mut left = DOCUMENT_VALUES_MAX;
    count_down(document, &mut left)?;
    Ok(DOCUMENT_VALUES_MAX - left)
}

fn count_down(value: &Value, left: &mut usize) -> Result<(), TooManyValues> {
    *left = left.checked_sub(1).ok_or(TooManyValues)?;
    match value {
        Value::Array(list) => list.iter().try_for_each(|value| count_down(value, left)),
        Value::Object(map) => map.values().try_for_each(|value| count_down(value, left)),
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_value_counts_once_and_one_too_many_is_refused() {
        assert_eq!(count_values(&json!({ "a": [1, null, {}], "b": "x" })), Ok(6));
        let full = vec![json!({}); DOCUMENT_VALUES_MAX - 1];
        assert_eq!(count_values(&full.clone().into()), Ok(DOCUMENT_VALUES_MAX));
        let over = [full, vec![Value::Null]].concat();
        assert_eq!(count_values(&over.into()), Err(TooManyValues));
    }
}
