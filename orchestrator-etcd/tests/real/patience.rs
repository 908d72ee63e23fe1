//! What is asked of a store whose etcd comes and goes.

use std::collections::BTreeMap;
use std::time::Duration;

use orchestrator_core::model::Revision;
use orchestrator_core::store::{CommitOutcome, Expect, RecordKey, StateStore, StoreError};
use orchestrator_core::testkit::store::put;
use orchestrator_etcd::EtcdStore;

/// How long something is waited for before it counts as never coming; no promise depends on it.
const STUCK: Duration = Duration::from_secs(120);

/// Makes a record that nobody else makes, and returns the revision that did.
pub async fn create(store: &EtcdStore, key: RecordKey) -> Revision {
    loop {
        match within("a commit", store.commit(put(key.clone(), Expect::Absent, "v"))).await {
            Ok(CommitOutcome::Committed(revision)) => return revision,
            Ok(CommitOutcome::Unknown) => {
                newest(store).await;
                if let Some(revision) = look(store).await.remove(&key) {
                    return revision;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The newest revision, however long etcd is away.
pub async fn newest(store: &EtcdStore) -> Revision {
    let answer = async {
        loop {
            match store.revision().await {
                Ok(revision) => return revision,
                Err(StoreError::Backend(_)) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    };
    within("the revision", answer).await
}

/// Every record with its revision, however long etcd is away.
pub async fn look(store: &EtcdStore) -> BTreeMap<RecordKey, Revision> {
    let mut records = BTreeMap::new();
    let mut token = None;
    loop {
        match within("a page", store.load(token.clone())).await {
            Ok(page) => {
                let pairs = page.records.into_iter().map(|record| (record.key, record.revision));
                records.extend(pairs);
                token = page.next;
                if token.is_none() {
                    return records;
                }
            }
            Err(StoreError::Backend(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// What a call gives, which is not promised to be quick.
pub async fn within<T>(what: &str, call: impl Future<Output = T>) -> T {
    match tokio::time::timeout(STUCK, call).await {
        Ok(value) => value,
        Err(_) => panic!("{what} never comes"),
    }
}
