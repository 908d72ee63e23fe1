//! The tunnel of `kubectl port-forward`: SPDY/3.1 frames in the messages of a WebSocket. Each connection has two streams of one
//! request id: one for its bytes, and one on which we say why there is none.

use std::collections::HashMap;

use bytes::Bytes;
use orchestrator_core::driver::Cluster;
use orchestrator_core::model::Key;
use orchestrator_core::runtime::{Session, SessionEvent, SessionInput, SessionOutput};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::forward::MESSAGES_MAX;
use super::spdy::{self, Frame, Reader, SpdyError, Writer};
use super::websocket::{Receiver, Sender};

/// The most connections at a time through one tunnel.
const CONNECTIONS_MAX: usize = 256;
/// How many pieces to a pod may be on their way, per connection.
const PIECES_MAX: usize = 16;

/// Serves a tunnel until the client goes.
pub(super) async fn serve(cluster: Cluster, pod: Key, mut sender: Sender, mut receiver: Receiver) {
    let (frames, mut outgoing) = mpsc::channel::<Bytes>(MESSAGES_MAX);
    let take_in = async {
        let mut tunnel = Tunnel {
            cluster,
            pod,
            frames,
            reader: Reader::new(),
            writer: Writer::new(),
            errors: HashMap::new(),
            inputs: HashMap::new(),
            tasks: JoinSet::new(),
        };
        while let Some(message) = receiver.next().await {
            match tunnel.take(&message).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return tracing::debug!(%error, "a tunnel ends"),
            }
        }
    };
    let hand_out = async {
        while let Some(frame) = outgoing.recv().await {
            if sender.send(frame).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = take_in => {}, () = hand_out => {} }
    sender.close().await;
}

/// What goes to a pod.
type Input = mpsc::Sender<Bytes>;

struct Tunnel {
    cluster: Cluster,
    pod: Key,
    frames: mpsc::Sender<Bytes>,
    reader: Reader,
    writer: Writer,
    /// The streams for errors, by request id.
    errors: HashMap<String, u32>,
    /// Where the bytes of each stream go. Dropping one ends what the pod is sent.
    inputs: HashMap<u32, Input>,
    tasks: JoinSet<()>,
}

impl Tunnel {
    /// Takes in a message. Returns false when the client says goodbye.
    async fn take(&mut self, message: &[u8]) -> Result<bool, SpdyError> {
        self.reader.feed(message);
        while let Some(frame) = self.reader.next()? {
            match frame {
                Frame::Data { stream, bytes, is_last } => {
                    if let Some(input) = self.inputs.get(&stream).filter(|_| !bytes.is_empty()) {
                        let _ = input.send(bytes).await;
                    }
                    if is_last {
                        self.inputs.remove(&stream);
                    }
                }
                Frame::GoAway => return Ok(false),
                Frame::Other => {}
                Frame::Ping(id) => self.send(spdy::pong(id)).await,
                Frame::Reset(stream) => drop(self.inputs.remove(&stream)),
                Frame::Stream { stream, headers, .. } => self.begin(stream, &headers).await,
            }
        }
        Ok(true)
    }

    async fn send(&self, frame: Bytes) {
        let _ = self.frames.send(frame).await;
    }

    async fn begin(&mut self, stream: u32, headers: &[(String, String)]) {
        let header = |name: &str| {
            let found = headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let reply = self.writer.reply(stream);
        self.send(reply).await;
        let request = header("requestid");
        if header("streamtype") == "error" {
            self.errors.insert(request, stream);
            return;
        }
        while self.tasks.try_join_next().is_some() {}
        let error = self.errors.remove(&request);
        let (input, pieces) = mpsc::channel(PIECES_MAX);
        self.inputs.insert(stream, input);
        let connection = Connection {
            stream,
            error,
            port: header("port").parse().unwrap_or(0),
            frames: self.frames.clone(),
        };
        if self.tasks.len() >= CONNECTIONS_MAX {
            let message = format!("more than {CONNECTIONS_MAX} connections through one tunnel");
            return connection.refuse(&message).await;
        }
        let (cluster, pod) = (self.cluster.clone(), self.pod.clone());
        self.tasks.spawn(async move {
            match cluster.connect(&pod, connection.port).await {
                Ok(session) => connection.carry(session, pieces).await,
                Err(rejection) => connection.refuse(&rejection.to_string()).await,
            }
        });
    }
}

/// One connection through the tunnel.
struct Connection {
    stream: u32,
    error: Option<u32>,
    port: u16,
    frames: mpsc::Sender<Bytes>,
}

impl Connection {
    async fn carry(self, session: Session, pieces: mpsc::Receiver<Bytes>) {
        let Session { input, mut output } = session;
        let hand_out = async {
            while let Some(bytes) = next(&mut *output).await {
                if self.frames.send(spdy::data(self.stream, &bytes, false)).await.is_err() {
                    return;
                }
            }
            let _ = self.frames.send(spdy::data(self.stream, &[], true)).await;
            if let Some(error) = self.error {
                let _ = self.frames.send(spdy::data(error, &[], true)).await;
            }
        };
        tokio::join!(hand_out, take_in(input, pieces));
    }

    /// Says why there is no connection.
    async fn refuse(self, why: &str) {
        let message = format!("error forwarding port {}: {why}", self.port);
        if let Some(error) = self.error {
            let _ = self.frames.send(spdy::data(error, message.as_bytes(), true)).await;
        }
        let _ = self.frames.send(spdy::data(self.stream, &[], true)).await;
    }
}

async fn next(output: &mut dyn SessionOutput) -> Option<Bytes> {
    match output.next().await? {
        Ok(SessionEvent::Stdout(bytes) | SessionEvent::Stderr(bytes)) => Some(bytes),
        Ok(SessionEvent::Exited(_)) | Err(_) => None,
    }
}

async fn take_in(mut input: Box<dyn SessionInput>, mut pieces: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = pieces.recv().await {
        let _ = input.write(bytes).await;
    }
    let _ = input.close().await;
}
