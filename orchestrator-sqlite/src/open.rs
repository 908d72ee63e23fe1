//! Decides whether a file may be opened, and opens it: the refusals that keep other people's data safe.
//!
//! Invariant: a file that is refused is left as it was, byte for byte. Therefore SQLite, which repairs and
//! rewrites on opening, sees only files whose header says they are ours.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use orchestrator_core::model::Revision;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::error::OpenError;
use crate::options::SqliteOptions;
use crate::schema::{APPLICATION_ID, FORMAT_VERSION, Meta, migrate, version};

/// The free bytes without which a database is not opened.
const FREE_BYTES_MIN: usize = 1 << 20;
/// The most bytes of the write-ahead log that stay allocated when it is empty.
const WAL_BYTES_KEPT_MAX: u64 = 16 << 20;
/// How the names of the files end that SQLite keeps beside a database and takes for part of whichever is there.
const BESIDE: [&str; 3] = ["-journal", "-shm", "-wal"];
/// Statements a connection keeps prepared.
const STATEMENTS_MAX: usize = 16;
/// How long another program (a backup, a shell) may hold the database before a call fails.
const BUSY_WAIT_MAX: Duration = Duration::from_millis(500);
/// How long a lock may outlive the process that took it. What that process had forked when it was killed shares the lock
/// until it runs its own program, moments later.
const DEAD_LOCK_WAIT_MAX: Duration = Duration::from_secs(10);
const DEAD_LOCK_PAUSE: Duration = Duration::from_millis(5);

/// An open database that no other store has open.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The connection that writes.
    pub connection: Connection,
    /// Held as long as the database is open; to be dropped after the connection.
    pub lock: File,
    /// The absolute path of the database.
    pub path: PathBuf,
}

/// Opens the database at `path`, which is created if there is none.
pub(crate) fn open(path: &Path, options: &SqliteOptions) -> Result<Opened, OpenError> {
    let path = resolve(path).map_err(|error| OpenError::from_io(path, error))?;
    let lock_path = beside(&path, ".lock");
    if !lock_path.exists() {
        // Looked at before the lock file is made: nothing is put beside a file that is not ours. With a
        // lock file there, somebody may have the database open, and closing a second descriptor of it
        // would release the locks of SQLite in this process.
        check_header(&path)?;
    }
    check_writable(&path)?;
    let mut lock = acquire(&path, &lock_path)?;
    check_header(&path)?;
    let made = check_space(&mut lock)
        .map_err(|error| OpenError::from_io(&path, error))
        .and_then(|()| create(&path, options.begin_after));
    if made.is_err() && !path.exists() {
        // The lock guards nothing; a directory that was refused is left as it was.
        let _ = fs::remove_file(&lock_path);
    }
    made?;
    let connection =
        connect(&path, options).map_err(|error| OpenError::from_sqlite(&path, error))?;
    Ok(Opened { connection: connection?, lock, path })
}

/// A place that is to get a database.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Held as long as nobody else may open a database there.
    pub lock: File,
    /// Its absolute path.
    pub path: PathBuf,
}

/// Takes a place where no database is, so that nobody makes or puts one there meanwhile.
pub(crate) fn take(path: &Path) -> Result<Taken, OpenError> {
    let path = resolve(path).map_err(|error| OpenError::from_io(path, error))?;
    let refuse_there = || {
        if path.exists() {
            return Err(OpenError::NotEmpty { path: path.clone() });
        }
        let left = BESIDE.iter().map(|end| beside(&path, end)).find(|left| left.exists());
        left.map_or(Ok(()), |path| Err(OpenError::Orphaned { path }))
    };
    refuse_there()?;
    check_writable(&path)?;
    let mut lock = acquire(&path, &beside(&path, ".lock"))?;
    // Somebody may have put one there since.
    refuse_there()?;
    check_space(&mut lock).map_err(|error| OpenError::from_io(&path, error))?;
    Ok(Taken { lock, path })
}

/// Opens a further connection, which reads.
pub(crate) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.busy_timeout(BUSY_WAIT_MAX)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// Follows symbolic links, so that one database has one lock.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = std::path::absolute(path)?;
            let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(error);
            };
            Ok(fs::canonicalize(directory)?.join(name))
        }
        other => other,
    }
}

pub(crate) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

/// Reads the header without SQLite: our id, and no newer version; an absent or empty file is fine.
fn check_header(path: &Path) -> Result<(), OpenError> {
    const MAGIC: &[u8; 16] = b"SQLite format 3\0";
    let owned = || path.to_owned();
    let mut header = Vec::with_capacity(100);
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(OpenError::from_io(path, error)),
        Ok(file) => {
            let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
            if !regular {
                return Err(OpenError::NotADatabase { path: owned() });
            }
            file.take(100)
                .read_to_end(&mut header)
                .map_err(|error| OpenError::from_io(path, error))?;
        }
    }
    if header.is_empty() {
        return Ok(());
    }
    if header.len() < 100 || !header.starts_with(MAGIC) {
        return Err(OpenError::NotADatabase { path: owned() });
    }
    let number = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let (found, version) = (number(68), number(60));
    if found != APPLICATION_ID {
        return Err(OpenError::Foreign { path: owned(), found });
    }
    check_version(path, version)
}

fn check_version(path: &Path, found: u32) -> Result<(), OpenError> {
    if found > FORMAT_VERSION {
        return Err(OpenError::Newer { path: path.to_owned(), found, supported: FORMAT_VERSION });
    }
    Ok(())
}

/// Refuses a file or directory that is marked read-only, also for a user whom the marks do not stop.
fn check_writable(path: &Path) -> Result<(), OpenError> {
    for place in [Some(path), path.parent()].into_iter().flatten() {
        match fs::metadata(place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(OpenError::from_io(place, error)),
            Ok(metadata) if metadata.permissions().readonly() => {
                return Err(OpenError::ReadOnly { path: place.to_owned() });
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

fn acquire(path: &Path, lock_path: &Path) -> Result<File, OpenError> {
    let failed = |error| OpenError::from_io(lock_path, error);
    let until = Instant::now() + DEAD_LOCK_WAIT_MAX;
    loop {
        let mut lock = private().create(true).open(lock_path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) if is_at(&lock, lock_path).map_err(failed)? => return Ok(lock),
            // Somebody whose start failed has removed it since it was opened: it locks nothing.
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut lock);
                if holder.is_some_and(is_dead) && Instant::now() < until {
                    std::thread::sleep(DEAD_LOCK_PAUSE);
                    continue;
                }
                let holder = holder.map(|pid| format!("process {pid}"));
                let holder = holder.unwrap_or_else(|| "another process".to_owned());
                return Err(OpenError::InUse { path: path.to_owned(), holder });
            }
        }
    }
}

/// The process that says in the lock file that it holds it.
fn holder(lock: &mut File) -> Option<u32> {
    let mut said = String::new();
    lock.take(16).read_to_string(&mut said).ok()?;
    said.trim().parse().ok()
}

fn is_dead(pid: u32) -> bool {
    !Path::new("/proc").join(pid.to_string()).exists()
}

/// Whether a path leads to an open file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let opened = file.metadata()?;
    match fs::metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (opened.dev(), opened.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Fails when there is no room to work, with the lock file as it was; else it has the number of this process.
fn check_space(lock: &mut File) -> io::Result<()> {
    let length = lock.seek(SeekFrom::End(0))?;
    if let Err(error) = lock.write_all(&vec![0; FREE_BYTES_MIN]) {
        // Some of it may have been written. What matters is why not all of it.
        let _ = lock.set_len(length);
        return Err(error);
    }
    // A device, which has no length, is no place to lock; but it is harmless.
    lock.set_len(0)?;
    lock.seek(SeekFrom::Start(0))?;
    writeln!(lock, "{}", std::process::id())
}

/// Makes the database where there is none, readable by this user alone: it holds secrets.
///
/// It is made beside its place without a sync, then synced and put there as a whole: a new cluster waits for one sync
/// instead of a dozen, and a crash leaves no half of it.
fn create(path: &Path, begin_after: Revision) -> Result<(), OpenError> {
    // With a journal of a database that went away, SQLite decides what becomes of it.
    if path.exists() || BESIDE.iter().any(|end| beside(path, end).exists()) {
        return Ok(());
    }
    let new = beside(path, ".new");
    let made = make(&new, begin_after)
        .and_then(|()| put(&new, path).map_err(|error| OpenError::from_io(path, error)));
    if made.is_err() {
        // What failed is the error worth telling.
        let _ = fs::remove_file(&new);
    }
    made
}

fn make(path: &Path, begin_after: Revision) -> Result<(), OpenError> {
    let io = |error| OpenError::from_io(path, error);
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        Ok(()) | Err(_) => {}
    }
    private().create_new(true).open(path).map_err(io)?;
    let made = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        connection.pragma_update_and_check(None, "journal_mode", "MEMORY", |_| Ok(()))?;
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        migrate(&mut connection)?;
        // What was before is history that is gone.
        Meta::Base.write(&connection, begin_after.0)?;
        Meta::Compacted.write(&connection, begin_after.0)?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
    };
    made().map_err(|error| OpenError::from_sqlite(path, error))
}

fn put(new: &Path, path: &Path) -> io::Result<()> {
    File::open(new)?.sync_all()?;
    rename(new, path)
}

/// Puts a file that is on the disk in its place, for good.
pub(crate) fn rename(new: &Path, path: &Path) -> io::Result<()> {
    fs::rename(new, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn connect(
    path: &Path,
    options: &SqliteOptions,
) -> rusqlite::Result<Result<Connection, OpenError>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_WAIT_MAX)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Until the version is known to be ours nothing may be moved from the log into the file.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    if let Err(newer) = check_version(path, version(&connection)?) {
        return Ok(Err(newer));
    }
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let migrated = migrate(&mut connection)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let source = format!("journal mode is {mode}, not wal: the file system is not supported");
        return Ok(Err(OpenError::Backend { path: path.to_owned(), source: source.into() }));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    // The writer checkpoints itself: SQLite's own automatic checkpoint would swallow a failed sync.
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    connection.pragma_update_and_check(
        None,
        "journal_size_limit",
        WAL_BYTES_KEPT_MAX.cast_signed(),
        |_| Ok(()),
    )?;
    let page_bytes: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let pages_max = (options.database_bytes_max / page_bytes.cast_unsigned()).max(1).cast_signed();
    connection.pragma_update_and_check(None, "max_page_count", pages_max, |_| Ok(()))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    if migrated {
        // The header that `check_header` reads must show the new version.
        connection.pragma_update_and_check(None, "wal_checkpoint", "TRUNCATE", |_| Ok(()))?;
    }
    Ok(Ok(connection))
}
