//! Streams for the API: logs, programs and connections of pods.

use std::sync::Arc;
use std::time::Duration;

use super::connection;
use super::tasks::limited;
use crate::driver::network::PodNetwork;
use crate::model::Uid;
use crate::node::NodeStreams;
use crate::runtime::{
    AttachOptions, ContainerKey, ContainerRunState, LogOptions, LogStream, Runtime, RuntimeError,
    SandboxObservation, Scope, Session, SessionOptions,
};
use async_trait::async_trait;

/// How long finding and opening a log may take, in milliseconds.
const OPEN_TIMEOUT_MS: u64 = 15_000;
/// How long a connection to a port of a pod may take to come about, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 5_000;

/// Serves streams from the pods of a node.
#[derive(Debug)]
pub(super) struct Streams {
    runtime: Arc<dyn Runtime>,
    scope: Scope,
    network: Arc<dyn PodNetwork>,
}

impl Streams {
    pub fn new(runtime: Arc<dyn Runtime>, scope: Scope, network: Arc<dyn PodNetwork>) -> Self {
        Self { runtime, scope, network }
    }

    async fn sandboxes(&self, pod: Uid) -> Result<Vec<SandboxObservation>, RuntimeError> {
        let list = self.runtime.list(&self.scope);
        let mut sandboxes = limited("listing pods", OPEN_TIMEOUT_MS, list).await?;
        sandboxes.retain(|sandbox| sandbox.key.pod == pod);
        Ok(sandboxes)
    }

    /// Finds the newest run of a container that runs.
    async fn running(&self, pod: Uid, container: &str) -> Result<ContainerKey, RuntimeError> {
        let sandboxes = self.sandboxes(pod).await?;
        let containers = sandboxes.into_iter().flat_map(|sandbox| sandbox.containers);
        let running = containers.filter(|found| {
            found.key.name == container && matches!(found.state, ContainerRunState::Running { .. })
        });
        let found = running.max_by_key(|found| found.key.attempt);
        found.map(|found| found.key).ok_or_else(|| RuntimeError::NotFound {
            what: format!("a running container {container:?}"),
        })
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
        let sandboxes = self.sandboxes(pod).await?;
        let runs = sandboxes.iter().flat_map(|sandbox| &sandbox.containers);
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

    async fn session(
        &self,
        pod: Uid,
        container: &str,
        options: &SessionOptions,
    ) -> Result<Session, RuntimeError> {
        let key = self.running(pod, container).await?;
        let open = self.runtime.session(&key, options);
        limited("starting a program", OPEN_TIMEOUT_MS, open).await
    }

    async fn attach(
        &self,
        pod: Uid,
        container: &str,
        options: &AttachOptions,
    ) -> Result<Session, RuntimeError> {
        let key = self.running(pod, container).await?;
        let open = self.runtime.attach(&key, options);
        limited("attaching to a program", OPEN_TIMEOUT_MS, open).await
    }

    async fn connect(&self, pod: Uid, port: u16) -> Result<Session, RuntimeError> {
        let sandboxes = self.sandboxes(pod).await?;
        let ready = sandboxes.iter().filter(|sandbox| sandbox.ready);
        let ip = ready.max_by_key(|sandbox| sandbox.key.attempt).and_then(|sandbox| sandbox.ip);
        let ip =
            ip.ok_or_else(|| RuntimeError::NotFound { what: "an address of the pod".to_owned() })?;
        let ip = ip.to_string();
        let connecting = self.network.connect(&ip, port);
        let limit = Duration::from_millis(CONNECT_TIMEOUT_MS);
        match tokio::time::timeout(limit, connecting).await {
            Ok(Ok(stream)) => Ok(connection::session(stream)),
            Ok(Err(error)) => Err(RuntimeError::Invalid {
                message: format!("nobody answers at port {port} of the pod: {error}"),
            }),
            Err(_) => Err(RuntimeError::Invalid {
                message: format!(
                    "nobody answers at port {port} of the pod within {CONNECT_TIMEOUT_MS} ms"
                ),
            }),
        }
    }
}
