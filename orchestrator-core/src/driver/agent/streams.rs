//! Logs for the API: finds the run that is meant and lets the runtime read it.

use std::sync::Arc;

use async_trait::async_trait;

use super::tasks::limited;
use crate::model::Uid;
use crate::node::NodeStreams;
use crate::runtime::{ContainerKey, LogOptions, LogStream, Runtime, RuntimeError, Scope};

/// How long finding and opening a log may take, in milliseconds.
const OPEN_TIMEOUT_MS: u64 = 15_000;

/// Serves streams from the pods of a node.
#[derive(Debug)]
pub(super) struct Streams {
    runtime: Arc<dyn Runtime>,
    scope: Scope,
}

impl Streams {
    pub fn new(runtime: Arc<dyn Runtime>, scope: Scope) -> Self {
        Self { runtime, scope }
    }
}

#[async_trait]
impl NodeStreams for Streams {
    async fn logs(
        &self,
        pod: Uid,
        container: &str,
        previous: bool,
        options: &LogOptions,
    ) -> Result<Box<dyn LogStream>, RuntimeError> {
        let list = self.runtime.list(&self.scope);
        let sandboxes = limited("listing pods", OPEN_TIMEOUT_MS, list).await?;
        let of_pod = sandboxes.iter().filter(|sandbox| sandbox.key.pod == pod);
        let runs = of_pod.flat_map(|sandbox| &sandbox.containers);
        let runs = runs.map(|found| &found.key).filter(|key| key.name == container);
        let mut runs: Vec<&ContainerKey> = runs.collect();
        runs.sort_by_key(|key| (key.attempt, key.sandbox.attempt));
        let key = runs.iter().rev().nth(usize::from(previous)).ok_or_else(|| {
            let which = if previous { "a previous run" } else { "a run" };
            RuntimeError::NotFound { what: format!("{which} of container {container:?}") }
        })?;
        let open = self.runtime.logs(key, options);
        limited("opening a log", OPEN_TIMEOUT_MS, open).await
    }
}
