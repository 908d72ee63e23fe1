//! `EventExpiry`: events go an hour after their last count, and the oldest when there are too many.
//!
//! Depends on `model` and `world`. Each event has a timer of its own, so that a new one costs no look at all the others; one key stands for
//! all, and for how many they are.

use std::collections::BTreeSet;

use super::{Change, Controller, DECISION_PROPOSALS_MAX, Decision, TimerReason};
use crate::model::{Event, Key, Kind, Resource, Timestamp};
use crate::world::{Stored, World, graceful_delete};

/// How long an event stays after its last count, in milliseconds.
pub const EVENT_TTL_MS: i64 = 3_600_000;
/// The most events that stay.
pub const EVENTS_MAX: usize = 5_000;
/// Events go for their age at multiples of this time, in milliseconds, so that those of a time go together.
pub const EVENT_SWEEP_MS: i64 = 60_000;
/// When there are too many, so many more go: else each new one would be one too many again.
const EVENTS_ROOM: usize = 250;

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
            keys.extend([all_events(), change.key.clone()]);
        }
    }

    fn reconcile(&self, key: &Key, world: &World, now: Timestamp) -> Decision {
        let mut decision = Decision::nothing();
        if *key == all_events() {
            thin_out(&mut decision, world, now);
            return decision;
        }
        let Some(stored) = world.get(key) else { return decision };
        let Some(event) = Event::from_object(&stored.object) else { return decision };
        let expires = sweep_after(last_seen(event).plus_millis(EVENT_TTL_MS));
        if expires > now {
            decision.recheck(expires, TimerReason::Periodic);
        } else {
            decision.proposals.extend(graceful_delete(stored, None, now));
        }
        decision
    }
}

/// Removes the oldest when there are too many.
fn thin_out(decision: &mut Decision, world: &World, now: Timestamp) {
    let surplus = world.count(Kind::Event).saturating_sub(EVENTS_MAX);
    if surplus == 0 {
        return;
    }
    let mut events: Vec<(Timestamp, &Stored)> = world
        .list(Kind::Event, None)
        .filter(|(_, stored)| !stored.object.meta().is_deleting())
        .filter_map(|(_, stored)| Some((last_seen(Event::from_object(&stored.object)?), stored)))
        .collect();
    events.sort_by_key(|(seen, _)| *seen);
    for (_, stored) in events.iter().take((surplus + EVENTS_ROOM).min(DECISION_PROPOSALS_MAX)) {
        decision.proposals.extend(graceful_delete(stored, None, now));
    }
    decision.recheck(now.plus_millis(1), TimerReason::Periodic);
}

/// The first sweep at a time or after it.
fn sweep_after(at: Timestamp) -> Timestamp {
    let behind = at.as_millis().rem_euclid(EVENT_SWEEP_MS);
    at.plus_millis((EVENT_SWEEP_MS - behind) % EVENT_SWEEP_MS)
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
        assert_eq!(left(&sandbox), EVENTS_MAX - EVENTS_ROOM);
        let first = format!("e{:05}", EVENTS_ROOM + 2);
        let last = format!("e{:05}", EVENTS_ROOM + 1);
        assert!(sandbox.world().find::<Event>("default", &last).is_none());
        assert!(sandbox.world().find::<Event>("default", &first).is_some());
        let enough = EVENTS_MAX - EVENTS_ROOM;
        assert_eq!(sandbox.world().count(Kind::Event), enough);
    }
}
