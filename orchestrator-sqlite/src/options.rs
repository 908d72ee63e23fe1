//! `SqliteOptions`: the limits of a store, each with its default.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use orchestrator_core::model::Revision;

/// The most commits kept for watchers on disk, by default.
pub(crate) const HISTORY_BATCHES_MAX: usize = 10_000;
/// The most bytes of history on disk, by default.
pub(crate) const HISTORY_BYTES_MAX: u64 = 64 << 20;
/// The age in seconds at which history may go, by default.
pub(crate) const HISTORY_AGE_MAX_S: u64 = 3_600;
/// The most commits kept in memory, by default.
pub(crate) const RECENT_BATCHES_MAX: usize = 1_024;
/// The most bytes of commits kept in memory, by default.
pub(crate) const RECENT_BYTES_MAX: usize = 8 << 20;
/// The most records in a page of a listing, by default.
pub(crate) const PAGE_RECORDS_MAX: usize = 1_000;
/// The most bytes of the database file, by default.
pub(crate) const DATABASE_BYTES_MAX: u64 = 16 << 30;

/// How a store behaves. Begin with `Default` and change what you need.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// A database that is made anew counts its revisions on from here: one that takes the place of another, which has given out
    /// those up to here. Of one that is there nothing changes. 0 unless changed.
    pub begin_after: Revision,
    /// The most bytes the database file may have; commits beyond fail. 16 GiB unless changed.
    pub database_bytes_max: u64,
    /// What happens when the disk fails a sync; aborts the process unless changed.
    pub fatal: Fatal,
    /// The age in seconds at which history may go, though limits on number and size allow it. 1 hour unless changed.
    pub history_age_max_s: u64,
    /// The most commits kept on disk for watchers that start in the past. 10,000 unless changed.
    pub history_batches_max: usize,
    /// The most bytes of such commits. 64 MiB unless changed.
    pub history_bytes_max: u64,
    /// The most records in a page of a listing. 1,000 unless changed.
    pub page_records_max: usize,
    /// The most commits kept in memory, from which watchers are served. 1,024 unless changed.
    pub recent_batches_max: usize,
    /// The most bytes of such commits. 8 MiB unless changed.
    pub recent_bytes_max: usize,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            begin_after: Revision::ZERO,
            database_bytes_max: DATABASE_BYTES_MAX,
            fatal: Fatal::abort(),
            history_age_max_s: HISTORY_AGE_MAX_S,
            history_batches_max: HISTORY_BATCHES_MAX,
            history_bytes_max: HISTORY_BYTES_MAX,
            page_records_max: PAGE_RECORDS_MAX,
            recent_batches_max: RECENT_BATCHES_MAX,
            recent_bytes_max: RECENT_BYTES_MAX,
        }
    }
}

/// What to do when a sync or a commit fails with the fate of the data unknown.
///
/// After a failed fsync the kernel may have dropped the pages while calling them clean, so that no second
/// attempt can tell. The default ends the process; what is on disk is then read afresh.
#[derive(Clone)]
pub struct Fatal(Arc<Hook>);

type Hook = dyn Fn(&(dyn Error + 'static)) + Send + Sync;

impl Fatal {
    /// Ends the process at once.
    pub fn abort() -> Self {
        Self::call(|_| std::process::abort())
    }

    /// Calls `hook` on the writer thread; if it returns, the store is closed.
    pub fn call(hook: impl Fn(&(dyn Error + 'static)) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }

    pub(crate) fn raise(&self, error: &(dyn Error + 'static)) {
        tracing::error!(error, "the disk failed a commit");
        (self.0)(error);
    }
}

impl fmt::Debug for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fatal")
    }
}
