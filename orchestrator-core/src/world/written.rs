//! `Written`: objects whose records were made here, so that they need not be read from bytes when the store tells of them.
//!
//! Reading a record takes longer than all else that a world does with it. Invariant: what is taken for a record equals what reading
//! the record gives, since it is taken only for the very bytes that were made of it (checked wherever debug assertions are).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{ObjectWrite, Proposal};
use crate::model::{Object, Part, Revision};
use crate::store::{RecordChange, RecordKey, Txn, Write};

/// Objects of transactions that are on their way. Empty, it only costs time.
#[derive(Clone, Debug, Default)]
pub struct Written(BTreeMap<RecordKey, (Bytes, Object)>);

impl Written {
    /// Keeps what a proposal writes, and returns the transaction. Until [`Self::forget`] or until it was told of.
    pub fn keep(&mut self, proposal: &Proposal) -> Txn {
        let txn = proposal.to_txn();
        let puts = txn.writes.iter().filter_map(|write| match write {
            Write::Put { key, value, .. } => Some((key, value)),
            Write::Delete { .. } => None,
        });
        // In the order of the writes that they come from.
        let mut puts = puts.peekable();
        for write in &proposal.writes {
            let object = write.key();
            for part in [Part::Main, Part::Status] {
                let Some((key, value)) =
                    puts.next_if(|(key, _)| key.part == part && key.object == object)
                else {
                    continue;
                };
                if let Some(object) = said(write, part) {
                    self.0.insert(key.clone(), (value.clone(), object));
                }
            }
        }
        txn
    }

    /// Forgets what a proposal writes: it was told of, or will not be.
    pub fn forget(&mut self, proposal: &Proposal) {
        for write in &proposal.writes {
            self.0.remove(&RecordKey::main(write.key()));
            self.0.remove(&RecordKey::status(write.key()));
        }
    }

    /// Takes the object of which these bytes were made.
    pub(super) fn take(&mut self, record: &RecordChange) -> Option<Object> {
        let (bytes, object) = self.0.remove(&record.key)?;
        (record.value.as_ref() == Some(&bytes)).then_some(object)
    }
}

/// What the record says that a write makes of a part.
fn said(write: &ObjectWrite, part: Part) -> Option<Object> {
    match (write, part) {
        (ObjectWrite::Create { object } | ObjectWrite::PutMain { object, .. }, Part::Main) => {
            let mut main = object.without_status();
            main.set_revision(Revision::ZERO);
            Some(main)
        }
        (ObjectWrite::Create { object } | ObjectWrite::PutStatus { object, .. }, Part::Status) => {
            Some(object.clone())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConfigMap, Deployment, Pod};
    use crate::store::Batch;
    use crate::world::{Stored, World};

    fn batch(revision: u64, txn: &Txn) -> Batch {
        let changes = txn.writes.iter().map(|write| match write {
            Write::Put { key, value, .. } => {
                RecordChange { key: key.clone(), value: Some(value.clone()) }
            }
            Write::Delete { key, .. } => RecordChange { key: key.clone(), value: None },
        });
        Batch { revision: Revision(revision), changes: changes.collect() }
    }

    /// A pod with a status, a deployment without one, and a kind that has none.
    fn three() -> Proposal {
        let mut pod = Pod::new("web", "nginx");
        pod.status.pod_ip = "10.0.0.1".to_owned();
        Proposal::create(pod)
            .and(Proposal::create(Deployment::new("web", "nginx")))
            .and(Proposal::create(ConfigMap::default()))
    }

    #[test]
    fn what_is_written_makes_the_world_that_is_read() {
        let (mut written, mut world) = (Written::default(), World::default());
        let create = batch(1, &written.keep(&three()));
        assert_eq!(written.0.len(), 4, "the pod has two records");
        world.apply_written(&create, &mut written);
        assert!(written.0.is_empty(), "each is taken once");
        let stored: Vec<Stored> = world.iter().map(|(_, stored)| stored.clone()).collect();
        let mut changed = Proposal::default();
        for stored in &stored {
            let mut object = stored.object.clone();
            object.meta_mut().labels.insert("tier".to_owned(), "front".to_owned());
            changed = changed.and(Proposal::put_main(stored, object.clone()));
            if let Object::Pod(pod) = &mut object {
                std::sync::Arc::make_mut(pod).status.pod_ip = "10.0.0.2".to_owned();
                changed = changed.and(Proposal::put_status(stored, object));
            }
        }
        let change = batch(2, &written.keep(&changed));
        world.apply_written(&change, &mut written);
        let mut read = World::default();
        read.apply(&create);
        read.apply(&change);
        let objects = |world: &World| world.iter().map(|(_, it)| it.clone()).collect::<Vec<_>>();
        assert_eq!(objects(&world), objects(&read));
    }

    #[test]
    fn other_bytes_are_read_and_what_is_forgotten_too() {
        let mut written = Written::default();
        let own = batch(1, &written.keep(&three()));
        let other = batch(1, &Proposal::create(Pod::new("web", "another")).to_txn());
        assert!(written.take(&other.changes[0]).is_none());
        written.forget(&three());
        assert!(own.changes.iter().all(|record| written.take(record).is_none()));
    }
}
