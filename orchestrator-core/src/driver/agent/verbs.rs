//! Executing verbs: those of one pod in order, those of several side by side, each within a time limit.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::core::Core;
use super::tasks::{Event, limited};
use crate::model::{Pod, Time, Uid};
use crate::node::{OpFailure, RuntimeOp};
use crate::runtime::{ContainerKey, Runtime, RuntimeError};

/// How many pods have a verb in flight at a time; a container engine gets no faster beyond it.
pub(super) const VERBS_MAX_IN_FLIGHT: usize = 4;
/// A verb that takes longer than this no longer counts among those in flight, so that slow ones (a pull, a
/// stop, a hung one) hold up nobody.
const VERB_SLOW: Duration = Duration::from_secs(2);
/// How long a verb may take, in milliseconds.
const VERB_TIMEOUT_MS: u64 = 120_000;
/// How long a pull may take, in milliseconds.
const PULL_TIMEOUT_MS: u64 = 900_000;
/// How much longer than its grace a stop may take, in milliseconds.
const STOP_MARGIN_MS: u64 = 30_000;

/// Verbs for a pod that are in flight.
#[derive(Debug)]
pub(super) struct Busy {
    interrupt: watch::Sender<bool>,
    /// Until when the pod was to be gone when they began.
    deletion: Option<Time>,
}

impl Busy {
    /// Interrupts a pull or a stop when the pod's deletion was asked for, or is to be quicker.
    pub fn heed_deletion(&self, pod: &Pod) {
        let deletion = pod.metadata.deletion_timestamp;
        if deletion.is_some() && deletion != self.deletion {
            self.interrupt.send_replace(true);
        }
    }
}

impl Core {
    /// Begins to execute verbs for a pod that has none in flight. The pod is `None` when it is gone.
    pub(super) fn start_verbs(&mut self, uid: Uid, ops: Vec<RuntimeOp>, pod: Option<&Pod>) {
        let (interrupt, interrupted) = watch::channel(false);
        let deletion = pod.and_then(|pod| pod.metadata.deletion_timestamp);
        self.busy.insert(uid, Busy { interrupt, deletion });
        let (runtime, slots) = (Arc::clone(&self.runtime), Arc::clone(&self.verbs));
        self.tasks.spawn(async move {
            let outcomes = execute(&runtime, &slots, ops, interrupted).await;
            Event::VerbsEnded { pod: uid, outcomes }
        });
    }
}

/// Executes verbs in order until one fails or is interrupted.
async fn execute(
    runtime: &Arc<dyn Runtime>,
    slots: &Arc<Semaphore>,
    ops: Vec<RuntimeOp>,
    interrupted: watch::Receiver<bool>,
) -> Vec<(RuntimeOp, Result<(), OpFailure>)> {
    let mut outcomes = Vec::with_capacity(ops.len());
    let mut permit = Arc::clone(slots).acquire_owned().await.ok();
    for op in ops {
        tracing::debug!(?op, "verb");
        let outcome = {
            let mut verb = std::pin::pin!(execute_one(runtime, &op, interrupted.clone()));
            match tokio::time::timeout(VERB_SLOW, &mut verb).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    drop(permit.take());
                    verb.await
                }
            }
        };
        let Some(outcome) = outcome else { break };
        let failed = outcome.is_err();
        outcomes.push((op, outcome));
        if failed {
            break;
        }
    }
    drop(permit);
    outcomes
}

/// Executes one verb; `None` if it was interrupted.
async fn execute_one(
    runtime: &Arc<dyn Runtime>,
    op: &RuntimeOp,
    mut interrupted: watch::Receiver<bool>,
) -> Option<Result<(), OpFailure>> {
    let ms = VERB_TIMEOUT_MS;
    let outcome = match op {
        RuntimeOp::CreateContainer(spec) => {
            limited("making a container", ms, runtime.create_container(spec)).await
        }
        RuntimeOp::CreateSandbox(spec) => {
            limited("making a sandbox", ms, runtime.create_sandbox(spec)).await
        }
        RuntimeOp::Pull { image, .. } => {
            let pull = limited("pulling an image", PULL_TIMEOUT_MS, runtime.pull(image));
            tokio::select! {
                biased;
                outcome = pull => outcome,
                _ = interrupted.wait_for(|now| *now) => return None,
            }
        }
        RuntimeOp::RemoveContainer(key) => {
            limited("removing a container", ms, runtime.remove_container(key)).await
        }
        RuntimeOp::RemoveSandbox(key) => {
            limited("removing a sandbox", ms, runtime.remove_sandbox(key)).await
        }
        RuntimeOp::StartContainer(key) => {
            limited("starting a container", ms, runtime.start_container(key)).await
        }
        RuntimeOp::Stop { containers, grace_ms, .. } => {
            tokio::select! {
                biased;
                outcome = stop_all(runtime, containers, *grace_ms) => outcome,
                _ = interrupted.wait_for(|now| *now) => return None,
            }
        }
    };
    Some(outcome.map_err(|error| {
        tracing::debug!(?op, %error, "verb failed");
        OpFailure::from(&error)
    }))
}

/// Stops containers side by side.
pub(super) async fn stop_all(
    runtime: &Arc<dyn Runtime>,
    containers: &[ContainerKey],
    grace_ms: u64,
) -> Result<(), RuntimeError> {
    let mut stops = JoinSet::new();
    for key in containers {
        let (runtime, key) = (Arc::clone(runtime), key.clone());
        stops.spawn(async move {
            let limit_ms = grace_ms.saturating_add(STOP_MARGIN_MS);
            limited("stopping a container", limit_ms, runtime.stop_container(&key, grace_ms)).await
        });
    }
    let mut outcome = Ok(());
    while let Some(joined) = stops.join_next().await {
        if let Ok(Err(error)) = joined {
            outcome = Err(error);
        }
    }
    outcome
}
