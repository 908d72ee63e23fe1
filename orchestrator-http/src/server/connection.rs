//! One connection: handshake, HTTP/1.1, and a graceful end. HTTP/2, when the handshake chose it, is `http2`'s.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::listener::Peer;
use super::timed_io::TimedIo;
use super::{Limits, Source};
use crate::api::{Api, Transport};
use crate::certificate;
use crate::pki::HTTP2;
use crate::stopping::Stopping;
use crate::stream::Takeover;

/// The most bytes of a request's head.
pub(super) const HEAD_BYTES_MAX: usize = 64 << 10;

/// What every connection shares.
pub(super) struct Connection {
    pub(super) api: Api,
    pub(super) limits: Limits,
    pub(super) stopping: Stopping,
}

impl Connection {
    /// Serves a connection to its end.
    pub(super) async fn serve(self: Arc<Self>, peer: Peer) {
        match peer {
            Peer::Tcp(stream, address, tls) => {
                let limit = Duration::from_millis(self.limits.handshake_ms);
                let mut stopping = self.stopping.clone();
                let handshake = tokio::select! {
                    ended = tokio::time::timeout(limit, tls.accept(stream)) => ended,
                    () = stopping.wait() => return,
                };
                match handshake {
                    Ok(Ok(stream)) => {
                        let tls = stream.get_ref().1;
                        let certificate = tls.peer_certificates().and_then(|chain| chain.first());
                        let known = certificate.and_then(|it| certificate::transport(it));
                        let transport = known.unwrap_or(Transport::Tcp);
                        match tls.alpn_protocol() {
                            Some(HTTP2) => {
                                self.serve_http2(stream, transport, Source(address)).await
                            }
                            Some(_) | None => {
                                self.serve_http(stream, transport, Some(Source(address))).await;
                            }
                        }
                    }
                    Ok(Err(error)) => tracing::debug!(%error, "TLS handshake"),
                    Err(_) => tracing::debug!("TLS handshake took too long"),
                }
            }
            Peer::Unix(stream) => self.serve_http(stream, Transport::Unix, None).await,
        }
    }

    /// Bounds the waits of a connection.
    pub(super) fn timed<S>(&self, stream: S) -> TimedIo<S> {
        let first_byte = Duration::from_millis(self.limits.first_byte_ms);
        let stall = Duration::from_millis(self.limits.stall_ms);
        TimedIo::new(stream, first_byte, stall)
    }

    async fn serve_http<S>(&self, stream: S, transport: Transport, source: Option<Source>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(self.timed(stream));
        let taken_over = &Mutex::new(None);
        let transport = &transport;
        let service = service_fn(|mut request: Request<Incoming>| async move {
            if let Some(source) = source {
                request.extensions_mut().insert(source);
            }
            let mut response = self.api.handle(request, transport.clone()).await;
            if let Some(task) = Takeover::take_from(response.extensions_mut()) {
                *taken_over.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
            }
            Ok::<_, Infallible>(response)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(self.limits.head_ms))
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(io, service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let mut stopping = self.stopping.clone();
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = stopping.wait() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "connection ended");
        }
        let task = taken_over.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            tokio::select! { () = task => {}, () = stopping.wait() => {} }
        }
    }
}
