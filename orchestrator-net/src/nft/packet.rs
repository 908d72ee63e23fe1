//! `Packet`: what a table does with a packet, for tests of tables. What the kernel does with the same rules its own tests show.

use std::net::Ipv4Addr;

use orchestrator_core::model::Protocol;
use orchestrator_core::node::Mac;

use super::{Hook, Match, Rule, Table, Verdict};

/// A packet at one of the places where chains see it.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
    pub from_mac: Mac,
    pub port: (Protocol, u16),
    /// The devices through which it comes and leaves, where it does and that is known.
    pub input: &'static str,
    pub output: &'static str,
    /// Whether the machine has its destination itself.
    pub is_to_machine: bool,
    /// Whether it is of a connection that was redirected.
    pub is_redirected: bool,
}

impl Packet {
    /// A TCP packet to port 80 of another machine.
    pub(crate) fn new(from: &str, to: &str) -> Self {
        let [from, to] = [from, to].map(|it| it.parse().expect("an address"));
        let (port, from_mac) = ((Protocol::Tcp, 80), [0; 6]);
        Self {
            from,
            to,
            from_mac,
            port,
            input: "",
            output: "",
            is_to_machine: false,
            is_redirected: false,
        }
    }

    /// What the chain of a table at a place does with it first; `None` when it passes.
    pub(crate) fn at(&self, hook: &Hook, table: &Table) -> Option<Verdict> {
        let chains = table.chains.iter().filter(|chain| chain.hook == *hook);
        self.by(chains.flat_map(|chain| &chain.rules))
    }

    /// What the first of some rules that speaks of it does with it.
    pub(crate) fn by<'r>(&self, rules: impl IntoIterator<Item = &'r Rule>) -> Option<Verdict> {
        let speaks = |rule: &&Rule| rule.matches.iter().all(|one| self.is(one));
        rules.into_iter().find(speaks).map(|rule| rule.verdict)
    }

    fn is(&self, what: &Match) -> bool {
        match what {
            Match::Expected | Match::Redirected => self.is_redirected,
            Match::From(cidr) => cidr.contains(self.from),
            Match::FromOther(own) => self.from != *own,
            Match::FromOtherMac(own) => self.from_mac != *own,
            Match::In(device) => self.input == device,
            Match::NotIn(beginning) => !self.input.starts_with(beginning),
            Match::NotOut(device) => self.output != device,
            Match::NotOutAny(beginning) => !self.output.starts_with(beginning),
            Match::NotTo(cidr) => !cidr.contains(self.to),
            Match::Out(device) => self.output == device,
            Match::To(cidr) => cidr.contains(self.to),
            Match::ToMachine => self.is_to_machine,
            Match::ToPort(protocol, port) => self.port == (*protocol, *port),
            // It is one of IPv4.
            Match::AskedByOther(_) | Match::NotIpv4 => false,
        }
    }
}
