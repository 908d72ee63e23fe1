//! `EventExpiry`: events go an hour after their last count, and the oldest when there are too many.
//!
//! Depends on `model` and `world`. One key stands for all events, so that many changes make one sweep.

use std::collections::BTreeSet;

use super::{Change, Controller, DECISION_PROPOSALS_MAX, Decision, TimerReason};
use crate::model::{Event, Key, Kind, Resource, Timestamp};
use crate::world::{Stored, World, graceful_delete};

/// How long an event stays after its last count, in milliseconds.
pub const EVENT_TTL_MS: i64 = 3_600_000;
/// The most events that stay.
pub const EVENTS_MAX: usize = 5_000;
/// The least time between two sweeps for age, in milliseconds.
pub const EVENT_SWEEP_MS: i64 = 60_000;

/// Removes events that are old or too many.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventExpiry;

impl Controller for EventExpiry {
    fn name(&self) -> &'static str {
        "event-expiry"
    }

    fn interest(&self, change: &Change, keys: &mut BTreeSet<Key>) {
        let Change::Object(change) = change else { return };
        // A count only prolongs; only a new event can be one too many.
        if change.key.kind == Kind::Event && change.before.is_none() {
            keys.insert(all_events());
        }
    }

    fn reconcile(&self, key: &Key, world: &World, now: Timestamp) -> Decision {
        let mut decision = Decision::nothing();
        if *key != all_events() {
            return decision;
        }
        let mut events: Vec<(Timestamp, &Stored)> = world
            .list(Kind::Event, None)
            .filter(|(_, stored)| !stored.object.meta().is_deleting())
            .filter_map(|(_, stored)| {
                Some((last_seen(Event::from_object(&stored.object)?), stored))
            })
            .collect();
        if events.is_empty() {
            return decision;
        }
        events.sort_by_key(|(seen, _)| *seen);
        let surplus = events.len().saturating_sub(EVENTS_MAX);
        let expired = events.partition_point(|(seen, _)| seen.plus_millis(EVENT_TTL_MS) <= now);
        let going = surplus.max(expired);
        for (_, stored) in &events[..going.min(DECISION_PROPOSALS_MAX)] {
            decision.proposals.extend(graceful_delete(stored, None, now));
        }
        let soonest = now.plus_millis(EVENT_SWEEP_MS);
        if going > DECISION_PROPOSALS_MAX {
            decision.recheck(now.plus_millis(1), TimerReason::Periodic);
        } else if let Some((seen, _)) = events.get(going) {
            decision.recheck(seen.plus_millis(EVENT_TTL_MS).max(soonest), TimerReason::Periodic);
        }
        decision
    }
}

/// The key that stands for all events; no object has it.
fn all_events() -> Key {
    Key::new(Kind::Event, "", "")
}

fn last_seen(event: &Event) -> Timestamp {
    let seen = event.last_timestamp.max(event.first_timestamp);
    seen.max(event.metadata.creation_timestamp).unwrap_or_default().to_timestamp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectMeta;
    use crate::testkit::sandbox::Sandbox;

    fn sandbox(count: usize) -> Sandbox {
        let mut sandbox = Sandbox::new(vec![Box::new(EventExpiry)]);
        for number in 0..count {
            let metadata = ObjectMeta::named("default", &format!("e{number:05}"));
            let seen = sandbox.now.plus_millis(1000 * i64::try_from(number).expect("small"));
            let last_timestamp = Some(seen.to_time());
            sandbox.put(Event { metadata, last_timestamp, ..Event::default() });
        }
        sandbox.settle().expect("settled");
        sandbox
    }

    fn left(sandbox: &Sandbox) -> usize {
        sandbox.world().list(Kind::Event, None).count()
    }

    #[test]
    fn an_event_goes_an_hour_after_its_last_count() {
        let mut sandbox = sandbox(2);
        let key = Key::new(Kind::Event, "default", "e00000");
        let again = sandbox.now.plus_millis(EVENT_TTL_MS / 2).to_time();
        sandbox.change(&key, |event: &mut Event| event.last_timestamp = Some(again));
        sandbox.advance(EVENT_TTL_MS + 60_000);
        sandbox.settle().expect("settled");
        assert_eq!(left(&sandbox), 1);
        assert!(sandbox.world().get(&key).is_some(), "it was counted again");
        sandbox.advance(EVENT_TTL_MS);
        sandbox.settle().expect("settled");
        assert_eq!(left(&sandbox), 0);
        assert!(sandbox.next_timer().is_none());
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let mut sandbox = sandbox(EVENTS_MAX + 2);
        sandbox.restart();
        sandbox.settle().expect("settled");
        assert_eq!(left(&sandbox), EVENTS_MAX);
        assert!(sandbox.world().find::<Event>("default", "e00001").is_none());
        assert!(sandbox.world().find::<Event>("default", "e00002").is_some());
    }
}
