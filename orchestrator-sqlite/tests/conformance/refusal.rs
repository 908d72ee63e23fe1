//! Databases that must not be opened are refused with the reason, and left as they were byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use orchestrator_core::store::Expect;
use orchestrator_core::testkit::store::{commit, put, record_key};
use orchestrator_sqlite::{APPLICATION_ID, FORMAT_VERSION, OpenError, SqliteStore};
use rusqlite::Connection;
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Every file of a directory with its bytes.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(directory).expect("readable");
    let paths = entries.map(|entry| entry.expect("readable").path());
    paths.map(|path| (path.clone(), fs::read(path).expect("readable"))).collect()
}

/// Opens `path`, which must be refused with no file changed, made or removed.
async fn refusal(path: &Path) -> OpenError {
    let directory = path.parent().expect("a file in a directory");
    let before = contents(directory);
    let error = SqliteStore::open(path).await.expect_err("refused");
    assert_eq!(contents(directory), before, "{error}");
    error
}

/// Makes a database of ours with a record in it, closed.
async fn ours(directory: &TempDir) -> PathBuf {
    let path = directory.path().join("cluster.db");
    let store = SqliteStore::open(&path).await.expect("a new database opens");
    commit(&store, put(record_key(0), Expect::Absent, "v")).await;
    store.close().await;
    path
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let directory = directory();
    let path = directory.path().join("cluster.db");
    for bytes in [&b"x"[..], b"SQLite format 3\0", &[0; 5_000], &b"hello, world\n".repeat(100)] {
        fs::write(&path, bytes).expect("writable");
        let error = refusal(&path).await;
        assert!(matches!(error, OpenError::NotADatabase { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_directory_in_the_place_of_the_database_is_refused() {
    let directory = directory();
    let error = SqliteStore::open(directory.path()).await.expect_err("refused");
    assert!(matches!(error, OpenError::NotADatabase { .. }), "{error:?}");
}

#[tokio::test]
async fn a_database_of_another_program_is_refused() {
    let directory = directory();
    for (name, id) in [("none.db", 0), ("other.db", 0x1234_5678)] {
        let path = directory.path().join(name);
        let other = Connection::open(&path).expect("opens");
        other.pragma_update(None, "application_id", id).expect("is set");
        other
            .execute_batch("CREATE TABLE record (x); INSERT INTO record VALUES (1)")
            .expect("runs");
        drop(other);
        let error = refusal(&path).await;
        assert!(matches!(error, OpenError::Foreign { found, .. } if found == id), "{error:?}");
        assert!(error.to_string().contains(&format!("{APPLICATION_ID:#010x}")), "{error}");
    }
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let directory = directory();
    let path = ours(&directory).await;
    let newer = Connection::open(&path).expect("opens");
    newer.pragma_update(None, "user_version", FORMAT_VERSION + 1).expect("is set");
    drop(newer);
    let error = refusal(&path).await;
    let expected = FORMAT_VERSION + 1;
    assert!(matches!(error, OpenError::Newer { found, .. } if found == expected), "{error:?}");
}

#[tokio::test]
async fn a_newer_version_that_only_the_write_ahead_log_shows_is_refused() {
    let directory = directory();
    let path = ours(&directory).await;
    let newer = Connection::open(&path).expect("opens");
    newer.pragma_update(None, "wal_autocheckpoint", 0).expect("is set");
    newer.pragma_update(None, "user_version", FORMAT_VERSION + 1).expect("is set");
    // What a process killed at this moment leaves behind.
    let left = directory.path().join("left.db");
    let wal = |path: &Path| path.with_extension("db-wal");
    fs::copy(&path, &left).expect("copied");
    fs::copy(wal(&path), wal(&left)).expect("copied");
    let before = (fs::read(&left).expect("readable"), fs::read(wal(&left)).expect("readable"));
    let error = SqliteStore::open(&left).await.expect_err("refused");
    assert!(matches!(error, OpenError::Newer { .. }), "{error:?}");
    let after = (fs::read(&left).expect("readable"), fs::read(wal(&left)).expect("readable"));
    assert!(before == after, "untouched");
}

#[tokio::test]
async fn a_read_only_database_is_refused() {
    let directory = directory();
    let path = ours(&directory).await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("is set");
    let error = refusal(&path).await;
    assert!(matches!(&error, OpenError::ReadOnly { path: at } if *at == path), "{error:?}");
}

#[tokio::test]
async fn a_read_only_directory_is_refused() {
    let directory = directory();
    let path = ours(&directory).await;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o500)).expect("is set");
    let error = refusal(&path).await;
    let new = refusal(&directory.path().join("new.db")).await;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).expect("is set");
    for error in [error, new] {
        assert!(matches!(error, OpenError::ReadOnly { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_missing_directory_is_refused() {
    let directory = directory();
    let error =
        SqliteStore::open(directory.path().join("no/cluster.db")).await.expect_err("refused");
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
}

#[tokio::test]
async fn a_full_disk_is_refused() {
    let directory = directory();
    let path = ours(&directory).await;
    // The room is probed through the lock file; this one is always on a full disk.
    let lock = path.with_extension("db.lock");
    fs::remove_file(&lock).expect("is there");
    std::os::unix::fs::symlink("/dev/full", &lock).expect("is made");
    let before = fs::read(&path).expect("readable");
    let error = SqliteStore::open(&path).await.expect_err("refused");
    assert!(matches!(error, OpenError::Full { .. }), "{error:?}");
    assert!(fs::read(&path).expect("readable") == before, "untouched");
}

#[tokio::test]
async fn a_database_in_use_is_refused_until_it_is_closed() {
    let directory = directory();
    let path = ours(&directory).await;
    let store = SqliteStore::open(&path).await.expect("free");
    let error = refusal(&path).await;
    let pid = std::process::id().to_string();
    assert!(
        matches!(&error, OpenError::InUse { holder, .. } if holder.contains(&pid)),
        "{error:?}"
    );
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).expect("is made");
    let error = refusal(&link).await;
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    commit(&store, put(record_key(1), Expect::Absent, "v")).await;
    store.close().await;
    let store = SqliteStore::open(&path).await.expect("free again");
    drop(store);
    SqliteStore::open(&path).await.expect("free again");
}

#[tokio::test]
async fn a_lock_that_outlives_its_process_for_a_moment_is_waited_for() {
    let directory = directory();
    let path = ours(&directory).await;
    let mut child = std::process::Command::new("true").spawn().expect("runs");
    let dead = child.id();
    child.wait().expect("is waited for");
    let lock_path = path.with_extension("db.lock");
    fs::write(&lock_path, format!("{dead}\n")).expect("is written");
    let lock = fs::File::open(&lock_path).expect("is there");
    lock.lock().expect("is free");
    let opening = tokio::spawn(async move { SqliteStore::open(&path).await });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(!opening.is_finished(), "somebody still holds the lock");
    drop(lock);
    opening.await.expect("ran").expect("is free now");
}

#[tokio::test]
async fn a_new_database_is_for_its_owner_only() {
    let directory = directory();
    let path = directory.path().join("cluster.db");
    let store = SqliteStore::open(&path).await.expect("opens");
    commit(&store, put(record_key(0), Expect::Absent, "secret")).await;
    for (path, _) in contents(directory.path()) {
        let mode = fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{path:?}");
    }
}

#[tokio::test]
async fn an_empty_file_becomes_a_database() {
    let directory = directory();
    let path = directory.path().join("cluster.db");
    fs::write(&path, b"").expect("writable");
    SqliteStore::open(&path).await.expect("what a crash at the very first moment leaves");
}

#[tokio::test]
async fn what_is_left_of_a_database_that_was_being_made_does_no_harm() {
    let directory = directory();
    let path = directory.path().join("cluster.db");
    fs::write(directory.path().join("cluster.db.new"), b"SQLite format 3\0 and half a")
        .expect("written");
    SqliteStore::open(&path).await.expect("it opens").close().await;
    let names: Vec<_> = contents(directory.path()).into_keys().collect();
    assert_eq!(names, [path.clone(), directory.path().join("cluster.db.lock")]);
}

#[tokio::test]
async fn a_closed_database_is_one_file_and_its_lock() {
    let directory = directory();
    let path = ours(&directory).await;
    let files: Vec<_> = contents(directory.path()).into_keys().collect();
    assert_eq!(files, [path.clone(), path.with_extension("db.lock")]);
}

#[test]
fn the_bundled_sqlite_is_free_of_the_wal_reset_bug() {
    assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
}
