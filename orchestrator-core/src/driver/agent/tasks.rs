//! What the agent's tasks come to: a closed set of events; and containment of panics in plug-ins.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use super::machine::Facts;
use super::sampling::Reading;
use crate::model::{Node, Pod, PodStatus, Uid};
use crate::node::{
    Assignments, LinkError, OpFailure, ProbeKind, ProbeResult, RuntimeOp, StatusOutcome,
};
use crate::runtime::{ContainerKey, RuntimeError, RuntimeInfo, SandboxObservation};

/// What a task of the agent came to.
#[derive(Debug)]
pub(super) enum Event {
    /// Pods of this node were listed by the control plane, or the wait for changes ended.
    Assigned(Result<Assignments, LinkError>),
    /// Something of the runtime may have changed.
    Changed,
    /// A deletion was confirmed.
    Confirmed { pod: Uid, outcome: Result<(), LinkError> },
    /// The runtime described itself.
    Described { facts: Box<Facts>, outcome: Result<RuntimeInfo, RuntimeError> },
    /// The node's pods were written down.
    Kept(std::io::Result<()>),
    /// The runtime was listed; the number says which listing it was.
    Listed { number: u64, outcome: Result<Vec<SandboxObservation>, RuntimeError> },
    /// A check was done.
    Probed { pod: Uid, container: ContainerKey, kind: ProbeKind, result: ProbeResult },
    /// What an earlier start has kept was read.
    Recalled(Vec<Arc<Pod>>),
    /// The node was registered.
    Registered { node: Box<Node>, outcome: Result<(), LinkError> },
    /// The node was reported alive.
    Reported(Result<(), LinkError>),
    /// The machine and the runtime were measured.
    Sampled(Box<Reading>),
    /// What was to be told to people was told, or lost.
    Told,
    /// Verbs for a pod ended; those not in the list were not begun or were interrupted.
    VerbsEnded { pod: Uid, outcomes: Vec<(RuntimeOp, Result<(), OpFailure>)> },
    /// A status was written.
    Written { pod: Uid, status: Box<PodStatus>, outcome: Result<StatusOutcome, LinkError> },
}

/// Runs a future of a plug-in; `None` if it panicked.
pub(super) async fn contained<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        let poll = || future.as_mut().poll(context);
        match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Some(value)),
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

/// The error of a plug-in that panicked or took too long.
pub(super) fn broken(action: &str, why: &str) -> RuntimeError {
    RuntimeError::Backend { action: action.to_owned(), source: why.to_owned().into() }
}

/// Runs a call of the runtime within a time limit, and turns a panic or a missed limit into an error.
pub(super) async fn limited<T>(
    action: &str,
    limit_ms: u64,
    future: impl Future<Output = Result<T, RuntimeError>>,
) -> Result<T, RuntimeError> {
    let limit = std::time::Duration::from_millis(limit_ms);
    match tokio::time::timeout(limit, contained(future)).await {
        Ok(Some(outcome)) => outcome,
        Ok(None) => Err(broken(action, "the runtime panicked")),
        Err(_) => Err(broken(action, &format!("no answer within {limit_ms} ms"))),
    }
}

/// Runs a call of the link within a time limit, and turns a panic or a missed limit into an error.
pub(super) async fn limited_link<T>(
    limit_ms: u64,
    future: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    let limit = std::time::Duration::from_millis(limit_ms);
    match tokio::time::timeout(limit, contained(future)).await {
        Ok(Some(outcome)) => outcome,
        Ok(None) => Err(LinkError::Unreachable("the link panicked".into())),
        Err(_) => Err(LinkError::Unreachable(format!("no answer within {limit_ms} ms").into())),
    }
}
