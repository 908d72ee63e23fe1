//! `Rule`: what to do with which packets, and the same in words.

use std::fmt;
use std::net::Ipv4Addr;

use orchestrator_core::model::{Cidr, Protocol};
use orchestrator_core::node::Mac;

/// What to do with which packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// All of which must hold.
    pub matches: Vec<Match>,
    pub verdict: Verdict,
}

/// What holds of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// It is a question or an answer about neighbours, of the name of another address.
    AskedByOther(Ipv4Addr),
    /// It is of a connection that is answered, or belongs to one, or was redirected. In a form that the usual tools of other people's
    /// chains take for their own.
    Expected,
    /// It comes from an address of a range.
    From(Cidr),
    /// It is a packet of IPv4 that comes from another address.
    FromOther(Ipv4Addr),
    /// It comes from another hardware address.
    FromOtherMac(Mac),
    /// It comes through a device.
    In(String),
    /// It is neither of IPv4 nor about its neighbours.
    NotIpv4,
    /// It does not come through a device whose name begins so.
    NotIn(&'static str),
    /// It does not leave through a device.
    NotOut(String),
    /// It does not leave through a device whose name begins so.
    NotOutAny(&'static str),
    /// It does not go to a range.
    NotTo(Cidr),
    /// It leaves through a device.
    Out(String),
    /// It was redirected.
    Redirected,
    /// It goes to a range.
    To(Cidr),
    /// It goes to an address of the machine itself.
    ToMachine,
    /// It goes to a port.
    ToPort(Protocol, u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    /// It goes on with the node's own address.
    Masquerade,
    /// It goes to this address and port instead.
    Redirect(Ipv4Addr, u16),
}

/// Tells it in words, different for different rules.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.matches {
            match one {
                Match::AskedByOther(own) => write!(f, "arp not of {own} ")?,
                Match::Expected => f.write_str("expected ")?,
                Match::From(cidr) => write!(f, "from {cidr} ")?,
                Match::FromOther(own) => write!(f, "not from {own} ")?,
                Match::FromOtherMac([a, b, c, d, e, g]) => {
                    write!(f, "not from {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x} ")?;
                }
                Match::In(device) => write!(f, "in {device} ")?,
                Match::NotIpv4 => f.write_str("no IPv4 ")?,
                Match::NotIn(device) => write!(f, "not in {device} ")?,
                Match::NotOut(device) => write!(f, "not via {device} ")?,
                Match::NotOutAny(device) => write!(f, "not via {device}* ")?,
                Match::NotTo(cidr) => write!(f, "not to {cidr} ")?,
                Match::Out(device) => write!(f, "via {device} ")?,
                Match::Redirected => f.write_str("redirected ")?,
                Match::To(cidr) => write!(f, "to {cidr} ")?,
                Match::ToMachine => f.write_str("to the machine ")?,
                Match::ToPort(protocol, port) => write!(f, "to {protocol:?} {port} ")?,
            }
        }
        match self.verdict {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Masquerade => f.write_str("masquerade"),
            Verdict::Redirect(address, port) => write!(f, "redirect to {address}:{port}"),
        }
    }
}
