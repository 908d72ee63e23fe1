//! Kinds of which there is nothing: empty lists, watches in which nothing happens, and no writes.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Response, StatusCode};
use serde_json::json;
use tokio::time::Instant;

use super::encode::{Event, line};
use super::list;
use super::permit::Permit;
use super::watch::{self, BOOKMARK_SECONDS};
use super::{Api, Call, json};
use crate::absent::Absent;
use crate::body::Body;
use crate::negotiate::Format;
use crate::query::ListOptions;
use crate::status::Failure;
use crate::table;

impl Api {
    /// Answers a request about a kind of which there is nothing.
    pub(super) async fn absent<B>(
        &self,
        absent: &'static Absent,
        name: Option<String>,
        method: &Method,
        call: Call<B>,
    ) -> Result<Response<Body>, Failure> {
        match (method, name) {
            (&Method::GET, None) => {
                let accept = call.header(http::header::ACCEPT);
                let format = list::shape(&call.query, accept)?.format;
                let options = ListOptions::read_without_fields(&call.query)?;
                self.world_at(options.revision.unwrap_or_default()).await?;
                match options.watch {
                    true => Ok(self.watch_nothing(absent, format, &options, call.permit)),
                    false => Ok(self.list_nothing(absent, format)),
                }
            }
            (&Method::GET | &Method::DELETE, Some(name)) => Err(Failure::absent(absent, &name)),
            _ => Err(Failure::not_implemented(&absent.full_name())),
        }
    }

    fn list_nothing(&self, absent: &Absent, format: Format) -> Response<Body> {
        let revision = self.inner.cluster.world().revision().to_string();
        let metadata = json!({ "resourceVersion": revision });
        let (kind, version) = match format {
            Format::Json => (format!("{}List", absent.kind), absent.api_version()),
            Format::Metadata => {
                ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned())
            }
            Format::Table => {
                let columns = table::columns_of_any();
                return json(StatusCode::OK, &table::table(&metadata, &columns, Vec::new()));
            }
        };
        let list =
            json!({ "kind": kind, "apiVersion": version, "metadata": metadata, "items": [] });
        json(StatusCode::OK, &list)
    }

    fn watch_nothing(
        &self,
        absent: &'static Absent,
        format: Format,
        options: &ListOptions,
        permit: Permit,
    ) -> Response<Body> {
        let now = Instant::now();
        let bookmark = move |api: &Self, ends_initial_events| {
            let revision = api.inner.cluster.world().revision();
            let (version, kind) = (absent.api_version(), absent.kind);
            let object = watch::bookmark(format, (&version, kind), revision, ends_initial_events);
            line(Event::Bookmark, object.to_string().as_bytes())
        };
        let first = options.initial_events.then(|| bookmark(self, true));
        let waiting = Waiting {
            api: self.clone(),
            first,
            bookmarks: options.bookmarks,
            permit,
            deadline: now + watch::lasts(options),
            next_bookmark: now + Duration::from_secs(BOOKMARK_SECONDS),
            is_done: false,
        };
        let guard = self.inner.metrics.watcher();
        watch::streamed(stream::unfold((waiting, guard), move |(mut waiting, guard)| async move {
            let line = waiting.next(|api| bookmark(api, false)).await?;
            Some((line, (waiting, guard)))
        }))
    }
}

/// A watch in which nothing happens.
struct Waiting {
    api: Api,
    first: Option<Bytes>,
    bookmarks: bool,
    permit: Permit,
    deadline: Instant,
    next_bookmark: Instant,
    is_done: bool,
}

impl Waiting {
    /// Waits until there is something to tell; `None` at the end.
    async fn next(&mut self, bookmark: impl Fn(&Api) -> Bytes) -> Option<Bytes> {
        if self.is_done {
            return None;
        }
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let mut stopping = self.api.inner.stopping.clone();
        tokio::select! {
            biased;
            () = stopping.wait() => None,
            () = tokio::time::sleep_until(self.deadline) => {
                self.is_done = true;
                self.bookmarks.then(|| bookmark(&self.api))
            }
            () = self.permit.withdrawn() => {
                self.is_done = true;
                let status = self.permit.refusal().to_value().to_string();
                Some(line(Event::Error, status.as_bytes()))
            }
            () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                self.next_bookmark = Instant::now() + Duration::from_secs(BOOKMARK_SECONDS);
                Some(bookmark(&self.api))
            }
        }
    }
}
