//! HTTP/2 on one connection: many requests at a time, and limits against clients that abuse that.
//!
//! Upgrades (exec, attach, port-forward) are HTTP/1.1's: their clients ask for a connection of that kind.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use super::Source;
use super::connection::{Connection, HEAD_BYTES_MAX};
use super::streams::Streams;
use crate::api::Transport;

/// The most streams that a client may have open at a time; Kubernetes' own limit.
const STREAMS_MAX: u32 = 250;
/// The most streams that a client may reset before they were taken in; more end the connection.
const RESETS_PENDING_MAX: usize = 20;
/// The most requests that a client may give up on a connection before they are answered; then it is asked to make a new one.
const RESETS_MAX: usize = 1_000;
/// The most streams that may be reset for a client's own errors; more end the connection.
const ERRORS_MAX: usize = 100;
/// The most bytes of bodies, over all streams, that a client may send before they are read.
const WINDOW_BYTES_MAX: u32 = 1 << 20;
/// The most bytes of a stream's answer that wait for the client.
const SEND_BYTES_MAX: usize = 128 << 10;
/// How often a client that says nothing is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const PING_WITHIN: Duration = Duration::from_secs(20);

impl Connection {
    /// Serves HTTP/2 on a connection to its end.
    pub(super) async fn serve_http2<S>(
        self: Arc<Self>,
        stream: S,
        transport: Transport,
        source: Source,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (streams, resets) = (Streams::new(), Arc::new(Resets::default()));
        let ending = streams.ending();
        let service = {
            let (this, streams, resets) = (Arc::clone(&self), streams.clone(), Arc::clone(&resets));
            service_fn(move |mut request: Request<Incoming>| {
                let (this, streams) = (Arc::clone(&this), streams.clone());
                let transport = transport.clone();
                request.extensions_mut().insert(source);
                let unanswered = Unanswered(Some(Arc::clone(&resets)));
                async move {
                    let response = this.api.handle(request, transport).await;
                    unanswered.answered();
                    Ok::<_, Infallible>(response.map(|body| streams.watched(body)))
                }
            })
        };
        let connection = http2::Builder::new(streams.clone())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
            .max_local_error_reset_streams(ERRORS_MAX)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .initial_connection_window_size(WINDOW_BYTES_MAX)
            .initial_stream_window_size(WINDOW_BYTES_MAX)
            .max_send_buf_size(SEND_BYTES_MAX)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WITHIN)
            .serve_connection(TokioIo::new(self.timed(stream)), service);
        let mut connection = pin!(connection);
        let mut stopping = self.stopping.clone();
        let idle = Duration::from_millis(self.limits.head_ms);
        let stall = Duration::from_millis(self.limits.stall_ms);
        let outcome = tokio::select! {
            outcome = connection.as_mut() => Some(outcome),
            () = stopping.wait() => {
                connection.as_mut().graceful_shutdown();
                Some(connection.await)
            }
            () = resets.too_many.notified() => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(stall, connection).await.ok()
            }
            () = streams.idle_for(idle) => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(stall, connection).await.ok()
            }
            () = streams.stalled_for(stall) => None,
        };
        match outcome {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::debug!(%error, "connection ended"),
            None => tracing::debug!("connection cut off: its client takes too long"),
        }
        ending.end().await;
    }
}

/// How many requests a client gave up before they were answered.
#[derive(Default)]
struct Resets {
    count: AtomicUsize,
    too_many: Notify,
}

/// A request that is a reset when this is dropped.
struct Unanswered(Option<Arc<Resets>>);

impl Unanswered {
    fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(resets) = &self.0
            && resets.count.fetch_add(1, Ordering::Relaxed) == RESETS_MAX
        {
            resets.too_many.notify_one();
        }
    }
}
