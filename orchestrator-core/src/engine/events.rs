//! `EventRecorder`: turns notes into `Event` objects: equal ones counted, each object's rate limited.

use std::collections::BTreeMap;

use crate::hash::name_suffix;
use crate::model::{Event, EventSource, Key, Kind, ObjectMeta, ObjectReference, Timestamp, Uid};
use crate::world::{EventNote, Proposal, World};

/// How many events of one object are recorded at once (client-go's spam filter).
pub const EVENTS_BURST_MAX: i64 = 25;
/// How long it takes until one more may be recorded (client-go's spam filter: five minutes).
pub const EVENT_REFILL_MS: i64 = 300_000;
/// How many events may wait to be written; more are dropped, oldest kept.
pub const EVENTS_PENDING_MAX: usize = 1_024;
/// How many objects the rate limiter remembers.
const LIMITER_OBJECTS_MAX: usize = 8_192;

/// Events that wait to be written, and the rate of each object.
#[derive(Clone, Debug, Default)]
pub(super) struct EventRecorder {
    pending: BTreeMap<Key, Pending>,
    /// Tokens left, in milliseconds of refill, and when that was counted.
    budget: BTreeMap<Uid, (i64, Timestamp)>,
    dropped: u64,
}

#[derive(Clone, Debug)]
struct Pending {
    note: EventNote,
    count: i32,
    first: Timestamp,
    last: Timestamp,
    in_flight: bool,
}

impl EventRecorder {
    /// Takes a note, unless its object has told too much.
    pub(super) fn note(&mut self, note: EventNote, now: Timestamp) {
        let key = event_key(&note);
        if let Some(pending) = self.pending.get_mut(&key) {
            pending.count = pending.count.saturating_add(1);
            pending.last = now;
            return;
        }
        if self.pending.len() >= EVENTS_PENDING_MAX || !self.take_token(note.uid, now) {
            self.dropped += 1;
            return;
        }
        self.pending
            .insert(key, Pending { note, count: 1, first: now, last: now, in_flight: false });
    }

    /// Returns the next event to write.
    pub(super) fn next(&mut self, world: &World) -> Option<(Key, Proposal)> {
        let (key, pending) = self.pending.iter_mut().find(|(_, pending)| !pending.in_flight)?;
        pending.in_flight = true;
        let proposal = match world.get(key) {
            Some(stored) => {
                let mut event =
                    world.at::<Event>(key).map(|event| (**event).clone()).unwrap_or_default();
                event.count = event.count.saturating_add(pending.count);
                event.last_timestamp = Some(pending.last.to_time());
                Proposal::put_main(stored, event)
            }
            None => Proposal::create(fresh_event(key, pending, world)),
        };
        // What is counted while this is in flight is written next time.
        pending.count = 0;
        Some((key.clone(), proposal))
    }

    /// Learns that an event was written (or failed, which loses nothing else).
    pub(super) fn settled(&mut self, key: &Key) {
        match self.pending.get_mut(key) {
            Some(pending) if pending.count > 0 => pending.in_flight = false,
            Some(_) => {
                self.pending.remove(key);
            }
            None => {}
        }
    }

    /// How many notes were dropped for their rate.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn take_token(&mut self, uid: Uid, now: Timestamp) -> bool {
        if self.budget.len() >= LIMITER_OBJECTS_MAX {
            // Full buckets hold no information.
            self.budget.retain(|_, (left, at)| {
                *left + now.millis_since(*at) < EVENTS_BURST_MAX * EVENT_REFILL_MS
            });
            self.forget_calmest();
        }
        let full = EVENTS_BURST_MAX * EVENT_REFILL_MS;
        let (left, at) = self.budget.get(&uid).copied().unwrap_or((full, now));
        let left = left.saturating_add(now.millis_since(at)).min(full);
        if left < EVENT_REFILL_MS {
            return false;
        }
        self.budget.insert(uid, (left - EVENT_REFILL_MS, now));
        true
    }

    /// When very many objects tell something at a time, forgets the half of them that have told least: they get back little.
    fn forget_calmest(&mut self) {
        if self.budget.len() < LIMITER_OBJECTS_MAX {
            return;
        }
        let mut left: Vec<i64> = self.budget.values().map(|(left, _)| *left).collect();
        left.sort_unstable();
        let (median, mut room) = (left[left.len() / 2], left.len() / 2);
        self.budget.retain(|_, (left, _)| {
            let goes = room > 0 && *left >= median;
            room -= usize::from(goes);
            !goes
        });
    }
}

/// Events live beside their object; those of cluster-scoped objects in `default`, as in Kubernetes.
fn event_key(note: &EventNote) -> Key {
    let suffix = name_suffix(
        &[note.uid.to_string().as_bytes(), note.reason.as_bytes(), note.message.as_bytes()],
        10,
    );
    let namespace = if note.about.namespace.is_empty() { "default" } else { &note.about.namespace };
    let name: String = note.about.name.chars().take(200).collect();
    Key::new(Kind::Event, namespace, &format!("{name}.{suffix}"))
}

fn fresh_event(key: &Key, pending: &Pending, world: &World) -> Event {
    let note = &pending.note;
    Event {
        count: pending.count,
        first_timestamp: Some(pending.first.to_time()),
        involved_object: ObjectReference::to(&note.about, note.uid),
        kind: note.kind,
        last_timestamp: Some(pending.last.to_time()),
        message: note.message.clone(),
        metadata: ObjectMeta {
            creation_timestamp: Some(pending.first.to_time()),
            uid: Uid::derived(note.uid, &key.name, world.revision()),
            ..ObjectMeta::named(&key.namespace, &key.name)
        },
        reason: note.reason.clone(),
        reporting_component: "orchestrator".to_owned(),
        source: EventSource { component: "orchestrator".to_owned(), ..EventSource::default() },
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EventType;

    fn note(message: &str) -> EventNote {
        EventNote {
            about: Key::pod("default", "web"),
            uid: Uid::derived(Uid::default(), "web", crate::model::Revision(1)),
            kind: EventType::Normal,
            reason: "Tested".to_owned(),
            message: message.to_owned(),
        }
    }

    #[test]
    fn equal_notes_become_one_event_with_a_count() {
        let mut recorder = EventRecorder::default();
        let now = Timestamp::from_millis(5_000);
        for _ in 0..3 {
            recorder.note(note("same"), now);
        }
        let (key, proposal) = recorder.next(&World::default()).expect("one event");
        let crate::world::ObjectWrite::Create { object: crate::model::Object::Event(event) } =
            &proposal.writes[0]
        else {
            panic!("a create: {proposal:?}");
        };
        assert_eq!(event.count, 3);
        assert!(recorder.next(&World::default()).is_none(), "it is in flight");
        recorder.note(note("same"), now);
        recorder.settled(&key);
        assert!(recorder.next(&World::default()).is_some(), "counted while in flight");
    }

    #[test]
    fn an_object_that_tells_too_much_is_cut_short_and_recovers() {
        let mut recorder = EventRecorder::default();
        let now = Timestamp::from_millis(0);
        for number in 0..40 {
            recorder.note(note(&number.to_string()), now);
        }
        assert_eq!(recorder.pending.len(), 25);
        assert_eq!(recorder.dropped(), 15);
        recorder.note(note("later"), now.plus_millis(EVENT_REFILL_MS));
        assert_eq!(recorder.pending.len(), 26);
    }

    #[test]
    fn very_many_objects_are_all_heard_and_one_that_tells_too_much_is_still_cut_short() {
        let mut recorder = EventRecorder::default();
        let now = Timestamp::from_millis(0);
        let of = |number: usize, message: &str| EventNote {
            uid: Uid::derived(Uid::default(), &number.to_string(), crate::model::Revision(1)),
            ..note(message)
        };
        for number in 0..40 {
            recorder.note(of(0, &number.to_string()), now);
        }
        assert_eq!(recorder.dropped(), 15);
        for number in 1..3 * LIMITER_OBJECTS_MAX {
            recorder.note(of(number, "started"), now);
            recorder.pending.clear();
            assert!(recorder.budget.len() <= LIMITER_OBJECTS_MAX);
        }
        assert_eq!(recorder.dropped(), 15, "everybody was heard");
        recorder.note(of(0, "more"), now);
        assert_eq!(recorder.dropped(), 16, "and nothing was forgotten of the loud one");
    }
}
