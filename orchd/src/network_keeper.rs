//! The network between pods on a node: what the server says of it is kept in the kernel, whatever others do there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use orchestrator_core::model::{AgentId, Revision};
use orchestrator_core::node::{KernelNetwork, NetworkAt, NodeLink as _, NodeNetwork, Plumbing};
use orchestrator_core::runtime::Scope;
use orchestrator_docker::{DockerRuntime, PodBridge};
use orchestrator_http::{HttpLink, write_private};
use orchestrator_net::{
    NetError, NodeKey, PodNetwork, PodWires, Privilege, privilege, wire_privilege,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::out;
use crate::runtime::RunningRuntime;

/// How often it is looked whether the kernel still has what is wanted: what somebody removes is back within 10 s (F45).
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// How long to wait before the server is asked again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long new pods wait for the network that the cluster has: then they do without.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// The file with what the node knew last, for a start without the server.
pub const FILE: &str = "network.json";
/// The directory with what pods' containers must have of the network.
pub const FILES: &str = "pod-files";
/// The file with the private key by which the node is known to others over WireGuard.
pub const KEY_FILE: &str = "network.key";

/// Keeps a node's part of the network between pods.
pub struct NetworkKeeper {
    link: HttpLink,
    docker: Arc<DockerRuntime>,
    own: PodNetwork,
    /// What ties pods to it; `None` when the engine does that.
    wires: Option<Arc<PodWires>>,
    file: PathBuf,
    /// Whose network it is.
    agent: AgentId,
    public_key: String,
    /// What is wrong, so that it is told once.
    told: Option<String>,
    scope: Scope,
    /// The number of the bridge that the pods of this node are known to be on.
    bridge: Option<u32>,
    /// Until when new pods wait for the network.
    awaited_until: Option<Instant>,
    /// Whether what must not pass in clear is known not to.
    sealed: watch::Sender<bool>,
    /// Whether the kernel was seen to send what is for other nodes' pods to WireGuard, the last time.
    is_encrypted: bool,
}

/// What is in the file.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// The agent that kept it; earlier versions did not say.
    #[serde(default)]
    agent: Option<String>,
    #[serde(flatten)]
    network: NodeNetwork,
}

impl NetworkKeeper {
    /// Prepares to keep it; `None` where there is nothing to keep: pods that are processes have addresses of their machine,
    /// and without the right to change the network pods are reached from their own node alone.
    pub async fn new(
        (link, agent): (&HttpLink, AgentId),
        scope: Scope,
        runtime: &RunningRuntime,
        dir: &Path,
    ) -> anyhow::Result<Option<Self>> {
        let RunningRuntime::Docker(docker) = runtime else { return Ok(None) };
        if let Some(host) = elsewhere() {
            tracing::warn!(
                host,
                "the engine is on another machine; its pods are not reached from other nodes"
            );
            return Ok(None);
        }
        if let Privilege::Lacking(lacking) = privilege() {
            tracing::warn!(lacking, "pods of this node are not reached from other nodes");
            return Ok(None);
        }
        docker.await_bridge();
        let key = node_key(&dir.join(KEY_FILE))?;
        let public_key = key.public_text();
        let own = PodNetwork::open_with_key(scope.clone(), key);
        let own = own.context("cannot reach the kernel's network")?;
        let wires = wires(&scope, docker, dir).await;
        let (link, docker) = (link.clone(), Arc::clone(docker));
        let (file, awaited_until) = (dir.join(FILE), Some(Instant::now() + WAIT_MAX));
        Ok(Some(Self {
            link,
            docker,
            own,
            wires,
            file,
            agent,
            public_key,
            told: None,
            scope,
            bridge: None,
            awaited_until,
            sealed: watch::Sender::new(false),
            is_encrypted: false,
        }))
    }

    /// The key by which other nodes know this one over WireGuard.
    pub fn public_key(&self) -> String {
        self.public_key.clone()
    }

    /// Is told once the node may say that it is ready: when the cluster encrypts nothing or, where it does, when the kernel was seen to send what
    /// is for other nodes' pods to WireGuard.
    pub fn sealed(&self) -> watch::Receiver<bool> {
        self.sealed.subscribe()
    }

    /// Does so until dropped.
    pub async fn run(mut self) {
        let mut network = own(read(&self.file), &self.agent);
        let mut is_told = false;
        let mut asking = Box::pin(ask(self.link.clone(), None));
        if let Some(known) = &network {
            self.apply(known).await;
        }
        loop {
            let news = tokio::select! {
                news = &mut asking => news,
                () = tokio::time::sleep(LOOK_EVERY) => {
                    if let Some(network) = &network {
                        self.apply(network).await;
                    }
                    self.await_no_longer();
                    if is_told {
                        self.seal(network.as_ref());
                    }
                    continue;
                }
            };
            asking = Box::pin(ask(self.link.clone(), Some(news.revision)));
            if news.network != network {
                if let Some(old) = network.filter(|old| is_other(old, news.network.as_ref())) {
                    let outcome = self.own.remove(&old).await;
                    self.tell(outcome.err().map(anyhow::Error::from));
                }
                network = news.network;
                if let Err(error) = keep(&self.file, &self.agent, network.as_ref()) {
                    let error = out::chain(&error);
                    tracing::warn!(error, "the network is not known to a start without the server");
                }
                if let Some(network) = &network {
                    self.apply(network).await;
                }
            }
            if network.is_none() && !news.is_expected {
                self.do_without();
            }
            self.seal(network.as_ref());
            is_told = true;
        }
    }

    /// Has pods do without a network that did not come.
    fn await_no_longer(&mut self) {
        if self.awaited_until.is_some_and(|until| until <= Instant::now()) {
            tracing::warn!(
                "there is no network between pods yet; what starts now is reached from this node alone"
            );
            self.do_without();
        }
    }

    fn do_without(&mut self) {
        self.awaited_until = None;
        self.docker.use_own_networks();
    }

    /// Says so when what must not pass in clear is known not to. Without a network pods of this node reach none of others.
    fn seal(&self, network: Option<&NodeNetwork>) {
        let is_sealed = match network {
            Some(network) => !network.encrypted || self.is_encrypted,
            None => self.awaited_until.is_none(),
        };
        if is_sealed {
            self.sealed.send_replace(true);
        }
    }

    async fn apply(&mut self, network: &NodeNetwork) {
        self.is_encrypted = false;
        let outcome = match self.own.apply(network).await {
            Ok(kernel) => {
                let pods = self.tie_pods(&kernel).await;
                let (bridge, slice) = (kernel.bridge.clone(), kernel.slice);
                self.docker.use_bridge(PodBridge { bridge, slice });
                self.awaited_until = None;
                let checked = self.own.check_encrypted(&kernel).await;
                self.is_encrypted = network.encrypted && checked.is_ok();
                let put = self.put_pods_on_bridge(&kernel).await;
                checked.and(put).map_err(anyhow::Error::from).and(pods)
            }
            Err(error) => {
                // Pods run, and are reached from their own node.
                if matches!(error, NetError::Foreign { .. } | NetError::Overlap { .. }) {
                    self.do_without();
                }
                Err(error.into())
            }
        };
        self.tell(outcome.err());
    }

    /// Ties pods to the network again that others have cut off, and takes away what is left of those that are gone. Before
    /// new ones are tied, so that it is known what those have that are there.
    async fn tie_pods(&self, kernel: &KernelNetwork) -> anyhow::Result<()> {
        let Some(wires) = &self.wires else { return Ok(()) };
        wires.tie_to(kernel).await;
        Ok(self.docker.look_after(kernel.slice).await?)
    }

    /// Puts pods on the bridge again that the engine had put on one that somebody has removed.
    async fn put_pods_on_bridge(&mut self, kernel: &KernelNetwork) -> Result<(), NetError> {
        let bridge = self.own.bridge(kernel).await?;
        let Some(number) = bridge.filter(|_| bridge != self.bridge) else { return Ok(()) };
        match self.docker.sandbox_devices(&self.scope).await {
            Ok(devices) => {
                self.own.attach(number, &devices).await?;
                self.bridge = bridge;
            }
            // The engine is asked again the next time.
            Err(error) => tracing::debug!(%error, "it is not known which pods are on the bridge"),
        }
        Ok(())
    }

    /// Says once what is wrong, and that it is over.
    fn tell(&mut self, error: Option<anyhow::Error>) {
        let wrong = error.map(|error| out::chain(&error));
        match &wrong {
            Some(error) if self.told != wrong => {
                tracing::warn!(error, "the network between pods is not as it should be");
            }
            None if self.told.is_some() => {
                tracing::info!("the network between pods is as it should be");
            }
            Some(_) | None => {}
        }
        self.told = wrong;
    }
}

/// Has pods tied to the network by us, where we may and the kernel can; else the engine does it.
async fn wires(scope: &Scope, docker: &DockerRuntime, dir: &Path) -> Option<Arc<PodWires>> {
    let made = async {
        if let Privilege::Lacking(lacking) = wire_privilege() {
            anyhow::bail!(lacking);
        }
        let wires = Arc::new(PodWires::open(scope).await?);
        docker.tie_with(Arc::clone(&wires) as Arc<dyn Plumbing>, dir.join(FILES))?;
        Ok(wires)
    };
    match made.await {
        Ok(wires) => Some(wires),
        Err(error) => {
            let error = out::chain(&error);
            tracing::warn!(error, "pods are put on the network by the engine, which takes longer");
            None
        }
    }
}

/// Removes what was kept on a node whose pods have all ended.
pub async fn remove_network(scope: Scope, dir: &Path) -> anyhow::Result<()> {
    let file = dir.join(FILE);
    let Some(Kept { network, .. }) = read(&file) else { return Ok(()) };
    let own = PodNetwork::open(scope).context("cannot reach the kernel's network")?;
    own.remove(&network).await.context("cannot remove the network between pods")
}

/// Reads the node's key, or makes one.
fn node_key(file: &Path) -> anyhow::Result<NodeKey> {
    match std::fs::read_to_string(file) {
        Ok(text) => NodeKey::from_secret_text(&text).with_context(|| {
            format!("{} cannot be used; without it a new key is made", file.display())
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = NodeKey::generate()?;
            let written = write_private(file, key.to_secret_text().as_bytes());
            written.with_context(|| format!("cannot write {}", file.display()))?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// The engine's machine, when it is not this one.
fn elsewhere() -> Option<String> {
    let host = std::env::var("DOCKER_HOST").ok()?;
    (!host.is_empty() && !host.starts_with("unix:")).then_some(host)
}

/// Whether what was made for one is not overwritten by the other.
fn is_other(old: &NodeNetwork, new: Option<&NodeNetwork>) -> bool {
    new.is_none_or(|new| (new.range, new.slice) != (old.range, old.slice))
}

/// Waits for news, also while the server is away.
async fn ask(link: HttpLink, after: Option<Revision>) -> NetworkAt {
    loop {
        match link.network(after).await {
            Ok(news) => return news,
            Err(error) => tracing::debug!(%error, "the network between pods is not told"),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

fn read(file: &Path) -> Option<Kept> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// What was kept, unless it is of a copy: the addresses of another machine's pods would lead to this one.
fn own(kept: Option<Kept>, agent: &AgentId) -> Option<NodeNetwork> {
    let Kept { agent: keeper, network } = kept?;
    let keeper: Option<AgentId> = keeper.and_then(|keeper| keeper.parse().ok());
    keeper.is_none_or(|keeper| keeper.is_same_installation(agent)).then_some(network)
}

fn keep(file: &Path, agent: &AgentId, network: Option<&NodeNetwork>) -> anyhow::Result<()> {
    let agent = Some(agent.to_string());
    let kept = network.map(|network| Kept { agent, network: network.clone() });
    let bytes = serde_json::to_vec(&kept)?;
    write_private(file, &bytes).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_installation_kept_is_not_used() {
        let [agent, booted, copy] = [("0a", "01"), ("0a", "02"), ("0b", "01")]
            .map(|(installation, boot)| AgentId::new(installation, boot).expect("hexadecimal"));
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join(FILE);
        let network = NodeNetwork {
            address: "10.0.0.1".parse().expect("an address"),
            encrypted: false,
            peers: Vec::new(),
            range: "10.64.0.0/10".parse().expect("a range"),
            slice: "10.64.1.0/24".parse().expect("a range"),
        };
        keep(&file, &agent, Some(&network)).expect("written");
        for (who, expected) in [(&agent, Some(&network)), (&booted, Some(&network)), (&copy, None)]
        {
            assert_eq!(own(read(&file), who).as_ref(), expected, "{who}");
        }
        // As earlier versions wrote it.
        std::fs::write(&file, serde_json::to_vec(&network).expect("JSON")).expect("written");
        assert_eq!(own(read(&file), &agent), Some(network));
        keep(&file, &agent, None).expect("written");
        assert_eq!(own(read(&file), &agent), None);
    }
}
