//! `orchd backup`, `restore`, `secrets` and `check`: a cluster's state is copied, comes back, and is looked after.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::cluster::{join, running, start_server, temp, url};
use crate::daemon::{Daemon, deployment, orchd, run, until};
use crate::dev::is_alive;

const CANARY: &str = "c4n4ry-9b1f";

pub fn upkeep(verb: &[&str], data: &Path) -> Command {
    let mut command = orchd();
    command.args(verb).arg("--data-dir").arg(data);
    command
}

#[track_caller]
pub fn done(mut command: Command) -> String {
    let ran = run(&mut command);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.out
}

pub fn secret(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, annotations: {{note: {CANARY}}}}}\nstringData: {{p: {CANARY}}}\n"
    )
}

pub fn revision(server: &Daemon, what: &[&str]) -> u64 {
    let object = server.json(what);
    let text = object.pointer("/metadata/resourceVersion").and_then(|found| found.as_str());
    text.and_then(|text| text.parse().ok()).expect("a revision")
}

/// Which history the server's revisions belong to, as its agents are told; `None` of the first.
fn epoch(server: &Daemon) -> Option<u64> {
    let system = server.json(&["namespace", "kube-system"]);
    let said = system["metadata"]["annotations"]["orchestrator.dev/epoch"].as_str();
    said.map(|said| said.parse().expect("a number"))
}

/// The files below a directory that hold the canary, as it is or in base64.
fn files_with_canary(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_with_canary(&path));
            continue;
        }
        let bytes = std::fs::read(&path).expect("readable");
        for canary in [CANARY, "YzRuNHJ5LTliMWY"] {
            if bytes.windows(canary.len()).any(|window| window == canary.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

/// A data directory restored from a backup, to start a server in.
fn restored(backup: &Path) -> TempDir {
    let dir = temp();
    let mut command = upkeep(&["restore"], &dir.path().join("data"));
    command.arg(backup);
    let said = done(command);
    assert!(said.contains(" restored into sqlite:"), "{said}");
    dir
}

#[test]
fn l14_a_restored_cluster_restarts_nothing_and_goes_on_above_its_old_revisions() {
    let server = start_server("127.0.0.1:0", temp());
    let _agent = join(&server, "a", &["--stop-pods"]);
    let backups = temp();
    let printed = |name: &str| {
        let text = std::fs::read_to_string(backups.path().join(name)).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let script = |name: &str| {
        format!("echo $$$$ >> {}; exec sleep 3600", backups.path().join(name).display())
    };
    server.apply(&deployment("web", 3, &script("web")));
    server.apply(&secret("s"));
    until("3 pods", || running(&server).len() == 3);
    let before = running(&server);
    let backup = backups.path().join("b.orchd");
    let mut command = upkeep(&["backup"], &server.kubeconfig.with_file_name(""));
    command.arg(&backup);
    let said = done(command);
    assert!(said.ends_with(", with keys\n"), "{said}");

    server.apply(&deployment("late", 1, &script("late")));
    until("the late pod", || running(&server).len() == 4 && printed("late").len() == 1);
    let newest = revision(&server, &["deployment", "late"]);
    let listen = url(&server).trim_start_matches("https://").to_owned();
    drop(server.kill());

    let dir = restored(&backup);
    let server = start_server(&listen, dir);
    assert!(revision(&server, &["deployment", "web"]) > newest, "none is given out twice");
    assert!(epoch(&server).is_some_and(|epoch| epoch > newest), "another history has begun");
    let secret = server.json(&["secret", "s"]);
    assert_eq!(secret["data"]["p"], "YzRuNHJ5LTliMWY=");
    until("the agent heard of", || server.done(&["node", "list"]).contains(" Ready"));
    // What the backup does not know is ended, once the agent is sure; by then it has judged the others as well.
    until("the late pod is ended", || !is_alive(&printed("late")[0]));
    assert_eq!(running(&server), before, "nothing was restarted");
    assert_eq!(printed("web").len(), 3, "each was started once");
    assert!(printed("web").iter().all(|pid| is_alive(pid)));
    server.apply(&deployment("new", 1, "exec sleep 3600"));
    until("a new pod", || running(&server).len() == 4);
}

#[test]
fn s41_secrets_lie_nowhere_in_clear_and_a_new_key_seals_them_while_the_server_runs() {
    let server = start_server("127.0.0.1:0", temp());
    let data = server.kubeconfig.with_file_name("");
    server.apply(&secret("one"));
    server.apply(&secret("two"));
    let rotated = done(upkeep(&["secrets", "rotate"], &data));
    assert!(rotated.starts_with("key ") && rotated.ends_with(" seals 2 secrets\n"), "{rotated}");
    let backup = data.with_file_name("b.orchd");
    let mut command = upkeep(&["backup"], &data);
    command.arg(&backup);
    done(command);
    assert_eq!(server.json(&["secret", "one"])["data"]["p"], "YzRuNHJ5LTliMWY=");
    let dir = server.kill();
    assert_eq!(files_with_canary(dir.path()), [] as [String; 0]);

    // Without a server the store itself is opened.
    let rotated = done(upkeep(&["secrets", "rotate"], &data));
    assert!(rotated.ends_with(" seals 2 secrets\n"), "{rotated}");
    let server = start_server("127.0.0.1:0", dir);
    assert_eq!(server.json(&["secret", "two"])["data"]["p"], "YzRuNHJ5LTliMWY=");
}

#[test]
fn s11_with_other_keys_the_server_serves_everything_else() {
    let server = start_server("127.0.0.1:0", temp());
    let data = server.kubeconfig.with_file_name("");
    server.apply(&secret("lost"));
    server.apply(&secret("remade"));
    let dir = server.kill();
    let keys = data.join("pki/secrets.keys");
    let kept = std::fs::read(&keys).expect("made");
    std::fs::remove_file(&keys).expect("ours");
    let mut started = upkeep(&["server", "--listen", "127.0.0.1:0"], &data);
    let ran = run(&mut started);
    assert!(ran.code == Some(1) && ran.err.contains("secrets.keys"), "{ran:?}");
    assert!(!keys.exists(), "no key was made");
    started.arg("--new-keys");
    let server = Daemon::ready(started, data.join("kubeconfig"), dir);
    server.apply(&secret("new"));
    assert_eq!(server.json(&["secret", "new"])["data"]["p"], "YzRuNHJ5LTliMWY=");
    let said = server.refused(1, &["get", "secret", "lost"]);
    assert!(said.contains("cannot be read") && said.contains("secrets.keys"), "{said}");
    // It can be done without the old key, too.
    server.done(&["delete", "secret", "remade"]);
    server.apply(&secret("remade"));
    assert_eq!(server.json(&["secret", "remade"])["data"]["p"], "YzRuNHJ5LTliMWY=");
    let mut check = upkeep(&["check"], &data);
    let ran = run(&mut check);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("Secret/default/lost") && ran.out.contains("secrets.keys"), "{ran:?}");

    let dir = server.kill();
    let mut both = kept;
    both.extend(std::fs::read(&keys).expect("made anew"));
    std::fs::write(&keys, both).expect("ours");
    let server = start_server("127.0.0.1:0", dir);
    assert_eq!(server.json(&["secret", "lost"])["data"]["p"], "YzRuNHJ5LTliMWY=");
    let said = done(upkeep(&["check"], &data));
    assert!(!said.contains("FAIL") && said.contains("as the server's"), "{said}");
}

/// A server, its data directory, and a backup of it.
fn server_with_backup() -> (Daemon, PathBuf, PathBuf) {
    let server = start_server("127.0.0.1:0", temp());
    let backup = backup_of(&server);
    let data = server.kubeconfig.with_file_name("");
    (server, data, backup)
}

/// Makes a backup of a server, beside its data directory.
pub fn backup_of(server: &Daemon) -> PathBuf {
    let data = server.kubeconfig.with_file_name("");
    let backup = data.with_file_name("b.orchd");
    let mut command = upkeep(&["backup"], &data);
    command.arg(&backup);
    done(command);
    backup
}

#[test]
fn a_server_that_runs_and_cannot_be_asked_is_told_apart_from_none_and_from_an_agent() {
    let server = start_server("127.0.0.1:0", temp());
    let data = server.kubeconfig.with_file_name("");
    let agent = join(&server, "a", &[]);
    let agents = agent.dir.path().join("data");
    std::fs::remove_file(&server.kubeconfig).expect("it was made");
    let says = "kubeconfig is not there; a start of the server writes it anew";
    let mut backup = upkeep(&["backup"], &data);
    let ran = run(backup.arg(data.with_file_name("b")));
    assert!(ran.code == Some(1) && ran.err.contains(says), "{ran:?}");
    let ran = run(&mut upkeep(&["check"], &data));
    assert!(ran.code == Some(1) && ran.out.contains(says), "{ran:?}");
    for verb in [&["check"][..], &["migrate", "--to", "etcd://127.0.0.1/x"]] {
        let ran = run(&mut upkeep(verb, &agents));
        assert!(ran.err.contains("is an agent's and has no state"), "{ran:?}");
    }
}

#[test]
fn a_backup_goes_into_a_new_file_of_a_directory_that_is_there() {
    let (_server, data, backup) = server_with_backup();
    for (file, says) in [
        (backup.clone(), format!("{} is there already; choose another name", backup.display())),
        (
            data.join("absent/b"),
            format!("there is no directory {} to write a file into", data.join("absent").display()),
        ),
    ] {
        let mut command = upkeep(&["backup"], &data);
        command.arg(&file);
        let ran = run(&mut command);
        assert_eq!((ran.code, ran.err), (Some(1), format!("error: {says}\n")));
    }
}

#[test]
fn a_state_that_has_lost_its_keys_gets_new_ones_only_when_that_is_asked_for() {
    let server = start_server("127.0.0.1:0", temp());
    let data = server.kubeconfig.with_file_name("");
    server.apply(&secret("s"));
    server.apply(&deployment("web", 1, "exec sleep 3600"));
    let backup = data.with_file_name("b.orchd");
    let mut command = upkeep(&["backup", "--without-keys"], &data);
    command.arg(&backup);
    done(command);
    let old = server.kill();
    let dir = restored(&backup);
    let target = dir.path().join("data");
    let start = |arguments: &[&str]| {
        let mut command = upkeep(&["server", "--listen", "127.0.0.1:0"], &target);
        command.args(arguments);
        command
    };
    for _ in 0..2 {
        let ran = run(&mut start(&[]));
        assert_eq!(ran.code, Some(1), "{ran:?}");
        for says in ["pki/root.crt", "backup.md", "--new-keys"] {
            assert!(ran.err.contains(says), "{says}: {ran:?}");
        }
        let made = target.join("pki").read_dir().map_or(0, Iterator::count);
        assert_eq!(made, 0, "no key was made");
    }
    let ran = run(&mut upkeep(&["secrets", "rotate"], &target));
    assert!(ran.code == Some(1) && ran.err.contains("--new-keys"), "{ran:?}");

    // What begins anew has everything but what the keys sealed; the flag is for once.
    let kubeconfig = target.join("kubeconfig");
    let server = Daemon::ready(start(&["--new-keys"]), kubeconfig.clone(), temp());
    server.json(&["deployment", "web"]);
    server.refused(1, &["get", "secret", "s"]);
    drop(server.kill());
    let ran = run(&mut start(&["--new-keys"]));
    assert!(ran.code == Some(2) && ran.err.contains("leave the flag away"), "{ran:?}");

    // With the keys that it had, all is there.
    std::fs::remove_dir_all(target.join("pki")).expect("ours");
    std::fs::rename(old.path().join("data/pki"), target.join("pki")).expect("ours");
    let server = Daemon::ready(start(&[]), kubeconfig, temp());
    assert_eq!(server.json(&["secret", "s"])["data"]["p"], "YzRuNHJ5LTliMWY=");
}

#[test]
fn f19_a_damaged_backup_is_refused_before_anything_is_made() {
    let (_server, data, backup) = server_with_backup();
    let whole = std::fs::read(&backup).expect("made");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (bytes, says) in [
        (&flipped[..], "the dump is damaged at byte"),
        (&whole[..whole.len() - 1], "before its end"),
        (b"something else", "no dump"),
        (b"", "before its end"),
    ] {
        let damaged = data.with_file_name("damaged.orchd");
        std::fs::write(&damaged, bytes).expect("ours");
        let target = data.with_file_name("target");
        let mut command = upkeep(&["restore"], &target);
        command.arg(&damaged);
        let ran = run(&mut command);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.contains(says), "{says}: {ran:?}");
        assert!(!target.exists(), "{says}");
    }
    let mut onto_itself = upkeep(&["restore"], &data);
    onto_itself.arg(&backup);
    let ran = run(&mut onto_itself);
    assert!(ran.code == Some(1) && ran.err.contains("holds a state already"), "{ran:?}");
}

#[test]
fn an_interrupted_restore_is_refused_by_the_server_and_can_be_done_again() {
    let (_server, _, backup) = server_with_backup();
    let dir = temp();
    let target = dir.path().join("data");
    std::fs::create_dir(&target).expect("made");
    std::fs::write(target.join("restoring"), "").expect("ours");
    std::fs::write(target.join("cluster.db.filling"), "half of it").expect("ours");
    let mut started = upkeep(&["server", "--listen", "127.0.0.1:0"], &target);
    let ran = run(&mut started);
    assert!(ran.code == Some(1) && ran.err.contains("do it again with `orchd restore`"), "{ran:?}");
    let mut command = upkeep(&["restore"], &target);
    command.arg(&backup);
    done(command);
    start_server("127.0.0.1:0", dir);
}

#[test]
fn a_state_is_moved_to_another_file_that_nobody_else_has_and_not_while_a_server_runs() {
    let server = start_server("127.0.0.1:0", temp());
    let data = server.kubeconfig.with_file_name("");
    server.apply(&secret("s"));
    assert_eq!(epoch(&server), None);
    let newest = revision(&server, &["secret", "s"]);
    let place = data.with_file_name("moved.db");
    let store = format!("sqlite:{}", place.display());
    let migrate = || upkeep(&["migrate", "--to", &store], &data);
    let refused = |says: &str| {
        let ran = run(&mut migrate());
        assert!(ran.code == Some(1) && ran.err.contains(says), "{says}: {ran:?}");
    };
    refused("is in use by process");
    let (_, dir) = server.stop();

    // Somebody else is about to move a state there.
    let lock = std::fs::File::create(data.with_file_name("moved.db.lock")).expect("ours");
    lock.lock().expect("nobody has it");
    refused("moved.db: is in use by another process");
    lock.unlock().expect("it is ours");
    std::fs::write(&place, "something").expect("ours");
    refused("moved.db: there is a state already");
    std::fs::remove_file(&place).expect("ours");

    assert!(done(migrate()).contains("records moved from sqlite:"));
    let mut command = upkeep(&["server", "--listen", "127.0.0.1:0", "--store", &store], &data);
    command.env("ORCHD_LOG", "warn");
    let server = Daemon::ready(command, data.join("kubeconfig"), dir);
    assert_eq!(server.json(&["secret", "s"])["data"]["p"], "YzRuNHJ5LTliMWY=");
    assert!(epoch(&server).is_some_and(|epoch| epoch > newest), "another history has begun");
}

#[test]
fn only_who_has_the_right_gets_a_backup_over_the_network() {
    let server = start_server("127.0.0.1:0", temp());
    let data = server.kubeconfig.with_file_name("");
    let mine = data.with_file_name("eve.kubeconfig");
    let mut user = upkeep(&["user", "eve"], &data);
    user.arg("-o").arg(&mine);
    let ran = run(&mut user);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let backup = data.with_file_name("b.orchd");
    let backup_as = |kubeconfig: &Path, keys: &[&str]| {
        let mut command = orchd();
        command.arg("backup").arg(&backup).args(keys).arg("--kubeconfig").arg(kubeconfig);
        run(&mut command)
    };
    let ran = backup_as(&mine, &["--without-keys"]);
    assert!(ran.code == Some(1) && ran.err.contains("backups"), "{ran:?}");
    assert!(!backup.exists());
    let ran = backup_as(&server.kubeconfig, &[]);
    assert_eq!(ran.code, Some(2), "its keys are not to be had: {ran:?}");
    let ran = backup_as(&server.kubeconfig, &["--without-keys"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(&backup).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let _dir = server.kill();
    let target = data.with_file_name("target");
    let mut command = upkeep(&["restore"], &target);
    command.arg(&backup);
    let ran = run(&mut command);
    assert!(ran.code == Some(0) && ran.err.contains("the backup has no keys"), "{ran:?}");
}
