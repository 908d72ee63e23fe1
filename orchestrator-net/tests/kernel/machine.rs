//! `Machine`: a network namespace with a thread in it.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use orchestrator_core::node::{NetworkPeer, NodeNetwork, Plumbing as _, PlumbingError, PodWire};
use orchestrator_core::runtime::Scope;
use orchestrator_net::{PodNetwork, PodWires};

type Work = Box<dyn FnOnce() + Send>;

/// A machine of its own as far as the network goes. It is gone with its thread and what runs in it.
pub struct Machine {
    work: Option<mpsc::Sender<Work>>,
    thread: Option<thread::JoinHandle<()>>,
    /// The thread's id, by which other programs find the namespace.
    pub tid: i32,
}

impl Machine {
    pub fn new() -> Self {
        let (work, todo) = mpsc::channel::<Work>();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root makes network namespaces");
            tell.send(nix::unistd::gettid().as_raw()).expect("waited for");
            for work in todo {
                work();
            }
        });
        let tid = told.recv().expect("a namespace");
        let machine = Self { work: Some(work), thread: Some(thread), tid };
        machine.ip("link set lo up");
        machine
    }

    /// Does something in the namespace and waits for what comes of it.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let work: Work = Box::new(move || drop(tell.send(work())));
        self.work.as_ref().expect("alive").send(work).expect("alive");
        told.recv().expect("it did not panic")
    }

    /// Runs a program in the namespace; what it prints.
    pub fn sh(&self, line: &str) -> Result<String, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        self.run(move || {
            let output = Command::new(&words[0]).args(&words[1..]).output();
            let output = output.unwrap_or_else(|error| panic!("{}: {error}", words[0]));
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            match output.status.success() {
                true => Ok(text),
                false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            }
        })
    }

    /// Runs `ip`, which must succeed.
    pub fn ip(&self, line: &str) -> String {
        self.sh(&format!("ip {line}")).unwrap_or_else(|error| panic!("ip {line}: {error}"))
    }

    /// Joins two machines by a link, each with an address.
    pub fn join(&self, name: &str, address: &str, other: &Self, other_address: &str) {
        let peer = other.tid;
        self.ip(&format!("link add {name} type veth peer name {name} netns {peer}"));
        for (machine, address) in [(self, address), (other, other_address)] {
            machine.ip(&format!("address add {address} dev {name}"));
            machine.ip(&format!("link set {name} up"));
        }
    }

    /// Applies a network as an agent does.
    pub fn apply(&self, name: &str, network: &NodeNetwork) -> Result<(), String> {
        let network = network.clone();
        self.with(name, move |own| async move { own.apply(&network).await.map(drop) })
    }

    pub fn remove(&self, name: &str, network: &NodeNetwork) -> Result<(), String> {
        let network = network.clone();
        self.with(name, move |own| async move { own.remove(&network).await })
    }

    fn with<F>(
        &self,
        name: &str,
        work: impl FnOnce(PodNetwork) -> F + Send + 'static,
    ) -> Result<(), String>
    where
        F: Future<Output = Result<(), orchestrator_net::NetError>>,
    {
        let scope = Scope { cluster: "ctest".to_owned(), node: name.to_owned() };
        self.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let own = PodNetwork::open(scope).expect("netlink");
                work(own).await.map_err(|error| format!("{error}: {error:?}"))
            })
        })
    }

    /// Applies a network and ties pods to it, by the threads in their namespaces, as an agent that finds them at its start.
    pub fn wire(
        &self,
        name: &str,
        network: &NodeNetwork,
        pods: &[(PodWire, i32)],
    ) -> Result<(), PlumbingError> {
        let pods = pods.to_vec();
        self.wires(name, network, move |wires| async move {
            wires.look(&pods.iter().map(|(pod, _)| pod.clone()).collect::<Vec<_>>()).await?;
            for (pod, tid) in &pods {
                wires.wire(pod, tid.unsigned_abs()).await?;
            }
            Ok(())
        })
    }

    /// As [`Self::wire`] with pods that are tied, and one that is new.
    pub fn wire_new(
        &self,
        name: &str,
        network: &NodeNetwork,
        tied: &PodWire,
        (pod, tid): (PodWire, i32),
    ) -> Result<(), PlumbingError> {
        let tied = tied.clone();
        self.wires(name, network, move |wires| async move {
            wires.look(&[tied]).await?;
            wires.wire(&pod, tid.unsigned_abs()).await
        })
    }

    pub fn unwire(
        &self,
        name: &str,
        network: &NodeNetwork,
        pod: &PodWire,
    ) -> Result<(), PlumbingError> {
        let pod = pod.clone();
        self.wires(name, network, move |wires| async move { wires.unwire(&pod).await })
    }

    fn wires<F>(
        &self,
        name: &str,
        network: &NodeNetwork,
        work: impl FnOnce(PodWires) -> F + Send + 'static,
    ) -> Result<(), PlumbingError>
    where
        F: Future<Output = Result<(), PlumbingError>>,
    {
        let scope = Scope { cluster: "ctest".to_owned(), node: name.to_owned() };
        let network = network.clone();
        self.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let own = PodNetwork::open(scope.clone()).expect("netlink");
                let kernel = own.apply(&network).await.expect("applied");
                let wires = PodWires::open(&scope).await.expect("a kernel that has it all");
                wires.tie_to(&kernel).await;
                work(wires).await
            })
        })
    }

    /// Puts a pod on the node's bridge: a namespace with an address of the slice.
    pub fn pod(&self, network: &NodeNetwork, host: u32) -> (Self, Ipv4Addr) {
        let pod = Self::new();
        let links = self.ip("-o link show type bridge");
        let bridge = links.split(": ").nth(1).expect("a bridge").to_owned();
        let address = network.slice.at(host).expect("an address");
        let (name, peer) = (format!("pod{host}"), pod.tid);
        self.ip(&format!("link add {name} type veth peer name eth0 netns {peer}"));
        self.ip(&format!("link set {name} master {bridge} up"));
        pod.ip(&format!("address add {address}/24 dev eth0"));
        pod.ip("link set eth0 up mtu 1450");
        let gateway = network.slice.at(1).expect("an address");
        pod.ip(&format!("route add default via {gateway}"));
        (pod, address)
    }

    /// Whether an address answers.
    pub fn reaches(&self, address: Ipv4Addr) -> bool {
        self.sh(&format!("busybox ping -c 1 -W 3 {address}")).is_ok()
    }

    /// All that the machine's network is made of, but for numbers of devices, counters, random hardware addresses, and what the
    /// kernel finds out by and by.
    pub fn state(&self) -> Vec<String> {
        let rules = self.sh("nft -s list ruleset").expect("nft");
        let links = self.ip("-o link");
        let links = links.lines().map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let is_up = words[2].split(['<', ',', '>']).any(|flag| flag == "UP");
            let bridge = words.iter().skip_while(|word| **word != "master").nth(1).unwrap_or(&"-");
            let name = words[1].split('@').next().expect("a name");
            format!("{name} up={is_up} {} on={bridge}", words[3..5].join(" "))
        });
        let addresses = self.ip("-4 -o address");
        let addresses = addresses.lines().map(|line| line.split_once(' ').expect("a number").1);
        let mut lines: Vec<String> = addresses.map(str::to_owned).chain(links).collect();
        for what in ["route", "neigh show nud permanent"] {
            lines.extend(self.ip(what).lines().map(|line| line.replace("linkdown ", "")));
        }
        lines.sort();
        lines.extend(rules.lines().map(|line| line.trim().to_owned()));
        lines
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.work.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub fn network(own: (&str, &str), peers: &[(&str, &str, &str)]) -> NodeNetwork {
    let peers = peers.iter().map(|(node, address, slice)| NetworkPeer {
        address: address.parse().expect("an address"),
        key: None,
        node: (*node).to_owned(),
        slice: slice.parse().expect("a range"),
    });
    NodeNetwork {
        address: own.0.parse().expect("an address"),
        encrypted: false,
        peers: peers.collect(),
        range: "10.64.0.0/10".parse().expect("a range"),
        slice: own.1.parse().expect("a range"),
    }
}
