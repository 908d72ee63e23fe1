//! `NodeKey`: the key by which a node is known to others over WireGuard.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boringtun::x25519::{PublicKey, StaticSecret};
use ring::rand::{SecureRandom as _, SystemRandom};

/// The private key of a node. It is never shown but by [`NodeKey::to_secret_text`].
#[derive(Clone)]
pub struct NodeKey(StaticSecret);

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key of a node must be 32 bytes in base64, as of WireGuard")]
pub struct InvalidNodeKey;

impl NodeKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// When the kernel gives no randomness.
    pub fn generate() -> std::io::Result<Self> {
        let mut bytes = [0; 32];
        let filled = SystemRandom::new().fill(&mut bytes);
        filled.map_err(|_| std::io::Error::other("the kernel gives no randomness"))?;
        Ok(Self(StaticSecret::from(bytes)))
    }

    /// Reads what [`NodeKey::to_secret_text`] wrote.
    ///
    /// # Errors
    /// [`InvalidNodeKey`]
    pub fn from_secret_text(text: &str) -> Result<Self, InvalidNodeKey> {
        bytes(text.trim()).map(|bytes| Self(StaticSecret::from(bytes)))
    }

    /// Writes the private key, for a file that only its owner may read.
    pub fn to_secret_text(&self) -> String {
        STANDARD.encode(self.0.as_bytes())
    }

    /// The public key, which others are told.
    pub fn public_text(&self) -> String {
        STANDARD.encode(PublicKey::from(&self.0).as_bytes())
    }

    pub(super) fn public_bytes(&self) -> [u8; 32] {
        PublicKey::from(&self.0).to_bytes()
    }

    pub(super) fn secret(&self) -> StaticSecret {
        self.0.clone()
    }

    /// The private key, for the kernel.
    pub(super) fn secret_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }
}

/// Hides the key.
impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.public_text())
    }
}

/// Reads the public key of another node.
pub(super) fn public_key(text: &str) -> Result<PublicKey, InvalidNodeKey> {
    bytes(text).map(PublicKey::from)
}

fn bytes(text: &str) -> Result<[u8; 32], InvalidNodeKey> {
    let bytes = STANDARD.decode(text).map_err(|_| InvalidNodeKey)?;
    bytes.try_into().map_err(|_| InvalidNodeKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_and_not_shown() {
        let key = NodeKey::generate().expect("randomness");
        let secret = key.to_secret_text();
        let again = NodeKey::from_secret_text(&format!("{secret}\n")).expect("a key");
        assert_eq!(again.public_text(), key.public_text());
        assert_ne!(NodeKey::generate().expect("randomness").public_text(), key.public_text());
        assert!(!format!("{key:?}").contains(&secret));
        assert!(public_key(&key.public_text()).is_ok());
        for text in ["", "x", "AAAA"] {
            assert_eq!(public_key(text).err(), Some(InvalidNodeKey), "{text}");
        }
    }
}
