//! Data directories that `orchd dev` refuses: with the reason and exit code 1, every byte of them as it was.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use orchestrator_tests::machine::contents;
use orchestrator_tests::orchd::{Ended, Orchd, command, run};
use tempfile::TempDir;

/// Where in the header of a SQLite database the version of its format and the program it belongs to are.
const VERSION_AT: usize = 60;
const PROGRAM_AT: usize = 68;

fn directory() -> TempDir {
    tempfile::Builder::new().prefix("orch-e2e-").tempdir().expect("a temporary directory")
}

/// Makes a data directory as a run of orchd leaves it.
async fn ours(parent: &TempDir) -> PathBuf {
    let dir = parent.path().join("data");
    let orchd = Orchd::start_in(&dir, "process", "").await;
    assert_eq!(orchd.stop().await.code(), Some(0));
    dir
}

async fn dev(dir: &Path) -> Ended {
    let dir = dir.to_str().expect("paths of tests are text");
    let arguments = ["dev", "--data-dir", dir, "--listen", "127.0.0.1:0", "--runtime", "process"];
    run(command(&arguments)).await
}

/// Runs orchd on a directory, which it must refuse with all these words, and leave alone.
async fn refused(dir: &Path, says: &[&str]) {
    let before = contents(dir);
    let ended = dev(dir).await;
    assert_refusal(dir, says, &ended);
    let names = |contents: &[(PathBuf, u32, Vec<u8>)]| -> Vec<PathBuf> {
        contents.iter().map(|(path, ..)| path.clone()).collect()
    };
    let after = contents(dir);
    assert_eq!(names(&after), names(&before), "files were made or removed: {}", ended.stderr);
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after, "{} was changed: {}", before.0.display(), ended.stderr);
    }
}

fn assert_refusal(dir: &Path, says: &[&str], ended: &Ended) {
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    for text in says {
        assert!(ended.stderr.contains(text), "{text:?} is not in {ended:?}");
    }
    assert!(ended.stderr.contains(&dir.display().to_string()), "the directory is named: {ended:?}");
    assert_eq!(ended.stdout, "", "it was never ready");
}

fn set_header(database: &Path, at: usize, number: u32) {
    let mut bytes = fs::read(database).expect("readable");
    bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
    fs::write(database, bytes).expect("writable");
}

#[tokio::test]
async fn a_file_is_no_data_directory() {
    let parent = directory();
    let file = parent.path().join("data");
    fs::write(&file, "precious").expect("writable");
    let ended = dev(&file).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&file.display().to_string()), "{ended:?}");
    assert_eq!(fs::read(&file).expect("it is there"), b"precious");
}

#[tokio::test]
async fn somebody_elses_directory_is_refused() {
    let parent = directory();
    fs::create_dir(parent.path().join("photos")).expect("made");
    fs::write(parent.path().join("photos/1.jpg"), "precious").expect("writable");
    refused(parent.path(), &["is not a data directory", "photos"]).await;
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let parent = directory();
    fs::write(parent.path().join("cluster.db"), "precious").expect("writable");
    refused(parent.path(), &["cluster.db", "is not a database"]).await;
}

#[tokio::test]
async fn a_database_of_another_program_is_refused() {
    let parent = directory();
    let dir = ours(&parent).await;
    set_header(&dir.join("cluster.db"), PROGRAM_AT, 0x1234_5678);
    refused(&dir, &["another program", "0x12345678"]).await;
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let parent = directory();
    let dir = ours(&parent).await;
    set_header(&dir.join("cluster.db"), VERSION_AT, 999);
    refused(&dir, &["format version 999", "newer"]).await;
}

#[tokio::test]
async fn pods_of_a_newer_version_are_refused() {
    let parent = directory();
    let dir = ours(&parent).await;
    fs::write(dir.join("process/format"), "orchestrator-process 999\n").expect("writable");
    refused(&dir, &["orchestrator-process 999"]).await;
}

#[tokio::test]
async fn a_read_only_directory_or_database_is_refused() {
    let parent = directory();
    let dir = ours(&parent).await;
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    mode(&dir.join("cluster.db"), 0o400).expect("is set");
    refused(&dir, &["read-only"]).await;
    mode(&dir.join("cluster.db"), 0o600).expect("is set");
    mode(&dir, 0o500).expect("is set");
    refused(&dir, &["read-only"]).await;
    mode(&dir, 0o700).expect("is set");

    let empty = directory();
    mode(empty.path(), 0o500).expect("is set");
    refused(empty.path(), &["read-only"]).await;
    mode(empty.path(), 0o700).expect("is set");
}

#[tokio::test]
async fn a_full_disk_is_refused() {
    let parent = directory();
    let dir = ours(&parent).await;
    // The room is tried out with the lock file; this one is always on a full disk.
    let lock = dir.join("cluster.db.lock");
    fs::remove_file(&lock).expect("it is there");
    std::os::unix::fs::symlink("/dev/full", &lock).expect("made");
    refused(&dir, &["full"]).await;
}

/// Runs orchd on a copy of a used and on an empty data directory on a file system of 4 MB, made unfit by a script. It is
/// mounted in a namespace of its own, which ends with its processes.
#[cfg(feature = "docker")]
async fn refused_on_file_system(made_unfit: &str, says: &str) {
    let parent = directory();
    ours(&parent).await;
    let script = format!(
        r#"
        mkdir disk && mount -t tmpfs -o size=4m disk disk || exit 90
        cp -a data disk/data && mkdir disk/empty || exit 91
        {made_unfit}
        for name in data empty; do
            cp -a disk/$name before
            "$1" dev --data-dir disk/$name --listen 127.0.0.1:0 --runtime process
            [ $? = 1 ] || exit 92
            diff -r before disk/$name || exit 93
            rm -r before
        done
    "#
    );
    let mut shell = tokio::process::Command::new("unshare");
    shell.args(["--mount", "sh", "-c", &script, "sh"]).arg(orchestrator_tests::orchd::program());
    shell.current_dir(parent.path());
    let ended = run(shell).await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    for name in ["data", "empty"] {
        let told = ended
            .stderr
            .lines()
            .any(|line| line.contains(&format!("disk/{name}")) && line.contains(says));
        assert!(told, "{name}: {ended:?}");
    }
}

#[cfg(feature = "docker")]
#[tokio::test]
async fn a_full_file_system_is_refused() {
    refused_on_file_system("cat /dev/zero >disk/rest 2>/dev/null", "is full").await;
}

#[cfg(feature = "docker")]
#[tokio::test]
async fn a_read_only_file_system_is_refused() {
    refused_on_file_system("mount -o remount,ro disk || exit 94", "read-only").await;
}

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let parent = directory();
    let dir = parent.path().join("data");
    let orchd = Orchd::start_in(&dir, "process", "").await;
    let holder = format!("process {}", orchd.pid());
    assert_refusal(&dir, &["in use", &holder], &dev(&dir).await);
    // The one that has it goes on, and so what is in the directory is not what it was.
    orchd.client.raw("/readyz").await.expect("it answers");
    assert_eq!(orchd.stop().await.code(), Some(0));
}
