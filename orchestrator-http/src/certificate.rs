//! Whom a client certificate is of: its common name is the user, its organizations are the groups; of a node, its serial
//! number is the node's uid.
//!
//! Reads only what is needed of certificates that our own authority has signed, and that TLS has checked.

use orchestrator_core::api::{Caller, GROUP_NODES, NODE_USER_PREFIX};

use crate::api::Transport;

/// The object identifiers 2.5.4.3 (common name) and 2.5.4.10 (organization).
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
/// The object identifier 2.5.4.5 (serial number, of a subject).
pub(crate) const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];
const SERIAL_NUMBER_DER: &[u8] = &[0x55, 0x04, 0x05];

/// Tells who presents a certificate; `None` when it names nobody.
pub(crate) fn transport(certificate: &[u8]) -> Option<Transport> {
    let fields = tbs_fields(certificate)?;
    let mut subject = fields.subject;
    let (mut name, mut groups, mut serial) = (None, Vec::new(), None);
    while !subject.is_empty() {
        let (_, set, rest) = element(subject)?;
        subject = rest;
        let (_, attribute, _) = element(set)?;
        let (_, id, value) = element(attribute)?;
        let (_, value, _) = element(value)?;
        let value = std::str::from_utf8(value).ok()?.to_owned();
        match id {
            COMMON_NAME => name = Some(value),
            ORGANIZATION => groups.push(value),
            SERIAL_NUMBER_DER => serial = Some(value),
            _ => {}
        }
    }
    let name = name.filter(|name| !name.is_empty())?;
    match name.strip_prefix(NODE_USER_PREFIX) {
        Some(node) if groups.iter().any(|group| group == GROUP_NODES) => {
            let uid = serial?.parse().ok()?;
            Some(Transport::Node { name: node.to_owned(), uid })
        }
        _ => Some(Transport::Known(Caller::user(name, groups))),
    }
}

/// Reads when a certificate expires, in seconds since the Unix epoch.
pub(crate) fn not_after(certificate: &[u8]) -> Option<i64> {
    validity(certificate).map(|(_, until)| until)
}

/// Reads from when until when the first certificate in a PEM text is good, in seconds since the Unix epoch.
pub fn validity_of_pem(pem: &str) -> Option<(i64, i64)> {
    use rustls::pki_types::pem::PemObject as _;
    let certificate = rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    validity(&certificate)
}

/// Reads from when until when a certificate is good, in seconds since the Unix epoch.
pub(crate) fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    let (from_tag, from, rest) = element(tbs_fields(certificate)?.validity)?;
    let (until_tag, until, _) = element(rest)?;
    Some((seconds(from_tag, from)?, seconds(until_tag, until)?))
}

fn seconds(tag: u8, time: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(time).ok()?.strip_suffix('Z')?;
    // UTCTime has two digits of the year, up to 2049.
    let text = if tag == 0x17 { format!("20{text}") } else { text.to_owned() };
    let part = |from: usize, to: usize| text.get(from..to);
    let iso = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(8, 10)?,
        part(10, 12)?,
        part(12, 14)?
    );
    iso.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

struct TbsFields<'a> {
    validity: &'a [u8],
    subject: &'a [u8],
}

/// Walks into Certificate { TBS { \[version\], serial, algorithm, issuer, validity, subject, … } }.
fn tbs_fields(certificate: &[u8]) -> Option<TbsFields<'_>> {
    const SEQUENCE: u8 = 0x30;
    let (tag, certificate, _) = element(certificate)?;
    let (tbs_tag, mut tbs, _) = element(certificate)?;
    if tag != SEQUENCE || tbs_tag != SEQUENCE {
        return None;
    }
    if tbs.first() == Some(&0xa0) {
        tbs = element(tbs)?.2;
    }
    for _serial_algorithm_issuer in 0..3 {
        tbs = element(tbs)?.2;
    }
    let (_, validity, rest) = element(tbs)?;
    let (_, subject, _) = element(rest)?;
    Some(TbsFields { validity, subject })
}

/// Splits one DER element off: (tag, content, rest).
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, bytes) = bytes.split_first()?;
    let (&first, mut bytes) = bytes.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        length = 0;
        for _ in 0..usize::from(first & 0x7f).min(4) {
            let (&byte, rest) = bytes.split_first()?;
            length = length << 8 | usize::from(byte);
            bytes = rest;
        }
    }
    Some((tag, bytes.get(..length)?, bytes.get(length..)?))
}
