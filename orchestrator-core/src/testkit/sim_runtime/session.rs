//! A session with a simulated program: it prints its command, repeats what it is sent, and exits with the code that the
//! container's program has for execs.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::runtime::{
    ExecOutcome, RuntimeError, Session, SessionEvent, SessionInput, SessionOptions, SessionOutput,
};

/// How many pieces may be on their way.
const PIECES_MAX: usize = 16;

/// Starts a session.
pub(super) fn open(outcome: ExecOutcome, options: &SessionOptions) -> Session {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let input = SimInput(options.stdin.then_some(sender));
    let first = Some(Bytes::from(format!("{}\n", outcome.output)));
    let output = SimOutput { first, receiver, code: Some(outcome.code) };
    Session { input: Box::new(input), output: Box::new(output) }
}

#[derive(Debug)]
struct SimInput(Option<mpsc::Sender<Bytes>>);

#[async_trait]
impl SessionInput for SimInput {
    async fn write(&mut self, bytes: Bytes) -> Result<(), RuntimeError> {
        if let Some(sender) = &self.0 {
            let _ = sender.send(bytes).await;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), RuntimeError> {
        self.0 = None;
        Ok(())
    }

    async fn resize(&mut self, columns: u16, rows: u16) -> Result<(), RuntimeError> {
        self.write(format!("{columns}x{rows}\n").into()).await
    }
}

#[derive(Debug)]
struct SimOutput {
    first: Option<Bytes>,
    receiver: mpsc::Receiver<Bytes>,
    code: Option<i32>,
}

#[async_trait]
impl SessionOutput for SimOutput {
    async fn next(&mut self) -> Option<Result<SessionEvent, RuntimeError>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(SessionEvent::Stdout(first)));
        }
        match self.receiver.recv().await {
            Some(bytes) => Some(Ok(SessionEvent::Stdout(bytes))),
            None => self.code.take().map(|code| Ok(SessionEvent::Exited(code))),
        }
    }
}
