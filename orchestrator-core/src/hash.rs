//! FNV-1a, the hash behind deterministic names and uids.
//!
//! Not for security: a stable, well-spread function whose result is the same on every machine and in every
//! version. Constants: Fowler, Noll, Vo, <http://www.isthe.com/chongo/tech/comp/fnv/>.

const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013B;
const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;

/// The 128-bit FNV-1a state.
#[derive(Clone, Debug)]
pub(crate) struct Fnv128(u128);

impl Fnv128 {
    /// Starts with the standard offset basis.
    pub(crate) const fn new() -> Self {
        Self(OFFSET)
    }

    /// Mixes in `bytes` and a separator, so that ("ab", "c") and ("a", "bc") differ.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().chain(&[0xff]) {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(PRIME);
        }
    }

    /// Returns the hash of all that was written.
    pub(crate) const fn finish(&self) -> u128 {
        self.0
    }
}

/// Kubernetes' alphabet for generated names: no vowels, hence no words, and no look-alikes.
const NAME_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Returns `length` (at most 20) characters of the name alphabet that spell a hash of `parts`.
pub(crate) fn name_suffix(parts: &[&[u8]], length: usize) -> String {
    let mut hash = Fnv128::new();
    for part in parts {
        hash.write(part);
    }
    let mut rest = hash.finish();
    rest ^= rest >> 64;
    let mut suffix = String::with_capacity(length);
    for _ in 0..length {
        suffix.push(char::from(NAME_ALPHABET[(rest % 27) as usize]));
        rest /= 27;
    }
    suffix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_stable_across_versions() {
        assert_eq!(
            name_suffix(&[b"web", &0u32.to_be_bytes()], 5),
            name_suffix(&[b"web", &0u32.to_be_bytes()], 5)
        );
        assert_ne!(name_suffix(&[b"ab", b"c"], 5), name_suffix(&[b"a", b"bc"], 5));
        assert_eq!(name_suffix(&[b"web"], 10).len(), 10);
    }

    #[test]
    fn a_thousand_slots_rarely_collide() {
        let names: std::collections::BTreeSet<_> =
            (0..1000u32).map(|slot| name_suffix(&[b"web", &slot.to_be_bytes()], 5)).collect();
        assert!(names.len() > 980, "{}", names.len());
    }
}
