//! What is killed, and what must live on or end with it.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Read};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use orchestrator_core::runtime::{
    AttachOptions, ContainerKey, ContainerObservation, ContainerRunState, LogOptions, Runtime,
    Scope, SessionEvent,
};
use orchestrator_core::testkit::runtime::bench::{eventually, in_time};
use orchestrator_core::testkit::runtime::{Bench, check};
use orchestrator_process::ProcessRuntime;

use crate::fixture::{Fixture, kill_pid, nothing_left, parent_of, pid_of, processes_with};
use crate::helper;

#[tokio::test(flavor = "multi_thread")]
async fn pods_outlive_a_killed_parent_and_their_exit_codes_are_not_lost() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let state = scratch.path().join("state");
    let cluster = format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
    let (mut parent, mut lines) = spawn_parent("parent", &state, &cluster);

    let scope = Scope { cluster: cluster.clone(), node: "n1".to_owned() };
    let first = ProcessRuntime::open(&state).expect("opened beside the parent");
    let before = first.list(&scope).await.expect("listed");
    kill_group(&mut parent);
    assert!(lines.next().is_none(), "nobody else held the parent's output");
    drop(first);

    let next = ProcessRuntime::open(&state).expect("opened after the parent");
    assert_eq!(next.list(&scope).await.expect("listed"), before, "adopted, not restarted");
    let running = |it: &ContainerObservation| matches!(it.state, ContainerRunState::Running { .. });
    assert!(before.len() == 1 && before[0].containers.iter().all(running), "{before:?}");

    let repeats = before[0].containers.iter().find(|it| it.key.name == "repeats").expect("listed");
    let attached = next.attach(&repeats.key, &AttachOptions { stdin: true }).await;
    let mut client = attached.expect("its input is in nobody's hands but its supervisor's");
    client.input.write("again\n".into()).await.expect("taken");
    let heard = in_time("it is heard", client.output.next()).await;
    assert!(matches!(&heard, Some(Ok(SessionEvent::Stdout(it))) if it == "again\n"), "{heard:?}");

    fs::write(scratch.path().join("go"), "").expect("told to go on");
    let exit = eventually("the container ends", || async {
        let listed = next.list(&scope).await.expect("listed");
        let waits = listed[0].containers.iter().find(|it| it.key.name == "waits");
        match &waits.expect("listed").state {
            ContainerRunState::Exited(exit) => Some(exit.clone()),
            ContainerRunState::Created | ContainerRunState::Running { .. } => None,
        }
    })
    .await;
    assert_eq!(exit.code, 7);
    next.remove_sandbox(&before[0].key).await.expect("removed");
    nothing_left(&cluster).await;
}

/// Starts a parent of pods as the leader of a process group; returns when it is ready.
fn spawn_parent(role: &str, state: &Path, cluster: &str) -> (Child, Lines<BufReader<ChildStdout>>) {
    let variables = format!("STATE='{}' CLUSTER={cluster}", state.display());
    let mut parent = Command::new("/bin/sh")
        .args(["-c", &format!("exec {}", helper::command(role, &variables))])
        .process_group(0)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the parent starts");
    let mut lines = BufReader::new(parent.stdout.take().expect("piped")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.contains("parent-is-ready"))));
    (parent, lines)
}

fn kill_group(parent: &mut Child) {
    let group = Pid::from_raw(i32::try_from(parent.id()).expect("a pid"));
    killpg(group, Signal::SIGKILL).expect("the parent and its group are killed");
    parent.wait().expect("the parent ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_killed_at_any_moment_leaves_nothing_that_is_not_listed() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let state = scratch.path().join("state");
    let cluster = format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
    let scope = Scope { cluster: cluster.clone(), node: "n1".to_owned() };
    for round in 0..12 {
        let (mut parent, _lines) = spawn_parent("churn", &state, &cluster);
        tokio::time::sleep(Duration::from_millis(round * 7)).await;
        kill_group(&mut parent);
        let next = ProcessRuntime::open(&state).expect("opened after the parent");
        for sandbox in next.list(&scope).await.expect("listed") {
            next.remove_sandbox(&sandbox.key).await.expect("removed");
        }
        nothing_left(&cluster).await;
        assert!(!state.join("pods").join(&cluster).exists(), "no directory is left");
    }
}

/// Runs a check on a fixture's bench, with the fixture's runtime at hand.
async fn with_bench<Run: Future<Output = ()> + Send + 'static>(
    body: impl FnOnce(std::sync::Arc<Bench>, std::sync::Arc<ProcessRuntime>) -> Run,
) {
    let fixture = Fixture::new();
    let runtime = std::sync::Arc::clone(&fixture.runtime);
    check(fixture, |bench| body(bench, runtime)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_supervisor_takes_all_processes_of_its_container_with_it() {
    with_bench(|bench, runtime| async move {
        let children = "trap '' TERM; setsid sleep 1001 & sleep 1002 & echo ready; sleep 1003";
        let key = bench.run_ready(children).await;
        kill_pid(parent_of(pid_of(&runtime, &key)));
        let exit = bench.exit(&key).await;
        assert_eq!((exit.code, exit.message.as_str()), (137, "its supervisor was killed"));
        let path = format!("/pods/{}/", bench.scope.cluster);
        assert_eq!(processes_with(&path), [0; 0], "when it is listed as ended, it has");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_with_a_pid_used_again_is_left_alone() {
    with_bench(|bench, runtime| async move {
        let stranger = bench.run_ready("echo ready; while :; do sleep 0.1; done").await;
        let victim = bench.container(&stranger.sandbox, "victim", "true");
        bench.runtime.create_container(&victim).await.expect("created");
        let file = |key: &ContainerKey| {
            let (pod, name) = (&key.sandbox.pod, &key.name);
            let suffix = format!("{pod}.0/{name}.0/started");
            std::path::PathBuf::from(state_of(&runtime, &stranger)).join(suffix)
        };
        let started = fs::read_to_string(file(&stranger)).expect("written by its supervisor");
        let words: Vec<&str> = started.split(' ').collect();
        let ticks: u64 = words[1].parse().expect("ticks");
        let earlier = format!("{} {} {} {}", words[0], ticks - 1, words[2], words[3]);
        fs::write(file(&victim.key), earlier).expect("forged");

        assert_eq!(bench.exit(&victim.key).await.code, 137);
        bench.runtime.stop_container(&victim.key, 100).await.expect("stopped");
        bench.runtime.remove_container(&victim.key).await.expect("removed");
        let state = bench.observe(&stranger).await.state;
        assert!(matches!(state, ContainerRunState::Running { .. }), "{state:?}");
    })
    .await;
}

/// Returns the directory of a container's scope, from its process's environment.
fn state_of(runtime: &ProcessRuntime, key: &ContainerKey) -> String {
    let environ = fs::read(format!("/proc/{}/environ", pid_of(runtime, key))).expect("it runs");
    let text = String::from_utf8_lossy(&environ).into_owned();
    let mark = text.split('\0').find_map(|it| it.strip_prefix("ORCHESTRATOR_CONTAINER="));
    let mut ancestors = std::path::Path::new(mark.expect("marked")).ancestors();
    ancestors.nth(2).expect("deep enough").display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_descriptor_of_ours_reaches_a_container_or_its_supervisor() {
    with_bench(|bench, runtime| async move {
        // Without close-on-exec, as a careless library in the same program makes them.
        let (reader, writer) = nix::unistd::pipe().expect("a pipe");
        let link = fs::read_link(format!("/proc/self/fd/{}", writer.as_raw_fd())).expect("open");
        let key = bench.run_ready("echo ready; while :; do sleep 0.1; done").await;
        let command = pid_of(&runtime, &key);
        for pid in [command, parent_of(command)] {
            for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten() {
                assert_ne!(fs::read_link(entry.path()).ok().as_ref(), Some(&link), "{entry:?}");
            }
        }
        drop(writer);
        let mut rest = Vec::new();
        fs::File::from(reader).read_to_end(&mut rest).expect("the pipe ends with our writer");
        let log = bench.log(&key, &LogOptions::default()).await;
        assert_eq!(log.len(), 1);
    })
    .await;
}
