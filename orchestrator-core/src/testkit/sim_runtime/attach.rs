//! A client attached to a simulated program, which repeats what it is sent, a terminal's sizes as well, and ends with its
//! input.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::{SimLog, SimRuntime};
use crate::runtime::{
    AttachOptions, ContainerKey, LogLine, LogSource, LogStream, RuntimeError, Session,
    SessionEvent, SessionInput, SessionOutput, StandardStreams,
};

/// Ties a client to the program whose log is followed.
pub(super) fn open(log: SimLog, stdio: StandardStreams, options: AttachOptions) -> Session {
    let (left, has_left) = watch::channel(false);
    let (runtime, key) = (log.runtime.clone(), log.key.clone());
    let gives = options.stdin && stdio.stdin;
    let input = SimAttachedInput { runtime, key, stdio, gives, left };
    let ends_input = gives && stdio.stdin_once && !stdio.terminal;
    let output = SimAttachedOutput { log, ends_input, has_left };
    Session { input: Box::new(input), output: Box::new(output) }
}

#[derive(Debug)]
struct SimAttachedInput {
    runtime: SimRuntime,
    key: ContainerKey,
    stdio: StandardStreams,
    gives: bool,
    /// Told when the client is not attached any more.
    left: watch::Sender<bool>,
}

#[async_trait]
impl SessionInput for SimAttachedInput {
    async fn write(&mut self, bytes: Bytes) -> Result<(), RuntimeError> {
        if self.gives {
            self.runtime.feed(&self.key, bytes);
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), RuntimeError> {
        if self.gives && self.stdio.stdin_once {
            self.runtime.end_input(&self.key);
        } else {
            let _ = self.left.send(true);
        }
        Ok(())
    }

    async fn resize(&mut self, columns: u16, rows: u16) -> Result<(), RuntimeError> {
        if self.stdio.terminal {
            self.runtime.feed(&self.key, format!("{columns}x{rows}\n").into());
        }
        Ok(())
    }
}

#[derive(Debug)]
struct SimAttachedOutput {
    log: SimLog,
    /// Whether the program's input ends with this client.
    ends_input: bool,
    has_left: watch::Receiver<bool>,
}

#[async_trait]
impl SessionOutput for SimAttachedOutput {
    async fn next(&mut self) -> Option<Result<SessionEvent, RuntimeError>> {
        if *self.has_left.borrow() {
            return None;
        }
        tokio::select! {
            biased;
            line = self.log.next() => line.map(|line| line.map(event)),
            // The sender is gone when the client drops its input, and is attached still.
            Ok(_) = self.has_left.wait_for(|left| *left) => None,
        }
    }
}

impl Drop for SimAttachedOutput {
    fn drop(&mut self) {
        if self.ends_input {
            self.log.runtime.end_input(&self.log.key);
        }
    }
}

fn event(line: LogLine) -> SessionEvent {
    match line.stream {
        LogSource::Stderr => SessionEvent::Stderr(line.text),
        LogSource::Stdout => SessionEvent::Stdout(line.text),
    }
}
