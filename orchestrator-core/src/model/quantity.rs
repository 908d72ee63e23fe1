//! `Quantity`: an exact amount such as `500m`, `1.5Gi` or `2e3`, as Kubernetes writes it.
//!
//! Held as an exact count of thousandths. The text a user wrote is kept for output when it is canonical
//! anyway; otherwise the canonical text is derived from the value and its family of suffixes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The family of suffixes a quantity was written in; decides how it prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
enum Suffix {
    /// `Ki`, `Mi`, … : powers of 1024.
    Binary,
    /// `m`, `k`, `M`, … or none: powers of 1000.
    #[default]
    Decimal,
}

/// An exact, signed amount of a resource with a resolution of one thousandth.
///
/// Range: ±2⁹³ or so (enough for 2⁶³ in exa-units); text outside it is refused. Equality and order go by
/// value, not by spelling: `1000m` equals `1`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    milli: i128,
    suffix: Suffix,
}

/// A text that is not a quantity.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not a quantity: expected a number with an optional suffix, such as 500m, 2, 64Mi or 1.5G"
)]
pub struct InvalidQuantity(String);

const BINARY: [(&str, u32); 6] =
    [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const MILLI_MAX: i128 = i128::MAX >> 34;

impl Quantity {
    /// Makes a quantity of whole units, printed with decimal suffixes.
    pub const fn from_units(units: i64) -> Self {
        Self { milli: units as i128 * 1000, suffix: Suffix::Decimal }
    }

    /// Makes a quantity of thousandths (such as milli-CPUs).
    pub const fn from_milli(milli: i64) -> Self {
        Self { milli: milli as i128, suffix: Suffix::Decimal }
    }

    /// Makes a quantity of bytes, printed with binary suffixes.
    pub const fn from_bytes(bytes: i64) -> Self {
        Self { milli: bytes as i128 * 1000, suffix: Suffix::Binary }
    }

    /// Returns the amount in whole units, rounded up (away from zero for what is left over).
    pub fn units_ceil(self) -> i64 {
        let units = self.milli.div_euclid(1000) + i128::from(self.milli.rem_euclid(1000) != 0);
        i64::try_from(units).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX })
    }

    /// Returns the amount in thousandths, saturating at the ends of `i64`.
    pub fn milli(self) -> i64 {
        i64::try_from(self.milli).unwrap_or(if self.milli < 0 { i64::MIN } else { i64::MAX })
    }

    /// Whether the amount is below zero.
    pub const fn is_negative(self) -> bool {
        self.milli < 0
    }

    /// Whether the amount is a whole number of units.
    pub const fn is_whole(self) -> bool {
        self.milli % 1000 == 0
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.milli == other.milli
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.milli.cmp(&other.milli)
    }
}

impl std::hash::Hash for Quantity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.milli.hash(state);
    }
}

impl FromStr for Quantity {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        parse(text).ok_or_else(|| InvalidQuantity(text.chars().take(64).collect()))
    }
}

/// Parses sign, digits, fraction, and a suffix or exponent; `None` when any of it is off or out of range.
fn parse(text: &str) -> Option<Quantity> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(digits_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let mut mantissa: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        mantissa = mantissa.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    let scale = 3 - i32::try_from(fraction.len()).ok()?;
    let (milli, suffix) = if let Some((_, bits)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        (scaled(mantissa.checked_mul(1i128 << bits)?, scale)?, Suffix::Binary)
    } else {
        let power = match DECIMAL.iter().find(|(name, _)| *name == suffix) {
            Some((_, power)) => *power,
            None => suffix.strip_prefix(['e', 'E'])?.parse().ok()?,
        };
        (scaled(mantissa, scale.checked_add(power)?)?, Suffix::Decimal)
    };
    (milli <= MILLI_MAX)
        .then_some(Quantity { milli: if negative { -milli } else { milli }, suffix })
}

/// Returns `mantissa × 10^power`, rounded up to a whole number as Kubernetes does with what is too fine.
fn scaled(mantissa: i128, power: i32) -> Option<i128> {
    if mantissa == 0 {
        return Some(0);
    }
    let factor = 10i128.checked_pow(power.unsigned_abs());
    if power >= 0 {
        return mantissa.checked_mul(factor?);
    }
    Some(factor.map_or(1, |factor| mantissa / factor + i128::from(mantissa % factor != 0)))
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.milli == 0 {
            return f.write_str("0");
        }
        if self.suffix == Suffix::Binary && self.milli % 1000 == 0 {
            let units = self.milli / 1000;
            let best = BINARY.iter().rev().find(|(_, bits)| units % (1i128 << bits) == 0);
            return match best {
                Some((name, bits)) => write!(f, "{}{name}", units >> bits),
                None => write!(f, "{units}"),
            };
        }
        let best = DECIMAL.iter().rev().find(|(_, power)| {
            *power >= -3 && self.milli % 10i128.pow((power + 3).unsigned_abs()) == 0
        });
        let (name, power) = best.copied().unwrap_or(("m", -3));
        write!(f, "{}{name}", self.milli / 10i128.pow((power + 3).unsigned_abs()))
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Quantity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as 500m, 2 or 64Mi")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Quantity, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Quantity, E> {
                number.to_string().parse().map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Quantity, E> {
                number.to_string().parse().map_err(E::custom)
            }
            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Quantity, E> {
                number.to_string().parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, milli: i64, printed: &str) {
        let quantity: Quantity = text.parse().expect(text);
        assert_eq!(quantity.milli(), milli, "{text}");
        assert_eq!(quantity.to_string(), printed, "{text}");
        assert_eq!(printed.parse::<Quantity>().expect(printed), quantity);
    }

    #[test]
    fn quantities_parse_and_print_as_kubernetes_does() {
        check("0", 0, "0");
        check("500m", 500, "500m");
        check("1000m", 1000, "1");
        check("0.5", 500, "500m");
        check("1.5Gi", 1_610_612_736_000, "1536Mi");
        check("64Mi", 67_108_864_000, "64Mi");
        check("1k", 1_000_000, "1k");
        check("2e3", 2_000_000, "2k");
        check("-1", -1000, "-1");
        check("1u", 1, "1m");
        check("1024", 1_024_000, "1024");
        check("1024Ki", 1_048_576_000, "1Mi");
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for bad in [
            "",
            "-",
            ".",
            "1x",
            "1.2.3",
            "Mi",
            "1 ",
            "0x10",
            "1e",
            "1e99",
            "99999999999999999999999999999999999999999",
        ] {
            assert!(bad.parse::<Quantity>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn order_goes_by_value() {
        let parse = |text: &str| text.parse::<Quantity>().expect("valid");
        assert!(parse("999m") < parse("1"));
        assert_eq!(parse("1024Mi"), parse("1Gi"));
        assert_eq!(parse("1500m").units_ceil(), 2);
    }
}
