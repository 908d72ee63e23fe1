//! `Settings`: what WireGuard of the kernel is set to, and what is to be changed about it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use netlink_packet_wireguard::{
    WireguardAddressFamily as Family, WireguardAllowedIp as AllowedIp,
    WireguardAllowedIpAttr as AllowedIpAttribute, WireguardAttribute as Attribute,
    WireguardDeviceFlags as DeviceFlags, WireguardPeer as Peer,
    WireguardPeerAttribute as PeerAttribute, WireguardPeerFlags as PeerFlags,
};
use orchestrator_core::model::Cidr;
use orchestrator_core::node::{WIREGUARD_PORT, WireGuardEnd};

use super::key::{NodeKey, public_key};
use super::peer::KEEP_ALIVE_SECONDS;

/// How many other ends are changed by one message: as many as fit well.
const ENDS_MAX: usize = 256;

type Key = [u8; 32];

/// What a device is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// The public key of its own end; `None` while it has none.
    public_key: Option<Key>,
    port: u16,
    /// Marks what is sent, so that others may send it elsewhere.
    mark: u32,
    ends: BTreeMap<Key, End>,
}

/// What is known of another end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct End {
    node: Option<SocketAddr>,
    /// The addresses that it may speak for, and that are sent to it.
    slices: BTreeSet<(IpAddr, u8)>,
    keep_alive_seconds: u16,
}

impl Settings {
    /// What is wanted. Other ends that tell no good key, or one that is told already, are left out, each with why.
    pub(super) fn wanted(
        own: &NodeKey,
        ends: &BTreeMap<Cidr, WireGuardEnd>,
    ) -> (Self, Vec<(Cidr, &'static str)>) {
        let own = own.public_bytes();
        let (mut wanted, mut left_out) = (BTreeMap::new(), Vec::new());
        for (slice, end) in ends {
            match public_key(&end.key).map(|key| key.to_bytes()) {
                Err(_) => left_out.push((*slice, "its key is none of WireGuard's")),
                Ok(key) if key == own || wanted.contains_key(&key) => {
                    left_out.push((*slice, "its key is another node's too"));
                }
                Ok(key) => {
                    let node = Some(SocketAddr::from((end.node, WIREGUARD_PORT)));
                    let slices = BTreeSet::from([(slice.first().into(), slice.prefix())]);
                    let keep_alive_seconds = KEEP_ALIVE_SECONDS;
                    wanted.insert(key, End { node, slices, keep_alive_seconds });
                }
            }
        }
        let wanted = Self { public_key: Some(own), port: WIREGUARD_PORT, mark: 0, ends: wanted };
        (wanted, left_out)
    }

    /// What the kernel tells of a device. An end with many ranges comes in parts.
    pub(super) fn found(attributes: &[Attribute]) -> Self {
        let mut found = Self { public_key: None, port: 0, mark: 0, ends: BTreeMap::new() };
        for attribute in attributes {
            match attribute {
                Attribute::PublicKey(key) => found.public_key = Some(*key),
                Attribute::ListenPort(port) => found.port = *port,
                Attribute::Fwmark(mark) => found.mark = *mark,
                Attribute::Peers(peers) => peers.iter().for_each(|peer| found.learn(peer)),
                _ => {}
            }
        }
        found
    }

    fn learn(&mut self, peer: &Peer) {
        let mut keys = peer.iter().filter_map(|attribute| match attribute {
            PeerAttribute::PublicKey(key) => Some(*key),
            _ => None,
        });
        let Some(key) = keys.next() else { return };
        let end = self.ends.entry(key).or_default();
        for attribute in peer.iter() {
            match attribute {
                PeerAttribute::Endpoint(node) => end.node = Some(*node),
                PeerAttribute::PersistentKeepalive(seconds) => end.keep_alive_seconds = *seconds,
                PeerAttribute::AllowedIps(ranges) => {
                    end.slices.extend(ranges.iter().filter_map(range))
                }
                _ => {}
            }
        }
    }

    /// The messages that make it what is wanted; none when it is that. The private key is among them when the device has another.
    pub(super) fn changes(&self, wanted: &Self, own: &NodeKey) -> Vec<Vec<Attribute>> {
        let mut messages = Vec::new();
        // What was agreed on as somebody else ends with that: no other end is kept.
        let is_same = self.public_key == wanted.public_key;
        let known = if is_same { &self.ends } else { &BTreeMap::new() };
        if !is_same {
            messages.push(vec![Attribute::Flags(DeviceFlags::ReplacePeers)]);
        }
        if (self.public_key, self.port, self.mark) != (wanted.public_key, wanted.port, wanted.mark)
        {
            messages.push(vec![
                Attribute::PrivateKey(own.secret_bytes()),
                Attribute::ListenPort(wanted.port),
                Attribute::Fwmark(wanted.mark),
            ]);
        }
        // Who is to go goes first: two ends cannot have one range.
        let gone = known.keys().filter(|key| !wanted.ends.contains_key(*key));
        let gone = gone.map(|key| {
            Peer(vec![PeerAttribute::PublicKey(*key), PeerAttribute::Flags(PeerFlags::RemoveMe)])
        });
        let news = wanted.ends.iter().filter(|(key, end)| known.get(*key) != Some(*end));
        let changed: Vec<_> = gone.chain(news.map(|(key, end)| told(*key, end))).collect();
        messages.extend(changed.chunks(ENDS_MAX).map(|some| vec![Attribute::Peers(some.to_vec())]));
        messages
    }
}

fn range(allowed: &AllowedIp) -> Option<(IpAddr, u8)> {
    let (mut first, mut prefix) = (None, None);
    for attribute in &allowed.0 {
        match attribute {
            AllowedIpAttribute::IpAddr(address) => first = Some(*address),
            AllowedIpAttribute::Cidr(bits) => prefix = Some(*bits),
            _ => {}
        }
    }
    first.zip(prefix)
}

fn told(key: Key, end: &End) -> Peer {
    let range = |(first, prefix): &(IpAddr, u8)| {
        AllowedIp(vec![
            AllowedIpAttribute::Family(match first {
                IpAddr::V4(_) => Family::Ipv4,
                IpAddr::V6(_) => Family::Ipv6,
            }),
            AllowedIpAttribute::IpAddr(*first),
            AllowedIpAttribute::Cidr(*prefix),
        ])
    };
    let mut attributes = vec![
        PeerAttribute::PublicKey(key),
        PeerAttribute::Flags(PeerFlags::ReplaceAllowedIps),
        PeerAttribute::PersistentKeepalive(end.keep_alive_seconds),
        PeerAttribute::AllowedIps(end.slices.iter().map(range).collect()),
    ];
    attributes.extend(end.node.map(PeerAttribute::Endpoint));
    Peer(attributes)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn key() -> NodeKey {
        NodeKey::generate().expect("randomness")
    }

    fn ends(keys: &[(&str, &str)]) -> BTreeMap<Cidr, WireGuardEnd> {
        let node = Ipv4Addr::new(192, 0, 2, 2);
        let end = |key: &str| WireGuardEnd { node, key: key.to_owned() };
        keys.iter().map(|(slice, key)| (slice.parse().expect("a range"), end(key))).collect()
    }

    /// What a device is set to after it was told some messages, as far as the kernel does what it is told.
    fn after(mut settings: Settings, own: &NodeKey, messages: &[Vec<Attribute>]) -> Settings {
        for attribute in messages.iter().flatten() {
            match attribute {
                Attribute::PrivateKey(secret) => {
                    assert_eq!(*secret, own.secret_bytes());
                    settings.public_key = Some(own.public_bytes());
                }
                Attribute::Flags(DeviceFlags::ReplacePeers) => settings.ends.clear(),
                Attribute::ListenPort(port) => settings.port = *port,
                Attribute::Fwmark(mark) => settings.mark = *mark,
                Attribute::Peers(peers) => {
                    for peer in peers {
                        let key = peer.iter().find_map(|it| match it {
                            PeerAttribute::PublicKey(key) => Some(*key),
                            _ => None,
                        });
                        settings.ends.remove(&key.expect("every end has a key"));
                        if !peer.contains(&PeerAttribute::Flags(PeerFlags::RemoveMe)) {
                            settings.learn(peer);
                        }
                    }
                }
                other => panic!("nobody asked for {other:?}"),
            }
        }
        settings
    }

    #[test]
    fn a_device_becomes_what_is_wanted_and_then_nothing_is_changed() {
        let (own, a, b, c) = (key(), key(), key(), key());
        let [a, b, c] = [a, b, c].map(|it| it.public_text());
        let mut device = Settings::found(&[]);
        for known in [
            ends(&[("10.64.1.0/24", &a), ("10.64.2.0/24", &b)]),
            ends(&[("10.64.1.0/24", &c), ("10.64.2.0/24", &b)]),
            ends(&[("10.64.1.0/24", &b)]),
            ends(&[]),
        ] {
            let (wanted, left_out) = Settings::wanted(&own, &known);
            assert!(left_out.is_empty(), "{left_out:?}");
            let changes = device.changes(&wanted, &own);
            assert!(!changes.is_empty());
            device = after(device, &own, &changes);
            assert_eq!(device, wanted);
            assert_eq!(device.changes(&wanted, &own), Vec::<Vec<Attribute>>::new());
        }
    }

    #[test]
    fn what_somebody_else_set_is_set_back() {
        let (own, a) = (key(), key().public_text());
        let (wanted, _) = Settings::wanted(&own, &ends(&[("10.64.1.0/24", &a)]));
        let everything = (IpAddr::from([0; 4]), 0);
        let harms: [&dyn Fn(&mut Settings); 7] = [
            &|it| it.public_key = Some(key().public_bytes()),
            &|it| it.port = 1,
            &|it| it.mark = 1,
            &|it| it.ends.clear(),
            &|it| it.ends.values_mut().for_each(|end| end.node = None),
            &|it| it.ends.values_mut().for_each(|end| end.slices.extend([everything])),
            &|it| drop(it.ends.insert(key().public_bytes(), End::default())),
        ];
        for (number, harm) in harms.into_iter().enumerate() {
            let mut device = wanted.clone();
            harm(&mut device);
            let changes = device.changes(&wanted, &own);
            assert_eq!(after(device, &own, &changes), wanted, "harm {number}");
        }
    }

    #[test]
    fn a_key_that_is_none_or_somebody_elses_is_left_out_and_others_are_not() {
        let (own, a) = (key(), key().public_text());
        let known = ends(&[
            ("10.64.1.0/24", "x"),
            ("10.64.2.0/24", &a),
            ("10.64.3.0/24", &a),
            ("10.64.4.0/24", &own.public_text()),
        ]);
        let (wanted, left_out) = Settings::wanted(&own, &known);
        let left_out: Vec<_> = left_out.iter().map(|(slice, _)| slice.to_string()).collect();
        assert_eq!(left_out, ["10.64.1.0/24", "10.64.3.0/24", "10.64.4.0/24"]);
        assert_eq!(wanted.ends.len(), 1);
    }

    #[test]
    fn many_ends_are_told_in_several_messages() {
        let own = key();
        let known = (0..=255).flat_map(|one: u8| [(1, one), (2, one)]).map(|(two, one)| {
            let end = WireGuardEnd { node: [192, 0, two, one].into(), key: key().public_text() };
            (Cidr::around([10, 64 + two, one, 0].into(), 24), end)
        });
        let (wanted, _) = Settings::wanted(&own, &known.collect());
        let device = Settings::found(&[]);
        let changes = device.changes(&wanted, &own);
        assert_eq!(changes.len(), 4, "two for its own end, two for the others");
        assert_eq!(after(device, &own, &changes), wanted);
    }
}
