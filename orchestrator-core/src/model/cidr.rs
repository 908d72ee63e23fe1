//! `Cidr`: a range of IPv4 addresses, and how it is cut into slices.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A range of IPv4 addresses such as `10.64.0.0/10`: the first of them, and how many bits all have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    first: u32,
    prefix: u8,
}

/// A text that is no [`Cidr`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} must be a range of IPv4 addresses such as 10.64.0.0/10, its first address in front"
)]
pub struct InvalidCidr {
    text: String,
}

impl Cidr {
    /// The range that has `address` and shares this many bits (at most 32) with it.
    pub const fn around(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = if prefix > 32 { 32 } else { prefix };
        Self { first: address.to_bits() & mask(prefix), prefix }
    }

    /// The first address.
    pub const fn first(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first)
    }

    /// How many bits all addresses have in common.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// The bits that all addresses have in common, as a mask.
    pub const fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask(self.prefix))
    }

    /// The address at a place; `None` past the end.
    pub fn at(self, index: u32) -> Option<Ipv4Addr> {
        let is_within = u64::from(index) < 1 << (32 - u32::from(self.prefix));
        is_within.then(|| Ipv4Addr::from_bits(self.first | index))
    }

    /// Whether an address is of it.
    pub const fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.first
    }

    /// Whether all of another range is of it.
    pub const fn covers(self, other: Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.first())
    }

    /// Whether they have an address in common.
    pub const fn overlaps(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// How many slices of a smaller size it has; none when that is no smaller size.
    pub fn slices(self, prefix: u8) -> u32 {
        match prefix.checked_sub(self.prefix) {
            Some(bits) if prefix <= 32 => 1_u32.checked_shl(u32::from(bits)).unwrap_or(0),
            Some(_) | None => 0,
        }
    }

    /// The slice at a place; `None` past the end.
    pub fn slice(self, prefix: u8, index: u32) -> Option<Self> {
        let is_within = index < self.slices(prefix);
        let offset = || index.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        is_within.then(|| Self { first: self.first | offset(), prefix })
    }
}

const fn mask(prefix: u8) -> u32 {
    match u32::MAX.checked_shl(32 - prefix as u32) {
        Some(mask) => mask,
        None => 0,
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let invalid = || InvalidCidr { text: text.to_owned() };
        let (first, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let is_plain =
            prefix.bytes().all(|byte| byte.is_ascii_digit()) && !prefix.starts_with("00");
        let first: Ipv4Addr = first.parse().map_err(|_| invalid())?;
        let prefix: u8 = prefix.parse().map_err(|_| invalid())?;
        let cidr = Self::around(first, prefix);
        let is_exact = is_plain && prefix <= 32 && cidr.first() == first;
        if is_exact { Ok(cidr) } else { Err(invalid()) }
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().expect("a range")
    }

    #[test]
    fn a_range_is_read_strictly_and_printed_as_it_was() {
        for text in ["10.64.0.0/10", "0.0.0.0/0", "1.2.3.4/32", "10.64.3.0/24"] {
            assert_eq!(cidr(text).to_string(), text);
        }
        for text in ["", "10.64.0.0", "10.64.0.1/10", "10.64.0.0/33", "10.64.0.0/+8", "::/8", "a/8"]
        {
            let error = text.parse::<Cidr>().expect_err(text).to_string();
            assert!(error.contains("such as 10.64.0.0/10"), "{error}");
        }
    }

    #[test]
    fn slices_are_within_follow_one_another_and_end() {
        let range = cidr("10.64.0.0/22");
        let slices: Vec<_> = (0..5).map_while(|index| range.slice(24, index)).collect();
        let texts: Vec<_> = slices.iter().map(Cidr::to_string).collect();
        assert_eq!(texts, ["10.64.0.0/24", "10.64.1.0/24", "10.64.2.0/24", "10.64.3.0/24"]);
        assert!(slices.iter().all(|slice| range.covers(*slice)));
        assert_eq!((range.slices(16), range.slice(16, 0)), (0, None));
        assert_eq!(range.slice(22, 0), Some(range));
        assert_eq!(slices[1].at(255), Some(Ipv4Addr::new(10, 64, 1, 255)));
        assert_eq!(slices[1].at(256), None);
    }

    #[test]
    fn ranges_overlap_when_one_covers_the_other() {
        let (range, inner, other) =
            (cidr("10.64.0.0/10"), cidr("10.65.0.0/16"), cidr("10.0.0.0/10"));
        assert!(range.overlaps(inner) && inner.overlaps(range) && !inner.covers(range));
        assert!(!range.overlaps(other) && cidr("0.0.0.0/0").covers(other));
        assert!(range.contains(Ipv4Addr::new(10, 127, 255, 255)));
        assert!(!range.contains(Ipv4Addr::new(10, 128, 0, 0)));
    }
}
