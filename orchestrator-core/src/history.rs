//! `History`: the newest batches of a store, kept in memory for its watchers.
//!
//! For implementers of `StateStore`. It needs no runtime: waiting is done with the standard library's
//! wakers. Invariant: a cursor yields every batch after its start once and in order, or says `Compacted`;
//! pushing never waits for a reader.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::model::Revision;
use crate::store::{Batch, StoreError};

/// The most batches a history keeps unless told otherwise.
pub const HISTORY_MAX: usize = 10_000;
/// The most bytes of keys and values a history keeps unless told otherwise.
pub const HISTORY_BYTES_MAX: usize = 64 << 20;

/// What a change costs beyond the bytes of its key and value, roughly.
const CHANGE_OVERHEAD_BYTES: usize = 96;

/// How much a [`History`] keeps; the newest batch is always kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// The most batches.
    pub batches_max: usize,
    /// The most bytes of keys and values.
    pub bytes_max: usize,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self { batches_max: HISTORY_MAX, bytes_max: HISTORY_BYTES_MAX }
    }
}

/// The newest batches of a store; clones share them.
#[derive(Clone)]
pub struct History {
    state: Arc<Mutex<State>>,
}

impl History {
    /// Makes a history that begins after the revision `newest`.
    pub fn new(newest: Revision, limits: HistoryLimits) -> Self {
        let state = State {
            batches: VecDeque::new(),
            bytes: 0,
            closed: false,
            limits,
            newest,
            oldest: newest,
            waiter_last: 0,
            waiters: BTreeMap::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The revision of the newest batch ever pushed, or the one the history began after.
    pub fn newest(&self) -> Revision {
        self.lock().newest
    }

    /// The oldest revision a cursor may start after.
    pub fn oldest(&self) -> Revision {
        self.lock().oldest
    }

    /// Adds batches, whose revisions must increase, and wakes every waiting cursor.
    pub fn push(&self, batches: impl IntoIterator<Item = Batch>) {
        let mut state = self.lock();
        let before = state.newest;
        for batch in batches {
            assert!(batch.revision > state.newest, "revisions increase");
            state.newest = batch.revision;
            state.bytes += weight(&batch);
            state.batches.push_back(Arc::new(batch));
        }
        if state.newest > before {
            state.trim();
            wake(state);
        }
    }

    /// Changes the limits, and forgets what is over them.
    pub fn set_limits(&self, limits: HistoryLimits) {
        let mut state = self.lock();
        state.limits = limits;
        state.trim();
    }

    /// Forgets every batch up to `revision`, and wakes the cursors that were still to read one.
    pub fn compact(&self, revision: Revision) {
        let mut state = self.lock();
        let revision = revision.min(state.newest);
        while state.batches.front().is_some_and(|batch| batch.revision <= revision) {
            state.forget_first();
        }
        state.oldest = state.oldest.max(revision);
        wake(state);
    }

    /// Ends the history: cursors yield what is there, then `Closed`.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        wake(state);
    }

    /// Whether the history has ended.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Follows every batch after `after`, which may lie in the future.
    pub fn cursor(&self, after: Revision) -> Cursor {
        Cursor { after, waiter: self.waiter() }
    }

    /// Waits until the newest revision is at least `revision`, or the history is closed. Cancel-safe.
    pub async fn reached(&self, revision: Revision) {
        let waiter = self.waiter();
        poll_fn(|context| {
            let mut state = self.lock();
            if state.newest >= revision || state.closed {
                return Poll::Ready(());
            }
            state.waiters.insert(waiter.id, context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn waiter(&self) -> Waiter {
        let mut state = self.lock();
        state.waiter_last += 1;
        Waiter { history: self.clone(), id: state.waiter_last }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it is held (the assertion above) leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("History")
            .field("oldest", &state.oldest)
            .field("newest", &state.newest)
            .field("batches", &state.batches.len())
            .finish_non_exhaustive()
    }
}

/// A reader of a [`History`].
#[derive(Debug)]
pub struct Cursor {
    after: Revision,
    waiter: Waiter,
}

impl Cursor {
    /// The revision of the batch yielded last, or the one the cursor started after.
    pub const fn after(&self) -> Revision {
        self.after
    }

    /// Moves the cursor: the next batch is the first one after `after`.
    pub fn seek(&mut self, after: Revision) {
        self.after = after;
    }

    /// Waits for the next batch. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when it is no longer kept, [`StoreError::Closed`] at the end.
    pub async fn next(&mut self) -> Result<Batch, StoreError> {
        let batch = poll_fn(|context| self.poll(context)).await?;
        Ok(Arc::unwrap_or_clone(batch))
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Result<Arc<Batch>, StoreError>> {
        let mut state = self.waiter.history.lock();
        if self.after < state.oldest {
            return Poll::Ready(Err(StoreError::Compacted { oldest: state.oldest }));
        }
        let position = state.batches.partition_point(|batch| batch.revision <= self.after);
        if let Some(batch) = state.batches.get(position) {
            self.after = batch.revision;
            return Poll::Ready(Ok(batch.clone()));
        }
        if state.closed {
            return Poll::Ready(Err(StoreError::Closed));
        }
        state.waiters.insert(self.waiter.id, context.waker().clone());
        Poll::Pending
    }
}

/// A place in the list of those who wait; leaves it when dropped.
#[derive(Debug)]
struct Waiter {
    history: History,
    id: u64,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        // Dropped outside the lock: a waker may own a task that owns a cursor of this history.
        let waker = self.history.lock().waiters.remove(&self.id);
        drop(waker);
    }
}

struct State {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
    closed: bool,
    limits: HistoryLimits,
    newest: Revision,
    oldest: Revision,
    waiter_last: u64,
    waiters: BTreeMap<u64, Waker>,
}

impl State {
    fn trim(&mut self) {
        while self.batches.len() > 1
            && (self.batches.len() > self.limits.batches_max || self.bytes > self.limits.bytes_max)
        {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(batch) = self.batches.pop_front() {
            self.bytes -= weight(&batch);
            self.oldest = batch.revision;
        }
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waiters = std::mem::take(&mut state.waiters);
    drop(state);
    for waker in waiters.into_values() {
        waker.wake();
    }
}

fn weight(batch: &Batch) -> usize {
    let change_bytes = batch.changes.iter().map(|change| {
        let key = &change.key.object;
        let value = change.value.as_ref().map_or(0, bytes::Bytes::len);
        key.namespace.len() + key.name.len() + value + CHANGE_OVERHEAD_BYTES
    });
    change_bytes.sum()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn batch(revision: u64) -> Batch {
        Batch { revision: Revision(revision), changes: vec![] }
    }

    fn poll(cursor: &mut Cursor) -> Poll<Result<Batch, StoreError>> {
        pin!(cursor.next()).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_cursor_yields_each_batch_once_and_then_waits() {
        let history = History::new(Revision(4), HistoryLimits::default());
        let mut cursor = history.cursor(Revision(4));
        assert!(poll(&mut cursor).is_pending());
        history.push([batch(5), batch(9)]);
        for revision in [5, 9] {
            assert!(
                matches!(poll(&mut cursor), Poll::Ready(Ok(got)) if got == batch(revision)),
                "{revision}"
            );
        }
        assert!(poll(&mut cursor).is_pending());
    }

    #[test]
    fn a_cursor_behind_the_oldest_batch_is_compacted() {
        let limits = HistoryLimits { batches_max: 2, ..HistoryLimits::default() };
        let history = History::new(Revision::ZERO, limits);
        let mut cursor = history.cursor(Revision::ZERO);
        history.push([batch(1), batch(2), batch(3)]);
        assert!(matches!(
            poll(&mut cursor),
            Poll::Ready(Err(StoreError::Compacted { oldest: Revision(1) }))
        ));
        let mut cursor = history.cursor(Revision(1));
        assert!(matches!(poll(&mut cursor), Poll::Ready(Ok(got)) if got == batch(2)));
    }

    #[test]
    fn a_closed_history_yields_what_is_left_and_ends() {
        let history = History::new(Revision::ZERO, HistoryLimits::default());
        let mut cursor = history.cursor(Revision::ZERO);
        history.push([batch(1)]);
        history.close();
        assert!(matches!(poll(&mut cursor), Poll::Ready(Ok(_))));
        assert!(matches!(poll(&mut cursor), Poll::Ready(Err(StoreError::Closed))));
    }

    #[test]
    fn a_dropped_cursor_no_longer_waits() {
        let history = History::new(Revision::ZERO, HistoryLimits::default());
        let mut cursor = history.cursor(Revision::ZERO);
        assert!(poll(&mut cursor).is_pending());
        assert_eq!(history.lock().waiters.len(), 1);
        drop(cursor);
        assert_eq!(history.lock().waiters.len(), 0);
    }
}
