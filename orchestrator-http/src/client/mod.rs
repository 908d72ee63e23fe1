//! The client: requests to a server of this crate (or of Kubernetes, within the profile), with JSON in and out.

mod connect;
mod error;
mod params;
mod pin;
mod send;
mod stream;
mod wire;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Method};
use orchestrator_core::model::{AgentId, Key, Kind};
use serde_json::{Value, json};

use crate::kubeconfig::{ClientConfig, read_kubeconfig};
use crate::pki::Token;
use crate::query::percent_encode;
use crate::upkeep::KeyRotation;
use connect::Connector;
use wire::{collection_path, object_path};

pub use error::{Cause, ClientError};
pub use params::{DeleteParams, LogParams, Selector, WriteParams};
pub use stream::{ByteStream, WatchEvent, WatchStream};

/// How many objects a list asks for at once.
const PAGE: &str = "500";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// The answer to a write.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The object as it is now, or a Status when it is gone.
    pub value: Value,
    /// Whether the object is new.
    pub created: bool,
    /// What the server wants known besides.
    pub warnings: Vec<String>,
}

/// A client of one server. Cloning is cheap; connections are shared.
#[derive(Clone, Debug)]
pub struct Client {
    connector: Arc<Connector>,
    authorization: Option<HeaderValue>,
    /// Which agent speaks, of a node's.
    agent: Option<HeaderValue>,
    namespace: Arc<str>,
}

impl Client {
    /// Makes a client from the current context of a kubeconfig.
    ///
    /// # Errors
    /// [`ClientError::Config`] when the file cannot be used.
    pub fn from_kubeconfig(path: &Path) -> Result<Self, ClientError> {
        let config =
            read_kubeconfig(path).map_err(|error| ClientError::Config(error.to_string()))?;
        Self::from_config(&config)
    }

    /// Makes a client. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ClientError::Config`] when URL, certificate or token cannot be used.
    pub fn from_config(config: &ClientConfig) -> Result<Self, ClientError> {
        let authorization = config.token.as_ref().map(bearer).transpose()?;
        let connector = Arc::new(Connector::new(config)?);
        let namespace = config.namespace.as_str().into();
        Ok(Self { connector, authorization, agent: None, namespace })
    }

    /// Makes a client of a server that shows a root of this SHA-256.
    pub(crate) fn pinned(server: &str, root: &str, token: Token) -> Result<Self, ClientError> {
        let connector = Arc::new(Connector::pinned(server, root)?);
        let authorization = Some(bearer(&token)?);
        Ok(Self { connector, authorization, agent: None, namespace: "".into() })
    }

    /// Says with each request which agent speaks.
    pub(crate) fn speaking_as(self, agent: Option<&AgentId>) -> Self {
        let agent = agent.and_then(|agent| agent.to_string().parse().ok());
        Self { agent, ..self }
    }

    /// The server's URL.
    pub fn server(&self) -> &str {
        self.connector.url()
    }

    /// The namespace that is meant when none is said.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Reads an object.
    ///
    /// # Errors
    /// [`ClientError::is_not_found`] when there is none; else as every request.
    pub async fn get(&self, key: &Key) -> Result<Value, ClientError> {
        self.json(self.request(Method::GET, &object_path(key)?, &[])).await.map(|reply| reply.value)
    }

    /// Lists objects of one namespace, or with `None` of all; every page of them.
    ///
    /// # Errors
    /// As every request.
    pub async fn list(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Result<Value, ClientError> {
        self.pages(kind, namespace, selector, "application/json", "items").await
    }

    /// Lists objects as a Table: the columns the server would show to people.
    ///
    /// # Errors
    /// As every request.
    pub async fn table(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Result<Value, ClientError> {
        self.pages(kind, namespace, selector, TABLE, "rows").await
    }

    async fn pages(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        selector: &Selector,
        accept: &'static str,
        items: &str,
    ) -> Result<Value, ClientError> {
        let path = collection_path(kind, namespace);
        let mut whole: Option<Value> = None;
        let mut resume = String::new();
        loop {
            let mut query = selector.query();
            query.push(("limit", PAGE.to_owned()));
            if !resume.is_empty() {
                query.push(("continue", resume));
            }
            let mut request = self.request(Method::GET, &path, &query);
            request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept));
            let mut page = self.json(request).await?.value;
            let metadata = page.get_mut("metadata").and_then(Value::as_object_mut);
            let next = metadata.and_then(|metadata| {
                metadata.remove("remainingItemCount");
                metadata.remove("continue")
            });
            resume = next.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
            match &mut whole {
                None => whole = Some(page),
                Some(whole) => {
                    let more = page.get_mut(items).map(Value::take);
                    if let (Some(Value::Array(all)), Some(Value::Array(more))) =
                        (whole.get_mut(items), more)
                    {
                        all.extend(more);
                    }
                }
            }
            if let Some(whole) = whole.take_if(|_| resume.is_empty()) {
                return Ok(whole);
            }
        }
    }

    /// Records a new object.
    ///
    /// # Errors
    /// As every request.
    pub async fn create(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        object: &Value,
        params: WriteParams,
    ) -> Result<Reply, ClientError> {
        let path = collection_path(kind, namespace);
        self.json(self.with_body(Method::POST, &path, &params.query(), "application/json", object))
            .await
    }

    /// Replaces an object. Its `resourceVersion`, if it has one, is a precondition.
    ///
    /// # Errors
    /// As every request.
    pub async fn replace(
        &self,
        key: &Key,
        object: &Value,
        params: WriteParams,
    ) -> Result<Reply, ClientError> {
        let path = object_path(key)?;
        self.json(self.with_body(Method::PUT, &path, &params.query(), "application/json", object))
            .await
    }

    /// Applies a manifest: creates the object, or changes what differs; what the last applied manifest had and this
    /// one lacks goes.
    ///
    /// # Errors
    /// As every request.
    pub async fn apply(
        &self,
        key: &Key,
        manifest: &Value,
        params: WriteParams,
    ) -> Result<Reply, ClientError> {
        let media_type = crate::negotiate::THREE_WAY_TYPE;
        let path = object_path(key)?;
        self.json(self.with_body(Method::PATCH, &path, &params.query(), media_type, manifest)).await
    }

    /// Changes an object by an RFC 7386 merge patch.
    ///
    /// # Errors
    /// As every request.
    pub async fn merge(
        &self,
        key: &Key,
        patch: &Value,
        params: WriteParams,
    ) -> Result<Reply, ClientError> {
        let media_type = "application/merge-patch+json";
        let path = object_path(key)?;
        self.json(self.with_body(Method::PATCH, &path, &params.query(), media_type, patch)).await
    }

    /// Sets the number of replicas.
    ///
    /// # Errors
    /// As every request.
    pub async fn scale(&self, key: &Key, replicas: i32) -> Result<Reply, ClientError> {
        let path = format!("{}/scale", object_path(key)?);
        let patch = json!({ "spec": { "replicas": replicas } });
        let media_type = "application/merge-patch+json";
        self.json(self.with_body(Method::PATCH, &path, &[], media_type, &patch)).await
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// [`ClientError::is_not_found`] when there is none; else as every request.
    pub async fn delete(&self, key: &Key, params: &DeleteParams) -> Result<Reply, ClientError> {
        let path = object_path(key)?;
        self.json(self.with_body(Method::DELETE, &path, &[], "application/json", &params.body()))
            .await
    }

    /// Follows what becomes of objects after a revision; with `None` from now, what there is now first.
    ///
    /// # Errors
    /// [`ClientError::is_expired`], here or from the stream, means: list again. Else as every request.
    pub async fn watch(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        selector: &Selector,
        after: Option<&str>,
    ) -> Result<WatchStream, ClientError> {
        self.watch_as(kind, namespace, selector, after, "application/json").await
    }

    /// As [`watch`](Self::watch), each object as a Table of one row.
    ///
    /// # Errors
    /// As [`watch`](Self::watch).
    pub async fn watch_table(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        selector: &Selector,
        after: Option<&str>,
    ) -> Result<WatchStream, ClientError> {
        self.watch_as(kind, namespace, selector, after, TABLE).await
    }

    async fn watch_as(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        selector: &Selector,
        after: Option<&str>,
        accept: &'static str,
    ) -> Result<WatchStream, ClientError> {
        let mut query = selector.query();
        query.push(("watch", "true".to_owned()));
        query.push(("allowWatchBookmarks", "true".to_owned()));
        if let Some(after) = after {
            query.push(("resourceVersion", after.to_owned()));
        }
        let mut request = self.request(Method::GET, &collection_path(kind, namespace), &query);
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept));
        let response = self.send(request).await?;
        let bytes = ByteStream::new(response.into_body(), self.server().to_owned());
        Ok(WatchStream::new(bytes))
    }

    /// Reads the log of a container.
    ///
    /// # Errors
    /// As every request.
    pub async fn logs(&self, pod: &Key, params: &LogParams) -> Result<ByteStream, ClientError> {
        let path = format!("{}/log", object_path(pod)?);
        let response = self.send(self.request(Method::GET, &path, &params.query())).await?;
        Ok(ByteStream::new(response.into_body(), self.server().to_owned()))
    }

    /// Asks where a pod could run, and why not elsewhere.
    ///
    /// # Errors
    /// As every request.
    pub async fn explain(&self, pod: &Key) -> Result<Value, ClientError> {
        let path = format!(
            "/apis/{}/v1/namespaces/{}/pods/{}/explain",
            crate::registry::OWN_GROUP,
            percent_encode(&pod.namespace),
            percent_encode(&pod.name)
        );
        self.json(self.request(Method::GET, &path, &[])).await.map(|reply| reply.value)
    }

    /// Asks for a copy of the server's store: the bytes of a dump.
    ///
    /// # Errors
    /// As every request.
    pub async fn backup(&self) -> Result<ByteStream, ClientError> {
        let path = format!("/apis/{}/v1/backups", crate::registry::OWN_GROUP);
        let response = self.send(self.request(Method::POST, &path, &[])).await?;
        Ok(ByteStream::new(response.into_body(), self.server().to_owned()))
    }

    /// Has the server make a new key for secrets, and seal them all with it.
    ///
    /// # Errors
    /// As every request.
    pub async fn rotate_keys(&self) -> Result<KeyRotation, ClientError> {
        let path = format!("/apis/{}/v1/sealingkeys", crate::registry::OWN_GROUP);
        let value = self.json(self.request(Method::POST, &path, &[])).await?.value;
        serde_json::from_value(value).map_err(|error| ClientError::Unexpected {
            server: self.server().to_owned(),
            reason: error.to_string(),
        })
    }

    /// Asks something that is answered and not stored, such as a review, or for a token of a service account.
    ///
    /// # Errors
    /// As every request.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        let request = self.with_body(Method::POST, checked(path)?, &[], "application/json", body);
        self.json(request).await.map(|reply| reply.value)
    }

    /// Reads whatever is at a path, such as `/metrics`.
    ///
    /// # Errors
    /// As every request.
    pub async fn raw(&self, path: &str) -> Result<Bytes, ClientError> {
        let response = self.send(self.request(Method::GET, checked(path)?, &[])).await?;
        self.collect(response.into_body()).await
    }
}

fn bearer(token: &Token) -> Result<HeaderValue, ClientError> {
    let value = HeaderValue::from_str(&format!("Bearer {}", token.reveal()));
    let mut value = value.map_err(|_| {
        ClientError::Config("the token has characters that no token has".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn checked(path: &str) -> Result<&str, ClientError> {
    match path.parse::<http::uri::PathAndQuery>() {
        Ok(_) if path.starts_with('/') => Ok(path),
        Ok(_) | Err(_) => Err(ClientError::Config(format!("{path:?} is not a path"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_needs_a_server_it_can_trust() {
        let config = |server: &str, ca_pem: Option<&str>| ClientConfig {
            certificate: None,
            server: server.to_owned(),
            ca_pem: ca_pem.map(str::to_owned),
            token: None,
            namespace: "default".to_owned(),
        };
        for (server, ca) in [
            ("http://127.0.0.1:1", None),
            ("https://127.0.0.1:1", None),
            ("https://127.0.0.1:1", Some("nonsense")),
            ("https://127.0.0.1:1/path", Some("nonsense")),
            ("https://", Some("nonsense")),
        ] {
            assert!(Client::from_config(&config(server, ca)).is_err(), "{server}");
        }
        assert!(Client::from_config(&config("unix:///run/orchd.sock", None)).is_ok());
    }
}
