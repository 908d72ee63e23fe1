//! `Queue`: which keys each controller must look at, once each, first come first served; and their timers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::controller::{Recheck, TimerReason};
use crate::model::{Key, Timestamp};

/// The wait after the first failure of a key.
pub(super) const BACKOFF_FIRST_MS: i64 = 1_000;
/// The longest wait after failures of a key (Kubernetes caps at 1000 s; people give up earlier).
pub(super) const BACKOFF_MAX_MS: i64 = 300_000;

/// A piece of work: a controller (by its place in the engine's list) and a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Work {
    pub(super) controller: usize,
    pub(super) key: Key,
}

/// Work that waits, deduplicated; timers; back-off per piece of work.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    ready: VecDeque<Work>,
    queued: BTreeSet<Work>,
    timers: BTreeMap<(Timestamp, Work), TimerReason>,
    timer_of: BTreeMap<Work, Timestamp>,
    failures: BTreeMap<Work, u32>,
}

impl Queue {
    /// Marks work as ready, unless it is already.
    pub(super) fn push(&mut self, work: Work) {
        if self.queued.insert(work.clone()) {
            self.ready.push_back(work);
        }
    }

    /// Takes the oldest ready work.
    pub(super) fn pop(&mut self) -> Option<Work> {
        let work = self.ready.pop_front()?;
        self.queued.remove(&work);
        Some(work)
    }

    /// Sets the one timer of this work; an earlier one that is set already stays.
    pub(super) fn wake(&mut self, work: Work, recheck: Recheck) {
        if let Some(known) = self.timer_of.get(&work) {
            if *known <= recheck.at {
                return;
            }
            self.timers.remove(&(*known, work.clone()));
        }
        self.timer_of.insert(work.clone(), recheck.at);
        self.timers.insert((recheck.at, work), recheck.reason);
    }

    /// Forgets the timer of this work; its next run will ask for another.
    pub(super) fn clear_timer(&mut self, work: &Work) {
        if let Some(at) = self.timer_of.remove(work) {
            self.timers.remove(&(at, work.clone()));
        }
    }

    /// Makes all work ready whose timer is due.
    pub(super) fn fire(&mut self, now: Timestamp) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let ((_, work), _) = entry.remove_entry();
            self.timer_of.remove(&work);
            self.push(work);
        }
    }

    /// The earliest timer.
    pub(super) fn next_timer(&self) -> Option<(Timestamp, TimerReason)> {
        self.timers.first_key_value().map(|((at, _), reason)| (*at, *reason))
    }

    /// Lets failed work wait: 1 s, 2 s, 4 s … 5 min.
    pub(super) fn back_off(&mut self, work: Work, now: Timestamp) {
        let failures = self.failures.entry(work.clone()).or_default();
        let wait_ms = BACKOFF_FIRST_MS.saturating_mul(1 << (*failures).min(20)).min(BACKOFF_MAX_MS);
        *failures = failures.saturating_add(1);
        self.wake(work, Recheck { at: now.plus_millis(wait_ms), reason: TimerReason::Progress });
    }

    /// Forgets the failures of work that went well.
    pub(super) fn succeeded(&mut self, work: &Work) {
        self.failures.remove(work);
    }

    /// How much work is ready.
    pub(super) fn len(&self) -> usize {
        self.ready.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(name: &str) -> Work {
        Work { controller: 0, key: Key::pod("default", name) }
    }

    #[test]
    fn work_is_done_once_and_in_order() {
        let mut queue = Queue::default();
        for name in ["b", "a", "b"] {
            queue.push(work(name));
        }
        assert_eq!(queue.pop(), Some(work("b")));
        queue.push(work("b"));
        assert_eq!(queue.pop(), Some(work("a")));
        assert_eq!(queue.pop(), Some(work("b")));
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn back_off_doubles_up_to_its_cap_and_is_forgotten_on_success() {
        let mut queue = Queue::default();
        let now = Timestamp::from_millis(0);
        let mut waits = Vec::new();
        for _ in 0..12 {
            queue.back_off(work("a"), now);
            let (at, reason) = queue.next_timer().expect("a timer");
            assert_eq!(reason, TimerReason::Progress);
            waits.push(at.as_millis());
            queue.fire(at);
            assert!(queue.pop().is_some());
        }
        assert_eq!(waits[..4], [1_000, 2_000, 4_000, 8_000]);
        assert_eq!(waits[11], BACKOFF_MAX_MS);
        queue.succeeded(&work("a"));
        queue.back_off(work("a"), now);
        assert_eq!(queue.next_timer().expect("a timer").0.as_millis(), BACKOFF_FIRST_MS);
    }

    #[test]
    fn the_earlier_timer_wins() {
        let mut queue = Queue::default();
        let at = |ms| Recheck { at: Timestamp::from_millis(ms), reason: TimerReason::Periodic };
        queue.wake(work("a"), at(50));
        queue.wake(work("a"), at(90));
        queue.wake(work("a"), at(20));
        queue.fire(Timestamp::from_millis(19));
        assert_eq!(queue.pop(), None);
        queue.fire(Timestamp::from_millis(20));
        assert_eq!(queue.pop(), Some(work("a")));
        assert_eq!(queue.next_timer(), None);
    }
}
