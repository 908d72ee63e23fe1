//! `HttpLink`: the link of an agent to a server elsewhere.

use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use orchestrator_core::model::{Key, Node, Object, PodStatus, Revision, Uid};
use orchestrator_core::node::{Assignments, LinkError, NetworkAt, NodeLink, StatusOutcome};
use orchestrator_core::world::{EventNote, NodeUsage};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

use super::wire::{
    AssignmentsForm, Deletion, Following, NetworkForm, Note, Recorded, Registration, Report, Status,
};
use super::{Membership, NodeCall};
use crate::client::{Client, ClientError};

/// Lets an agent reach a server over HTTP, known to it by the certificate of its node. Cloning is cheap; every clone is the same
/// link.
#[derive(Clone, Debug)]
pub struct HttpLink {
    client: Arc<RwLock<Client>>,
    node: Arc<str>,
    ready: Arc<watch::Sender<bool>>,
}

impl HttpLink {
    /// Makes the link of a node. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ClientError::Config`] when what is known of the server cannot be used.
    pub fn new(membership: &Membership) -> Result<Self, ClientError> {
        let client = Client::from_config(&membership.client_config())?;
        Ok(Self {
            client: Arc::new(RwLock::new(client)),
            node: membership.node.as_str().into(),
            ready: Arc::default(),
        })
    }

    /// Uses a newer certificate from now on; what is under way is not disturbed.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn know_as(&self, membership: &Membership) -> Result<(), ClientError> {
        let client = Client::from_config(&membership.client_config())?;
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = client;
        Ok(())
    }

    /// Waits until the server has recorded that the node is Ready.
    pub async fn ready(&self) {
        // The sender is in `self`.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// The node's name.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn client(&self) -> Client {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn call<T: DeserializeOwned>(
        &self,
        call: NodeCall,
        body: &(impl Serialize + Sync),
    ) -> Result<T, LinkError> {
        let broken = |error: serde_json::Error| LinkError::Unreachable(Box::new(error));
        let body = serde_json::to_value(body).map_err(broken)?;
        let answer = self.client().post(&call.path(&self.node), &body).await.map_err(link_error)?;
        serde_json::from_value(answer).map_err(broken)
    }
}

fn link_error(error: ClientError) -> LinkError {
    match error.code() {
        // It may yet do it.
        None | Some(408 | 429 | 500..) => LinkError::Unreachable(Box::new(error)),
        Some(_) => LinkError::Refused { message: error.to_string() },
    }
}

#[async_trait]
impl NodeLink for HttpLink {
    async fn register(&self, node: Node) -> Result<(), LinkError> {
        let is_ready = node.is_ready();
        let registration = Registration { node: Object::from(node).to_value() };
        self.call::<Value>(NodeCall::Registration, &registration).await?;
        self.ready.send_replace(is_ready);
        Ok(())
    }

    async fn assignments(&self, after: Option<Revision>) -> Result<Assignments, LinkError> {
        let following = Following { after: after.map(|revision| revision.0) };
        loop {
            let form: AssignmentsForm = self.call(NodeCall::Assignments, &following).await?;
            let read = form.read().map_err(|error| LinkError::Unreachable(error.into()))?;
            if let Some(assignments) = read {
                return Ok(assignments);
            }
        }
    }

    async fn write_status(
        &self,
        key: &Key,
        uid: Uid,
        status: PodStatus,
    ) -> Result<StatusOutcome, LinkError> {
        let status = Status::new(key, uid, status);
        let recorded: Recorded = self.call(NodeCall::Statuses, &status).await?;
        Ok(recorded.outcome.into())
    }

    async fn confirm_deleted(&self, key: &Key, uid: Uid) -> Result<(), LinkError> {
        self.call::<Value>(NodeCall::Deletions, &Deletion::new(key, uid)).await.map(drop)
    }

    async fn event(&self, note: EventNote) -> Result<(), LinkError> {
        let note = Note::of(note).map_err(|about| LinkError::Refused {
            message: format!(
                "a node tells events about itself and its pods, and not about {about}"
            ),
        })?;
        self.call::<Value>(NodeCall::Events, &note).await.map(drop)
    }

    async fn network(&self, after: Option<Revision>) -> Result<NetworkAt, LinkError> {
        let mut following = Following { after: after.map(|revision| revision.0) };
        loop {
            let NetworkForm { revision, changed, network } =
                self.call(NodeCall::Network, &following).await?;
            if changed {
                return Ok(NetworkAt { revision: Revision(revision), network });
            }
            following.after = Some(revision);
        }
    }

    async fn report(&self, usage: Option<NodeUsage>) -> Result<(), LinkError> {
        self.call::<Value>(NodeCall::Reports, &Report { usage }).await.map(drop)
    }
}
