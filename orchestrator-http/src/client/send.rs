//! How the client's requests are sent, and answers taken in: limits, turns, errors.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use serde_json::Value;

use super::connect::ResponseBody;
use super::wire::warning_text;
use super::{Client, ClientError, Reply};
use crate::node::AGENT_HEADER;
use crate::query::percent_encode;

/// How long an answer may take to begin.
const ANSWER_SECONDS_MAX: u64 = 90;
/// How often a request that came too soon (429 with `Retry-After`) is sent again.
const RETRIES_MAX: usize = 5;
/// How long the client waits for its turn at most, each time.
const RETRY_SECONDS_MAX: u64 = 30;
/// The most bytes of an answer that is not a stream.
const ANSWER_BYTES_MAX: usize = 256 << 20;

impl Client {
    /// Makes a connection of its own for another protocol.
    pub(crate) async fn upgrade(
        &self,
        path: &str,
        protocol: &'static str,
    ) -> Result<Upgraded, ClientError> {
        let mut request = self.request(Method::POST, path, &[]);
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(protocol));
        let broken = |reason: String| {
            let server = self.server().to_owned();
            ClientError::Broken { server, reason }
        };
        let response = self.in_time(self.connector.send_alone(request)).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return hyper::upgrade::on(response).await.map_err(|error| broken(error.to_string()));
        }
        let code = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        Err(ClientError::from_status(code, &body.map(|body| body.to_bytes()).unwrap_or_default()))
    }

    /// Passes a request on as it is, over a connection of its own.
    pub(crate) async fn pass(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ClientError> {
        self.in_time(self.connector.send_alone(request)).await
    }

    /// Waits until an answer begins, but not for ever.
    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let limit = Duration::from_secs(ANSWER_SECONDS_MAX);
        tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
            let reason = format!("no answer within {ANSWER_SECONDS_MAX} s");
            Err(ClientError::Broken { server: self.server().to_owned(), reason })
        })
    }

    pub(super) fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
    ) -> Request<Full<Bytes>> {
        let mut target = path.to_owned();
        for (index, (name, value)) in query.iter().enumerate() {
            target.push(if index == 0 { '?' } else { '&' });
            target.push_str(name);
            target.push('=');
            target.push_str(&percent_encode(value));
        }
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        *request.uri_mut() = target.parse().expect("paths and queries are encoded");
        let headers = request.headers_mut();
        if let Ok(host) = HeaderValue::from_str(&self.connector.host()) {
            headers.insert(HOST, host);
        }
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if let Some(agent) = &self.agent {
            headers.insert(AGENT_HEADER, agent.clone());
        }
        request
    }

    pub(super) fn with_body(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        media_type: &'static str,
        body: &Value,
    ) -> Request<Full<Bytes>> {
        let mut request = self.request(method, path, query);
        *request.body_mut() = Full::new(body.to_string().into());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        request
    }

    /// Sends a request; what is not a success becomes an error. A server that says in how long it is the client's turn is
    /// asked again then: it has done nothing yet.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<ResponseBody>, ClientError> {
        for _ in 0..RETRIES_MAX {
            let response = self.send_once(request.clone()).await?;
            let Some(later) = retry_after(&response) else { return self.success(response).await };
            tokio::time::sleep(later).await;
        }
        let response = self.send_once(request).await?;
        self.success(response).await
    }

    async fn send_once(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<ResponseBody>, ClientError> {
        self.in_time(self.connector.send(request)).await
    }

    async fn success(
        &self,
        response: Response<ResponseBody>,
    ) -> Result<Response<ResponseBody>, ClientError> {
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status();
        let body = self.collect(response.into_body()).await.unwrap_or_default();
        Err(ClientError::from_status(code, &body))
    }

    pub(super) async fn json(&self, request: Request<Full<Bytes>>) -> Result<Reply, ClientError> {
        let response = self.send(request).await?;
        let created = response.status() == StatusCode::CREATED;
        let warnings = response.headers().get_all("warning").iter().map(warning_text).collect();
        let body = self.collect(response.into_body()).await?;
        let value = serde_json::from_slice(&body).map_err(|error| ClientError::Unexpected {
            server: self.server().to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Reply { value, created, warnings })
    }

    pub(super) async fn collect(&self, body: ResponseBody) -> Result<Bytes, ClientError> {
        let collected = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        collected.map(http_body_util::Collected::to_bytes).map_err(|error| ClientError::Broken {
            server: self.server().to_owned(),
            reason: error.to_string(),
        })
    }
}

/// In how long a refused request may come again, if the server says so.
fn retry_after<B>(response: &Response<B>) -> Option<Duration> {
    if response.status() != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let seconds: u64 = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds.min(RETRY_SECONDS_MAX)))
}
