//! `SealedStore`: the conformance suite with every record sealed, and what lies in the store behind.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use orchestrator_core::api::OBJECT_BYTES_MAX;
use orchestrator_core::mem::MemStore;
use orchestrator_core::model::{Key, Kind, Revision};
use orchestrator_core::store::{
    CommitOutcome, Expect, Page, PageToken, Record, RecordKey, StateStore, StoreError,
    TXN_BYTES_MAX, Txn, Watch,
};
use orchestrator_core::testkit::store::{StoreFixture, commit, load_all, next_batch, put};
use orchestrator_core::world::World;
use orchestrator_seal::{KeyRing, SealedStore, is_sealed};
use orchestrator_sqlite::SqliteStore;
use tempfile::TempDir;

const CANARY: &str = "c4n4ry-9b1f";

/// Stores in memory, of which every record is sealed.
struct Everything {
    directory: TempDir,
    keys: Arc<KeyRing>,
}

/// A store with what compacts it.
#[derive(Clone, Debug)]
struct Sealed(SealedStore, MemStore);

#[async_trait]
impl StateStore for Sealed {
    async fn revision(&self) -> Result<Revision, StoreError> {
        self.0.revision().await
    }

    async fn load(&self, page: Option<PageToken>) -> Result<Page, StoreError> {
        self.0.load(page).await
    }

    async fn commit(&self, txn: Txn) -> Result<CommitOutcome, StoreError> {
        self.0.commit(txn).await
    }

    async fn watch(&self, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.0.watch(after).await
    }
}

impl Everything {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let keys = Arc::new(KeyRing::open(directory.path().join("keys")).expect("made"));
        Self { directory, keys }
    }
}

#[async_trait]
impl StoreFixture for Everything {
    type Store = Sealed;

    async fn fresh(&self) -> Arc<Sealed> {
        assert!(self.directory.path().exists());
        let inner = MemStore::new().with_page_max(7).with_history_max(200);
        let sealed =
            SealedStore::sealing(Arc::new(inner.clone()), Arc::clone(&self.keys), |_| true);
        Arc::new(Sealed(sealed, inner))
    }

    async fn compact(&self, store: &Sealed, revision: Revision) {
        store.1.compact(revision);
    }
}

mod store_conformance {
    use super::*;

    // All of the suite but ST12's largest transaction, which a sealed one cannot be: a test below says how large it may be.
    orchestrator_core::store_clauses! { Everything::new();
        st1_a_commit_is_visible_to_later_reads
        st2_revisions_strictly_increase
        st3_a_conflict_leaves_no_trace
        st4_a_conflict_names_the_first_offender
        st5_a_transaction_is_atomic
        st6_expectations_are_exact
        st7_guards_write_nothing
        st8_pages_show_one_revision
        st8_an_unknown_page_is_stale
        st9_a_watch_yields_every_commit_in_order
        st9_a_dropped_wait_loses_nothing
        st10_a_watch_of_compacted_history_fails
        st11_a_slow_watcher_blocks_nobody
        st13_of_equal_transactions_one_commits
        st15_a_watch_of_the_future_waits
        st16_independent_transactions_all_commit
    }

    #[test]
    fn it_agrees_with_a_model() {
        orchestrator_core::testkit::store_model::agrees_with_model(Everything::new);
    }
}

#[tokio::test]
async fn the_largest_object_fits_and_what_is_over_the_limit_is_refused() {
    let store = Everything::new().fresh().await;
    commit(&*store, put(secret("large"), Expect::Absent, &"x".repeat(OBJECT_BYTES_MAX))).await;
    let over = put(secret("over"), Expect::Absent, &"x".repeat(TXN_BYTES_MAX + 1));
    let refused = store.commit(over).await;
    assert!(matches!(refused, Err(StoreError::Malformed { .. })), "{refused:?}");
    assert_eq!(load_all(&*store).await.1.len(), 1);
}

fn secret(name: &str) -> RecordKey {
    RecordKey::main(Key::new(Kind::Secret, "default", name))
}

fn value() -> String {
    format!(
        r#"{{"schema":1,"metadata":{{"name":"s","namespace":"default","uid":"0190a0a0-0000-7000-8000-000000000001","annotations":{{"last":"{CANARY}"}}}},"data":{{"p":"{CANARY}"}}}}"#
    )
}

fn holds_canary(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let files = entries.map(|entry| entry.expect("an entry").path());
    let held = files.filter(|file| {
        let bytes = std::fs::read(file).expect("readable");
        bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
    });
    held.map(|file| file.display().to_string()).collect()
}

#[tokio::test]
async fn s41_no_file_of_a_database_holds_a_secret_in_clear() {
    let everything = Everything::new();
    let directory = tempfile::tempdir().expect("a directory");
    let sqlite = Arc::new(SqliteStore::open(directory.path().join("c.db")).await.expect("opens"));
    let store = SealedStore::new(sqlite.clone(), Arc::clone(&everything.keys));
    let mut watch = store.watch(Revision::ZERO).await.expect("open");
    let first = commit(&store, put(secret("s"), Expect::Absent, &value())).await;
    commit(&store, put(secret("s"), Expect::At(first), &value())).await;
    assert_eq!(load_all(&store).await.1[0].value, value());
    let batch = next_batch(&mut *watch).await;
    assert_eq!(batch.changes[0].value.as_deref(), Some(value().as_bytes()));
    // With the write-ahead log as it is, and after it was moved into the database.
    assert_eq!(holds_canary(directory.path()), [] as [String; 0]);
    sqlite.close().await;
    assert_eq!(holds_canary(directory.path()), [] as [String; 0]);
    let control = SqliteStore::open(directory.path().join("plain.db")).await.expect("opens");
    commit(&control, put(secret("s"), Expect::Absent, &value())).await;
    control.close().await;
    assert_eq!(holds_canary(directory.path()).len(), 1, "the search finds what is in clear");
}

#[tokio::test]
async fn other_kinds_are_left_as_they_are() {
    let everything = Everything::new();
    let inner = MemStore::new();
    let store = SealedStore::new(Arc::new(inner.clone()), Arc::clone(&everything.keys));
    let config = RecordKey::main(Key::new(Kind::ConfigMap, "default", "c"));
    commit(&store, put(config, Expect::Absent, "{}")).await;
    assert_eq!(load_all(&inner).await.1[0].value, "{}");
}

#[tokio::test]
async fn old_plain_secrets_open_and_are_sealed_and_a_new_key_seals_them_anew() {
    let everything = Everything::new();
    let inner = MemStore::new().with_page_max(2);
    for n in 0..5 {
        commit(&inner, put(secret(&format!("s{n}")), Expect::Absent, &value())).await;
    }
    let store = SealedStore::new(Arc::new(inner.clone()), Arc::clone(&everything.keys));
    let plain = load_all(&store).await.1;
    assert_eq!(store.seal_all().await.expect("sealed").sealed, 5);
    assert_eq!(store.seal_all().await.expect("sealed").sealed, 0, "there is nothing left to do");
    let old = load_all(&inner).await.1;
    assert!(old.iter().all(|record| is_sealed(&record.value)));
    everything.keys.add_key().expect("room");
    assert_eq!(store.seal_all().await.expect("sealed").sealed, 5);
    assert!(load_all(&inner).await.1.iter().zip(&old).all(|(new, old)| new.value != old.value));
    let values = |records: Vec<Record>| -> Vec<_> {
        records.into_iter().map(|record| (record.key, record.value)).collect()
    };
    assert_eq!(values(load_all(&store).await.1), values(plain));
}

#[tokio::test]
async fn s11_a_secret_without_its_key_is_named_kept_and_stops_nothing_else() {
    let (ours, others) = (Everything::new(), Everything::new());
    let inner = MemStore::new();
    let other = SealedStore::new(Arc::new(inner.clone()), Arc::clone(&others.keys));
    commit(&other, put(secret("lost"), Expect::Absent, &value())).await;
    let store = SealedStore::new(Arc::new(inner.clone()), Arc::clone(&ours.keys));
    commit(&store, put(secret("kept"), Expect::Absent, &value())).await;
    let page = store.load(None).await.expect("loaded");
    assert_eq!(page.records.len(), 1);
    let [quarantined] = &page.quarantined[..] else { panic!("{page:?}") };
    assert_eq!(quarantined.key, "Secret/default/lost");
    let (key, file) = (others.keys.current().to_string(), ours.keys.path().display().to_string());
    assert!(quarantined.reason.contains(&key) && quarantined.reason.contains(&file));
    let world = World::from_pages([page]);
    assert!(world.is_quarantined(&secret("lost").object));
    let sealing = store.seal_all().await.expect("sealed");
    assert_eq!((sealing.sealed, sealing.unreadable.len()), (0, 1));
    assert_eq!(load_all(&inner).await.1.len(), 2, "nothing is lost");
    std::fs::copy(others.keys.path(), ours.keys.path()).expect("copied");
    let page = store.load(None).await.expect("loaded");
    assert!(page.records.iter().any(|record| record.key == secret("lost")), "its key is back");
}
