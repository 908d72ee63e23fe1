//! `History`: the newest world and a bounded ring of recent changes, for readers and watchers.
//!
//! Watchers hold a position, not a queue: however slow one is, it costs nothing, never delays the writer, and is
//! told `Compacted` when the ring has moved past it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::Notify;

use crate::engine::EngineStats;
use crate::model::Revision;
use crate::world::{ObjectChange, World};

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
}

/// The newest world, and what led to it.
#[derive(Debug)]
pub(super) struct History {
    ring: RwLock<Ring>,
    newest: RwLock<World>,
    /// Told when there is a newer world, and at the end. (A `watch` of tokio's would wake those who wait in random order, and a
    /// simulation would not go the same way twice.)
    published: Notify,
    closed: AtomicBool,
    stats: Mutex<EngineStats>,
}

impl History {
    pub(super) fn new(world: World) -> Self {
        let ring = Ring { base: world.revision(), ..Ring::default() };
        Self {
            ring: RwLock::new(ring),
            newest: RwLock::new(world),
            published: Notify::new(),
            closed: AtomicBool::new(false),
            stats: Mutex::default(),
        }
    }

    /// Publishes a world and the commits that led to it from the last one.
    pub(super) fn publish(&self, world: World, commits: Vec<Commit>) {
        {
            let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
            for commit in commits {
                ring.bytes += commit.bytes;
                ring.commits.push_back(commit);
            }
            while ring.commits.len() > CHANGES_KEPT_MAX || ring.bytes > CHANGES_BYTES_MAX {
                let Some(oldest) = ring.commits.pop_front() else { break };
                ring.bytes -= oldest.bytes;
                ring.base = oldest.revision;
            }
        }
        self.show(world);
    }

    /// Publishes a world that was loaded anew: what led to it is not known.
    pub(super) fn restart(&self, world: World) {
        {
            let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
            ring.commits.clear();
            ring.bytes = 0;
            ring.base = world.revision();
        }
        self.show(world);
    }

    /// Says that nothing will be published any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.published.notify_waiters();
    }

    /// Waits until something is true of the newest world; `None` when nothing will be published any more.
    pub(super) async fn wait_for(&self, mut is_true: impl FnMut(&World) -> bool) -> Option<World> {
        loop {
            // From here on nothing is missed.
            let published = self.published.notified();
            {
                let world = self.newest.read().unwrap_or_else(PoisonError::into_inner);
                if is_true(&world) {
                    return Some(world.clone());
                }
            }
            if self.is_closed() {
                return None;
            }
            published.await;
        }
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
            let published = history.published.notified();
            if let Some(change) = self.try_next()? {
                return Ok(change);
            }
            published.await;
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
