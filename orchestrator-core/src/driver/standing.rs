//! `Standing`: what this control plane is among those that share its store, and how it sees what they wrote.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Mutex;

use crate::model::Revision;
use crate::store::{StateStore, StoreError};

/// Who decides in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leader {
    /// Another control plane, of this identity.
    Elsewhere(String),
    /// This control plane.
    Here,
    /// Nobody that is known: nobody does, or the store tells this control plane no news.
    Nobody,
}

/// What a control plane is among others.
#[derive(Debug)]
pub(super) struct Standing {
    /// Its name in the election; `None` when it has the store to itself.
    identity: Option<String>,
    leader: RwLock<Leader>,
    /// How many readings of the newest revision have begun.
    begun: AtomicU64,
    /// The newest reading: its number and what it found.
    last: Mutex<(u64, Revision)>,
}

impl Standing {
    pub(super) fn new(identity: Option<String>) -> Self {
        let leader = if identity.is_none() { Leader::Here } else { Leader::Nobody };
        Self {
            identity,
            leader: RwLock::new(leader),
            begun: AtomicU64::new(0),
            last: Mutex::default(),
        }
    }

    /// Its name in the election; `None` when it has the store to itself.
    pub(super) fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    pub(super) fn leader(&self) -> Leader {
        self.leader.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn leads(&self) -> bool {
        *self.leader.read().unwrap_or_else(PoisonError::into_inner) == Leader::Here
    }

    pub(super) fn set_leader(&self, leader: Leader) {
        *self.leader.write().unwrap_or_else(PoisonError::into_inner) = leader;
    }

    /// The newest revision, read after this was called. Those who ask at the same time share a reading.
    pub(super) async fn newest(&self, store: &Arc<dyn StateStore>) -> Result<Revision, StoreError> {
        let before = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if last.0 > before {
            return Ok(last.1);
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let revision = store.revision().await?;
        *last = (number, revision);
        Ok(revision)
    }
}
