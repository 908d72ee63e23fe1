//! The clauses of the `StateStore` contract, each as a function that fails when it is broken.
//!
//! A function is named after its clause and what it looks at; `store_conformance!` makes a test of each.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::store::{
    DurableStoreFixture, StoreFixture, commit, delete, load_all, next_batch, put, record_key,
    stuck, watch_error,
};
use crate::model::{Key, Revision};
use crate::store::{
    Batch, CommitOutcome, Expect, Guard, PageToken, Record, RecordChange, RecordKey, StateStore,
    StoreError, TXN_BYTES_MAX, TXN_GUARDS_MAX, TXN_WRITES_MAX, Txn, Watch,
};

/// ST1: a committed transaction is visible to every later `load`, `revision` and `watch`.
pub async fn st1_a_commit_is_visible_to_later_reads(fixture: impl StoreFixture) {
    let store = fixture.fresh().await;
    let before = store.revision().await.expect("open");
    for n in 0..20 {
        let revision = commit(&*store, put(record_key(n), Expect::Absent, "v")).await;
        assert_eq!(store.revision().await.expect("open"), revision);
        let (loaded_at, records) = load_all(&*store).await;
        assert_eq!(loaded_at, revision);
        let value = Bytes::from_static(b"v");
        assert!(records.contains(&Record { key: record_key(n), revision, value }));
        let mut watch = watch(&*store, Revision(revision.0 - 1)).await;
        assert_eq!(next_batch(&mut *watch).await, batch(revision, &[(n, Some("v"))]));
    }
    assert!(before < store.revision().await.expect("open"));
}

/// ST2: revisions strictly increase with each commit.
pub async fn st2_revisions_strictly_increase(fixture: impl StoreFixture) {
    let store = fixture.fresh().await;
    let mut last = store.revision().await.expect("open");
    let mut expect = Expect::Absent;
    for _ in 0..20 {
        let revision = commit(&*store, put(record_key(0), expect, "v")).await;
        assert!(revision > last);
        (last, expect) = (revision, Expect::At(revision));
    }
    assert!(commit(&*store, delete(record_key(0), last)).await > last);
}

/// ST3: a conflict leaves no trace: no record, no revision, no watch event.
pub async fn st3_a_conflict_leaves_no_trace(fixture: impl StoreFixture) {
    let store = fixture.fresh().await;
    let revision = commit(&*store, put(record_key(0), Expect::Absent, "old")).await;
    let mut watch = watch(&*store, revision).await;
    let before = load_all(&*store).await;
    let mut txn = put(record_key(1), Expect::Absent, "new");
    txn.writes.extend(put(record_key(0), Expect::Absent, "new").writes);
    let outcome = store.commit(txn).await.expect("open");
    assert!(matches!(outcome, CommitOutcome::Conflict { .. }), "{outcome:?}");
    assert_eq!(store.revision().await.expect("open"), revision);
    assert_eq!(load_all(&*store).await, before);
    let marker = commit(&*store, put(record_key(2), Expect::Absent, "marker")).await;
    assert_eq!(next_batch(&mut *watch).await, batch(marker, &[(2, Some("marker"))]));
}

/// ST4: a conflict names the first offending record, guards before writes, and its current revision.
pub async fn st4_a_conflict_names_the_first_offender(fixture: impl StoreFixture) {
    let store = fixture.fresh().await;
    let revision = commit(&*store, put(record_key(0), Expect::Absent, "v")).await;
    let guard = |n, expect| Guard { key: record_key(n), expect };
    let write = |n, expect| put(record_key(n), expect, "w").writes.remove(0);
    let wrong = Expect::At(Revision(revision.0 + 7));
    let cases = [
        (vec![], vec![write(0, Expect::Absent), write(1, wrong)], (0, Some(revision))),
        (vec![], vec![write(2, Expect::Absent), write(1, wrong), write(0, wrong)], (1, None)),
        (vec![guard(3, wrong)], vec![write(0, Expect::Absent)], (3, None)),
        (
            vec![guard(3, Expect::Absent), guard(0, wrong)],
            vec![write(1, wrong)],
            (0, Some(revision)),
        ),
    ];
    for (guards, writes, (n, current)) in cases {
        let outcome = store.commit(Txn { guards, writes }).await.expect("open");
        assert_eq!(outcome, CommitOutcome::Conflict { key: record_key(n), current });
    }
}

/// ST5: all writes of a transaction bear one revision and arrive in one batch, in their order.
pub async fn st5_a_transaction_is_atomic(fixture: impl StoreFixture) {
    let store = fixture.fresh().await;
    let old = commit(&*store, put(record_key(5), Expect::Absent, "old")).await;
    let mut watch = watch(&*store, old).await;
    let mut txn = put(record_key(9), Expect::Absent, "a");
    txn.writes.extend(delete(record_key(5), old).writes);
    txn.writes.extend(put(record_key(1), Expect::Absent, "b").writes);
    let revision = commit(&*store, txn).await;
    let changes = [(9, Some("a")), (5, None), (1, Some("b"))];
    assert_eq!(next_batch(&mut *watch).await, batch(revision, &changes));
    let (_, records) = load_all(&*store).await;
    let found: Vec<_> = records.iter().map(|record| (&record.key, record.revision)).collect();
    assert_eq!(found, [(&record_key(1), revision), (&record_key(9), revision)]);
}

/// ST6: `Absent` holds only without a record, `At` only for that revision, also after re-creation.
pub async fn st6_expectations_are_exact(fixture: impl StoreFixture) {
    let store = fixture.fresh().await;
    let key = || record_key(0);
    let first = commit(&*store, put(key(), Expect::Absent, "1")).await;
    let gone = commit(&*store, delete(key(), first)).await;
    for stale in [first, gone] {
        let outcome = store.commit(put(key(), Expect::At(stale), "x")).await.expect("open");
        assert_eq!(outcome, CommitOutcome::Conflict { key: key(), current: None });
    }
    let second = commit(&*store, put(key(), Expect::Absent, "2")).await;
    let refused = CommitOutcome::Conflict { key: key(), current: Some(second) };
    assert_eq!(store.commit(delete(key(), first)).await.expect("open"), refused);
    assert_eq!(store.commit(put(key(), Expect::Absent, "x")).await.expect("open"), refused);
    let third = commit(&*store, put(key(), Expect::At(second), "3")).await;
    let refused = CommitOutcome::Conflict { key: key(), current: Some(third) };
    assert_eq!(store.commit(delete(key(), second)).await.expect("open"), refused);
    // Main and status are records of their own.
    commit(&*store, put(RecordKey::status(key().object), Expect::Absent, "s")).await;
    commit(&*store, delete(key(), third)).await;
}

/// ST7: guards write nothing, and a transaction without writes changes nothing.
pub async fn st7_guards_write_nothing(fixture: impl StoreFixture) {
    let store = fixture.fresh().await;
    let revision = commit(&*store, put(record_key(0), Expect::Absent, "v")).await;
    let mut watch = watch(&*store, revision).await;
    let guards = vec![
        Guard { key: record_key(0), expect: Expect::At(revision) },
        Guard { key: record_key(1), expect: Expect::Absent },
    ];
    let check = Txn { guards: guards.clone(), writes: vec![] };
    assert_eq!(commit(&*store, check).await, revision);
    assert_eq!(store.revision().await.expect("open"), revision);
    let writes = put(record_key(2), Expect::Absent, "w").writes;
    let marker = commit(&*store, Txn { guards, writes }).await;
    assert_eq!(next_batch(&mut *watch).await, batch(marker, &[(2, Some("w"))]));
    let (_, records) = load_all(&*store).await;
    assert_eq!(records[0].revision, revision, "the guarded record keeps its revision");
}

/// ST8: all pages of one listing show one revision, each record once, in key order.
pub async fn st8_pages_show_one_revision(fixture: impl StoreFixture) {
    let store = fixture.fresh().await;
    let mut revisions = BTreeMap::new();
    for n in 0..150 {
        revisions.insert(n, commit(&*store, put(odd_key(n), Expect::Absent, "old")).await);
    }
    let mut page = store.load(None).await.expect("open");
    let revision = page.revision;
    let mut records = page.records;
    let mut n = 0;
    while let Some(token) = page.next {
        // Every page meets a record overwritten, one deleted and one new.
        commit(&*store, put(odd_key(n), Expect::At(revisions[&n]), "new")).await;
        commit(&*store, delete(odd_key(149 - n), revisions[&(149 - n)])).await;
        commit(&*store, put(odd_key(1_000 + n), Expect::Absent, "new")).await;
        n += 1;
        page = store.load(Some(token)).await.expect("open");
        assert_eq!(page.revision, revision);
        records.extend(page.records);
    }
    let mut wanted: Vec<_> = (0..150).map(odd_key).collect();
    wanted.sort();
    assert_eq!(records.iter().map(|record| record.key.clone()).collect::<Vec<_>>(), wanted);
    assert!(records.iter().all(|record| record.value == "old" && record.revision <= revision));
}

/// Names that a naive order of texts gets wrong.
fn odd_key(n: usize) -> RecordKey {
    let namespace = ["a", "a-b", "a.b", "ab"][n % 4];
    let object = Key::pod(namespace, &format!("n{}", n / 4));
    if n.is_multiple_of(3) { RecordKey::status(object) } else { RecordKey::main(object) }
}

/// ST8: a token that the store never gave, or whose listing is done, is refused.
pub async fn st8_an_unknown_page_is_stale(fixture: impl StoreFixture) {
    let store = fixture.fresh().await;
    commit(&*store, put(record_key(0), Expect::Absent, "v")).await;
    for text in ["", "x", "99999.1", "99999 main Pod/default/r0000", "-1.-1"] {
        let refused = store.load(Some(PageToken(text.to_owned()))).await;
        assert!(matches!(refused, Err(StoreError::StalePage)), "{text:?}: {refused:?}");
    }
}

/// ST9: a watch yields every later commit once, in order, without gaps, deletions included.
pub async fn st9_a_watch_yields_every_commit_in_order(fixture: impl StoreFixture) {
    let store = fixture.fresh().await;
    let begin = store.revision().await.expect("open");
    let mut early = watch(&*store, begin).await;
    let mut wanted = Vec::new();
    for n in 0..30 {
        let revision = commit(&*store, put(record_key(n), Expect::Absent, "v")).await;
        wanted.push(batch(revision, &[(n, Some("v"))]));
        if n % 3 == 0 {
            let gone = commit(&*store, delete(record_key(n), revision)).await;
            wanted.push(batch(gone, &[(n, None)]));
        }
    }
    for wanted in &wanted {
        assert_eq!(&next_batch(&mut *early).await, wanted);
    }
    for (index, start) in wanted.iter().enumerate() {
        let mut late = watch(&*store, start.revision).await;
        for wanted in &wanted[index + 1..] {
            assert_eq!(&next_batch(&mut *late).await, wanted);
        }
    }
}

/// ST9: a wait that is given up loses no batch.
pub async fn st9_a_dropped_wait_loses_nothing(fixture: impl StoreFixture) {
    let store = fixture.fresh().await;
    let mut watch = watch(&*store, store.revision().await.expect("open")).await;
    for n in 0..20 {
        give_up(watch.next()).await;
        let revision = commit(&*store, put(record_key(n), Expect::Absent, "v")).await;
        assert_eq!(next_batch(&mut *watch).await, batch(revision, &[(n, Some("v"))]));
    }
}

/// Polls a call once, to see that it waits, and drops it.
async fn give_up<T>(call: impl Future<Output = T>) {
    let mut call = std::pin::pin!(call);
    let ready = std::future::poll_fn(|context| {
        std::task::Poll::Ready(call.as_mut().poll(context).is_ready())
    });
    assert!(!ready.await, "there is nothing to wait for");
}

/// ST10: a watch after a compacted revision fails with `Compacted`; it never skips silently.
pub async fn st10_a_watch_of_compacted_history_fails(fixture: impl StoreFixture) {
    let store = fixture.fresh().await;
    let begin = store.revision().await.expect("open");
    let mut revisions = vec![begin];
    for n in 0..10 {
        revisions.push(commit(&*store, put(record_key(n), Expect::Absent, "v")).await);
    }
    let before = load_all(&*store).await;
    fixture.compact(&store, revisions[5]).await;
    for &after in &revisions[..5] {
        let error = watch_error(&*store, after).await;
        let StoreError::Compacted { oldest } = error else { panic!("{error:?}") };
        assert!(after < oldest && oldest <= revisions[10], "{oldest} is a place to go on from");
    }
    let mut watch = watch(&*store, revisions[5]).await;
    assert_eq!(next_batch(&mut *watch).await.revision, revisions[6]);
    assert_eq!(load_all(&*store).await, before, "S10: no record is lost");
    fixture.compact(&store, revisions[10]).await;
    assert_eq!(load_all(&*store).await, before);
    assert!(commit(&*store, put(record_key(90), Expect::Absent, "v")).await > revisions[10]);
}

/// ST11: a slow watcher never blocks a writer; it gets every batch or `Compacted`.
pub async fn st11_a_slow_watcher_blocks_nobody(fixture: impl StoreFixture) {
    let store = fixture.fresh().await;
    let mut watch = watch(&*store, store.revision().await.expect("open")).await;
    let mut wanted = Vec::new();
    let mut expect = Expect::Absent;
    for _ in 0..300 {
        let revision = commit(&*store, put(record_key(0), expect, "v")).await;
        wanted.push(revision);
        expect = Expect::At(revision);
    }
    for revision in wanted {
        match stuck("watch", watch.next()).await {
            Ok(batch) => assert_eq!(batch.revision, revision),
            Err(StoreError::Compacted { .. }) => return,
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// ST12: over-limit and self-contradicting transactions are refused with `Malformed` and change nothing.
pub async fn st12_malformed_transactions_are_refused(fixture: impl StoreFixture) {
    let store = fixture.fresh().await;
    let revision = store.revision().await.expect("open");
    let write = |n| put(record_key(n), Expect::Absent, "v").writes.remove(0);
    let guard = |n| Guard { key: record_key(n), expect: Expect::Absent };
    let large = "x".repeat(TXN_BYTES_MAX / 2 + 1);
    let cases = [
        Txn { guards: vec![], writes: (0..=TXN_WRITES_MAX).map(write).collect() },
        Txn { guards: (0..=TXN_GUARDS_MAX).map(guard).collect(), writes: vec![] },
        Txn { guards: vec![], writes: vec![write(1), write(1)] },
        Txn { guards: vec![guard(1)], writes: vec![write(1)] },
        Txn {
            guards: vec![],
            writes: (0..2)
                .flat_map(|n| put(record_key(n), Expect::Absent, &large).writes)
                .collect(),
        },
    ];
    for txn in cases {
        let refused = store.commit(txn).await;
        assert!(matches!(refused, Err(StoreError::Malformed { .. })), "{refused:?}");
    }
    assert_eq!(load_all(&*store).await, (revision, vec![]));
    let full = Txn {
        guards: (100..100 + TXN_GUARDS_MAX).map(guard).collect(),
        writes: (0..TXN_WRITES_MAX).map(write).collect(),
    };
    commit(&*store, full).await;
    commit(&*store, put(record_key(99), Expect::Absent, &"x".repeat(TXN_BYTES_MAX))).await;
}

/// ST13: of concurrent transactions with the same precondition exactly one commits.
pub async fn st13_of_equal_transactions_one_commits(fixture: impl StoreFixture) {
    let store = fixture.fresh().await;
    let mut expect = Expect::Absent;
    for round in 0..20 {
        let rivals: Vec<_> = (0..8)
            .map(|n| {
                let store = store.clone();
                let txn = put(record_key(0), expect, &format!("{round}-{n}"));
                tokio::spawn(async move { store.commit(txn).await.expect("open") })
            })
            .collect();
        let (mut winners, mut losers) = (vec![], vec![]);
        for rival in rivals {
            match rival.await.expect("no panic") {
                CommitOutcome::Committed(revision) => winners.push(revision),
                CommitOutcome::Conflict { current, .. } => losers.push(current),
                CommitOutcome::Unknown => panic!("unknown without a fault"),
            }
        }
        assert_eq!((winners.len(), losers.len()), (1, 7));
        assert!(losers.iter().all(|current| *current == Some(winners[0])));
        expect = Expect::At(winners[0]);
    }
}

/// ST15: a watch after a revision that has not happened yet waits for it and never shows older commits.
pub async fn st15_a_watch_of_the_future_waits(fixture: impl StoreFixture) {
    let store = fixture.fresh().await;
    let first = commit(&*store, put(record_key(0), Expect::Absent, "v")).await;
    let future = Revision(first.0 + 5);
    let mut watch = watch(&*store, future).await;
    give_up(watch.next()).await;
    let mut n = 1;
    let wanted = loop {
        let revision = commit(&*store, put(record_key(n), Expect::Absent, "v")).await;
        if revision > future {
            break revision;
        }
        n += 1;
    };
    assert_eq!(next_batch(&mut *watch).await.revision, wanted);
}

/// ST16: concurrent independent transactions all commit, each with a revision of its own.
pub async fn st16_independent_transactions_all_commit(fixture: impl StoreFixture) {
    let store = fixture.fresh().await;
    let begin = store.revision().await.expect("open");
    let mut watch = watch(&*store, begin).await;
    let writers: Vec<_> = (0..100)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                (n, commit(&*store, put(record_key(n), Expect::Absent, "v")).await)
            })
        })
        .collect();
    let mut wanted = BTreeMap::new();
    for writer in writers {
        let (n, revision) = writer.await.expect("no panic");
        wanted.insert(revision, n);
    }
    assert_eq!(wanted.len(), 100, "no revision twice");
    for (revision, n) in wanted {
        assert_eq!(next_batch(&mut *watch).await, batch(revision, &[(n, Some("v"))]));
    }
}

/// ST2: no revision is used again after reopening, also when the newest commits were deletions or compacted.
pub async fn st2_revisions_are_not_reused_after_reopening(fixture: impl DurableStoreFixture) {
    let mut store = fixture.fresh().await;
    let mut seen = BTreeSet::new();
    for round in 0..4 {
        let revision = commit(&*store, put(record_key(round), Expect::Absent, "v")).await;
        let gone = commit(&*store, delete(record_key(round), revision)).await;
        assert!(seen.last().is_none_or(|last| *last < revision), "{revision}");
        seen.extend([revision, gone]);
        if round % 2 == 1 {
            fixture.compact(&store, gone).await;
        }
        store = fixture.reopen(store).await;
        assert_eq!(store.revision().await.expect("open"), gone);
    }
}

/// ST10: what was compacted before reopening stays compacted, and nothing else becomes so.
pub async fn st10_compacted_history_stays_so_after_reopening(fixture: impl DurableStoreFixture) {
    let store = fixture.fresh().await;
    let mut revisions = vec![store.revision().await.expect("open")];
    for n in 0..10 {
        revisions.push(commit(&*store, put(record_key(n), Expect::Absent, "v")).await);
    }
    fixture.compact(&store, revisions[5]).await;
    let store = fixture.reopen(store).await;
    for &after in &revisions[..5] {
        let error = watch_error(&*store, after).await;
        assert!(matches!(error, StoreError::Compacted { .. }), "{error:?}");
    }
    let mut watch = watch(&*store, revisions[5]).await;
    for (n, &revision) in revisions.iter().enumerate().skip(6) {
        assert_eq!(next_batch(&mut *watch).await, batch(revision, &[(n - 1, Some("v"))]));
    }
    let marker = commit(&*store, put(record_key(50), Expect::Absent, "m")).await;
    assert_eq!(next_batch(&mut *watch).await, batch(marker, &[(50, Some("m"))]));
}

/// ST14: an acknowledged commit survives reopening.
pub async fn st14_a_commit_survives_reopening(fixture: impl DurableStoreFixture) {
    let mut store = fixture.fresh().await;
    for round in 0..5 {
        for n in 0..20 {
            commit(&*store, put(record_key(round * 20 + n), Expect::Absent, "v")).await;
        }
        let before = load_all(&*store).await;
        store = fixture.reopen(store).await;
        assert_eq!(load_all(&*store).await, before);
    }
}

async fn watch(store: &dyn StateStore, after: Revision) -> Box<dyn Watch> {
    store.watch(after).await.expect("nothing is compacted")
}

fn batch(revision: Revision, changes: &[(usize, Option<&str>)]) -> Batch {
    let change = |(n, value): &(usize, Option<&str>)| RecordChange {
        key: record_key(*n),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
    };
    Batch { revision, changes: changes.iter().map(change).collect() }
}
