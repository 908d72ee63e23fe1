//! Clients attached to commands: what is not taken waits, and there are only so many.

use std::time::Duration;

use bytes::Bytes;
use orchestrator_core::runtime::{
    AttachOptions, ContainerKey, LogSource, RuntimeError, Session, SessionEvent, StandardStreams,
};
use orchestrator_core::testkit::runtime::bench::{Bench, eventually, in_time};
use orchestrator_core::testkit::runtime::check;

use crate::fixture::Fixture;

/// As many clients as a supervisor has.
const CLIENTS_MAX: usize = 16;

/// Starts a shell script that reads one client's input.
async fn run_reading(bench: &Bench, script: &str) -> ContainerKey {
    let pod = bench.new_pod().await;
    let mut spec = bench.container(&pod.key, "main", script);
    spec.stdio = StandardStreams { stdin: true, stdin_once: true, terminal: false };
    bench.run_spec(&spec).await
}

async fn attach(bench: &Bench, key: &ContainerKey) -> Result<Session, RuntimeError> {
    bench.runtime.attach(key, &AttachOptions { stdin: true }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn input_waits_until_the_program_takes_it() {
    check(Fixture::new(), |bench| async move {
        let go = tempfile::tempdir().expect("a temporary directory");
        let file = go.path().join("go");
        let wait = format!("while [ ! -e '{}' ]; do sleep 0.1; done", file.display());
        let key = run_reading(&bench, &format!("{wait}; wc -c; exit 3")).await;
        let Session { mut input, mut output } = attach(&bench, &key).await.expect("attached");
        let mut write = tokio::spawn(async move {
            input.write(Bytes::from(vec![b'x'; 3_000_000])).await.expect("taken");
            input.close().await.expect("ended");
        });
        let early = tokio::time::timeout(Duration::from_millis(300), &mut write).await;
        assert!(early.is_err(), "nobody keeps so much: {early:?}");
        std::fs::write(&file, "").expect("told to go on");
        in_time("all is taken", write).await.expect("not panicked");
        assert_eq!(bench.exit(&key).await.code, 3);
        match in_time("it says how much", output.next()).await {
            Some(Ok(SessionEvent::Stdout(bytes))) => assert_eq!(&bytes[..], b"3000000\n"),
            other => panic!("{other:?}"),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_holds_up_a_program_but_not_its_end() {
    check(Fixture::new(), |bench| async move {
        let script = "read line; head -c 5000000 /dev/zero | tr '\\0' x; sleep 1000";
        let key = run_reading(&bench, script).await;
        let mut client = attach(&bench, &key).await.expect("attached");
        client.input.write(Bytes::from_static(b"go\n")).await.expect("taken");
        eventually("it prints as much as is on its way", || async {
            (bench.printed(&key, LogSource::Stdout).await.len() > 50_000).then_some(())
        })
        .await;
        bench.runtime.stop_container(&key, 0).await.expect("stopped");
        assert_eq!(bench.exit_now(&key).await.code, 137);
        let printed = bench.printed(&key, LogSource::Stdout).await.len();
        assert!(printed < 5_000_000, "it waited for its client: {printed}");

        let mut heard = 0;
        let rest = async {
            while let Some(event) = client.output.next().await {
                match event.expect("what was sent is read after the end, too") {
                    SessionEvent::Stdout(bytes) | SessionEvent::Stderr(bytes) => {
                        heard += bytes.len();
                    }
                    SessionEvent::Exited(code) => panic!("the listing tells that: {code}"),
                }
            }
        };
        in_time("the output ends", rest).await;
        assert!(heard > 50_000 && heard <= printed, "{heard} of {printed}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_clients_are_attached_at_once() {
    check(Fixture::new(), |bench| async move {
        let pod = bench.new_pod().await;
        let key = bench.run(&pod.key, "main", "sleep 1000").await;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS_MAX {
            clients.push(attach(&bench, &key).await.expect("attached"));
        }
        match attach(&bench, &key).await {
            Err(RuntimeError::Invalid { message }) => {
                assert!(message.contains("as many clients"), "{message}");
            }
            other => panic!("{other:?}"),
        }
        drop(clients.pop());
        eventually("a place is free", || async { attach(&bench, &key).await.ok().map(drop) }).await;
    })
    .await;
}
