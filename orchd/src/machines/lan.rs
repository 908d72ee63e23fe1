//! `Lan`: the network that machines are on: a bridge in a namespace of its own.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context as _, ensure};
use nix::sched::CloneFlags;

use super::machine::Machine;
use super::namespaces::{Namespace, enter, ip, of, within, within_new};
use super::run_dir::RunDir;

/// The first three numbers of every address; documentation's, so nobody's.
const NETWORK: [u8; 3] = [198, 51, 100];
/// The last number of the bridge's own address, which is everybody's way out.
const BRIDGE_HOST: u8 = 254;
/// How many machines a network takes.
const MACHINES_MAX: u8 = 200;
/// The bridge.
const BRIDGE: &str = "lan";

/// A network of machines. Cheap to clone; when the last clone and machine are gone nothing is left of it.
#[derive(Clone, Debug)]
pub struct Lan {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    namespace: Vec<Namespace>,
    machines: AtomicU8,
    run: RunDir,
}

impl Lan {
    /// The network's own address.
    pub const GATEWAY: Ipv4Addr = address(BRIDGE_HOST);

    /// Makes a network without machines, and removes what others left whose owner has died.
    ///
    /// # Errors
    /// When this process is not allowed to, or `ip` is missing.
    pub fn create() -> anyhow::Result<Self> {
        let run = RunDir::create()?;
        let namespace = within_new(CloneFlags::CLONE_NEWNET, || {
            ip("link set lo up")?;
            ip(&format!("link add {BRIDGE} type bridge"))?;
            ip(&format!("address add {}/24 dev {BRIDGE}", Self::GATEWAY))?;
            ip(&format!("link set {BRIDGE} up"))?;
            let thread = nix::unistd::gettid().as_raw().unsigned_abs();
            of(thread, &[("net", CloneFlags::CLONE_NEWNET)])
        })?;
        Ok(Self { inner: Arc::new(Inner { namespace, machines: AtomicU8::new(0), run }) })
    }

    /// Boots a machine. `program` is this crate's `orchd`, and becomes its first process.
    ///
    /// # Errors
    /// When the kernel refuses, or there are too many.
    pub fn boot(&self, program: &Path, name: &str) -> anyhow::Result<Machine> {
        let number = self.inner.machines.fetch_add(1, Ordering::Relaxed);
        ensure!(number < MACHINES_MAX, "a network has at most {MACHINES_MAX} machines");
        Machine::boot(self, program, name, number + 1)
    }

    /// Puts the calling thread on this network for good: what it connects to and spawns from then on is there.
    ///
    /// # Errors
    /// When this process is not allowed to.
    pub fn enter(&self) -> anyhow::Result<()> {
        enter(&self.inner.namespace)
    }

    /// Listens on this network for whoever holds the socket, wherever that is; the address is the way out of every machine.
    ///
    /// # Errors
    /// When this process is not allowed to, or the port is taken.
    pub fn listen(&self, port: u16) -> anyhow::Result<TcpListener> {
        within(&self.inner.namespace, || {
            let listener = TcpListener::bind((Self::GATEWAY, port));
            listener.with_context(|| format!("cannot listen on {}:{port}", Self::GATEWAY))
        })
    }

    /// The directory of everything that is on this network.
    pub fn dir(&self) -> &Path {
        self.inner.run.path()
    }

    pub(crate) fn control_group(&self) -> String {
        self.inner.run.control_group()
    }

    /// Gives a machine, by its first process, an interface `eth0` on this network.
    pub(crate) fn attach(&self, number: u8, pid: u32) -> anyhow::Result<()> {
        let port = format!("port{number}");
        within(&self.inner.namespace, || {
            // Of its last life, which the kernel takes away in its own time.
            let _ = ip(&format!("link del {port}"));
            ip(&format!("link add {port} type veth peer name eth0 netns {pid}"))?;
            ip(&format!("link set {port} master {BRIDGE} up"))
        })?;
        within(&of(pid, &[("net", CloneFlags::CLONE_NEWNET)])?, || {
            ip("link set lo up")?;
            ip(&format!("address add {}/24 dev eth0", address(number)))?;
            ip("link set eth0 up")?;
            ip(&format!("route add default via {}", Self::GATEWAY))
        })
    }
}

/// An address on the network.
pub(crate) const fn address(host: u8) -> Ipv4Addr {
    let [a, b, c] = NETWORK;
    Ipv4Addr::new(a, b, c, host)
}
