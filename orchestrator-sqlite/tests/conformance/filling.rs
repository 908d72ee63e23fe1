//! A database that takes a place once it is whole: nobody else has the place meanwhile, and nothing that is there is lost.

use std::path::Path;

use orchestrator_core::model::Revision;
use orchestrator_core::store::{Expect, StateStore};
use orchestrator_core::testkit::store::{commit, load_all, put, record_key};
use orchestrator_sqlite::{OpenError, SqliteFilling, SqliteOptions, SqliteStore};
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

async fn begin(path: &Path) -> Result<SqliteFilling, OpenError> {
    SqliteFilling::begin(path, SqliteOptions::default()).await
}

fn names(directory: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(directory.path()).expect("readable");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("readable").file_name();
    let mut names: Vec<_> = entries.map(|it| name(it).to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_is_filled_is_there_once_it_is_whole() {
    let directory = directory();
    let path = directory.path().join("cluster.db");
    let options = SqliteOptions { begin_after: Revision(7_000), ..SqliteOptions::default() };
    let filling = SqliteFilling::begin(&path, options).await.expect("begun");
    let first = commit(&**filling.store(), put(record_key(0), Expect::Absent, "v")).await;
    assert!(!path.exists(), "it is not whole");
    let filled = load_all(&**filling.store()).await;
    filling.finish().await.expect("finished");
    assert_eq!(names(&directory), ["cluster.db", "cluster.db.lock"]);
    let store = SqliteStore::open(&path).await.expect("opens");
    assert_eq!(load_all(&store).await, filled);
    assert_eq!(store.revision().await.expect("open"), first);
}

#[tokio::test]
async fn nobody_opens_or_fills_a_place_that_is_being_filled() {
    let directory = directory();
    let path = directory.path().join("cluster.db");
    let filling = begin(&path).await.expect("begun");
    commit(&**filling.store(), put(record_key(0), Expect::Absent, "v")).await;
    let me = format!("process {}", std::process::id());
    for error in [
        begin(&path).await.expect_err("somebody fills it"),
        SqliteStore::open(&path).await.expect_err("somebody fills it"),
    ] {
        let is_it = |error: &OpenError| matches!(error, OpenError::InUse { path: at, holder } if *at == path && *holder == me);
        assert!(is_it(&error), "{error:?}");
    }
    filling.finish().await.expect("who was refused has harmed nothing");
    let store = SqliteStore::open(&path).await.expect("opens");
    assert_eq!(load_all(&store).await.1.len(), 1);
}

#[tokio::test]
async fn a_place_with_a_database_is_refused_and_left_as_it_is() {
    let directory = directory();
    let path = directory.path().join("cluster.db");
    let store = SqliteStore::open(&path).await.expect("a new database opens");
    commit(&store, put(record_key(0), Expect::Absent, "v")).await;
    for is_open in [true, false] {
        let error = begin(&path).await.expect_err("there is one");
        assert!(matches!(error, OpenError::NotEmpty { .. }), "open: {is_open}, {error:?}");
        store.close().await;
    }
    let store = SqliteStore::open(&path).await.expect("opens");
    assert_eq!(load_all(&store).await.1.len(), 1);
}

#[tokio::test]
async fn what_was_begun_and_not_finished_is_begun_anew() {
    let directory = directory();
    let path = directory.path().join("cluster.db");
    let filling = begin(&path).await.expect("begun");
    commit(&**filling.store(), put(record_key(0), Expect::Absent, "half")).await;
    drop(filling);
    assert!(SqliteFilling::is_begun(&path).expect("looked for"));
    let filling = begin(&path).await.expect("begun again");
    assert_eq!(load_all(&**filling.store()).await.1.len(), 0, "nothing of before");
    filling.finish().await.expect("finished");
}

#[tokio::test]
async fn what_is_left_of_a_database_that_was_moved_away_does_not_come_back_in_the_next() {
    let directory = directory();
    let path = directory.path().join("cluster.db");
    for end in ["-wal", "-journal", "-shm"] {
        let left = directory.path().join(format!("cluster.db{end}"));
        std::fs::write(&left, "of the old one").expect("written");
        let error = begin(&path).await.expect_err("it would be taken for part of the new one");
        assert!(matches!(&error, OpenError::Orphaned { path } if *path == left), "{error:?}");
        assert_eq!(names(&directory), [format!("cluster.db{end}")], "it is left as it was");
        std::fs::remove_file(&left).expect("removed");
    }
    begin(&path).await.expect("nothing is left");
}
