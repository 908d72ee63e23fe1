//! `Node`: a machine with the network of an agent that goes on, and a pod.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use orchestrator_core::node::{NetworkPeer, NodeNetwork};
use orchestrator_core::runtime::Scope;
use orchestrator_net::{NodeKey, PodNetwork};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Runtime;

use crate::machine::{Machine, network};

/// What the pods of the tests say to each other, and nobody else is to read.
pub const CANARY: &str = "canary-5e1f0a77 is what pods say";
/// Where the node's pod is on its slice.
const POD: u32 = 2;
const PORT: u16 = 8080;
/// How long one try of pods to reach each other takes, and how many there are before it is said that they do not.
const TRY: Duration = Duration::from_millis(200);
const TRIES_MAX: u32 = 50;
/// As many as it takes to see that nothing gets through.
const TRIES_WITHOUT_HOPE: u32 = 4;
/// How often a pod has said something.
static SAID: AtomicU64 = AtomicU64::new(0);
/// Every protocol, in the order of bytes that the kernel wants (`ETH_P_ALL`).
const ALL: u16 = 0x0003_u16.to_be();

/// A node with one pod.
pub struct Node {
    pub machine: Machine,
    pub network: NodeNetwork,
    pub key: NodeKey,
    name: &'static str,
    /// Its agent: the network it keeps, and what runs in it.
    agent: Option<(Arc<PodNetwork>, Arc<Runtime>)>,
    pod: Option<(Machine, UdpSocket, Ipv4Addr)>,
}

impl Node {
    fn new(name: &'static str, own: (&str, &str)) -> Self {
        let key = NodeKey::generate().expect("randomness");
        let network = NodeNetwork { encrypted: true, ..network(own, &[]) };
        Self { machine: Machine::new(), network, key, name, agent: None, pod: None }
    }

    /// Two nodes that know each other, on one link, and what the link is made of. Nothing is applied yet.
    pub fn two() -> (Self, Self, Machine) {
        let (mut a, mut b) = (
            Self::new("a", ("192.0.2.1", "10.64.0.0/24")),
            Self::new("b", ("192.0.2.2", "10.64.1.0/24")),
        );
        let wire = Machine::new();
        wire.ip("link add br0 type bridge");
        wire.ip("link set br0 up");
        for (node, port) in [(&a, "to-a"), (&b, "to-b")] {
            let peer = node.machine.tid;
            wire.ip(&format!("link add {port} type veth peer name eth0 netns {peer}"));
            wire.ip(&format!("link set {port} master br0 up"));
            node.machine.ip(&format!("address add {}/24 dev eth0", node.network.address));
            node.machine.ip("link set eth0 up");
        }
        a.know(&b);
        b.know(&a);
        (a, b, wire)
    }

    /// Knows another node as it is now.
    pub fn know(&mut self, other: &Self) {
        self.network.peers = vec![NetworkPeer {
            address: other.network.address,
            key: Some(other.key.public_text()),
            node: other.name.to_owned(),
            slice: other.network.slice,
        }];
    }

    /// Applies and checks its network, as its agent does every few seconds; starts that first.
    pub fn apply(&mut self) -> Result<(), String> {
        let (own, runtime) = self.agent.get_or_insert_with(|| {
            let scope = Scope { cluster: "ctest".to_owned(), node: self.name.to_owned() };
            let key = self.key.clone();
            self.machine.run(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build();
                let runtime = runtime.expect("a runtime");
                let own = runtime.block_on(async { PodNetwork::open_with_key(scope, key) });
                (Arc::new(own.expect("netlink")), Arc::new(runtime))
            })
        });
        let (own, runtime, network) = (Arc::clone(own), Arc::clone(runtime), self.network.clone());
        self.machine.run(move || {
            let applied = runtime.block_on(async {
                let kernel = own.apply(&network).await?;
                own.check_encrypted(&kernel).await
            });
            applied.map_err(|error| format!("{error}: {error:?}"))
        })
    }

    /// Applies its network, which must succeed, and gives it its pod.
    pub fn begin(&mut self) {
        self.apply().expect("applied");
        let (pod, address) = self.machine.pod(&self.network, POD);
        let socket = pod.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)));
        let socket = socket.expect("a socket");
        socket.set_read_timeout(Some(TRY)).expect("a timeout");
        self.pod = Some((pod, socket, address));
    }

    /// Ends its agent, as a kill does.
    pub fn end_agent(&mut self) {
        if let Some((own, runtime)) = self.agent.take() {
            drop(own);
            if let Some(runtime) = Arc::into_inner(runtime) {
                runtime.shutdown_timeout(TRY * TRIES_MAX);
            }
        }
    }

    /// Removes what was made for it, by an agent that knows nothing of earlier ones.
    pub fn remove(&mut self) {
        self.end_agent();
        self.machine.remove(self.name, &self.network).expect("removed");
    }

    /// The kinds of its devices of WireGuard, as `ip` calls them.
    pub fn wireguards(&self) -> Vec<&'static str> {
        let has =
            |kind: &&str| self.machine.ip(&format!("-o link show type {kind}")).contains("orcw");
        ["wireguard", "tun"].into_iter().filter(has).collect()
    }

    /// The name of its device of WireGuard.
    pub fn wireguard(&self) -> String {
        let links = self.machine.ip("-o link");
        let mut names = links.split(|it: char| !it.is_alphanumeric());
        names.find(|name| name.starts_with("orcw")).expect("one").to_owned()
    }

    /// Whether its pod and another node's exchange what they have to say, both ways, before long.
    pub fn talks_with(&self, other: &Self) -> bool {
        (0..TRIES_MAX).any(|_| self.exchanges_with(other))
    }

    /// Whether its pod and another node's cannot say a word to each other.
    pub fn is_cut_off_from(&self, other: &Self) -> bool {
        self.is_not_heard_by(other) && other.is_not_heard_by(self)
    }

    /// Whether another node's pod hears nothing of what its pod says.
    pub fn is_not_heard_by(&self, other: &Self) -> bool {
        !(0..TRIES_WITHOUT_HOPE).any(|_| self.says_to(other))
    }

    fn exchanges_with(&self, other: &Self) -> bool {
        self.says_to(other) && other.says_to(self)
    }

    fn says_to(&self, other: &Self) -> bool {
        let [(_, from, _), (_, to, address)] =
            [self, other].map(|it| it.pod.as_ref().expect("it has begun"));
        // One that comes late is not taken for the next.
        let word = format!("{CANARY}{:08}", SAID.fetch_add(1, Ordering::Relaxed));
        // What is refused at once is not heard either.
        let _ = from.send_to(word.as_bytes(), (*address, PORT));
        let mut heard = vec![0; word.len()];
        while to.recv(&mut heard).is_ok() {
            if heard == word.as_bytes() {
                return true;
            }
        }
        false
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end_agent();
    }
}

/// What somebody sees who reads along on a machine from now on.
pub struct Capture(Socket);

impl Capture {
    pub fn of(wire: &Machine) -> Self {
        let socket = wire
            .run(|| Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(ALL)))));
        let socket = socket.expect("root may read along");
        socket.set_recv_buffer_size(8 << 20).expect("a buffer");
        socket.set_nonblocking(true).expect("it is not waited for");
        Self(socket)
    }

    /// How many packets there were, and how many of them had what pods say in them.
    pub fn seen(mut self) -> (usize, usize) {
        use std::io::Read as _;
        let (mut all, mut clear) = (0, 0);
        let mut packet = vec![0; 65_535];
        while let Ok(length) = self.0.read(&mut packet) {
            let canary = CANARY.as_bytes();
            all += 1;
            clear += usize::from(packet[..length].windows(canary.len()).any(|part| part == canary));
        }
        (all, clear)
    }
}
