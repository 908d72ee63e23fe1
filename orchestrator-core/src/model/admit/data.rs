//! Config maps, secrets and events.

use base64::Engine as _;

use super::errors::{Errors, Path};
use crate::model::{ConfigMap, Event, FieldError, Secret};

/// The most bytes the data of a config map or secret may have together.
pub const DATA_BYTES_MAX: usize = 1 << 20;

const KEY_CHARS_MAX: usize = 253;
const KEY: &str =
    "must be at most 253 letters, digits, '-', '_' or '.', and neither '.' nor begin with '..'";

pub(super) fn validate_config_map(map: &ConfigMap, errors: &mut Errors) {
    let (data, binary) = (Path::root("data"), Path::root("binaryData"));
    let mut bytes = 0;
    for (name, value) in &map.data {
        key(name, &data, errors);
        bytes += value.len();
        if map.binary_data.contains_key(name) {
            errors.push(FieldError::invalid(data.key(name), &**name, "is in `binaryData` too"));
        }
    }
    for (name, value) in &map.binary_data {
        key(name, &binary, errors);
        bytes += decoded(value, &binary.key(name), errors);
    }
    if bytes > DATA_BYTES_MAX {
        errors.push(FieldError::too_long("", DATA_BYTES_MAX));
    }
}

pub(super) fn validate_secret(secret: &Secret, errors: &mut Errors) {
    let data = Path::root("data");
    let mut bytes = 0;
    for (name, value) in &secret.data.0 {
        key(name, &data, errors);
        bytes += decoded(value, &data.key(name), errors);
    }
    if bytes > DATA_BYTES_MAX {
        errors.push(FieldError::too_long("data", DATA_BYTES_MAX));
    }
    for one_of in needed(&secret.kind) {
        if !one_of.iter().any(|name| secret.data.0.contains_key(*name)) {
            let why = format!("a secret of type {} needs {}", secret.kind, one_of.join(" or "));
            errors.push(FieldError::required(data.key(one_of[0]), &why));
        }
    }
}

/// The data that a secret of a type has, as in Kubernetes: of each list one.
fn needed(kind: &str) -> &'static [&'static [&'static str]] {
    match kind {
        "kubernetes.io/basic-auth" => &[&["username", "password"]],
        "kubernetes.io/dockercfg" => &[&[".dockercfg"]],
        "kubernetes.io/dockerconfigjson" => &[&[".dockerconfigjson"]],
        "kubernetes.io/ssh-auth" => &[&["ssh-privatekey"]],
        "kubernetes.io/tls" => &[&["tls.crt"], &["tls.key"]],
        _ => &[],
    }
}

pub(super) fn validate_event(event: &Event, errors: &mut Errors) {
    let involved = Path::root("involvedObject");
    let (namespace, expected) = (&event.involved_object.namespace, &event.metadata.namespace);
    // Events about what has no namespace are kept in `default`.
    let fits = namespace == expected || namespace.is_empty() && expected == "default";
    if !fits {
        let right = "does not match event.namespace";
        errors.push(FieldError::invalid(involved.field("namespace"), &**namespace, right));
    }
}

fn key(name: &str, at: &Path<'_>, errors: &mut Errors) {
    let is_char = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let valid = (1..=KEY_CHARS_MAX).contains(&name.len())
        && name.bytes().all(is_char)
        && name != "."
        && !name.starts_with("..");
    if !valid {
        errors.push(FieldError::invalid(at.key(name), name, KEY));
    }
}

/// Returns how many bytes a base64 text stands for. The text itself is nobody's business (S41).
fn decoded(value: &str, at: &Path<'_>, errors: &mut Errors) -> usize {
    match base64::engine::general_purpose::STANDARD.decode(value) {
        Ok(bytes) => bytes.len(),
        Err(_) => {
            errors.push(FieldError::invalid(at, "…", "must be base64"));
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_what_its_type_needs() {
        let missing = |kind: &str, names: &[&str]| {
            let mut secret = Secret { kind: kind.to_owned(), ..Secret::default() };
            for name in names {
                secret.data.0.insert((*name).to_owned(), String::new());
            }
            let mut errors = Errors::default();
            validate_secret(&secret, &mut errors);
            let found = errors.none_or(()).err().unwrap_or_default();
            found.into_iter().map(|error| error.field).collect::<Vec<_>>()
        };
        assert_eq!(missing("kubernetes.io/tls", &["tls.crt"]), ["data[tls.key]"]);
        assert_eq!(missing("kubernetes.io/tls", &["tls.crt", "tls.key"]), [""; 0]);
        assert_eq!(missing("kubernetes.io/basic-auth", &["password"]), [""; 0]);
        assert_eq!(missing("kubernetes.io/basic-auth", &[]), ["data[username]"]);
        assert_eq!(missing("Opaque", &[]), [""; 0]);
    }
}
