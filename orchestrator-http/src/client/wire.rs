//! Paths and headers as they are on the wire.

use http::HeaderValue;
use orchestrator_core::model::{Key, Kind};

use super::ClientError;
use crate::query::percent_encode;

/// Takes the text out of `299 - "text"`.
pub(super) fn warning_text(value: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    let quoted = text.split_once('"').and_then(|(_, rest)| rest.strip_suffix('"'));
    let mut escaped = false;
    quoted
        .unwrap_or(&text)
        .chars()
        .filter(|c| {
            escaped = *c == '\\' && !escaped;
            !escaped
        })
        .collect()
}

pub(super) fn collection_path(kind: Kind, namespace: Option<&str>) -> String {
    let of = if kind.group().is_empty() { "api" } else { "apis" };
    let base = format!("/{of}/{}", kind.api_version());
    match namespace.filter(|_| kind.is_namespaced()) {
        Some(namespace) => {
            format!("{base}/namespaces/{}/{}", percent_encode(namespace), kind.plural())
        }
        None => format!("{base}/{}", kind.plural()),
    }
}

/// The path of an object. Without a name it would be that of all the objects there are.
pub(super) fn object_path(key: &Key) -> Result<String, ClientError> {
    if key.name.is_empty() {
        return Err(ClientError::Config(format!("the name of a {} must not be empty", key.kind)));
    }
    let collection = collection_path(key.kind, Some(&key.namespace));
    Ok(format!("{collection}/{}", percent_encode(&key.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_kubernetes() {
        let path = |key: Key| object_path(&key).expect("it has a name");
        let key = Key::new(Kind::Deployment, "default", "web");
        assert_eq!(path(key), "/apis/apps/v1/namespaces/default/deployments/web");
        assert_eq!(path(Key::node("n1")), "/api/v1/nodes/n1");
        assert_eq!(path(Key::pod("x", "../y")), "/api/v1/namespaces/x/pods/..%2Fy");
        assert_eq!(collection_path(Kind::Pod, None), "/api/v1/pods");
    }

    #[test]
    fn an_object_without_a_name_is_not_taken_for_all_there_are() {
        let refused = object_path(&Key::node("")).expect_err("no name");
        assert_eq!(refused.to_string(), "the name of a Node must not be empty");
    }

    #[test]
    fn a_warning_comes_back_as_it_was_written() {
        let value = HeaderValue::from_static(r#"299 - "say \"no\" \\ever""#);
        assert_eq!(warning_text(&value), r#"say "no" \ever"#);
    }
}
