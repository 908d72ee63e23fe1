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
