//! `HttpLink`: the link of an agent to servers elsewhere, one at a time.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use orchestrator_core::model::{AgentId, Key, Node, Object, PodStatus, Revision, Uid};
use orchestrator_core::node::{Assignments, LinkError, NetworkAt, NodeLink, StatusOutcome};
use orchestrator_core::world::{EventNote, NodeUsage};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

use super::wire::{
    AssignmentsForm, Deletion, Following, NetworkForm, Note, Recorded, Registration, Report,
    Reported, Status,
};
use super::{Membership, NodeCall};
use crate::client::{Client, ClientError};
use crate::servers::NO_LEADER;

/// How long a report may take before another server is tried: a machine that has died refuses nothing. Shorter than an agent waits, which
/// then asks no more.
const REPORT_WITHIN: Duration = Duration::from_millis(1_500);
/// The most servers that an agent knows.
const SERVERS_MAX: usize = 16;

/// Lets an agent reach a server over HTTP, known to it by the certificate of its node; where there are several servers, the next
/// one when one does not answer. Cloning is cheap; every clone is the same link.
#[derive(Clone, Debug)]
pub struct HttpLink {
    way: Arc<Mutex<Way>>,
    /// How often it went to another server.
    moves: Arc<watch::Sender<u64>>,
    servers: Arc<watch::Sender<Vec<String>>>,
    node: Arc<str>,
    ready: Arc<watch::Sender<bool>>,
}

/// The server that is asked, and by what this node is known to it.
#[derive(Debug)]
struct Way {
    client: Client,
    membership: Membership,
    /// Which agent it is, if that is told.
    agent: Option<AgentId>,
}

impl Way {
    fn new(membership: Membership, agent: Option<AgentId>) -> Result<Self, ClientError> {
        let client = Client::from_config(&membership.client_config())?.speaking_as(agent.as_ref());
        Ok(Self { client, membership, agent })
    }
}

impl HttpLink {
    /// Makes the link of a node. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ClientError::Config`] when what is known of the server cannot be used.
    pub fn new(membership: &Membership) -> Result<Self, ClientError> {
        let way = Way::new(membership.clone(), None)?;
        Ok(Self {
            node: membership.node.as_str().into(),
            servers: Arc::new(watch::Sender::new(membership.servers.clone())),
            way: Arc::new(Mutex::new(way)),
            moves: Arc::default(),
            ready: Arc::default(),
        })
    }

    /// Says with each call which agent makes it, so that the server tells it from a copy.
    #[must_use]
    pub fn speaking_as(self, agent: AgentId) -> Self {
        let mut way = self.way();
        way.client = way.client.clone().speaking_as(Some(&agent));
        way.agent = Some(agent);
        drop(way);
        self
    }

    /// Uses a newer certificate from now on; what is under way is not disturbed.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn know_as(&self, membership: &Membership) -> Result<(), ClientError> {
        let mut way = self.way();
        let server = way.membership.server.clone();
        *way = Way::new(Membership { server, ..membership.clone() }, way.agent.clone())?;
        Ok(())
    }

    /// Waits until the server has recorded that the node is Ready.
    pub async fn ready(&self) {
        // The sender is in `self`.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// The URLs of the cluster's servers, as they are told.
    pub fn servers(&self) -> watch::Receiver<Vec<String>> {
        self.servers.subscribe()
    }

    /// What there is to be kept for the next start: by what the node is known, and which servers there are.
    pub fn membership(&self) -> Membership {
        Membership { servers: self.servers.borrow().clone(), ..self.way().membership.clone() }
    }

    /// The node's name.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn client(&self) -> Client {
        self.way().client.clone()
    }

    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        call: NodeCall,
        body: &(impl Serialize + Sync),
    ) -> Result<T, LinkError> {
        let broken = |error: serde_json::Error| LinkError::Unreachable(Box::new(error));
        let body = serde_json::to_value(body).map_err(broken)?;
        let moves = *self.moves.borrow();
        let client = self.client();
        let path = call.path(&self.node);
        let answer = client.post(&path, &body);
        let answered = match call {
            NodeCall::Reports => tokio::time::timeout(REPORT_WITHIN, answer).await.ok(),
            _ => self.unless_moved(moves, answer).await,
        };
        let Some(answered) = answered else {
            self.leave(moves);
            let message = format!("{} does not answer", client.server());
            return Err(LinkError::Unreachable(message.into()));
        };
        let answer = answered.map_err(|error| {
            if is_away(&error) {
                self.leave(moves);
            }
            link_error(error)
        })?;
        serde_json::from_value(answer).map_err(broken)
    }

    /// Waits for an answer of a server, but not longer than that is the one that is asked.
    async fn unless_moved<T>(&self, moves: u64, answer: impl Future<Output = T>) -> Option<T> {
        let mut changes = self.moves.subscribe();
        tokio::select! {
            biased;
            answer = answer => Some(answer),
            // The sender is in `self`.
            _ = changes.wait_for(|now| *now != moves) => None,
        }
    }

    /// Asks the next server from now on, unless that has happened already.
    fn leave(&self, moves: u64) {
        let mut way = self.way();
        if *self.moves.borrow() != moves {
            return;
        }
        let mut servers = self.servers.borrow().clone();
        if !servers.contains(&way.membership.server) {
            servers.insert(0, way.membership.server.clone());
        }
        let at = servers.iter().position(|server| *server == way.membership.server);
        let next = servers[(at.unwrap_or_default() + 1) % servers.len()].clone();
        if next == way.membership.server {
            return;
        }
        let membership = Membership { server: next, ..way.membership.clone() };
        match Way::new(membership, way.agent.clone()) {
            Ok(next) => {
                tracing::info!(server = next.membership.server, "another server is asked");
                *way = next;
                self.moves.send_modify(|moves| *moves += 1);
            }
            Err(error) => tracing::warn!(%error, "a server cannot be asked"),
        }
    }

    fn learn(&self, mut told: Vec<String>) {
        told.truncate(SERVERS_MAX);
        self.servers.send_if_modified(|known| {
            let is_news = !told.is_empty() && *known != told;
            if is_news {
                *known = told;
            }
            is_news
        });
    }
}

/// Whether another server may do better.
fn is_away(error: &ClientError) -> bool {
    match error {
        ClientError::Refused { reason, .. } if reason == NO_LEADER => false,
        error => matches!(error.code(), None | Some(502..=504)),
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
            let read = form.read(after).map_err(|error| LinkError::Unreachable(error.into()))?;
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
            let NetworkForm { revision, changed, network, is_expected } =
                self.call(NodeCall::Network, &following).await?;
            if changed {
                return Ok(NetworkAt { revision: Revision(revision), network, is_expected });
            }
            following.after = Some(revision);
        }
    }

    async fn report(&self, usage: Option<NodeUsage>) -> Result<(), LinkError> {
        let Reported { servers } = self.call(NodeCall::Reports, &Report { usage }).await?;
        self.learn(servers);
        Ok(())
    }
}
