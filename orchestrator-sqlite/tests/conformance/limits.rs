//! History, database and queues stay within their limits, also while something fails (L8, L9).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use orchestrator_core::model::Revision;
use orchestrator_core::store::{CommitOutcome, Expect, StateStore, StoreError};
use orchestrator_core::testkit::store::{commit, load_all, put, record_key, watch_error};
use orchestrator_sqlite::{Fatal, SqliteOptions, SqliteStore};
use rusqlite::Connection;
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("cluster.db");
    (directory, path)
}

/// Overwrites one record so many times with so many bytes.
async fn churn(store: &SqliteStore, times: usize, bytes: usize) -> Revision {
    let (_, records) = load_all(store).await;
    let mut revision = records.first().map(|record| record.revision);
    for _ in 0..times {
        let expect = revision.map_or(Expect::Absent, Expect::At);
        revision = Some(commit(store, put(record_key(0), expect, &"x".repeat(bytes))).await);
    }
    revision.expect("at least one commit")
}

fn number(path: &Path, sql: &str) -> i64 {
    let connection = Connection::open(path).expect("opens");
    connection.query_row(sql, [], |row| row.get(0)).expect("a number")
}

#[tokio::test]
async fn the_log_keeps_to_its_number_of_commits() {
    let (_directory, path) = place();
    let options = SqliteOptions { history_batches_max: 50, ..SqliteOptions::default() };
    let store = SqliteStore::open_with(&path, options).await.expect("opens");
    let newest = churn(&store, 640, 10).await;
    // Looked at after every 64 commits.
    let error = watch_error(&store, Revision(newest.0 - 50 - 65)).await;
    assert!(matches!(error, StoreError::Compacted { .. }), "{error:?}");
    store.watch(Revision(newest.0 - 50)).await.expect("kept");
    store.close().await;
    assert!(number(&path, "SELECT count(*) FROM log") <= 50 + 64);
}

#[tokio::test]
async fn l9_the_files_do_not_grow_with_the_number_of_commits() {
    let (directory, path) = place();
    let options = SqliteOptions { history_bytes_max: 1 << 20, ..SqliteOptions::default() };
    let store = SqliteStore::open_with(&path, options).await.expect("opens");
    // 32 MiB of commits, of which 1 MiB is to be kept.
    churn(&store, 320, 100_000).await;
    let files = std::fs::read_dir(directory.path()).expect("readable");
    let sizes = files.map(|file| file.expect("readable").metadata().expect("is there").len());
    let bytes: u64 = sizes.sum();
    assert!(bytes < 24 << 20, "{bytes} bytes while open");
    churn(&store, 64, 10).await;
    store.close().await;
    let bytes = std::fs::metadata(&path).expect("is there").len();
    assert!(bytes < 8 << 20, "{bytes} bytes when closed");
}

#[tokio::test]
async fn l9_compaction_goes_on_after_it_has_failed() {
    let (_directory, path) = place();
    let options = SqliteOptions { history_batches_max: 10, ..SqliteOptions::default() };
    let store = SqliteStore::open_with(&path, options).await.expect("opens");
    let trigger = "CREATE TRIGGER broken BEFORE DELETE ON log
                   BEGIN SELECT raise(ABORT, 'no compaction today'); END";
    Connection::open(&path).expect("opens").execute_batch(trigger).expect("runs");
    let newest = churn(&store, 200, 10).await;
    store.watch(Revision::ZERO).await.expect("nothing could be compacted, and nothing else failed");
    assert!(matches!(store.compact(newest).await, Err(StoreError::Backend(_))));
    Connection::open(&path).expect("opens").execute_batch("DROP TRIGGER broken").expect("runs");
    churn(&store, 64, 10).await;
    let error = watch_error(&store, newest).await;
    assert!(matches!(error, StoreError::Compacted { .. }), "{error:?}");
}

#[tokio::test]
async fn a_full_database_refuses_commits_and_recovers() {
    let (_directory, path) = place();
    let options = SqliteOptions { database_bytes_max: 1 << 20, ..SqliteOptions::default() };
    let store = SqliteStore::open_with(&path, options).await.expect("opens");
    let large = "x".repeat(100_000);
    let mut n = 0;
    let error = loop {
        match store.commit(put(record_key(n), Expect::Absent, &large)).await {
            Ok(CommitOutcome::Committed(_)) => n += 1,
            other => break other,
        }
    };
    assert!(matches!(error, Err(StoreError::Backend(_))), "{error:?}");
    let (revision, records) = load_all(&store).await;
    assert_eq!((records.len(), store.revision().await.expect("open")), (n, revision));
    store.compact(revision).await.expect("room is made");
    commit(&store, put(record_key(n), Expect::Absent, &large)).await;
}

#[tokio::test]
async fn another_program_that_holds_the_database_fails_commits_for_as_long() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).await.expect("opens");
    let other = Connection::open(&path).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("free");
    let refused = store.commit(put(record_key(0), Expect::Absent, "v")).await;
    assert!(matches!(refused, Err(StoreError::Backend(_))), "{refused:?}");
    other.execute_batch("ROLLBACK").expect("in a transaction");
    let revision = commit(&store, put(record_key(0), Expect::Absent, "v")).await;
    assert_eq!(load_all(&store).await.0, revision);
}

#[tokio::test]
async fn a_commit_whose_fate_is_unknown_is_fatal_and_says_so() {
    let (_directory, path) = place();
    let raised = Arc::new(Mutex::new(Vec::new()));
    let options = SqliteOptions {
        fatal: Fatal::call({
            let raised = raised.clone();
            move |error| raised.lock().expect("no panic").push(error.to_string())
        }),
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open_with(&path, options.clone()).await.expect("opens");
    let revision = commit(&store, put(record_key(0), Expect::Absent, "v")).await;
    let mut watch = store.watch(revision).await.expect("open");
    // A deferred constraint makes COMMIT itself fail, as a failed write would.
    let sql = "CREATE TABLE parent (id INTEGER PRIMARY KEY);
               CREATE TABLE child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
               CREATE TRIGGER broken AFTER INSERT ON log
               BEGIN INSERT INTO child VALUES (7); END";
    Connection::open(&path).expect("opens").execute_batch(sql).expect("runs");
    let outcome = store.commit(put(record_key(1), Expect::Absent, "v")).await;
    assert!(matches!(outcome, Ok(CommitOutcome::Unknown)), "{outcome:?}");
    assert_eq!(raised.lock().expect("no panic").len(), 1);
    assert!(matches!(watch.next().await, Err(StoreError::Closed)), "nobody saw it");
    let refused = store.commit(put(record_key(2), Expect::Absent, "v")).await;
    assert!(matches!(refused, Err(StoreError::Closed)), "{refused:?}");
    store.close().await;
    Connection::open(&path).expect("opens").execute_batch("DROP TRIGGER broken").expect("runs");
    let store = SqliteStore::open_with(&path, options).await.expect("opens");
    assert_eq!(load_all(&store).await.1.len(), 1);
}

#[tokio::test]
async fn unfinished_listings_expire_rather_than_pile_up() {
    let (_directory, path) = place();
    let options = SqliteOptions { page_records_max: 1, ..SqliteOptions::default() };
    let store = SqliteStore::open_with(&path, options).await.expect("opens");
    for n in 0..3 {
        commit(&store, put(record_key(n), Expect::Absent, "v")).await;
    }
    let mut tokens = Vec::new();
    for _ in 0..20 {
        tokens.push(store.load(None).await.expect("loads").next.expect("three pages"));
    }
    let first = store.load(Some(tokens.remove(0))).await;
    assert!(matches!(first, Err(StoreError::StalePage)), "{first:?}");
    let last = store.load(tokens.pop()).await.expect("still kept");
    assert_eq!(last.records[0].key, record_key(1));
}

#[tokio::test]
async fn a_closed_store_says_so_and_ends_its_watches() {
    let (_directory, path) = place();
    let store = Arc::new(SqliteStore::open(&path).await.expect("opens"));
    let mut watch = store.watch(Revision::ZERO).await.expect("open");
    let waiting = tokio::spawn(async move { watch.next().await });
    store.close().await;
    store.close().await;
    assert!(matches!(waiting.await.expect("no panic"), Err(StoreError::Closed)));
    let closed = [
        store.commit(put(record_key(0), Expect::Absent, "v")).await.map(|_| ()),
        store.load(None).await.map(|_| ()),
        store.revision().await.map(|_| ()),
        store.watch(Revision::ZERO).await.map(|_| ()),
        store.compact(Revision::ZERO).await,
    ];
    assert!(closed.iter().all(|call| matches!(call, Err(StoreError::Closed))), "{closed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_finishes_what_was_asked_for() {
    let (_directory, path) = place();
    let store = Arc::new(SqliteStore::open(&path).await.expect("opens"));
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (store, stop) = (store.clone(), stop.clone());
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for n in 0.. {
                    let key = record_key(writer * 1_000 + n);
                    match store.commit(put(key.clone(), Expect::Absent, "v")).await {
                        Ok(CommitOutcome::Committed(_)) => acknowledged.push(key),
                        Err(StoreError::Closed) => break,
                        other => panic!("{other:?}"),
                    }
                    stop.store(true, Ordering::Relaxed);
                }
                acknowledged
            })
        })
        .collect();
    while !stop.load(Ordering::Relaxed) {
        tokio::task::yield_now().await;
    }
    store.close().await;
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.expect("no panic"));
    }
    let store = SqliteStore::open(&path).await.expect("free");
    let (_, records) = load_all(&store).await;
    acknowledged.sort();
    assert_eq!(records.into_iter().map(|record| record.key).collect::<Vec<_>>(), acknowledged);
}
