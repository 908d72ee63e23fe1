//! What a sealed value is made of. Pure but for where the salt comes from.
//!
//! ```text
//! orchseal | 1 | key's id | object's uid | salt, 32 bytes | AES-256-GCM of the value, with its tag
//! ```
//!
//! Each value has a key of its own, which HKDF-SHA-256 derives from the key of the ring and the salt. What is before the salt, and the
//! kind, namespace, name and part of the record, are authenticated with it: a sealed value that is put into the place of another one, or
//! given another uid, does not open. Invariant: what opens is what was sealed, for this record.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use orchestrator_core::model::Part;
use orchestrator_core::store::RecordKey;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};

use crate::keys::{KEY_BYTES, KeyError, KeyId, KeyRing, random};

const MARK: &[u8; 8] = b"orchseal";
const VERSION: u8 = 1;
const SALT_BYTES: usize = 32;
const PURPOSE: &[u8] = b"orchestrator seal 1";
/// The longest id or uid.
const TEXT_BYTES_MAX: usize = 255;

/// Why a sealed value does not open; it is left as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It was changed, belongs to another object, or the key of this id is another one.
    #[error(
        "the secret does not open with key {key} of {file}: it was changed, or the key is not the one that sealed it"
    )]
    Damaged {
        /// The key's id.
        key: KeyId,
        /// The file with the keys.
        file: String,
    },
    /// Nothing can be made of it.
    #[error("the sealed value cannot be read: {0}")]
    Malformed(&'static str),
    /// Its key is not there.
    #[error(
        "the secret is sealed with key {key}, which is not in {file}; put that key's line there"
    )]
    NoKey {
        /// The key's id.
        key: KeyId,
        /// The file with the keys.
        file: String,
    },
}

/// Whether a stored value is sealed.
pub fn is_sealed(value: &[u8]) -> bool {
    value.starts_with(MARK)
}

/// The key that sealed a value; `None` when it is not sealed, or cannot be read.
pub(crate) fn sealed_by(value: &Bytes) -> Option<KeyId> {
    Parsed::read(value.clone()).ok().map(|parsed| parsed.key)
}

/// Seals the value of a record.
pub(crate) fn seal(ring: &KeyRing, key: &RecordKey, value: &[u8]) -> Result<Bytes, KeyError> {
    let id = ring.current();
    let of_ring = ring.key(&id).ok_or(KeyError::Random)?;
    let head = head(&id, &uid(value));
    let salt: [u8; SALT_BYTES] = random()?;
    let mut sealed = BytesMut::with_capacity(head.len() + SALT_BYTES + value.len() + 16);
    sealed.put_slice(&head);
    sealed.put_slice(&salt);
    let mut content = value.to_vec();
    let identity = Aad::from(identity(&head, key));
    derived(&of_ring, &salt)
        .seal_in_place_append_tag(nonce(), identity, &mut content)
        .map_err(|_| KeyError::Random)?;
    sealed.put_slice(&content);
    Ok(sealed.freeze())
}

/// Opens the value of a record; one that is not sealed is given back as it is.
///
/// # Errors
/// [`OpenError`]; nothing is lost by it.
pub fn open(ring: &KeyRing, key: &RecordKey, value: &Bytes) -> Result<Bytes, OpenError> {
    if !is_sealed(value) {
        return Ok(value.clone());
    }
    let Parsed { head, key: id, salt, content } = Parsed::read(value.clone())?;
    let file = || ring.path().display().to_string();
    // It may have been put there since.
    let of_ring = ring.key(&id).or_else(|| ring.reload().ok().and_then(|()| ring.key(&id)));
    let Some(of_ring) = of_ring else {
        return Err(OpenError::NoKey { key: id, file: file() });
    };
    let mut content = content.to_vec();
    let identity = Aad::from(identity(&head, key));
    match derived(&of_ring, &salt).open_in_place(nonce(), identity, &mut content) {
        Ok(opened) => Ok(Bytes::copy_from_slice(opened)),
        Err(_) => Err(OpenError::Damaged { key: id, file: file() }),
    }
}

/// A sealed value, taken apart.
struct Parsed {
    head: Bytes,
    key: KeyId,
    salt: Bytes,
    content: Bytes,
}

impl Parsed {
    fn read(value: Bytes) -> Result<Self, OpenError> {
        let short = || OpenError::Malformed("it is cut off");
        let mut rest = value.clone();
        if !is_sealed(&rest) {
            return Err(OpenError::Malformed("it is not sealed"));
        }
        rest.advance(MARK.len());
        if rest.try_get_u8().map_err(|_| short())? != VERSION {
            return Err(OpenError::Malformed("a newer version sealed it"));
        }
        let id = text(&mut rest).ok_or_else(short)?;
        let key = std::str::from_utf8(&id).ok().and_then(KeyId::parse);
        let key = key.ok_or(OpenError::Malformed("its key has no good name"))?;
        text(&mut rest).ok_or_else(short)?;
        let head = value.slice(..value.len() - rest.len());
        if rest.len() < SALT_BYTES {
            return Err(short());
        }
        let salt = rest.split_to(SALT_BYTES);
        Ok(Self { head, key, salt, content: rest })
    }
}

fn head(id: &KeyId, uid: &str) -> Bytes {
    let mut head = BytesMut::new();
    head.put_slice(MARK);
    head.put_u8(VERSION);
    put_text(&mut head, id.as_str().as_bytes());
    put_text(&mut head, uid.as_bytes());
    head.freeze()
}

/// What is authenticated with the value: what it says of itself, and whose it is.
fn identity(head: &[u8], key: &RecordKey) -> Vec<u8> {
    let part: &[u8] = match key.part {
        Part::Main => b"main",
        Part::Status => b"status",
    };
    let object = &key.object;
    let texts = [
        object.kind.record_name().as_bytes(),
        object.namespace.as_bytes(),
        object.name.as_bytes(),
        part,
    ];
    let mut identity = head.to_vec();
    for text in texts {
        identity.extend_from_slice(&(text.len() as u64).to_be_bytes());
        identity.extend_from_slice(text);
    }
    identity
}

/// The key of one value.
fn derived(of_ring: &[u8; KEY_BYTES], salt: &[u8]) -> LessSafeKey {
    let secret = Salt::new(HKDF_SHA256, salt).extract(of_ring);
    let info = [PURPOSE];
    let key = secret.expand(&info, &AES_256_GCM).expect("32 bytes are few for HKDF");
    LessSafeKey::new(UnboundKey::from(key))
}

/// Always the same: each derived key seals one value and no other.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// The uid of the object in a value; empty if it has none.
fn uid(value: &[u8]) -> String {
    let object: Option<serde_json::Value> = serde_json::from_slice(value).ok();
    let uid = object.as_ref().and_then(|object| object.pointer("/metadata/uid")?.as_str());
    uid.filter(|uid| uid.len() <= TEXT_BYTES_MAX).unwrap_or_default().to_owned()
}

fn put_text(bytes: &mut BytesMut, text: &[u8]) {
    // Ids and uids are short.
    let length = text.len().min(TEXT_BYTES_MAX);
    bytes.put_u8(u8::try_from(length).unwrap_or(u8::MAX));
    bytes.put_slice(&text[..length]);
}

fn text(bytes: &mut Bytes) -> Option<Bytes> {
    let length = usize::from(bytes.try_get_u8().ok()?);
    (length <= bytes.len()).then(|| bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use orchestrator_core::model::{Key, Kind};

    use super::*;

    const VALUE: &[u8] = br#"{"metadata":{"uid":"u-1"},"data":{"password":"canary"}}"#;

    fn ring() -> (tempfile::TempDir, KeyRing) {
        let dir = tempfile::tempdir().expect("a directory");
        let ring = KeyRing::open(dir.path().join("keys")).expect("made");
        (dir, ring)
    }

    fn key(namespace: &str, name: &str) -> RecordKey {
        RecordKey::main(Key::new(Kind::Secret, namespace, name))
    }

    #[test]
    fn what_was_sealed_opens_and_shows_nothing() {
        let (_dir, ring) = ring();
        let sealed = seal(&ring, &key("a", "b"), VALUE).expect("sealed");
        assert_eq!(open(&ring, &key("a", "b"), &sealed).expect("opened"), VALUE);
        assert!(!sealed.windows(6).any(|six| six == b"canary"));
        let again = seal(&ring, &key("a", "b"), VALUE).expect("sealed");
        assert_ne!(sealed, again, "equal secrets do not look equal");
        assert_eq!(sealed_by(&sealed), Some(ring.current()));
    }

    #[test]
    fn a_sealed_value_opens_in_its_own_place_only() {
        let (_dir, ring) = ring();
        let sealed = seal(&ring, &key("a", "b"), VALUE).expect("sealed");
        let status = RecordKey::status(key("a", "b").object);
        let config = RecordKey::main(Key::new(Kind::ConfigMap, "a", "b"));
        for other in [key("a", "c"), key("ab", ""), key("", "ab"), status, config] {
            let error = open(&ring, &other, &sealed).expect_err("another place");
            assert!(matches!(error, OpenError::Damaged { .. }), "{other:?}: {error}");
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1;
            let opened = open(&ring, &key("a", "b"), &changed.into());
            // Without its mark it is no sealed value, and no object either.
            assert!(at < MARK.len() || opened.is_err(), "{at}");
        }
        for length in MARK.len()..sealed.len() {
            assert!(open(&ring, &key("a", "b"), &sealed.slice(..length)).is_err(), "{length}");
        }
    }

    #[test]
    fn s11_a_missing_key_is_named_with_its_file_and_found_once_it_is_there() {
        let (dir, ring) = ring();
        let (_other_dir, other) = self::ring();
        let sealed = seal(&ring, &key("a", "b"), VALUE).expect("sealed");
        let error = open(&other, &key("a", "b"), &sealed).expect_err("no such key").to_string();
        assert!(error.contains(ring.current().as_str()), "{error}");
        assert!(error.contains(&other.path().display().to_string()), "{error}");
        std::fs::copy(dir.path().join("keys"), other.path()).expect("copied");
        assert_eq!(open(&other, &key("a", "b"), &sealed).expect("it is there now"), VALUE);
    }

    #[test]
    fn a_value_that_was_never_sealed_is_given_back() {
        let (_dir, ring) = ring();
        let plain = Bytes::from_static(VALUE);
        assert_eq!(open(&ring, &key("a", "b"), &plain).expect("plain"), plain);
        assert_eq!(sealed_by(&plain), None);
    }
}
