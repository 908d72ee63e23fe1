//! `FaultStore`: a store that fails as it is told to.
//!
//! It wraps any `StateStore`. Whoever makes it gives a [`FaultPlan`] that decides, call by call; the same
//! plan and the same calls give the same faults. It reads no clock and rolls no dice.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch as signal;

use crate::model::Revision;
use crate::store::{
    Batch, CommitOutcome, Expect, Page, PageToken, StateStore, StoreError, Txn, Watch,
};

/// What happens to a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommitFault {
    /// Nothing is done and a conflict is reported, as if the first precondition did not hold.
    Conflict,
    /// Nothing is done and an error is reported.
    Error,
    /// Nothing happens to it.
    #[default]
    None,
    /// It is carried out, and the answer is lost: `Unknown`.
    UnknownDone,
    /// Nothing is done, and nobody is told: `Unknown`.
    UnknownLost,
}

/// What happens to a batch on its way to one watcher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WatchFault {
    /// The watch ends with `Compacted`, this batch not delivered.
    Compacted,
    /// The watch fails once with an error, and goes on with this batch.
    Error,
    /// It is held back until so many further batches have come, or until [`FaultStore::release`]; then all of
    /// them arrive together, in order.
    Hold(usize),
    /// Nothing happens to it.
    #[default]
    None,
}

/// Decides about faults. Methods not written mean no fault.
pub trait FaultPlan: Send + 'static {
    /// Decides about a commit.
    fn commit(&mut self, txn: &Txn) -> CommitFault {
        let _ = txn;
        CommitFault::None
    }

    /// Decides about a batch that a watcher is about to get; asked once for each batch and watcher.
    fn batch(&mut self, batch: &Batch) -> WatchFault {
        let _ = batch;
        WatchFault::None
    }

    /// Decides whether a call of `load`, `revision` or `watch` fails.
    fn read_fails(&mut self) -> bool {
        false
    }
}

/// No faults: a store that has been healed.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFaults;

impl FaultPlan for NoFaults {}

/// Faults by number: the first commit, batch delivery or read is number 0.
#[derive(Clone, Debug, Default)]
pub struct FaultScript {
    /// The faults of commits.
    pub commits: BTreeMap<u64, CommitFault>,
    /// The faults of deliveries, counted over all watchers.
    pub batches: BTreeMap<u64, WatchFault>,
    /// The reads that fail.
    pub reads: Vec<u64>,
    seen: Seen,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    batches: u64,
    commits: u64,
    reads: u64,
}

impl FaultPlan for FaultScript {
    fn commit(&mut self, _: &Txn) -> CommitFault {
        self.commits.get(&count(&mut self.seen.commits)).copied().unwrap_or_default()
    }

    fn batch(&mut self, _: &Batch) -> WatchFault {
        self.batches.get(&count(&mut self.seen.batches)).copied().unwrap_or_default()
    }

    fn read_fails(&mut self) -> bool {
        self.reads.contains(&count(&mut self.seen.reads))
    }
}

fn count(counter: &mut u64) -> u64 {
    *counter += 1;
    *counter - 1
}

/// The source of every error that a [`FaultStore`] makes up.
#[derive(Debug, thiserror::Error)]
#[error("fault injected")]
pub struct InjectedFault;

/// A store that fails as its plan says.
#[derive(Debug)]
pub struct FaultStore {
    inner: Arc<dyn StateStore>,
    plan: Plan,
    released: signal::Sender<u64>,
}

impl FaultStore {
    /// Wraps a store.
    pub fn new(inner: Arc<dyn StateStore>, plan: impl FaultPlan) -> Self {
        let plan = Plan(Arc::new(Mutex::new(Box::new(plan))));
        Self { inner, plan, released: signal::Sender::new(0) }
    }

    /// Replaces the plan; batches that are held back stay so.
    pub fn set_plan(&self, plan: impl FaultPlan) {
        *self.plan.lock() = Box::new(plan);
    }

    /// Delivers every batch that is held back.
    pub fn release(&self) {
        self.released.send_modify(|generation| *generation += 1);
    }

    fn read(&self) -> Result<(), StoreError> {
        if self.plan.lock().read_fails() { Err(injected()) } else { Ok(()) }
    }
}

#[async_trait]
impl StateStore for FaultStore {
    async fn revision(&self) -> Result<Revision, StoreError> {
        self.read()?;
        self.inner.revision().await
    }

    async fn load(&self, page: Option<PageToken>) -> Result<Page, StoreError> {
        self.read()?;
        self.inner.load(page).await
    }

    async fn commit(&self, txn: Txn) -> Result<CommitOutcome, StoreError> {
        let fault = self.plan.lock().commit(&txn);
        match fault {
            CommitFault::Conflict => match spurious_conflict(&txn) {
                Some(conflict) => Ok(conflict),
                None => self.inner.commit(txn).await,
            },
            CommitFault::Error => Err(injected()),
            CommitFault::None => self.inner.commit(txn).await,
            CommitFault::UnknownDone => {
                self.inner.commit(txn).await?;
                Ok(CommitOutcome::Unknown)
            }
            CommitFault::UnknownLost => Ok(CommitOutcome::Unknown),
        }
    }

    async fn watch(&self, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.read()?;
        Ok(Box::new(FaultWatch {
            ended: None,
            failing: false,
            held: VecDeque::new(),
            holding: 0,
            inner: self.inner.watch(after).await?,
            plan: self.plan.clone(),
            released: self.released.subscribe(),
        }))
    }
}

/// A conflict of the first record named, which bears just the revision that was expected.
fn spurious_conflict(txn: &Txn) -> Option<CommitOutcome> {
    let guards = txn.guards.iter().map(|guard| (&guard.key, guard.expect));
    let mut all = guards.chain(txn.writes.iter().map(|write| (write.key(), write.expect())));
    all.next().map(|(key, expect)| {
        let current = match expect {
            Expect::Absent => None,
            Expect::At(revision) => Some(revision),
        };
        CommitOutcome::Conflict { key: key.clone(), current }
    })
}

fn injected() -> StoreError {
    StoreError::Backend(InjectedFault.into())
}

#[derive(Debug)]
struct FaultWatch {
    ended: Option<Revision>,
    failing: bool,
    /// Batches that have come but not been delivered.
    held: VecDeque<Batch>,
    /// How many batches are to come before the held ones go.
    holding: usize,
    inner: Box<dyn Watch>,
    plan: Plan,
    released: signal::Receiver<u64>,
}

#[async_trait]
impl Watch for FaultWatch {
    async fn next(&mut self) -> Result<Batch, StoreError> {
        loop {
            if std::mem::take(&mut self.failing) {
                return Err(injected());
            }
            if self.holding == 0
                && let Some(batch) = self.held.pop_front()
            {
                return Ok(batch);
            }
            if let Some(oldest) = self.ended {
                return Err(StoreError::Compacted { oldest });
            }
            let holding = self.holding > 0;
            let released = async {
                match self.released.changed().await {
                    Ok(()) => {}
                    // The store is gone, and with it whoever could release.
                    Err(_) => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = released, if holding => self.holding = 0,
                batch = self.inner.next() => self.receive(batch?),
            }
        }
    }
}

impl FaultWatch {
    fn receive(&mut self, batch: Batch) {
        let fault = self.plan.lock().batch(&batch);
        self.holding = self.holding.saturating_sub(1);
        match fault {
            WatchFault::Compacted => {
                self.ended = Some(batch.revision);
                self.holding = 0;
                return;
            }
            WatchFault::Error => self.failing = true,
            WatchFault::Hold(batches) => {
                if self.holding == 0 {
                    // Only a release that comes later counts.
                    self.released.mark_unchanged();
                }
                self.holding = self.holding.max(batches);
            }
            WatchFault::None => {}
        }
        self.held.push_back(batch);
    }
}

/// The plan, shared by a store and its watches.
#[derive(Clone)]
struct Plan(Arc<Mutex<Box<dyn FaultPlan>>>);

impl Plan {
    fn lock(&self) -> MutexGuard<'_, Box<dyn FaultPlan>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Plan")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::mem::MemStore;
    use crate::testkit::store::{commit, load_all, put, record_key};

    fn store(commits: &[(u64, CommitFault)], batches: &[(u64, WatchFault)]) -> FaultStore {
        let script = FaultScript {
            commits: commits.iter().copied().collect(),
            batches: batches.iter().copied().collect(),
            ..FaultScript::default()
        };
        FaultStore::new(Arc::new(MemStore::new()), script)
    }

    fn poll(watch: &mut dyn Watch) -> Poll<Result<Batch, StoreError>> {
        std::pin::pin!(watch.next()).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn first(n: usize) -> Txn {
        put(record_key(n), Expect::Absent, "v")
    }

    #[tokio::test]
    async fn a_lost_answer_leaves_the_commit_done() {
        let store = store(&[(0, CommitFault::UnknownDone), (1, CommitFault::UnknownLost)], &[]);
        for n in 0..2 {
            assert_eq!(store.commit(first(n)).await.expect("told so"), CommitOutcome::Unknown);
        }
        let (_, records) = load_all(&store).await;
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].key, record_key(0));
    }

    #[tokio::test]
    async fn a_refused_commit_is_not_done() {
        let store = store(&[(0, CommitFault::Conflict), (1, CommitFault::Error)], &[]);
        let conflict = CommitOutcome::Conflict { key: record_key(0), current: None };
        assert_eq!(store.commit(first(0)).await.expect("told so"), conflict);
        assert!(matches!(store.commit(first(0)).await, Err(StoreError::Backend(_))));
        assert_eq!(load_all(&store).await, (Revision::ZERO, vec![]));
        commit(&store, first(0)).await;
    }

    #[tokio::test]
    async fn held_batches_arrive_together_and_in_order() {
        let store = store(&[], &[(0, WatchFault::Hold(2)), (3, WatchFault::Hold(9))]);
        let mut watch = store.watch(Revision::ZERO).await.expect("no fault");
        for n in 0..2 {
            commit(&store, first(n)).await;
            assert!(poll(&mut *watch).is_pending());
        }
        commit(&store, first(2)).await;
        for revision in 1..=3 {
            let Poll::Ready(Ok(batch)) = poll(&mut *watch) else { panic!("{revision} is held") };
            assert_eq!(batch.revision, Revision(revision));
        }
        commit(&store, first(3)).await;
        assert!(poll(&mut *watch).is_pending());
        store.release();
        assert!(matches!(poll(&mut *watch), Poll::Ready(Ok(_))));
    }

    #[tokio::test]
    async fn a_watch_fails_once_or_for_good() {
        let store = store(&[], &[(0, WatchFault::Error), (1, WatchFault::Compacted)]);
        let mut watch = store.watch(Revision::ZERO).await.expect("no fault");
        commit(&store, first(0)).await;
        commit(&store, first(1)).await;
        assert!(matches!(watch.next().await, Err(StoreError::Backend(_))));
        assert!(matches!(watch.next().await, Ok(batch) if batch.revision == Revision(1)));
        for _ in 0..2 {
            let error = watch.next().await;
            assert!(matches!(error, Err(StoreError::Compacted { oldest: Revision(2) })));
        }
    }

    #[tokio::test]
    async fn a_plan_may_fail_reads_and_be_replaced() {
        #[derive(Debug)]
        struct Deaf(Arc<AtomicBool>);
        impl FaultPlan for Deaf {
            fn read_fails(&mut self) -> bool {
                self.0.swap(true, Ordering::Relaxed);
                true
            }
        }
        let asked = Arc::new(AtomicBool::new(false));
        let store = FaultStore::new(Arc::new(MemStore::new()), Deaf(asked.clone()));
        assert!(store.revision().await.is_err() && store.load(None).await.is_err());
        assert!(asked.load(Ordering::Relaxed));
        store.set_plan(NoFaults);
        assert_eq!(store.revision().await.expect("healed"), Revision::ZERO);
    }
}
