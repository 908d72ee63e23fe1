//! The kernel's messages about packet filters, written and read. Pure.
//!
//! Numbers and layouts: `linux/netfilter/nf_tables.h` and `nfnetlink.h`. Numbers of the machine's byte order are in the outer
//! headers, of the network's in the attributes.

use orchestrator_core::model::Cidr;

use super::{Chain, Hook, Match, Rule, Verdict};

const SUBSYSTEM: u16 = 10;
pub(super) const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
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
const NESTED: u16 = 0x8000;
/// The length of a message's header, and of the smaller one that packet filters have after it.
pub(super) const HEADER: usize = 16;
pub(super) const FILTER_HEADER: usize = 4;

/// The register through which values go, and the one with the verdict.
const REGISTER: u32 = 1;
const VERDICT_REGISTER: u32 = 0;
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
/// Where a packet's source and destination lie in its header.
const SOURCE_AT: u32 = 12;
const DESTINATION_AT: u32 = 16;
/// Which of a packet's devices it came through, and which it leaves through.
const IN_DEVICE: u32 = 6;
const OUT_DEVICE: u32 = 7;
const DEVICE_NAME_BYTES: usize = 16;
/// Before and after routing, and the priorities at which packets are let through and sources changed.
const PRE_ROUTING: u32 = 0;
const POST_ROUTING: u32 = 4;
const FILTER_PRIORITY: u32 = 0;
const SOURCE_NAT_PRIORITY: u32 = 100;
/// The kind of a comment among a rule's user data.
const COMMENT: u8 = 0;

/// Attributes, one after another.
#[derive(Clone, Debug, Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    fn nested(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }

    /// A step of a rule.
    fn step(self, name: &str, data: &Self) -> Self {
        self.nested(1, &Self::default().text(1, name).nested(2, data))
    }
}

/// Changes that happen together or not at all.
#[derive(Debug)]
pub(super) struct Batch {
    messages: Vec<u8>,
    /// How many changes there are.
    changes: u32,
}

impl Batch {
    pub(super) fn new() -> Self {
        let mut batch = Self { messages: Vec::new(), changes: 0 };
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
        let (hook, priority, kind) = match chain.hook {
            Hook::Arriving => (PRE_ROUTING, FILTER_PRIORITY, "filter"),
            Hook::Leaving => (POST_ROUTING, FILTER_PRIORITY, "filter"),
            Hook::LeavingFirst => (POST_ROUTING, SOURCE_NAT_PRIORITY, "nat"),
        };
        let hook = Attributes::default().number(1, hook).number(2, priority);
        let attributes = Attributes::default()
            .text(1, table)
            .text(3, chain.name)
            .nested(4, &hook)
            .number(5, ACCEPT)
            .text(7, kind);
        self.change(NEW_CHAIN, CREATE, &attributes);
    }

    pub(super) fn append_rule(&mut self, place: (&str, &str), rule: &Rule, comment: &str) {
        self.change(NEW_RULE, CREATE | APPEND, &written(place, rule, comment));
    }

    /// Makes a rule the first of its chain.
    pub(super) fn insert_rule(&mut self, place: (&str, &str), rule: &Rule, comment: &str) {
        self.change(NEW_RULE, CREATE, &written(place, rule, comment));
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
        let kind = SUBSYSTEM << 8 | what;
        message(&mut self.messages, kind, REQUEST | ACK | flags, (FAMILY_IPV4, 0), attributes);
    }

    fn border(&mut self, kind: u16) {
        let nothing = Attributes::default();
        message(&mut self.messages, kind, REQUEST, (FAMILY_NONE, SUBSYSTEM), &nothing);
    }
}

/// The question for the rules of a table or a chain.
pub(super) fn list_rules(table: &str, chain: Option<&str>) -> Vec<u8> {
    let mut attributes = Attributes::default().text(1, table);
    if let Some(chain) = chain {
        attributes = attributes.text(2, chain);
    }
    let mut bytes = Vec::new();
    let kind = SUBSYSTEM << 8 | LIST_RULES;
    message(&mut bytes, kind, REQUEST | DUMP, (FAMILY_IPV4, 0), &attributes);
    bytes
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

fn written((table, chain): (&str, &str), rule: &Rule, comment: &str) -> Attributes {
    let mut steps = Attributes::default();
    for one in &rule.matches {
        steps = match one {
            Match::From(cidr) => of_range(steps, SOURCE_AT, *cidr, EQUAL),
            Match::NotTo(cidr) => of_range(steps, DESTINATION_AT, *cidr, NOT_EQUAL),
            Match::To(cidr) => of_range(steps, DESTINATION_AT, *cidr, EQUAL),
            Match::NotIn(beginning) => of_device(steps, IN_DEVICE, beginning.as_bytes()),
            Match::NotOut(device) => {
                let mut name = device.as_bytes().to_vec();
                name.resize(DEVICE_NAME_BYTES, 0);
                of_device(steps, OUT_DEVICE, &name)
            }
            Match::NotOutAny(beginning) => of_device(steps, OUT_DEVICE, beginning.as_bytes()),
        };
    }
    let none = Attributes::default();
    let nothing_yet = none.clone().bytes(1, &[0; 8]).bytes(2, &[0; 8]);
    steps = steps.step("counter", &nothing_yet);
    steps = match rule.verdict {
        Verdict::Accept => decided(steps, ACCEPT),
        Verdict::Drop => decided(steps, DROP),
        Verdict::Masquerade => steps.step("masq", &none),
    };
    let mut user_data = vec![COMMENT, u8::try_from(comment.len() + 1).unwrap_or(u8::MAX)];
    user_data.extend_from_slice(comment.as_bytes());
    user_data.push(0);
    Attributes::default().text(1, table).text(2, chain).nested(4, &steps).bytes(7, &user_data)
}

fn decided(steps: Attributes, verdict: u32) -> Attributes {
    let none = Attributes::default();
    let code = none.clone().nested(2, &none.clone().number(1, verdict));
    steps.step("immediate", &none.number(1, VERDICT_REGISTER).nested(2, &code))
}

/// Demands that the name of a device begins otherwise.
fn of_device(steps: Attributes, which: u32, beginning: &[u8]) -> Attributes {
    let load = Attributes::default().number(1, REGISTER).number(2, which);
    compare(steps.step("meta", &load), beginning, NOT_EQUAL)
}

const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

/// Compares the first bits of an address.
fn of_range(steps: Attributes, at: u32, cidr: Cidr, how: u32) -> Attributes {
    let none = Attributes::default();
    let load = none.clone().number(1, REGISTER).number(2, 1).number(3, at).number(4, 4);
    let value = |bytes: [u8; 4]| Attributes::default().bytes(1, &bytes);
    let cut = none
        .number(1, REGISTER)
        .number(2, REGISTER)
        .number(3, 4)
        .nested(4, &value(cidr.mask().octets()))
        .nested(5, &value([0; 4]));
    let steps = steps.step("payload", &load).step("bitwise", &cut);
    compare(steps, &cidr.first().octets(), how)
}

fn compare(steps: Attributes, bytes: &[u8], how: u32) -> Attributes {
    let value = Attributes::default().bytes(1, bytes);
    steps.step("cmp", &Attributes::default().number(1, REGISTER).number(2, how).nested(3, &value))
}

/// Handle and comment of the rule that a message tells of, if it is of this table and chain.
pub(super) fn rules_of(message: &[u8], table: &str, chain: Option<&str>) -> Option<(u64, String)> {
    let body = message.get(HEADER + FILTER_HEADER..)?;
    let (mut handle, mut comment) = (0, String::new());
    for (kind, value) in attributes(body) {
        match kind {
            1 if text(value) != table => return None,
            2 if chain.is_some_and(|chain| text(value) != chain) => return None,
            3 => handle = u64::from_be_bytes(value.try_into().ok()?),
            7 => comment = told(value).unwrap_or_default(),
            _ => {}
        }
    }
    Some((handle, comment))
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

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & !NESTED;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_rule_is_read_back_by_its_comment() {
        let range = "10.64.0.0/10".parse().expect("a range");
        let rule = Rule { matches: vec![Match::From(range)], verdict: Verdict::Accept };
        let mut batch = Batch::new();
        batch.append_rule(("t", "c"), &rule, "why it is there");
        let (bytes, changes) = batch.finish().expect("a change");
        assert_eq!(changes, 1);
        let rule = &bytes[HEADER + FILTER_HEADER..];
        assert_eq!(rules_of(rule, "t", Some("c")), Some((0, "why it is there".to_owned())));
        assert_eq!(rules_of(rule, "other", None), None);
        assert_eq!(rules_of(rule, "t", Some("other")), None);
        assert!(Batch::new().finish().is_none(), "nothing to change");
    }

    #[test]
    fn broken_messages_are_no_rules() {
        for length in 0..40 {
            let bytes = vec![0xff; length];
            let _ = rules_of(&bytes, "t", None);
            assert_eq!(told(&bytes), None, "{length}");
        }
    }
}
