//! The tables, their version, and the steps from one version to the next.
//!
//! Invariant: a migration is one transaction, and the version changes with the tables or not at all.

use rusqlite::{Connection, OptionalExtension, Transaction};

/// The application id in the header of our databases (`orch` in ASCII).
pub const APPLICATION_ID: u32 = 0x6f72_6368;
/// The newest format this program reads and the one it writes; stored as `user_version`.
pub const FORMAT_VERSION: u32 = MIGRATIONS.len() as u32;

/// Step `n` makes format `n + 1` of format `n`. Never edit a step that was released: add one.
const MIGRATIONS: [&str; 1] = [
    // `record` has a rowid, because values are often longer than what fits into a node of an index tree.
    "CREATE TABLE meta (
         name TEXT PRIMARY KEY NOT NULL,
         value INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE record (
         id INTEGER PRIMARY KEY,
         kind TEXT NOT NULL,
         namespace TEXT NOT NULL,
         name TEXT NOT NULL,
         part INTEGER NOT NULL,
         revision INTEGER NOT NULL,
         version INTEGER NOT NULL,
         checksum INTEGER NOT NULL,
         value BLOB NOT NULL
     ) STRICT;
     CREATE UNIQUE INDEX record_key ON record (kind, namespace, name, part);
     CREATE TABLE log (
         revision INTEGER PRIMARY KEY,
         committed_s INTEGER NOT NULL,
         version INTEGER NOT NULL,
         checksum INTEGER NOT NULL,
         batch BLOB NOT NULL
     ) STRICT;
     INSERT INTO meta (name, value) VALUES ('base', 0), ('compacted', 0);",
];

/// Numbers that the store keeps in the table `meta`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Meta {
    /// Revisions start after this one; a restored or migrated cluster continues its old count.
    Base,
    /// History up to this revision is gone.
    Compacted,
}

impl Meta {
    const fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Compacted => "compacted",
        }
    }

    pub(crate) fn read(self, connection: &Connection) -> rusqlite::Result<u64> {
        let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
        statement.query_row([self.name()], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
    }

    pub(crate) fn write(self, connection: &Connection, value: u64) -> rusqlite::Result<()> {
        let mut statement =
            connection.prepare_cached("UPDATE meta SET value = ?2 WHERE name = ?1")?;
        statement.execute((self.name(), value.cast_signed())).map(|_| ())
    }
}

/// The newest revision that was ever given out and synced.
pub(crate) fn newest_revision(connection: &Connection) -> rusqlite::Result<u64> {
    let mut statement =
        connection.prepare_cached("SELECT revision FROM log ORDER BY revision DESC LIMIT 1")?;
    let logged: Option<i64> = statement.query_row([], |row| row.get(0)).optional()?;
    let logged = logged.map_or(0, i64::cast_unsigned);
    Ok(logged.max(Meta::Base.read(connection)?).max(Meta::Compacted.read(connection)?))
}

/// The format version in the database; 0 when it is empty.
pub(crate) fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Brings the database from its version to ours, each step in a transaction; returns whether there was one.
pub(crate) fn migrate(connection: &mut Connection) -> rusqlite::Result<bool> {
    let from = version(connection)?;
    for (step, sql) in (from..).zip(&MIGRATIONS[from as usize..]) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        stamp(&transaction, step + 1)?;
        transaction.commit()?;
        tracing::info!(version = step + 1, "migrated the database");
    }
    Ok(from < FORMAT_VERSION)
}

fn stamp(transaction: &Transaction<'_>, version: u32) -> rusqlite::Result<()> {
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", version)
}
