//! Attaching to a container's own command: messages to and from its supervisor, through the socket `attach` in the
//! container's directory. `attach.c` says which messages there are.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use orchestrator_core::runtime::{
    AttachOptions, RuntimeError, Session, SessionEvent, SessionInput, SessionOutput,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::container::Container;
use crate::error::{Result, backend, if_present, invalid};
use crate::record::ContainerRecord;

/// The most input of one message, in bytes.
const INPUT_BYTES_MAX: usize = 2 * 1024;
/// The most bytes of a message that are read.
const MESSAGE_BYTES_MAX: usize = 32 * 1024;
/// What a supervisor says that speaks as we do.
const HELLO: &[u8] = b"h1";
/// What it says when it has as many clients as it can.
const BUSY: &[u8] = b"b";

/// Attaches a client; `label` names the container in errors.
pub(crate) async fn open(
    container: &Container,
    label: &str,
    record: &ContainerRecord,
    options: AttachOptions,
) -> Result<Session> {
    let action = || format!("attach to container {label}");
    let found = if_present(Connection::open(container)).map_err(|it| backend(action(), it))?;
    let connection = found.ok_or_else(|| {
        invalid(format!(
            "container {label} was started by an earlier version, to which nobody can attach"
        ))
    })?;
    let hello = connection.receive().await.map_err(|error| backend(action(), error))?;
    match hello.as_deref() {
        Some(HELLO) => {}
        Some(BUSY) => {
            return Err(invalid(format!(
                "as many clients are attached to container {label} as can be"
            )));
        }
        // It ends just now.
        None => return Err(crate::error::not_found(format!("running container {label}"))),
        Some(other) => {
            let other = String::from_utf8_lossy(other);
            return Err(invalid(format!(
                "container {label} was started by another version, which says {other:?}"
            )));
        }
    }
    let gives = options.stdin && record.stdio.stdin;
    let connection = Arc::new(connection);
    if gives {
        connection.tell(b'i', &[]).await;
    }
    let input = AttachedInput { connection: Arc::clone(&connection), gives };
    let output = AttachedOutput { connection, has_ended: false };
    Ok(Session { input: Box::new(input), output: Box::new(output) })
}

/// A connection to a supervisor. Not read and written as the stream that its type says it is: it keeps messages apart.
#[derive(Debug)]
struct Connection(UnixStream);

impl Connection {
    fn open(container: &Container) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        // By way of a descriptor: the path itself may be longer than an address can be.
        let dir = File::open(&container.dir)?;
        let path = format!("/proc/self/fd/{}/attach", dir.as_raw_fd());
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self(UnixStream::from_std(StdUnixStream::from(socket))?))
    }

    /// Sends a message, and waits until there is room for it. One to a supervisor that is gone is lost: that shows at the
    /// other end. Not cancel-safe.
    async fn tell(&self, kind: u8, bytes: &[u8]) {
        let message = [&[kind], bytes].concat();
        while self.0.writable().await.is_ok() {
            let send = || Ok(send(&self.0, &message, SendFlags::NOSIGNAL)?);
            match self.0.try_io(Interest::WRITABLE, send) {
                Err(error) if is_untimely(&error) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Waits for a message; `None` at the end. Cancel-safe.
    async fn receive(&self) -> io::Result<Option<Bytes>> {
        let mut message = vec![0; MESSAGE_BYTES_MAX];
        loop {
            self.0.readable().await?;
            let receive = || Ok(recv(&self.0, message.as_mut_slice(), RecvFlags::empty())?.0);
            match self.0.try_io(Interest::READABLE, receive) {
                Ok(0) => return Ok(None),
                Ok(length) => {
                    message.truncate(length);
                    return Ok(Some(message.into()));
                }
                // A reset comes before what was sent until then.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Err(error) if is_untimely(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn is_untimely(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[derive(Debug)]
struct AttachedInput {
    connection: Arc<Connection>,
    gives: bool,
}

#[async_trait]
impl SessionInput for AttachedInput {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if self.gives {
            for piece in bytes.chunks(INPUT_BYTES_MAX) {
                self.connection.tell(b'i', piece).await;
            }
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        if self.gives {
            self.connection.tell(b'e', &[]).await;
        }
        Ok(())
    }

    async fn resize(&mut self, columns: u16, rows: u16) -> Result<()> {
        let size = [columns.to_be_bytes(), rows.to_be_bytes()].concat();
        self.connection.tell(b's', &size).await;
        Ok(())
    }
}

#[derive(Debug)]
struct AttachedOutput {
    connection: Arc<Connection>,
    has_ended: bool,
}

#[async_trait]
impl SessionOutput for AttachedOutput {
    async fn next(&mut self) -> Option<std::result::Result<SessionEvent, RuntimeError>> {
        while !self.has_ended {
            match self.connection.receive().await {
                Ok(Some(message)) => match message.first() {
                    Some(b'e') => return Some(Ok(SessionEvent::Stderr(message.slice(1..)))),
                    Some(b'o') => return Some(Ok(SessionEvent::Stdout(message.slice(1..)))),
                    Some(_) | None => {}
                },
                Ok(None) => self.has_ended = true,
                Err(error) => {
                    self.has_ended = true;
                    return Some(Err(backend("read what a program prints", error)));
                }
            }
        }
        None
    }
}
