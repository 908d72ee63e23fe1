//! A killed process loses no acknowledged commit (S2), and its database opens again.
//!
//! The child is this test binary, asked to run `the_process_that_is_killed` with a path in its environment.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use orchestrator_core::model::Revision;
use orchestrator_core::store::{CommitOutcome, Expect, StateStore};
use orchestrator_core::testkit::store::{load_all, next_batch, put, record_key};
use orchestrator_sqlite::{SqliteOptions, SqliteStore};

/// Where the child finds the path of its database.
const PATH_VARIABLE: &str = "ORCHESTRATOR_SQLITE_CRASH_PATH";
const ROUNDS: usize = 10;
const WRITERS: usize = 4;
/// Records that each writer of each round may make.
const RECORDS_MAX: usize = 100_000;

fn options() -> SqliteOptions {
    SqliteOptions { history_batches_max: 300, ..SqliteOptions::default() }
}

/// Commits for ever and prints `writer n revision` after each acknowledgement; does nothing in a normal run.
#[test]
fn the_process_that_is_killed() {
    let Some(path) = std::env::var_os(PATH_VARIABLE) else { return };
    let runtime = tokio::runtime::Runtime::new().expect("the system gives a runtime");
    runtime.block_on(async {
        let store = Arc::new(SqliteStore::open_with(path, options()).await.expect("opens"));
        let writers = (0..WRITERS).map(|writer| tokio::spawn(write(store.clone(), writer)));
        for writer in writers.collect::<Vec<_>>() {
            writer.await.expect("no panic");
        }
    });
}

async fn write(store: Arc<SqliteStore>, writer: usize) {
    let made = store.revision().await.expect("open").0 as usize;
    for n in made..RECORDS_MAX {
        let name = writer * RECORDS_MAX + n;
        let txn = put(record_key(name), Expect::Absent, "v");
        let outcome = store.commit(txn).await.expect("open");
        let CommitOutcome::Committed(revision) = outcome else { panic!("{outcome:?}") };
        let line = format!("acked {name} {revision}\n");
        if std::io::stdout().write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}

/// Runs a child until it has acknowledged `commits`, kills it, and returns all it has acknowledged.
fn run_and_kill(path: &Path, commits: usize) -> Vec<(usize, Revision)> {
    let binary = std::env::current_exe().expect("this test");
    let mut child = Command::new(binary)
        .args(["--exact", "crash::the_process_that_is_killed", "--nocapture"])
        .env(PATH_VARIABLE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the child starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut acknowledged = Vec::new();
    let mut read = |line: String| {
        // The harness begins a line of its own before the first acknowledgement.
        let Some(words) = line.split_once("acked ").map(|(_, words)| words.to_owned()) else {
            return;
        };
        if let Some((name, revision)) = words.split_once(' ')
            && let (Ok(name), Ok(revision)) = (name.parse(), revision.parse())
        {
            acknowledged.push((name, revision));
        }
    };
    for line in lines.by_ref().take(commits) {
        read(line.expect("text"));
    }
    child.kill().expect("SIGKILL is sent");
    for line in lines.map_while(Result::ok) {
        read(line);
    }
    child.wait().expect("the child is gone");
    acknowledged
}

#[tokio::test]
async fn s2_a_killed_process_loses_no_acknowledged_commit() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("cluster.db");
    let mut all = Vec::new();
    let mut newest = Revision::ZERO;
    for round in 0..ROUNDS {
        let acknowledged = run_and_kill(&path, 10 + 97 * round);
        assert!(!acknowledged.is_empty(), "round {round} got somewhere");
        assert!(
            acknowledged.iter().all(|(_, revision)| *revision > newest),
            "S3: none is used again"
        );
        all.extend(acknowledged);
        let store = SqliteStore::open_with(&path, options()).await.expect("opens after a kill");
        newest = store.revision().await.expect("open");
        let (_, records) = load_all(&store).await;
        let found: BTreeMap<_, _> =
            records.into_iter().map(|record| (record.key, record.revision)).collect();
        for (name, revision) in &all {
            assert_eq!(found.get(&record_key(*name)), Some(revision), "round {round}");
        }
        let mut watch = store.watch(Revision(newest.0 - 5)).await.expect("recent history is kept");
        assert_eq!(next_batch(&mut *watch).await.revision, Revision(newest.0 - 4));
        store.close().await;
    }
}
