//! Faults: etcds that are killed, paused, or without a majority during writes, and history that is compacted under a watch.
//!
//! Writers note what they were told. Afterwards everything acknowledged must be there (S2), nothing that was settled as not done may
//! have happened since, and a watch from the beginning must have told exactly what is there (S6).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use orchestrator_core::model::Revision;
use orchestrator_core::store::{CommitOutcome, Expect, RecordKey, StateStore, StoreError, Watch};
use orchestrator_core::testkit::store::{commit, delete, load_all, next_batch, put, record_key};
use orchestrator_etcd::EtcdStore;
use tokio::task::JoinHandle;

use crate::etcd::{Etcd, Program};
use crate::patience::{look, newest, within};
use crate::with_each_etcd;

const WRITERS: usize = 4;
/// Records that each writer may make.
const RECORDS_MAX: usize = 100_000;
/// The commits that are waited for between two faults.
const COMMITS_BETWEEN: usize = 40;
const KILLS: usize = 5;
const LEADER_KILLS: usize = 3;

with_each_etcd! {
    s2_a_killed_etcd_loses_no_acknowledged_commit
    s2_a_killed_leader_loses_no_acknowledged_commit
    without_a_majority_nothing_is_acknowledged
    a_commit_that_a_paused_etcd_has_is_settled_before_anyone_looks
    a_commit_that_was_given_up_is_settled_before_anyone_looks
    compaction_under_a_watch_loses_nothing_silently
    a_full_etcd_refuses_commits_and_can_be_read
}

async fn s2_a_killed_etcd_loses_no_acknowledged_commit(program: Program) {
    let etcd = Etcd::start(program);
    let trial = Trial::begin(&etcd).await;
    for _ in 0..KILLS {
        trial.wait_for_commits(COMMITS_BETWEEN).await;
        etcd.kill_member(0);
        etcd.start_member(0);
    }
    trial.wait_for_commits(COMMITS_BETWEEN).await;
    trial.judge(&etcd).await;
}

async fn s2_a_killed_leader_loses_no_acknowledged_commit(program: Program) {
    let etcd = Etcd::start_with(program, 3, |_, _| vec![]);
    let trial = Trial::begin(&etcd).await;
    for _ in 0..LEADER_KILLS {
        trial.wait_for_commits(COMMITS_BETWEEN).await;
        let leader = etcd.leader().await;
        etcd.kill_member(leader);
        // The other two go on without it.
        trial.wait_for_commits(COMMITS_BETWEEN).await;
        etcd.start_member(leader);
    }
    trial.wait_for_commits(COMMITS_BETWEEN).await;
    trial.judge(&etcd).await;
}

async fn without_a_majority_nothing_is_acknowledged(program: Program) {
    let etcd = Etcd::start_with(program, 3, |_, _| vec![]);
    let patient = etcd.open().await;
    let first = commit(&patient, put(record_key(0), Expect::Absent, "v")).await;
    let mut options = etcd.options();
    options.request_ms_max = 1_000;
    let store = EtcdStore::open(options).await.expect("etcd answers");
    etcd.kill_member(0);
    etcd.kill_member(1);
    let outcome = store.commit(put(record_key(1), Expect::Absent, "v")).await;
    assert!(
        matches!(outcome, Ok(CommitOutcome::Unknown) | Err(StoreError::Backend(_))),
        "{outcome:?}"
    );
    let refused = store.revision().await;
    assert!(matches!(refused, Err(StoreError::Backend(_))), "{refused:?}");
    let refused = store.load(None).await;
    assert!(matches!(refused, Err(StoreError::Backend(_))), "{refused:?}");
    etcd.start_member(0);
    let settled = newest(&store).await;
    assert!(settled >= first);
    let revision = commit(&patient, put(record_key(2), Expect::Absent, "v")).await;
    assert_eq!(newest(&store).await, revision, "nothing came in between any more");
    let (_, records) = load_all(&patient).await;
    let found = records.iter().find(|record| record.key == record_key(1));
    assert!(found.is_none_or(|record| record.revision <= settled), "{found:?}");
}

async fn a_commit_that_a_paused_etcd_has_is_settled_before_anyone_looks(program: Program) {
    let etcd = Etcd::start(program);
    let mut options = etcd.options();
    options.request_ms_max = 1_500;
    let store = EtcdStore::open(options).await.expect("etcd answers");
    for n in 0..5 {
        etcd.pause_member(0);
        let outcome = store.commit(put(record_key(n), Expect::Absent, "v")).await;
        assert!(matches!(outcome, Ok(CommitOutcome::Unknown)), "{outcome:?}");
        etcd.resume_member(0);
        let newest = newest(&store).await;
        let before = look(&store).await;
        assert!(before.values().all(|revision| *revision <= newest));
        // What etcd is still to do, it does before this.
        let marker =
            commit(&etcd.open().await, put(record_key(100 + n), Expect::Absent, "v")).await;
        let mut after = look(&store).await;
        assert_eq!(after.remove(&record_key(100 + n)), Some(marker));
        assert_eq!(after, before);
    }
}

async fn a_commit_that_was_given_up_is_settled_before_anyone_looks(program: Program) {
    let etcd = Etcd::start(program);
    let (store, other) = (etcd.open().await, etcd.open().await);
    for n in 0..20 {
        let abandoned = store.commit(put(record_key(n), Expect::Absent, "v"));
        // Long enough to be sent, most of the time, and too short for an answer.
        let given_up = tokio::time::timeout(Duration::from_micros(100), abandoned).await;
        let newest = newest(&store).await;
        let before = look(&store).await;
        assert!(before.values().all(|revision| *revision <= newest), "{given_up:?}");
        // This one still demands the fence as it was, and tries again by itself.
        let marker = commit(&other, put(record_key(100 + n), Expect::Absent, "v")).await;
        let mut after = look(&store).await;
        assert_eq!(after.remove(&record_key(100 + n)), Some(marker));
        assert_eq!(after, before);
    }
}

async fn compaction_under_a_watch_loses_nothing_silently(program: Program) {
    let etcd = Etcd::start(program);
    let store = Arc::new(etcd.open().await);
    let begin = store.revision().await.expect("etcd answers");
    let quick = tokio::spawn(mirror(Arc::clone(&store), begin));
    let slow = store.watch(begin).await.expect("nothing is compacted");
    let mut last = BTreeMap::new();
    for n in 0..400 {
        let key = record_key(n % 7);
        let revision = match last.remove(&key) {
            Some(revision) => commit(&*store, delete(key, revision)).await,
            None => {
                let revision = commit(&*store, put(key.clone(), Expect::Absent, "v")).await;
                last.insert(key, revision);
                revision
            }
        };
        if n % 3 == 0 {
            store.compact(revision).await.expect("it has happened");
        }
    }
    let end = commit(&*store, put(record_key(9_999), Expect::Absent, "end")).await;
    last.insert(record_key(9_999), end);
    let stale = store.watch(begin).await.expect("etcd answers").next().await;
    assert!(matches!(stale, Err(StoreError::Compacted { oldest }) if oldest > begin), "{stale:?}");
    assert_eq!(quick.await.expect("no panic"), last);
    assert_eq!(follow(&store, slow, BTreeMap::new()).await, last);
}

async fn a_full_etcd_refuses_commits_and_can_be_read(program: Program) {
    let etcd = Etcd::start_with(program, 1, |_, _| vec!["--quota-backend-bytes=2000000".into()]);
    let store = Arc::new(etcd.open().await);
    let begin = store.revision().await.expect("etcd answers");
    let writers = (0..WRITERS).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let value = "x".repeat(50_000);
            let mut committed = BTreeMap::new();
            for n in 0.. {
                let key = record_key(writer * RECORDS_MAX + n);
                match store.commit(put(key.clone(), Expect::Absent, &value)).await {
                    Ok(CommitOutcome::Committed(revision)) => {
                        committed.insert(key, revision);
                    }
                    // The one that filled it was done all the same.
                    Ok(CommitOutcome::Unknown) => {
                        committed.extend(look(&store).await.remove_entry(&key))
                    }
                    Err(StoreError::Backend(error)) => return (committed, error),
                    other => panic!("{other:?}"),
                }
            }
            unreachable!("it becomes full")
        })
    });
    let mut all = BTreeMap::new();
    for writer in writers.collect::<Vec<_>>() {
        let (committed, error) = within("a writer", writer).await.expect("no panic");
        assert!(format!("{error:?}").contains("database space exceeded"), "{error:?}");
        all.extend(committed);
    }
    assert_eq!(look(&store).await, all);
    let reopened = etcd.open().await;
    assert_eq!(look(&reopened).await, all);
    let mut watch = reopened.watch(begin).await.expect("nothing is compacted");
    let mut told = BTreeMap::new();
    while told.len() < all.len() {
        let batch = next_batch(&mut *watch).await;
        told.extend(batch.changes.into_iter().map(|change| (change.key, batch.revision)));
    }
    assert_eq!(told, all);
}

/// Follows a store from an empty state until the record 9999 comes; loads again when history is gone.
async fn mirror(store: Arc<EtcdStore>, begin: Revision) -> BTreeMap<RecordKey, Revision> {
    let watch = store.watch(begin).await.expect("etcd answers");
    follow(&store, watch, BTreeMap::new()).await
}

async fn follow(
    store: &EtcdStore,
    mut watch: Box<dyn Watch>,
    mut records: BTreeMap<RecordKey, Revision>,
) -> BTreeMap<RecordKey, Revision> {
    while !records.contains_key(&record_key(9_999)) {
        match within("a batch", watch.next()).await {
            Ok(batch) => {
                for change in batch.changes {
                    let known = records.remove(&change.key);
                    assert_eq!(known.is_some(), change.value.is_none(), "they take turns");
                    if change.value.is_some() {
                        records.insert(change.key, batch.revision);
                    }
                }
            }
            Err(StoreError::Compacted { .. }) => {
                // A listing may grow old as well, before its last page.
                let loaded = store.load(None).await.expect("etcd answers");
                assert!(loaded.next.is_none(), "it fits into a page");
                let pairs = loaded.records.into_iter().map(|record| (record.key, record.revision));
                records = pairs.collect();
                watch = store.watch(loaded.revision).await.expect("etcd answers");
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    records
}

/// Writers at work, and a watch that follows them from the beginning.
struct Trial {
    acknowledged: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    store: Arc<EtcdStore>,
    watch: Box<dyn Watch>,
    writers: Vec<JoinHandle<Notes>>,
}

/// What a writer was told.
#[derive(Default)]
struct Notes {
    committed: BTreeMap<RecordKey, Revision>,
    never: BTreeSet<RecordKey>,
}

impl Trial {
    async fn begin(etcd: &Etcd) -> Self {
        let store = Arc::new(etcd.open().await);
        let begin = store.revision().await.expect("etcd answers");
        let watch = store.watch(begin).await.expect("nothing is compacted");
        let (acknowledged, stop) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let writers = (0..WRITERS).map(|writer| {
            tokio::spawn(write(store.clone(), writer, acknowledged.clone(), stop.clone()))
        });
        let writers = writers.collect();
        Self { acknowledged, stop, store, watch, writers }
    }

    async fn wait_for_commits(&self, count: usize) {
        let wanted = self.acknowledged.load(Ordering::Relaxed) + count;
        let come = async {
            while self.acknowledged.load(Ordering::Relaxed) < wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("commits", come).await;
    }

    async fn judge(mut self, etcd: &Etcd) {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Notes::default();
        for writer in self.writers {
            let Notes { committed, never } = within("a writer", writer).await.expect("no panic");
            all.committed.extend(committed);
            all.never.extend(never);
        }
        let marker = record_key(WRITERS * RECORDS_MAX);
        let end = commit(&etcd.open().await, put(marker.clone(), Expect::Absent, "end")).await;
        all.committed.insert(marker, end);
        let found = look(&self.store).await;
        assert_eq!(found, all.committed);
        assert!(all.never.iter().all(|key| !found.contains_key(key)), "{:?}", all.never);
        let (mut told, mut last) = (BTreeMap::new(), Revision::ZERO);
        while last < end {
            let batch = next_batch(&mut *self.watch).await;
            assert!(batch.revision > last, "each commit once and in order");
            last = batch.revision;
            told.extend(batch.changes.into_iter().map(|change| (change.key, last)));
        }
        assert_eq!(told, found);
    }
}

/// Makes a record after another until it is stopped.
async fn write(
    store: Arc<EtcdStore>,
    writer: usize,
    acknowledged: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) -> Notes {
    let mut notes = Notes::default();
    for n in 0..RECORDS_MAX {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = record_key(writer * RECORDS_MAX + n);
        let done = match store.commit(put(key.clone(), Expect::Absent, "v")).await {
            Ok(CommitOutcome::Committed(revision)) => {
                acknowledged.fetch_add(1, Ordering::Relaxed);
                Some(revision)
            }
            Ok(CommitOutcome::Unknown) => {
                let newest = newest(&store).await;
                look(&store).await.remove(&key).filter(|revision| *revision <= newest)
            }
            // It says that nothing was done.
            Err(StoreError::Backend(_)) => None,
            other => panic!("{key:?}: {other:?}"),
        };
        match done {
            Some(revision) => _ = notes.committed.insert(key, revision),
            None => _ = notes.never.insert(key),
        }
    }
    notes
}
