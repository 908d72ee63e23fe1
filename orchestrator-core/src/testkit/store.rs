//! The conformance suite for `StateStore`: one function per clause of its contract.
//!
//! A store shows that it conforms by naming a fixture in [`store_conformance!`](crate::store_conformance), and
//! a durable one in [`durable_store_conformance!`](crate::durable_store_conformance). The name of a test
//! that fails is the promise that was broken.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::{Key, Revision};
use crate::store::{
    Batch, CommitOutcome, Expect, Record, RecordKey, StateStore, StoreError, Txn, Watch, Write,
};

#[doc(hidden)]
pub use super::store_clauses::*;

/// How long a call may take before the suite calls it stuck; no promise depends on it.
const STUCK: Duration = Duration::from_secs(60);

/// Makes stores for the suite. Small pages and a short history, of at least 200 commits, make it look closer.
#[async_trait]
pub trait StoreFixture: Send + Sync {
    /// The store under test.
    type Store: StateStore;

    /// Makes an empty store that shares nothing with others.
    async fn fresh(&self) -> Arc<Self::Store>;

    /// Makes the store forget its history up to `revision`, which has happened.
    async fn compact(&self, store: &Self::Store, revision: Revision);
}

/// Makes stores that outlive their process.
#[async_trait]
pub trait DurableStoreFixture: StoreFixture {
    /// Closes a store that nobody else holds and opens its data again.
    async fn reopen(&self, store: Arc<Self::Store>) -> Arc<Self::Store>;
}

/// Expands to a module `store_conformance` with one test per clause; `$make` is an expression that makes a
/// [`StoreFixture`](crate::testkit::store::StoreFixture). The crate that uses it needs tokio.
#[macro_export]
macro_rules! store_conformance {
    ($make:expr) => {
        mod store_conformance {
            use super::*;
            $crate::store_clauses! { $make;
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
                st12_malformed_transactions_are_refused
                st13_of_equal_transactions_one_commits
                st15_a_watch_of_the_future_waits
                st16_independent_transactions_all_commit
            }

            #[test]
            fn it_agrees_with_a_model() {
                $crate::testkit::store_model::agrees_with_model(|| $make);
            }
        }
    };
}

/// Expands to a module `durable_store_conformance` with one test per clause on reopening; `$make` is an expression that
/// makes a [`DurableStoreFixture`](crate::testkit::store::DurableStoreFixture).
#[macro_export]
macro_rules! durable_store_conformance {
    ($make:expr) => {
        mod durable_store_conformance {
            use super::*;
            $crate::store_clauses! { $make;
                st2_revisions_are_not_reused_after_reopening
                st10_compacted_history_stays_so_after_reopening
                st14_a_commit_survives_reopening
            }

            #[test]
            fn it_agrees_with_a_model_across_reopening() {
                $crate::testkit::store_model::agrees_with_model_across_reopening(|| $make);
            }
        }
    };
}

/// Expands to one test per named clause.
#[doc(hidden)]
#[macro_export]
macro_rules! store_clauses {
    ($make:expr; $($clause:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() {
                $crate::testkit::store::$clause($make).await;
            }
        )*
    };
}

/// Names the `n`-th record of a test.
pub fn record_key(n: usize) -> RecordKey {
    RecordKey::main(Key::pod("default", &format!("r{n:04}")))
}

/// Makes a transaction of one write.
pub fn put(key: RecordKey, expect: Expect, value: &str) -> Txn {
    let value = Bytes::copy_from_slice(value.as_bytes());
    Txn { guards: vec![], writes: vec![Write::Put { key, expect, value }] }
}

/// Makes a transaction of one deletion.
pub fn delete(key: RecordKey, expect: Revision) -> Txn {
    Txn { guards: vec![], writes: vec![Write::Delete { key, expect }] }
}

/// Commits a transaction that must succeed.
pub async fn commit(store: &dyn StateStore, txn: Txn) -> Revision {
    match stuck("commit", store.commit(txn)).await {
        Ok(CommitOutcome::Committed(revision)) => revision,
        other => panic!("not committed: {other:?}"),
    }
}

/// Reads every page of a listing.
pub async fn load_all(store: &dyn StateStore) -> (Revision, Vec<Record>) {
    let (mut revision, mut records, mut token) = (None, Vec::new(), None);
    loop {
        let page = stuck("load", store.load(token)).await.expect("load succeeds");
        assert_eq!(page.quarantined, [], "nothing is quarantined");
        assert_eq!(*revision.get_or_insert(page.revision), page.revision, "one revision");
        records.extend(page.records);
        token = page.next;
        if token.is_none() {
            assert!(records.is_sorted_by(|a, b| a.key < b.key), "in key order, each once");
            return (page.revision, records);
        }
    }
}

/// Waits for the next batch of a watch that must have one.
pub async fn next_batch(watch: &mut dyn Watch) -> Batch {
    stuck("watch", watch.next()).await.expect("the watch goes on")
}

/// The error with which a watch after `after` fails, at once or at its first batch.
pub async fn watch_error(store: &dyn StateStore, after: Revision) -> StoreError {
    match stuck("watch", store.watch(after)).await {
        Err(error) => error,
        Ok(mut watch) => stuck("watch", watch.next()).await.expect_err("the watch fails"),
    }
}

pub(super) async fn stuck<T>(what: &str, call: impl Future<Output = T>) -> T {
    match tokio::time::timeout(STUCK, call).await {
        Ok(value) => value,
        Err(_) => panic!("{what} is stuck"),
    }
}
