//! `UserSpace`: WireGuard in this process: the device, the socket, and the task between them.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use orchestrator_core::model::Cidr;
use orchestrator_core::node::{WIREGUARD_MTU, WIREGUARD_PORT, WireGuard as Wanted, WireGuardEnd};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tun::Tun;

use super::key::NodeKey;
use super::peer::{Output, PACKET_BYTES_MAX, Peer, destination};

/// How often it is looked what is due; WireGuard's own implementation takes as long.
const TICK: Duration = Duration::from_millis(250);

type Ends = BTreeMap<Cidr, WireGuardEnd>;

/// WireGuard to all other nodes. Its device is gone when it is dropped.
#[derive(Debug)]
pub(super) struct UserSpace {
    name: String,
    ends: watch::Sender<Ends>,
    task: JoinHandle<()>,
}

impl UserSpace {
    /// Makes the device and listens for other nodes.
    pub(super) async fn open(wanted: &Wanted, key: NodeKey) -> io::Result<Self> {
        let socket = UdpSocket::bind((wanted.local, WIREGUARD_PORT)).await.map_err(|error| {
            let place = format!("UDP {}:{WIREGUARD_PORT}", wanted.local);
            io::Error::new(error.kind(), format!("cannot listen on {place}: {error}"))
        })?;
        let mtu = i32::try_from(WIREGUARD_MTU).unwrap_or(i32::MAX);
        let devices = Tun::builder().name(&wanted.name).mtu(mtu).up().close_on_exec().build();
        let device = devices.map_err(io::Error::other)?.pop();
        let device = device.ok_or_else(|| io::Error::other("the kernel gave no device"))?;
        let (ends, told) = watch::channel(Ends::new());
        let worker = Worker { key, socket, device, peers: Vec::new(), made: 0 };
        let task = tokio::spawn(worker.run(told));
        Ok(Self { name: wanted.name.clone(), ends, task })
    }

    /// Whether it still works and its device is called so.
    pub(super) fn is(&self, wanted: &Wanted) -> bool {
        !self.task.is_finished() && self.name == wanted.name
    }

    /// Says who the other ends are from now on.
    pub(super) fn set_ends(&self, ends: &Ends) {
        self.ends.send_if_modified(|known| {
            let is_news = known != ends;
            known.clone_from(ends);
            is_news
        });
    }

    /// Ends it, and waits until its device is gone.
    pub(super) async fn close(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for UserSpace {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Worker {
    key: NodeKey,
    socket: UdpSocket,
    device: Tun,
    peers: Vec<Peer>,
    /// How many peers there have been, so that no two have one index.
    made: u32,
}

impl Worker {
    /// Carries packets until the device or whoever wanted it is gone.
    async fn run(mut self, mut told: watch::Receiver<Ends>) {
        let [mut packet, mut datagram, mut buffer] = [(); 3].map(|()| vec![0; PACKET_BYTES_MAX]);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = told.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let ends = told.borrow_and_update().clone();
                    self.meet(&ends, &mut buffer).await;
                }
                read = self.device.recv(&mut packet) => match read {
                    Ok(length) => self.send(&packet[..length], &mut buffer).await,
                    Err(error) => {
                        tracing::warn!(%error, "the device of WireGuard is gone");
                        return;
                    }
                },
                heard = self.socket.recv_from(&mut datagram) => {
                    // Errors tell of earlier datagrams that did not arrive.
                    if let Ok((length, from)) = heard {
                        self.receive(from, &datagram[..length], &mut buffer).await;
                    }
                }
                _ = ticks.tick() => {
                    for place in 0..self.peers.len() {
                        let due = self.peers[place].tick(&mut buffer);
                        self.carry(place, due).await;
                    }
                }
            }
        }
    }

    /// Forgets ends that are no more or other ones now, and greets new ones.
    async fn meet(&mut self, ends: &Ends, buffer: &mut [u8]) {
        self.peers.retain(|peer| ends.get(&peer.slice) == Some(&peer.end));
        for (slice, end) in ends {
            if self.peers.iter().any(|peer| peer.slice == *slice) {
                continue;
            }
            self.made = self.made.wrapping_add(1);
            // Whoever wanted it has left out those without a key, and told of them.
            if let Ok(mut peer) = Peer::new(&self.key, *slice, end.clone(), self.made) {
                let hello = peer.greet(buffer);
                self.peers.push(peer);
                self.carry(self.peers.len() - 1, hello).await;
            }
        }
    }

    async fn send(&mut self, packet: &[u8], buffer: &mut [u8]) {
        let Some(to) = destination(packet) else { return };
        let Some(place) = self.peers.iter().position(|peer| peer.slice.contains(to)) else {
            return;
        };
        let output = self.peers[place].send(packet, buffer);
        self.carry(place, output).await;
    }

    async fn receive(&mut self, from: SocketAddr, datagram: &[u8], buffer: &mut [u8]) {
        let is_from = |peer: &Peer| IpAddr::V4(peer.end.node) == from.ip();
        let Some(place) = self.peers.iter().position(is_from) else { return };
        for output in self.peers[place].receive(datagram, buffer) {
            self.carry(place, Some(output)).await;
        }
    }

    /// Does what is to be done. What does not get through is lost, as packets may be.
    async fn carry(&self, place: usize, output: Option<Output>) {
        let outcome = match output {
            None => return,
            Some(Output::Datagram(bytes)) => {
                let to = (self.peers[place].end.node, WIREGUARD_PORT);
                self.socket.send_to(&bytes, to).await
            }
            Some(Output::Packet(bytes)) => self.device.send(&bytes).await,
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "something encrypted did not get through");
        }
    }
}
