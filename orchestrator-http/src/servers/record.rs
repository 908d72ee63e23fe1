//! The record that a server keeps of itself, for the others and for agents; and what a store says of servers before a cluster runs on it.

use std::time::Duration;

use orchestrator_core::driver::Cluster;
use orchestrator_core::model::{Key, Kind, Lease, LeaseSpec, ObjectMeta, Resource, Time};
use orchestrator_core::store::{Page, StateStore, StoreError};
use orchestrator_core::world::World;

use super::{LABEL_SERVER, NAMESPACE, Servers, URL, name, record_key, records, url};
use crate::stopping::Stopping;

/// How often a server says anew that it is there.
const RENEW_EVERY: Duration = Duration::from_secs(60);
/// How soon that is tried again when it failed.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How long a server that says nothing is known, in seconds.
const KNOWN_SECONDS: i32 = 3_600;
/// How long taking the record away may take when the server stops.
const FORGET_WITHIN: Duration = Duration::from_secs(2);

/// Keeps the record of a server until it stops, and takes away those of servers that have said nothing for an hour.
pub(crate) async fn keep_record(cluster: Cluster, own: String, mut stopping: Stopping) {
    loop {
        let wait = match cluster.apply(record(&cluster, &own)).await {
            Ok(_) => {
                forget_lost(&cluster, &own).await;
                RENEW_EVERY
            }
            Err(error) => {
                tracing::warn!(%error, "the record of this server could not be kept");
                AGAIN_AFTER
            }
        };
        tokio::select! {
            () = stopping.wait() => break,
            () = tokio::time::sleep(wait) => {}
        }
    }
    let key = record_key(&own);
    let forgotten = tokio::time::timeout(FORGET_WITHIN, cluster.delete(&key)).await;
    if !matches!(forgotten, Ok(Ok(()))) {
        tracing::debug!("the record of this server stays; the others find out that it is gone");
    }
}

/// Returns the URLs of the servers that are known of in a store.
///
/// # Errors
/// [`StoreError`].
pub async fn server_urls(store: &dyn StateStore) -> Result<Vec<String>, StoreError> {
    Ok(Servers::urls(&read_records(store).await?))
}

/// Reads what a store says of its cluster's root and servers, and nothing else: none of it is secret.
pub(super) async fn read_records(store: &dyn StateStore) -> Result<World, StoreError> {
    let concerns = |key: &Key| {
        matches!(key.kind, Kind::ConfigMap | Kind::Lease) && &*key.namespace == NAMESPACE
    };
    let mut found = Page::default();
    let mut token = None;
    loop {
        let page = store.load(token.take()).await?;
        let records = page.records.into_iter().filter(|record| concerns(&record.key.object));
        found.records.extend(records);
        token = page.next;
        if token.is_none() {
            return Ok(World::from_pages([found]));
        }
    }
}

/// The URLs of the servers but one that were heard in the last hour.
pub(super) fn heard_lately(world: &World, own_url: Option<&str>, now: i64) -> Vec<String> {
    let known_from = Time::from_seconds(now - i64::from(KNOWN_SECONDS));
    let is_known = |lease: &&Lease| {
        lease.spec.renew_time.is_some_and(|renewed| renewed >= known_from.to_timestamp().into())
    };
    let urls = records(world).filter(is_known).filter_map(url);
    urls.filter(|url| Some(*url) != own_url).map(str::to_owned).collect()
}

fn record(cluster: &Cluster, own: &str) -> Lease {
    let key = record_key(own);
    let mut metadata = ObjectMeta::named(NAMESPACE, &key.name);
    metadata.labels.insert(LABEL_SERVER.to_owned(), name(own));
    metadata.annotations.insert(URL.to_owned(), own.to_owned());
    let spec = LeaseSpec {
        holder_identity: cluster.identity().map(str::to_owned),
        lease_duration_seconds: Some(KNOWN_SECONDS),
        renew_time: Some(cluster.now().into()),
        ..LeaseSpec::default()
    };
    Lease { metadata, spec, ..Lease::default() }
}

async fn forget_lost(cluster: &Cluster, own: &str) {
    let world = cluster.world();
    let before = cluster.now().plus_millis(-i64::from(KNOWN_SECONDS) * 1_000);
    let is_lost = |lease: &&Lease| {
        let said = lease.spec.renew_time.is_none_or(|renewed| renewed < before.into());
        said && lease.key() != record_key(own)
    };
    let lost: Vec<Key> = records(&world).filter(is_lost).map(Resource::key).collect();
    for key in lost {
        if let Err(error) = cluster.delete(&key).await {
            tracing::debug!(%error, %key, "the record of a lost server stays");
        }
    }
}
