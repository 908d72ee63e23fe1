//! `Readers`: connections that list records and replay the log, beside the writer and never in its way.
//!
//! Invariant: all pages of a listing come from one read transaction. Such a transaction holds back the
//! truncation of the write-ahead log, so that their number and age are limited.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use orchestrator_core::model::Revision;
use orchestrator_core::store::{Batch, Page, PageToken, Quarantined, Record, StoreError};
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row};

use crate::codec::{ROW_VERSION, decode_batch, key, log_checksum, record_checksum};
use crate::open::open_reader;
use crate::schema::{Meta, newest_revision};

/// The most unfinished listings; a further one makes the oldest expire.
const LISTINGS_MAX: usize = 8;
/// How long a listing may wait for its next page to be asked for.
const LISTING_AGE_MAX: Duration = Duration::from_secs(60);
/// The most connections kept open without use.
const IDLE_MAX: usize = 2;
/// The most bytes of values in a page, but for the record that goes beyond.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// The most batches read from the log at once.
const REPLAY_BATCHES_MAX: i64 = 256;
/// The most bytes read from the log at once, but for the batch that goes beyond.
const REPLAY_BYTES_MAX: usize = 1 << 20;

/// A pool of reading connections, and the listings in progress.
#[derive(Debug)]
pub(crate) struct Readers {
    page_records_max: usize,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    idle: Vec<Connection>,
    listing_last: u64,
    listings: BTreeMap<u64, Listing>,
}

/// A listing between two pages.
#[derive(Debug)]
struct Listing {
    connection: Connection,
    revision: Revision,
    /// Where each page begins.
    starts: Vec<Position>,
    touched: Instant,
}

impl Readers {
    pub(crate) fn new(path: PathBuf, page_records_max: usize) -> Self {
        Self { page_records_max: page_records_max.max(1), path, state: Mutex::default() }
    }

    /// Reads a page of a listing. Blocks on the disk.
    pub(crate) fn page(&self, token: Option<&PageToken>) -> Result<Page, StoreError> {
        let (id, index, mut listing) = match token {
            None => {
                let id = {
                    let mut state = self.lock();
                    state.listing_last += 1;
                    state.listing_last
                };
                (id, 0, self.begin().map_err(backend)?)
            }
            Some(token) => {
                let (id, index) = parse_token(token).ok_or(StoreError::StalePage)?;
                let listing = self.lock().listings.remove(&id).ok_or(StoreError::StalePage)?;
                (id, index, listing)
            }
        };
        let start = listing.starts.get(index).cloned().ok_or(StoreError::StalePage)?;
        let (mut page, end) =
            read_page(&listing, &start, self.page_records_max).map_err(backend)?;
        match end {
            None => {
                if listing.connection.execute_batch("COMMIT").is_ok() {
                    self.give_back(listing.connection);
                }
            }
            Some(end) => {
                listing.starts.truncate(index + 1);
                listing.starts.push(end);
                listing.touched = Instant::now();
                page.next = Some(PageToken(format!("{id}.{}", index + 1)));
                self.keep(id, listing);
            }
        }
        for record in &page.quarantined {
            tracing::warn!(key = record.key, reason = record.reason, "a record cannot be read");
        }
        Ok(page)
    }

    /// Reads the commits after `after` and up to `newest` from the log, as many as fit. Blocks on the disk.
    pub(crate) fn replay(
        &self,
        after: Revision,
        newest: Revision,
    ) -> Result<Vec<Batch>, StoreError> {
        let connection = self.connection().map_err(backend)?;
        connection.execute_batch("BEGIN").map_err(backend)?;
        let batches = replay(&connection, after, newest)?;
        connection.execute_batch("COMMIT").map_err(backend)?;
        self.give_back(connection);
        Ok(batches)
    }

    /// Ends listings that nobody has continued for long.
    pub(crate) fn expire(&self) {
        let old = |listing: &Listing| listing.touched.elapsed() > LISTING_AGE_MAX;
        self.lock().listings.retain(|_, listing| !old(listing));
    }

    /// Ends every listing, to let the write-ahead log be truncated.
    pub(crate) fn expire_all(&self) {
        self.lock().listings.clear();
    }

    /// Closes every connection that is not in use, and keeps none from now on.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        *state = State { closed: true, ..State::default() };
    }

    fn begin(&self) -> rusqlite::Result<Listing> {
        let connection = self.connection()?;
        connection.execute_batch("BEGIN")?;
        // The first read fixes the snapshot.
        let revision = Revision(newest_revision(&connection)?);
        let starts = vec![Position::default()];
        Ok(Listing { connection, revision, starts, touched: Instant::now() })
    }

    fn connection(&self) -> rusqlite::Result<Connection> {
        let idle = self.lock().idle.pop();
        idle.map_or_else(|| open_reader(&self.path), Ok)
    }

    fn give_back(&self, connection: Connection) {
        let mut state = self.lock();
        if !state.closed && state.idle.len() < IDLE_MAX {
            state.idle.push(connection);
        }
    }

    fn keep(&self, id: u64, listing: Listing) {
        let mut state = self.lock();
        if !state.closed {
            state.listings.insert(id, listing);
        }
        while state.listings.len() > LISTINGS_MAX {
            state.listings.pop_first();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No change leaves the pool half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The columns of a key as they are stored, whether they make sense or not.
#[derive(Clone, Debug, Default)]
struct Position {
    kind: Vec<u8>,
    namespace: Vec<u8>,
    name: Vec<u8>,
    part: i64,
}

struct Text<'a>(&'a [u8]);

impl ToSql for Text<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

fn parse_token(token: &PageToken) -> Option<(u64, usize)> {
    let (id, index) = token.0.split_once('.')?;
    Some((id.parse().ok()?, index.parse().ok()?))
}

/// Reads the records after `start`; the position of the last one if there are more.
fn read_page(
    listing: &Listing,
    start: &Position,
    records_max: usize,
) -> rusqlite::Result<(Page, Option<Position>)> {
    let mut page = Page { revision: listing.revision, ..Page::default() };
    let mut statement = listing.connection.prepare_cached(
        "SELECT kind, namespace, name, part, revision, version, checksum, value FROM record
         WHERE (kind, namespace, name, part) > (?1, ?2, ?3, ?4)
         ORDER BY kind, namespace, name, part",
    )?;
    let parameters = (Text(&start.kind), Text(&start.namespace), Text(&start.name), start.part);
    let mut rows = statement.query(parameters)?;
    let (mut last, mut count, mut bytes) = (None, 0, 0);
    while let Some(row) = rows.next()? {
        if count == records_max || bytes >= PAGE_BYTES_MAX {
            return Ok((page, last));
        }
        let position = position(row)?;
        let value = row.get_ref(7)?.as_blob()?;
        (count, bytes) = (count + 1, bytes + value.len());
        match decode_record(row, &position, value)? {
            Ok(record) => page.records.push(record),
            Err(reason) => {
                let revision = Some(revision(row)?);
                page.quarantined.push(Quarantined { key: printed(&position), reason, revision });
            }
        }
        last = Some(position);
    }
    Ok((page, None))
}

fn position(row: &Row<'_>) -> rusqlite::Result<Position> {
    let text =
        |column| -> rusqlite::Result<Vec<u8>> { Ok(row.get_ref(column)?.as_bytes()?.to_vec()) };
    Ok(Position { kind: text(0)?, namespace: text(1)?, name: text(2)?, part: row.get(3)? })
}

fn revision(row: &Row<'_>) -> rusqlite::Result<Revision> {
    Ok(Revision(row.get::<_, i64>(4)?.cast_unsigned()))
}

fn decode_record(
    row: &Row<'_>,
    position: &Position,
    value: &[u8],
) -> rusqlite::Result<Result<Record, String>> {
    let revision = revision(row)?;
    let (version, checksum): (i64, i64) = (row.get(5)?, row.get(6)?);
    if version > ROW_VERSION {
        return Ok(Err(format!("version {version} is newer than {ROW_VERSION}")));
    }
    let key = match key(&position.kind, &position.namespace, &position.name, position.part) {
        Err(reason) => return Ok(Err(reason)),
        Ok(key) => key,
    };
    if record_checksum(&key, revision, value) != checksum {
        return Ok(Err("checksum does not match".to_owned()));
    }
    Ok(Ok(Record { key, revision, value: Bytes::copy_from_slice(value) }))
}

fn printed(position: &Position) -> String {
    let text = String::from_utf8_lossy;
    let Position { kind, namespace, name, part } = position;
    match key(kind, namespace, name, *part) {
        Ok(key) => key.to_string(),
        Err(_) => format!("{}/{}/{} (part {part})", text(kind), text(namespace), text(name)),
    }
}

fn replay(
    connection: &Connection,
    after: Revision,
    newest: Revision,
) -> Result<Vec<Batch>, StoreError> {
    let compacted = Revision(Meta::Compacted.read(connection).map_err(backend)?);
    if after < compacted {
        return Err(StoreError::Compacted { oldest: compacted });
    }
    let mut statement = connection
        .prepare_cached(
            "SELECT revision, version, checksum, batch FROM log
             WHERE revision > ?1 AND revision <= ?2 ORDER BY revision LIMIT ?3",
        )
        .map_err(backend)?;
    let parameters = (after.0.cast_signed(), newest.0.cast_signed(), REPLAY_BATCHES_MAX);
    let mut rows = statement.query(parameters).map_err(backend)?;
    let (mut batches, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next().map_err(backend)? {
        let revision = Revision(row.get::<_, i64>(0).map_err(backend)?.cast_unsigned());
        match decode_log(row, revision).map_err(backend)? {
            Ok((batch, length)) => {
                batches.push(batch);
                bytes += length;
            }
            Err(reason) if batches.is_empty() => {
                // Watchers get over it by loading again.
                tracing::warn!(%revision, reason, "a commit in the log cannot be read");
                return Err(StoreError::Compacted { oldest: revision });
            }
            Err(_) => break,
        }
        if bytes >= REPLAY_BYTES_MAX {
            break;
        }
    }
    Ok(batches)
}

fn decode_log(
    row: &Row<'_>,
    revision: Revision,
) -> rusqlite::Result<Result<(Batch, usize), String>> {
    let (version, checksum): (i64, i64) = (row.get(1)?, row.get(2)?);
    let encoded = row.get_ref(3)?.as_blob()?;
    if version > ROW_VERSION {
        return Ok(Err(format!("version {version} is newer than {ROW_VERSION}")));
    }
    if log_checksum(revision, encoded) != checksum {
        return Ok(Err("checksum does not match".to_owned()));
    }
    Ok(decode_batch(revision, encoded).map(|batch| (batch, encoded.len())))
}

/// Wraps an error of SQLite.
pub(crate) fn backend(error: rusqlite::Error) -> StoreError {
    StoreError::Backend(error.into())
}
