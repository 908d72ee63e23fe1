//! The clauses RT1…RT19 of [`Runtime`](crate::runtime::Runtime) as tests; `runtime_conformance!` names each.
#![allow(missing_docs, clippy::missing_panics_doc)] // each function is the test of the clause it is named after

mod attach;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::bench::{Bench, eventually, in_time, text_of};
use crate::model::Time;
use crate::runtime::{
    ContainerKey, ContainerRunState, LOG_LINE_BYTES_MAX, LogOptions, LogSource, LogStream,
    RuntimeError, Session, SessionEvent, SessionOptions, SessionOutput,
};

pub use self::attach::{
    rt18_a_program_has_a_terminal_of_the_size_it_is_told,
    rt18_clients_hear_a_program_and_are_heard, rt19_a_program_without_input_is_at_its_end,
    rt19_input_for_one_client_ends_with_it,
};

/// Runs until it is killed, and ends at TERM.
const FOREVER: &str = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done";
/// Runs until it is killed, and ignores TERM; so do its children.
const STUBBORN: &str = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
/// A grace period that never ends within a test, in milliseconds.
const LONG_MS: u64 = 50_000;

pub async fn rt1_repeated_verbs_change_nothing(bench: Arc<Bench>) {
    let runtime = &bench.runtime;
    let pod = bench.pod();
    let spec = bench.container(&pod.key, "main", FOREVER);
    for _ in 0..2 {
        runtime.create_sandbox(&pod).await.expect("create_sandbox");
    }
    let sandbox = bench.sandbox(&pod.key).await;
    runtime.create_container(&spec).await.expect("create_container");
    let created = bench.observe(&spec.key).await;
    runtime.create_container(&spec).await.expect("create_container again");
    assert_eq!(bench.observe(&spec.key).await, created);

    runtime.start_container(&spec.key).await.expect("start_container");
    bench.until_printed(&spec.key, "ready").await;
    let running = bench.observe(&spec.key).await;
    runtime.start_container(&spec.key).await.expect("start_container again");
    runtime.create_container(&spec).await.expect("create_container of a running one");
    runtime.create_sandbox(&pod).await.expect("create_sandbox of a used one");
    assert_eq!(bench.observe(&spec.key).await, running);
    let ip = |sandbox: Option<crate::runtime::SandboxObservation>| sandbox.map(|it| it.ip);
    assert_eq!(ip(bench.sandbox(&pod.key).await), ip(sandbox));
    assert_eq!(bench.printed(&spec.key, LogSource::Stdout).await, "ready\n", "ran once");

    for _ in 0..2 {
        runtime.stop_container(&spec.key, LONG_MS).await.expect("stop_container");
        assert_eq!(bench.exit_now(&spec.key).await.code, 0);
    }
    for _ in 0..2 {
        runtime.remove_container(&spec.key).await.expect("remove_container");
        assert_eq!(bench.find(&spec.key).await, None);
    }
    for _ in 0..2 {
        runtime.remove_sandbox(&pod.key).await.expect("remove_sandbox");
        assert_eq!(bench.sandbox(&pod.key).await, None);
    }
}

pub async fn rt2_another_instance_lists_everything_with_its_keys(bench: Arc<Bench>) {
    let first = bench.new_pod().await;
    let mut again = first.clone();
    again.key.attempt = 1;
    bench.runtime.create_sandbox(&again).await.expect("a second attempt of the sandbox");
    let second = bench.new_pod().await;

    let running = bench.run(&again.key, "b", FOREVER).await;
    bench.until_printed(&running, "ready").await;
    let ended = bench.run(&again.key, "a", "exit 4").await;
    bench.exit(&ended).await;
    let mut created = bench.container(&again.key, "b", FOREVER);
    created.key.attempt = 12;
    bench.runtime.create_container(&created).await.expect("a second attempt");

    let mine = bench.list(&bench.scope).await;
    let mut keys = [first.key, again.key.clone(), second.key];
    keys.sort();
    assert_eq!(mine.iter().map(|sandbox| sandbox.key.clone()).collect::<Vec<_>>(), keys);
    let sandbox = mine.iter().find(|sandbox| sandbox.key == again.key).expect("listed");
    assert!(sandbox.ready, "{sandbox:?}");
    assert_eq!((&sandbox.name, &sandbox.namespace), (&again.name, &again.namespace));
    let containers: Vec<_> = sandbox.containers.iter().map(|it| it.key.clone()).collect();
    assert_eq!(containers, [ended, running.clone(), created.key]);
    assert!(sandbox.containers.iter().all(|it| it.image == created.image), "{sandbox:?}");

    let adopted = bench.fixture.another().await;
    assert_eq!(adopted.list(&bench.scope).await.expect("listed by another"), mine);
    adopted.stop_container(&running, LONG_MS).await.expect("stopped by another");
    assert_eq!(bench.exit_now(&running).await.code, 0);
}

pub async fn rt3_a_created_container_does_not_run(bench: Arc<Bench>) {
    let pod = bench.new_pod().await;
    let spec = bench.container(&pod.key, "main", "echo ran");
    bench.runtime.create_container(&spec).await.expect("created");
    let neighbour = bench.run(&pod.key, "neighbour", "exit 0").await;
    bench.exit(&neighbour).await;
    assert_eq!(bench.observe(&spec.key).await.state, ContainerRunState::Created);
    assert_eq!(bench.log(&spec.key, &LogOptions::default()).await, []);

    bench.runtime.start_container(&spec.key).await.expect("started");
    assert_eq!(bench.exit(&spec.key).await.code, 0);
    assert_eq!(bench.printed(&spec.key, LogSource::Stdout).await, "ran\n");
}

pub async fn rt4_an_ended_container_stays_listed_with_its_code(bench: Arc<Bench>) {
    let pod = bench.new_pod().await;
    for code in [0, 7, 255] {
        let key = bench.run(&pod.key, &format!("exits-{code}"), &format!("exit {code}")).await;
        let exit = bench.exit(&key).await;
        assert_eq!(exit.code, code);
        assert!(!exit.oom_killed);
        assert!(exit.started_at.is_some() && exit.started_at <= exit.finished_at, "{exit:?}");
        let adopted = bench.fixture.another().await.list(&bench.scope).await.expect("listed");
        let listed = adopted[0].containers.iter().find(|it| it.key == key).expect("listed");
        assert_eq!(listed.state, ContainerRunState::Exited(exit));
        bench.runtime.remove_container(&key).await.expect("removed");
        assert_eq!(bench.find(&key).await, None);
    }
}

pub async fn rt5_stop_sends_term_then_kill_after_the_grace(bench: Arc<Bench>) {
    let polite = "trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let polite = bench.run_ready(polite).await;
    bench.runtime.stop_container(&polite, LONG_MS).await.expect("stopped");
    assert_eq!(bench.exit_now(&polite).await.code, 3, "TERM is heard");
    bench.until_printed(&polite, "asked").await;

    let stubborn = bench.run_ready(STUBBORN).await;
    bench.runtime.stop_container(&stubborn, 300).await.expect("stopped");
    assert_eq!(bench.exit_now(&stubborn).await.code, 137, "KILL ends what ignores TERM");
}

pub async fn rt6_removing_a_sandbox_leaves_nothing(bench: Arc<Bench>) {
    let pod = bench.new_pod().await;
    let children = "trap '' TERM; (while :; do sleep 0.1; done) & \
        (sleep 1000 & sleep 1000) & echo ready; while :; do sleep 0.1; done";
    let running = bench.run(&pod.key, "running", children).await;
    bench.until_printed(&running, "ready").await;
    let ended = bench.run(&pod.key, "ended", "sleep 1000 & exit 1").await;
    bench.exit(&ended).await;
    let created = bench.container(&pod.key, "created", FOREVER);
    bench.runtime.create_container(&created).await.expect("created");

    bench.runtime.remove_sandbox(&pod.key).await.expect("removed");
    bench.assert_nothing_left().await;
}

pub async fn rt7_containers_of_a_pod_share_an_address_that_outlives_them(bench: Arc<Bench>) {
    let pod = bench.new_pod().await;
    let ip = bench.sandbox(&pod.key).await.and_then(|sandbox| sandbox.ip).expect("an address");
    let (by_address, on_localhost) = (bench.fixture.port(), bench.fixture.port());
    bench.run(&pod.key, "address", &bench.fixture.listen("$POD_IP", by_address)).await;
    bench.run(&pod.key, "localhost", &bench.fixture.listen("127.0.0.1", on_localhost)).await;
    for (name, address, port) in [
        ("finds-address", "$POD_IP".to_owned(), by_address),
        ("finds-listed", ip.to_string(), by_address),
        ("finds-localhost", "127.0.0.1".to_owned(), on_localhost),
    ] {
        let client = bench.run(&pod.key, name, &connecting(&bench, &address, port)).await;
        assert_eq!(bench.exit(&client).await.code, 0, "{name}");
    }

    for attempt in 0..2 {
        let mut spec = bench.container(&pod.key, "prints", "echo \"$POD_IP\"");
        spec.key.attempt = attempt;
        let key = bench.run_spec(&spec).await;
        bench.exit(&key).await;
        assert_eq!(bench.printed(&key, LogSource::Stdout).await, format!("{ip}\n"));
    }
    assert_eq!(bench.sandbox(&pod.key).await.and_then(|sandbox| sandbox.ip), Some(ip));
}

pub async fn rt8_pods_reach_each_other_by_different_addresses(bench: Arc<Bench>) {
    let (one, two) = (bench.new_pod().await, bench.new_pod().await);
    let mut ips = Vec::new();
    let port = bench.fixture.port();
    for pod in [&one, &two] {
        ips.push(bench.sandbox(&pod.key).await.and_then(|it| it.ip).expect("an address"));
        bench.run(&pod.key, "server", &bench.fixture.listen("$POD_IP", port)).await;
    }
    assert_ne!(ips[0], ips[1]);
    for (from, to) in [(&one, ips[1]), (&two, ips[0])] {
        let script = connecting(&bench, &to.to_string(), port);
        let client = bench.run(&from.key, "client", &script).await;
        assert_eq!(bench.exit(&client).await.code, 0, "{} to {to}", from.name);
    }
}

/// A script that ends with 0 once a connection was made.
fn connecting(bench: &Bench, address: &str, port: u16) -> String {
    let connect = bench.fixture.connect(address, port);
    format!(
        "n=0; until {connect}; do n=$((n+1)); [ $n -lt 200 ] || exit 9; sleep 0.1; done; exit 0"
    )
}

pub async fn rt9_logs_hold_both_streams_in_order(bench: Arc<Bench>) {
    let script = "n=0; while [ $n -lt 200 ]; do n=$((n+1)); echo out $n; echo err $n >&2; done";
    let pod = bench.new_pod().await;
    let key = bench.run(&pod.key, "main", script).await;
    bench.exit(&key).await;
    let lines = bench.log(&key, &LogOptions::default()).await;
    for (source, word) in [(LogSource::Stdout, "out"), (LogSource::Stderr, "err")] {
        let expected: String = (1..=200).map(|n| format!("{word} {n}\n")).collect();
        assert_eq!(text_of(&lines, source), expected);
    }
    assert!(lines.iter().all(|line| line.time.parse::<Time>().is_ok()), "{:?}", lines[0]);
}

pub async fn rt9_logs_are_cut_by_tail_and_since(bench: Arc<Bench>) {
    let script = "echo one; echo two; echo three; sleep 2.2; echo four; echo five";
    let pod = bench.new_pod().await;
    let key = bench.run(&pod.key, "main", script).await;
    bench.exit(&key).await;
    let all = bench.log(&key, &LogOptions::default()).await;
    for (tail, expected) in [
        (0, ""),
        (1, "five\n"),
        (3, "three\nfour\nfive\n"),
        (5, "one\ntwo\nthree\nfour\nfive\n"),
        (99, "one\ntwo\nthree\nfour\nfive\n"),
    ] {
        let options = LogOptions { tail_lines: Some(tail), ..LogOptions::default() };
        let lines = bench.log(&key, &options).await;
        assert_eq!(text_of(&lines, LogSource::Stdout), expected, "tail {tail}");
    }
    let since = all[3].time.parse().expect("a log's time is RFC 3339");
    let options = LogOptions { since: Some(since), ..LogOptions::default() };
    let late = bench.log(&key, &options).await;
    assert_eq!(text_of(&late, LogSource::Stdout), "four\nfive\n");
    let options = LogOptions { tail_lines: Some(1), ..options };
    let last = bench.log(&key, &options).await;
    assert_eq!(text_of(&last, LogSource::Stdout), "five\n");
}

pub async fn rt9_following_a_log_ends_with_the_container(bench: Arc<Bench>) {
    let script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let key = bench.run_ready(script).await;
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let mut log = bench.runtime.logs(&key, &options).await.expect("a log opens");
    let first = in_time("the first line comes", next_printed(&mut *log)).await;
    assert_eq!(first.as_deref(), Some(&b"ready\n"[..]));
    let silence = tokio::time::timeout(Duration::from_millis(200), log.next()).await;
    assert!(silence.is_err(), "a followed log waits for more: {silence:?}");

    bench.runtime.stop_container(&key, LONG_MS).await.expect("stopped");
    let last = in_time("the last line comes", next_printed(&mut *log)).await;
    assert_eq!(last.as_deref(), Some(&b"bye\n"[..]));
    assert_eq!(in_time("the log ends", next_printed(&mut *log)).await, None);
    let ended = bench.log(&key, &options).await;
    assert_eq!(text_of(&ended, LogSource::Stdout), "ready\nbye\n", "followed after the end");
}

/// Returns the next line of standard output; a shell may tell of the signal on the other stream.
async fn next_printed(log: &mut dyn LogStream) -> Option<Bytes> {
    loop {
        let line = log.next().await?.expect("a log reads");
        if line.stream == LogSource::Stdout {
            return Some(line.text);
        }
    }
}

pub async fn rt9_a_log_keeps_every_byte(bench: Arc<Bench>) {
    let script = "printf '\\n\\n  a\\tb\\r\\n'; head -c 150000 /dev/zero | tr '\\0' x; \
        echo; printf '\\303\\244 no end'";
    let pod = bench.new_pod().await;
    let key = bench.run(&pod.key, "main", script).await;
    bench.exit(&key).await;
    let lines = bench.log(&key, &LogOptions::default()).await;
    assert!(lines.iter().all(|line| line.text.len() <= LOG_LINE_BYTES_MAX));
    let expected = format!("\n\n  a\tb\r\n{}\nä no end", "x".repeat(150_000));
    assert!(text_of(&lines, LogSource::Stdout) == expected, "{:?}", lines.first());
}

pub async fn rt10_environment_directory_and_arguments_arrive_exactly(bench: Arc<Bench>) {
    let pod = bench.new_pod().await;
    let odd = [
        ("PLAIN", "value"),
        ("EMPTY", ""),
        ("SPACES", "  two  words "),
        ("EQUALS", "a=b=c"),
        ("QUOTES", "'single' \"double\" $HOME `id` \\n"),
        ("LINES", "one\ntwo\n"),
        ("WORDS", "grün ☃"),
    ];
    let print = "for n in PLAIN EMPTY SPACES EQUALS QUOTES LINES WORDS; do \
        eval \"printf '%s<%s>' $n \\\"\\$$n\\\"\"; done; \
        printf '[%s]' \"$PWD\" \"$0\" \"$@\"";
    let mut spec = bench.container(&pod.key, "main", print);
    spec.env = odd.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    spec.working_dir = "/usr".to_owned();
    spec.command.push("zero".to_owned());
    spec.args = ["", " a b ", "-c", "$(id)", "x\ny"].map(str::to_owned).to_vec();
    let key = bench.run_spec(&spec).await;
    assert_eq!(bench.exit(&key).await.code, 0);
    let mut expected: String = odd.iter().map(|(name, value)| format!("{name}<{value}>")).collect();
    expected.push_str("[/usr][zero][][ a b ][-c][$(id)][x\ny]");
    assert_eq!(bench.printed(&key, LogSource::Stdout).await, expected);
}

pub async fn rt11_what_cannot_start_does_not_run(bench: Arc<Bench>) {
    let pod = bench.new_pod().await;
    let mut spec = bench.container(&pod.key, "main", "");
    spec.command = vec!["/does/not/exist".to_owned()];
    bench.runtime.create_container(&spec).await.expect("created");
    match bench.runtime.start_container(&spec.key).await {
        Err(RuntimeError::Invalid { message }) => {
            assert!(message.contains("/does/not/exist"), "{message}");
            let state = bench.observe(&spec.key).await.state;
            assert!(!matches!(state, ContainerRunState::Running { .. }), "{state:?}");
        }
        Ok(()) => assert_ne!(bench.exit(&spec.key).await.code, 0),
        Err(error) => panic!("a program that does not exist is Invalid, not {error:?}"),
    }
    bench.runtime.remove_container(&spec.key).await.expect("removed");
    assert_eq!(bench.find(&spec.key).await, None);
}

pub async fn rt12_scopes_do_not_see_each_other(bench: Arc<Bench>) {
    let mine = bench.new_pod().await;
    let running = bench.run(&mine.key, "main", FOREVER).await;
    bench.until_printed(&running, "ready").await;
    for scope in [&bench.other_node, &bench.other_cluster] {
        assert_eq!(bench.list(scope).await, [], "{scope:?}");
        let mut theirs = mine.clone();
        theirs.key.scope = scope.clone();
        let mut key = running.clone();
        key.sandbox = theirs.key.clone();
        bench.runtime.stop_container(&key, 0).await.expect("nothing to stop");
        bench.runtime.remove_sandbox(&theirs.key).await.expect("nothing to remove");
        let start = bench.runtime.start_container(&key).await;
        assert!(matches!(start, Err(RuntimeError::NotFound { .. })), "{start:?}");

        bench.runtime.create_sandbox(&theirs).await.expect("the same pod in another scope");
        assert_eq!(bench.list(scope).await.len(), 1);
        assert_eq!(bench.list(&bench.scope).await.len(), 1);
        bench.runtime.remove_sandbox(&theirs.key).await.expect("removed");
    }
    let state = bench.observe(&running).await.state;
    assert!(matches!(state, ContainerRunState::Running { .. }), "{state:?}");
}

pub async fn rt13_changed_returns_after_a_container_ends(bench: Arc<Bench>) {
    let key = bench.run_ready("echo ready; sleep 2; exit 6").await;
    let seen = async {
        loop {
            bench.runtime.changed(&bench.scope).await;
            if matches!(bench.observe(&key).await.state, ContainerRunState::Exited(_)) {
                break;
            }
        }
    };
    in_time("a container's end is noticed", seen).await;
    assert_eq!(bench.exit_now(&key).await.code, 6);
}

pub async fn rt14_a_container_killed_from_outside_exits_with_137(bench: Arc<Bench>) {
    let key = bench.run_ready(FOREVER).await;
    bench.fixture.kill_outside(&bench.observe(&key).await).await;
    assert_eq!(bench.exit(&key).await.code, 137);
    assert!(bench.sandbox(&key.sandbox).await.is_some_and(|sandbox| sandbox.ready));
}

pub async fn rt15_verbs_on_what_does_not_exist_say_so(bench: Arc<Bench>) {
    let missing = |outcome: Result<(), RuntimeError>, verb: &str| {
        assert!(matches!(outcome, Err(RuntimeError::NotFound { .. })), "{verb}: {outcome:?}");
    };
    let (pod, absent) = (bench.new_pod().await, bench.pod());
    let spec = bench.container(&absent.key, "main", FOREVER);
    missing(bench.runtime.create_container(&spec).await, "create_container");
    for sandbox in [&pod.key, &absent.key] {
        let name = "main".to_owned();
        let key = ContainerKey { sandbox: sandbox.clone(), name, attempt: 0 };
        let program = ["true".to_owned()];
        missing(bench.runtime.start_container(&key).await, "start_container");
        missing(bench.runtime.logs(&key, &LogOptions::default()).await.map(drop), "logs");
        missing(bench.runtime.exec(&key, &program, 1000).await.map(drop), "exec");
        bench.runtime.stop_container(&key, 0).await.expect("stop_container");
        bench.runtime.remove_container(&key).await.expect("remove_container");
    }
    bench.runtime.remove_sandbox(&absent.key).await.expect("remove_sandbox");
    assert_eq!(bench.list(&bench.scope).await.len(), 1);
}

pub async fn rt16_exec_returns_code_and_output_and_ends_at_its_timeout(bench: Arc<Bench>) {
    let key = bench.run_ready(FOREVER).await;
    let exec = |script: &str, timeout_ms: u64| {
        let program = ["/bin/sh", "-c", script].map(str::to_owned);
        let (bench, key) = (Arc::clone(&bench), key.clone());
        async move { bench.runtime.exec(&key, &program, timeout_ms).await }
    };
    let outcome = exec("echo hello; exit 5", LONG_MS).await.expect("exec runs");
    assert_eq!((outcome.code, outcome.output.as_str()), (5, "hello\n"));
    let outcome = exec("echo oops >&2; exit 0", LONG_MS).await.expect("exec runs");
    assert_eq!((outcome.code, outcome.output.as_str()), (0, "oops\n"));
    let outcome = exec("echo $POD_IP", LONG_MS).await.expect("exec runs");
    let ip = bench.sandbox(&key.sandbox).await.and_then(|it| it.ip).expect("an address");
    assert_eq!(outcome.output, format!("{ip}\n"));
    let outcome = exec("head -c 100000 /dev/zero | tr '\\0' x", LONG_MS).await.expect("runs");
    assert!(outcome.code == 0 && outcome.output.len() <= 1024, "{outcome:?}");

    let late = in_time("exec ends at its timeout", exec("sleep 1000", 300)).await;
    assert!(late.as_ref().is_ok_and(|it| it.code != 0) || late.is_err(), "{late:?}");
    eventually("the container still runs", || async {
        matches!(bench.observe(&key).await.state, ContainerRunState::Running { .. }).then_some(())
    })
    .await;
}

pub async fn rt17_a_session_carries_input_output_and_the_code(bench: Arc<Bench>) {
    let key = bench.run_ready(FOREVER).await;
    if !bench.fixture.has_sessions() {
        let options = session_options("exit 0", false);
        let refused = bench.runtime.session(&key, &options).await;
        assert!(matches!(refused, Err(RuntimeError::Invalid { .. })), "{refused:?}");
        return;
    }
    let script = "cat; echo oops >&2; echo at $POD_IP; exit 3";
    let options = SessionOptions { stdin: true, ..session_options(script, false) };
    let Session { mut input, output } =
        bench.runtime.session(&key, &options).await.expect("a session");
    // More than any pipe holds: both ends move at the same time.
    let sent: Bytes = "0123456789abcdef".repeat(20_000).into();
    let write = async {
        input.write(sent.clone()).await.expect("taken");
        input.close().await.expect("ended");
    };
    let (heard, ()) =
        in_time("the session ends", async { tokio::join!(hear(output), write) }).await;
    let ip = bench.sandbox(&key.sandbox).await.and_then(|it| it.ip).expect("an address");
    let expected = [&sent[..], format!("at {ip}\n").as_bytes()].concat();
    assert!(heard.stdout == expected, "{} bytes of {}", heard.stdout.len(), expected.len());
    assert_eq!((heard.stderr.as_slice(), heard.code), (&b"oops\n"[..], 3));

    let options = session_options("cat; exit 0", false);
    let session = bench.runtime.session(&key, &options).await.expect("a session");
    let heard = in_time("a session without input ends", hear(session.output)).await;
    assert_eq!((heard.stdout.len(), heard.code), (0, 0));
}

pub async fn rt17_a_session_has_a_terminal_of_the_size_it_is_told(bench: Arc<Bench>) {
    let key = bench.run_ready(FOREVER).await;
    if !bench.fixture.has_sessions() {
        return;
    }
    let script = "test -t 0 && test -t 1 && echo ready; read line; stty size; exit 5";
    let options = SessionOptions { stdin: true, ..session_options(script, true) };
    let Session { mut input, mut output } =
        bench.runtime.session(&key, &options).await.expect("a session");
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains("ready") {
        match in_time("the program is ready", output.next()).await {
            Some(Ok(SessionEvent::Stdout(bytes))) => heard.extend(bytes),
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&heard)),
        }
    }
    input.resize(123, 45).await.expect("resized");
    input.write(Bytes::from_static(b"go\n")).await.expect("taken");
    let rest = in_time("the session ends", hear(output)).await;
    let text = String::from_utf8_lossy(&rest.stdout).into_owned();
    assert!(text.contains("45 123"), "{text:?}");
    assert_eq!(rest.code, 5);
}

fn session_options(script: &str, terminal: bool) -> SessionOptions {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    SessionOptions { command, stdin: false, terminal }
}

#[derive(Debug, Default)]
struct Heard {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    code: i32,
}

/// Reads a session to its end.
async fn hear(mut output: Box<dyn SessionOutput>) -> Heard {
    let mut heard = Heard::default();
    loop {
        match output.next().await {
            Some(Ok(SessionEvent::Stdout(bytes))) => heard.stdout.extend(bytes),
            Some(Ok(SessionEvent::Stderr(bytes))) => heard.stderr.extend(bytes),
            Some(Ok(SessionEvent::Exited(code))) => heard.code = code,
            Some(Err(error)) => panic!("{error}"),
            None => return heard,
        }
    }
}
