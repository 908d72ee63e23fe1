//! `History`: the newest world and a bounded ring of recent changes, for readers and watchers.
//!
//! Watchers hold a position, not a queue: however slow one is, it costs nothing, never delays the writer, and is
//! told `Compacted` when the ring has moved past it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::engine::EngineStats;
use crate::model::{Kind, Pod, Resource as _, Revision};
use crate::node::concerns_network;
use crate::world::{ObjectChange, World, Written};

/// How many commits are kept for watchers.
pub const CHANGES_KEPT_MAX: usize = 10_000;
/// How many bytes the commits kept for watchers may have written together (64 MiB).
pub const CHANGES_BYTES_MAX: usize = 64 << 20;

/// Changes after a revision are no longer known: list again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("changes up to revision {oldest} are compacted")]
pub struct Compacted {
    /// The oldest revision after which every change is known.
    pub oldest: Revision,
}

/// What one commit changed.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) revision: Revision,
    pub(super) changes: Vec<Arc<ObjectChange>>,
    /// What it wrote, in bytes.
    pub(super) bytes: usize,
}

#[derive(Debug, Default)]
struct Ring {
    commits: VecDeque<Commit>,
    /// What the kept commits wrote, in bytes.
    bytes: usize,
    /// Every commit after this revision is in the ring.
    base: Revision,
    /// What of the kept commits the agent of each node has to hear of, in order. Each of a thousand agents would else look through
    /// what concerns all the others.
    by_node: BTreeMap<String, VecDeque<Arc<ObjectChange>>>,
    /// The newest commit that made a difference to the network between nodes; not older than the first world.
    network: Revision,
    /// The newest commit with which a pod that could not be read was gone, or could be. Whose it was nobody knows.
    unread: Revision,
}

impl Ring {
    fn after(world: &World) -> Self {
        Self { base: world.revision(), network: world.revision(), ..Self::default() }
    }

    fn push(&mut self, commit: Commit) {
        for change in &commit.changes {
            for node in nodes_concerned(change) {
                let known = self.by_node.entry(node.to_owned()).or_default();
                // A pod that was and is on the node is one change.
                if !known.back().is_some_and(|newest| Arc::ptr_eq(newest, change)) {
                    known.push_back(Arc::clone(change));
                }
            }
            if concerns_network(change) {
                self.network = commit.revision;
            }
        }
        self.bytes += commit.bytes;
        self.commits.push_back(commit);
        while self.commits.len() > CHANGES_KEPT_MAX || self.bytes > CHANGES_BYTES_MAX {
            let Some(oldest) = self.commits.pop_front() else { break };
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, oldest: &Commit) {
        self.bytes -= oldest.bytes;
        self.base = oldest.revision;
        for node in oldest.changes.iter().flat_map(|change| nodes_concerned(change)) {
            let Some(known) = self.by_node.get_mut(node) else { continue };
            while known.front().is_some_and(|change| change.revision <= oldest.revision) {
                known.pop_front();
            }
            if known.is_empty() {
                self.by_node.remove(node);
            }
        }
    }
}

/// The newest world, and what led to it.
#[derive(Debug)]
pub(super) struct History {
    ring: RwLock<Ring>,
    newest: RwLock<World>,
    /// Told when there is a newer world, and at the end. (A `watch` of tokio's would wake those who wait in random order, and a
    /// simulation would not go the same way twice.)
    published: Notify,
    /// As `published`, but only of what was committed: who follows changes sleeps through what is heard of nodes.
    committed: Notify,
    /// Told when the network between nodes may have become another, and when a node is no more.
    networked: Notify,
    /// Whom a change of a node's pods, or the node's end, is told. Each of a thousand agents waits here for its own node, and
    /// would else look at every commit.
    agents: Mutex<BTreeMap<String, Arc<Notify>>>,
    closed: AtomicBool,
    stats: Mutex<EngineStats>,
    /// What requests are about to commit, for whom the store tells of it.
    written: Mutex<Written>,
}

impl History {
    pub(super) fn new(world: World) -> Self {
        Self {
            ring: RwLock::new(Ring::after(&world)),
            newest: RwLock::new(world),
            published: Notify::new(),
            committed: Notify::new(),
            networked: Notify::new(),
            agents: Mutex::default(),
            closed: AtomicBool::new(false),
            stats: Mutex::default(),
            written: Mutex::default(),
        }
    }

    /// What requests are about to commit.
    pub(super) fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a world and the commits that led to it from the last one.
    pub(super) fn publish(&self, world: World, commits: Vec<Commit>) {
        let has_changed = !commits.is_empty();
        let has_settled = has_changed && self.has_settled(&world);
        let nodes = match has_settled {
            true => self.lock_agents().values().cloned().collect(),
            false => self.agents_concerned(&commits),
        };
        let changes = commits.iter().flat_map(|commit| &commit.changes);
        let is_networked =
            changes.into_iter().any(|change| concerns_network(change) || is_end_of_node(change));
        if has_changed {
            let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
            commits.into_iter().for_each(|commit| ring.push(commit));
            if has_settled {
                ring.unread = world.revision();
            }
        }
        self.show(world);
        if has_changed {
            self.committed.notify_waiters();
        }
        if is_networked {
            self.networked.notify_waiters();
        }
        nodes.iter().for_each(|agent| agent.notify_waiters());
    }

    /// Whether a pod that could not be read is gone or can be read in the next world.
    fn has_settled(&self, next: &World) -> bool {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        newest.unreadable_pods().any(|key| !next.is_quarantined(&key))
    }

    /// Publishes a world that was loaded anew: what led to it is not known.
    pub(super) fn restart(&self, world: World) {
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Ring::after(&world);
        self.show(world);
        self.committed.notify_waiters();
        self.networked.notify_waiters();
        self.lock_agents().values().for_each(|agent| agent.notify_waiters());
    }

    /// Says that nothing will be published any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.published.notify_waiters();
        self.committed.notify_waiters();
    }

    /// Waits until something is true of the newest world; `None` when nothing will be published any more.
    pub(super) async fn wait_for(&self, is_true: impl FnMut(&World) -> bool) -> Option<World> {
        self.wait_at(&self.published, is_true).await
    }

    /// Waits until the newest world has reached a revision; `None` when nothing will be published any more.
    pub(super) async fn reach(&self, revision: Revision) -> Option<World> {
        self.wait_at(&self.committed, |world| world.revision() >= revision).await
    }

    async fn wait_at(
        &self,
        told: &Notify,
        mut is_true: impl FnMut(&World) -> bool,
    ) -> Option<World> {
        loop {
            // From here on nothing is missed.
            let told = told.notified();
            {
                let world = self.newest.read().unwrap_or_else(PoisonError::into_inner);
                if is_true(&world) {
                    return Some(world.clone());
                }
            }
            if self.is_closed() {
                return None;
            }
            told.await;
        }
    }

    /// Begins to wait for changes of a node's pods.
    pub(super) fn agent_of<'h>(&'h self, node: &'h str) -> AgentWait<'h> {
        let mut agents = self.lock_agents();
        let told = Arc::clone(agents.entry(node.to_owned()).or_default());
        AgentWait { history: self, node, told }
    }

    /// What has changed for a node after a revision, in order; and up to which revision. It is not known when a pod could not be read
    /// at that revision and is gone since.
    pub(super) fn changes_of(
        &self,
        node: &str,
        after: Revision,
    ) -> Result<(Revision, Vec<Arc<ObjectChange>>), Compacted> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let oldest = ring.base.max(ring.unread);
        if after < oldest {
            return Err(Compacted { oldest });
        }
        let newest = ring.commits.back().map_or(ring.base, |commit| commit.revision);
        let Some(known) = ring.by_node.get(node) else {
            return Ok((newest.max(after), Vec::new()));
        };
        let first = known.partition_point(|change| change.revision <= after);
        Ok((newest.max(after), known.range(first..).cloned().collect()))
    }

    /// Begins to wait until the network between nodes may have become another, or a node is no more.
    pub(super) fn networked(&self) -> Notified<'_> {
        self.networked.notified()
    }

    /// The newest revision that made a difference to the network between nodes, as far as is known.
    pub(super) fn network(&self) -> Revision {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).network
    }

    /// Those who wait for what some of the commits have changed.
    fn agents_concerned(&self, commits: &[Commit]) -> Vec<Arc<Notify>> {
        let agents = self.lock_agents();
        if agents.is_empty() {
            return Vec::new();
        }
        let changes = commits.iter().flat_map(|commit| &commit.changes);
        let nodes: BTreeSet<&str> = changes.flat_map(|change| nodes_concerned(change)).collect();
        nodes.into_iter().filter_map(|node| agents.get(node).cloned()).collect()
    }

    fn lock_agents(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Notify>>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(super) fn publish_stats(&self, stats: EngineStats) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }

    pub(super) fn stats(&self) -> EngineStats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn world(&self) -> World {
        self.newest.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn revision(&self) -> Revision {
        self.newest.read().unwrap_or_else(PoisonError::into_inner).revision()
    }

    fn show(&self, world: World) {
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        let older = std::mem::replace(&mut *newest, world);
        drop(newest);
        // Taking an old world apart may take a while; readers need not wait for it.
        drop(older);
        self.published.notify_waiters();
    }

    fn commit_after(&self, after: Revision) -> Result<Option<Committed>, Compacted> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        if after < ring.base {
            return Err(Compacted { oldest: ring.base });
        }
        let next = ring.commits.partition_point(|commit| commit.revision <= after);
        Ok(ring.commits.get(next).map(|commit| (commit.revision, commit.changes.clone())))
    }
}

/// Waits for changes of one node's pods, and for the node's end.
#[derive(Debug)]
pub(super) struct AgentWait<'h> {
    history: &'h History,
    node: &'h str,
    told: Arc<Notify>,
}

impl AgentWait<'_> {
    /// Completes when something has changed after this call.
    pub(super) fn told(&self) -> Notified<'_> {
        self.told.notified()
    }
}

impl Drop for AgentWait<'_> {
    fn drop(&mut self) {
        let mut agents = self.history.lock_agents();
        // This one's and the map's: nobody else waits.
        if Arc::strong_count(&self.told) <= 2 {
            agents.remove(self.node);
        }
    }
}

/// The nodes whose agents have to hear of a change: the one that a pod was or is on, and one that is no more.
fn nodes_concerned(change: &ObjectChange) -> impl Iterator<Item = &str> {
    let over = is_end_of_node(change).then_some(&*change.key.name);
    let on = [&change.before, &change.after].into_iter().flatten().filter_map(|object| {
        Pod::from_object(object).filter(|pod| pod.is_bound()).map(|pod| pod.node_name.as_str())
    });
    on.chain(over)
}

fn is_end_of_node(change: &ObjectChange) -> bool {
    change.key.kind == Kind::Node && change.after.is_none()
}

/// A commit's revision and what it changed.
type Committed = (Revision, Vec<Arc<ObjectChange>>);

/// Follows every change of every object after a revision.
#[derive(Debug)]
pub struct Changes {
    history: Arc<History>,
    position: Revision,
    pending: VecDeque<Arc<ObjectChange>>,
}

impl Changes {
    pub(super) fn new(history: Arc<History>, after: Revision) -> Self {
        Self { history, position: after, pending: VecDeque::new() }
    }

    /// The revision up to which every change has been handed out.
    pub fn position(&self) -> Revision {
        match self.pending.front() {
            Some(next) => Revision(next.revision.0.saturating_sub(1)),
            None => self.position,
        }
    }

    /// Waits for the next change, in order and without gaps. Cancel-safe. Waits for ever when the cluster is shut down.
    ///
    /// # Errors
    /// [`Compacted`] when this watcher was too slow or began too early: list again.
    pub async fn next(&mut self) -> Result<Arc<ObjectChange>, Compacted> {
        let history = Arc::clone(&self.history);
        loop {
            // From here on nothing is missed.
            let committed = history.committed.notified();
            if let Some(change) = self.try_next()? {
                return Ok(change);
            }
            committed.await;
        }
    }

    /// Returns the next change if it has happened already; else the position moves up to the newest revision.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn try_next(&mut self) -> Result<Option<Arc<ObjectChange>>, Compacted> {
        loop {
            if let Some(change) = self.pending.pop_front() {
                return Ok(Some(change));
            }
            let seen = self.history.revision();
            match self.history.commit_after(self.position)? {
                Some((revision, changes)) => {
                    self.position = revision;
                    self.pending.extend(changes);
                }
                None => {
                    self.position = self.position.max(seen);
                    return Ok(None);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Key, Node, Object, ObjectMeta};

    fn pod(name: &str, node: &str) -> Object {
        Pod { node_name: node.to_owned(), ..Pod::new(name, "image") }.into()
    }

    fn commit(revision: u64, before: Option<Object>, after: Option<Object>) -> Commit {
        let key = after.as_ref().or(before.as_ref()).expect("a side").key();
        let revision = Revision(revision);
        let change = ObjectChange { key, revision, before, after };
        Commit { revision, changes: vec![Arc::new(change)], bytes: 1 }
    }

    fn told(history: &History, node: &str, after: u64) -> Result<Vec<u64>, Compacted> {
        let (_, changes) = history.changes_of(node, Revision(after))?;
        Ok(changes.iter().map(|change| change.revision.0).collect())
    }

    #[test]
    fn a_node_is_told_what_concerns_it_and_nothing_else() {
        let history = History::new(World::default());
        let commits = vec![
            commit(1, None, Some(pod("a", ""))),
            commit(2, Some(pod("a", "")), Some(pod("a", "one"))),
            commit(3, None, Some(pod("b", "two"))),
            commit(4, Some(pod("a", "one")), Some(pod("a", "one"))),
            commit(5, Some(pod("a", "one")), None),
        ];
        history.publish(World::default(), commits);
        assert_eq!(told(&history, "one", 0), Ok(vec![2, 4, 5]));
        assert_eq!(told(&history, "one", 2), Ok(vec![4, 5]));
        assert_eq!(told(&history, "two", 0), Ok(vec![3]));
        assert_eq!(told(&history, "three", 0), Ok(vec![]));
        assert_eq!(history.changes_of("two", Revision(3)).map(|(at, _)| at), Ok(Revision(5)));
    }

    #[test]
    fn what_is_forgotten_of_all_is_forgotten_of_each_node() {
        let history = History::new(World::default());
        let newest = CHANGES_KEPT_MAX as u64 + 2;
        let node = |revision| if revision % 2 == 0 { "even" } else { "odd" };
        let commits = (1..=newest).map(|at| commit(at, None, Some(pod("a", node(at)))));
        history.publish(World::default(), commits.collect());
        assert_eq!(told(&history, "odd", 1), Err(Compacted { oldest: Revision(2) }));
        assert_eq!(told(&history, "odd", 2).map(|told| told[0]), Ok(3));
        assert_eq!(told(&history, "even", 2).map(|told| told[0]), Ok(4));
        let ring = history.ring.read().expect("no panic");
        assert_eq!(ring.by_node.values().map(VecDeque::len).sum::<usize>(), CHANGES_KEPT_MAX);
    }

    #[test]
    fn the_network_is_another_only_when_what_nodes_know_of_one_another_changes() {
        let history = History::new(World::default());
        let mut node = Node { metadata: ObjectMeta::named("", "n"), ..Node::default() };
        let without: Object = node.clone().into();
        node.spec.pod_cidr = "10.0.1.0/24".to_owned();
        node.status.addresses = vec![crate::model::NodeAddress {
            kind: "InternalIP".to_owned(),
            address: "192.0.2.1".to_owned(),
        }];
        let with: Object = node.into();
        assert_eq!(with.key(), Key::node("n"));
        history.publish(World::default(), vec![commit(1, None, Some(without.clone()))]);
        assert_eq!(history.network(), Revision(0));
        history.publish(World::default(), vec![commit(2, Some(without), Some(with.clone()))]);
        history.publish(World::default(), vec![commit(3, Some(with.clone()), Some(with))]);
        assert_eq!(history.network(), Revision(2));
    }
}
