//! `Session`: a program run in a container for somebody at the other end, or a container's own program.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use super::RuntimeError;

/// What is to be run, and how its ends are tied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionOptions {
    /// The program and its arguments; not empty.
    pub command: Vec<String>,
    /// Whether it reads what is sent to it; else its standard input is at its end from the start.
    pub stdin: bool,
    /// Whether it gets a terminal, through which all of its output comes as [`SessionEvent::Stdout`].
    pub terminal: bool,
}

/// What a client that is attached to a container's own program wants of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// Whether it sends input. What it sends a program that has no input, or none any more, is lost.
    pub stdin: bool,
}

/// Both ends of a program that runs. Dropping them ends a program that was run for them, where the runtime can.
#[derive(Debug)]
pub struct Session {
    /// What is sent to it.
    pub input: Box<dyn SessionInput>,
    /// What comes from it.
    pub output: Box<dyn SessionOutput>,
}

/// What comes from a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// It has ended, with this exit code (128 and a signal's number when that ended it). The last event; not told of a
    /// container's own program.
    Exited(i32),
    /// It wrote to standard error.
    Stderr(Bytes),
    /// It wrote to standard output, or to its terminal.
    Stdout(Bytes),
}

/// The end of a session that is written to.
#[async_trait]
pub trait SessionInput: Debug + Send {
    /// Hands bytes to the program's standard input, and waits until they are taken. What a program that has ended or has
    /// closed its input is sent is lost, which is no error.
    async fn write(&mut self, bytes: Bytes) -> Result<(), RuntimeError>;

    /// Ends the program's standard input. A container's own program goes on to have one unless it is for one client only
    /// ([`StandardStreams::stdin_once`](super::StandardStreams)): then this client is not attached any more, and its output ends.
    async fn close(&mut self) -> Result<(), RuntimeError>;

    /// Tells the size of the terminal; nothing without one.
    async fn resize(&mut self, columns: u16, rows: u16) -> Result<(), RuntimeError>;
}

/// The end of a session that is read from.
#[async_trait]
pub trait SessionOutput: Debug + Send {
    /// Waits for what comes next; `None` after the end. Cancel-safe.
    async fn next(&mut self) -> Option<Result<SessionEvent, RuntimeError>>;
}
