//! `Upkeep`: what a server does for those who keep its store: lets them copy it, and change the key that seals secrets.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use orchestrator_core::store::{BoxError, StateStore};
use serde::{Deserialize, Serialize};

/// What a server needs for the upkeep of its store. Whoever asks for it needs rights to `backups` and `sealingkeys` of
/// the group `orchestrator.dev`.
#[async_trait]
pub trait Upkeep: Debug + Send + Sync + 'static {
    /// The store whose records a backup copies as they lie there.
    fn store(&self) -> Arc<dyn StateStore>;

    /// Makes a new key, and seals every secret with it.
    async fn rotate_keys(&self) -> Result<KeyRotation, BoxError>;
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
