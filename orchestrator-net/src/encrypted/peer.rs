//! `Peer`: the other end of a wireguard. Pure but for the time that WireGuard's timers take of the clock.

use std::net::Ipv4Addr;

use boringtun::noise::{Tunn, TunnResult};
use orchestrator_core::model::Cidr;
use orchestrator_core::node::WireGuardEnd;

use super::key::{InvalidNodeKey, NodeKey, public_key};

/// The largest packet and datagram.
pub(super) const PACKET_BYTES_MAX: usize = 65_535;
/// How often, in seconds, something is said to keep firewalls on the way open.
pub(super) const KEEP_ALIVE_SECONDS: u16 = 25;
/// How many packets that waited for a handshake follow one datagram at most.
const QUEUED_MAX: usize = 256;
/// Where the address lies in the header of an IPv4 packet.
const DESTINATION_AT: usize = 16;

/// The other end of a wireguard.
pub(super) struct Peer {
    pub slice: Cidr,
    pub end: WireGuardEnd,
    tunn: Tunn,
}

/// What is to be done with bytes that came out of a peer's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Send them to the node.
    Datagram(Vec<u8>),
    /// Give them to the kernel: a packet of the node's pods.
    Packet(Vec<u8>),
}

impl Peer {
    pub(super) fn new(
        own: &NodeKey,
        slice: Cidr,
        end: WireGuardEnd,
        index: u32,
    ) -> Result<Self, InvalidNodeKey> {
        let key = public_key(&end.key)?;
        let tunn = Tunn::new(own.secret(), key, None, Some(KEEP_ALIVE_SECONDS), index, None);
        Ok(Self { slice, end, tunn })
    }

    /// Says hello, so that an end that has forgotten this one knows it again.
    pub(super) fn greet(&mut self, buffer: &mut [u8]) -> Option<Output> {
        self.output(|tunn, buffer| tunn.format_handshake_initiation(buffer, false), buffer)
    }

    /// Encrypts a packet to the node's pods.
    pub(super) fn send(&mut self, packet: &[u8], buffer: &mut [u8]) -> Option<Output> {
        self.output(|tunn, buffer| tunn.encapsulate(packet, buffer), buffer)
    }

    /// Decrypts a datagram of the node's.
    pub(super) fn receive(&mut self, datagram: &[u8], buffer: &mut [u8]) -> Vec<Output> {
        let from = self.end.node.into();
        let first =
            self.output(|tunn, buffer| tunn.decapsulate(Some(from), datagram, buffer), buffer);
        let mut outputs: Vec<_> = first.into_iter().collect();
        // A datagram as an answer may be followed by packets that have waited for it.
        while matches!(outputs.last(), Some(Output::Datagram(_))) && outputs.len() <= QUEUED_MAX {
            let more =
                self.output(|tunn, buffer| tunn.decapsulate(Some(from), &[], buffer), buffer);
            match more {
                Some(output) => outputs.push(output),
                None => break,
            }
        }
        outputs
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, buffer: &mut [u8]) -> Option<Output> {
        self.output(|tunn, buffer| tunn.update_timers(buffer), buffer)
    }

    fn output(
        &mut self,
        step: impl for<'a> FnOnce(&mut Tunn, &'a mut [u8]) -> TunnResult<'a>,
        buffer: &mut [u8],
    ) -> Option<Output> {
        match step(&mut self.tunn, buffer) {
            // What is no datagram of the node's, or came twice, is nobody's business.
            TunnResult::Done | TunnResult::Err(_) | TunnResult::WriteToTunnelV6(..) => None,
            TunnResult::WriteToNetwork(bytes) => Some(Output::Datagram(bytes.to_vec())),
            // A node speaks for its own pods and itself, and for nobody else's.
            TunnResult::WriteToTunnelV4(bytes, from) => {
                self.slice.contains(from).then(|| Output::Packet(bytes.to_vec()))
            }
        }
    }
}

/// Where a packet goes; `None` for what is none of IPv4.
pub(super) fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    let is_ipv4 = packet.first().is_some_and(|byte| byte >> 4 == 4);
    let octets: [u8; 4] = packet.get(DESTINATION_AT..DESTINATION_AT + 4)?.try_into().ok()?;
    is_ipv4.then(|| octets.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the address that it comes from lies.
    const SOURCE_AT: usize = 12;

    fn packet(from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
        let mut packet = vec![0; 40];
        (packet[0], packet[3]) = (0x45, 40);
        packet[SOURCE_AT..SOURCE_AT + 4].copy_from_slice(&from);
        packet[DESTINATION_AT..DESTINATION_AT + 4].copy_from_slice(&to);
        packet[20..].copy_from_slice(b"seen by nobody else.");
        packet
    }

    /// Two ends that have each other's keys; the other one's slice as each sees it.
    fn ends() -> [Peer; 2] {
        let keys = [(); 2].map(|()| NodeKey::generate().expect("randomness"));
        let end = |of: &NodeKey, last: u8| WireGuardEnd {
            node: Ipv4Addr::new(192, 0, 2, last),
            key: of.public_text(),
        };
        let slice = |text: &str| text.parse().expect("a range");
        let a = Peer::new(&keys[0], slice("10.64.1.0/24"), end(&keys[1], 2), 0);
        let b = Peer::new(&keys[1], slice("10.64.0.0/24"), end(&keys[0], 1), 0);
        [a.expect("a key"), b.expect("a key")]
    }

    /// Hands on what is said until nobody says more; the packets that came out, and all datagrams.
    fn talk(ends: &mut [Peer; 2], said: Option<Output>) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        let mut waiting: Vec<_> = said.into_iter().map(|output| (1, output)).collect();
        let (mut packets, mut datagrams) = (Vec::new(), Vec::new());
        while let Some((to, output)) = waiting.pop() {
            match output {
                Output::Packet(packet) => packets.push(packet),
                Output::Datagram(datagram) => {
                    let answers = ends[to].receive(&datagram, &mut buffer);
                    waiting.extend(answers.into_iter().map(|it| match it {
                        Output::Packet(packet) => (to, Output::Packet(packet)),
                        Output::Datagram(datagram) => (1 - to, Output::Datagram(datagram)),
                    }));
                    datagrams.push(datagram);
                }
            }
        }
        (packets, datagrams)
    }

    #[test]
    fn a_packet_gets_through_whole_and_is_in_no_datagram() {
        let mut ends = ends();
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        let packet = packet([10, 64, 0, 2], [10, 64, 1, 2]);
        let said = ends[0].send(&packet, &mut buffer);
        let (packets, datagrams) = talk(&mut ends, said);
        assert_eq!(packets, std::slice::from_ref(&packet));
        assert!(datagrams.len() >= 3, "a handshake, its answer, and the packet");
        let clear = &packet[20..];
        assert!(datagrams.iter().all(|it| !it.windows(clear.len()).any(|part| part == clear)));
    }

    #[test]
    fn a_node_that_speaks_for_pods_of_others_is_not_heard() {
        let mut ends = ends();
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        let said = ends[0].greet(&mut buffer);
        talk(&mut ends, said);
        let said = ends[0].send(&packet([10, 64, 7, 2], [10, 64, 1, 2]), &mut buffer);
        assert!(said.is_some());
        assert_eq!(talk(&mut ends, said).0, Vec::<Vec<u8>>::new());
        let said = ends[0].send(&packet([10, 64, 0, 2], [10, 64, 1, 2]), &mut buffer);
        assert_eq!(talk(&mut ends, said).0.len(), 1);
    }

    #[test]
    fn only_packets_of_ipv4_have_a_destination() {
        assert_eq!(destination(&packet([1; 4], [10, 64, 1, 2])), Some([10, 64, 1, 2].into()));
        assert_eq!(destination(&[0x60; 40]), None);
        assert_eq!(destination(&[0x45; 7]), None);
        assert_eq!(destination(&[]), None);
    }
}
