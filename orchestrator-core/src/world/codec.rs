//! Records as bytes: JSON with a schema version in front. The one place that knows the stored form.

use bytes::Bytes;
use serde_json::Value;

use crate::model::{DecodeError, Key, Object, Part};

/// The version of the stored form this code writes. It reads every version up to it.
pub const SCHEMA_VERSION: u64 = 1;

/// Why stored bytes could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The JSON is not the object it should be.
    #[error("stored object is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// A status lies in the store without its object.
    #[error("status without an object")]
    NoObject,
    /// The bytes are not JSON.
    #[error("stored bytes are not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// A newer version wrote it.
    #[error("schema version {found} is newer than {SCHEMA_VERSION}, the newest this version reads")]
    TooNew {
        /// The version found.
        found: u64,
    },
}

impl CodecError {
    pub(super) const fn no_object() -> Self {
        Self::NoObject
    }
}

/// Encodes one part of an object. The revision is not in it: the store keeps that.
pub fn encode(object: &Object, part: Part) -> Bytes {
    object.to_record(part, SCHEMA_VERSION).into()
}

/// Decodes the main part of an object; its status is empty.
///
/// # Errors
/// [`CodecError`] says what is wrong with the bytes.
pub fn decode_main(key: &Key, bytes: &[u8]) -> Result<Object, CodecError> {
    Ok(Object::from_value(key.kind, checked(bytes)?)?)
}

/// Decodes a status and returns `object` with it.
///
/// # Errors
/// [`CodecError`] says what is wrong with the bytes.
pub fn decode_status(object: &Object, bytes: &[u8]) -> Result<Object, CodecError> {
    let status = Object::from_value(object.kind(), checked(bytes)?)?;
    Ok(object.with_status_of(&status))
}

fn checked(bytes: &[u8]) -> Result<Value, CodecError> {
    let mut value: Value = serde_json::from_slice(bytes)?;
    let schema = value.as_object_mut().and_then(|map| map.remove("schema"));
    match schema.as_ref().and_then(Value::as_u64) {
        Some(found) if found > SCHEMA_VERSION => Err(CodecError::TooNew { found }),
        Some(_) | None => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Deployment, Pod};

    #[test]
    fn an_object_comes_back_from_its_two_records() {
        let mut pod = Pod::new("web", "nginx");
        pod.node_name = "n1".to_owned();
        pod.status.pod_ip = "10.0.0.1".to_owned();
        let object = Object::from(pod);
        let main = decode_main(&object.key(), &encode(&object, Part::Main)).expect("own bytes");
        assert_ne!(main, object, "the status is a record of its own");
        let whole = decode_status(&main, &encode(&object, Part::Status)).expect("own bytes");
        assert_eq!(whole, object);
    }

    #[test]
    fn what_is_not_modelled_is_kept() {
        let mut value = Object::from(Deployment::new("web", "nginx")).to_value();
        value["spec"]["template"]["spec"]["containers"][0]["securityContext"] =
            serde_json::json!({ "runAsUser": 7 });
        value["spec"]["template"]["spec"]["hostNetwork"] = true.into();
        let object =
            Object::from_value(crate::model::Kind::Deployment, value).expect("a deployment");
        let back = decode_main(&object.key(), &encode(&object, Part::Main)).expect("own bytes");
        assert_eq!(back, object);
        let json = back.to_value();
        assert_eq!(
            json["spec"]["template"]["spec"]["containers"][0]["securityContext"]["runAsUser"],
            7
        );
        let paths: Vec<_> = back.residuals().into_iter().map(|(path, _)| path).collect();
        assert_eq!(
            paths,
            ["spec.template.spec.containers[0].securityContext", "spec.template.spec.hostNetwork"]
        );
    }

    #[test]
    fn a_newer_schema_is_refused_not_guessed() {
        let error =
            decode_main(&Key::pod("default", "web"), br#"{"schema":2}"#).expect_err("too new");
        assert!(matches!(error, CodecError::TooNew { found: 2 }));
    }

    #[test]
    fn a_wrong_type_is_named_by_its_whole_path() {
        let mut value = Object::from(Deployment::new("web", "nginx")).to_value();
        value["spec"]["template"]["spec"]["containers"][0]["image"] = 7.into();
        let error =
            Object::from_value(crate::model::Kind::Deployment, value).expect_err("7 is no image");
        assert!(
            error.to_string().starts_with("spec.template.spec.containers[0].image: "),
            "{error}"
        );
        let mut value = Object::from(Deployment::new("web", "nginx")).to_value();
        value["spec"]["replicas"] = "two".into();
        let error =
            Object::from_value(crate::model::Kind::Deployment, value).expect_err("no number");
        assert_eq!(
            error.to_string(),
            "spec.replicas: invalid type: string \"two\", expected a whole number"
        );
    }
}
