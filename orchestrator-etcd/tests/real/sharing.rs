//! Clusters that share an etcd, stores that share a cluster, and states that must not be used.

use std::sync::Arc;
use std::time::Duration;

use orchestrator_core::model::Revision;
use orchestrator_core::store::{CommitOutcome, Expect, Guard, StateStore, StoreError, Txn};
use orchestrator_core::testkit::store::{
    commit, load_all, next_batch, put, record_key, watch_error,
};
use orchestrator_etcd::{EtcdHistory, EtcdStore, OpenError, Standing};

use crate::etcd::{Etcd, Program};
use crate::patience::within;
use crate::with_each_etcd;

with_each_etcd! {
    clusters_with_different_prefixes_do_not_see_each_other
    what_others_compact_does_not_matter_to_a_quiet_cluster
    stores_on_one_state_see_each_others_commits_and_pages
    a_page_that_is_too_large_for_an_answer_becomes_several
    s32_a_leader_of_an_old_epoch_writes_nothing
    history_beyond_its_age_is_compacted
    a_closed_store_says_so
    a_state_that_is_not_ours_is_refused_and_left_alone
    s3_a_state_that_takes_anothers_place_goes_on_above_its_revisions
    a_state_that_is_not_whole_is_refused_and_can_be_begun_again
    a_state_that_was_left_is_neither_opened_nor_written_any_more
}

async fn open(etcd: &Etcd, prefix: &str) -> EtcdStore {
    let mut options = etcd.options();
    options.prefix = prefix.to_owned();
    EtcdStore::open(options).await.expect("etcd answers")
}

async fn clusters_with_different_prefixes_do_not_see_each_other(program: Program) {
    let etcd = Etcd::start(program);
    let (outer, inner) = (open(&etcd, "/a").await, open(&etcd, "/a/b").await);
    let mut watch = outer.watch(outer.revision().await.expect("open")).await.expect("open");
    let first = commit(&outer, put(record_key(0), Expect::Absent, "outer")).await;
    commit(&inner, put(record_key(0), Expect::Absent, "inner")).await;
    assert_eq!(outer.revision().await.expect("open"), first, "the other's commits are no news");
    let second = commit(&outer, put(record_key(1), Expect::Absent, "outer")).await;
    assert_eq!(next_batch(&mut *watch).await.revision, first);
    assert_eq!(next_batch(&mut *watch).await.revision, second);
    let (revision, records) = load_all(&outer).await;
    assert_eq!((revision, records.len()), (second, 2));
    let (_, records) = load_all(&inner).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].value, "inner");
}

async fn what_others_compact_does_not_matter_to_a_quiet_cluster(program: Program) {
    let etcd = Etcd::start(program);
    let (quiet, busy) = (open(&etcd, "/quiet").await, open(&etcd, "/busy").await);
    let old = commit(&quiet, put(record_key(0), Expect::Absent, "v")).await;
    let newest = commit(&quiet, put(record_key(1), Expect::Absent, "v")).await;
    let mut live = quiet.watch(newest).await.expect("open");
    for n in 0..10 {
        let revision = commit(&busy, put(record_key(n), Expect::Absent, "v")).await;
        busy.compact(revision).await.expect("it has happened");
    }
    assert_eq!(load_all(&quiet).await.0, newest);
    let mut late = quiet.watch(newest).await.expect("nothing happened since");
    let error = watch_error(&quiet, old).await;
    assert!(matches!(error, StoreError::Compacted { oldest } if oldest > old), "{error:?}");
    let marker = commit(&quiet, put(record_key(2), Expect::Absent, "v")).await;
    assert_eq!(next_batch(&mut *live).await.revision, marker);
    assert_eq!(next_batch(&mut *late).await.revision, marker);
}

async fn stores_on_one_state_see_each_others_commits_and_pages(program: Program) {
    let etcd = Etcd::start(program);
    let mut options = etcd.options();
    options.page_records_max = 2;
    let one = EtcdStore::open(options.clone()).await.expect("etcd answers");
    let two = EtcdStore::open(options).await.expect("etcd answers");
    let mut watch = two.watch(two.revision().await.expect("open")).await.expect("open");
    for n in 0..3 {
        let revision = commit(&one, put(record_key(n), Expect::Absent, "v")).await;
        assert_eq!(next_batch(&mut *watch).await.revision, revision);
        assert_eq!(two.revision().await.expect("open"), revision);
        let late = two.commit(put(record_key(n), Expect::Absent, "w")).await.expect("open");
        let current = Some(revision);
        assert_eq!(late, CommitOutcome::Conflict { key: record_key(n), current });
    }
    let page = one.load(None).await.expect("open");
    let next = page.next.expect("three records are two pages");
    let page = two.load(Some(next.clone())).await.expect("the token is good everywhere");
    assert_eq!((page.records.len(), page.next), (1, None));
    let newest = commit(&one, put(record_key(3), Expect::Absent, "v")).await;
    one.compact(newest).await.expect("it has happened");
    let stale = two.load(Some(next)).await;
    assert!(matches!(stale, Err(StoreError::StalePage)), "{stale:?}");
}

async fn a_page_that_is_too_large_for_an_answer_becomes_several(program: Program) {
    let etcd = Etcd::start(program);
    let store = etcd.open().await;
    let value = "x".repeat(1 << 20);
    for n in 0..40 {
        commit(&store, put(record_key(n), Expect::Absent, &value)).await;
    }
    let (_, records) = load_all(&store).await;
    assert_eq!(records.len(), 40);
    assert!(records.iter().all(|record| record.value == value));
    let mut watch = store.watch(Revision(records[0].revision.0 - 1)).await.expect("open");
    for record in records {
        assert_eq!(next_batch(&mut *watch).await.revision, record.revision);
    }
}

async fn s32_a_leader_of_an_old_epoch_writes_nothing(program: Program) {
    let etcd = Etcd::start(program);
    let (old, new) = (etcd.open().await, etcd.open().await);
    let epoch = record_key(9_999);
    let first = commit(&old, put(epoch.clone(), Expect::Absent, "1")).await;
    // The old leader writes as fast as it can, each time on the condition that the epoch is its own.
    let guard = Guard { key: epoch.clone(), expect: Expect::At(first) };
    let leading = tokio::spawn(async move {
        let mut last = first;
        for n in 0.. {
            let writes = put(record_key(n), Expect::Absent, "v").writes;
            let txn = Txn { guards: vec![guard.clone()], writes };
            match old.commit(txn).await.expect("etcd answers") {
                CommitOutcome::Committed(revision) => last = revision,
                other => return (last, other),
            }
        }
        unreachable!("its epoch ends")
    });
    let mut watch = new.watch(first).await.expect("nothing is compacted");
    for _ in 0..5 {
        next_batch(&mut *watch).await;
    }
    let second = commit(&new, put(epoch.clone(), Expect::At(first), "2")).await;
    let (last, refused) = leading.await.expect("no panic");
    assert!(last < second, "{last} comes after {second}");
    assert_eq!(refused, CommitOutcome::Conflict { key: epoch, current: Some(second) });
}

async fn history_beyond_its_age_is_compacted(program: Program) {
    let etcd = Etcd::start(program);
    let mut options = etcd.options();
    options.history = EtcdHistory::Age(Duration::from_millis(20));
    let store = EtcdStore::open(options).await.expect("etcd answers");
    let begin = store.revision().await.expect("open");
    for n in 0.. {
        commit(&store, put(record_key(n), Expect::Absent, "v")).await;
        match within("a watch", store.watch(begin).await.expect("open").next()).await {
            Ok(_) => {}
            Err(StoreError::Compacted { oldest }) if oldest > begin => return,
            Err(other) => panic!("{other:?}"),
        }
    }
}

async fn a_closed_store_says_so(program: Program) {
    let etcd = Etcd::start(program);
    let store = Arc::new(etcd.open().await);
    let begin = store.revision().await.expect("open");
    let mut watch = store.watch(begin).await.expect("open");
    let waiting = tokio::spawn(async move { watch.next().await });
    store.close().await;
    store.close().await;
    let ended = waiting.await.expect("no panic");
    assert!(matches!(ended, Err(StoreError::Closed)), "{ended:?}");
    assert!(matches!(store.revision().await, Err(StoreError::Closed)));
    assert!(matches!(store.load(None).await, Err(StoreError::Closed)));
    assert!(matches!(store.watch(begin).await, Err(StoreError::Closed)));
    assert!(matches!(store.compact(begin).await, Err(StoreError::Closed)));
    let refused = store.commit(put(record_key(0), Expect::Absent, "v")).await;
    assert!(matches!(refused, Err(StoreError::Closed)), "{refused:?}");
}

async fn a_state_that_is_not_ours_is_refused_and_left_alone(program: Program) {
    let etcd = Etcd::start(program);
    let running = open(&etcd, "/newer").await;
    etcd.put("/newer/fence", "orchestrator state, format 3");
    etcd.put("/foreign/fence", "something else");
    let mut options = etcd.options();
    options.prefix = "/newer".to_owned();
    let refused = EtcdStore::open(options.clone()).await;
    assert!(matches!(refused, Err(OpenError::Newer { found: 3, .. })), "{refused:?}");
    options.prefix = "/foreign".to_owned();
    let refused = EtcdStore::open(options).await.expect_err("not ours").to_string();
    assert!(refused.contains("/foreign/fence") && refused.contains("something else"), "{refused}");
    assert_eq!(etcd.keys_below("/foreign"), 1, "nothing was added");
    // A store that was open before writes no more, either.
    let refused = running.commit(put(record_key(0), Expect::Absent, "v")).await;
    assert!(matches!(refused, Err(StoreError::Backend(_))), "{refused:?}");
    assert_eq!(etcd.keys_below("/newer"), 2, "fence and head");
}

async fn s3_a_state_that_takes_anothers_place_goes_on_above_its_revisions(program: Program) {
    let etcd = Etcd::start(program);
    let old = Revision(1_000_000);
    let store = EtcdStore::begin(etcd.options(), old).await.expect("nothing there");
    let first = commit(&store, put(record_key(0), Expect::Absent, "v")).await;
    store.finish().await.expect("etcd answers");
    let store = EtcdStore::open(etcd.options()).await.expect("whole");
    let second = commit(&store, put(record_key(0), Expect::At(first), "w")).await;
    assert!(old < first && first < second, "{first} {second}");
    assert_eq!(load_all(&store).await.1[0].revision, second);
    let mut watch = store.watch(first).await.expect("it has happened here");
    assert_eq!(next_batch(&mut *watch).await.revision, second);
    let error = watch_error(&store, Revision(999_999)).await;
    assert!(matches!(error, StoreError::Compacted { oldest } if oldest == old), "{error:?}");
    let lost = store.commit(put(record_key(0), Expect::At(Revision(7)), "x")).await;
    let lost = lost.expect("etcd answers");
    assert!(matches!(lost, CommitOutcome::Conflict { current: Some(at), .. } if at == second));
    let error = EtcdStore::begin(etcd.options(), old).await.expect_err("there is one");
    assert!(matches!(error, OpenError::NotEmpty { .. }), "{error:?}");
}

async fn a_state_that_is_not_whole_is_refused_and_can_be_begun_again(program: Program) {
    let etcd = Etcd::start(program);
    let store = EtcdStore::begin(etcd.options(), Revision(5)).await.expect("nothing there");
    commit(&store, put(record_key(0), Expect::Absent, "v")).await;
    let error = EtcdStore::open(etcd.options()).await.expect_err("not whole");
    assert!(matches!(error, OpenError::Unfinished { .. }), "{error:?}");
    let again = EtcdStore::begin(etcd.options(), Revision(7)).await.expect("not whole");
    assert_eq!(load_all(&again).await.1, [], "nothing is left of the first try");
    let late = store.commit(put(record_key(1), Expect::Absent, "v")).await;
    assert!(late.is_err(), "the first try is over: {late:?}");
    commit(&again, put(record_key(1), Expect::Absent, "v")).await;
    again.finish().await.expect("etcd answers");
    let store = EtcdStore::open(etcd.options()).await.expect("whole");
    assert_eq!(load_all(&store).await.1.len(), 1);
}

async fn a_state_that_was_left_is_neither_opened_nor_written_any_more(program: Program) {
    let etcd = Etcd::start(program);
    let options = etcd.options();
    let standing = || EtcdStore::standing(&options);
    assert_eq!(standing().await.expect("etcd answers"), None);
    let (store, running) = (etcd.open().await, etcd.open().await);
    let at = commit(&store, put(record_key(0), Expect::Absent, "v")).await;
    let newest = commit(&running, put(record_key(1), Expect::Absent, "v")).await;
    let left = store.leave(at, "elsewhere").await.expect("etcd answers");
    assert!(!left, "something was written meanwhile");
    assert_eq!(standing().await.expect("etcd answers"), Some(Standing::Whole));
    assert!(store.leave(newest, "elsewhere").await.expect("etcd answers"));

    let moved = Standing::Moved { to: "elsewhere".to_owned() };
    assert_eq!(standing().await.expect("etcd answers"), Some(moved));
    let refused = running.commit(put(record_key(2), Expect::Absent, "v")).await;
    let told = |error: StoreError| {
        let StoreError::Backend(why) = error else { panic!("{error:?}") };
        assert_eq!(why.to_string(), "the state has been moved to elsewhere");
    };
    told(refused.expect_err("nobody writes any more"));
    told(running.revision().await.expect_err("nor relies on it"));
    let refused = EtcdStore::open(etcd.options()).await.expect_err("left").to_string();
    assert!(refused.contains("has been moved to elsewhere"), "{refused}");
    let refused = EtcdStore::begin(etcd.options(), newest).await.expect_err("there is one");
    assert!(matches!(refused, OpenError::NotEmpty { .. }), "{refused:?}");
    // Who was interrupted reads it once more.
    let again = EtcdStore::open_left(etcd.options()).await.expect("left");
    assert_eq!(load_all(&again).await.1.len(), 2);
    assert!(again.leave(newest, "elsewhere").await.expect("etcd answers"));
}
