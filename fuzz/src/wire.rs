//! What comes over the wire, answered by the real API on a cluster in memory: protobuf, selectors, queries.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use orchestrator_core::driver::Cluster;
use orchestrator_core::mem::MemStore;
use orchestrator_core::model::{Kind, LabelSelector, StringMap};
use orchestrator_http::{Api, Transport};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::world::{first_line, kind_of};

/// The most bytes of an answer beside sixteen times the input's: defaults are written out.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// The media type of Kubernetes' protobuf.
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// The media type of JSON.
const JSON: &str = "application/json";

struct Rig {
    runtime: Runtime,
    api: Api,
}

thread_local! {
    static RIG: Rig = Rig::start();
}

impl Rig {
    /// Starts a cluster whose time passes when nothing else is to be done, so that nobody waits.
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let cluster = runtime
            .block_on(Cluster::builder().store(MemStore::new()).start())
            .expect("a cluster in memory");
        let rig = Self { runtime, api: Api::new(cluster) };
        for n in 0..5 {
            let map = json!({ "metadata": { "name": format!("m{n}"), "labels": { "n": n.to_string() } } });
            let path = "/api/v1/namespaces/default/configmaps";
            let (code, answer) = rig.send(Method::POST, path, JSON, map.to_string().into());
            assert_eq!(code, StatusCode::CREATED, "{answer:?}");
        }
        rig
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        media_type: &str,
        body: Bytes,
    ) -> (StatusCode, Bytes) {
        let limit = ANSWER_BYTES_MAX + 16 * (body.len() + path.len());
        let request =
            Request::builder().method(method).uri(path).header("content-type", media_type);
        let request = request.body(Full::new(body)).expect("a path of a URI's characters");
        self.runtime.block_on(async {
            let response = self.api.handle(request, Transport::Unix).await;
            let code = response.status();
            let mut body = std::pin::pin!(response.into_body());
            let mut bytes = Vec::new();
            // A watch goes on until its time is over, which is soon.
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { break };
                bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
                assert!(bytes.len() <= limit, "an answer of more than {limit} bytes");
            }
            assert_ne!(code, StatusCode::INTERNAL_SERVER_ERROR, "{}", said(&bytes));
            (code, bytes.into())
        })
    }
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn with_rig<T>(act: impl FnOnce(&Rig) -> T) -> T {
    RIG.with(act)
}

/// The path of a kind's objects in `default`.
fn collection(kind: Kind) -> String {
    let root = match kind.api_version() {
        "v1" => "/api/v1".to_owned(),
        version => format!("/apis/{version}"),
    };
    let namespace = if kind.is_namespaced() { "/namespaces/default" } else { "" };
    // Messages say `deployments.apps`.
    let resource = kind.resource();
    let resource = resource.split('.').next().unwrap_or_default();
    format!("{root}{namespace}/{resource}")
}

/// A kind, a line end, and a body in protobuf, without the magic number.
pub(crate) fn protobuf(input: &[u8]) -> bool {
    let (kind, body) = kind_of(input);
    let body = [b"k8s\0", body].concat();
    let path = format!("{}?dryRun=All&fieldValidation=Ignore", collection(kind));
    with_rig(|rig| {
        let (code, answer) = rig.send(Method::POST, &path, PROTOBUF, body.into());
        let read: Value = serde_json::from_slice(&answer).expect("answers are JSON");
        if code != StatusCode::CREATED {
            assert_eq!(read["kind"], "Status", "{read}");
            return false;
        }
        // What was answered is accepted and answered again.
        let (code, answer) =
            rig.send(Method::POST, &path, JSON, stripped(&read).to_string().into());
        assert_eq!(code, StatusCode::CREATED, "{}", said(&answer));
        let again: Value = serde_json::from_slice(&answer).expect("answers are JSON");
        assert_eq!(stripped(&again), stripped(&read));
        true
    })
}

/// An object without what the server gives it anew.
fn stripped(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|name, _| {
            !["uid", "creationTimestamp", "resourceVersion"].contains(&name.as_str())
        });
        if metadata.contains_key("generateName") {
            metadata.remove("name");
            // A namespace has its name as a label.
            metadata.remove("labels");
        }
    }
    object
}

/// A kind, a line end, a selector of labels, a line end, a selector of the kind's fields.
pub(crate) fn selectors(input: &[u8]) -> bool {
    let (kind, selectors) = kind_of(input);
    let (labels, fields) = first_line(selectors);
    if let Ok(text) = std::str::from_utf8(labels)
        && let Ok(selector) = text.parse::<LabelSelector>()
    {
        let printed = selector.to_string();
        let again: LabelSelector = printed.parse().expect("what is printed can be read");
        assert_eq!(again, selector, "{printed}");
        let empty = StringMap::default();
        assert_eq!(again.matches(&empty), selector.matches(&empty));
    }
    let path = format!("{}?fieldSelector={}", collection(kind), encoded(fields, ""));
    let labelled = format!("/api/v1/configmaps?labelSelector={}", encoded(labels, ""));
    with_rig(|rig| {
        let mut is_taken = true;
        for path in [path, labelled] {
            let (code, answer) = rig.send(Method::GET, &path, JSON, Bytes::new());
            let fine = matches!(code, StatusCode::OK | StatusCode::BAD_REQUEST);
            assert!(fine, "{code}: {}", said(&answer));
            is_taken &= code == StatusCode::OK;
        }
        is_taken
    })
}

/// A kind, a line end, and the query of a list or watch.
pub(crate) fn query(input: &[u8]) -> bool {
    let (kind, query) = kind_of(input);
    // A watch without an end would go on for as long as watches do.
    let path = format!("{}?{}&timeoutSeconds=1", collection(kind), encoded(query, "&=+%,!()"));
    with_rig(|rig| {
        let (code, answer) = rig.send(Method::GET, &path, JSON, Bytes::new());
        let is_known = [200, 400, 410, 422, 504].contains(&code.as_u16());
        assert!(is_known, "{code}: {}", said(&answer));
        if code != StatusCode::OK {
            let status: Value = serde_json::from_slice(&answer).expect("a Status is JSON");
            assert_eq!(status["code"], code.as_u16(), "{status}");
        }
        for line in answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let _: Value = serde_json::from_slice(line).expect("lines are JSON");
        }
        code == StatusCode::OK
    })
}

/// Bytes as a URI may have them; `kept` beside letters and digits are left as they are.
fn encoded(bytes: &[u8], kept: &str) -> String {
    let mut text = String::new();
    for byte in bytes.iter().take(8_192) {
        let character = char::from(*byte);
        if byte.is_ascii_alphanumeric() || "-._~".contains(character) || kept.contains(character) {
            text.push(character);
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
