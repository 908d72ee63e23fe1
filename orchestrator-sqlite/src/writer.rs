//! The writer thread: group commit, publication, compaction and checkpoints, all on one connection.
//!
//! Invariant: nobody learns of a commit, neither its caller nor a watcher, before it has been synced.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use orchestrator_core::model::Revision;
use orchestrator_core::store::{Batch, CommitOutcome, StoreError, TXN_BYTES_MAX, Txn};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, ffi};
use tokio::sync::oneshot;

use crate::error::OpenError;
use crate::open::Opened;
use crate::options::SqliteOptions;
use crate::reply::Reply;
use crate::schema::Meta;
use crate::statements::{Applied, Statements};
use crate::store::Shared;

/// The most transactions that share one sync.
const GROUP_TXNS_MAX: usize = 256;
/// The bytes of values after which a group takes no further transaction.
const GROUP_BYTES_MAX: usize = 4 * TXN_BYTES_MAX;
/// The longest that a group waits for as many transactions as the one before had.
const PATIENCE_MAX: Duration = Duration::from_millis(1);
/// The most log rows deleted in one transaction.
const COMPACT_STEP_MAX: usize = 512;
/// The pages in the write-ahead log at which they are moved into the database.
const CHECKPOINT_PAGES: i64 = 1_000;
/// The pages in the write-ahead log at which listings that hold them back are ended.
const WAL_PAGES_MAX: i64 = 16_000;
/// The groups after which the sizes of log and files are looked at.
const GROUPS_PER_LOOK: u32 = 64;
/// The bytes written after which they are looked at.
const BYTES_PER_LOOK: u64 = 4 << 20;
/// The most free pages given back to the file system at once.
const VACUUM_STEP_MAX: i64 = 1_024;
/// How long the thread sleeps when there is nothing to do; then it looks for old history.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// What the thread can be told to do.
pub(crate) enum Command {
    /// Stop, after everything asked for before.
    Close,
    /// Carry out a transaction.
    Commit(Pending),
    /// Forget the history up to a revision.
    Compact(Revision, oneshot::Sender<Result<(), StoreError>>),
}

/// A transaction and who asked for it.
pub(crate) struct Pending {
    pub reply: Reply,
    pub txn: Txn,
}

/// How the last group went.
///
/// Clients that commit in a loop come back a moment after their answers. Without a little patience the first of them
/// would get a sync of its own and all others wait for that, so that every second sync would be in vain.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    txns: usize,
    /// From the first transaction to the end of the sync.
    took: Duration,
}

impl Pace {
    /// How long to wait for the next group to be as large: none for a single client, else less than a sync takes.
    fn patience(self) -> Duration {
        if self.txns > 1 { (self.took / 2).min(PATIENCE_MAX) } else { Duration::ZERO }
    }
}

/// A row of the log.
struct Logged {
    bytes: u64,
    committed_s: u64,
    revision: Revision,
}

/// The state of the thread.
pub(crate) struct Writer<'a> {
    connection: &'a Connection,
    failed: bool,
    groups_since_look: u32,
    bytes_since_look: u64,
    last: Pace,
    log: VecDeque<Logged>,
    log_bytes: u64,
    newest: Revision,
    options: &'a SqliteOptions,
    shared: &'a Shared,
    statements: Statements<'a>,
}

/// Says whether it can begin, and runs until the store is closed; then the database is closed and unlocked.
pub(crate) fn run(
    opened: Opened,
    options: &SqliteOptions,
    shared: Arc<Shared>,
    commands: &Receiver<Command>,
    ready: oneshot::Sender<Result<Arc<Shared>, OpenError>>,
) {
    let _ended = Ended(shared.clone());
    let Opened { connection, lock, path } = opened;
    match Writer::new(&connection, options, &shared) {
        Err(error) => _ = ready.send(Err(OpenError::from_sqlite(&path, error))),
        Ok(mut writer) => {
            if ready.send(Ok(shared.clone())).is_ok() {
                writer.serve(commands);
            }
        }
    }
    shared.readers.close();
    drop(connection);
    // Not by closing the file alone: a program that this process is just starting has a copy of the descriptor until
    // it runs.
    if let Err(error) = lock.unlock() {
        tracing::warn!(path = %path.display(), %error, "the database was closed but not unlocked");
    }
}

/// Tells watchers and callers that nothing more comes, also when the thread panics.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.readers.close();
        self.0.history.close();
    }
}

impl<'a> Writer<'a> {
    fn new(
        connection: &'a Connection,
        options: &'a SqliteOptions,
        shared: &'a Shared,
    ) -> rusqlite::Result<Self> {
        let mut statement = connection
            .prepare("SELECT revision, committed_s, length(batch) FROM log ORDER BY revision")?;
        let rows = statement.query_map([], |row| {
            let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
            Ok(Logged {
                revision: Revision(number(0)?),
                committed_s: number(1)?,
                bytes: number(2)?,
            })
        })?;
        let log = rows.collect::<rusqlite::Result<VecDeque<_>>>()?;
        Ok(Self {
            connection,
            failed: false,
            groups_since_look: 0,
            bytes_since_look: 0,
            last: Pace::default(),
            log_bytes: log.iter().map(|row| row.bytes).sum(),
            log,
            newest: shared.history.newest(),
            options,
            shared,
            statements: Statements::prepare(connection)?,
        })
    }

    fn serve(&mut self, commands: &Receiver<Command>) {
        let mut next = None;
        while !self.failed {
            let command = match next.take() {
                Some(command) => Ok(command),
                None => commands.recv_timeout(IDLE_MAX),
            };
            match command {
                Ok(Command::Close) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(Command::Commit(first)) => {
                    let group;
                    (group, next) = gather(first, commands, self.last);
                    let (txns, start) = (group.len(), Instant::now());
                    self.commit(group);
                    self.last = Pace { txns, took: start.elapsed() };
                    self.look();
                }
                Ok(Command::Compact(revision, reply)) => {
                    let done = self.compact_up_to(revision);
                    _ = reply.send(done.map_err(|error| StoreError::Backend(error.into())));
                }
                Err(RecvTimeoutError::Timeout) => self.maintain(),
            }
        }
        if !self.failed {
            self.shared.readers.close();
            self.checkpoint("TRUNCATE");
        }
    }

    /// Carries out a group of transactions with one sync, publishes what they changed, and answers.
    fn commit(&mut self, group: Vec<Pending>) {
        let mut replies = Vec::with_capacity(group.len());
        let mut outcomes = Vec::with_capacity(group.len());
        let mut batches = Vec::with_capacity(group.len());
        let mut rows = Vec::with_capacity(group.len());
        let now_s = now_s();
        let mut newest = self.newest;
        let mut result = self.statements.begin();
        for Pending { mut reply, txn } in group {
            reply.started = true;
            replies.push(reply);
            if result.is_err() {
                continue;
            }
            match self.statements.apply(txn, newest, now_s) {
                Err(error) => result = Err(error),
                Ok(Applied::Nothing(outcome)) => outcomes.push(outcome),
                Ok(Applied::Batch { batch, log_bytes }) => {
                    newest = batch.revision;
                    outcomes.push(CommitOutcome::Committed(newest));
                    rows.push(Logged { bytes: log_bytes, committed_s: now_s, revision: newest });
                    batches.push(batch);
                }
            }
        }
        match result.and_then(|()| self.finish(&batches)) {
            Ok(()) => {
                self.newest = newest;
                let bytes = rows.iter().map(|row| row.bytes).sum::<u64>();
                self.log_bytes += bytes;
                self.bytes_since_look += bytes;
                self.log.extend(rows);
                self.shared.history.push(batches);
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    reply.send(Ok(outcome));
                }
            }
            Err(error) => self.refuse(error, replies),
        }
    }

    fn finish(&mut self, batches: &[Batch]) -> rusqlite::Result<()> {
        if batches.is_empty() {
            return self.statements.rollback();
        }
        let committed = self.statements.commit();
        if let Err(error) = &committed
            && !is_disk_full(error)
        {
            self.fail(error);
        }
        committed
    }

    /// Answers a group none of which was carried out, or of which nobody knows.
    fn refuse(&mut self, error: rusqlite::Error, replies: Vec<Reply>) {
        self.roll_back();
        self.check_sync(&error);
        let error = Arc::new(error);
        for reply in replies {
            reply.send(match self.failed {
                true => Ok(CommitOutcome::Unknown),
                false => Err(StoreError::Backend(error.clone().into())),
            });
        }
    }

    /// Leaves the transaction, if SQLite has not done so.
    fn roll_back(&mut self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.statements.rollback()
        {
            self.fail(&error);
        }
    }

    fn check_sync(&mut self, error: &rusqlite::Error) {
        if is_failed_sync(error) {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: &rusqlite::Error) {
        if !self.failed {
            self.failed = true;
            // Closing the connection must not move pages whose fate is not known.
            let no_checkpoint = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            if let Err(error) = self.connection.set_db_config(no_checkpoint, true) {
                tracing::warn!(error = &error as &dyn std::error::Error, "closing will checkpoint");
            }
            self.options.fatal.raise(error);
        }
    }

    /// Now and then, does what keeps the files small.
    fn look(&mut self) {
        self.groups_since_look += 1;
        let due =
            self.groups_since_look >= GROUPS_PER_LOOK || self.bytes_since_look >= BYTES_PER_LOOK;
        if due && !self.failed {
            self.maintain();
        }
    }

    fn maintain(&mut self) {
        self.groups_since_look = 0;
        self.bytes_since_look = 0;
        self.shared.readers.expire();
        if let Err(error) = self.compact() {
            // Tried again at the next look, however often it fails.
            tracing::warn!(error = &error as &dyn std::error::Error, "history was not compacted");
        }
        let pages = self.checkpoint("NOOP");
        if pages >= CHECKPOINT_PAGES {
            self.checkpoint("PASSIVE");
        }
        if pages >= WAL_PAGES_MAX {
            self.shared.readers.expire_all();
            self.checkpoint("TRUNCATE");
        }
    }

    /// Forgets history that is over a limit.
    fn compact(&mut self) -> rusqlite::Result<()> {
        let oldest_s = now_s().saturating_sub(self.options.history_age_max_s);
        let (mut count, mut bytes) = (self.log.len(), self.log_bytes);
        let mut up_to = None;
        for row in &self.log {
            let over = count > self.options.history_batches_max
                || bytes > self.options.history_bytes_max
                || row.committed_s < oldest_s;
            if !over {
                break;
            }
            (count, bytes) = (count - 1, bytes - row.bytes);
            up_to = Some(row.revision);
        }
        match up_to {
            None => Ok(()),
            Some(revision) => self.compact_up_to(revision),
        }
    }

    fn compact_up_to(&mut self, revision: Revision) -> rusqlite::Result<()> {
        let revision = revision.min(self.newest);
        while let Some(last) = self
            .log
            .iter()
            .take(COMPACT_STEP_MAX)
            .take_while(|row| row.revision <= revision)
            .last()
            .map(|row| row.revision)
        {
            self.forget(last)?;
        }
        self.vacuum()
    }

    /// Deletes the log up to `revision` in one transaction.
    fn forget(&mut self, revision: Revision) -> rusqlite::Result<()> {
        let deleted = self.delete_log(revision);
        if let Err(error) = deleted {
            self.roll_back();
            self.check_sync(&error);
            return Err(error);
        }
        while self.log.front().is_some_and(|row| row.revision <= revision) {
            self.log_bytes -= self.log.pop_front().map_or(0, |row| row.bytes);
        }
        self.shared.history.compact(revision);
        Ok(())
    }

    fn delete_log(&mut self, revision: Revision) -> rusqlite::Result<()> {
        self.statements.begin()?;
        let compacted = Meta::Compacted.read(self.connection)?.max(revision.0);
        self.connection
            .prepare_cached("DELETE FROM log WHERE revision <= ?1")?
            .execute([revision.0.cast_signed()])?;
        Meta::Compacted.write(self.connection, compacted)?;
        self.statements.commit()
    }

    /// Gives free pages back to the file system when they are more than a quarter of the file.
    fn vacuum(&mut self) -> rusqlite::Result<()> {
        let number =
            |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (free, pages) = (number("freelist_count")?, number("page_count")?);
        if free > VACUUM_STEP_MAX / 4 && free > pages / 4 {
            let sql = format!("PRAGMA incremental_vacuum({VACUUM_STEP_MAX})");
            let vacuumed = self.connection.execute_batch(&sql);
            if let Err(error) = &vacuumed {
                self.check_sync(error);
            }
            return vacuumed;
        }
        Ok(())
    }

    /// Runs a checkpoint and returns how many pages the write-ahead log had.
    fn checkpoint(&mut self, mode: &str) -> i64 {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        match self.connection.query_row(&sql, [], |row| row.get(1)) {
            Ok(pages) => pages,
            Err(error) => {
                self.check_sync(&error);
                tracing::warn!(error = &error as &dyn std::error::Error, mode, "no checkpoint");
                0
            }
        }
    }
}

/// Takes what else is waiting or comes in a moment, up to the limits of a group, and the command that ended it.
fn gather(
    first: Pending,
    commands: &Receiver<Command>,
    last: Pace,
) -> (Vec<Pending>, Option<Command>) {
    let mut bytes = first.txn.bytes();
    let mut group = vec![first];
    let until = Instant::now() + last.patience();
    while group.len() < GROUP_TXNS_MAX && bytes < GROUP_BYTES_MAX {
        let next = commands.try_recv().ok().or_else(|| {
            let left = until.saturating_duration_since(Instant::now());
            let waits = group.len() < last.txns && !left.is_zero();
            if waits { commands.recv_timeout(left).ok() } else { None }
        });
        match next {
            Some(Command::Commit(pending)) => {
                bytes += pending.txn.bytes();
                group.push(pending);
            }
            Some(other) => return (group, Some(other)),
            None => break,
        }
    }
    (group, None)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whether SQLite could not write because there is no room: then nothing has been committed.
fn is_disk_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

fn is_failed_sync(error: &rusqlite::Error) -> bool {
    let syncs = [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC];
    error.sqlite_error().is_some_and(|error| syncs.contains(&error.extended_code))
}
