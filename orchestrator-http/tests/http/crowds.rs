//! Clients in numbers, and those that are slow or vanish: others are served meanwhile, and the server stops at once.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use orchestrator_core::driver::Cluster;
use orchestrator_http::{FairnessLimits, Limits, Listen, Server, ServerConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use crate::fixture::{MAPS, cluster};
use crate::sockets::{Served, read_to_end, request_of, serve};

/// Limits of time that play no part: what ends does so for another reason.
fn patient() -> Limits {
    let long = 600_000;
    Limits {
        handshake_ms: long,
        first_byte_ms: long,
        head_ms: long,
        stall_ms: long,
        shutdown_ms: long,
        ..Limits::default()
    }
}

/// Awaits something that comes unless something is wrong.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(Duration::from_secs(60), future).await;
    outcome.unwrap_or_else(|_| panic!("{what}: it takes too long"))
}

async fn until_gauge(served: &Served, line: &str) {
    let shown = async {
        while !served.ask("GET /metrics").await.lines().any(|found| found == line) {
            tokio::task::yield_now().await;
        }
    };
    soon(line, shown).await;
}

#[tokio::test]
async fn thousands_of_idle_connections_keep_nobody_out_until_the_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    // Both ends of each connection are ours.
    assert!(hard >= 4_500, "this needs 4,500 descriptors, and {hard} are allowed");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard).expect("up to the hard limit");
    let directory = tempfile::tempdir().expect("a directory");
    let (cluster, socket) = (cluster().await, directory.path().join("s"));
    let limits = Limits { connections_max: 2_000, ..patient() };
    let config = ServerConfig {
        limits,
        ..ServerConfig::new(Listen::Unix(socket.clone()), directory.path().join("pki"))
    };
    let server = Server::bind(config, cluster.clone()).await.expect("a free path");
    let connect = || async {
        // The queue of those who wait to be accepted may be full for a moment.
        loop {
            match UnixStream::connect(&socket).await {
                Ok(stream) => return stream,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let mut idle = Vec::new();
    for _ in 0..1_999 {
        idle.push(soon("a connection", connect()).await);
        if idle.len() == 1_500 {
            assert!(ask(&mut connect().await).await.starts_with("HTTP/1.1 200"));
        }
    }
    let mut last = connect().await;
    assert!(ask(&mut last).await.starts_with("HTTP/1.1 200"));
    let mut beyond = connect().await;
    let mut nothing = Vec::new();
    // Closed without a word, before or while it is written to.
    let _ = soon("the end", beyond.read_to_end(&mut nothing)).await;
    assert!(nothing.is_empty());
    assert!(ask(&mut last).await.starts_with("HTTP/1.1 200"), "who is in stays in");
    soon("a shutdown", server.shutdown()).await;
    soon("a shutdown", cluster.shutdown(false)).await;
    for mut stream in idle {
        let _ = soon("the end", stream.read_to_end(&mut nothing)).await;
    }
    assert!(nothing.is_empty());
}

/// Asks for the version and reads the first piece of the answer.
async fn ask(stream: &mut UnixStream) -> String {
    stream.write_all(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("it reads");
    let mut bytes = vec![0; 4_096];
    let length = soon("an answer", stream.read(&mut bytes)).await.expect("it answers");
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[tokio::test]
async fn slow_heads_and_bodies_delay_nobody_and_no_shutdown() {
    let served = serve(Limits { shutdown_ms: 500, ..patient() }).await;
    let mut slow = Vec::new();
    for n in 0..50 {
        let mut stream = served.connect().await;
        let line = "POST /api/v1/namespaces/default/configmaps";
        let head =
            served.request(line, "Content-Type: application/json\r\nContent-Length: 100000\r\n");
        // Some stop in the head, some in the body.
        let sent = if n % 2 == 0 { &head[..40] } else { head.as_str() };
        stream.write_all(sent.as_bytes()).await.expect("it reads");
        stream.write_all(b"{").await.expect("it reads");
        slow.push(stream);
    }
    let answer = soon("an answer", served.ask("GET /version")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    soon("a shutdown", served.stop()).await;
    for stream in &mut slow {
        let answer = read_to_end(stream).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_vanishes_during_a_watch_is_forgotten() {
    let served = serve(patient()).await;
    let mut watchers = Vec::new();
    for _ in 0..20 {
        let mut stream = served.connect().await;
        let watch = served.request("GET /api/v1/configmaps?watch=true", "");
        stream.write_all(watch.as_bytes()).await.expect("it reads");
        watchers.push(stream);
    }
    until_gauge(&served, "orchestrator_http_watchers 20").await;
    for stream in watchers {
        // No farewell of TLS or TCP: the connection is reset, as by a machine that has started anew.
        let (tcp, _) = stream.into_inner();
        tcp.set_zero_linger().expect("an option");
    }
    until_gauge(&served, "orchestrator_http_watchers 0").await;
    soon("a shutdown", served.stop()).await;
}

/// Creates something as the administrator, and returns the answer.
async fn post(served: &Served, path: &str, body: &Value) -> Value {
    let body = body.to_string();
    let length = body.len();
    let head = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
    let head = served.request(&format!("POST {path}"), &format!("{head}Connection: close\r\n"));
    let mut stream = served.connect().await;
    stream.write_all(format!("{head}{body}").as_bytes()).await.expect("it reads");
    let answer = soon("an answer", read_to_end(&mut stream)).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).expect("JSON")
}

/// Makes a service account that may change things in the namespace `default`, and returns a token of it.
async fn robot(served: &Served) -> String {
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    post(served, accounts, &json!({ "metadata": { "name": "robot" } })).await;
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let binding = json!({
        "metadata": { "name": "robot" },
        "roleRef": { "kind": "ClusterRole", "name": "edit" },
        "subjects": [{ "kind": "ServiceAccount", "name": "robot", "namespace": "default" }],
    });
    post(served, bindings, &binding).await;
    let path = format!("{accounts}/robot/token");
    let reply = post(served, &path, &json!({ "spec": { "expirationSeconds": 600 } })).await;
    reply["status"]["token"].as_str().expect("a token").to_owned()
}

/// Sends the head of a request of the owner of a token; the connection is to be closed after the answer.
async fn begin(served: &Served, token: &str, line: &str, rest: &str) -> TlsStream<TcpStream> {
    let mut stream = served.connect().await;
    let request = request_of(token, line, &format!("{rest}Connection: close\r\n"));
    stream.write_all(request.as_bytes()).await.expect("it reads");
    stream
}

/// Lists config maps as the owner of a token, on a connection of its own.
async fn list(served: &Served, token: &str) -> String {
    let mut stream = begin(served, token, &format!("GET {MAPS}"), "").await;
    read_to_end(&mut stream).await
}

fn assert_refused(answer: &str, limit: &str) {
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    assert!(answer.to_lowercase().contains("\r\nretry-after: 1\r\n"), "{answer}");
    assert!(answer.contains(limit), "{answer}");
}

#[tokio::test]
async fn a_loop_of_one_identity_is_refused_while_another_is_served() {
    let fairness = FairnessLimits {
        requests_per_second_max: 1,
        requests_burst_max: 20,
        requests_wait_ms_max: 0,
        ..FairnessLimits::default()
    };
    let served = serve(Limits { fairness, ..patient() }).await;
    let token = robot(&served).await;
    // However slow the machine is, some twenty requests come within their twenty seconds.
    let flood = async || loop {
        let answer = list(&served, &token).await;
        if !answer.starts_with("HTTP/1.1 200") {
            return answer;
        }
    };
    assert_refused(&soon("a refusal", flood()).await, "requests_per_second_max is 1");
    let goes_on = async {
        loop {
            flood().await;
        }
    };
    let meanwhile = async {
        let answer = served.ask(&format!("GET {MAPS}")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        served.ask("GET /metrics").await
    };
    let metrics = tokio::select! {
        metrics = soon("an answer", meanwhile) => metrics,
        () = goes_on => unreachable!("a flood has no end"),
    };
    let refused = |limit: &str| {
        let start = format!("orchestrator_http_limit_refused_total{{limit=\"{limit}\"}} ");
        let count = metrics.lines().find_map(|line| line.strip_prefix(&start));
        count.and_then(|count| count.parse::<u64>().ok()).expect("it is counted")
    };
    assert!(refused("requests_per_second_max") >= 1, "{metrics}");
    for limit in ["requests_in_flight_max", "requests_waiting_max", "streams_max"] {
        assert_eq!(refused(limit), 0, "{limit}");
    }
    soon("a shutdown", served.stop()).await;
}

#[tokio::test]
async fn requests_of_one_identity_that_never_end_keep_only_its_own_places() {
    let fairness = FairnessLimits {
        requests_in_flight_max: 2,
        requests_waiting_max: 1,
        requests_wait_ms_max: 600_000,
        ..FairnessLimits::default()
    };
    let served = serve(Limits { fairness, ..patient() }).await;
    let token = robot(&served).await;
    let post = format!("POST {MAPS}");
    let endless = || {
        let head = "Content-Type: application/json\r\nContent-Length: 1000\r\n";
        begin(&served, &token, &post, head)
    };
    let (first, second) = (endless().await, endless().await);
    // The third is that which asks.
    let in_flight =
        |n: u8| format!("orchestrator_http_limit_in_use{{limit=\"requests_in_flight_max\"}} {n}");
    until_gauge(&served, &in_flight(3)).await;
    let mut waits = begin(&served, &token, &format!("GET {MAPS}"), "").await;
    let waiting = "orchestrator_http_limit_in_use{limit=\"requests_waiting_max\"} 1";
    until_gauge(&served, waiting).await;
    let refused = soon("a refusal", list(&served, &token)).await;
    assert_refused(&refused, "requests_waiting_max is 1");
    let answer = soon("an answer", served.ask(&format!("GET {MAPS}"))).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let count = "orchestrator_http_limit_refused_total{limit=\"requests_waiting_max\"} 1";
    until_gauge(&served, count).await;
    // A place that becomes free is that of the one who waits.
    drop(first);
    let answer = soon("an answer", read_to_end(&mut waits)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(second);
    until_gauge(&served, &in_flight(1)).await;
    soon("a shutdown", served.stop()).await;
}

/// Makes config maps of this many bytes each.
async fn fill(cluster: &Cluster, maps: usize, bytes: usize) {
    let admin = orchestrator_core::api::Caller::Admin { name: "test".to_owned() };
    for n in 0..maps {
        let request = orchestrator_core::api::Request::Create {
            kind: orchestrator_core::model::Kind::ConfigMap,
            namespace: "default".to_owned(),
            object: json!({ "metadata": { "name": format!("m{n}") }, "data": { "a": "x".repeat(bytes) } }),
            options: orchestrator_core::api::WriteOptions::default(),
        };
        cluster.submit(&admin, request).await.expect("made");
    }
}

#[tokio::test]
async fn clients_that_read_nothing_of_a_huge_list_delay_nobody() {
    let served = serve(Limits { stall_ms: 500, ..patient() }).await;
    // More than the buffers of sockets hold.
    fill(&served.cluster(), 40, 500_000).await;
    let mut stuck = Vec::new();
    for _ in 0..8 {
        let mut stream = served.connect().await;
        stream
            .write_all(served.request("GET /api/v1/configmaps", "").as_bytes())
            .await
            .expect("it reads");
        stuck.push(stream);
    }
    let one =
        served.request("GET /api/v1/namespaces/default/configmaps/m1", "Connection: close\r\n");
    let mut stream = served.connect().await;
    stream.write_all(one.as_bytes()).await.expect("it reads");
    assert!(soon("an answer", read_to_end(&mut stream)).await.starts_with("HTTP/1.1 200"));
    for stream in &mut stuck {
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200");
    }
    // A shutdown waits for answers under way, and these end because they are cut off.
    soon("a shutdown", served.stop()).await;
}
