//! What the process runtime promises beyond the suite.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use orchestrator_core::model::Protocol;
use orchestrator_core::runtime::{
    ContainerRunState, LogOptions, LogSource, PortMapping, Runtime, RuntimeError, SessionEvent,
    SessionOptions,
};
use orchestrator_core::testkit::runtime::bench::{eventually, text_of};
use orchestrator_core::testkit::runtime::check;
use orchestrator_process::{LOG_BYTES_MAX, ProcessRuntime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{Fixture, kill_pid, processes_with};

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_it_is() {
    let fixture = Fixture::new();
    let info = fixture.runtime.describe().await.expect("described");
    assert_eq!(
        (info.name.as_str(), info.enforces_limits, info.uses_images),
        ("process", false, false)
    );
    assert_eq!(fixture.runtime.image("any").await.expect("asked"), Some(String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_made_at_once_have_different_addresses() {
    check(Fixture::new(), |bench| async move {
        let pods: Vec<_> = (0..20).map(|_| bench.pod()).collect();
        let made: Vec<_> = pods
            .iter()
            .map(|pod| {
                let (bench, pod) = (Arc::clone(&bench), pod.clone());
                tokio::spawn(async move {
                    bench.runtime.create_sandbox(&pod).await.expect("made");
                    bench.run(&pod.key, "main", "echo $POD_IP").await
                })
            })
            .collect();
        for made in made {
            bench.exit(&made.await.expect("not panicked")).await;
        }
        let listed = bench.list(&bench.scope).await;
        let ips: BTreeSet<_> = listed.iter().filter_map(|it| it.ip).collect();
        assert_eq!(ips.len(), 20);
        let removals: Vec<_> = listed
            .into_iter()
            .map(|sandbox| {
                let bench = Arc::clone(&bench);
                tokio::spawn(async move { bench.runtime.remove_sandbox(&sandbox.key).await })
            })
            .collect();
        for removal in removals {
            removal.await.expect("not panicked").expect("removed");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_port_leads_to_the_same_port_of_the_pod() {
    check(Fixture::new(), |bench| async move {
        let mapping = |host_port| {
            let protocol = Protocol::Tcp;
            PortMapping { host_ip: None, host_port, container_port: host_port, protocol }
        };
        let port = bench.fixture.port();
        let mut pod = bench.pod();
        pod.ports = vec![mapping(port)];
        bench.runtime.create_sandbox(&pod).await.expect("made");
        bench.run(&pod.key, "main", &crate::helper::echo("$POD_IP", port)).await;
        let sent = vec![b'x'; 1_000_000];
        let received = eventually("the pod answers", || round_trip(port, &sent)).await;
        assert!(received == sent, "{} bytes of {}", received.len(), sent.len());

        let mut rival = bench.pod();
        rival.ports = vec![mapping(port)];
        match bench.runtime.create_sandbox(&rival).await {
            Err(RuntimeError::Invalid { message }) => {
                assert!(message.contains(&format!("hostPort {port}")), "{message}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(bench.sandbox(&rival.key).await, None);

        assert!(bench.sandbox(&pod.key).await.is_some_and(|sandbox| sandbox.ready));
        let path = format!("/pods/{}/", bench.scope.cluster);
        let forwards = |pid: &i32| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            arguments.split(|byte| *byte == 0).nth(1) == Some(b"forward")
        };
        let forwarder = processes_with(&path).into_iter().find(forwards);
        kill_pid(forwarder.expect("a forwarder runs"));
        eventually("the sandbox is dead", || async {
            bench.sandbox(&pod.key).await.filter(|sandbox| !sandbox.ready)
        })
        .await;
        bench.runtime.remove_sandbox(&pod.key).await.expect("removed");
        rival.key.attempt = 1;
        bench.runtime.create_sandbox(&rival).await.expect("the port is free again");
    })
    .await;
}

/// Sends bytes to a port of the host and returns what comes back, if anything does.
async fn round_trip(port: u16, sent: &[u8]) -> Option<Vec<u8>> {
    let (mut reader, mut writer) = TcpStream::connect(("127.0.0.1", port)).await.ok()?.into_split();
    let mut received = Vec::new();
    let send = async {
        writer.write_all(sent).await.ok();
        writer.shutdown().await.ok();
    };
    let ((), read) = tokio::join!(send, reader.read_to_end(&mut received));
    read.ok().filter(|length| *length > 0).map(|_| received)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_never_ran_says_why_each_time() {
    check(Fixture::new(), |bench| async move {
        let pod = bench.new_pod().await;
        let mut no_program = bench.container(&pod.key, "no-program", "");
        no_program.command = vec!["no-such-program".to_owned()];
        let mut no_directory = bench.container(&pod.key, "no-directory", "true");
        no_directory.working_dir = "/no/such/directory".to_owned();
        for (spec, culprit) in
            [(&no_program, "no-such-program"), (&no_directory, "/no/such/directory")]
        {
            bench.runtime.create_container(spec).await.expect("created");
            for _ in 0..2 {
                match bench.runtime.start_container(&spec.key).await {
                    Err(RuntimeError::Invalid { message }) => {
                        assert_eq!(
                            message,
                            format!("cannot run {culprit}: No such file or directory")
                        );
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(bench.exit_now(&spec.key).await.code, 127);
        }
        let mut empty = bench.container(&pod.key, "empty", "");
        empty.command.clear();
        let refused = bench.runtime.create_container(&empty).await;
        assert!(matches!(refused, Err(RuntimeError::Invalid { .. })), "{refused:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_bounded_and_keeps_the_newest_lines() {
    check(Fixture::new(), |bench| async move {
        let pod = bench.new_pod().await;
        let script = "head -c 25000000 /dev/zero | tr '\\0' x | fold -w 1000; echo; echo last; echo $ORCHESTRATOR_CONTAINER";
        let key = bench.run(&pod.key, "main", script).await;
        let follow = LogOptions { follow: true, ..LogOptions::default() };
        let followed = bench.log(&key, &follow).await;
        assert_eq!(bench.exit(&key).await.code, 0);
        let options = LogOptions { tail_lines: Some(2), ..LogOptions::default() };
        let tail = text_of(&bench.log(&key, &options).await, LogSource::Stdout);
        let (last, dir) = tail.trim_end().split_once('\n').expect("two lines");
        assert_eq!(last, "last");
        assert!(text_of(&followed, LogSource::Stdout).ends_with(&tail));
        for name in ["log", "log.1"] {
            let size = fs::metadata(format!("{dir}/{name}")).expect("kept").len();
            assert!(size <= LOG_BYTES_MAX, "{name} has {size} bytes");
        }
        let mode = fs::metadata(dir).expect("a directory").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_counts_a_container_with_its_children() {
    check(Fixture::new(), |bench| async move {
        let key = bench.run_ready("(while :; do :; done) & echo ready; wait").await;
        let ended = bench.run(&key.sandbox, "ended", "true").await;
        bench.exit(&ended).await;
        eventually("CPU time adds up", || async {
            let usage = bench.runtime.usage(&bench.scope).await.expect("read");
            assert_eq!(usage.iter().map(|it| &it.key).collect::<Vec<_>>(), [&key]);
            assert!(usage[0].memory_bytes > 0, "{usage:?}");
            assert!(usage[0].disk_bytes >= "ready\n".len() as u64, "its log: {usage:?}");
            (usage[0].cpu_nanos >= 50_000_000).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_exec_leaves_behind_ends_with_it() {
    check(Fixture::new(), |bench| async move {
        let key = bench.run_ready("echo ready; while :; do sleep 0.1; done").await;
        let program =
            ["/bin/sh", "-c", "sleep 1000 & setsid sleep 1000 & exit 4"].map(str::to_owned);
        let outcome = bench.runtime.exec(&key, &program, 50_000).await.expect("ran");
        assert_eq!(outcome.code, 4);
        let program = ["no-such-program".to_owned()];
        let outcome = bench.runtime.exec(&key, &program, 50_000).await.expect("ran");
        assert!(outcome.code == 127 && outcome.output.contains("no-such-program"), "{outcome:?}");
        let state = bench.observe(&key).await.state;
        assert!(matches!(state, ContainerRunState::Running { .. }), "{state:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_all_it_started_when_nobody_is_there_or_its_container_ends() {
    check(Fixture::new(), |bench| async move {
        let key =
            bench.run_ready("trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done").await;
        for terminal in [false, true] {
            let script = "trap '' HUP; setsid sleep 1000 & echo $!; sleep 1000 | cat";
            let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
            let options = SessionOptions { command, stdin: true, terminal };
            let mut session = bench.runtime.session(&key, &options).await.expect("a session");
            let Some(Ok(SessionEvent::Stdout(pid))) = session.output.next().await else {
                panic!("it prints a number")
            };
            let pid = String::from_utf8_lossy(&pid).trim().to_owned();
            let runs = || std::path::Path::new("/proc").join(&pid).exists();
            assert!(runs());
            if terminal {
                bench.runtime.stop_container(&key, 10_000).await.expect("stopped");
                while let Some(Ok(_)) = session.output.next().await {}
            }
            drop(session);
            eventually("what it started is gone", || async { (!runs()).then_some(()) }).await;
        }
    })
    .await;
}

#[test]
fn a_directory_that_is_not_ours_is_refused_untouched() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let refused = |dir: &std::path::Path| match ProcessRuntime::open(dir) {
        Err(RuntimeError::Invalid { message }) => message,
        other => panic!("{other:?}"),
    };
    let foreign = scratch.path().join("foreign");
    fs::create_dir(&foreign).expect("made");
    fs::write(foreign.join("thesis.txt"), "dear").expect("written");
    assert!(refused(&foreign).contains("not a state directory"));
    assert_eq!(fs::read_dir(&foreign).expect("read").count(), 1);

    let newer = scratch.path().join("newer");
    ProcessRuntime::open(&newer).expect("made");
    fs::write(newer.join("format"), "orchestrator-process 2\n").expect("written");
    assert!(refused(&newer).contains("orchestrator-process 2"));

    let open = scratch.path().join("open");
    ProcessRuntime::open(&open).expect("made");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).expect("opened to others");
    assert!(refused(&open).contains("0700"));
}
