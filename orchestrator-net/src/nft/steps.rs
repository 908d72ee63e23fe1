//! Rules as the kernel's steps: load into a register, cut, compare, decide. Pure.
//!
//! Numbers and layouts: `linux/netfilter/nf_tables.h`, `nf_conntrack_common.h` and `xt_conntrack.h`. Values of packets are in the
//! network's byte order, those of the kernel's own in the machine's.

use std::net::Ipv4Addr;

use orchestrator_core::model::{Cidr, Protocol};

use super::attributes::Attributes;
use super::message::COMMENT;
use super::rule::{Match, Rule, Verdict};

/// The registers through which values go, and the one with the verdict.
const REGISTER: u32 = 1;
const SECOND_REGISTER: u32 = 2;
const VERDICT_REGISTER: u32 = 0;
const DROP: u32 = 0;
const ACCEPT: u32 = 1;

/// Which header a place in a packet is counted from.
const LINK_HEADER: u32 = 0;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// A place in a packet: the header, where in it, how many bytes.
type Place = (u32, u32, u32);
const SOURCE_MAC: Place = (LINK_HEADER, 6, 6);
const ETHER_TYPE: Place = (LINK_HEADER, 12, 2);
const SOURCE: Place = (NETWORK_HEADER, 12, 4);
const DESTINATION: Place = (NETWORK_HEADER, 16, 4);
const NEIGHBOUR_SOURCE: Place = (NETWORK_HEADER, 14, 4);
const DESTINATION_PORT: Place = (TRANSPORT_HEADER, 2, 2);
const ETHER_IPV4: [u8; 2] = [0x08, 0x00];
const ETHER_ARP: [u8; 2] = [0x08, 0x06];

/// What the kernel knows of a packet beside its bytes.
const IN_DEVICE: u32 = 6;
const OUT_DEVICE: u32 = 7;
const TRANSPORT_PROTOCOL: u32 = 16;
const DEVICE_NAME_BYTES: usize = 16;

/// Whether an address is the machine's own.
const ADDRESS_KIND: u32 = 3;
const OF_DESTINATION: u32 = 2;
const MACHINES_OWN: u32 = 2;

/// The state of a connection, and the bit of it that says that it was redirected.
const CONNECTION_STATUS: u32 = 2;
const REDIRECTED: u32 = 0x20;

/// `conntrack` of iptables in its third form: how long it is, where its flags and states are, and what says that a connection
/// is answered, belongs to one that is, or was redirected.
const CONNTRACK_REVISION: u32 = 3;
const CONNTRACK_BYTES: usize = 168;
const CONNTRACK_FLAGS_AT: usize = 146;
const CONNTRACK_STATES_AT: usize = 150;
const CONNTRACK_OF_STATE: u16 = 1;
const EXPECTED_STATES: u16 = 0x02 | 0x04 | 0x80;

/// Which kind of change of addresses, and for which family.
const DESTINATION_NAT: u32 = 1;
const NAT_IPV4: u32 = 2;

const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

/// A rule with its place and comment.
pub(super) fn written((table, chain): (&str, &str), rule: &Rule, comment: &str) -> Attributes {
    let mut steps = Attributes::default();
    for one in &rule.matches {
        steps = matched(steps, one);
    }
    let none = Attributes::default();
    let nothing_yet = none.clone().bytes(1, &[0; 8]).bytes(2, &[0; 8]);
    steps = steps.step("counter", &nothing_yet);
    steps = match rule.verdict {
        Verdict::Accept => decided(steps, ACCEPT),
        Verdict::Drop => decided(steps, DROP),
        Verdict::Masquerade => steps.step("masq", &none),
        Verdict::Redirect(address, port) => redirected(steps, address, port),
    };
    let mut user_data = vec![COMMENT, u8::try_from(comment.len() + 1).unwrap_or(u8::MAX)];
    user_data.extend_from_slice(comment.as_bytes());
    user_data.push(0);
    none.text(1, table).text(2, chain).nested(4, &steps).bytes(7, &user_data)
}

fn matched(steps: Attributes, one: &Match) -> Attributes {
    match one {
        Match::AskedByOther(own) => {
            let steps = compare(load(steps, ETHER_TYPE), &ETHER_ARP, EQUAL);
            compare(load(steps, NEIGHBOUR_SOURCE), &own.octets(), NOT_EQUAL)
        }
        Match::Expected => expected(steps),
        Match::From(cidr) => of_range(steps, SOURCE, *cidr, EQUAL),
        Match::FromOther(own) => {
            let steps = compare(load(steps, ETHER_TYPE), &ETHER_IPV4, EQUAL);
            compare(load(steps, SOURCE), &own.octets(), NOT_EQUAL)
        }
        Match::FromOtherMac(own) => compare(load(steps, SOURCE_MAC), own, NOT_EQUAL),
        Match::In(device) => compare(known(steps, IN_DEVICE), &device_name(device), EQUAL),
        Match::NotIpv4 => {
            let steps = compare(load(steps, ETHER_TYPE), &ETHER_IPV4, NOT_EQUAL);
            compare(steps, &ETHER_ARP, NOT_EQUAL)
        }
        Match::NotIn(beginning) => {
            compare(known(steps, IN_DEVICE), beginning.as_bytes(), NOT_EQUAL)
        }
        Match::NotOut(device) => compare(known(steps, OUT_DEVICE), &device_name(device), NOT_EQUAL),
        Match::NotOutAny(beginning) => {
            compare(known(steps, OUT_DEVICE), beginning.as_bytes(), NOT_EQUAL)
        }
        Match::NotTo(cidr) => of_range(steps, DESTINATION, *cidr, NOT_EQUAL),
        Match::Out(device) => compare(known(steps, OUT_DEVICE), &device_name(device), EQUAL),
        Match::Redirected => {
            let load = Attributes::default().number(1, REGISTER).number(2, CONNECTION_STATUS);
            let steps = cut(steps.step("ct", &load), &REDIRECTED.to_ne_bytes());
            compare(steps, &[0; 4], NOT_EQUAL)
        }
        Match::To(cidr) => of_range(steps, DESTINATION, *cidr, EQUAL),
        Match::ToMachine => {
            let look = Attributes::default().number(1, REGISTER).number(2, ADDRESS_KIND);
            let steps = steps.step("fib", &look.number(3, OF_DESTINATION));
            compare(steps, &MACHINES_OWN.to_ne_bytes(), EQUAL)
        }
        Match::ToPort(protocol, port) => {
            let steps = compare(known(steps, TRANSPORT_PROTOCOL), &[number(*protocol)], EQUAL);
            compare(load(steps, DESTINATION_PORT), &port.to_be_bytes(), EQUAL)
        }
    }
}

fn decided(steps: Attributes, verdict: u32) -> Attributes {
    let none = Attributes::default();
    let code = none.clone().nested(2, &none.clone().number(1, verdict));
    steps.step("immediate", &none.number(1, VERDICT_REGISTER).nested(2, &code))
}

fn redirected(steps: Attributes, address: Ipv4Addr, port: u16) -> Attributes {
    let set = |register: u32, value: &[u8]| {
        let value = Attributes::default().bytes(1, value);
        Attributes::default().number(1, register).nested(2, &value)
    };
    let change = Attributes::default()
        .number(1, DESTINATION_NAT)
        .number(2, NAT_IPV4)
        .number(3, REGISTER)
        .number(5, SECOND_REGISTER);
    steps
        .step("immediate", &set(REGISTER, &address.octets()))
        .step("immediate", &set(SECOND_REGISTER, &port.to_be_bytes()))
        .step("nat", &change)
}

fn expected(steps: Attributes) -> Attributes {
    let mut info = [0; CONNTRACK_BYTES];
    info[CONNTRACK_FLAGS_AT..][..2].copy_from_slice(&CONNTRACK_OF_STATE.to_ne_bytes());
    info[CONNTRACK_STATES_AT..][..2].copy_from_slice(&EXPECTED_STATES.to_ne_bytes());
    let data = Attributes::default().text(1, "conntrack").number(2, CONNTRACK_REVISION);
    steps.step("match", &data.bytes(3, &info))
}

/// Loads a part of the packet.
fn load(steps: Attributes, (header, at, bytes): Place) -> Attributes {
    let load = Attributes::default().number(1, REGISTER).number(2, header);
    steps.step("payload", &load.number(3, at).number(4, bytes))
}

/// Loads what the kernel knows beside it.
fn known(steps: Attributes, what: u32) -> Attributes {
    steps.step("meta", &Attributes::default().number(1, REGISTER).number(2, what))
}

/// Compares the first bits of an address.
fn of_range(steps: Attributes, place: Place, cidr: Cidr, how: u32) -> Attributes {
    let steps = cut(load(steps, place), &cidr.mask().octets());
    compare(steps, &cidr.first().octets(), how)
}

/// Keeps only some bits of what was loaded.
fn cut(steps: Attributes, mask: &[u8; 4]) -> Attributes {
    let value = |bytes: &[u8]| Attributes::default().bytes(1, bytes);
    let cut = Attributes::default()
        .number(1, REGISTER)
        .number(2, REGISTER)
        .number(3, 4)
        .nested(4, &value(mask))
        .nested(5, &value(&[0; 4]));
    steps.step("bitwise", &cut)
}

fn compare(steps: Attributes, bytes: &[u8], how: u32) -> Attributes {
    let value = Attributes::default().bytes(1, bytes);
    steps.step("cmp", &Attributes::default().number(1, REGISTER).number(2, how).nested(3, &value))
}

fn device_name(device: &str) -> Vec<u8> {
    let mut name = device.as_bytes().to_vec();
    name.resize(DEVICE_NAME_BYTES, 0);
    name
}

const fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Sctp => 132,
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}
