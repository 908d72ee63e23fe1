//! The cluster's bridge network: made at the first sandbox, removed with the last.
//!
//! Nodes of one cluster may share an engine from different processes, so the engine is the judge: a network that went away under a
//! sandbox being started is made again by the caller, and the engine refuses to remove one in use.

use std::collections::BTreeMap;

use orchestrator_core::runtime::RuntimeError;
use tokio::sync::{Mutex, RwLock, RwLockReadGuard};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::translate::{self, cluster_label};

/// Keeps track of clusters' networks.
#[derive(Debug)]
pub(crate) struct Networks {
    engine: Engine,
    /// The id of each cluster's network. Held while one is being made, so that only one is.
    known: Mutex<BTreeMap<String, String>>,
    /// Shared by those who are making a sandbox, so that no network is removed before its first sandbox is there.
    gate: RwLock<()>,
}

impl Networks {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, known: Mutex::default(), gate: RwLock::default() }
    }

    /// Keeps networks from being removed by us as long as the guard lives.
    pub(crate) async fn keep(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().await
    }

    /// Returns the id of the cluster's network, which is made when missing.
    pub(crate) async fn ensure(&self, cluster: &str) -> Result<String, RuntimeError> {
        let mut known = self.known.lock().await;
        if let Some(id) = known.get(cluster) {
            return Ok(id.clone());
        }
        let name = translate::network_name(cluster)?;
        let action = || format!("making network {name}");
        if let Some(id) = self.find(cluster).await.map_err(|error| error.into_runtime(action()))? {
            known.insert(cluster.to_owned(), id.clone());
            return Ok(id);
        }
        let request = translate::network_request(cluster, &name);
        let made = match self.engine.create_network(request).await {
            Ok(id) => Some(id),
            // Someone else was faster, or the name belongs to a stranger: finding it by its label tells.
            Err(error) if error.is_conflict() => None,
            Err(error) => return Err(error.into_runtime(action())),
        };
        let found = self.find(cluster).await.map_err(|error| error.into_runtime(action()))?;
        let Some(id) = found.or_else(|| made.clone()) else {
            return Err(RuntimeError::Invalid {
                message: format!("a network named {name} exists and is not of this cluster"),
            });
        };
        // Older engines let two have one name; all who look agree on the older one.
        if let Some(double) = made.filter(|made| *made != id) {
            tracing::debug!(network = double, "another process made the network too");
            self.remove(&double).await.map_err(|error| error.into_runtime(action()))?;
        }
        known.insert(cluster.to_owned(), id.clone());
        Ok(id)
    }

    /// Forgets a network that turned out to be gone.
    pub(crate) async fn forget(&self, cluster: &str) {
        self.known.lock().await.remove(cluster);
    }

    /// Removes the cluster's network if no container of the cluster is left.
    pub(crate) async fn release_unused(&self, cluster: &str) -> Result<(), EngineError> {
        // First without the gate: closing it makes everyone wait.
        if self.is_used(cluster).await? {
            return Ok(());
        }
        let _closed = self.gate.write().await;
        if self.is_used(cluster).await? {
            return Ok(());
        }
        self.remove_all(cluster).await
    }

    /// Removes all networks of the cluster.
    pub(crate) async fn remove_all(&self, cluster: &str) -> Result<(), EngineError> {
        self.forget(cluster).await;
        for network in self.engine.networks(cluster_label(cluster)).await? {
            if let Some(id) = network.id {
                self.remove(&id).await?;
            }
        }
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        match self.engine.remove_network(id).await {
            Ok(()) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            // In use: another process has just made a sandbox in it, and will remove it.
            Err(EngineError::Status { code: 403, message }) => {
                tracing::debug!(network = id, message, "network is in use");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn is_used(&self, cluster: &str) -> Result<bool, EngineError> {
        let labels = [cluster_label(cluster)];
        Ok(!self.engine.containers_at_most(&labels, Some(1)).await?.is_empty())
    }

    /// Returns the oldest network of the cluster.
    async fn find(&self, cluster: &str) -> Result<Option<String>, EngineError> {
        let networks = self.engine.networks(cluster_label(cluster)).await?;
        let oldest = networks.into_iter().filter_map(|it| Some((it.created?, it.id?))).min();
        Ok(oldest.map(|(_, id)| id))
    }
}
