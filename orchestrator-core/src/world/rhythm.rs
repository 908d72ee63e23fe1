//! `Rhythm`: how regularly a node is heard, and how long a silence must be to mean something.

/// How many gaps must have been heard before the rhythm counts.
const GAPS_MIN: u32 = 5;
/// The shortest silence that means something, in milliseconds: pauses of a busy machine are shorter.
const LIMIT_MS_MIN: i64 = 2_000;
/// The shortest silence that means something of a node whose connection has ended, in milliseconds: longer than one that connects
/// anew needs to be heard again.
const CUT_LIMIT_MS_MIN: i64 = 1_250;
/// What a gap counts for in the mean, as its divisor (RFC 6298: 8).
const MEAN_PART: i64 = 8;
/// What a deviation counts for in the mean deviation, as its divisor (RFC 6298: 4).
const DEVIATION_PART: i64 = 4;
/// How many mean deviations a gap may be longer than two means. With normally distributed gaps a mean deviation is 0.8
/// standard deviations.
const DEVIATIONS: i64 = 6;

/// A gap counts for at most so many times the silence that means something: who is slow for good is expected to be slow after a few
/// gaps.
const GAP_LIMITS_MAX: i64 = 2;
/// The same where the connection has ended meanwhile: who was away for an hour is not expected to be late by an hour, and who is away
/// again and again is expected to come back.
const ABSENCE_LIMITS_MAX: i64 = 1;

/// The gaps between reports of a node, as TCP estimates round trips (Jacobson and Karels; RFC 6298): a mean and a mean deviation
/// that follow what is heard, in whole milliseconds, so that everybody who has heard the same thinks the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rhythm {
    gaps: u32,
    /// Times eight, so that small changes are not lost.
    mean_ms_8: i64,
    /// Times eight.
    deviation_ms_8: i64,
}

impl Rhythm {
    /// Takes in the time between two reports, in milliseconds.
    #[must_use]
    pub fn with_gap(self, gap_ms: i64) -> Self {
        self.with_at_most(gap_ms, GAP_LIMITS_MAX)
    }

    /// The same when the node's connection has ended in between.
    #[must_use]
    pub fn with_absence(self, gap_ms: i64) -> Self {
        self.with_at_most(gap_ms, ABSENCE_LIMITS_MAX)
    }

    fn with_at_most(self, gap_ms: i64, limits: i64) -> Self {
        let longest = self.silence_ms().map_or(i64::from(u32::MAX), |limit| limits * limit);
        let gap_8 = gap_ms.clamp(0, longest.min(i64::from(u32::MAX))) * 8;
        if self.gaps == 0 {
            return Self { gaps: 1, mean_ms_8: gap_8, deviation_ms_8: gap_8 / 2 };
        }
        let difference = gap_8 - self.mean_ms_8;
        Self {
            gaps: self.gaps.saturating_add(1),
            mean_ms_8: self.mean_ms_8 + difference / MEAN_PART,
            deviation_ms_8: self.deviation_ms_8
                + (difference.abs() - self.deviation_ms_8) / DEVIATION_PART,
        }
    }

    /// How long a silence must be to mean that the node is lost, in milliseconds; `None` when too little has been heard. At
    /// least two seconds, and long enough for one report to be lost on its way.
    pub fn silence_ms(self) -> Option<i64> {
        let limit = (2 * self.mean_ms_8 + DEVIATIONS * self.deviation_ms_8) / 8;
        (self.gaps >= GAPS_MIN).then_some(limit.max(LIMIT_MS_MIN))
    }

    /// The same of a node whose connection has ended: the next report need only be late, none is taken to be lost on its way.
    pub fn cut_silence_ms(self) -> Option<i64> {
        let limit = (self.mean_ms_8 + DEVIATIONS * self.deviation_ms_8) / 8;
        (self.gaps >= GAPS_MIN).then_some(limit.max(CUT_LIMIT_MS_MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(gaps: impl IntoIterator<Item = i64>) -> Option<i64> {
        gaps.into_iter().fold(Rhythm::default(), Rhythm::with_gap).silence_ms()
    }

    #[test]
    fn a_steady_node_is_missed_soon_and_an_unsteady_one_later() {
        assert_eq!(after([1_000; 4]), None, "too little was heard");
        let steady = after([1_000; 60]).expect("enough");
        assert!((2_000..2_200).contains(&steady), "{steady}");
        let jittery = after([600, 1_400].repeat(30)).expect("enough");
        assert!((3_500..6_000).contains(&jittery), "{jittery}");
        let slow = after([5_000; 60]).expect("enough");
        assert!((10_000..11_000).contains(&slow), "{slow}");
    }

    #[test]
    fn who_is_cut_off_is_missed_sooner_but_not_before_it_could_connect_anew() {
        let cut = |gap, count| {
            let gaps = std::iter::repeat_n(gap, count);
            gaps.fold(Rhythm::default(), Rhythm::with_gap).cut_silence_ms()
        };
        assert_eq!(cut(1_000, 4), None, "too little was heard");
        assert_eq!(cut(1_000, 60), Some(1_250));
        assert_eq!(cut(100, 60), Some(1_250), "however quick it is");
        let slow = cut(5_000, 60).expect("enough");
        assert!((5_000..6_000).contains(&slow), "{slow}");
    }

    #[test]
    fn one_long_gap_is_forgiven_and_forgotten() {
        let with_pause = [[1_000; 30].as_slice(), &[2_900]].concat();
        let wary = after(with_pause.iter().copied()).expect("enough");
        assert!(wary > 4_000, "{wary}");
        let later = after(with_pause.into_iter().chain([1_000; 30])).expect("enough");
        assert!(later < 2_500, "{later}");
    }

    #[test]
    fn an_absence_is_soon_forgotten_and_a_slow_node_soon_believed() {
        let known = [1_000; 30].into_iter().fold(Rhythm::default(), Rhythm::with_gap);
        let back = known.with_absence(3_600_000);
        let at_once = back.silence_ms().expect("enough");
        assert!((2_500..4_000).contains(&at_once), "{at_once}");
        let soon = [1_000; 6].into_iter().fold(back, Rhythm::with_gap).silence_ms();
        assert!(soon.is_some_and(|soon| soon < 3_000), "{soon:?}");
        let often = [60_000; 3].into_iter().fold(back, Rhythm::with_absence).silence_ms();
        assert!(often.is_some_and(|often| often > 10_000), "{often:?}");
        let silent = after([[1_000; 30].as_slice(), &[3_600_000]].concat()).expect("enough");
        assert!((4_000..10_000).contains(&silent), "{silent}");
        let slow = [[1_000; 30].as_slice(), &[20_000; 5]].concat();
        assert!(after(slow).expect("enough") > 20_000);
    }

    #[test]
    fn absurd_gaps_end_nothing() {
        assert_eq!(after([-5, i64::MIN, 0, 0, 0, 0]), Some(2_000));
        assert!(after([i64::MAX; 10]).is_some_and(|limit| limit > 1 << 32));
    }
}
