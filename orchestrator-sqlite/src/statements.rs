//! The writer's prepared statements, and one transaction carried out with them.
//!
//! Invariant: a transaction is checked completely before its first write, so that a conflict leaves no trace
//! even inside a group.

use orchestrator_core::model::Revision;
use orchestrator_core::store::{Batch, CommitOutcome, Expect, RecordChange, RecordKey, Txn, Write};
use rusqlite::{Connection, OptionalExtension, Result, Statement};

use crate::codec::{ROW_VERSION, encode_change, log_checksum, part_code, record_checksum};

/// Every statement the writer runs per commit.
pub(crate) struct Statements<'a> {
    append: Statement<'a>,
    begin: Statement<'a>,
    commit: Statement<'a>,
    delete: Statement<'a>,
    find: Statement<'a>,
    insert: Statement<'a>,
    rollback: Statement<'a>,
    update: Statement<'a>,
    encoded: Vec<u8>,
    places: Vec<Option<i64>>,
}

/// What a transaction came to inside its group; nothing is durable yet.
pub(crate) enum Applied {
    /// It wrote this.
    Batch {
        /// What it wrote.
        batch: Batch,
        /// The size of its row in the log, in bytes.
        log_bytes: u64,
    },
    /// It wrote nothing: this is the answer.
    Nothing(CommitOutcome),
}

impl<'a> Statements<'a> {
    /// Prepares all of them.
    pub(crate) fn prepare(connection: &'a Connection) -> Result<Self> {
        Ok(Self {
            append: connection.prepare(
                "INSERT INTO log (revision, committed_s, version, checksum, batch)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?,
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            delete: connection.prepare("DELETE FROM record WHERE id = ?1")?,
            find: connection.prepare(
                "SELECT id, revision FROM record
                 WHERE kind = ?1 AND namespace = ?2 AND name = ?3 AND part = ?4",
            )?,
            insert: connection.prepare(
                "INSERT INTO record (kind, namespace, name, part, revision, version, checksum, value)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?,
            rollback: connection.prepare("ROLLBACK")?,
            update: connection.prepare(
                "UPDATE record SET revision = ?2, version = ?3, checksum = ?4, value = ?5
                 WHERE id = ?1",
            )?,
            encoded: Vec::new(),
            places: Vec::new(),
        })
    }

    pub(crate) fn begin(&mut self) -> Result<()> {
        self.begin.execute([]).map(|_| ())
    }

    pub(crate) fn commit(&mut self) -> Result<()> {
        self.commit.execute([]).map(|_| ())
    }

    pub(crate) fn rollback(&mut self) -> Result<()> {
        self.rollback.execute([]).map(|_| ())
    }

    /// Checks `txn` and, if every precondition holds, writes it at `newest + 1`.
    pub(crate) fn apply(&mut self, txn: Txn, newest: Revision, now_s: u64) -> Result<Applied> {
        if let Some(conflict) = self.check(&txn)? {
            return Ok(Applied::Nothing(conflict));
        }
        if txn.writes.is_empty() {
            return Ok(Applied::Nothing(CommitOutcome::Committed(newest)));
        }
        let revision = Revision(newest.0 + 1);
        let mut changes = Vec::with_capacity(txn.writes.len());
        self.encoded.clear();
        for (index, write) in txn.writes.into_iter().enumerate() {
            let change = self.write(self.places[index], write, revision)?;
            encode_change(&mut self.encoded, &change.key, change.value.as_deref());
            changes.push(change);
        }
        self.append.execute((
            revision.0.cast_signed(),
            now_s.cast_signed(),
            ROW_VERSION,
            log_checksum(revision, &self.encoded),
            &self.encoded,
        ))?;
        let log_bytes = self.encoded.len() as u64;
        Ok(Applied::Batch { batch: Batch { revision, changes }, log_bytes })
    }

    /// Finds the first precondition that does not hold, and remembers where the records to write are.
    fn check(&mut self, txn: &Txn) -> Result<Option<CommitOutcome>> {
        for guard in &txn.guards {
            let found = self.find(&guard.key)?;
            if let Some(conflict) = conflict(&guard.key, guard.expect, found) {
                return Ok(Some(conflict));
            }
        }
        self.places.clear();
        for write in &txn.writes {
            let found = self.find(write.key())?;
            if let Some(conflict) = conflict(write.key(), write.expect(), found) {
                return Ok(Some(conflict));
            }
            self.places.push(found.map(|(id, _)| id));
        }
        Ok(None)
    }

    fn find(&mut self, key: &RecordKey) -> Result<Option<(i64, Revision)>> {
        let object = &key.object;
        let parameters =
            (object.kind.record_name(), &*object.namespace, &*object.name, part_code(key.part));
        self.find
            .query_row(parameters, |row| {
                Ok((row.get(0)?, Revision(row.get::<_, i64>(1)?.cast_unsigned())))
            })
            .optional()
    }

    /// Writes one record, which is at `place` if it exists.
    fn write(
        &mut self,
        place: Option<i64>,
        write: Write,
        revision: Revision,
    ) -> Result<RecordChange> {
        match write {
            Write::Delete { key, .. } => {
                self.delete.execute([place])?;
                Ok(RecordChange { key, value: None })
            }
            Write::Put { key, value, .. } => {
                let checksum = record_checksum(&key, revision, &value);
                let revision = revision.0.cast_signed();
                match place {
                    Some(id) => {
                        self.update.execute((id, revision, ROW_VERSION, checksum, &*value))?;
                    }
                    None => {
                        self.insert.execute((
                            key.object.kind.record_name(),
                            &*key.object.namespace,
                            &*key.object.name,
                            part_code(key.part),
                            revision,
                            ROW_VERSION,
                            checksum,
                            &*value,
                        ))?;
                    }
                }
                Ok(RecordChange { key, value: Some(value) })
            }
        }
    }
}

fn conflict(
    key: &RecordKey,
    expect: Expect,
    found: Option<(i64, Revision)>,
) -> Option<CommitOutcome> {
    let current = found.map(|(_, revision)| revision);
    let holds = match expect {
        Expect::Absent => current.is_none(),
        Expect::At(revision) => current == Some(revision),
    };
    (!holds).then(|| CommitOutcome::Conflict { key: key.clone(), current })
}
