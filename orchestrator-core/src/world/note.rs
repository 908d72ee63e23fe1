//! `EventNote`: what a decision tells people, before it is counted and recorded as an Event.

use crate::model::{EventType, Key, Uid};

/// Something to tell people; the engine counts equal ones and limits their rate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventNote {
    /// The object it is about.
    pub about: Key,
    /// That object's uid.
    pub uid: Uid,
    /// News or trouble.
    pub kind: EventType,
    /// Why, in CamelCase.
    pub reason: String,
    /// What happened.
    pub message: String,
}
