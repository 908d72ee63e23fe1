//! etcd as the other side: a process of its own over TLS with fsync as it comes, and a client that speaks its gRPC over HTTP/2.
//!
//! The client is as light as ours: it writes the few messages it needs by hand and looks at answers no closer than it must.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use orchestrator_etcd::{EtcdOptions, EtcdTls};
use rustls::ClientConfig;

use super::{Op, tls};
use crate::daemon::Failure;

/// The first minor version of etcd 3 that counts as current.
const MINOR_MIN: u32 = 6;
/// How long etcd may take to start.
const START_SECONDS_MAX: u64 = 30;
/// The bytes a stream may have under way: a whole list, so that flow control never waits.
const WINDOW_BYTES: u32 = 64 << 20;

/// A running etcd, in a directory of its own.
pub struct Etcd {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
    tls: Arc<ClientConfig>,
    program: String,
}

impl Etcd {
    /// Starts the etcd at `$ORCH_TEST_ETCD`, or the one on the path.
    pub async fn start() -> Result<Self, Failure> {
        let program = std::env::var("ORCH_TEST_ETCD").unwrap_or_else(|_| "etcd".to_owned());
        check_version(&program)?;
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certified = rcgen::generate_simple_self_signed(names)?;
        std::fs::write(dir.path().join("cert.pem"), certified.cert.pem())?;
        std::fs::write(dir.path().join("key.pem"), certified.signing_key.serialize_pem())?;
        let tls = tls::config(&certified.cert.pem(), &[b"h2"])?;
        let (port, child) = spawn(&program, dir.path())?;
        let mut etcd = Self { child, dir, port, tls, program };
        etcd.ready().await?;
        Ok(etcd)
    }

    async fn ready(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(START_SECONDS_MAX) {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("etcd ended with {status}").into());
            }
            // It listens before it answers.
            if let Ok(mut client) = self.connect().await
                && client.send(&Op::Get("none".to_owned()), b"").await.is_ok()
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(format!("etcd does not answer within {START_SECONDS_MAX} s").into())
    }

    /// How a store reaches it.
    pub fn options(&self) -> Result<EtcdOptions, Failure> {
        let mut options = EtcdOptions::new([format!("127.0.0.1:{}", self.port)]);
        let ca_pem = std::fs::read(self.dir.path().join("cert.pem"))?;
        options.tls = Some(EtcdTls { ca_pem, identity: None, server_name: None });
        Ok(options)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes a connection of its own.
    pub async fn connect(&self) -> Result<EtcdClient, Failure> {
        let stream = tls::connect(self.port, &self.tls).await?;
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake::<_, Bytes>(stream)
            .await?;
        tokio::spawn(connection);
        Ok(EtcdClient { requests })
    }

    /// Ends it and starts it anew on what it has stored.
    pub async fn restart(mut self) -> Result<Self, Failure> {
        super::terminate(&mut self.child)?;
        (self.port, self.child) = spawn(&self.program, self.dir.path())?;
        self.ready().await?;
        Ok(self)
    }

    pub fn stop(mut self) -> Result<(), Failure> {
        super::terminate(&mut self.child)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // After a failure; it has been waited for otherwise.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fails unless it is a current etcd.
fn check_version(program: &str) -> Result<(), Failure> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .map_err(|error| format!("{program} cannot be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.lines().find_map(|line| line.strip_prefix("etcd Version: 3."));
    let minor = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    match minor {
        Some(minor) if minor >= MINOR_MIN => Ok(()),
        Some(_) | None => Err(format!("{program} is no etcd 3.{MINOR_MIN} or newer").into()),
    }
}

fn spawn(program: &str, dir: &Path) -> Result<(u16, Child), Failure> {
    // Two ports that are free now; etcd takes no port 0.
    let ports = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0"));
    let mut free = Vec::new();
    for port in &ports {
        free.push(port.as_ref().map_err(|error| error.to_string())?.local_addr()?.port());
    }
    drop(ports);
    let (client, peer) = (free[0], free[1]);
    let (client_url, peer_url) =
        (format!("https://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let child = Command::new(program)
        .args(["--log-level", "error", "--data-dir"])
        .arg(dir.join("data"))
        .arg("--cert-file")
        .arg(dir.join("cert.pem"))
        .arg("--key-file")
        .arg(dir.join("key.pem"))
        .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
        .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
        .arg(format!("--initial-cluster=default={peer_url}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok((client, child))
}

/// One client of etcd.
pub struct EtcdClient {
    requests: SendRequest<Bytes>,
}

impl EtcdClient {
    /// Does what `op` is to etcd, and returns the bytes of the answer.
    pub async fn send(&mut self, op: &Op, value: &[u8]) -> Result<usize, Failure> {
        let (path, message) = match op {
            Op::Create(name) | Op::Patch(name, _) => {
                let mut put = field(1, key(name).as_bytes());
                put.extend_from_slice(&field(2, value));
                ("/etcdserverpb.KV/Put", put)
            }
            Op::Get(name) => ("/etcdserverpb.KV/Range", field(1, key(name).as_bytes())),
            Op::List => {
                let mut range = field(1, b"/pods/");
                range.extend_from_slice(&field(2, b"/pods0"));
                ("/etcdserverpb.KV/Range", range)
            }
        };
        let (mut body, _) = self.call(path, message, true).await?;
        let mut length = 0;
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            length += piece.len();
        }
        check(body.trailers().await?.as_ref())?;
        Ok(length)
    }

    /// Puts a value where there is none, in a transaction.
    pub async fn create(&mut self, name: &str, value: &[u8]) -> Result<(), Failure> {
        let key = key(name);
        // The revision of its last change must be 0, which is how a message says nothing.
        let mut compare = BytesMut::from(&[0x10, 0x02][..]);
        compare.extend_from_slice(&field(3, key.as_bytes()));
        let mut put = field(1, key.as_bytes());
        put.extend_from_slice(&field(2, value));
        let mut txn = field(1, &compare);
        txn.extend_from_slice(&field(2, &field(2, &put)));
        let (mut body, _) = self.call("/etcdserverpb.KV/Txn", txn, true).await?;
        let mut answer = BytesMut::new();
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            answer.extend_from_slice(&piece);
        }
        check(body.trailers().await?.as_ref())?;
        // Field 2 of the answer says that the comparison held.
        match answer.windows(2).any(|pair| pair == [0x10, 0x01]) {
            true => Ok(()),
            false => Err(format!("{name} was there").into()),
        }
    }

    /// Stores a value as one of those that a list gives.
    pub async fn put_listed(&mut self, number: usize, value: &[u8]) -> Result<(), Failure> {
        let mut put = field(1, format!("/pods/p{number:06}").as_bytes());
        put.extend_from_slice(&field(2, value));
        let (mut body, _) = self.call("/etcdserverpb.KV/Put", put, true).await?;
        while let Some(piece) = body.data().await {
            piece?;
        }
        check(body.trailers().await?.as_ref())
    }

    /// Watches everything that [`Op::Create`] makes.
    pub async fn watch(mut self) -> Result<EtcdWatch, Failure> {
        let mut create = field(1, b"/maps/");
        create.extend_from_slice(&field(2, b"/maps0"));
        let (body, requests) =
            self.call("/etcdserverpb.Watch/Watch", field(1, &create), false).await?;
        let mut watch =
            EtcdWatch { body, buffer: BytesMut::new(), _requests: requests, _client: self };
        // Its first message says that it has been made.
        watch.message().await?;
        Ok(watch)
    }

    async fn call(
        &mut self,
        path: &str,
        message: BytesMut,
        is_last: bool,
    ) -> Result<(RecvStream, SendStream<Bytes>), Failure> {
        let request = Request::post(format!("https://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let mut framed = BytesMut::with_capacity(message.len() + 5);
        framed.extend_from_slice(&[0]);
        framed.extend_from_slice(&u32::try_from(message.len())?.to_be_bytes());
        framed.extend_from_slice(&message);
        let (response, mut stream) = self.requests.send_request(request, false)?;
        stream.send_data(framed.freeze(), is_last)?;
        let response = response.await?;
        check(Some(response.headers()))?;
        Ok((response.into_body(), stream))
    }
}

/// Fails when gRPC says so.
fn check(headers: Option<&HeaderMap>) -> Result<(), Failure> {
    match headers.and_then(|headers| headers.get("grpc-status")) {
        Some(status) if status != "0" => {
            let message = headers.and_then(|headers| headers.get("grpc-message"));
            Err(format!("etcd answered {status:?} {message:?}").into())
        }
        Some(_) | None => Ok(()),
    }
}

fn key(name: &str) -> String {
    format!("/maps/{name}")
}

/// A watch of etcd.
pub struct EtcdWatch {
    body: RecvStream,
    buffer: BytesMut,
    /// Ended, they would end the watch.
    _requests: SendStream<Bytes>,
    _client: EtcdClient,
}

impl EtcdWatch {
    /// Waits for events, and counts those that came together.
    pub async fn events(&mut self) -> Result<usize, Failure> {
        let message = self.message().await?;
        // Field 11 of a WatchResponse is repeated, an event each.
        let mut rest = &message[..];
        let mut events = 0;
        while rest.has_remaining() {
            let tag = varint(&mut rest)?;
            let size = varint(&mut rest)?;
            if tag & 7 == 2 {
                events += usize::from(tag >> 3 == 11);
                rest = rest.get(usize::try_from(size)?..).ok_or("a field is cut off")?;
            }
        }
        Ok(events)
    }

    async fn message(&mut self) -> Result<BytesMut, Failure> {
        loop {
            if self.buffer.len() >= 5 {
                let head: [u8; 4] = self.buffer[1..5].try_into()?;
                let length = usize::try_from(u32::from_be_bytes(head))?;
                if self.buffer.len() >= 5 + length {
                    self.buffer.advance(5);
                    return Ok(self.buffer.split_to(length));
                }
            }
            let piece = self.body.data().await.ok_or("etcd ended a watch")??;
            self.body.flow_control().release_capacity(piece.len())?;
            self.buffer.extend_from_slice(&piece);
        }
    }
}

/// A field of bytes.
fn field(number: u8, bytes: &[u8]) -> BytesMut {
    let mut field = BytesMut::with_capacity(bytes.len() + 6);
    field.extend_from_slice(&[number << 3 | 2]);
    let mut length = bytes.len();
    while length >= 0x80 {
        field.extend_from_slice(&[u8::try_from(length & 0x7f).unwrap_or(0) | 0x80]);
        length >>= 7;
    }
    field.extend_from_slice(&[u8::try_from(length).unwrap_or(0)]);
    field.extend_from_slice(bytes);
    field
}

fn varint(rest: &mut &[u8]) -> Result<u64, Failure> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = rest.try_get_u8()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number does not end".into())
}
