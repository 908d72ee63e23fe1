//! What the bytes in the tables mean: keys as columns, checksums, and the encoding of a batch.
//!
//! Invariant: decoding bytes that were damaged or written by a newer version gives an error, never a wrong value.

use bytes::Bytes;
use orchestrator_core::model::{Key, Kind, Part, Revision};
use orchestrator_core::store::{Batch, RecordChange, RecordKey};

/// The version of a row of `record` and of `log` that this program writes.
pub(crate) const ROW_VERSION: i64 = 1;

/// The number that stands for a part.
pub(crate) const fn part_code(part: Part) -> i64 {
    match part {
        Part::Main => 0,
        Part::Status => 1,
    }
}

fn part_of(code: i64) -> Result<Part, String> {
    match code {
        0 => Ok(Part::Main),
        1 => Ok(Part::Status),
        other => Err(format!("part {other} is unknown")),
    }
}

/// Makes a key of the texts and numbers of a row.
pub(crate) fn key(
    kind: &[u8],
    namespace: &[u8],
    name: &[u8],
    part: i64,
) -> Result<RecordKey, String> {
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| "key is not UTF-8".to_owned());
    let (kind, namespace, name) = (text(kind)?, text(namespace)?, text(name)?);
    let kind = Kind::from_record_name(kind).ok_or_else(|| format!("kind {kind:?} is unknown"))?;
    let object = Key { kind, namespace: namespace.into(), name: name.into() };
    Ok(RecordKey { object, part: part_of(part)? })
}

/// The checksum of a row of `record`: of its key, revision and value.
pub(crate) fn record_checksum(key: &RecordKey, revision: Revision, value: &[u8]) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    for text in [key.object.kind.record_name(), &key.object.namespace, &key.object.name] {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.update(&part_code(key.part).to_le_bytes());
    hasher.update(&revision.0.to_le_bytes());
    hasher.update(value);
    i64::from(hasher.finalize())
}

/// The checksum of a row of `log`.
pub(crate) fn log_checksum(revision: Revision, batch: &[u8]) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&revision.0.to_le_bytes());
    hasher.update(batch);
    i64::from(hasher.finalize())
}

/// Appends one change to an encoded batch: each part of the key and the value with its length before it.
pub(crate) fn encode_change(buffer: &mut Vec<u8>, key: &RecordKey, value: Option<&[u8]>) {
    put(buffer, key.object.kind.record_name().as_bytes());
    put(buffer, key.object.namespace.as_bytes());
    put(buffer, key.object.name.as_bytes());
    buffer.push(part_code(key.part) as u8);
    buffer.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(buffer, value);
    }
}

/// Reads a batch back.
pub(crate) fn decode_batch(revision: Revision, encoded: &[u8]) -> Result<Batch, String> {
    let mut rest = encoded;
    let mut changes = Vec::new();
    while !rest.is_empty() {
        let (kind, namespace, name) = (take(&mut rest)?, take(&mut rest)?, take(&mut rest)?);
        let key = key(kind, namespace, name, i64::from(take_byte(&mut rest)?))?;
        let value = match take_byte(&mut rest)? {
            0 => None,
            1 => Some(Bytes::copy_from_slice(take(&mut rest)?)),
            other => return Err(format!("change {other} is unknown")),
        };
        changes.push(RecordChange { key, value });
    }
    Ok(Batch { revision, changes })
}

fn put(buffer: &mut Vec<u8>, bytes: &[u8]) {
    buffer.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    buffer.extend_from_slice(bytes);
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let cut = || "batch is cut short".to_owned();
    let (length, tail) = rest.split_first_chunk().ok_or_else(cut)?;
    let (bytes, tail) =
        tail.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(cut)?;
    *rest = tail;
    Ok(bytes)
}

fn take_byte(rest: &mut &[u8]) -> Result<u8, String> {
    let (byte, tail) = rest.split_first().ok_or("batch is cut short")?;
    *rest = tail;
    Ok(*byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded() -> (Batch, Vec<u8>) {
        let change =
            |key, value: Option<&'static str>| RecordChange { key, value: value.map(Bytes::from) };
        let changes = vec![
            change(RecordKey::main(Key::pod("default", "web")), Some("{}")),
            change(RecordKey::status(Key::node("n1")), None),
            change(RecordKey::status(Key::node("n2")), Some("")),
        ];
        let mut buffer = Vec::new();
        for change in &changes {
            encode_change(&mut buffer, &change.key, change.value.as_deref());
        }
        (Batch { revision: Revision(7), changes }, buffer)
    }

    #[test]
    fn a_batch_is_read_as_it_was_written() {
        let (batch, buffer) = encoded();
        assert_eq!(decode_batch(Revision(7), &buffer), Ok(batch));
    }

    #[test]
    fn a_batch_cut_anywhere_inside_a_change_is_an_error_or_fewer_changes() {
        let (batch, buffer) = encoded();
        for end in 0..buffer.len() {
            if let Ok(part) = decode_batch(Revision(7), &buffer[..end]) {
                assert!(batch.changes.starts_with(&part.changes) && part != batch, "{end}");
            }
        }
    }

    #[test]
    fn the_checksum_covers_key_revision_and_value() {
        let key = RecordKey::main(Key::pod("a", "b"));
        let sum = record_checksum(&key, Revision(1), b"x");
        assert_ne!(sum, record_checksum(&RecordKey::status(Key::pod("a", "b")), Revision(1), b"x"));
        assert_ne!(sum, record_checksum(&RecordKey::main(Key::pod("ab", "")), Revision(1), b"x"));
        assert_ne!(sum, record_checksum(&key, Revision(2), b"x"));
        assert_ne!(sum, record_checksum(&key, Revision(1), b"y"));
    }
}
