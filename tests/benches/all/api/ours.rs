//! Our side: a client that speaks to `orchd` by HTTP/1.1 over TLS, with as little ado as etcd's.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use orchestrator_http::read_kubeconfig;
use rustls::ClientConfig;
use serde_json::{Value, json};

use super::{Op, tls};
use crate::daemon::{Daemon, Failure};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const JSON: &str = "application/json";

/// How a daemon is reached.
pub struct Ours {
    pub daemon: Daemon,
    port: u16,
    tls: Arc<ClientConfig>,
    authorization: Arc<str>,
}

impl Ours {
    pub fn new(daemon: Daemon) -> Result<Self, Failure> {
        let config = read_kubeconfig(&daemon.dir().join("kubeconfig"))?;
        let port = config.server.rsplit(':').next().ok_or("a URL has a port")?.parse()?;
        let tls = tls::config(&config.ca_pem.ok_or("a CA")?, &[b"http/1.1"])?;
        let token = config.token.ok_or("a token")?;
        let authorization = format!("Bearer {}", token.reveal()).into();
        Ok(Self { daemon, port, tls, authorization })
    }

    /// Makes a connection of its own.
    pub async fn connect(&self) -> Result<OurClient, Failure> {
        self.connect_as(&self.authorization).await
    }

    /// Makes a connection of somebody else.
    pub async fn connect_as(&self, authorization: &Arc<str>) -> Result<OurClient, Failure> {
        let stream = TokioIo::new(tls::connect(self.port, &self.tls).await?);
        let (requests, connection) = http1::handshake(stream).await?;
        tokio::spawn(connection);
        Ok(OurClient { requests, authorization: Arc::clone(authorization) })
    }

    /// Makes a service account that may read everything, and returns how it authenticates.
    pub async fn account(&self, name: &str) -> Result<Arc<str>, Failure> {
        let mut client = self.connect().await?;
        let accounts = "/api/v1/namespaces/default/serviceaccounts";
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name },
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": { "name": name },
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view",
            },
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": "default" }],
        });
        let token = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {},
        });
        let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
        client.ask(Method::POST, accounts, JSON, &account).await?;
        client.ask(Method::POST, bindings, JSON, &binding).await?;
        let path = format!("{accounts}/{name}/token");
        let answer = client.ask(Method::POST, &path, JSON, &token).await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        let token = answer["status"]["token"].as_str().ok_or("a token")?;
        Ok(format!("Bearer {token}").into())
    }
}

/// One client of `orchd`.
pub struct OurClient {
    requests: SendRequest<Full<Bytes>>,
    authorization: Arc<str>,
}

/// An object of a few hundred bytes.
fn config_map(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name, "labels": { "app": "bench" } },
        "data": { "settings": "x".repeat(256) },
    })
}

/// A pod that waits for another scheduler than ours: nothing is said of it, so that it is one object as in etcd.
pub fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": "bench", "tier": "web" } },
        "spec": {
            "schedulerName": "another",
            "containers": [{
                "name": "main",
                "image": "registry.example.org/team/web:1.2.3",
                "command": ["/bin/serve"],
                "env": [{ "name": "MODE", "value": "bench" }],
                "ports": [{ "containerPort": 8080 }],
                "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
            }],
        },
    })
}

impl OurClient {
    /// Does what `op` is to us, and returns the answer.
    pub async fn send(&mut self, op: &Op) -> Result<Bytes, Failure> {
        let merge = "application/merge-patch+json";
        match op {
            Op::Create(name) => self.ask(Method::POST, MAPS, JSON, &config_map(name)).await,
            Op::Get(name) => {
                self.ask(Method::GET, &format!("{MAPS}/{name}"), JSON, &Value::Null).await
            }
            Op::List => self.ask(Method::GET, PODS, JSON, &Value::Null).await,
            Op::Patch(name, number) => {
                let patch = json!({ "metadata": { "labels": { "n": number.to_string() } } });
                self.ask(Method::PATCH, &format!("{MAPS}/{name}"), merge, &patch).await
            }
        }
    }

    pub async fn create_pod(&mut self, name: &str) -> Result<(), Failure> {
        self.ask(Method::POST, PODS, JSON, &pod(name)).await.map(|_| ())
    }

    pub async fn get_pod(&mut self, name: &str) -> Result<Bytes, Failure> {
        self.ask(Method::GET, &format!("{PODS}/{name}"), JSON, &Value::Null).await
    }

    /// Watches config maps from now on.
    pub async fn watch(mut self) -> Result<OurWatch, Failure> {
        let list = self.ask(Method::GET, &format!("{MAPS}?limit=1"), "", &Value::Null).await?;
        let list: Value = serde_json::from_slice(&list)?;
        let revision = list["metadata"]["resourceVersion"].as_str().ok_or("a list has one")?;
        let path = format!("{MAPS}?watch=true&resourceVersion={revision}");
        let response = self.request(Method::GET, &path, "", Bytes::new()).await?;
        Ok(OurWatch { body: response.into_body(), _client: self })
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        media_type: &str,
        body: &Value,
    ) -> Result<Bytes, Failure> {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let response = self.request(method, path, media_type, body).await?;
        Ok(response.into_body().collect().await?.to_bytes())
    }

    async fn request(
        &mut self,
        method: Method,
        path: &str,
        media_type: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("authorization", &*self.authorization)
            .header("content-type", media_type)
            .body(Full::new(body))?;
        self.requests.ready().await?;
        let response = self.requests.send_request(request).await?;
        if !response.status().is_success() {
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            return Err(format!("{path}: {status} {}", String::from_utf8_lossy(&body)).into());
        }
        Ok(response)
    }
}

/// A watch of ours.
pub struct OurWatch {
    body: Incoming,
    /// Dropped, it would end the connection.
    _client: OurClient,
}

impl OurWatch {
    /// Waits for events, and counts those that came together: each is a line.
    pub async fn events(&mut self) -> Result<usize, Failure> {
        let frame = self.body.frame().await.ok_or("a watch ended")??;
        let piece = frame.into_data().map_err(|_| "a frame without data")?;
        Ok(piece.iter().filter(|byte| **byte == b'\n').count())
    }
}
