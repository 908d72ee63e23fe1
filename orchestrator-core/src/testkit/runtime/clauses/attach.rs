//! The clauses of attaching: RT18 and RT19.

use std::sync::Arc;

use bytes::Bytes;

use super::{FOREVER, LONG_MS, hear};
use crate::runtime::{
    AttachOptions, ContainerKey, ContainerRunState, LogSource, RuntimeError, SandboxKey, Session,
    SessionEvent, SessionOutput, StandardStreams,
};
use crate::testkit::runtime::bench::{Bench, in_time};

const INPUT: StandardStreams = StandardStreams { stdin: true, stdin_once: false, terminal: false };
const INPUT_ONCE: StandardStreams = StandardStreams { stdin_once: true, ..INPUT };

pub async fn rt18_clients_hear_a_program_and_are_heard(bench: Arc<Bench>) {
    let script = "echo ready; while read line; do echo \"got $line\"; echo \"err $line\" >&2; done";
    let key = run_tied(&bench, script, INPUT).await;
    bench.until_printed(&key, "ready").await;
    let options = AttachOptions { stdin: true };
    if !bench.fixture.has_sessions() {
        let refused = bench.runtime.attach(&key, &options).await;
        assert!(matches!(refused, Err(RuntimeError::Invalid { .. })), "{refused:?}");
        return;
    }
    let mut first = attached(&bench, &key, true).await;
    let another = bench.fixture.another().await;
    let mut second = another.attach(&key, &options).await.expect("attached through another");

    first.input.write(Bytes::from_static(b"one\n")).await.expect("taken");
    for client in [&mut first, &mut second] {
        let heard = heard_until(&mut *client.output, &["got one\n", "err one\n"]).await;
        assert!(!heard.contains("ready"), "from now on: {heard:?}");
    }
    first.input.close().await.expect("ended");
    in_time("a client that has ended its input is let go", hear(first.output)).await;
    second.input.write(Bytes::from_static(b"two\n")).await.expect("taken");
    heard_until(&mut *second.output, &["got two\n", "err two\n"]).await;

    bench.runtime.stop_container(&key, 0).await.expect("stopped");
    in_time("the output ends with the container", hear(second.output)).await;
    assert_eq!(bench.printed(&key, LogSource::Stdout).await, "ready\ngot one\ngot two\n");
    let late = bench.runtime.attach(&key, &options).await;
    assert!(matches!(late, Err(RuntimeError::NotFound { .. })), "{late:?}");
}

pub async fn rt18_a_program_has_a_terminal_of_the_size_it_is_told(bench: Arc<Bench>) {
    if !bench.fixture.has_sessions() {
        return;
    }
    let script = "test -t 0 && test -t 1 && test -t 2 && echo ready; read line; stty size; \
        head -c 40000 /dev/zero | tr '\\0' x; echo; echo oops >&2; exit 5";
    let key = run_tied(&bench, script, StandardStreams { terminal: true, ..INPUT }).await;
    bench.until_printed(&key, "ready").await;
    let Session { mut input, output } = attached(&bench, &key, true).await;
    input.resize(123, 45).await.expect("resized");
    input.write(Bytes::from_static(b"go\n")).await.expect("taken");
    let heard = in_time("the output ends with the program", hear(output)).await;
    let text = String::from_utf8_lossy(&heard.stdout).into_owned();
    let end = format!("45 123\r\n{}\r\noops\r\n", "x".repeat(40_000));
    assert!(text.ends_with(&end), "{text:?}");
    assert_eq!(heard.stderr, b"", "a terminal has one output");
    assert_eq!(bench.exit(&key).await.code, 5);
    let printed = bench.printed(&key, LogSource::Stdout).await;
    assert!(printed.starts_with("ready\r\n") && printed.ends_with(&end), "{printed:?}");
}

pub async fn rt19_input_for_one_client_ends_with_it(bench: Arc<Bench>) {
    if !bench.fixture.has_sessions() {
        return;
    }
    let key = run_tied(&bench, "cat; exit 3", INPUT_ONCE).await;
    drop(attached(&bench, &key, false).await);
    let Session { mut input, output } = attached(&bench, &key, true).await;
    // More than any pipe holds: both ends move at the same time.
    let sent: Bytes = "0123456789abcdef".repeat(40_000).into();
    let write = async {
        input.write(sent.clone()).await.expect("taken");
        input.close().await.expect("ended");
    };
    let both = async { tokio::join!(hear(output), write) };
    let (heard, ()) = in_time("the output ends with the program", both).await;
    assert!(heard.stdout == sent, "{} bytes of {}", heard.stdout.len(), sent.len());
    assert_eq!(bench.exit(&key).await.code, 3);

    let pod = key.sandbox;
    let key = run_tied_in(&bench, &pod, "leaves", "cat; exit 4", INPUT_ONCE).await;
    let mut client = attached(&bench, &key, true).await;
    client.input.write(Bytes::from_static(b"here\n")).await.expect("taken");
    heard_until(&mut *client.output, &["here"]).await;
    drop(client);
    assert_eq!(bench.exit(&key).await.code, 4, "it left without a word");

    let at_terminal = StandardStreams { terminal: true, ..INPUT_ONCE };
    let key = run_tied_in(&bench, &pod, "terminal", "cat; exit 5", at_terminal).await;
    let mut client = attached(&bench, &key, true).await;
    client.input.write(Bytes::from_static(b"before\n")).await.expect("taken");
    heard_until(&mut *client.output, &["before\r\nbefore\r\n"]).await;
    drop(client);
    let Session { mut input, output } = attached(&bench, &key, true).await;
    input.write(Bytes::from_static(b"half a line")).await.expect("taken");
    input.close().await.expect("ended");
    let heard = in_time("the output ends with the program", hear(output)).await;
    let text = String::from_utf8_lossy(&heard.stdout).into_owned();
    assert!(text.contains("half a line"), "{text:?}");
    assert_eq!(bench.exit(&key).await.code, 5);
}

pub async fn rt19_a_program_without_input_is_at_its_end(bench: Arc<Bench>) {
    let pod = bench.new_pod().await;
    let reads = bench.run(&pod.key, "reads", "cat; exit 6").await;
    assert_eq!(bench.exit(&reads).await.code, 6);
    if !bench.fixture.has_sessions() {
        return;
    }
    let key = bench.run(&pod.key, "main", FOREVER).await;
    bench.until_printed(&key, "ready").await;
    let Session { mut input, output } = attached(&bench, &key, true).await;
    input.write(Bytes::from_static(b"lost\n")).await.expect("lost, which is no error");
    input.close().await.expect("none to end");
    input.resize(80, 24).await.expect("none to resize");
    let state = bench.observe(&key).await.state;
    assert!(matches!(state, ContainerRunState::Running { .. }), "{state:?}");
    bench.runtime.stop_container(&key, LONG_MS).await.expect("stopped");
    in_time("the output ends with the program", hear(output)).await;
}

/// Makes a pod with one container that runs a shell script with its streams tied so, and starts it.
async fn run_tied(bench: &Bench, script: &str, stdio: StandardStreams) -> ContainerKey {
    let pod = bench.new_pod().await;
    run_tied_in(bench, &pod.key, "main", script, stdio).await
}

async fn run_tied_in(
    bench: &Bench,
    pod: &SandboxKey,
    name: &str,
    script: &str,
    stdio: StandardStreams,
) -> ContainerKey {
    let mut spec = bench.container(pod, name, script);
    spec.stdio = stdio;
    bench.run_spec(&spec).await
}

async fn attached(bench: &Bench, key: &ContainerKey, stdin: bool) -> Session {
    let attached = bench.runtime.attach(key, &AttachOptions { stdin }).await;
    attached.expect("a running container is attached to")
}

/// Reads both streams until they have said all these words; returns what they said.
async fn heard_until(output: &mut dyn SessionOutput, words: &[&str]) -> String {
    let mut heard = String::new();
    while !words.iter().all(|word| heard.contains(word)) {
        match in_time("the program answers", output.next()).await {
            Some(Ok(SessionEvent::Stdout(bytes) | SessionEvent::Stderr(bytes))) => {
                heard.push_str(&String::from_utf8_lossy(&bytes));
            }
            other => panic!("{other:?} after {heard:?}"),
        }
    }
    heard
}
