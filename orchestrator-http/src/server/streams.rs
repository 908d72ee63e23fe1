//! The streams of an HTTP/2 connection: a task each, and what tells that a client takes nothing of its answers.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::body::{Body, BrokenOff};

/// The most bytes that are handed to a stream at once: so much of an answer is in its buffer when the client takes nothing.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// The tasks of a connection's streams.
#[derive(Clone)]
pub(super) struct Streams(Arc<Shared>);

struct Shared {
    tasks: Mutex<JoinSet<()>>,
    /// How many tasks have not ended.
    live: watch::Sender<usize>,
    /// Since when the client could have taken a piece of an answer and has not.
    waiting: Mutex<BTreeMap<usize, Instant>>,
    answers: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Streams {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared {
            tasks: Mutex::default(),
            live: watch::Sender::new(0),
            waiting: Mutex::default(),
            answers: AtomicUsize::new(0),
        }))
    }

    /// Waits until there has been no stream for a time. Cancel-safe, but begins anew.
    pub(super) async fn idle_for(&self, time: Duration) {
        let mut live = self.0.live.subscribe();
        // The sender is in `self`.
        while live.wait_for(|live| *live == 0).await.is_ok() {
            tokio::select! {
                _ = live.wait_for(|live| *live > 0) => {}
                () = tokio::time::sleep(time) => return,
            }
        }
    }

    /// Waits until the client has taken nothing of an answer for a time. Cancel-safe.
    pub(super) async fn stalled_for(&self, time: Duration) {
        loop {
            let oldest = lock(&self.0.waiting).values().min().copied();
            let until = oldest.map_or_else(|| Instant::now() + time, |oldest| oldest + time);
            tokio::time::sleep_until(until).await;
            let now = Instant::now();
            if lock(&self.0.waiting).values().any(|since| *since + time <= now) {
                return;
            }
        }
    }

    /// Makes an answer's body tell whether it is taken.
    pub(super) fn watched(&self, body: Body) -> Watched {
        let id = self.0.answers.fetch_add(1, Ordering::Relaxed);
        // Its first piece is asked for when there is room, and a client may give none from the beginning.
        lock(&self.0.waiting).insert(id, Instant::now());
        Watched { body, rest: Bytes::new(), id, streams: self.clone() }
    }

    /// Ends all tasks when it is dropped.
    pub(super) fn ending(&self) -> Ending {
        Ending(self.clone())
    }
}

/// Ends the tasks of a connection with it, however it ends.
pub(super) struct Ending(Streams);

impl Ending {
    /// Ends all tasks, and waits for that.
    pub(super) async fn end(self) {
        let mut tasks = std::mem::take(&mut *lock(&self.0.0.tasks));
        tasks.shutdown().await;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        lock(&self.0.0.tasks).abort_all();
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.live.send_modify(|live| *live += 1);
        let ends = Ends(self.0.live.clone());
        let mut tasks = lock(&self.0.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            stream.await;
            drop(ends);
        });
    }
}

/// Counts a task as ended, however it ends.
struct Ends(watch::Sender<usize>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.send_modify(|live| *live = live.saturating_sub(1));
    }
}

/// A body in pieces that notes when one was handed over: the next is asked for when there is room for it.
pub(super) struct Watched {
    body: Body,
    rest: Bytes,
    id: usize,
    streams: Streams,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = &mut *self;
        lock(&this.streams.0.waiting).remove(&this.id);
        if this.rest.is_empty() {
            match std::task::ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE_BYTES_MAX));
        if !http_body::Body::is_end_stream(this) {
            lock(&this.streams.0.waiting).insert(this.id, Instant::now());
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let inner = self.body.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(inner.lower().saturating_add(rest));
        hint
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        lock(&self.streams.0.waiting).remove(&self.id);
    }
}
