//! The trait `NodeStreams`: what the API asks of a node's agent directly, past the store.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::model::Uid;
use crate::runtime::{AttachOptions, LogOptions, LogStream, RuntimeError, Session, SessionOptions};

/// Streams from the pods of one node.
#[async_trait]
pub trait NodeStreams: Debug + Send + Sync + 'static {
    /// Reads the log of a container's newest run, or with `previous` of the run before it.
    ///
    /// # Errors
    /// [`RuntimeError::NotFound`] when there is no such run (any more).
    async fn logs(
        &self,
        pod: Uid,
        container: &str,
        previous: bool,
        options: &LogOptions,
    ) -> Result<Box<dyn LogStream>, RuntimeError>;

    /// Runs a program in a running container.
    ///
    /// # Errors
    /// As [`Runtime::session`](crate::runtime::Runtime::session).
    async fn session(
        &self,
        pod: Uid,
        container: &str,
        options: &SessionOptions,
    ) -> Result<Session, RuntimeError>;

    /// Ties a client to the program of a running container.
    ///
    /// # Errors
    /// As [`Runtime::attach`](crate::runtime::Runtime::attach).
    async fn attach(
        &self,
        pod: Uid,
        container: &str,
        options: &AttachOptions,
    ) -> Result<Session, RuntimeError>;

    /// Connects to a port of a pod: what is written to the session's input arrives there, and what comes from there is
    /// its standard output; its exit is the end of the connection.
    ///
    /// # Errors
    /// [`RuntimeError::NotFound`] when the pod does not run, `Invalid` when nobody listens.
    async fn connect(&self, pod: Uid, port: u16) -> Result<Session, RuntimeError>;
}
