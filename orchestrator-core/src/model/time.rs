//! Time as data: `Timestamp` (milliseconds, an input of the engine) and `Time` (whole seconds, stored and on the wire).
//!
//! Nothing here reads a clock. A stored time has whole seconds from the moment it is made, so that
//! reading it back from the store or the wire changes nothing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time in milliseconds since the Unix epoch; what `now` parameters carry.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Makes a timestamp from milliseconds since the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns this time rounded down to whole seconds, the form that is stored.
    pub const fn to_time(self) -> Time {
        Time(self.0.div_euclid(1000))
    }

    /// Returns the time `millis` later (earlier when negative), saturating at the ends of the range.
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Returns how many milliseconds have passed since `earlier`; 0 if `earlier` is later.
    pub const fn millis_since(self, earlier: Self) -> i64 {
        let passed = self.0.saturating_sub(earlier.0);
        if passed < 0 { 0 } else { passed }
    }
}

/// A stored point in time with whole seconds; RFC 3339 in UTC on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// Makes a time from seconds since the Unix epoch.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Returns the seconds since the Unix epoch.
    pub const fn as_seconds(self) -> i64 {
        self.0
    }

    /// Returns the first millisecond of this second.
    pub const fn to_timestamp(self) -> Timestamp {
        Timestamp(self.0.saturating_mul(1000))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.0) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => f.write_str("1970-01-01T00:00:00Z"),
        }
    }
}

/// A text that is not an RFC 3339 time.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an RFC 3339 time such as 2026-01-31T08:00:00Z")]
pub struct InvalidTime(String);

impl FromStr for Time {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let parsed: Result<jiff::Timestamp, _> = text.parse();
        parsed.map(|time| Self(time.as_second())).map_err(|_| InvalidTime(text.to_owned()))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A stored point in time with whole microseconds, as Kubernetes' leases have them; RFC 3339 in UTC with six decimals on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MicroTime(i64);

impl MicroTime {
    /// Makes a time from microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }
}

impl From<Timestamp> for MicroTime {
    fn from(at: Timestamp) -> Self {
        Self(at.as_millis().saturating_mul(1000))
    }
}

impl fmt::Display for MicroTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(f, "{time:.6}"),
            Err(_) => f.write_str("1970-01-01T00:00:00.000000Z"),
        }
    }
}

impl FromStr for MicroTime {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let parsed: Result<jiff::Timestamp, _> = text.parse();
        parsed.map(|time| Self(time.as_microsecond())).map_err(|_| InvalidTime(text.to_owned()))
    }
}

impl Serialize for MicroTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MicroTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_time_reads_back_unchanged() {
        let time = Timestamp::from_millis(1_793_000_000_999).to_time();
        assert_eq!(time.to_string(), "2026-10-26T07:33:20Z");
        assert_eq!(time.to_string().parse::<Time>().expect("own output"), time);
    }

    #[test]
    fn microseconds_are_kept_and_always_written_with_six_decimals() {
        for text in ["2026-10-26T07:33:20.000001Z", "2026-10-26T07:33:20.120000Z"] {
            assert_eq!(text.parse::<MicroTime>().expect("a time").to_string(), text);
        }
        let whole = MicroTime::from(Timestamp::from_millis(1_793_000_000_999));
        assert_eq!(whole.to_string(), "2026-10-26T07:33:20.999000Z");
        assert!("2026-10-26".parse::<MicroTime>().is_err());
    }

    #[test]
    fn a_time_that_is_no_time_is_refused_by_value() {
        let error = "yesterday".parse::<Time>().expect_err("not a time");
        assert!(error.to_string().contains("\"yesterday\""));
    }
}
