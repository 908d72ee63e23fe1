//! Durable commits: `SqliteStore` against a bare loop over SQLite with the same tables, settings and rows.
//!
//! 100 writes are more than a transaction takes: they go as two of 50 at the same time, which share a sync; the bare loop
//! writes the same 100 rows and two rows of the log in one transaction. With 32 clients the bare loop syncs once for 32
//! commits, as the best group commit would.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use orchestrator_core::model::{Key, Kind};
use orchestrator_core::store::{CommitOutcome, Expect, RecordKey, StateStore, Txn, Write};
use orchestrator_sqlite::SqliteStore;
use rusqlite::Connection;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::Outcome;
use crate::report::{Floor, Report, Unit};

/// What a commit must reach of the bare loop.
const FLOOR: Floor = Floor(Some(0.7));
/// The bytes of a value.
const VALUE_BYTES: usize = 512;
/// The writes of a transaction, at most, that are put into one.
const WRITES_PER_TXN: usize = 64;
/// Clients that commit at the same time.
const CLIENTS: usize = 32;
/// How many rows each side writes in a measurement, about.
const ROWS: usize = 6_000;
/// How many commits each side does in a measurement, at most.
const COMMITS_MAX: usize = 2_000;

/// The tables of the store, less its table of numbers.
const TABLES: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
    CREATE TABLE record (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
        part INTEGER NOT NULL, revision INTEGER NOT NULL, version INTEGER NOT NULL, checksum INTEGER NOT NULL,
        value BLOB NOT NULL) STRICT;
    CREATE UNIQUE INDEX record_key ON record (kind, namespace, name, part);
    CREATE TABLE log (revision INTEGER PRIMARY KEY, committed_s INTEGER NOT NULL, version INTEGER NOT NULL,
        checksum INTEGER NOT NULL, batch BLOB NOT NULL) STRICT;";

/// Measures commits of 1, 10 and 100 writes, one after the other and from 32 clients.
pub fn run(report: &mut Report) -> Outcome {
    let runtime = Runtime::new()?;
    for clients in [1, CLIENTS] {
        for writes in [1, 10, 100] {
            let how = if clients == 1 { "serial".to_owned() } else { format!("{clients} clients") };
            let name = format!("commits of {writes} writes, {how}");
            if report.wants(&name) {
                let pairs = measure(report.options.pairs, &runtime, clients, writes)?;
                report.pairs(&name, Unit::PerSecond, FLOOR, &pairs);
            }
        }
    }
    Ok(())
}

fn measure(
    pairs: usize,
    runtime: &Runtime,
    clients: usize,
    writes: usize,
) -> Result<Vec<(f64, f64)>, Box<dyn std::error::Error + Send + Sync>> {
    let dir = tempfile::tempdir_in(disk())?;
    let store = runtime.block_on(SqliteStore::open(dir.path().join("store.db")))?;
    let ours = Ours { store: Arc::new(store), names: Arc::default() };
    let mut bare = Bare::open(&dir.path().join("bare.db"))?;
    // Whole rounds of all clients.
    let rounds = (ROWS / writes).min(COMMITS_MAX).div_ceil(clients);
    let mut figures = Vec::new();
    for pair in 0..=pairs {
        let ours = runtime.block_on(ours.run(clients, rounds, writes))?;
        let theirs = bare.run(clients, rounds, writes)?;
        // The first round fills caches.
        if pair > 0 {
            figures.push((ours, theirs));
        }
    }
    runtime.block_on(ours.store.close());
    Ok(figures)
}

/// A directory on a real disk: the usual one for temporary files may be kept in memory.
fn disk() -> &'static str {
    env!("CARGO_TARGET_TMPDIR")
}

struct Ours {
    store: Arc<SqliteStore>,
    names: Arc<AtomicU64>,
}

impl Ours {
    /// Returns commits per second.
    async fn run(
        &self,
        clients: usize,
        rounds: usize,
        writes: usize,
    ) -> Result<f64, Box<dyn std::error::Error + Send + Sync>> {
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            let (store, names) = (Arc::clone(&self.store), Arc::clone(&self.names));
            tasks.spawn(async move {
                for _ in 0..rounds {
                    commit(&store, &names, writes).await;
                }
            });
        }
        while let Some(joined) = tasks.join_next().await {
            joined?;
        }
        Ok((clients * rounds) as f64 / start.elapsed().as_secs_f64())
    }
}

async fn commit(store: &SqliteStore, names: &AtomicU64, writes: usize) {
    let parts = writes.div_ceil(WRITES_PER_TXN);
    let transaction = |writes: usize| {
        let writes = (0..writes).map(|_| {
            let name = name(names.fetch_add(1, Ordering::Relaxed));
            let key = RecordKey::main(Key::new(Kind::ConfigMap, "default", &name));
            let value = Bytes::from_static(&[b'x'; VALUE_BYTES]);
            Write::Put { key, expect: Expect::Absent, value }
        });
        Txn { guards: Vec::new(), writes: writes.collect() }
    };
    let committed = |outcome: CommitOutcome| {
        assert!(matches!(outcome, CommitOutcome::Committed(_)), "{outcome:?}");
    };
    let first = store.commit(transaction(writes / parts));
    if parts == 1 {
        committed(first.await.expect("the store works"));
    } else {
        let second = store.commit(transaction(writes - writes / parts));
        let (first, second) = tokio::join!(first, second);
        committed(first.expect("the store works"));
        committed(second.expect("the store works"));
    }
}

struct Bare {
    connection: Connection,
    names: u64,
    revision: i64,
}

impl Bare {
    fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.execute_batch(TABLES)?;
        Ok(Self { connection, names: 0, revision: 0 })
    }

    /// Returns commits per second, with `group` of them in one transaction.
    fn run(&mut self, group: usize, rounds: usize, writes: usize) -> rusqlite::Result<f64> {
        let start = Instant::now();
        let connection = &self.connection;
        let mut insert = connection.prepare(
            "INSERT INTO record (kind, namespace, name, part, revision, version, checksum, value)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        let mut append = connection.prepare(
            "INSERT INTO log (revision, committed_s, version, checksum, batch) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        let (mut begin, mut commit) =
            (connection.prepare("BEGIN IMMEDIATE")?, connection.prepare("COMMIT")?);
        let value = [b'x'; VALUE_BYTES];
        for _ in 0..rounds {
            begin.execute([])?;
            for _ in 0..group {
                let parts = writes.div_ceil(WRITES_PER_TXN);
                for part in 0..parts {
                    let writes = writes * (part + 1) / parts - writes * part / parts;
                    self.revision += 1;
                    let mut batch = Vec::with_capacity(writes * VALUE_BYTES);
                    for _ in 0..writes {
                        let name = name(self.names);
                        self.names += 1;
                        let row =
                            ("ConfigMap", "default", &name, 0, self.revision, 1, 0, &value[..]);
                        insert.execute(row)?;
                        batch.extend_from_slice(&value);
                    }
                    append.execute((self.revision, 0, 1, 0, &batch))?;
                }
            }
            commit.execute([])?;
        }
        Ok((group * rounds) as f64 / start.elapsed().as_secs_f64())
    }
}

fn name(number: u64) -> String {
    format!("object-{number:08}")
}
