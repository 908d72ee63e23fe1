//! Tests of `engine`, against a socket that answers like an engine of some version.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;

use super::*;

fn version(text: &str) -> ApiVersion {
    text.parse().expect("a version")
}

#[test]
fn the_newest_common_version_is_chosen() {
    for (ours, engine, engine_min, chosen) in [
        ("1.53", "1.41", Some("1.12"), Ok("1.41")),
        ("1.53", "1.53", Some("1.44"), Ok("1.53")),
        ("1.53", "1.60", Some("1.44"), Ok("1.53")),
        ("1.53", "1.100", None, Ok("1.53")),
        ("1.53", "1.40", Some("1.12"), Err("1.41 or newer")),
        ("1.53", "1.60", Some("1.54"), Err("wants API 1.54")),
    ] {
        let outcome = choose_version(version(ours), version(engine), engine_min.map(version));
        match (outcome, chosen) {
            (Ok(outcome), Ok(chosen)) => assert_eq!(outcome, version(chosen)),
            (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
            (outcome, chosen) => panic!("{engine}: {outcome:?} instead of {chosen:?}"),
        }
    }
}

#[test]
fn an_answer_without_a_version_is_refused_by_value() {
    let answer = SystemVersion { api_version: Some("newest".to_owned()), ..Default::default() };
    assert!(agree(&answer).expect_err("no version").contains("\"newest\""));
}

#[test]
fn a_request_gets_the_version_in_front_of_its_path() {
    let request = http::Request::get("unix://2f/containers/json?all=true")
        .body(bollard::body_full(Bytes::new()))
        .expect("a request");
    let uri = with_version(request, version("1.41")).uri().to_string();
    assert_eq!(uri, "unix://2f/v1.41/containers/json?all=true");
}

/// An engine that answers each request with the same JSON, and remembers the request lines.
struct FakeEngine {
    host: String,
    requests: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl FakeEngine {
    fn new(answer: &'static str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).expect("listens");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = BufReader::new(stream);
                let mut request = String::new();
                stream.read_line(&mut request).await.expect("a request");
                seen.lock().expect("unpoisoned").push(request);
                let mut header = String::new();
                while header != "\r\n" {
                    header.clear();
                    stream.read_line(&mut header).await.expect("a header");
                }
                let length = answer.len();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                stream.write_all((head + answer).as_bytes()).await.expect("answered");
            }
        });
        let host = format!("unix://{}", socket.display());
        Self { host, requests, task, _directory: directory }
    }
}

#[tokio::test]
async fn an_engine_whose_lowest_version_is_newer_than_the_minimum_is_asked_in_its_own() {
    let fake = FakeEngine::new(r#"{"ApiVersion":"1.48","MinAPIVersion":"1.44"}"#);
    let engine = Engine::connect(&fake.host).await.expect("connected");
    engine.version().await.expect("answered");
    let requests = fake.requests.lock().expect("unpoisoned").clone();
    assert_eq!(requests[0], "GET /version HTTP/1.1\r\n");
    assert_eq!(requests[1], "GET /v1.48/version HTTP/1.1\r\n");
}

#[tokio::test]
async fn an_engine_without_a_common_version_is_refused() {
    for answer in [r#"{"ApiVersion":"1.40"}"#, r#"{"ApiVersion":"1.99","MinAPIVersion":"1.90"}"#] {
        let fake = FakeEngine::new(answer);
        let outcome = Engine::connect(&fake.host).await;
        assert!(matches!(outcome, Err(ConnectError::Version(_))), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_engine_that_does_not_answer_is_given_up() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("docker.sock");
    let _hung = UnixListener::bind(&socket).expect("listens");
    let host = format!("unix://{}", socket.display());
    let outcome = Engine::connect_within(&host, Duration::from_millis(50)).await;
    assert!(matches!(outcome, Err(ConnectError::Engine(EngineError::TimedOut(_)))), "{outcome:?}");
}

#[tokio::test]
async fn an_engine_that_is_not_there_or_went_away_is_unreachable() {
    let outcome = Engine::connect("unix:///absent/docker.sock").await;
    assert!(
        matches!(outcome, Err(ConnectError::Engine(EngineError::Unreachable(_)))),
        "{outcome:?}"
    );
    let fake = FakeEngine::new(r#"{"ApiVersion":"1.41"}"#);
    let engine = Engine::connect(&fake.host).await.expect("connected");
    fake.task.abort();
    // The listener goes with its task.
    let _ = fake.task.await;
    let outcome = engine.version().await;
    assert!(matches!(outcome, Err(EngineError::Unreachable(_))), "{outcome:?}");
}
