//! Databases written by earlier versions open, and show what was written.
//!
//! `tests/fixtures/format-N.db` was written by the first version with format N and is never written again.

use std::fs;
use std::path::Path;

use orchestrator_core::model::{Key, Kind, Revision};
use orchestrator_core::store::{Expect, RecordKey, StateStore, Txn, Write};
use orchestrator_core::testkit::store::{commit, delete, load_all, next_batch, put};
use orchestrator_sqlite::{FORMAT_VERSION, SqliteOptions, SqliteStore};

/// Carries out what the fixtures hold: a deployment of two pods, one of which has been replaced.
async fn fill(store: &SqliteStore) {
    let deployment = Key::new(Kind::Deployment, "default", "web");
    let replica_set = Key::new(Kind::ReplicaSet, "default", "web-7c5b");
    let pod = |n| Key::pod("default", &format!("web-7c5b-{n}"));
    let spec = r#"{"metadata":{"name":"web","namespace":"default"},"spec":{"replicas":2}}"#;
    let new = |object: Key, value: &str| put(RecordKey::main(object), Expect::Absent, value);
    commit(store, new(Key::node("n1"), r#"{"metadata":{"name":"n1"}}"#)).await;
    commit(store, new(deployment.clone(), spec)).await;
    commit(store, new(replica_set, spec)).await;
    let mut both = new(pod(1), r#"{"spec":{"nodeName":"n1"}}"#);
    both.writes.extend(new(pod(2), r#"{"spec":{"nodeName":"n1"}}"#).writes);
    let born = commit(store, both).await;
    let running = r#"{"phase":"Running"}"#;
    commit(store, put(RecordKey::status(pod(1)), Expect::Absent, running)).await;
    commit(store, delete(RecordKey::main(pod(2)), born)).await;
    let value = "{\"non-ascii\":\"h\u{e4}lt\"}".into();
    let key = RecordKey::main(pod(3));
    let writes = vec![Write::Put { key, expect: Expect::Absent, value }];
    commit(store, Txn { guards: vec![], writes }).await;
}

async fn open(path: &Path) -> SqliteStore {
    let options = SqliteOptions { history_age_max_s: u64::MAX, ..SqliteOptions::default() };
    SqliteStore::open_with(path, options).await.expect("opens")
}

#[tokio::test]
async fn a_database_of_every_format_shows_what_was_written() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let fresh = open(&directory.path().join("fresh.db")).await;
    fill(&fresh).await;
    for format in 1..=FORMAT_VERSION {
        let name = format!("format-{format}.db");
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(&name);
        let path = directory.path().join(&name);
        let bytes = fs::read(&fixture).expect("each format has its fixture");
        fs::write(&path, bytes).expect("writable");
        let store = open(&path).await;
        assert_eq!(load_all(&store).await, load_all(&fresh).await, "{name}");
        let mut old = store.watch(Revision::ZERO).await.expect("the log is kept");
        let mut new = fresh.watch(Revision::ZERO).await.expect("the log is kept");
        for _ in 0..store.revision().await.expect("open").0 {
            assert_eq!(next_batch(&mut *old).await, next_batch(&mut *new).await, "{name}");
        }
    }
}
