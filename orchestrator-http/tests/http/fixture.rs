//! A cluster in memory without nodes, and requests to its API.

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use orchestrator_core::api::Caller;
use orchestrator_core::driver::Cluster;
use orchestrator_core::mem::MemStore;
use orchestrator_http::{Api, Transport};
use serde_json::{Value, json};

pub struct Fixture {
    pub cluster: Cluster,
    pub api: Api,
}

pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub bytes: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).expect("the answer is JSON")
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Asserts the code and returns the body.
    #[track_caller]
    pub fn expect(&self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", String::from_utf8_lossy(&self.bytes));
        self.json()
    }

    /// Asserts a failure whose Status says so too, and returns its message.
    #[track_caller]
    pub fn refused(&self, code: u16, reason: &str) -> String {
        let status = self.expect(code);
        assert_eq!(status["kind"], "Status");
        assert_eq!(status["status"], "Failure");
        assert_eq!(status["code"], code);
        assert_eq!(status["reason"], reason, "{status}");
        status["message"].as_str().unwrap_or_default().to_owned()
    }
}

pub async fn cluster() -> Cluster {
    Cluster::builder().store(MemStore::new()).start().await.expect("a cluster in memory starts")
}

impl Fixture {
    pub async fn new() -> Self {
        let cluster = cluster().await;
        Self { api: Api::new(cluster.clone()), cluster }
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        self.send_by(Transport::Unix, method, path, headers, body).await
    }

    /// Sends a request of somebody who is known.
    pub async fn send_as(&self, user: &str, method: Method, path: &str, body: &Value) -> Answer {
        let caller = Caller::user(user, []);
        let json = [("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send_by(Transport::Known(caller), method, path, &json, body).await
    }

    pub async fn send_by(
        &self,
        transport: Transport,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a well-formed request");
        let response = self.api.handle(request, transport).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("bodies do not fail").to_bytes();
        Answer { code: parts.status.as_u16(), headers: parts.headers, bytes }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let json = [("content-type", "application/json")];
        self.send(Method::POST, path, &json, body.to_string()).await
    }

    pub async fn patch(&self, path: &str, media_type: &str, body: &str) -> Answer {
        self.send(Method::PATCH, path, &[("content-type", media_type)], body.to_owned()).await
    }

    /// Records a config map in `default` and returns its resourceVersion.
    pub async fn config_map(&self, name: &str, labels: &Value) -> String {
        let map = config_map(name, labels);
        let made = self.post("/api/v1/namespaces/default/configmaps", &map).await.expect(201);
        made["metadata"]["resourceVersion"].as_str().expect("a revision").to_owned()
    }
}

pub const MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub fn config_map(name: &str, labels: &Value) -> Value {
    json!({ "metadata": { "name": name, "labels": labels }, "data": { "a": "b" } })
}

pub fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "main", "image": "nginx:1.27" }] },
            },
        },
    })
}
