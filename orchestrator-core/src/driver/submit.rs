//! How a request becomes a commit: decide on the newest world, commit, wait until the world shows it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};

use super::clock::Clock;
use super::control::{Command, newest};
use super::history::History;
use super::standing::Standing;
use crate::api::{Caller, Effect, Rejection, Request, decide};
use crate::model::{Key, Revision, Timestamp, Uid};
use crate::store::{CommitOutcome, StateStore};
use crate::world::{Proposal, World};

/// How often a request is decided anew when others write to the same object meanwhile.
const ATTEMPTS_MAX: usize = 32;
/// How many writes of nodes are decided and committed at a time; others wait for their turn, first come first served. What is heard of
/// nodes would else stand behind as many writes as a thousand agents have.
const NODE_WRITES_AT_ONCE_MAX: usize = 128;
/// How long a request waits for the store to say what became of a commit, and for the world to show it.
const VISIBLE_WITHIN: Duration = Duration::from_secs(30);

/// Where uids of new objects come from.
#[derive(Clone)]
pub(super) struct Uids(pub(super) Arc<dyn Fn() -> Uid + Send + Sync>);

impl Default for Uids {
    /// Random ones, in the order of time.
    fn default() -> Self {
        Self(Arc::new(|| Uid::from_uuid(uuid::Uuid::now_v7())))
    }
}

impl fmt::Debug for Uids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Uids")
    }
}

/// What requests need.
#[derive(Clone, Debug)]
pub(super) struct Submitter {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) uids: Uids,
    pub(super) store: Arc<dyn StateStore>,
    pub(super) history: Arc<History>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) standing: Arc<Standing>,
    pub(super) node_turns: NodeTurns,
}

/// Whose turn it is of those nodes that write.
#[derive(Clone, Debug)]
pub(super) struct NodeTurns(Arc<Semaphore>);

impl Default for NodeTurns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(NODE_WRITES_AT_ONCE_MAX)))
    }
}

impl Submitter {
    /// Decides and commits what a node's agent asks for, when it is its turn.
    pub(super) async fn submit_of_node(
        &self,
        caller: &Caller,
        request: &Request,
    ) -> Result<Effect, Rejection> {
        let _turn = self.node_turns.0.acquire().await;
        self.submit(caller, request).await
    }

    /// Decides a request and commits what it comes to. When this returns, the world shows it.
    pub(super) async fn submit(
        &self,
        caller: &Caller,
        request: &Request,
    ) -> Result<Effect, Rejection> {
        let fresh = (self.uids.0)();
        // Alone, a world is never behind what was answered.
        let mut may_be_behind = self.is_shared();
        for _ in 0..ATTEMPTS_MAX {
            if self.history.is_closed() {
                return Err(shut_down());
            }
            let world = self.history.world();
            let mut effect = match decide(&world, caller, request, self.clock.now(), fresh) {
                Ok(effect) => effect,
                // Another server may have written what is missing here.
                Err(_) if may_be_behind => {
                    may_be_behind = false;
                    self.catch_up().await?;
                    continue;
                }
                Err(rejection) => return Err(rejection),
            };
            if let Request::Bind { pod, node } = request {
                return self.bind(pod.clone(), node.clone()).await;
            }
            let Some(proposal) = &effect.proposal else { return Ok(effect) };
            match self.commit(proposal).await? {
                CommitOutcome::Committed(revision) => {
                    effect.reply.set_revision(revision);
                    return Ok(effect);
                }
                CommitOutcome::Conflict { current, .. } => {
                    let newest = match current {
                        Some(revision) => revision,
                        None => self.newest().await?,
                    };
                    self.reach(newest).await?;
                }
                CommitOutcome::Unknown => {
                    let world = self.reach(self.newest().await?).await?;
                    // Only this request knows the fresh uid: an object that has it is the one asked for.
                    if let Some(stored) = world
                        .get(&effect.reply.key())
                        .filter(|stored| stored.object.meta().uid == fresh)
                    {
                        effect.reply = stored.object.clone();
                        return Ok(effect);
                    }
                }
            }
        }
        Err(kept_changing())
    }

    /// Commits what is wanted of the newest world, however often others come first.
    pub(super) async fn propose(
        &self,
        mut wanted: impl FnMut(&World, Timestamp) -> Proposal,
    ) -> Result<(), Rejection> {
        for _ in 0..ATTEMPTS_MAX {
            let wanted = wanted(&self.history.world(), self.clock.now());
            if wanted == Proposal::default() {
                return Ok(());
            }
            let reached = match self.commit(&wanted).await? {
                CommitOutcome::Committed(_) => return Ok(()),
                CommitOutcome::Conflict { current: Some(revision), .. } => revision,
                CommitOutcome::Conflict { current: None, .. } | CommitOutcome::Unknown => {
                    self.newest().await?
                }
            };
            self.reach(reached).await?;
        }
        Err(kept_changing())
    }

    /// Reads the newest revision, as soon as the store answers.
    async fn newest(&self) -> Result<Revision, Rejection> {
        let read = tokio::time::timeout(VISIBLE_WITHIN, newest(&*self.store)).await;
        read.map_err(|_| Rejection::Unavailable {
            message:
                "the store does not answer, and may yet record what was asked for; look again later"
                    .to_owned(),
        })
    }

    /// Commits. What was committed the world shows when this returns.
    async fn commit(&self, proposal: &Proposal) -> Result<CommitOutcome, Rejection> {
        let txn = self.history.written().keep(proposal);
        let _kept = Kept { history: &self.history, proposal };
        let committed = self.store.commit(txn).await;
        let outcome = committed.map_err(|error| Rejection::Unavailable {
            message: format!("the store refused the write: {}", chain(&error)),
        })?;
        if let CommitOutcome::Committed(revision) = outcome {
            self.reach(revision).await?;
        }
        Ok(outcome)
    }

    /// Waits until the world has reached a revision.
    pub(super) async fn reach(&self, revision: Revision) -> Result<World, Rejection> {
        let reached = self.history.reach(revision);
        match tokio::time::timeout(VISIBLE_WITHIN, reached).await {
            Ok(Some(world)) => Ok(world),
            Ok(None) => Err(shut_down()),
            Err(_) => Err(Rejection::Unavailable {
                message: format!(
                    "revision {revision} is recorded but not visible yet; look again later"
                ),
            }),
        }
    }

    /// Whether other control planes write to the same store.
    pub(super) fn is_shared(&self) -> bool {
        self.standing.identity().is_some()
    }

    /// Returns a world that shows everything that was answered before this was called, by whichever server (S8).
    pub(super) async fn catch_up(&self) -> Result<World, Rejection> {
        if !self.is_shared() {
            return Ok(self.history.world());
        }
        let newest = self.standing.newest(&self.store).await;
        let newest = newest.map_err(|error| Rejection::Unavailable {
            message: format!("the store does not answer: {}", chain(&error)),
        })?;
        self.reach(newest).await
    }

    async fn bind(&self, pod: Key, node: String) -> Result<Effect, Rejection> {
        if !self.standing.leads() {
            return Err(not_leading());
        }
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Bind { pod, node, reply }).await.map_err(|_| shut_down())?;
        let effect = answer.await.map_err(|_| shut_down())??;
        self.reach(effect.reply.meta().resource_version).await?;
        Ok(effect)
    }
}

/// What a proposal writes, kept until this is dropped: also when nobody waits for its commit any more.
struct Kept<'a> {
    history: &'a History,
    proposal: &'a Proposal,
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.history.written().forget(self.proposal);
    }
}

fn kept_changing() -> Rejection {
    let message = format!("others kept changing the object; gave up after {ATTEMPTS_MAX} attempts");
    Rejection::Unavailable { message }
}

/// The answer of a control plane to what only the leader does.
pub(super) fn not_leading() -> Rejection {
    let message = "this server does not lead the cluster; try again, or ask the one that does";
    Rejection::Unavailable { message: message.to_owned() }
}

/// The answer of a cluster that was shut down.
pub(super) fn shut_down() -> Rejection {
    Rejection::Unavailable { message: "the cluster is shut down".to_owned() }
}

/// Prints an error with its sources, but none whose words have been said already.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}
