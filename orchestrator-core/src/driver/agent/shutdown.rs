//! The end of an agent: every task is joined; pods are ended only if that was asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::Stop;
use super::core::Core;
use super::tasks::limited;
use super::verbs::stop_all;
use crate::model::Uid;
use crate::runtime::{ContainerKey, ContainerRunState, Runtime, SandboxObservation};

/// The longest grace a pod gets when the agent ends its pods, in milliseconds.
pub(super) const SHUTDOWN_GRACE_MS_MAX: u64 = 10_000;
/// How long listing and removing may take each, in milliseconds.
const CALL_TIMEOUT_MS: u64 = 30_000;
/// How often what is left is listed and removed again.
const ROUNDS_MAX: usize = 3;

impl Core {
    pub(super) async fn shut_down(mut self, stop: Stop) {
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        self.keep_last().await;
        match stop {
            Stop::KeepPods => {}
            Stop::StopPods => self.stop_pods().await,
        }
    }

    async fn stop_pods(&self) {
        for _ in 0..ROUNDS_MAX {
            let list = self.runtime.list(&self.config.scope);
            let observed = match limited("listing pods", CALL_TIMEOUT_MS, list).await {
                Ok(observed) if observed.is_empty() => return,
                Ok(observed) => observed,
                Err(error) => {
                    tracing::warn!(%error, "pods cannot be listed and are not stopped");
                    continue;
                }
            };
            let mut pods: BTreeMap<Uid, Vec<SandboxObservation>> = BTreeMap::new();
            for sandbox in observed {
                pods.entry(sandbox.key.pod).or_default().push(sandbox);
            }
            let mut ends = JoinSet::new();
            for (uid, sandboxes) in pods {
                let grace_ms = self.shutdown_grace_ms(uid);
                ends.spawn(end_pod(Arc::clone(&self.runtime), sandboxes, grace_ms));
            }
            while ends.join_next().await.is_some() {}
        }
    }

    fn shutdown_grace_ms(&self, uid: Uid) -> u64 {
        let grace = self.slots.get(&uid).map(|slot| slot.pod.spec.grace_seconds());
        let grace = grace.and_then(|seconds| u64::try_from(seconds).ok());
        grace.map_or(SHUTDOWN_GRACE_MS_MAX, |seconds| {
            seconds.saturating_mul(1000).min(SHUTDOWN_GRACE_MS_MAX)
        })
    }
}

async fn end_pod(runtime: Arc<dyn Runtime>, sandboxes: Vec<SandboxObservation>, grace_ms: u64) {
    let containers = sandboxes.iter().flat_map(|sandbox| &sandbox.containers);
    let running = containers
        .filter(|container| matches!(container.state, ContainerRunState::Running { .. }))
        .map(|container| container.key.clone());
    let running: Vec<ContainerKey> = running.collect();
    if let Err(error) = stop_all(&runtime, &running, grace_ms).await {
        tracing::debug!(%error, "a container was not stopped");
    }
    for sandbox in sandboxes {
        let remove = runtime.remove_sandbox(&sandbox.key);
        if let Err(error) = limited("removing a sandbox", CALL_TIMEOUT_MS, remove).await {
            tracing::warn!(pod = %sandbox.key.pod, %error, "a sandbox is left");
        }
    }
}
