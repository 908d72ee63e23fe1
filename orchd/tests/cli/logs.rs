//! `logs`.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::daemon::{Daemon, deployment, pod};

#[test]
fn a_log_is_printed_whole_from_its_end_and_of_one_container() {
    let daemon = Daemon::start();
    let scripts =
        [("one", "for i in 1 2 3; do echo line $i; done"), ("two", "echo out; echo err >&2")];
    daemon.apply(&pod("p", &scripts));
    daemon.done(&[
        "wait",
        "pod",
        "p",
        "--for",
        "jsonpath={.status.phase}=Succeeded",
        "--timeout",
        "60s",
    ]);
    assert_eq!(daemon.done(&["logs", "p", "-c", "one"]), "line 1\nline 2\nline 3\n");
    assert_eq!(daemon.done(&["logs", "pod/p", "-c", "one", "--tail", "1"]), "line 3\n");
    assert_eq!(daemon.done(&["logs", "p", "-c", "one", "-f"]), "line 1\nline 2\nline 3\n");
    assert_eq!(daemon.done(&["logs", "p", "-c", "one", "--since", "1h"]).lines().count(), 3);
    let both = daemon.done(&["logs", "p", "-c", "two"]);
    assert!(both.contains("out\n") && both.contains("err\n"), "{both}");
    let stamped = daemon.done(&["logs", "p", "-c", "one", "--timestamps", "--tail", "1"]);
    let (time, line) = stamped.split_once(' ').expect("a time");
    assert!(time.starts_with("20") && time.ends_with('Z') && line == "line 3\n", "{stamped}");

    assert!(daemon.refused(1, &["logs", "p"]).contains("[one two]"));
    assert!(daemon.refused(1, &["logs", "p", "-c", "three"]).contains("three"));
    assert!(daemon.refused(1, &["logs", "p", "-c", "one", "--previous"]).contains("previous"));
    daemon.refused(2, &["logs", "p", "--since", "yesterday"]);
    daemon.refused(2, &["logs", "cm/p"]);
}

#[test]
fn a_followed_log_goes_on_and_ends_when_nobody_reads() {
    let daemon = Daemon::start();
    daemon.apply(&deployment("web", 1, "echo one; echo two; exec sleep 1000"));
    daemon.done(&["wait", "deploy/web", "--for", "condition=Available", "--timeout", "60s"]);
    let mut follow = daemon.client(&["logs", "-f", "deploy/web"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().expect("it runs");
    let mut lines = BufReader::new(follow.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    assert_eq!((next(), next()), ("one".to_owned(), "two".to_owned()));
    drop(lines);
    assert!(follow.wait().expect("it ends").success());
}

#[test]
fn the_run_before_the_last_restart_can_be_read() {
    let daemon = Daemon::start();
    let count = daemon.dir.path().join("count");
    let script = format!(
        "echo x >> {0}; n=$(wc -l < {0}); echo run $n; [ $n -gt 1 ] || exit 1; exec sleep 1000",
        count.display()
    );
    daemon.apply(&deployment("web", 1, &script));
    let restarted = "jsonpath={.status.containerStatuses[0].restartCount}=1";
    let name =
        daemon.done(&["wait", "deploy/web", "--for", "condition=Available", "--timeout", "60s"]);
    assert!(!name.is_empty());
    let pod = daemon.pods().remove(0);
    daemon.done(&["wait", "pod", &pod, "--for", restarted, "--timeout", "60s"]);
    crate::daemon::until("the second run", || daemon.done(&["logs", &pod]) == "run 2\n");
    assert_eq!(daemon.done(&["logs", &pod, "--previous"]), "run 1\n");
}
