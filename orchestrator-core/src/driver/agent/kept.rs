//! What an agent keeps beyond its own end: the pods of its node, for a start while the control plane is away (L13).
//!
//! What is kept is used only when the control plane cannot be reached, and only until it answers. It proves nothing: no container
//! is ended because its pod is not in it (S19).

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::Keep;
use super::core::{Core, Retry};
use super::tasks::Event;
use crate::model::{AgentId, Kind, Object, Pod};
use crate::runtime::Scope;

/// What is kept is brought up to date at most this often.
const KEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The form of what is kept.
const FORMAT: u32 = 1;

/// What is kept, and what was found at the start.
#[derive(Debug, Default)]
pub(super) struct Kept {
    keep: Option<Arc<dyn Keep>>,
    /// The pods of an earlier start, until the control plane has named those of now.
    recalled: Option<Vec<Arc<Pod>>>,
    /// Whether the control plane was asked, and did not answer.
    is_alone: bool,
    /// Whether something has changed since it was written.
    stale: bool,
    writing: bool,
    written_at: Option<Instant>,
    retry: Retry,
}

/// What is written, as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Form {
    format: u32,
    cluster: String,
    node: String,
    /// Whose it is, so that nobody goes on with the pods of the agent that they are a copy of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    pods: Vec<Value>,
}

impl Kept {
    pub fn new(keep: Option<Arc<dyn Keep>>) -> Self {
        Self { keep, ..Self::default() }
    }

    /// Notes that the pods of the node are others now.
    pub fn changed(&mut self) {
        self.stale = true;
        self.recalled = None;
    }
}

impl Core {
    /// Reads what an earlier start has left.
    pub(super) fn recall(&mut self) {
        let Some(keep) = self.kept.keep.clone() else { return };
        let (scope, id) = (self.config.scope.clone(), self.config.id.clone());
        self.tasks.spawn(async move {
            let read = move || match keep.read() {
                Ok(None) => Vec::new(),
                Ok(Some(bytes)) => pods_of(&bytes, &scope, id.as_ref()).unwrap_or_else(|why| {
                    tracing::warn!(why, "what was kept of the node's pods is not used");
                    Vec::new()
                }),
                Err(error) => {
                    tracing::warn!(%error, "what was kept of the node's pods cannot be read");
                    Vec::new()
                }
            };
            Event::Recalled(tokio::task::spawn_blocking(read).await.unwrap_or_default())
        });
    }

    pub(super) fn handle_recalled(&mut self, pods: Vec<Arc<Pod>>) {
        if !self.following.has_heard() {
            self.kept.recalled = Some(pods);
            self.go_on_alone();
        }
    }

    /// The control plane was asked and did not answer: until it does, the node's pods are those of before.
    pub(super) fn heard_nothing(&mut self) {
        self.kept.is_alone = true;
        self.go_on_alone();
    }

    fn go_on_alone(&mut self) {
        if !self.kept.is_alone || self.following.has_heard() {
            return;
        }
        let pods = self.kept.recalled.take().unwrap_or_default();
        if !pods.is_empty() {
            tracing::warn!(
                pods = pods.len(),
                "the control plane does not answer; the node goes on with the pods it had"
            );
        }
        for pod in pods {
            self.assign(pod);
        }
    }

    /// Writes down the pods of the node when they have changed.
    pub(super) fn act_kept(&mut self) -> Option<Instant> {
        let kept = &mut self.kept;
        let keep = kept.keep.clone().filter(|_| kept.stale && !kept.writing)?;
        let rested = kept.written_at.map(|at| at + KEEP_INTERVAL);
        let due = rested.max(kept.retry.at()).filter(|at| *at > Instant::now());
        if due.is_some() {
            return due;
        }
        (kept.stale, kept.writing) = (false, true);
        let write = self.write_kept(keep);
        self.tasks.spawn(async move {
            let outcome = tokio::task::spawn_blocking(write).await;
            Event::Kept(outcome.unwrap_or_else(|error| Err(std::io::Error::other(error))))
        });
        None
    }

    pub(super) fn handle_kept(&mut self, outcome: std::io::Result<()>) {
        let kept = &mut self.kept;
        (kept.writing, kept.written_at) = (false, Some(Instant::now()));
        match outcome {
            Ok(()) => kept.retry = Retry::default(),
            Err(error) => {
                tracing::warn!(%error, "the node's pods cannot be kept");
                kept.stale = true;
                kept.retry.failed(&self.config.scope.node);
            }
        }
    }

    /// Writes down at the end what was not written yet.
    pub(super) async fn keep_last(&mut self) {
        let stale = self.kept.stale || self.kept.writing;
        let Some(keep) = self.kept.keep.clone().filter(|_| stale) else { return };
        let written = tokio::task::spawn_blocking(self.write_kept(keep)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "the node's pods cannot be kept");
        }
    }

    fn write_kept(&self, keep: Arc<dyn Keep>) -> impl FnOnce() -> std::io::Result<()> + use<> {
        let pods: Vec<Pod> = self
            .slots
            .values()
            .map(|slot| Pod { status: slot.recorded().clone(), ..Pod::clone(&slot.pod) })
            .collect();
        let Scope { cluster, node } = self.config.scope.clone();
        let agent = self.config.id.as_ref().map(AgentId::to_string);
        move || {
            let pods = pods.into_iter().map(|pod| Object::from(pod).to_value()).collect();
            let form = Form { format: FORMAT, cluster, node, agent, pods };
            keep.write(&serde_json::to_vec(&form)?)
        }
    }
}

/// Reads the pods of a node.
fn pods_of(bytes: &[u8], scope: &Scope, id: Option<&AgentId>) -> Result<Vec<Arc<Pod>>, String> {
    let form: Form = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if form.format != FORMAT {
        return Err(format!("its format is {}, not {FORMAT}", form.format));
    }
    if (&form.cluster, &form.node) != (&scope.cluster, &scope.node) {
        return Err(format!("it is of node {:?} of cluster {:?}", form.node, form.cluster));
    }
    let wrote = form.agent.as_deref().and_then(|agent| agent.parse::<AgentId>().ok());
    if let (Some(wrote), Some(id)) = (wrote, id)
        && !wrote.is_same_installation(id)
    {
        return Err("it is a copy of another agent's, or was moved".to_owned());
    }
    let pod = |value| match Object::from_value(Kind::Pod, value) {
        Ok(Object::Pod(pod)) if pod.node_name == scope.node => Ok(pod),
        Ok(other) => Err(format!("{} is no pod of the node", other.key())),
        Err(error) => Err(error.to_string()),
    };
    form.pods.into_iter().map(pod).collect()
}
