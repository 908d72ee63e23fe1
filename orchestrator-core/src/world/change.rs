//! What changed: the input of every controller's `interest`.

use super::Signal;
use crate::model::{Key, Object, Revision};

/// One object before and after a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectChange {
    /// The object's key.
    pub key: Key,
    /// The commit's revision.
    pub revision: Revision,
    /// The object before; `None` when it was created.
    pub before: Option<Object>,
    /// The object after; `None` when it was deleted.
    pub after: Option<Object>,
}

impl ObjectChange {
    /// The object after the change, or, when it was deleted, before.
    ///
    /// # Panics
    /// Never: a change has at least one side.
    pub fn latest(&self) -> &Object {
        self.after.as_ref().or(self.before.as_ref()).expect("a change has a side")
    }
}

/// Something the engine learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An object changed.
    Object(ObjectChange),
    /// Something was heard of a node.
    Signal(Signal),
}
