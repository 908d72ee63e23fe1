//! Frames of SPDY/3.1, as far as port-forward needs them: streams, data, pings and their ends. No flow control: the client
//! kubectl is built on has none either.

use std::sync::LazyLock;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// The most bytes of a frame; clients send pieces of at most 32 KiB.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// The most bytes of headers.
const HEADER_BYTES_MAX: usize = 64 * 1024;
const VERSION: u16 = 3;
/// The flag of a stream's last frame.
const FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;

/// What headers are compressed with: words that are frequent in them, each with its length (SPDY/3, §2.6.10.1).
static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
        accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
        content-length content-location content-md5 content-range content-type date etag expect expires from host \
        if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards \
        pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding \
        upgrade user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public \
        set-cookie keep-alive origin";
    const REST: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
        Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 \
        Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr \
        May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, \
        GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,\
        text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";
    let mut dictionary = Vec::with_capacity(1_423);
    for word in WORDS.split(' ') {
        dictionary.put_u32(u32::try_from(word.len()).unwrap_or_default());
        dictionary.extend(word.replace('_', " ").bytes());
    }
    dictionary.extend(REST.bytes());
    dictionary
});

/// What a client sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Bytes of a stream.
    Data { stream: u32, bytes: Bytes, is_last: bool },
    /// The client ends the connection.
    GoAway,
    /// Something that needs no answer.
    Other,
    /// To be sent back.
    Ping(u32),
    /// A stream is broken off.
    Reset(u32),
    /// A stream begins.
    Stream { stream: u32, headers: Vec<(String, String)>, is_last: bool },
}

/// Why a connection cannot go on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SpdyError {
    #[error("a frame of {0} bytes is too large")]
    TooLarge(usize),
    #[error("version {0} of SPDY is not spoken here")]
    Version(u16),
    #[error("headers cannot be read")]
    Headers,
}

/// Reads frames from bytes that come in any pieces.
pub(super) struct Reader {
    buffer: BytesMut,
    headers: Decompress,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { buffer: BytesMut::new(), headers: Decompress::new(true) }
    }

    /// Takes in bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next frame that is there as a whole.
    ///
    /// # Errors
    /// [`SpdyError`]: nothing that comes after can be understood.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        let Some(head) = self.buffer.first_chunk::<8>() else { return Ok(None) };
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let flags = head[4];
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(SpdyError::TooLarge(length));
        }
        if self.buffer.len() < 8 + length {
            return Ok(None);
        }
        self.buffer.advance(8);
        let mut body = self.buffer.split_to(length).freeze();
        let is_last = flags & FIN != 0;
        if first >> 31 == 0 {
            return Ok(Some(Frame::Data { stream: first, bytes: body, is_last }));
        }
        let version = (first >> 16 & 0x7fff) as u16;
        if version != VERSION {
            return Err(SpdyError::Version(version));
        }
        let kind = (first & 0xffff) as u16;
        if kind == GOAWAY {
            return Ok(Some(Frame::GoAway));
        }
        if !matches!(kind, SYN_STREAM | RST_STREAM | PING) {
            return Ok(Some(Frame::Other));
        }
        let id = body.try_get_u32().map_err(|_| SpdyError::Headers)?;
        match kind {
            SYN_STREAM => {
                // Two more words: the associated stream, priority and slot.
                let block = body.get(6..).ok_or(SpdyError::Headers)?;
                let headers = self.read_headers(block)?;
                Ok(Some(Frame::Stream { stream: id & 0x7fff_ffff, headers, is_last }))
            }
            RST_STREAM => Ok(Some(Frame::Reset(id & 0x7fff_ffff))),
            _ => Ok(Some(Frame::Ping(id))),
        }
    }

    fn read_headers(&mut self, block: &[u8]) -> Result<Vec<(String, String)>, SpdyError> {
        let mut plain = Vec::with_capacity(1024);
        let mut left = block;
        while !left.is_empty() {
            if plain.len() == plain.capacity() {
                plain.reserve(plain.capacity());
            }
            if plain.len() > HEADER_BYTES_MAX {
                return Err(SpdyError::Headers);
            }
            let before = self.headers.total_in();
            let outcome = self.headers.decompress_vec(left, &mut plain, FlushDecompress::Sync);
            let taken = usize::try_from(self.headers.total_in() - before).unwrap_or(left.len());
            left = left.get(taken..).unwrap_or_default();
            match outcome {
                Ok(_) if taken == 0 && plain.len() < plain.capacity() => break,
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.headers.set_dictionary(&DICTIONARY).map_err(|_| SpdyError::Headers)?;
                }
                Err(_) => return Err(SpdyError::Headers),
            }
        }
        pairs(&plain).ok_or(SpdyError::Headers)
    }
}

fn pairs(mut plain: &[u8]) -> Option<Vec<(String, String)>> {
    let text = |plain: &mut &[u8]| {
        let length = plain.try_get_u32().ok()? as usize;
        let (text, rest) = plain.split_at_checked(length)?;
        *plain = rest;
        String::from_utf8(text.to_vec()).ok()
    };
    let count = plain.try_get_u32().ok()?;
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push((text(&mut plain)?, text(&mut plain)?));
    }
    Some(pairs)
}

/// Writes frames.
pub(super) struct Writer {
    headers: Compress,
}

impl Writer {
    pub(super) fn new() -> Self {
        let mut headers = Compress::new(Compression::default(), true);
        // The stream is new: a dictionary can be set.
        let _ = headers.set_dictionary(&DICTIONARY);
        Self { headers }
    }

    /// Accepts a stream, without headers.
    pub(super) fn reply(&mut self, stream: u32) -> Bytes {
        let mut block = Vec::with_capacity(64);
        let none = 0u32.to_be_bytes();
        let _ = self.headers.compress_vec(&none, &mut block, FlushCompress::Sync);
        let mut body = BytesMut::with_capacity(4 + block.len());
        body.put_u32(stream);
        body.put_slice(&block);
        control(SYN_REPLY, &body)
    }
}

/// Sends a ping back.
pub(super) fn pong(id: u32) -> Bytes {
    control(PING, &id.to_be_bytes())
}

/// Bytes of a stream; the last ones with `is_last`.
pub(super) fn data(stream: u32, bytes: &[u8], is_last: bool) -> Bytes {
    frame(stream, if is_last { FIN } else { 0 }, bytes)
}

fn control(kind: u16, body: &[u8]) -> Bytes {
    frame(1 << 31 | u32::from(VERSION) << 16 | u32::from(kind), 0, body)
}

fn frame(first: u32, flags: u8, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(8 + body.len());
    frame.put_u32(first);
    frame.put_u8(flags);
    frame.put_uint(body.len() as u64, 3);
    frame.put_slice(body);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a stream's beginning as a client does.
    fn syn_stream(client: &mut Compress, stream: u32, headers: &[(&str, &str)]) -> Bytes {
        let mut plain = BytesMut::new();
        plain.put_u32(u32::try_from(headers.len()).expect("few"));
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.put_u32(u32::try_from(text.len()).expect("short"));
            plain.put_slice(text.as_bytes());
        }
        let mut block = Vec::with_capacity(4096);
        client.compress_vec(&plain, &mut block, FlushCompress::Sync).expect("compressed");
        let body = [&stream.to_be_bytes()[..], &[0; 6], &block].concat();
        control(SYN_STREAM, &body)
    }

    fn client() -> Compress {
        let mut client = Compress::new(Compression::best(), true);
        client.set_dictionary(&DICTIONARY).expect("a new stream");
        client
    }

    #[test]
    fn the_dictionary_is_that_of_the_specification() {
        assert_eq!(DICTIONARY.len(), 1_423);
        let (mut a, mut b) = (1u32, 0u32);
        for byte in DICTIONARY.iter() {
            a = (a + u32::from(*byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        assert_eq!(b << 16 | a, 0xe3c6_a7c2, "its checksum, which peers send");
    }

    #[test]
    fn streams_and_data_are_read_in_whatever_pieces_they_come() {
        let mut client = client();
        let headers = [("streamtype", "data"), ("port", "80"), ("requestid", "0")];
        let sent = [
            syn_stream(&mut client, 1, &[("streamtype", "error"), ("port", "80")]),
            syn_stream(&mut client, 3, &headers),
            data(3, b"hello", true),
            pong(7),
        ]
        .concat();
        let mut reader = Reader::new();
        let mut frames = Vec::new();
        for byte in sent {
            reader.feed(&[byte]);
            frames.extend(reader.next().expect("readable"));
        }
        let [Frame::Stream { stream: 1, .. }, second, third, fourth] = frames.as_slice() else {
            panic!("{frames:?}")
        };
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        assert_eq!(*second, Frame::Stream { stream: 3, headers, is_last: false });
        let bytes = Bytes::from_static(b"hello");
        assert_eq!(*third, Frame::Data { stream: 3, bytes, is_last: true });
        assert_eq!(*fourth, Frame::Ping(7));
    }

    #[test]
    fn replies_can_be_read_by_who_has_the_dictionary() {
        let mut writer = Writer::new();
        let mut inflate = Decompress::new(true);
        for stream in [1, 3] {
            let reply = writer.reply(stream);
            assert_eq!(&reply[..4], &[0x80, 3, 0, 2]);
            let mut plain = Vec::with_capacity(64);
            let block = &reply[12..];
            if inflate.decompress_vec(block, &mut plain, FlushDecompress::Sync).is_err() {
                inflate.set_dictionary(&DICTIONARY).expect("asked for");
                let at = usize::try_from(inflate.total_in()).expect("small");
                inflate
                    .decompress_vec(&block[at..], &mut plain, FlushDecompress::Sync)
                    .expect("the right dictionary");
            }
            assert_eq!(plain, 0u32.to_be_bytes());
        }
    }

    #[test]
    fn what_is_broken_ends_the_connection() {
        let check = |bytes: &[u8], error| {
            let mut reader = Reader::new();
            reader.feed(bytes);
            assert_eq!(reader.next(), Err(error));
        };
        check(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff], SpdyError::TooLarge(0x00ff_ffff));
        check(&[0x80, 2, 0, 1, 0, 0, 0, 0], SpdyError::Version(2));
        check(&[0x80, 3, 0, 1, 0, 0, 0, 2, 0, 0], SpdyError::Headers);
        let nonsense = control(SYN_STREAM, &[0xff; 40]);
        check(&nonsense, SpdyError::Headers);
    }
}
