//! Clients in numbers, and those that are slow or vanish: others are served meanwhile, and the server stops at once.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use orchestrator_core::driver::Cluster;
use orchestrator_http::{Limits, Listen, Server, ServerConfig};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::fixture::cluster;
use crate::sockets::{Served, read_to_end, serve};

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
    let limits = patient();
    assert_eq!(limits.connections_max, 2_000);
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
    stream.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("it reads");
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
