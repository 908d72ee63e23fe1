//! Kubernetes' channels: the first byte of each message says which of several streams it belongs to.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

/// Versions that are spoken, the best first. v5 can close a single channel.
pub(super) const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

pub(super) const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
/// How it ended, as a Status.
pub(super) const STATUS: u8 = 3;
pub(super) const RESIZE: u8 = 4;
/// Closes the channel that the next byte names.
pub(super) const CLOSE: u8 = 255;

/// Puts the channel before bytes.
pub(super) fn message(channel: u8, bytes: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(1 + bytes.len());
    message.put_u8(channel);
    message.put_slice(bytes);
    message.freeze()
}

/// Splits the channel from a message; `None` for an empty one.
pub(super) fn split(mut message: Bytes) -> Option<(u8, Bytes)> {
    let channel = *message.first()?;
    Some((channel, message.split_off(1)))
}

/// Reads the size of a terminal: `{"Width":80,"Height":24}`.
pub(super) fn size(bytes: &[u8]) -> Option<(u16, u16)> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let number = |name: &str| value.get(name)?.as_u64().and_then(|it| u16::try_from(it).ok());
    Some((number("Width")?, number("Height")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_split_where_they_were_joined() {
        let joined = message(STDOUT, b"hello");
        assert_eq!(split(joined), Some((STDOUT, Bytes::from_static(b"hello"))));
        assert_eq!(split(message(STDIN, b"")), Some((STDIN, Bytes::new())));
        assert_eq!(split(Bytes::new()), None);
    }

    #[test]
    fn a_size_is_two_numbers() {
        assert_eq!(size(br#"{"Width":80,"Height":24}"#), Some((80, 24)));
        for wrong in
            [&b"{}"[..], b"", br#"{"Width":-1,"Height":24}"#, br#"{"Width":70000,"Height":1}"#]
        {
            assert_eq!(size(wrong), None);
        }
    }
}
