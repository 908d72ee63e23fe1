//! `ControlPlane`: store, cluster and API server wired together over one data directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use nix::ifaddrs::getifaddrs;
use orchestrator_core::driver::Cluster;
use orchestrator_core::runtime::Runtime;
use orchestrator_http::{Listen, Server, ServerConfig};
use tokio::task::JoinHandle;

use crate::host::host_name;
use crate::store::Store;

/// A running control plane.
pub struct ControlPlane {
    pub cluster: Cluster,
    pub kubeconfig: PathBuf,
    /// The API's URL.
    pub url: String,
    server: Server,
    store: Store,
    sealing: JoinHandle<()>,
}

/// How a control plane is reached.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Host names and addresses, beside the usual ones, by which clients reach it.
    pub names: Vec<String>,
    /// The URL by which other servers and agents reach it, where the state may have several servers.
    pub url_among: Option<String>,
}

/// A node in the control plane's own process.
pub struct OwnNode {
    pub name: &'static str,
    pub runtime: Arc<dyn Runtime>,
}

impl ControlPlane {
    /// Starts everything; when this returns the API is served. What fails leaves nothing running but the store.
    pub async fn start(
        data_dir: &Path,
        store: Store,
        endpoint: &Endpoint,
        node: Option<OwnNode>,
    ) -> anyhow::Result<Self> {
        let mut builder = Cluster::builder().shared_store(store.shared());
        if endpoint.url_among.is_some() {
            builder = builder.elect_as(&identity());
        }
        if let Some(OwnNode { name, runtime }) = node {
            builder = builder.shared_runtime(runtime).node_name(name);
        }
        let cluster = builder.start().await.context("cannot start the cluster")?;
        match serve(data_dir, endpoint, &cluster, &store).await {
            Ok((server, kubeconfig)) => {
                let url = server.url();
                let sealing = store.clone();
                let sealing = tokio::spawn(async move { sealing.seal_all().await });
                Ok(Self { cluster, kubeconfig, url, server, store, sealing })
            }
            Err(error) => {
                cluster.shutdown(false).await;
                Err(error)
            }
        }
    }

    /// Stops everything and waits for every task. Pods keep running unless `stop_pods`.
    pub async fn stop(self, stop_pods: bool) {
        self.sealing.abort();
        // It was ended, or it is over.
        let _ = self.sealing.await;
        self.server.shutdown().await;
        self.cluster.shutdown(stop_pods).await;
        self.store.close().await;
    }
}

/// A name in the election that nobody else has, and that says to people which machine it is.
fn identity() -> String {
    let host = host_name().unwrap_or_else(|_| "server".to_owned());
    format!("{host}_{}", uuid::Uuid::new_v4())
}

async fn serve(
    data_dir: &Path,
    endpoint: &Endpoint,
    cluster: &Cluster,
    store: &Store,
) -> anyhow::Result<(Server, PathBuf)> {
    let Endpoint { listen, names, url_among } = endpoint;
    let mut names = names.clone();
    if listen.ip().is_unspecified() {
        names.extend(own_addresses());
    }
    let config = ServerConfig {
        audit_log: Some(data_dir.join("audit.log")),
        extra_names: names,
        upkeep: Some(Arc::new(store.clone())),
        url_among: url_among.clone(),
        ..ServerConfig::new(Listen::Tcp(*listen), data_dir.join("pki"))
    };
    let server = Server::bind(config, cluster.clone())
        .await
        .with_context(|| format!("cannot serve the API on {listen}"))?;
    let kubeconfig = data_dir.join("kubeconfig");
    if let Err(error) = server.write_kubeconfig(&kubeconfig) {
        server.shutdown().await;
        return Err(error).with_context(|| format!("cannot write {}", kubeconfig.display()));
    }
    Ok((server, kubeconfig))
}

/// The addresses of this machine.
fn own_addresses() -> Vec<String> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| address.ip().to_string());
        v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().to_string()))
    });
    addresses.collect()
}
