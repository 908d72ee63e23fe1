//! The agent's end: opens the tunnel and answers what the server asks.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use orchestrator_core::model::Time;
use orchestrator_core::node::NodeStreams;
use orchestrator_core::runtime::{
    AttachOptions, LogOptions, LogStream, RuntimeError, Session, SessionInput, SessionOptions,
    SessionOutput,
};
use tokio::task::AbortHandle;

use super::frame::{self, Frames, Kind, Open};
use super::{PING_EVERY, PONG_WITHIN, PROTOCOL};
use crate::body::{self, Body};
use crate::client::ClientError;
use crate::node::{HttpLink, NodeCall};

/// Opens a tunnel to the server and lets it reach the streams of the node through it, until it ends: the server stops, or does
/// not answer any more. Dropping the future ends it.
///
/// # Errors
/// [`ClientError`] when the server cannot be reached or refuses.
pub async fn serve_streams(
    link: &HttpLink,
    streams: Arc<dyn NodeStreams>,
) -> Result<(), ClientError> {
    let path = NodeCall::Tunnel.path(link.node());
    let upgraded = link.client().upgrade(&path, PROTOCOL).await?;
    let service = service_fn(move |request: Request<Incoming>| {
        let streams = Arc::clone(&streams);
        async move { Ok::<_, Infallible>(answer(&*streams, request.into_body()).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .serve_connection(upgraded, service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "the tunnel ended");
    }
    Ok(())
}

/// Does what the first frame asks for; the frames of the answer follow as they come.
async fn answer(streams: &dyn NodeStreams, body: Incoming) -> Response<Body> {
    let mut frames = Frames::new(body);
    let asked = match frames.next().await {
        Some(Ok((Kind::Open, asked))) => serde_json::from_slice::<Open>(&asked).ok(),
        _ => None,
    };
    let opened = match asked {
        Some(asked) => open(streams, asked, frames).await,
        None => Err(RuntimeError::Invalid {
            message:
                "this agent does not know what is asked of it; it may be older than the server"
                    .to_owned(),
        }),
    };
    Response::new(opened.unwrap_or_else(|error| body::full(frame::failure(&error))))
}

async fn open(
    streams: &dyn NodeStreams,
    asked: Open,
    frames: Frames,
) -> Result<Body, RuntimeError> {
    match asked {
        Open::Attach { pod, container, stdin } => {
            let options = AttachOptions { stdin };
            Ok(carried(streams.attach(pod, &container, &options).await?, frames))
        }
        Open::Connect { pod, port } => Ok(carried(streams.connect(pod, port).await?, frames)),
        Open::Logs { pod, container, previous, follow, tail_lines, since } => {
            let since = since.map(Time::from_seconds);
            let options = LogOptions { follow, tail_lines, since };
            Ok(told(streams.logs(pod, &container, previous, &options).await?))
        }
        Open::Session { pod, container, command, stdin, terminal } => {
            let options = SessionOptions { command, stdin, terminal };
            Ok(carried(streams.session(pod, &container, &options).await?, frames))
        }
    }
}

fn opened() -> Bytes {
    frame::frame(Kind::Opened, b"")
}

/// A log as frames.
fn told(log: Box<dyn LogStream>) -> Body {
    let lines = stream::unfold(Some(log), |log| async move {
        let mut log = log?;
        match log.next().await? {
            Ok(line) => Some((frame::line(&line), Some(log))),
            Err(error) => Some((frame::failure(&error), None)),
        }
    });
    body::stream(futures_util::StreamExt::chain(stream::iter([opened()]), lines))
}

/// A task that ends with what it belongs to.
struct Ends(AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A session as frames; what comes is handed to its input meanwhile.
fn carried(session: Session, frames: Frames) -> Body {
    let Session { input, output } = session;
    let taking_in = Ends(tokio::spawn(take_in(input, frames)).abort_handle());
    let held = Some((output, taking_in));
    let events = stream::unfold(held, |held: Option<(Box<dyn SessionOutput>, Ends)>| async move {
        let (mut output, taking_in) = held?;
        match output.next().await? {
            Ok(event) => Some((frame::event(&event), Some((output, taking_in)))),
            Err(error) => Some((frame::failure(&error), None)),
        }
    });
    body::stream(futures_util::StreamExt::chain(stream::iter([opened()]), events))
}

/// Hands on what is sent, until the server sends no more; a program that is to read on is not told of that.
async fn take_in(mut input: Box<dyn SessionInput>, mut frames: Frames) {
    while let Some(Ok((kind, content))) = frames.next().await {
        let taken = match kind {
            Kind::Input => input.write(content).await,
            Kind::Close => input.close().await,
            Kind::Resize => match frame::read_size(&content) {
                Some((columns, rows)) => input.resize(columns, rows).await,
                None => Ok(()),
            },
            _ => Ok(()),
        };
        if let Err(error) = taken {
            tracing::debug!(%error, "a program does not take what it is sent");
        }
    }
    // The input goes with the session, not before its end.
    std::future::pending::<()>().await;
}
