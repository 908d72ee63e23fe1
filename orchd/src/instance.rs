//! `Instance`: a control plane and one node in the same process, over one data directory.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use orchestrator_core::driver::Cluster;

use crate::cluster_keys::{NewKeysArgs, refuse_absent};
use crate::control_plane::{ControlPlane, Endpoint, OwnNode};
use crate::data_dir::DataDir;
use crate::runtime::{RunningRuntime, RuntimeChoice, choose};
use crate::store::{Backend, EtcdArgs, Store};

/// The name of the one node.
pub const NODE_NAME: &str = "local";
/// How long the node may take to become Ready.
const NODE_READY_WITHIN: Duration = Duration::from_secs(30);

/// What an instance is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// How the API is reached.
    pub endpoint: Endpoint,
    /// What runs pods; Docker when an engine answers, else processes, if not given.
    pub runtime: Option<RuntimeChoice>,
    /// Whether keys that are lost may be made anew.
    pub new_keys: NewKeysArgs,
}

/// A running orchd.
pub struct Instance {
    pub cluster: Cluster,
    pub runtime: RunningRuntime,
    pub kubeconfig: PathBuf,
    /// The API's URL.
    pub url: String,
    control_plane: ControlPlane,
}

impl Instance {
    /// Starts everything; when this returns the API is served. What fails leaves nothing running.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let dir = DataDir::open(&options.data_dir)?;
        let pods = options.data_dir.join("process");
        // Before the database is touched: what is refused stays as it was.
        let chosen = choose(dir.runtime(options.runtime)?, &pods).await?;
        let url = dir.store(None)?;
        let etcd = EtcdArgs::default();
        refuse_absent(&dir, &url, &etcd).await?;
        let backend = Backend::open(&url, &etcd).await?;
        let keys = match options.new_keys.keys(&dir, (&url, &backend), None).await {
            Ok(keys) => keys,
            Err(error) => {
                backend.close().await;
                return Err(error);
            }
        };
        let store = Store::new(backend, keys);
        let started = async {
            let runtime = chosen.open(&pods)?;
            dir.remember(runtime.name())?;
            let node = OwnNode { name: NODE_NAME, runtime: runtime.shared() };
            let (store, dir) = (store.clone(), &options.data_dir);
            let control_plane =
                ControlPlane::start(dir, store, &options.endpoint, Some(node)).await?;
            anyhow::Ok((runtime, control_plane))
        };
        match started.await {
            Ok((runtime, control_plane)) => Ok(Self {
                cluster: control_plane.cluster.clone(),
                runtime,
                kubeconfig: control_plane.kubeconfig.clone(),
                url: control_plane.url.clone(),
                control_plane,
            }),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    /// Waits until the node is Ready.
    pub async fn node_ready(&self) -> anyhow::Result<()> {
        let ready = self.cluster.node_ready();
        match tokio::time::timeout(NODE_READY_WITHIN, ready).await {
            Ok(outcome) => outcome.context("the cluster stopped"),
            Err(_) => bail!(
                "node {NODE_NAME:?} did not become Ready within {NODE_READY_WITHIN:?}; `orchd describe node {NODE_NAME}` may tell why"
            ),
        }
    }

    /// Stops everything and waits for every task. Pods keep running unless `stop_pods`.
    pub async fn stop(self, stop_pods: bool) {
        self.control_plane.stop(stop_pods).await;
    }
}
