//! Slots: the places of a replica set's pods, each with a family of deterministic names.
//!
//! A pod of slot `s` bears one of the `SLOT_ATTEMPTS_MAX` names of `s`. Its creation is guarded by the whole
//! family: every other name is as free, or as taken by a pod that will never run again, as it was when the
//! creation was decided. So a slot has at most one active pod whatever is repeated, delayed or reordered, and
//! with slots below the wanted number only, there are never too many (S26).

use std::collections::BTreeSet;

use crate::controller::ownership::{child_name, is_controlled_by};
use crate::hash::name_suffix;
use crate::model::{Key, Pod, ReplicaSet, Resource, SLOT_ANNOTATION, Time, Timestamp};
use crate::store::{Expect, Guard, RecordKey};
use crate::world::World;

/// How many names a slot has. While all are taken by pods that are still going, which takes finalizers or an agent that
/// is away, the slot waits, and the set says so.
pub const SLOT_ATTEMPTS_MAX: u32 = 8;
/// How long the third pod of a slot waits after two have ended; doubles with each more. In milliseconds.
pub const SLOT_BACKOFF_MS: i64 = 10_000;
/// The longest a slot waits, in milliseconds.
pub const SLOT_BACKOFF_MS_MAX: i64 = 300_000;

/// The letters and digits at the end of a pod's name.
const SUFFIX_LENGTH: usize = 5;

/// What may be done with a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SlotState {
    /// It has an active pod.
    Busy,
    /// All of its names are taken, by this pod among others.
    Exhausted(String),
    /// A pod may be made.
    Free {
        /// Its name.
        name: String,
        /// What must still be true of the slot's other names.
        guards: Vec<Guard>,
    },
    /// Its pods end again and again; the next may be made at this time.
    Waiting(Timestamp),
}

/// The slot a pod says it is in.
pub(super) fn slot_of(pod: &Pod) -> Option<u32> {
    pod.metadata.annotations.get(SLOT_ANNOTATION).and_then(|slot| slot.parse().ok())
}

/// Looks at a slot; `taken` holds the names this decision has given away already.
pub(super) fn slot_state(
    world: &World,
    set: &ReplicaSet,
    slot: u32,
    taken: &BTreeSet<String>,
    now: Timestamp,
) -> SlotState {
    let mut free = None;
    let mut holder = None;
    let mut guards = Vec::new();
    let (mut ended, mut last_end) = (0u32, Time::default());
    for name in names(&set.metadata.name, slot) {
        let key = Key::pod(&set.metadata.namespace, &name);
        let Some(stored) = world.get(&key) else {
            // The name of another slot's new pod, or of a record nobody can read.
            if taken.contains(&name) || world.is_quarantined(&key) {
                continue;
            }
            if free.is_none() {
                free = Some(name);
            } else {
                guards.push(Guard { key: RecordKey::main(key), expect: Expect::Absent });
            }
            continue;
        };
        let Some(pod) = Pod::from_object(&stored.object) else { continue };
        let ours = is_controlled_by(&pod.metadata, set.metadata.uid);
        if ours && pod.is_active() && slot_of(pod).is_none_or(|found| found == slot) {
            return SlotState::Busy;
        }
        holder = Some(name);
        if ours && pod.is_finished() {
            ended += 1;
            last_end = last_end.max(ended_at(pod));
        }
        guards.push(Guard { key: RecordKey::main(key), expect: Expect::At(stored.main) });
    }
    let ready_at = last_end.to_timestamp().plus_millis(backoff_ms(ended));
    match free {
        Some(_) if now < ready_at => SlotState::Waiting(ready_at),
        Some(name) => SlotState::Free { name, guards },
        None => holder.map_or(SlotState::Busy, SlotState::Exhausted),
    }
}

/// When a finished pod ended, as far as anything tells.
pub(super) fn ended_at(pod: &Pod) -> Time {
    let ends = pod.status.container_statuses.iter().filter_map(|container| {
        container.state.terminated.as_ref().and_then(|terminated| terminated.finished_at)
    });
    ends.max().or(pod.metadata.creation_timestamp).unwrap_or_default()
}

/// The distinct names of a slot, in the order of their attempts.
fn names(set: &str, slot: u32) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(SLOT_ATTEMPTS_MAX as usize);
    for attempt in 0..SLOT_ATTEMPTS_MAX {
        let parts: [&[u8]; 3] = [set.as_bytes(), &slot.to_be_bytes(), &attempt.to_be_bytes()];
        let name = child_name(set, &name_suffix(&parts, SUFFIX_LENGTH));
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// How long a slot waits after this many of its pods have ended: the first is replaced at once.
fn backoff_ms(ended: u32) -> i64 {
    match ended.checked_sub(2) {
        Some(more) if more < 16 => (SLOT_BACKOFF_MS << more).min(SLOT_BACKOFF_MS_MAX),
        Some(_) => SLOT_BACKOFF_MS_MAX,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_for_ever() {
        // Another name would be another pod for every pod there is.
        assert_eq!(names("web-5d4f8", 0)[..2], ["web-5d4f8-wrh5n", "web-5d4f8-6p6rp"]);
    }

    #[test]
    fn the_first_end_is_made_good_at_once_and_later_ones_ever_later() {
        let waits: Vec<_> = [0, 1, 2, 3, 7, 99].map(backoff_ms).to_vec();
        assert_eq!(waits, [0, 0, 10_000, 20_000, 300_000, 300_000]);
    }
}
