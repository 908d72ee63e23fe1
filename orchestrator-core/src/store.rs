//! The trait `StateStore`: revisioned records, multi-key compare-and-swap, watch; nothing else.
//!
//! A store knows keys and bytes, not objects. Depends on `model::ids` alone. Numbered clauses (`ST…`) are the
//! contract; the suite in `testkit` has one test for each.

use std::fmt::{self, Debug};

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::{Key, Part, Revision};

/// The most writes a transaction may hold (etcd's default limit is 128 operations; guards count there too).
pub const TXN_WRITES_MAX: usize = 64;
/// The most guards a transaction may hold.
pub const TXN_GUARDS_MAX: usize = 32;
/// The most bytes the values of a transaction may have together (below etcd's 1.5 MiB).
pub const TXN_BYTES_MAX: usize = 1 << 20;

/// Any error of a backend.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Names a record: an object and which part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// The object.
    pub object: Key,
    /// The part.
    pub part: Part,
}

impl RecordKey {
    /// Names the main record of an object.
    pub const fn main(object: Key) -> Self {
        Self { object, part: Part::Main }
    }

    /// Names the status record of an object.
    pub const fn status(object: Key) -> Self {
        Self { object, part: Part::Status }
    }
}

/// The object's name; behind it `#status` for its status. By this name a record that cannot be read is known.
impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Part::Main => write!(f, "{}", self.object),
            Part::Status => write!(f, "{}{STATUS_MARK}", self.object),
        }
    }
}

/// What tells the name of a status record from that of its object.
pub(crate) const STATUS_MARK: &str = "#status";

/// A record as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub key: RecordKey,
    /// The revision of the commit that last wrote it.
    pub revision: Revision,
    /// Its bytes; opaque to the store.
    pub value: Bytes,
}

/// What a writer believes about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is no such record.
    Absent,
    /// The record was last written by this revision.
    At(Revision),
}

/// A read-only precondition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The record.
    pub key: RecordKey,
    /// What must be true of it.
    pub expect: Expect,
}

/// One write; there is none without a precondition (S4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Removes a record that was last written by `expect`.
    Delete {
        /// The record.
        key: RecordKey,
        /// The revision that last wrote it.
        expect: Revision,
    },
    /// Writes a record.
    Put {
        /// The record.
        key: RecordKey,
        /// What must be true of it.
        expect: Expect,
        /// Its new bytes.
        value: Bytes,
    },
}

impl Write {
    /// The record this write concerns.
    pub const fn key(&self) -> &RecordKey {
        match self {
            Self::Delete { key, .. } | Self::Put { key, .. } => key,
        }
    }

    /// What must be true of the record.
    pub const fn expect(&self) -> Expect {
        match self {
            Self::Delete { expect, .. } => Expect::At(*expect),
            Self::Put { expect, .. } => *expect,
        }
    }
}

/// Writes that happen together or not at all. Holds only what must be atomic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// Preconditions on records that are not written.
    pub guards: Vec<Guard>,
    /// Writes, each record at most once.
    pub writes: Vec<Write>,
}

impl Txn {
    /// The bytes of all values together.
    pub fn bytes(&self) -> usize {
        let lengths = self.writes.iter().map(|write| match write {
            Write::Put { value, .. } => value.len(),
            Write::Delete { .. } => 0,
        });
        lengths.sum()
    }

    /// Returns why the transaction is over a limit or names a record twice; `None` when it is well-formed.
    pub fn defect(&self) -> Option<String> {
        let bytes = self.bytes();
        let mut keys: Vec<_> = self
            .writes
            .iter()
            .map(Write::key)
            .chain(self.guards.iter().map(|guard| &guard.key))
            .collect();
        keys.sort();
        let twice = keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
        if self.writes.len() > TXN_WRITES_MAX {
            Some(format!("{} writes, at most {TXN_WRITES_MAX}", self.writes.len()))
        } else if self.guards.len() > TXN_GUARDS_MAX {
            Some(format!("{} guards, at most {TXN_GUARDS_MAX}", self.guards.len()))
        } else if bytes > TXN_BYTES_MAX {
            Some(format!("{bytes} bytes, at most {TXN_BYTES_MAX}"))
        } else {
            twice.map(|key| format!("{} ({:?}) is named twice", key.object, key.part))
        }
    }
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It is durable, at this revision.
    Committed(Revision),
    /// A precondition did not hold; nothing was written.
    Conflict {
        /// The first record (guards in order, then writes in order) whose precondition failed.
        key: RecordKey,
        /// The revision that last wrote it; `None` if there is no such record.
        current: Option<Revision>,
    },
    /// Nobody knows. Wait until the world has reached [`StateStore::revision`], then look.
    Unknown,
}

/// One change of a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordChange {
    /// The record.
    pub key: RecordKey,
    /// Its new bytes; `None` when it was deleted.
    pub value: Option<Bytes>,
}

/// Everything one commit changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The commit's revision; the new revision of every record it wrote.
    pub revision: Revision,
    /// The changes, in the order of the transaction's writes.
    pub changes: Vec<RecordChange>,
}

/// A record that cannot be read; it is reported and stops nothing else (S11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The record as its [`RecordKey`] is printed, by which it is found again; where its name cannot be read, as far as it can.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
    /// The commit that last wrote it, as far as is known: without it, it cannot be removed.
    pub revision: Option<Revision>,
}

/// A place in a paged listing; made by a store, opaque to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageToken(pub String);

/// A page of all records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The revision at which every page of this listing was read.
    pub revision: Revision,
    /// Records in key order.
    pub records: Vec<Record>,
    /// Records that could not be read.
    pub quarantined: Vec<Quarantined>,
    /// Where the next page begins; `None` on the last page.
    pub next: Option<PageToken>,
}

/// What went wrong in a store; the variant says what the caller does next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The backend failed; trying again may help.
    #[error("store backend failed")]
    Backend(#[source] BoxError),
    /// The store is closed; nothing helps.
    #[error("store is closed")]
    Closed,
    /// History before this revision is gone: load again.
    #[error("history is compacted up to revision {oldest}")]
    Compacted {
        /// The oldest revision a watch may start after.
        oldest: Revision,
    },
    /// The transaction is over a limit or names a record twice; a defect of the caller.
    #[error("transaction refused: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// The page token is none of this store's, or its listing has expired: load again.
    #[error("page token is unknown or expired")]
    StalePage,
}

/// Durable, revisioned records.
///
/// # Guarantees (each is a test of the conformance suite)
/// - **ST1** A committed transaction is visible to every later `load`, `revision` and `watch`.
/// - **ST2** Revisions strictly increase with each commit (gaps allowed) and are never reused, also across reopening (S3).
/// - **ST3** A conflict leaves no trace: no record, no revision, no watch event.
/// - **ST4** A conflict names the first offending record, guards before writes, and its current revision.
/// - **ST5** A transaction is atomic: all of its writes bear one revision and arrive in one batch.
/// - **ST6** `Expect::Absent` holds only for records that do not exist; `At` only for that very revision, also after delete and re-creation.
/// - **ST7** Guards write nothing; a transaction without writes changes nothing and answers the newest revision.
/// - **ST8** All pages of one listing show one revision, each record once, in key order (S9).
/// - **ST9** A watch yields every later commit once, in order, without gaps, deletions included (S6), or fails with `Compacted`.
/// - **ST10** A watch after a compacted revision fails with `Compacted`; it never skips silently.
/// - **ST11** A slow watcher never blocks a writer (L8).
/// - **ST12** Over-limit and self-contradicting transactions are refused with `Malformed` and change nothing.
/// - **ST13** Of concurrent transactions with the same precondition exactly one commits (S1).
/// - **ST14** An acknowledged commit survives reopening (S2). (Durable stores only.)
/// - **ST15** A watch after a revision that has not happened yet waits for it; it never shows older commits.
/// - **ST16** Concurrent independent transactions all commit.
///
/// # Example
/// ```
/// # use orchestrator_core::{mem::MemStore, model::*, store::*};
/// # async fn example() -> Result<(), StoreError> {
/// let store = MemStore::new();
/// let key = RecordKey::main(Key::pod("default", "web"));
/// let write = Write::Put { key, expect: Expect::Absent, value: "{}".into() };
/// let outcome = store.commit(Txn { guards: vec![], writes: vec![write] }).await?;
/// assert!(matches!(outcome, CommitOutcome::Committed(_)));
/// # Ok(()) }
/// ```
#[async_trait]
pub trait StateStore: Debug + Send + Sync + 'static {
    /// Returns the revision of the newest commit (linearizable).
    async fn revision(&self) -> Result<Revision, StoreError>;

    /// Lists every record, paged; pass `None` to begin.
    async fn load(&self, page: Option<PageToken>) -> Result<Page, StoreError>;

    /// Checks every precondition and writes everything, or nothing.
    async fn commit(&self, txn: Txn) -> Result<CommitOutcome, StoreError>;

    /// Follows every commit after `after`.
    async fn watch(&self, after: Revision) -> Result<Box<dyn Watch>, StoreError>;
}

/// A stream of commits.
#[async_trait]
pub trait Watch: Debug + Send {
    /// Waits for the next commit. Cancel-safe: a dropped call loses no batch.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when this watcher was too slow, [`StoreError::Closed`] at the end.
    async fn next(&mut self) -> Result<Batch, StoreError>;
}
