//! The trait `NodeStreams`: what the API asks of a node's agent directly, past the store.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::model::Uid;
use crate::runtime::{LogOptions, LogStream, RuntimeError};

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
}
