//! Rows that cannot be read are quarantined and stop nothing else (S11).

use std::path::{Path, PathBuf};

use orchestrator_core::model::Revision;
use orchestrator_core::store::{CommitOutcome, Expect, Page, StateStore, StoreError};
use orchestrator_core::testkit::store::{commit, delete, next_batch, put, record_key, watch_error};
use orchestrator_core::world::World;
use orchestrator_sqlite::{SqliteOptions, SqliteStore};
use rusqlite::Connection;
use tempfile::TempDir;

/// A database with records 0 to 9, in which `sql` was run.
async fn damaged(sql: &str) -> (TempDir, PathBuf, Vec<Revision>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("cluster.db");
    let store = SqliteStore::open(&path).await.expect("opens");
    let mut revisions = Vec::new();
    for n in 0..10 {
        revisions.push(commit(&store, put(record_key(n), Expect::Absent, "value")).await);
    }
    store.close().await;
    run(&path, sql);
    (directory, path, revisions)
}

fn run(path: &Path, sql: &str) {
    Connection::open(path).expect("opens").execute_batch(sql).expect("runs");
}

async fn open_and_load(path: &Path) -> (SqliteStore, Page) {
    let store = SqliteStore::open(path).await.expect("damage in a row stops nothing");
    let page = store.load(None).await.expect("damage in a row stops nothing");
    (store, page)
}

#[tokio::test]
async fn s11_a_row_that_cannot_be_read_is_quarantined_alone() {
    let cases = [
        ("value = x'7b7d'", "default/r0004", "checksum"),
        ("value = x''", "default/r0004", "checksum"),
        ("checksum = checksum + 1", "default/r0004", "checksum"),
        ("revision = revision - 1", "default/r0004", "checksum"),
        ("namespace = 'other'", "other/r0004", "checksum"),
        ("name = 'r0004x'", "default/r0004x", "checksum"),
        ("part = 1", "default/r0004#status", "checksum"),
        ("part = 7", "(part 7)", "part 7"),
        ("version = 2", "default/r0004", "version 2"),
        ("kind = 'Gadget'", "Gadget/default/r0004", "kind \"Gadget\""),
        ("name = CAST(x'ff' AS TEXT)", "default/\u{fffd}", "UTF-8"),
    ];
    for (change, key, reason) in cases {
        let sql = format!("UPDATE record SET {change} WHERE name = 'r0004'");
        let (_directory, path, _) = damaged(&sql).await;
        let (store, page) = open_and_load(&path).await;
        assert_eq!(page.records.len(), 9, "{change}");
        let [quarantined] = &page.quarantined[..] else { panic!("{change}: {page:?}") };
        assert!(quarantined.key.contains(key), "{change}: {quarantined:?}");
        assert!(quarantined.reason.contains(reason), "{change}: {quarantined:?}");
        commit(&store, put(record_key(20), Expect::Absent, "v")).await;
    }
}

#[tokio::test]
async fn s11_nothing_is_concluded_from_the_absence_of_what_cannot_be_read() {
    let (_directory, path, _) =
        damaged("UPDATE record SET value = x'00' WHERE name = 'r0004'").await;
    let (_store, page) = open_and_load(&path).await;
    // The others are not read as objects here: their values are none.
    let world = World::from_pages([Page { records: Vec::new(), ..page }]);
    let (lost, other) = (record_key(4).object, record_key(5).object);
    assert!(world.get(&lost).is_none() && world.is_quarantined(&lost));
    assert!(!world.is_quarantined(&other));
    assert_eq!(world.quarantined_keys().collect::<Vec<_>>(), [lost]);
}

#[tokio::test]
async fn s11_every_row_may_be_damaged_and_paging_goes_on() {
    let (_directory, path, _) = damaged("UPDATE record SET checksum = 0; DELETE FROM log").await;
    let options = SqliteOptions { page_records_max: 3, ..SqliteOptions::default() };
    let store = SqliteStore::open_with(&path, options).await.expect("opens");
    let (mut token, mut quarantined, mut pages) = (None, 0, 0);
    loop {
        let page = store.load(token).await.expect("loads");
        assert_eq!(page.records, []);
        quarantined += page.quarantined.len();
        pages += 1;
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    assert_eq!((quarantined, pages), (10, 4));
}

#[tokio::test]
async fn a_quarantined_record_can_be_replaced_and_deleted() {
    let (_directory, path, revisions) = damaged("UPDATE record SET value = x'00'").await;
    let (store, page) = open_and_load(&path).await;
    assert_eq!(page.quarantined.len(), 10);
    let taken = store.commit(put(record_key(0), Expect::Absent, "x")).await.expect("open");
    let current = Some(revisions[0]);
    assert_eq!(taken, CommitOutcome::Conflict { key: record_key(0), current });
    commit(&store, put(record_key(0), Expect::At(revisions[0]), "healed")).await;
    commit(&store, delete(record_key(1), revisions[1])).await;
    let page = store.load(None).await.expect("loads");
    assert_eq!((page.records.len(), page.quarantined.len()), (1, 8));
}

#[tokio::test]
async fn a_damaged_log_row_makes_watchers_load_again() {
    for change in ["batch = x'00'", "checksum = 0", "version = 2", "batch = zeroblob(100)"] {
        let sql = format!("UPDATE log SET {change} WHERE revision = 5");
        let (_directory, path, revisions) = damaged(&sql).await;
        let store = SqliteStore::open(&path).await.expect("opens");
        let mut watch = store.watch(revisions[1]).await.expect("the damage comes later");
        assert_eq!(next_batch(&mut *watch).await.revision, revisions[2]);
        assert_eq!(next_batch(&mut *watch).await.revision, revisions[3]);
        let error = watch.next().await;
        assert!(matches!(error, Err(StoreError::Compacted { oldest: Revision(5) })), "{error:?}");
        let error = watch_error(&store, revisions[3]).await;
        assert!(matches!(error, StoreError::Compacted { oldest: Revision(5) }), "{error:?}");
        let mut watch = store.watch(Revision(5)).await.expect("behind the damage");
        assert_eq!(next_batch(&mut *watch).await.revision, revisions[5]);
    }
}
