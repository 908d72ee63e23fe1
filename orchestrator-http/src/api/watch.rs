//! Watches: every change after a revision, one JSON line each, as clients take them.
//!
//! A watch is pulled: it holds a position in the cluster's history and encodes what comes next only when the
//! connection has room. A slow client costs a position, delays nobody, and is told `Expired` when history has moved
//! past it (S6).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use orchestrator_core::driver::{Changes, Compacted};
use orchestrator_core::model::{Key, Object, Revision};
use orchestrator_core::world::{ObjectChange, World};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Api;
use super::encode::{Event, Shape, line};
use super::list::Selection;
use super::metrics::InUse;
use super::permit::Permit;
use crate::body::{self, Body};
use crate::custom;
use crate::negotiate::Format;
use crate::query::ListOptions;
use crate::status::Failure;
use crate::stopping::Stopping;
use crate::table;

/// How long a watch lasts when the client does not say.
const WATCH_SECONDS: u64 = 3_600;
/// How long a watch lasts at most.
const WATCH_SECONDS_MAX: u64 = 24 * 3_600;
/// How often a client that asked for bookmarks gets one.
pub(super) const BOOKMARK_SECONDS: u64 = 60;
/// How many bytes of events are handed over at once.
const CHUNK_BYTES: usize = 32 << 10;

impl Api {
    /// Answers a watch.
    pub(super) async fn watch(
        &self,
        selection: Selection,
        shape: Shape,
        permit: Permit,
    ) -> Result<Response<Body>, Failure> {
        let options = &selection.options;
        let revision = options.revision.unwrap_or(Revision::ZERO);
        let world = self.world_at(revision).await?;
        let from_now = revision == Revision::ZERO || options.initial_events;
        let after = if from_now { world.revision() } else { revision };
        let now = Instant::now();
        let deadline = now + lasts(options);
        let watch = Watch {
            api: self.clone(),
            changes: self.inner.cluster.changes(after),
            initial: from_now.then_some(Initial { world, after: None }),
            selection,
            shape,
            lines: VecDeque::new(),
            columns_sent: false,
            is_done: false,
            permit,
            deadline,
            next_bookmark: now + Duration::from_secs(BOOKMARK_SECONDS),
            stopping: self.inner.stopping.clone(),
            _guard: self.inner.metrics.watcher(),
        };
        let chunks = stream::unfold(watch, |mut watch| async move {
            let chunk = watch.next_chunk().await?;
            Some((chunk, watch))
        });
        Ok(streamed(chunks))
    }
}

/// How long a watch with these options lasts.
pub(super) fn lasts(options: &ListOptions) -> Duration {
    let seconds = options.timeout_seconds.unwrap_or(WATCH_SECONDS).min(WATCH_SECONDS_MAX);
    Duration::from_secs(seconds)
}

/// The answer to a watch.
pub(super) fn streamed(
    chunks: impl futures_util::Stream<Item = Bytes> + Send + 'static,
) -> Response<Body> {
    let mut response = Response::new(body::stream(chunks));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The object of a bookmark: nothing but a revision, in the form of the watch's other objects.
pub(super) fn bookmark(
    format: Format,
    (api_version, kind): (&str, &str),
    revision: Revision,
    ends_initial_events: bool,
) -> Value {
    let mut metadata = json!({ "resourceVersion": revision.to_string() });
    if ends_initial_events {
        metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
    }
    match format {
        Format::Json => json!({ "kind": kind, "apiVersion": api_version, "metadata": metadata }),
        Format::Metadata => json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
        }),
        Format::Table => table::table(&metadata, &Value::Null, Vec::new()),
    }
}

/// The objects there were when the watch began, still to be told.
struct Initial {
    world: World,
    after: Option<Key>,
}

struct Watch {
    api: Api,
    changes: Changes,
    initial: Option<Initial>,
    selection: Selection,
    shape: Shape,
    lines: VecDeque<Bytes>,
    columns_sent: bool,
    is_done: bool,
    permit: Permit,
    deadline: Instant,
    next_bookmark: Instant,
    stopping: Stopping,
    _guard: InUse,
}

impl Watch {
    /// Waits for something to tell; `None` at the end.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        loop {
            self.look();
            self.fill();
            if let Some(chunk) = self.take_chunk() {
                return Some(chunk);
            }
            if self.is_done {
                return None;
            }
            // The history is drained and `lines` is empty.
            let bookmark = self.next_bookmark;
            tokio::select! {
                biased;
                () = self.stopping.wait() => self.is_done = true,
                () = tokio::time::sleep_until(self.deadline) => self.end(),
                () = self.permit.withdrawn() => {}
                () = tokio::time::sleep_until(bookmark), if self.selection.options.bookmarks => {
                    self.next_bookmark = Instant::now() + Duration::from_secs(BOOKMARK_SECONDS);
                    self.push_bookmark(self.changes.position(), false);
                }
                change = self.changes.next() => self.take(change),
            }
        }
    }

    /// Ends the watch when the right to it is withdrawn: nothing is told after that (S39).
    fn look(&mut self) {
        if !self.is_done && !self.permit.holds() {
            let status = self.permit.refusal().to_value().to_string();
            self.lines.push_back(line(Event::Error, status.as_bytes()));
            self.is_done = true;
        }
    }

    /// Ends the watch in good order; its last word is how far it came, for the next one to go on from.
    fn end(&mut self) {
        if self.selection.options.bookmarks {
            self.push_bookmark(self.changes.position(), false);
        }
        self.is_done = true;
    }

    /// Takes what has happened already, up to a chunk.
    fn fill(&mut self) {
        let mut bytes = 0;
        while bytes < CHUNK_BYTES && !self.is_done {
            if self.initial.is_some() {
                self.tell_initial();
            } else {
                match self.changes.try_next().transpose() {
                    Some(change) => self.take(change),
                    None => return,
                }
            }
            bytes = self.lines.iter().map(Bytes::len).sum();
        }
    }

    fn take_chunk(&mut self) -> Option<Bytes> {
        if self.lines.len() <= 1 {
            return self.lines.pop_front();
        }
        let mut chunk = BytesMut::new();
        for line in self.lines.drain(..) {
            chunk.put_slice(&line);
        }
        Some(chunk.freeze())
    }

    /// Tells the next of the objects there were at the beginning.
    fn tell_initial(&mut self) {
        let Some(Initial { world, after }) = &self.initial else { return };
        let next = {
            let mut page = self.selection.page(world, after.as_ref());
            page.next().map(|(key, stored)| (key.clone(), stored.object.clone()))
        };
        let revision = world.revision();
        match next {
            Some((key, object)) => {
                if let Some(initial) = &mut self.initial {
                    initial.after = Some(key);
                }
                let with_columns = !self.columns_sent;
                let object = object.at_version_of(self.selection.kind);
                let encoded = self.api.inner.encoder.shaped(&object, &self.shape, with_columns);
                self.columns_sent = true;
                self.lines.push_back(line(Event::Added, &encoded));
            }
            None => {
                self.initial = None;
                if self.selection.options.initial_events {
                    self.push_bookmark(revision, true);
                }
            }
        }
    }

    fn take(&mut self, change: Result<Arc<ObjectChange>, Compacted>) {
        match change {
            Ok(change) => self.tell(&change),
            Err(Compacted { oldest }) => {
                let position = self.changes.position();
                let message = format!("too old resource version: {position} ({oldest})");
                let status = Failure::expired(message).to_value().to_string();
                self.lines.push_back(line(Event::Error, status.as_bytes()));
                self.is_done = true;
            }
        }
    }

    /// Tells a change as this watch sees it: an object that stops being selected is gone, one that begins is new. What is served
    /// no more is not watched any more.
    fn tell(&mut self, change: &ObjectChange) {
        if custom::ends(&self.api.inner.cluster.world(), change, self.selection.kind) {
            self.is_done = true;
            return;
        }
        let selected = |object: &&Object| self.selection.selects(&change.key, object);
        let before = change.before.as_ref().filter(selected);
        let after = change.after.as_ref().filter(selected);
        let (event, object) = match (before, after) {
            (None, None) => return,
            (None, Some(object)) => (Event::Added, object),
            (Some(_), Some(object)) => (Event::Modified, object),
            (Some(last), None) => (Event::Deleted, last),
        };
        let object = &object.at_version_of(self.selection.kind);
        let (encoder, shape) = (&self.api.inner.encoder, &self.shape);
        let line = encoder.shared_line(change, event, object, shape).unwrap_or_else(|| {
            let with_columns = !self.columns_sent;
            line(event, &encoder.told(change, event, object, shape, with_columns))
        });
        self.columns_sent = true;
        self.lines.push_back(line);
    }

    /// Tells that everything up to a revision has been told (S7). True of the history's position whenever `lines` is
    /// empty: what was taken from it has been handed out.
    fn push_bookmark(&mut self, revision: Revision, ends_initial_events: bool) {
        let kind = self.selection.kind;
        let of = (kind.api_version(), kind.name());
        let object = bookmark(self.shape.format, of, revision, ends_initial_events);
        self.lines.push_back(line(Event::Bookmark, object.to_string().as_bytes()));
    }
}
