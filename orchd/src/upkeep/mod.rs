//! What those do who keep a cluster's state: copy it, bring it back, move it, change the key of its secrets, look whether all is well.

pub mod backup;
pub mod check;
pub mod migrate;
pub mod restore;
pub mod secrets;

mod dump;
mod files;
mod progress;

use orchestrator_core::model::Revision;

/// The microseconds of a second.
const MICROSECONDS: u64 = 1_000_000;

/// The revision after which a state begins that takes the place of another, whose newest revision was `old`.
///
/// None after it may ever have been given out, also not by what went on after a backup was taken, or was restored from it before (S3). No
/// cluster makes a million commits in each second of its life, so the time in microseconds is above all that.
fn begin_after(old: Revision, now_seconds: i64) -> Revision {
    let now = u64::try_from(now_seconds).unwrap_or_default().saturating_mul(MICROSECONDS);
    Revision(now.max(old.0.saturating_add(MICROSECONDS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_what_begins_later_begins_above_everything_before() {
        let first = begin_after(Revision(7), 1_800_000_000);
        assert_eq!(first, Revision(1_800_000_000_000_000));
        let again = begin_after(Revision(7), 1_800_000_060);
        assert!(again.0 > first.0 + 60 * 999_999, "the same backup, restored a minute later");
        let slow_clock = begin_after(again, 0);
        assert!(slow_clock > again);
    }
}
