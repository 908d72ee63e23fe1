//! Agents in numbers: the real link over real sockets, simulated runtimes, all in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use orchestrator_core::driver::{Agent, AgentConfig, AgentHandle, Machine, SystemClock};
use orchestrator_core::model::{Key, Kind, Node, PodStatus, Revision, Time, Uid};
use orchestrator_core::node::{Assignments, LinkError, NetworkAt, NodeLink, StatusOutcome};
use orchestrator_core::runtime::Scope;
use orchestrator_core::testkit::sim_runtime::SimRuntime;
use orchestrator_core::world::{EventNote, NodeUsage};
use orchestrator_http::{
    Client, HttpLink, JOIN_TOKEN_NAMESPACE, JoinRole, JoinToken, Membership, WriteParams,
};
use tokio::task::JoinSet;

use crate::Outcome;
use crate::daemon::Failure;

/// How many agents join at a time.
const JOINS_AT_ONCE: usize = 16;

/// What the links of all agents have come to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Reports that were heard.
    pub heard: AtomicU64,
    /// Calls of any sort that failed.
    pub failed: AtomicU64,
}

impl Tally {
    fn counted<T>(&self, outcome: Result<T, LinkError>) -> Result<T, LinkError> {
        if outcome.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }
}

/// The link of an agent, which counts what comes of it.
#[derive(Debug)]
struct Counted {
    link: HttpLink,
    tally: Arc<Tally>,
}

#[async_trait]
impl NodeLink for Counted {
    async fn register(&self, node: Node) -> Result<(), LinkError> {
        self.tally.counted(self.link.register(node).await)
    }

    async fn assignments(&self, after: Option<Revision>) -> Result<Assignments, LinkError> {
        self.tally.counted(self.link.assignments(after).await)
    }

    async fn write_status(
        &self,
        key: &Key,
        uid: Uid,
        status: PodStatus,
    ) -> Result<StatusOutcome, LinkError> {
        self.tally.counted(self.link.write_status(key, uid, status).await)
    }

    async fn confirm_deleted(&self, key: &Key, uid: Uid) -> Result<(), LinkError> {
        self.tally.counted(self.link.confirm_deleted(key, uid).await)
    }

    async fn event(&self, note: EventNote) -> Result<(), LinkError> {
        self.tally.counted(self.link.event(note).await)
    }

    async fn network(&self, after: Option<Revision>) -> Result<NetworkAt, LinkError> {
        self.tally.counted(self.link.network(after).await)
    }

    async fn report(&self, usage: Option<NodeUsage>) -> Result<(), LinkError> {
        self.tally.counted(self.link.report(usage).await)?;
        self.tally.heard.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Lets so many agents join the server of an administrator's client, and starts them.
pub async fn start(
    client: &Client,
    root_pem: &str,
    count: usize,
    tally: &Arc<Tally>,
) -> Result<Vec<AgentHandle>, Failure> {
    let (mut joining, mut agents) = (JoinSet::new(), Vec::new());
    for number in 0..count {
        if joining.len() >= JOINS_AT_ONCE {
            agents.push(joining.join_next().await.ok_or("nobody joins")???);
        }
        let (client, token) = (client.clone(), JoinToken::new(root_pem, JoinRole::Agent)?);
        joining.spawn(one(client, token, format!("node-{number}"), Arc::clone(tally)));
    }
    while let Some(agent) = joining.join_next().await {
        agents.push(agent??);
    }
    Ok(agents)
}

/// Records a token that is good for a node.
pub async fn admit(client: &Client, token: &JoinToken, node: &str) -> Outcome {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let expires = Time::from_seconds(i64::try_from((now + Duration::from_secs(3_600)).as_secs())?);
    let secret = token.to_secret(expires, Some(node));
    let namespace = Some(JOIN_TOKEN_NAMESPACE);
    client.create(Kind::Secret, namespace, &secret, WriteParams::default()).await?;
    Ok(())
}

async fn one(
    client: Client,
    token: JoinToken,
    node: String,
    tally: Arc<Tally>,
) -> Result<AgentHandle, Failure> {
    admit(&client, &token, &node).await?;
    let joined = Membership::join(client.server(), &token, &node).await?;
    let link = HttpLink::new(&joined)?;
    let mut config = AgentConfig::new(Scope { cluster: joined.cluster.clone(), node });
    config.machine = Machine::MadeUp { cpus: 64, memory_bytes: 256 << 30, disk_bytes: 1 << 40 };
    let runtime = SimRuntime::new(Arc::new(SystemClock));
    Ok(Agent::spawn(config, Arc::new(runtime), Arc::new(Counted { link, tally })))
}
