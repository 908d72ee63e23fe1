//! A connection to a port of a pod, as a session.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::driver::network::Connection;
use crate::runtime::{RuntimeError, Session, SessionEvent, SessionInput, SessionOutput};

/// The most bytes that are read at once.
const PIECE_BYTES_MAX: usize = 32 * 1024;

/// Ties a session to a connection.
pub(super) fn session(stream: Box<dyn Connection>) -> Session {
    let (reader, writer) = tokio::io::split(stream);
    Session {
        input: Box::new(Input(writer)),
        output: Box::new(Output { reader, has_ended: false }),
    }
}

#[derive(Debug)]
struct Input(WriteHalf<Box<dyn Connection>>);

#[async_trait]
impl SessionInput for Input {
    async fn write(&mut self, bytes: Bytes) -> Result<(), RuntimeError> {
        // A peer that is gone shows at the other end.
        let _ = self.0.write_all(&bytes).await;
        Ok(())
    }

    async fn close(&mut self) -> Result<(), RuntimeError> {
        let _ = self.0.shutdown().await;
        Ok(())
    }

    async fn resize(&mut self, _columns: u16, _rows: u16) -> Result<(), RuntimeError> {
        Ok(())
    }
}

#[derive(Debug)]
struct Output {
    reader: ReadHalf<Box<dyn Connection>>,
    has_ended: bool,
}

#[async_trait]
impl SessionOutput for Output {
    async fn next(&mut self) -> Option<Result<SessionEvent, RuntimeError>> {
        if self.has_ended {
            return None;
        }
        let mut piece = Vec::with_capacity(PIECE_BYTES_MAX);
        match self.reader.read_buf(&mut piece).await {
            Ok(length) if length > 0 => Some(Ok(SessionEvent::Stdout(piece.into()))),
            Ok(_) => {
                self.has_ended = true;
                Some(Ok(SessionEvent::Exited(0)))
            }
            Err(error) => {
                self.has_ended = true;
                let action = "reading from a pod".to_owned();
                Some(Err(RuntimeError::Backend { action, source: Box::new(error) }))
            }
        }
    }
}
