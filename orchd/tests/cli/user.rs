//! `orchd user`: what it writes, and what it refuses.

use std::os::unix::fs::PermissionsExt as _;

use crate::daemon::{Daemon, orchd, run};

#[test]
fn a_user_gets_a_private_kubeconfig_that_works_and_has_no_rights_yet() {
    let daemon = Daemon::start();
    let data_dir = daemon.kubeconfig.parent().expect("a directory");
    let path = daemon.dir.path().join("jane");
    let mut command = orchd();
    command.args(["user", "jane", "--group", "readers", "--days", "7", "--output"]).arg(&path);
    command.arg("--data-dir").arg(data_dir);
    let ran = run(&mut command);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{ran:?}");
    let mode = std::fs::metadata(&path).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let ran = run(orchd().args(["get", "pods", "--kubeconfig"]).arg(&path));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("User \"jane\" cannot list resource \"pods\""), "{ran:?}");
}

#[test]
fn a_directory_without_keys_stays_without_and_bad_wishes_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let user = |arguments: &[&str]| {
        run(orchd().arg("user").args(arguments).arg("--data-dir").arg(dir.path()))
    };
    let ran = user(&["jane"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.contains("holds no keys of a cluster") && ran.err.contains("--data-dir"),
        "{ran:?}"
    );
    assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 0, "nothing is made");
    assert_eq!(user(&[" "]).code, Some(2));
    assert_eq!(user(&["jane", "--days", "0"]).code, Some(2));
    assert_eq!(user(&["jane", "--days", "9999"]).code, Some(2));
}
