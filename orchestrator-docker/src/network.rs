//! The cluster's bridge network: made at the first sandbox, removed with the last. Its addresses are the engine's choice, or the
//! node's slice of the cluster's range on a bridge that somebody else keeps ([`PodBridge`]).
//!
//! Nodes of one cluster may share an engine from different processes, so the engine is the judge: a network that went away under a
//! sandbox being started is made again by the caller, and the engine refuses to remove one in use.

use std::collections::BTreeMap;

use bollard::models::Network;
use orchestrator_core::model::Cidr;
use orchestrator_core::node::Bridge;
use orchestrator_core::runtime::RuntimeError;
use tokio::sync::{Mutex, RwLock, RwLockReadGuard, watch};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::translate::{self, LABEL_POD_CIDR, cluster_label};

/// The bridge that a node's pods are put on, and their addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodBridge {
    /// The bridge, which is there.
    pub bridge: Bridge,
    /// The addresses of pods.
    pub slice: Cidr,
}

/// Which network pods are put on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Choice {
    /// It is not known yet: sandboxes wait.
    Awaited,
    Given(PodBridge),
    /// One of the engine's own.
    #[default]
    Own,
}

/// Keeps track of clusters' networks.
#[derive(Debug)]
pub(crate) struct Networks {
    engine: Engine,
    pub(crate) choice: watch::Sender<Choice>,
    /// The id of each network by its name. Held while one is being made, so that only one is.
    known: Mutex<BTreeMap<String, String>>,
    /// Shared by those who are making a sandbox, so that no network is removed before its first sandbox is there.
    gate: RwLock<()>,
}

impl Networks {
    pub(crate) fn new(engine: Engine) -> Self {
        let (known, gate) = (Mutex::default(), RwLock::default());
        Self { engine, choice: watch::Sender::default(), known, gate }
    }

    /// Keeps networks from being removed by us as long as the guard lives.
    pub(crate) async fn keep(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().await
    }

    /// Returns the id of the cluster's network, on a bridge or of the engine's own, which is made when missing.
    pub(crate) async fn ensure(
        &self,
        cluster: &str,
        bridge: Option<&PodBridge>,
    ) -> Result<String, RuntimeError> {
        let slice = bridge.map(|bridge| bridge.slice);
        let name = translate::network_name(cluster, slice)?;
        let mut known = self.known.lock().await;
        if let Some(id) = known.get(&name) {
            return Ok(id.clone());
        }
        let action = || format!("making network {name}");
        let found = self.find(cluster, slice).await;
        if let Some(id) = found.map_err(|error| error.into_runtime(action()))? {
            known.insert(name, id.clone());
            return Ok(id);
        }
        let request = translate::network_request(cluster, &name, bridge);
        let made = match self.engine.create_network(request).await {
            Ok(id) => Some(id),
            // Someone else was faster, or the name belongs to a stranger: finding it by its label tells.
            Err(error) if error.is_conflict() => None,
            Err(error) => return Err(error.into_runtime(action())),
        };
        let found = self.find(cluster, slice).await;
        let found = found.map_err(|error| error.into_runtime(action()))?;
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
        known.insert(name, id.clone());
        Ok(id)
    }

    /// Waits until it is known which network is meant: which bridge, or one of the engine's own.
    pub(crate) async fn chosen(&self) -> Option<PodBridge> {
        let mut choice = self.choice.subscribe();
        // The sender is in `self`.
        let chosen = choice.wait_for(|choice| *choice != Choice::Awaited).await;
        match chosen.as_deref() {
            Ok(Choice::Given(bridge)) => Some(bridge.clone()),
            Ok(Choice::Awaited | Choice::Own) | Err(_) => None,
        }
    }

    /// Forgets networks one of which turned out to be gone.
    pub(crate) async fn forget(&self) {
        self.known.lock().await.clear();
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
        self.forget().await;
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

    /// Returns the oldest network of the cluster with these addresses.
    async fn find(
        &self,
        cluster: &str,
        slice: Option<Cidr>,
    ) -> Result<Option<String>, EngineError> {
        let networks = self.engine.networks(cluster_label(cluster)).await?;
        let is_it = |it: &Network| {
            let labels = it.labels.as_ref();
            let label = labels.and_then(|labels| labels.get(LABEL_POD_CIDR));
            label.cloned() == slice.map(|slice| slice.to_string())
        };
        let oldest =
            networks.into_iter().filter(is_it).filter_map(|it| Some((it.created?, it.id?))).min();
        Ok(oldest.map(|(_, id)| id))
    }
}
