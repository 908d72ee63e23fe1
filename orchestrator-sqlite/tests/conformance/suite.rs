//! The conformance suite of the store contract over SQLite.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use orchestrator_core::model::Revision;
use orchestrator_core::store::{Expect, StateStore, StoreError};
use orchestrator_core::testkit::store::{
    DurableStoreFixture, StoreFixture, commit, put, record_key, watch_error,
};
use orchestrator_core::{durable_store_conformance, store_conformance};
use orchestrator_sqlite::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

/// Stores in a directory that goes when the fixture goes.
struct Sqlite {
    directory: TempDir,
    made: AtomicUsize,
}

impl Sqlite {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self { directory, made: AtomicUsize::new(0) }
    }

    fn path(&self, n: usize) -> PathBuf {
        self.directory.path().join(format!("{n}.db"))
    }
}

/// Small limits, so that watches often read the log and listings have many pages.
fn options() -> SqliteOptions {
    SqliteOptions {
        history_batches_max: 200,
        page_records_max: 7,
        recent_batches_max: 3,
        ..SqliteOptions::default()
    }
}

#[async_trait]
impl StoreFixture for Sqlite {
    type Store = SqliteStore;

    async fn fresh(&self) -> Arc<SqliteStore> {
        let path = self.path(self.made.fetch_add(1, Ordering::Relaxed));
        Arc::new(SqliteStore::open_with(path, options()).await.expect("a new database opens"))
    }

    async fn compact(&self, store: &SqliteStore, revision: Revision) {
        store.compact(revision).await.expect("compaction succeeds");
    }
}

#[async_trait]
impl DurableStoreFixture for Sqlite {
    async fn reopen(&self, store: Arc<SqliteStore>) -> Arc<SqliteStore> {
        store.close().await;
        let path = store.path().to_owned();
        drop(store);
        Arc::new(SqliteStore::open_with(path, options()).await.expect("it opens again"))
    }
}

store_conformance!(Sqlite::new());
durable_store_conformance!(Sqlite::new());

#[tokio::test]
async fn s3_a_database_that_takes_anothers_place_goes_on_above_its_revisions() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let old = Revision(1_800_000_000_000_000);
    let options = SqliteOptions { begin_after: old, ..SqliteOptions::default() };
    let path = directory.path().join("new.db");
    let store = SqliteStore::open_with(&path, options).await.expect("opens");
    assert_eq!(store.revision().await.expect("open"), old);
    let first = commit(&store, put(record_key(0), Expect::Absent, "v")).await;
    assert!(first > old);
    for before in [Revision::ZERO, Revision(old.0 - 1)] {
        let error = watch_error(&store, before).await;
        assert!(matches!(error, StoreError::Compacted { oldest } if oldest == old), "{error:?}");
    }
    store.close().await;
    let store = SqliteStore::open(&path).await.expect("opens");
    let second = commit(&store, put(record_key(0), Expect::At(first), "w")).await;
    assert!(second > first);
}
