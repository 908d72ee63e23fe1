//! The conformance suite of the store contract, for each etcd.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use orchestrator_core::model::Revision;
use orchestrator_core::testkit::store::{DurableStoreFixture, StoreFixture};
use orchestrator_core::{durable_store_conformance, store_conformance};
use orchestrator_etcd::EtcdStore;

use crate::etcd::{Etcd, Program};

/// Stores with prefixes of their own in one etcd, which is killed and started again between closing and opening.
struct Prefixes {
    etcd: Etcd,
    made: AtomicUsize,
}

impl Prefixes {
    fn new(program: Program) -> Self {
        Self { etcd: Etcd::start(program), made: AtomicUsize::new(0) }
    }

    /// Small pages, so that listings have many.
    async fn open(&self, prefix: String) -> Arc<EtcdStore> {
        let mut options = self.etcd.options();
        options.page_records_max = 7;
        options.prefix = prefix;
        Arc::new(EtcdStore::open(options).await.expect("etcd answers"))
    }
}

#[async_trait]
impl StoreFixture for Prefixes {
    type Store = EtcdStore;

    async fn fresh(&self) -> Arc<EtcdStore> {
        self.open(format!("/test/{}", self.made.fetch_add(1, Ordering::Relaxed))).await
    }

    async fn compact(&self, store: &EtcdStore, revision: Revision) {
        store.compact(revision).await.expect("compaction succeeds");
    }
}

#[async_trait]
impl DurableStoreFixture for Prefixes {
    async fn reopen(&self, store: Arc<EtcdStore>) -> Arc<EtcdStore> {
        store.close().await;
        let prefix = store.prefix().to_owned();
        drop(store);
        self.etcd.kill_member(0);
        self.etcd.start_member(0);
        self.open(prefix).await
    }
}

/// The same stores, which have taken the place of others whose revisions went far.
struct Successors(Prefixes);

#[async_trait]
impl StoreFixture for Successors {
    type Store = EtcdStore;

    async fn fresh(&self) -> Arc<EtcdStore> {
        let prefix = format!("/test/{}", self.0.made.fetch_add(1, Ordering::Relaxed));
        let mut options = self.0.etcd.options();
        options.prefix.clone_from(&prefix);
        let begun = EtcdStore::begin(options, Revision(1_800_000_000_000_000)).await;
        begun.expect("etcd answers").finish().await.expect("etcd answers");
        self.0.open(prefix).await
    }

    async fn compact(&self, store: &EtcdStore, revision: Revision) {
        self.0.compact(store, revision).await;
    }
}

#[async_trait]
impl DurableStoreFixture for Successors {
    async fn reopen(&self, store: Arc<EtcdStore>) -> Arc<EtcdStore> {
        self.0.reopen(store).await
    }
}

mod succeeding {
    use super::*;

    store_conformance!(Successors(Prefixes::new(Program::Current)));
    durable_store_conformance!(Successors(Prefixes::new(Program::Current)));
}

mod current {
    use super::*;

    store_conformance!(Prefixes::new(Program::Current));
    durable_store_conformance!(Prefixes::new(Program::Current));
}

mod old {
    use super::*;

    store_conformance!(Prefixes::new(Program::Old));
    durable_store_conformance!(Prefixes::new(Program::Old));
}
