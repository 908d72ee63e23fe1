//! Answers: bodies with their media types.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use http::{HeaderValue, Response, StatusCode};
use orchestrator_core::world::World;
use serde_json::Value;

use crate::body::{self, Body};
use crate::custom;
use crate::discovery;
use crate::openapi;

pub(super) fn typed(media_type: &'static str, content: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(content));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// Leaves of an answer what comes before its body: HTTP/2 has nobody else who knows that a HEAD was asked.
pub(super) fn without_body(response: &mut Response<Body>) {
    let bytes = http_body::Body::size_hint(response.body()).exact();
    *response.body_mut() = body::full(Bytes::new());
    if let Some(bytes) = bytes {
        response.headers_mut().insert(CONTENT_LENGTH, bytes.into());
    }
}

pub(super) fn plain(text: impl Into<Bytes>) -> Response<Body> {
    typed("text/plain; charset=utf-8", text)
}

pub(super) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = typed("application/json", value.to_string());
    *response.status_mut() = status;
    response
}

pub(super) fn openapi_document(document: &openapi::Document) -> Response<Body> {
    let mut response = typed("application/json", document.content.clone());
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", document.hash)) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

pub(super) fn aggregated(world: &World, version: &'static str, core: bool) -> Response<Body> {
    // A client that asked for this form reads anything else as an empty list.
    let media_type = match version {
        "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    };
    let mut document = discovery::aggregated(version, core);
    if !core {
        custom::add_aggregated(world, &mut document);
    }
    typed(media_type, document.to_string())
}
