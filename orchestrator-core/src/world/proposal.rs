//! `Proposal`: a transaction in terms of objects. Everything that writes says so with one of these.

use super::{Stored, encode};
use crate::model::{Key, Object, Part, Revision};
use crate::store::{Expect, Guard, RecordKey, Txn, Write};

/// One write of a proposal, with its precondition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectWrite {
    /// Records a new object; its status gets a record only if there is something in it.
    Create {
        /// The object.
        object: Object,
    },
    /// Removes an object.
    Delete {
        /// The object's key.
        key: Key,
        /// The revision of its main record.
        main: Revision,
        /// The revision of its status record, if there is one.
        status: Option<Revision>,
    },
    /// Replaces the main part.
    PutMain {
        /// The object with its new main part.
        object: Object,
        /// The revision of the main record it replaces.
        main: Revision,
    },
    /// Replaces the status.
    PutStatus {
        /// The object with its new status.
        object: Object,
        /// The revision of its main record; a precondition only for the first status.
        main: Revision,
        /// The revision of the status record it replaces, if there is one.
        status: Option<Revision>,
    },
}

impl ObjectWrite {
    /// The object this write concerns.
    pub fn key(&self) -> Key {
        match self {
            Self::Create { object }
            | Self::PutMain { object, .. }
            | Self::PutStatus { object, .. } => object.key(),
            Self::Delete { key, .. } => key.clone(),
        }
    }
}

/// Writes to objects that happen together or not at all, each with its precondition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposal {
    /// Objects (their parts) that must be unchanged though they are not written.
    pub guards: Vec<Guard>,
    /// The writes.
    pub writes: Vec<ObjectWrite>,
}

impl Proposal {
    /// Proposes to create an object.
    pub fn create(object: impl Into<Object>) -> Self {
        Self { guards: Vec::new(), writes: vec![ObjectWrite::Create { object: object.into() }] }
    }

    /// Proposes to replace the main part of an object.
    pub fn put_main(old: &Stored, new: impl Into<Object>) -> Self {
        let write = ObjectWrite::PutMain { object: new.into(), main: old.main };
        Self { guards: Vec::new(), writes: vec![write] }
    }

    /// Proposes to replace the status of an object.
    pub fn put_status(old: &Stored, new: impl Into<Object>) -> Self {
        let write =
            ObjectWrite::PutStatus { object: new.into(), main: old.main, status: old.status };
        Self { guards: Vec::new(), writes: vec![write] }
    }

    /// Proposes to remove an object.
    pub fn delete(old: &Stored) -> Self {
        let write =
            ObjectWrite::Delete { key: old.object.key(), main: old.main, status: old.status };
        Self { guards: Vec::new(), writes: vec![write] }
    }

    /// Adds the precondition that no part of an object has changed.
    #[must_use]
    pub fn guarded_by(mut self, stored: &Stored) -> Self {
        let key = stored.object.key();
        self.guards
            .push(Guard { key: RecordKey::main(key.clone()), expect: Expect::At(stored.main) });
        let status = stored.status.map_or(Expect::Absent, Expect::At);
        self.guards.push(Guard { key: RecordKey::status(key), expect: status });
        self
    }

    /// Adds the precondition that the main part of an object has not changed; its status may.
    #[must_use]
    pub fn guarded_by_main(mut self, stored: &Stored) -> Self {
        let key = RecordKey::main(stored.object.key());
        self.guards.push(Guard { key, expect: Expect::At(stored.main) });
        self
    }

    /// Adds the precondition that there is no such object.
    #[must_use]
    pub fn guarded_by_absence(mut self, key: Key) -> Self {
        self.guards.push(Guard { key: RecordKey::main(key), expect: Expect::Absent });
        self
    }

    /// Adds the writes and guards of another proposal.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.guards.extend(other.guards);
        self.writes.extend(other.writes);
        self
    }

    /// Translates into records and bytes.
    pub fn to_txn(&self) -> Txn {
        let mut txn =
            Txn { guards: self.guards.clone(), writes: Vec::with_capacity(self.writes.len()) };
        for write in &self.writes {
            add(&mut txn, write);
        }
        txn
    }
}

fn add(txn: &mut Txn, write: &ObjectWrite) {
    let key = write.key();
    match write {
        ObjectWrite::Create { object } => {
            txn.writes.push(Write::Put {
                key: RecordKey::main(key.clone()),
                expect: Expect::Absent,
                value: encode(object, Part::Main),
            });
            if *object != object.without_status() {
                txn.writes.push(Write::Put {
                    key: RecordKey::status(key),
                    expect: Expect::Absent,
                    value: encode(object, Part::Status),
                });
            }
        }
        ObjectWrite::Delete { main, status, .. } => {
            txn.writes.push(Write::Delete { key: RecordKey::main(key.clone()), expect: *main });
            let status_key = RecordKey::status(key);
            match status {
                Some(status) => txn.writes.push(Write::Delete { key: status_key, expect: *status }),
                // A status that came meanwhile would be left behind without its object.
                None => txn.guards.push(Guard { key: status_key, expect: Expect::Absent }),
            }
        }
        ObjectWrite::PutMain { object, main } => txn.writes.push(Write::Put {
            key: RecordKey::main(key),
            expect: Expect::At(*main),
            value: encode(object, Part::Main),
        }),
        ObjectWrite::PutStatus { object, main, status } => {
            let main_key = RecordKey::main(key.clone());
            // Only a first status would not notice that the object is gone; a write of the main record does.
            if status.is_none() && !txn.writes.iter().any(|write| *write.key() == main_key) {
                txn.guards.push(Guard { key: main_key, expect: Expect::At(*main) });
            }
            txn.writes.push(Write::Put {
                key: RecordKey::status(key),
                expect: status.map_or(Expect::Absent, Expect::At),
                value: encode(object, Part::Status),
            });
        }
    }
}
