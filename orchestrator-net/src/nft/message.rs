//! The kernel's messages about packet filters, written and read. Pure.
//!
//! Numbers and layouts: `linux/netfilter/nf_tables.h` and `nfnetlink.h`. Numbers of the machine's byte order are in the outer
//! headers, of the network's in the attributes.

use super::attributes::{Attributes, attributes, text};
use super::rule::Rule;
use super::steps;
use super::{Chain, Family, Hook};

const SUBSYSTEM: u16 = 10;
pub(super) const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
pub(super) const NEW_RULE: u16 = 6;
const LIST_RULES: u16 = 7;
const DELETE_RULE: u16 = 8;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

const FAMILY_NONE: u8 = 0;
const FAMILY_IPV4: u8 = 2;
const FAMILY_DEVICE: u8 = 5;
/// The length of a message's header, and of the smaller one that packet filters have after it.
pub(super) const HEADER: usize = 16;
pub(super) const FILTER_HEADER: usize = 4;

/// What a chain that lets through what none of its rules speaks of does.
const ACCEPT: u32 = 1;
/// Where chains see packets: before and after routing, what the machine itself sends, and what comes out of a device.
const PRE_ROUTING: u32 = 0;
const OWN_OUTPUT: u32 = 3;
const POST_ROUTING: u32 = 4;
const DEVICE_INGRESS: u32 = 0;
/// The priorities at which packets are looked at before anything, let through, and their destinations and sources changed.
const RAW_PRIORITY: i32 = -300;
const DESTINATION_NAT_PRIORITY: i32 = -100;
const FILTER_PRIORITY: i32 = 0;
const SOURCE_NAT_PRIORITY: i32 = 100;
/// The kind of a comment among a rule's user data.
pub(super) const COMMENT: u8 = 0;

/// Changes that happen together or not at all.
#[derive(Debug)]
pub(super) struct Batch {
    family: Family,
    messages: Vec<u8>,
    /// How many changes there are.
    changes: u32,
}

impl Batch {
    pub(super) fn new(family: Family) -> Self {
        let mut batch = Self { family, messages: Vec::new(), changes: 0 };
        batch.border(BATCH_BEGIN);
        batch
    }

    pub(super) fn make_table(&mut self, table: &str) {
        self.change(NEW_TABLE, CREATE, &Attributes::default().text(1, table));
    }

    pub(super) fn delete_table(&mut self, table: &str) {
        self.change(DELETE_TABLE, 0, &Attributes::default().text(1, table));
    }

    /// Makes a chain that lets through what none of its rules speaks of.
    pub(super) fn make_chain(&mut self, table: &str, chain: &Chain) {
        let (hook, priority, kind) = match &chain.hook {
            Hook::Arriving => (PRE_ROUTING, FILTER_PRIORITY, "filter"),
            Hook::ArrivingFirst => (PRE_ROUTING, RAW_PRIORITY, "filter"),
            Hook::FromDevice(_) => (DEVICE_INGRESS, FILTER_PRIORITY, "filter"),
            Hook::Leaving => (POST_ROUTING, FILTER_PRIORITY, "filter"),
            Hook::LeavingFirst => (POST_ROUTING, SOURCE_NAT_PRIORITY, "nat"),
            Hook::Meant => (PRE_ROUTING, DESTINATION_NAT_PRIORITY, "nat"),
            Hook::MeantByUs => (OWN_OUTPUT, DESTINATION_NAT_PRIORITY, "nat"),
        };
        let mut place = Attributes::default().number(1, hook).bytes(2, &priority.to_be_bytes());
        if let Hook::FromDevice(device) = &chain.hook {
            place = place.text(3, device);
        }
        let attributes = Attributes::default()
            .text(1, table)
            .text(3, &chain.name)
            .nested(4, &place)
            .number(5, ACCEPT)
            .text(7, kind);
        self.change(NEW_CHAIN, CREATE, &attributes);
    }

    /// Deletes a chain with its rules.
    pub(super) fn delete_chain(&mut self, table: &str, chain: &str) {
        self.change(DELETE_CHAIN, 0, &Attributes::default().text(1, table).text(3, chain));
    }

    pub(super) fn append_rule(&mut self, place: (&str, &str), rule: &Rule, comment: &str) {
        self.change(NEW_RULE, CREATE | APPEND, &steps::written(place, rule, comment));
    }

    /// Makes a rule the first of its chain.
    pub(super) fn insert_rule(&mut self, place: (&str, &str), rule: &Rule, comment: &str) {
        self.change(NEW_RULE, CREATE, &steps::written(place, rule, comment));
    }

    pub(super) fn delete_rule(&mut self, (table, chain): (&str, &str), handle: u64) {
        let attributes = Attributes::default().text(1, table).text(2, chain);
        self.change(DELETE_RULE, 0, &attributes.bytes(3, &handle.to_be_bytes()));
    }

    /// The messages and how many of them are answered; `None` when there is nothing to change.
    pub(super) fn finish(mut self) -> Option<(Vec<u8>, u32)> {
        self.border(BATCH_END);
        (self.changes > 0).then_some((self.messages, self.changes))
    }

    fn change(&mut self, what: u16, flags: u16, attributes: &Attributes) {
        self.changes += 1;
        let (kind, family) = (SUBSYSTEM << 8 | what, number(self.family));
        message(&mut self.messages, kind, REQUEST | ACK | flags, (family, 0), attributes);
    }

    fn border(&mut self, kind: u16) {
        let nothing = Attributes::default();
        message(&mut self.messages, kind, REQUEST, (FAMILY_NONE, SUBSYSTEM), &nothing);
    }
}

/// The question for the rules of a table or a chain.
pub(super) fn list_rules(family: Family, table: &str, chain: Option<&str>) -> Vec<u8> {
    let mut attributes = Attributes::default().text(1, table);
    if let Some(chain) = chain {
        attributes = attributes.text(2, chain);
    }
    let mut bytes = Vec::new();
    let kind = SUBSYSTEM << 8 | LIST_RULES;
    message(&mut bytes, kind, REQUEST | DUMP, (number(family), 0), &attributes);
    bytes
}

const fn number(family: Family) -> u8 {
    match family {
        Family::Device => FAMILY_DEVICE,
        Family::Ipv4 => FAMILY_IPV4,
    }
}

fn message(
    into: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    (family, resource): (u8, u16),
    attributes: &Attributes,
) {
    let length = HEADER + FILTER_HEADER + attributes.0.len();
    into.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    into.extend_from_slice(&kind.to_ne_bytes());
    into.extend_from_slice(&flags.to_ne_bytes());
    // Sequence number and port: answers to a socket with one question at a time need none.
    into.extend_from_slice(&[0; 8]);
    into.extend_from_slice(&[family, 0]);
    into.extend_from_slice(&resource.to_be_bytes());
    into.extend_from_slice(&attributes.0);
}

/// A rule that is there, as far as it is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub chain: String,
    pub handle: u64,
    pub comment: String,
}

/// The rule that a message tells of, if it is of this table and chain.
pub(super) fn rule_of(message: &[u8], table: &str, chain: Option<&str>) -> Option<Found> {
    let body = message.get(HEADER + FILTER_HEADER..)?;
    let mut found = Found::default();
    for (kind, value) in attributes(body) {
        match kind {
            1 if text(value) != table => return None,
            2 => found.chain = text(value),
            3 => found.handle = u64::from_be_bytes(value.try_into().ok()?),
            7 => found.comment = told(value).unwrap_or_default(),
            _ => {}
        }
    }
    chain.is_none_or(|chain| chain == found.chain).then_some(found)
}

/// Finds the comment among a rule's user data: kinds, lengths and values.
fn told(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == COMMENT {
            return Some(text(value));
        }
        data = &rest[value.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::rule::{Match, Verdict};
    use super::*;

    #[test]
    fn a_written_rule_is_read_back_by_its_comment() {
        let range = "10.64.0.0/10".parse().expect("a range");
        let rule = Rule { matches: vec![Match::From(range)], verdict: Verdict::Accept };
        let mut batch = Batch::new(Family::Ipv4);
        batch.append_rule(("t", "c"), &rule, "why it is there");
        let (bytes, changes) = batch.finish().expect("a change");
        assert_eq!(changes, 1);
        let rule = &bytes[HEADER + FILTER_HEADER..];
        let found = rule_of(rule, "t", Some("c")).expect("it is of the chain");
        assert_eq!((found.chain.as_str(), found.comment.as_str()), ("c", "why it is there"));
        assert_eq!(rule_of(rule, "other", None), None);
        assert_eq!(rule_of(rule, "t", Some("other")), None);
        assert!(Batch::new(Family::Ipv4).finish().is_none(), "nothing to change");
    }

    #[test]
    fn broken_messages_are_no_rules() {
        for length in 0..40 {
            let bytes = vec![0xff; length];
            let _ = rule_of(&bytes, "t", None);
            assert_eq!(told(&bytes), None, "{length}");
        }
    }
}
