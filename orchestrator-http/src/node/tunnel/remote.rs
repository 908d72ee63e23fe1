//! The server's end: the streams of a node as they are reached through its tunnel.

use std::convert::Infallible;
use std::future::Future;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use http::Request;
use http_body::Frame;
use http_body_util::BodyExt as _;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use orchestrator_core::model::Uid;
use orchestrator_core::node::NodeStreams;
use orchestrator_core::runtime::{
    AttachOptions, LogLine, LogOptions, LogStream, RuntimeError, Session, SessionEvent,
    SessionInput, SessionOptions, SessionOutput,
};
use tokio::sync::mpsc;

use super::frame::{self, Frames, Kind, Open, Trouble};
use super::{PING_EVERY, PONG_WITHIN};

/// How many pieces for a program's input wait to be sent; who sends more waits.
const INPUT_FRAMES_MAX: usize = 8;

type RequestBody = UnsyncBoxBody<Bytes, Infallible>;

/// The streams of a node whose agent has opened a tunnel. Cloning is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    send: SendRequest<RequestBody>,
}

impl Remote {
    /// Takes a connection over on which the agent answers; returns the streams, and what drives the connection to its end.
    ///
    /// # Errors
    /// When the agent does not speak as it should.
    pub(crate) async fn new<T>(
        connection: T,
    ) -> Result<(Self, impl Future<Output = Result<(), hyper::Error>>), hyper::Error>
    where
        T: Read + Write + Unpin + Send + 'static,
    {
        let (send, driven) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_WITHIN)
            .keep_alive_while_idle(true)
            .handshake(connection)
            .await?;
        Ok((Self { send }, driven))
    }

    /// Asks for a stream; returns what is sent on it, and what comes from it.
    async fn open(&self, asked: &Open) -> Result<(Input, Frames), RuntimeError> {
        let (sender, mut receiver) = mpsc::channel(INPUT_FRAMES_MAX);
        let first = frame::opening(asked);
        let rest = stream::poll_fn(move |cx| receiver.poll_recv(cx));
        let frames = futures_util::StreamExt::chain(stream::iter([first]), rest);
        let frames = futures_util::StreamExt::map(frames, |bytes| Ok(Frame::data(bytes)));
        let request = Request::new(StreamBody::new(frames).boxed_unsync());
        let mut send = self.send.clone();
        let gone = |error: hyper::Error| RuntimeError::Unreachable(Box::new(error));
        send.ready().await.map_err(gone)?;
        let response = send.send_request(request).await.map_err(gone)?;
        let mut frames = Frames::new(response.into_body());
        match frames.next().await {
            Some(Ok((Kind::Opened, _))) => Ok((Input(sender), frames)),
            Some(Ok((kind, content))) => Err(ended(kind, &content)),
            Some(Err(error)) => Err(RuntimeError::Unreachable(error.into())),
            None => Err(RuntimeError::Unreachable("the node said nothing".into())),
        }
    }

    async fn carried(&self, asked: &Open) -> Result<Session, RuntimeError> {
        let (input, frames) = self.open(asked).await?;
        Ok(Session { input: Box::new(input), output: Box::new(Output(Some(frames))) })
    }
}

/// What a frame comes to with which a stream ends that should go on.
fn ended(kind: Kind, content: &[u8]) -> RuntimeError {
    match serde_json::from_slice::<Trouble>(content) {
        Ok(trouble) if kind == Kind::Failed => trouble.into_error(),
        _ => RuntimeError::Unreachable(format!("the node answers with {kind:?}").into()),
    }
}

#[async_trait]
impl NodeStreams for Remote {
    async fn logs(
        &self,
        pod: Uid,
        container: &str,
        previous: bool,
        options: &LogOptions,
    ) -> Result<Box<dyn LogStream>, RuntimeError> {
        let asked = Open::logs(pod, container, previous, options);
        let (input, frames) = self.open(&asked).await?;
        Ok(Box::new(Log { frames: Some(frames), _input: input }))
    }

    async fn session(
        &self,
        pod: Uid,
        container: &str,
        options: &SessionOptions,
    ) -> Result<Session, RuntimeError> {
        self.carried(&Open::session(pod, container, options)).await
    }

    async fn attach(
        &self,
        pod: Uid,
        container: &str,
        options: &AttachOptions,
    ) -> Result<Session, RuntimeError> {
        let (container, stdin) = (container.to_owned(), options.stdin);
        self.carried(&Open::Attach { pod, container, stdin }).await
    }

    async fn connect(&self, pod: Uid, port: u16) -> Result<Session, RuntimeError> {
        self.carried(&Open::Connect { pod, port }).await
    }
}

/// The request's end of a stream.
#[derive(Debug)]
struct Input(mpsc::Sender<Bytes>);

impl Input {
    async fn send(&self, frame: Bytes) -> Result<(), RuntimeError> {
        // Nobody takes it any more: what a program that has ended is sent is lost, which is no error.
        let _ = self.0.send(frame).await;
        Ok(())
    }
}

#[async_trait]
impl SessionInput for Input {
    async fn write(&mut self, bytes: Bytes) -> Result<(), RuntimeError> {
        self.send(frame::frame(Kind::Input, &bytes)).await
    }

    async fn close(&mut self) -> Result<(), RuntimeError> {
        self.send(frame::frame(Kind::Close, b"")).await
    }

    async fn resize(&mut self, columns: u16, rows: u16) -> Result<(), RuntimeError> {
        self.send(frame::size(columns, rows)).await
    }
}

/// What comes from a program; `None` after its end.
#[derive(Debug)]
struct Output(Option<Frames>);

#[async_trait]
impl SessionOutput for Output {
    async fn next(&mut self) -> Option<Result<SessionEvent, RuntimeError>> {
        let event = match self.0.as_mut()?.next().await {
            Some(Ok((Kind::Stdout, bytes))) => return Some(Ok(SessionEvent::Stdout(bytes))),
            Some(Ok((Kind::Stderr, bytes))) => return Some(Ok(SessionEvent::Stderr(bytes))),
            Some(Ok((Kind::Exited, bytes))) => match bytes.as_ref().try_into() {
                Ok(code) => Ok(SessionEvent::Exited(i32::from_be_bytes(code))),
                Err(_) => Err(ended(Kind::Exited, &bytes)),
            },
            Some(Ok((kind, content))) => Err(ended(kind, &content)),
            Some(Err(error)) => Err(RuntimeError::Unreachable(error.into())),
            None => {
                self.0 = None;
                return None;
            }
        };
        self.0 = None;
        Some(event)
    }
}

/// A log; `None` after its end. The request is kept open as long: its end would look like a client's that is gone.
#[derive(Debug)]
struct Log {
    frames: Option<Frames>,
    _input: Input,
}

#[async_trait]
impl LogStream for Log {
    async fn next(&mut self) -> Option<Result<LogLine, RuntimeError>> {
        let error = match self.frames.as_mut()?.next().await {
            Some(Ok((Kind::Line, content))) => match frame::read_line(content) {
                Some(line) => return Some(Ok(line)),
                None => ended(Kind::Line, b""),
            },
            Some(Ok((kind, content))) => ended(kind, &content),
            Some(Err(error)) => RuntimeError::Unreachable(error.into()),
            None => {
                self.frames = None;
                return None;
            }
        };
        self.frames = None;
        Some(Err(error))
    }
}
