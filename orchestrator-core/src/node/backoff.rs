//! Delays: how long an ended container, a failed pull or a failed verb waits before it is tried again.
//!
//! The numbers of the restart back-off are Kubernetes'. Pure arithmetic; depends on `model` only.

use crate::hash::Fnv128;
use crate::model::{StateTerminated, Timestamp};

/// The second restart in a row waits this long, in milliseconds; the first does not wait.
pub const RESTART_BACKOFF_FIRST_MS: i64 = 10_000;
/// No restart waits longer than this, in milliseconds.
pub const RESTART_BACKOFF_MAX_MS: i64 = 300_000;
/// A container that ran this long, in milliseconds, counts as healthy: the next restart does not wait.
pub const RESTART_BACKOFF_RESET_MS: i64 = 600_000;
/// A verb that failed is tried again after this long, in milliseconds; doubles with each failure.
pub const VERB_RETRY_FIRST_MS: i64 = 250;
/// No verb waits longer than this for its next try, in milliseconds.
pub const VERB_RETRY_MAX_MS: i64 = 30_000;

/// Returns the milliseconds between the end of a run and the next, after `streak` restarts in a row.
pub const fn restart_delay_ms(streak: u32) -> i64 {
    match streak {
        0 => 0,
        _ => doubled(RESTART_BACKOFF_FIRST_MS, streak - 1, RESTART_BACKOFF_MAX_MS),
    }
}

/// Returns the milliseconds a verb waits after `failures` (at least 1) failures in a row.
pub const fn verb_retry_ms(failures: u32) -> i64 {
    doubled(VERB_RETRY_FIRST_MS, failures.saturating_sub(1), VERB_RETRY_MAX_MS)
}

/// Returns `first` doubled `times` times, at most `max`.
pub const fn doubled(first: i64, times: u32, max: i64) -> i64 {
    let factor = 1_i64 << (if times > 32 { 32 } else { times });
    let delay = first.saturating_mul(factor);
    if delay > max { max } else { delay }
}

/// Returns between a half and the whole of a delay, as a hash of who waits and how often they have waited says: those who lost the same
/// server at the same moment so ask again at different ones, and each time at others.
pub fn spread(delay_ms: i64, who: &str, times: u32) -> i64 {
    let mut hash = Fnv128::new();
    hash.write(who.as_bytes());
    hash.write(&times.to_be_bytes());
    let hash = hash.finish();
    let half = delay_ms.max(0) / 2;
    let part = (hash ^ (hash >> 64)) % (u128::from(half.unsigned_abs()) + 1);
    delay_ms.max(0) - i64::try_from(part).unwrap_or_default()
}

/// Whether a run was long enough to forget the restarts before it.
pub fn ran_well(run: &StateTerminated) -> bool {
    match (run.started_at, run.finished_at) {
        (Some(started), Some(finished)) => {
            finished.to_timestamp().millis_since(started.to_timestamp()) >= RESTART_BACKOFF_RESET_MS
        }
        (None, _) | (_, None) => false,
    }
}

/// Returns when something that ended at `since` may begin again: `delay_ms` later, and never more than that
/// from now, so that a clock that was set back does not hold it for ever.
pub fn due_at(since: Timestamp, delay_ms: i64, now: Timestamp) -> Timestamp {
    since.plus_millis(delay_ms).min(now.plus_millis(delay_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;

    #[test]
    fn restarts_wait_0_10_20_and_so_on_up_to_five_minutes() {
        let seconds: Vec<i64> = (0..9).map(|streak| restart_delay_ms(streak) / 1000).collect();
        assert_eq!(seconds, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(restart_delay_ms(u32::MAX), RESTART_BACKOFF_MAX_MS);
    }

    #[test]
    fn failed_verbs_wait_a_quarter_second_doubling_up_to_thirty() {
        assert_eq!([1, 2, 3].map(verb_retry_ms), [250, 500, 1000]);
        assert_eq!(verb_retry_ms(100), VERB_RETRY_MAX_MS);
    }

    #[test]
    fn l11_a_herd_that_waits_equally_long_comes_back_spread_over_half_of_that_time() {
        for times in 0..4 {
            let mut waits: Vec<i64> =
                (0..1_000).map(|node| spread(10_000, &format!("node-{node}"), times)).collect();
            waits.sort_unstable();
            assert!(waits[0] >= 5_000 && waits[999] <= 10_000, "{waits:?}");
            let in_half_a_second =
                |from: &i64| waits.iter().filter(|it| (*from..*from + 500).contains(*it)).count();
            let most = waits.iter().map(in_half_a_second).max();
            assert!(most.is_some_and(|most| most < 200), "a tenth would be even: {most:?}");
        }
        let waits = (0..8).map(|times| spread(10_000, "node-1", times));
        let waits: std::collections::BTreeSet<_> = waits.collect();
        assert!(waits.len() > 4, "the same node differs from one time to the next: {waits:?}");
        assert_eq!([spread(0, "a", 0), spread(-5, "a", 0)], [0, 0]);
    }

    #[test]
    fn a_clock_set_back_does_not_lengthen_a_wait() {
        let now = Timestamp::from_millis(1_000);
        let future = Timestamp::from_millis(9_000_000);
        assert_eq!(due_at(future, 500, now), Timestamp::from_millis(1_500));
    }

    #[test]
    fn ten_minutes_of_running_are_well() {
        let run = |seconds: i64| StateTerminated {
            started_at: Some(Time::from_seconds(5)),
            finished_at: Some(Time::from_seconds(5 + seconds)),
            ..StateTerminated::default()
        };
        assert!(!ran_well(&run(599)));
        assert!(ran_well(&run(600)));
        assert!(!ran_well(&StateTerminated::default()));
    }
}
