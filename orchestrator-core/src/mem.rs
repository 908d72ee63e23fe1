//! `MemStore`: a store in memory, for tests, plans, simulations and clusters that need not outlive the process.
//!
//! It meets every clause of the store contract but durability (ST14). It needs no runtime and reads no
//! clock: the same calls in the same order give the same answers.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rpds::RedBlackTreeMapSync;

use crate::history::{Cursor, History, HistoryLimits};
use crate::model::{Part, Revision};
use crate::mutants::{self, Mutant};
use crate::store::{
    Batch, CommitOutcome, Expect, Page, PageToken, Record, RecordChange, RecordKey, StateStore,
    StoreError, Txn, Watch, Write,
};

/// The most records in a page unless told otherwise.
pub const PAGE_RECORDS_MAX: usize = 1_000;
/// The most unfinished listings; a further one makes the oldest expire.
pub const LISTINGS_MAX: usize = 16;

/// A store in memory; clones share it.
#[derive(Clone)]
pub struct MemStore {
    history: History,
    state: Arc<Mutex<State>>,
}

impl MemStore {
    /// Makes an empty store.
    pub fn new() -> Self {
        let state = State {
            listing_last: 0,
            listings: BTreeMap::new(),
            page_max: PAGE_RECORDS_MAX,
            snapshot: Snapshot {
                records: RedBlackTreeMapSync::new_sync(),
                revision: Revision::ZERO,
            },
        };
        Self {
            history: History::new(Revision::ZERO, HistoryLimits::default()),
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Keeps at most `batches_max` commits for watchers (at least one).
    #[must_use]
    pub fn with_history_max(self, batches_max: usize) -> Self {
        self.history.set_limits(HistoryLimits { batches_max, ..HistoryLimits::default() });
        self
    }

    /// Lists at most `records_max` records in a page (at least one).
    #[must_use]
    pub fn with_page_max(self, records_max: usize) -> Self {
        self.lock().page_max = records_max.max(1);
        self
    }

    /// Forgets the history up to `revision`: a watch that starts before it fails with `Compacted`.
    pub fn compact(&self, revision: Revision) {
        self.history.compact(revision);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is made by one assignment, so that a panic leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemStore")
            .field("records", &self.lock().snapshot.records.size())
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl StateStore for MemStore {
    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.lock().snapshot.revision)
    }

    async fn load(&self, page: Option<PageToken>) -> Result<Page, StoreError> {
        let mut state = self.lock();
        match page {
            None => {
                let snapshot = state.snapshot.clone();
                state.listing_last += 1;
                let listing = state.listing_last;
                Ok(state.page(listing, &snapshot, Bound::Unbounded))
            }
            Some(token) => {
                let (listing, last) = parse_token(&token).ok_or(StoreError::StalePage)?;
                let snapshot =
                    state.listings.get(&listing).cloned().ok_or(StoreError::StalePage)?;
                Ok(state.page(listing, &snapshot, Bound::Excluded(&last)))
            }
        }
    }

    async fn commit(&self, txn: Txn) -> Result<CommitOutcome, StoreError> {
        if let Some(reason) = txn.defect() {
            return Err(StoreError::Malformed { reason });
        }
        let mut state = self.lock();
        let conflict = state.snapshot.conflict(&txn);
        if let Some(conflict) = conflict.filter(|_| !mutants::on(Mutant::PreconditionsIgnored)) {
            return Ok(conflict);
        }
        if txn.writes.is_empty() {
            return Ok(CommitOutcome::Committed(state.snapshot.revision));
        }
        let batch = state.snapshot.apply(txn.writes);
        let revision = batch.revision;
        // Pushed under the lock: batches must enter the history in the order of their revisions.
        self.history.push([batch]);
        Ok(CommitOutcome::Committed(revision))
    }

    async fn watch(&self, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        let oldest = self.history.oldest();
        if after < oldest {
            return Err(StoreError::Compacted { oldest });
        }
        Ok(Box::new(MemWatch(self.history.cursor(after))))
    }
}

#[derive(Debug)]
struct MemWatch(Cursor);

#[async_trait]
impl Watch for MemWatch {
    async fn next(&mut self) -> Result<Batch, StoreError> {
        self.0.next().await
    }
}

struct State {
    listing_last: u64,
    listings: BTreeMap<u64, Snapshot>,
    page_max: usize,
    snapshot: Snapshot,
}

impl State {
    /// Reads a page, and keeps the snapshot for the next one if there is one.
    fn page(&mut self, listing: u64, snapshot: &Snapshot, from: Bound<&RecordKey>) -> Page {
        let mut range = snapshot.records.range::<RecordKey, _>((from, Bound::Unbounded));
        let records: Vec<Record> =
            range.by_ref().take(self.page_max).map(|(key, entry)| entry.record(key)).collect();
        let more = range.next().is_some();
        let next = records.last().filter(|_| more).map(|last| token(listing, &last.key));
        if more {
            self.listings.insert(listing, snapshot.clone());
            while self.listings.len() > LISTINGS_MAX {
                self.listings.pop_first();
            }
        } else {
            self.listings.remove(&listing);
        }
        Page { revision: snapshot.revision, records, quarantined: vec![], next }
    }
}

/// All records at one revision; cloning it is cheap.
#[derive(Clone)]
struct Snapshot {
    records: RedBlackTreeMapSync<RecordKey, Entry>,
    revision: Revision,
}

impl Snapshot {
    fn conflict(&self, txn: &Txn) -> Option<CommitOutcome> {
        let guards = txn.guards.iter().map(|guard| (&guard.key, guard.expect));
        let writes = txn.writes.iter().map(|write| (write.key(), write.expect()));
        guards.chain(writes).find_map(|(key, expect)| {
            let current = self.records.get(key).map(|entry| entry.revision);
            let holds = match expect {
                Expect::Absent => current.is_none(),
                Expect::At(revision) => current == Some(revision),
            };
            (!holds).then(|| CommitOutcome::Conflict { key: key.clone(), current })
        })
    }

    fn apply(&mut self, writes: Vec<Write>) -> Batch {
        let revision = Revision(self.revision.0 + 1);
        let mut records = self.records.clone();
        let mut changes = Vec::with_capacity(writes.len());
        for write in writes {
            let (key, value) = match write {
                Write::Delete { key, .. } => (key, None),
                Write::Put { key, value, .. } => (key, Some(value)),
            };
            match &value {
                None => _ = records.remove_mut(&key),
                Some(value) => {
                    records.insert_mut(key.clone(), Entry { revision, value: value.clone() });
                }
            }
            changes.push(RecordChange { key, value });
        }
        *self = Self { records, revision };
        Batch { revision, changes }
    }
}

#[derive(Clone)]
struct Entry {
    revision: Revision,
    value: Bytes,
}

impl Entry {
    fn record(&self, key: &RecordKey) -> Record {
        Record { key: key.clone(), revision: self.revision, value: self.value.clone() }
    }
}

/// Names a listing and the record after which its next page begins.
fn token(listing: u64, last: &RecordKey) -> PageToken {
    let part = match last.part {
        Part::Main => "main",
        Part::Status => "status",
    };
    PageToken(format!("{listing} {part} {}", last.object))
}

fn parse_token(token: &PageToken) -> Option<(u64, RecordKey)> {
    let mut words = token.0.splitn(3, ' ');
    let listing = words.next()?.parse().ok()?;
    let part = match words.next()? {
        "main" => Part::Main,
        "status" => Part::Status,
        _ => return None,
    };
    let object = words.next()?.parse().ok()?;
    Some((listing, RecordKey { object, part }))
}

#[cfg(all(test, feature = "testkit"))]
mod tests {
    use super::*;
    use crate::testkit::store::StoreFixture;

    struct Mem;

    #[async_trait]
    impl StoreFixture for Mem {
        type Store = MemStore;

        async fn fresh(&self) -> Arc<MemStore> {
            Arc::new(MemStore::new().with_page_max(7).with_history_max(200))
        }

        async fn compact(&self, store: &MemStore, revision: Revision) {
            store.compact(revision);
        }
    }

    crate::store_conformance!(Mem);
}
