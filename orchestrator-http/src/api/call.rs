//! `Call`: a request whose path is understood.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use orchestrator_core::api::{Caller, WriteOptions};
use orchestrator_core::model::Uid;

use super::permit::Permit;
use crate::body;
use crate::negotiate::{self, BodyFormat};
use crate::query::Query;
use crate::status::Failure;

/// A request whose path is understood and whose body is still to come.
pub(super) struct Call<B> {
    pub(super) parts: Parts,
    pub(super) query: Query,
    pub(super) body: B,
    pub(super) caller: Caller,
    /// The uid of the node that calls, if one does.
    pub(super) node: Option<Uid>,
    pub(super) permit: Permit,
}

impl<B> Call<B> {
    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        text(&self.parts.headers, name)
    }

    pub(super) fn write_options(&self) -> Result<WriteOptions, Failure> {
        self.query.write_options(self.header(USER_AGENT))
    }
}

/// A request to write whose body has come.
pub(super) struct Received {
    pub(super) query: Query,
    pub(super) options: WriteOptions,
    pub(super) format: BodyFormat,
    pub(super) bytes: Bytes,
    pub(super) caller: Caller,
}

impl<B> Call<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    /// Reads how to write, and what is sent along.
    pub(super) async fn receive(self) -> Result<Received, Failure> {
        let options = self.write_options()?;
        let format = negotiate::object_body(text(&self.parts.headers, CONTENT_TYPE));
        let bytes = body::read(self.body).await?;
        // Nothing is of no type.
        let format = if bytes.is_empty() { BodyFormat::Json } else { format? };
        Ok(Received { query: self.query, options, format, bytes, caller: self.caller })
    }
}

pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
