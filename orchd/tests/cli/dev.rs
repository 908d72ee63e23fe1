//! `orchd dev`: what scripts rely on, and what becomes of pods when it stops.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::daemon::{Daemon, deployment, dev, run, signal, until};

pub fn is_alive(pid: &str) -> bool {
    // A zombie has ended: only its parent has not heard of it.
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    status.is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

/// Ends a process when a test fails between the daemons that would.
struct EndOnPanic(String);

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() && is_alive(&self.0) {
            signal(&self.0, "KILL");
        }
    }
}

/// Every file in a directory with its bytes.
fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries =
        std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    let mut files: Vec<_> = entries
        .filter(|entry| entry.path().is_file())
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).expect("a file"))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn ready_is_one_line_and_the_kubeconfig_is_private() {
    let daemon = Daemon::start();
    let words: Vec<_> = daemon.ready.split_whitespace().collect();
    assert_eq!(words[0], "ready");
    assert!(words[1].starts_with("https://127.0.0.1:") && !words[1].ends_with(":0"), "{words:?}");
    assert!(words.contains(&"runtime=process"), "{words:?}");
    let mode = std::fs::metadata(&daemon.kubeconfig).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&daemon.kubeconfig).expect("text");
    for part in [words[1], "certificate-authority-data:", "token:"] {
        assert!(text.contains(part), "{part:?} is not in the kubeconfig");
    }
    let nodes = daemon.done(&["get", "nodes"]);
    assert!(nodes.contains("local   Ready"), "{nodes}");
}

#[test]
fn a_second_orchd_on_the_same_directory_is_refused_with_the_reason() {
    let daemon = Daemon::start();
    let data = daemon.dir.path().join("data");
    let before = std::fs::read(data.join("kubeconfig")).expect("a file");
    let ran = run(&mut dev(&data));
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.is_empty() && ran.err.contains("in use"), "{ran:?}");
    assert!(ran.err.contains(&data.display().to_string()), "{ran:?}");
    assert_eq!(std::fs::read(data.join("kubeconfig")).expect("a file"), before);
    assert!(daemon.done(&["get", "nodes"]).contains("Ready"), "the first one goes on");
}

#[test]
fn term_leaves_pods_running_the_next_start_adopts_them_and_stop_pods_ends_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let daemon = Daemon::start_on(&data, &[], dir);
    let pid_file = daemon.dir.path().join("pid");
    // A dollar sign is written twice in a command, as in Kubernetes.
    let script = format!("echo $$$$ > {}; exec sleep 1000", pid_file.display());
    daemon.apply(&deployment("web", 1, &script));
    daemon.done(&["wait", "deploy/web", "--for", "condition=Available", "--timeout", "60s"]);
    let read_pid = || std::fs::read_to_string(&pid_file).unwrap_or_default().trim().to_owned();
    until("the pod's pid", || !read_pid().is_empty());
    let pid = read_pid();
    let _guard = EndOnPanic(pid.clone());
    let before = daemon.json(&["pods"]);

    let (code, dir) = daemon.stop();
    assert_eq!(code, Some(0));
    assert!(is_alive(&pid), "TERM without --stop-pods touched a pod");

    let daemon = Daemon::start_on(&data, &["--stop-pods"], dir);
    daemon.done(&["wait", "deploy/web", "--for", "condition=Available", "--timeout", "60s"]);
    let after = daemon.json(&["pods"]);
    let container = |list: &serde_json::Value| {
        let pod = &list["items"][0];
        let status = &pod["status"]["containerStatuses"][0];
        let started = &status["state"]["running"]["startedAt"];
        assert!(started.is_string(), "{pod}");
        [&pod["metadata"]["uid"], &status["containerID"], &status["restartCount"], started]
            .map(Clone::clone)
    };
    assert_eq!(container(&before), container(&after));
    assert_eq!((read_pid(), is_alive(&pid)), (pid.clone(), true));

    let (code, _dir) = daemon.stop();
    assert_eq!(code, Some(0));
    until("the pod to end", || !is_alive(&pid));
}

#[test]
fn a_directory_that_is_not_ours_is_refused_untouched() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("cluster.db"), "somebody's letters").expect("a file");
    let before = contents(dir.path());
    let ran = run(&mut dev(dir.path()));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.starts_with("error: cannot use the store sqlite:"), "{ran:?}");
    assert_eq!(contents(dir.path()), before);

    let file = dir.path().join("file");
    std::fs::write(&file, "x").expect("a file");
    let ran = run(&mut dev(&file));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains(&file.display().to_string()), "{ran:?}");
}

#[test]
fn a_port_that_is_taken_is_refused_with_the_reason() {
    let daemon = Daemon::start();
    let url = daemon.ready.split_whitespace().nth(1).expect("a URL");
    let address = url.trim_start_matches("https://");
    let other = daemon.dir.path().join("other");
    let mut command = crate::daemon::orchd();
    command.args(["dev", "--runtime", "process", "--listen", address, "--data-dir"]).arg(&other);
    let ran = run(&mut command);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains(address) && ran.err.contains("in use"), "{ran:?}");
}
