//! `TiedNode`: the network of a node's pods on the engine of the tests, tied by us as an agent does it.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use orchestrator_core::model::Cidr;
use orchestrator_core::node::{KernelNetwork, NodeNetwork};
use orchestrator_core::runtime::Scope;
use orchestrator_docker::{DockerRuntime, PodBridge};
use orchestrator_net::{PodNetwork, PodWires};
use tempfile::TempDir;

use crate::engine::TestEngine;

/// The range from which nodes of tests have their slices: not the first that a server takes.
const RANGE: Cidr = Cidr::around(Ipv4Addr::new(10, 128, 0, 0), 10);
const SLICE_PREFIX: u8 = 24;

/// A node's network in the network namespace that the tests run in.
#[derive(Debug)]
pub struct TiedNode {
    /// The runtime whose pods are tied.
    pub runtime: DockerRuntime,
    scope: Scope,
    network: NodeNetwork,
    kernel: KernelNetwork,
    own: PodNetwork,
    dir: TempDir,
}

impl TiedNode {
    /// Makes a network that no other test has, and a runtime on it.
    ///
    /// # Panics
    /// When the kernel or the engine refuses.
    pub async fn new(engine: &TestEngine) -> Self {
        static NODES: AtomicU8 = AtomicU8::new(0);
        let number = NODES.fetch_add(1, Ordering::Relaxed);
        let scope = Scope { cluster: "tied".to_owned(), node: format!("n{number}") };
        let slice = RANGE.slice(SLICE_PREFIX, number.into()).expect("within the range");
        let network = NodeNetwork {
            address: Ipv4Addr::LOCALHOST,
            encrypted: false,
            peers: Vec::new(),
            range: RANGE,
            slice,
        };
        let own = PodNetwork::open(scope.clone()).expect("netlink");
        let kernel = own.apply(&network).await.expect("the kernel has it all");
        let dir = tempfile::tempdir().expect("a directory");
        let files = dir.path().join("files");
        let runtime = tied(engine, &scope, &kernel, files).await;
        Self { runtime, scope, network, kernel, own, dir }
    }

    /// Another runtime on the same network, as an agent that is started again has it.
    ///
    /// # Panics
    /// As [`Self::new`].
    pub async fn another(&self, engine: &TestEngine) -> DockerRuntime {
        tied(engine, &self.scope, &self.kernel, self.dir.path().join("files")).await
    }

    /// The addresses of its pods.
    pub fn slice(&self) -> Cidr {
        self.kernel.slice
    }

    /// With what the names of the node's ends of its pods' wires begin.
    pub fn wires(&self) -> String {
        self.kernel.wires()
    }

    /// Panics if something of pods is left in the kernel or the directory; then takes the network away.
    ///
    /// # Panics
    /// When something is left.
    pub async fn end(&self) {
        let told = |program: &str, words: &[&str]| {
            let told = Command::new(program).args(words).output().expect("it runs");
            String::from_utf8_lossy(&told.stdout).into_owned()
        };
        let (links, rules) = (told("ip", &["-o", "link"]), told("nft", &["list", "ruleset"]));
        assert!(!links.contains(&self.kernel.wires()), "{links}");
        for table in ["guard", "ports"] {
            let name = format!("orchestrator-{}-{table}", self.kernel.mark);
            assert!(!rules.contains(&name), "{rules}");
        }
        let files = std::fs::read_dir(self.dir.path().join("files")).into_iter().flatten();
        assert_eq!(files.count(), 0, "files of pods");
        self.own.remove(&self.network).await.expect("removed");
    }
}

async fn tied(
    engine: &TestEngine,
    scope: &Scope,
    kernel: &KernelNetwork,
    files: PathBuf,
) -> DockerRuntime {
    let runtime = engine.connect().await;
    let wires = PodWires::open(scope).await.expect("the kernel has it all");
    wires.tie_to(kernel).await;
    runtime.tie_with(Arc::new(wires), files).expect("the machine finds names");
    runtime.look_after(kernel.slice).await.expect("the engine answers");
    let (bridge, slice) = (kernel.bridge.clone(), kernel.slice);
    runtime.use_bridge(PodBridge { bridge, slice });
    runtime
}
