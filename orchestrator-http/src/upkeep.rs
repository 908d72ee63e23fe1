//! `Upkeep`: what a server does for those who keep its store: lets them copy it, and change the key that seals secrets.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use orchestrator_core::model::Sensitive;
use orchestrator_core::store::{BoxError, StateStore};
use serde::{Deserialize, Serialize};

/// What a server needs for the upkeep of its store. Whoever asks for it needs rights to `backups` and `sealingkeys` of
/// the group `orchestrator.dev`.
#[async_trait]
pub trait Upkeep: Debug + Send + Sync + 'static {
    /// The store whose records a backup copies as they lie there.
    fn store(&self) -> Arc<dyn StateStore>;

    /// Makes a new key, sees to it that every peer can open with it, and then seals every secret with it.
    async fn rotate_keys(&self, peers: &dyn Peers) -> Result<KeyRotation, BoxError>;

    /// The keys that seal secrets, for another server of the cluster.
    fn sealing_keys(&self) -> SealingKeys;

    /// Takes in the keys of another server of the cluster.
    fn take_sealing_keys(&self, keys: &SealingKeys) -> Result<(), BoxError>;
}

/// The other servers of a cluster, which seal secrets with the same keys.
#[async_trait]
pub trait Peers: Debug + Send + Sync {
    /// Gives keys to each; fails when one of them did not take them.
    async fn give(&self, keys: &SealingKeys) -> Result<(), BoxError>;
}

/// The peers of a server that has its state to itself.
#[derive(Clone, Copy, Debug)]
pub struct NoPeers;

#[async_trait]
impl Peers for NoPeers {
    async fn give(&self, _keys: &SealingKeys) -> Result<(), BoxError> {
        Ok(())
    }
}

/// The keys that seal secrets, as servers of a cluster tell one another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SealingKeys {
    /// The text of their file.
    pub text: Sensitive<String>,
    /// The id of the one that seals from now on; as it is where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seals: Option<String>,
}

/// What became of a change of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRotation {
    /// The new key's id.
    pub key: String,
    /// How many secrets it seals now.
    pub sealed: u64,
    /// Secrets that could not be opened, each with the reason; they are as they were.
    pub unreadable: Vec<String>,
}
