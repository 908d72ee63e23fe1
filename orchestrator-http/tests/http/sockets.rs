//! What the server withstands: clients that are slow, silent, too many, or not allowed.

use std::sync::Arc;
use std::time::Duration;

use orchestrator_core::driver::Cluster;
use orchestrator_http::{Limits, Server, ServerConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::fixture::cluster;

pub struct Served {
    cluster: Cluster,
    server: Server,
    _directory: tempfile::TempDir,
}

pub async fn serve(limits: Limits) -> Served {
    let directory = tempfile::tempdir().expect("a directory");
    let cluster = cluster().await;
    let config = ServerConfig { limits, ..ServerConfig::loopback(directory.path().join("pki")) };
    let server = Server::bind(config, cluster.clone()).await.expect("a free port");
    Served { cluster, server, _directory: directory }
}

impl Served {
    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.server.local_addr().expect("TCP")).await.expect("it listens")
    }

    pub async fn connect(&self) -> TlsStream<TcpStream> {
        self.try_connect().await.expect("a handshake")
    }

    async fn try_connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_with(&[]).await
    }

    /// Connects, and offers these protocols in the handshake.
    pub async fn connect_with(&self, offered: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.server.ca_pem().as_bytes()).expect("PEM");
        roots.add(ca).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("defaults")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, self.tcp().await).await
    }

    pub fn token(&self) -> &str {
        self.server.token().reveal()
    }

    pub fn cluster(&self) -> Cluster {
        self.cluster.clone()
    }

    /// Asks on a connection of its own, and returns the whole answer.
    pub async fn ask(&self, line: &str) -> String {
        let mut stream = self.connect().await;
        let request = self.request(line, "Connection: close\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        read_to_end(&mut stream).await
    }

    pub fn request(&self, line: &str, rest: &str) -> String {
        request_of(self.token(), line, rest)
    }

    pub async fn stop(self) {
        self.server.shutdown().await;
        self.cluster.shutdown(false).await;
    }
}

/// The head of a request of the owner of a token.
pub fn request_of(token: &str, line: &str, rest: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{rest}\r\n")
}

/// Reads until the other side closes, for at most 20 s.
pub async fn read_to_end(stream: &mut TlsStream<TcpStream>) -> String {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    // A close without a TLS goodbye is a close.
    let _ = tokio::time::timeout(Duration::from_secs(20), reading).await.expect("it is closed");
    String::from_utf8_lossy(&bytes).into_owned()
}

pub fn quick() -> Limits {
    Limits { handshake_ms: 200, first_byte_ms: 200, head_ms: 400, ..Limits::default() }
}

#[tokio::test]
async fn without_the_token_only_health_is_served() {
    let served = serve(Limits::default()).await;
    for (line, header, code) in [
        ("GET /livez", "", "200"),
        ("GET /readyz", "", "200"),
        ("GET /version", "", "401"),
        ("GET /metrics", "", "401"),
        ("GET /nonsense", "", "401"),
        ("GET /api/v1/pods", "Authorization: Bearer wrong\r\n", "401"),
        ("GET /api/v1/pods", "Authorization: Basic eDp5\r\n", "401"),
    ] {
        let mut stream = served.connect().await;
        let request =
            format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let answer = read_to_end(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{line}: {answer}");
    }
    served.stop().await;
}

#[tokio::test]
async fn what_is_sent_to_another_host_is_refused_whoever_sends_it() {
    let served = serve(Limits::default()).await;
    let exec = "GET /api/v1/namespaces/default/pods/a/exec?command=id&stdout=true";
    // A page of another site that has come to reach us under its own name agrees with itself.
    let page = "Origin: https://evil.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\
                Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n";
    let port = served.server.local_addr().expect("TCP").port();
    for (line, host, rest, code) in [
        (exec, "evil.example".to_owned(), page, "403"),
        ("GET /version", "evil.example".to_owned(), "", "403"),
        ("GET /version", format!("localhost.evil.example:{port}"), "", "403"),
        ("GET /version", format!("localhost:{port}"), "", "200"),
        ("GET /version", "127.0.0.1".to_owned(), "", "200"),
        ("GET /livez", "evil.example".to_owned(), "", "200"),
    ] {
        let mut stream = served.connect().await;
        let (token, close) =
            (served.token(), if rest.is_empty() { "Connection: close\r\n" } else { "" });
        let request = format!(
            "{line} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{close}{rest}\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.expect("an answer");
        assert_eq!(String::from_utf8_lossy(&head), format!("HTTP/1.1 {code}"), "{line} {host}");
    }
    served.stop().await;
}

#[tokio::test]
async fn silent_and_slow_clients_are_cut_off_and_others_are_served() {
    let served = serve(quick()).await;
    let mut no_handshake = served.tcp().await;
    let mut silent = served.connect().await;
    let mut slow = served.connect().await;
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost:").await.expect("it reads");
    let mut served_meanwhile = served.connect().await;
    let request = served.request("GET /version", "Connection: close\r\n");
    served_meanwhile.write_all(request.as_bytes()).await.expect("it reads");
    assert!(read_to_end(&mut served_meanwhile).await.starts_with("HTTP/1.1 200"));
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(20), no_handshake.read_to_end(&mut rest));
    let _ = closed.await.expect("a connection without a handshake is closed");
    assert_eq!(read_to_end(&mut silent).await, "");
    assert!(!read_to_end(&mut slow).await.starts_with("HTTP/1.1 200"));
    served.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let served = serve(quick()).await;
    let mut stream = served.connect().await;
    stream.write_all(served.request("GET /version", "").as_bytes()).await.expect("it reads");
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    served.stop().await;
}

#[tokio::test]
async fn a_body_of_ten_megabytes_gets_its_413_and_not_a_reset() {
    let served = serve(Limits::default()).await;
    let mut stream = served.connect().await;
    let body = vec![b' '; 10 << 20];
    let headers = format!(
        "Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    let line = "POST /api/v1/namespaces/default/configmaps";
    stream.write_all(served.request(line, &headers).as_bytes()).await.expect("it reads");
    stream.write_all(&body).await.expect("it reads to the end");
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("\"reason\":\"RequestEntityTooLarge\""), "{answer}");
    served.stop().await;
}

#[tokio::test]
async fn connections_above_the_limit_are_closed_and_come_in_later() {
    let served = serve(Limits { connections_max: 2, ..Limits::default() }).await;
    let first = served.connect().await;
    let _second = served.connect().await;
    assert!(served.try_connect().await.is_err());
    drop(first);
    let again = async {
        while served.try_connect().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("a place becomes free");
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_no_bytes_is_cut_off_and_delays_nobody() {
    let served = serve(Limits { stall_ms: 300, ..Limits::default() }).await;
    let cluster = served.cluster.clone();
    let mut stuck = served.connect().await;
    let watch = served.request("GET /api/v1/configmaps?watch=true", "");
    stuck.write_all(watch.as_bytes()).await.expect("it reads");
    let admin = orchestrator_core::api::Caller::Admin { name: "test".to_owned() };
    let mut written = 0;
    // More than the socket buffers of both sides hold; nobody reads.
    while written < 24 << 20 {
        let data = "x".repeat(500_000);
        let request = orchestrator_core::api::Request::Create {
            kind: orchestrator_core::model::Kind::ConfigMap,
            namespace: "default".to_owned(),
            object: serde_json::json!({ "metadata": { "generateName": "m" }, "data": { "a": data } }),
            options: orchestrator_core::api::WriteOptions::default(),
        };
        cluster.submit(&admin, request).await.expect("writers are not delayed");
        written += data.len();
    }
    let watchers = || async {
        let text = served.ask("GET /metrics").await;
        text.lines().any(|line| line == "orchestrator_http_watchers 0")
    };
    let cut = async {
        while !watchers().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), cut).await.expect("the stuck client is cut off");
    drop(stuck);
    served.stop().await;
}

#[tokio::test]
async fn a_shutdown_ends_watches_in_good_order_and_joins_everything() {
    let served = serve(Limits::default()).await;
    let mut stream = served.connect().await;
    let watch = served.request("GET /api/v1/pods?watch=true", "");
    stream.write_all(watch.as_bytes()).await.expect("it reads");
    let mut head = [0u8; 12];
    stream.read_exact(&mut head).await.expect("an answer");
    assert_eq!(&head, b"HTTP/1.1 200");
    served.stop().await;
    let rest = read_to_end(&mut stream).await;
    assert!(rest.ends_with("0\r\n\r\n"), "the last chunk is there: {rest:?}");
}
