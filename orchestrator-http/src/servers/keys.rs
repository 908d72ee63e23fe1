//! The keys that seal secrets, among servers: given to all before anything is sealed with a new one, and fetched by one that was away.

use std::path::Path;

use async_trait::async_trait;
use orchestrator_core::store::{BoxError, StateStore};
use orchestrator_core::world::World;

use super::Servers;
use super::record::read_records;
use crate::client::ClientError;
use crate::pki::Pki;
use crate::upkeep::{Peers, SealingKeys};

/// Where servers tell one another keys.
const PEER_KEYS_PATH: &str = "/apis/orchestrator.dev/v1/peer-keys";

/// The other servers, as far as a world tells.
#[derive(Debug)]
pub(crate) struct Others<'a> {
    pub(crate) servers: &'a Servers,
    pub(crate) world: World,
}

#[async_trait]
impl Peers for Others<'_> {
    async fn give(&self, keys: &SealingKeys) -> Result<(), BoxError> {
        let keys = serde_json::to_value(keys)?;
        for url in self.servers.others(&self.world) {
            let given = async { self.servers.client(&url)?.post(PEER_KEYS_PATH, &keys).await };
            given.await.map_err(|error: ClientError| {
                format!(
                    "the server at {url} did not take the new key ({error}); start it, or, if it is gone for good, delete its Lease in the \
                     namespace kube-system"
                )
            })?;
        }
        Ok(())
    }
}

/// Fetches the keys that seal secrets from another server of the cluster: there may be newer ones than those that one has which was
/// away. `own` is the URL of the one that asks, and `keys` the directory of its keys. `None` when there are no others, or none
/// answers.
///
/// # Errors
/// When the store or the directory of keys cannot be read.
pub async fn sealing_keys_of_peers(
    store: &dyn StateStore,
    keys: &Path,
    own: &str,
    now: i64,
) -> Result<Option<SealingKeys>, BoxError> {
    let world = read_records(store).await?;
    let servers = Servers::new(own.to_owned(), &Pki::open(keys, now)?, now)?;
    for url in servers.others(&world) {
        let told = async { servers.client(&url)?.raw(PEER_KEYS_PATH).await };
        match told.await {
            Ok(told) => return Ok(Some(serde_json::from_slice(&told)?)),
            Err(error) => tracing::debug!(%error, url, "a server does not tell its keys"),
        }
    }
    Ok(None)
}
