//! A dump: what a store holds at one revision, as bytes. Backups are made of it. Pure.
//!
//! It begins with a mark and the number of its format; then come frames: what it is, a length, the content, and the CRC-32 of
//! everything so far. So no byte can change, and no frame go, come or move, without being found out; the last frame says how
//! many records there must be. Invariant: what [`Reader`] has yielded was written so, in this order.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::model::{Key, Kind, Part, Revision, Time};
use crate::store::{Quarantined, Record, RecordKey, TXN_BYTES_MAX};

/// The newest format this program reads, and the one it writes.
pub const DUMP_FORMAT_VERSION: u32 = 1;
/// The most bytes of a frame's content: a record of the largest size, with its key.
pub const DUMP_FRAME_BYTES_MAX: usize = TXN_BYTES_MAX + (64 << 10);

const MARK: &[u8; 8] = b"orchdump";
/// What stands before the content of a frame, and behind it.
const FRAME_HEAD_BYTES: usize = 5;
const CHECKSUM_BYTES: usize = 4;

const HEADER: u8 = b'H';
const FILE: u8 = b'F';
const RECORD: u8 = b'R';
const UNREADABLE: u8 = b'Q';
const END: u8 = b'E';

/// What a dump says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DumpHeader {
    /// The revision at which every record was read.
    pub revision: Revision,
    /// When.
    pub taken_at: Time,
    /// The version of the program that wrote it.
    pub version: String,
}

/// A piece of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DumpItem {
    /// A file that belongs to the state and lies beside it, such as a key.
    File {
        /// Its path, below the directory where such files are.
        path: String,
        /// What is in it.
        content: Bytes,
    },
    /// A record.
    Record(Record),
    /// A record that could not be read, and so is not here.
    Unreadable(Quarantined),
}

/// Why bytes are no dump that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// Bytes are not what was written.
    #[error("the dump is damaged at byte {at}: {reason}")]
    Damaged {
        /// Where the damaged frame begins.
        at: u64,
        /// What is wrong.
        reason: String,
    },
    /// It is something else.
    #[error("this is no dump: it does not begin with \"orchdump\"")]
    Foreign,
    /// A newer program wrote it.
    #[error(
        "the dump has format version {found}, this program reads up to {DUMP_FORMAT_VERSION}: use the newer program"
    )]
    Newer {
        /// Its format.
        found: u32,
    },
    /// A piece has more bytes than there may be.
    #[error("{what} has {bytes} bytes, at most {DUMP_FRAME_BYTES_MAX} can be dumped")]
    TooLarge {
        /// Which piece.
        what: String,
        /// How many.
        bytes: usize,
    },
    /// It ends before its end.
    #[error(
        "the dump ends after {bytes} bytes, before its end: it was not written to the end, or not copied whole"
    )]
    Truncated {
        /// How many bytes there are.
        bytes: u64,
    },
}

/// Writes a dump, piece by piece.
#[derive(Debug)]
pub struct DumpWriter {
    checksum: crc32fast::Hasher,
    records: u64,
}

impl DumpWriter {
    /// Begins a dump; returns its first bytes.
    ///
    /// # Errors
    /// [`DumpError::TooLarge`].
    pub fn begin(header: &DumpHeader) -> Result<(Self, Bytes), DumpError> {
        let mut begun = Self { checksum: crc32fast::Hasher::new(), records: 0 };
        let mut bytes = BytesMut::new();
        bytes.put_slice(MARK);
        bytes.put_u32(DUMP_FORMAT_VERSION);
        begun.checksum.update(&bytes);
        let content = serde_json::to_vec(header).expect("a header has string keys");
        bytes.extend_from_slice(&begun.frame(HEADER, &content, "the header")?);
        Ok((begun, bytes.freeze()))
    }

    /// Writes a piece; returns its bytes, to be put behind the others.
    ///
    /// # Errors
    /// [`DumpError::TooLarge`].
    pub fn item(&mut self, item: &DumpItem) -> Result<Bytes, DumpError> {
        let mut content = BytesMut::new();
        match item {
            DumpItem::File { path, content: of_file } => {
                put_text(&mut content, path);
                content.put_slice(of_file);
                self.frame(FILE, &content, path)
            }
            DumpItem::Record(Record { key, revision, value }) => {
                let Key { kind, namespace, name } = &key.object;
                for text in [kind.record_name(), namespace, name] {
                    put_text(&mut content, text);
                }
                content.put_u8(match key.part {
                    Part::Main => 0,
                    Part::Status => 1,
                });
                content.put_u64(revision.0);
                content.put_slice(value);
                self.records += 1;
                self.frame(RECORD, &content, &key.object.to_string())
            }
            DumpItem::Unreadable(Quarantined { key, reason, .. }) => {
                put_text(&mut content, key);
                put_text(&mut content, reason);
                self.frame(UNREADABLE, &content, key)
            }
        }
    }

    /// Ends it; returns its last bytes.
    pub fn end(mut self) -> Bytes {
        let records = self.records.to_be_bytes();
        self.frame(END, &records, "the end").expect("8 bytes are few")
    }

    fn frame(&mut self, tag: u8, content: &[u8], what: &str) -> Result<Bytes, DumpError> {
        let bytes = content.len();
        let length = u32::try_from(bytes).ok().filter(|_| bytes <= DUMP_FRAME_BYTES_MAX);
        let Some(length) = length else {
            return Err(DumpError::TooLarge { what: what.to_owned(), bytes });
        };
        let mut frame = BytesMut::with_capacity(FRAME_HEAD_BYTES + bytes + CHECKSUM_BYTES);
        frame.put_u8(tag);
        frame.put_u32(length);
        frame.put_slice(content);
        self.checksum.update(&frame);
        let checksum = self.checksum.clone().finalize();
        frame.put_u32(checksum);
        // The checksum counts as well: then what follows depends on it.
        self.checksum.update(&checksum.to_be_bytes());
        Ok(frame.freeze())
    }
}

/// Reads a dump from pieces of any size.
#[derive(Debug, Default)]
pub struct DumpReader {
    buffer: BytesMut,
    /// How many bytes are behind us.
    passed: u64,
    checksum: crc32fast::Hasher,
    header: Option<DumpHeader>,
    has_begun: bool,
    has_ended: bool,
    records: u64,
}

impl DumpReader {
    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// What the dump says of itself, once that has been read: with the first piece at the latest.
    pub const fn header(&self) -> Option<&DumpHeader> {
        self.header.as_ref()
    }

    /// The next piece; `None` when more bytes are needed, or at the end.
    ///
    /// # Errors
    /// [`DumpError`] when there is none any more.
    pub fn next_item(&mut self) -> Result<Option<DumpItem>, DumpError> {
        if !self.has_begun && !self.begin()? {
            return Ok(None);
        }
        while let Some((tag, mut content)) = self.frame()? {
            match (tag, &self.header) {
                (HEADER, None) => {
                    let header = serde_json::from_slice(&content);
                    self.header = Some(header.map_err(|error| self.damaged(&error.to_string()))?);
                }
                (_, None) => return Err(self.damaged("it has no header")),
                (END, Some(_)) => {
                    if content.len() != 8 || content.get_u64() != self.records {
                        return Err(self.damaged("records are missing"));
                    }
                    self.has_ended = true;
                }
                (tag, Some(_)) => {
                    return item(tag, content).map(Some).map_err(|reason| self.damaged(&reason));
                }
            }
        }
        Ok(None)
    }

    /// Says whether everything has come, when no more bytes do.
    ///
    /// # Errors
    /// [`DumpError::Truncated`].
    pub fn finish(&self) -> Result<(), DumpError> {
        let bytes = self.passed + self.buffer.len() as u64;
        if self.has_ended { Ok(()) } else { Err(DumpError::Truncated { bytes }) }
    }

    /// Reads the beginning; whether it was there.
    fn begin(&mut self) -> Result<bool, DumpError> {
        let seen = self.buffer.len().min(MARK.len());
        if self.buffer[..seen] != MARK[..seen] {
            return Err(DumpError::Foreign);
        }
        if self.buffer.len() < MARK.len() + 4 {
            return Ok(false);
        }
        let begin = self.buffer.split_to(MARK.len() + 4);
        self.checksum.update(&begin);
        self.passed = begin.len() as u64;
        let found = (&begin[MARK.len()..]).get_u32();
        if found > DUMP_FORMAT_VERSION {
            return Err(DumpError::Newer { found });
        }
        self.has_begun = true;
        Ok(true)
    }

    /// Takes the next frame, if it is there to its end.
    fn frame(&mut self) -> Result<Option<(u8, Bytes)>, DumpError> {
        if self.has_ended && !self.buffer.is_empty() {
            return Err(self.damaged("something stands behind its end"));
        }
        if self.buffer.len() < FRAME_HEAD_BYTES {
            return Ok(None);
        }
        let length = (&self.buffer[1..FRAME_HEAD_BYTES]).get_u32() as usize;
        if length > DUMP_FRAME_BYTES_MAX {
            return Err(self.damaged(&format!("a frame of {length} bytes")));
        }
        if self.buffer.len() < FRAME_HEAD_BYTES + length + CHECKSUM_BYTES {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(FRAME_HEAD_BYTES + length).freeze();
        let found = self.buffer.get_u32();
        self.checksum.update(&frame);
        if self.checksum.clone().finalize() != found {
            return Err(self.damaged("the checksum does not fit"));
        }
        self.checksum.update(&found.to_be_bytes());
        self.passed += (frame.len() + CHECKSUM_BYTES) as u64;
        self.records += u64::from(frame[0] == RECORD);
        let tag = frame.get_u8();
        frame.advance(4);
        Ok(Some((tag, frame)))
    }

    fn damaged(&self, reason: &str) -> DumpError {
        DumpError::Damaged { at: self.passed, reason: reason.to_owned() }
    }
}

fn put_text(bytes: &mut BytesMut, text: &str) {
    // Longer ones make the frame too large.
    bytes.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    bytes.put_slice(text.as_bytes());
}

fn text(bytes: &mut Bytes) -> Result<String, String> {
    let short = || "a text is cut off".to_owned();
    let length = bytes.try_get_u32().map_err(|_| short())? as usize;
    if length > bytes.len() {
        return Err(short());
    }
    String::from_utf8(bytes.split_to(length).into()).map_err(|_| "a text is not UTF-8".to_owned())
}

fn item(tag: u8, mut content: Bytes) -> Result<DumpItem, String> {
    match tag {
        FILE => Ok(DumpItem::File { path: text(&mut content)?, content }),
        RECORD => {
            let (kind, namespace) = (text(&mut content)?, text(&mut content)?);
            let name = text(&mut content)?;
            let kind =
                Kind::from_record_name(&kind).ok_or_else(|| format!("kind {kind:?} is unknown"))?;
            let object = Key { kind, namespace: namespace.into(), name: name.into() };
            let part = match content.try_get_u8() {
                Ok(0) => Part::Main,
                Ok(1) => Part::Status,
                other => return Err(format!("part {other:?} is unknown")),
            };
            let revision = content.try_get_u64().map_err(|_| "a record is cut off".to_owned())?;
            let key = RecordKey { object, part };
            Ok(DumpItem::Record(Record { key, revision: Revision(revision), value: content }))
        }
        UNREADABLE => {
            let (key, reason) = (text(&mut content)?, text(&mut content)?);
            Ok(DumpItem::Unreadable(Quarantined { key, reason, revision: None }))
        }
        other => Err(format!("a frame {:?} is unknown", char::from(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> DumpHeader {
        let taken_at = Time::from_seconds(1_800_000_000);
        DumpHeader { revision: Revision(7), taken_at, version: "0.1.0".to_owned() }
    }

    fn items() -> Vec<DumpItem> {
        let custom = Kind::from_record_name("Lamp.lamps.example.com:Namespaced").expect("a kind");
        let record = |object, part, value: &'static str| {
            let key = RecordKey { object, part };
            DumpItem::Record(Record { key, revision: Revision(3), value: value.into() })
        };
        vec![
            DumpItem::File { path: "pki/root.crt".to_owned(), content: "PEM".into() },
            record(Key::pod("default", "web"), Part::Main, "{}"),
            record(Key::pod("default", "web"), Part::Status, ""),
            record(Key::new(custom, "default", "it"), Part::Main, "\u{e4}"),
            DumpItem::Unreadable(Quarantined {
                key: "Cat/a/b".into(),
                reason: "no kind".into(),
                revision: None,
            }),
        ]
    }

    fn dump() -> Vec<u8> {
        let (mut writer, begin) = DumpWriter::begin(&header()).expect("small");
        let mut bytes = begin.to_vec();
        for item in items() {
            bytes.extend_from_slice(&writer.item(&item).expect("small"));
        }
        bytes.extend_from_slice(&writer.end());
        bytes
    }

    /// Reads a dump that comes in pieces of a size.
    fn read(bytes: &[u8], size: usize) -> Result<(DumpReader, Vec<DumpItem>), DumpError> {
        let (mut reader, mut items) = (DumpReader::default(), Vec::new());
        for piece in bytes.chunks(size) {
            reader.push(piece);
            while let Some(item) = reader.next_item()? {
                items.push(item);
            }
        }
        reader.finish()?;
        Ok((reader, items))
    }

    #[test]
    fn a_dump_is_read_as_it_was_written_whatever_its_pieces() {
        for size in [1, 7, usize::MAX] {
            let (reader, found) = read(&dump(), size).expect("whole");
            assert_eq!(found, items());
            assert_eq!(reader.header(), Some(&header()));
        }
    }

    #[test]
    fn no_changed_byte_and_no_missing_end_goes_unnoticed() {
        let dump = dump();
        for at in 0..dump.len() {
            let mut damaged = dump.clone();
            damaged[at] ^= 0x20;
            let error = read(&damaged, 64).map(|_| ()).expect_err("one bit");
            assert!(at >= 8 || error == DumpError::Foreign, "{at}: {error}");
            let truncated = read(&dump[..at], 64).map(|_| ()).expect_err("cut off");
            assert_eq!(truncated, DumpError::Truncated { bytes: at as u64 });
        }
        let more = [&dump[..], b"x"].concat();
        assert!(matches!(read(&more, 64), Err(DumpError::Damaged { .. })));
    }

    #[test]
    fn a_frame_that_was_left_out_or_moved_is_noticed() {
        let (mut writer, begin) = DumpWriter::begin(&header()).expect("small");
        let frames: Vec<_> = items().iter().map(|item| writer.item(item).expect("small")).collect();
        let end = writer.end();
        for order in [&[0, 2, 3, 4][..], &[0, 2, 1, 3, 4], &[0, 1, 1, 2, 3, 4]] {
            let mut bytes = begin.to_vec();
            order.iter().for_each(|n| bytes.extend_from_slice(&frames[*n]));
            bytes.extend_from_slice(&end);
            assert!(matches!(read(&bytes, 64), Err(DumpError::Damaged { .. })), "{order:?}");
        }
    }

    #[test]
    fn a_newer_dump_and_a_piece_that_is_too_large_are_refused() {
        let mut newer = dump();
        newer[11] = 2;
        assert_eq!(read(&newer, 64).map(|_| ()), Err(DumpError::Newer { found: 2 }));
        let (mut writer, _) = DumpWriter::begin(&header()).expect("small");
        let content = vec![0; DUMP_FRAME_BYTES_MAX + 1].into();
        let refused = writer.item(&DumpItem::File { path: "big".to_owned(), content });
        assert!(matches!(refused, Err(DumpError::TooLarge { .. })));
    }
}
