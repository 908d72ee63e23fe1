//! HTTP/2: many requests on one connection, and clients that abuse that.

use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use orchestrator_http::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::sockets::{Served, quick, serve};

/// The kinds of frames that are looked at.
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;

/// A client that says what it likes.
struct Raw(TlsStream<TcpStream>);

struct Frame {
    kind: u8,
    flags: u8,
    content: Vec<u8>,
}

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), content].concat()
}

/// A request for a path: its head is all of it.
fn get(stream: u32, path: &str, token: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    // GET and https by their numbers; path and authorization by their names' numbers.
    let bearer = format!("Bearer {token}");
    let head = [vec![0x82, 0x87, 0x04], text(path), vec![0x0f, 0x08], text(&bearer)].concat();
    frame(HEADERS, 0x5, stream, &head)
}

impl Raw {
    async fn connect(served: &Served, settings: &[u8]) -> Self {
        let stream = served.connect_with(&[b"h2"]).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut raw = Self(stream);
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        raw.send(&[preface, frame(SETTINGS, 0, 0, settings)].concat()).await;
        raw
    }

    async fn send(&mut self, bytes: &[u8]) {
        // Whether the server still reads shows in what it says.
        let _ = self.0.write_all(bytes).await;
        let _ = self.0.flush().await;
    }

    /// The next frame; `None` at the end.
    async fn next(&mut self) -> Option<Frame> {
        let read = async {
            let mut head = [0u8; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut content = vec![0; usize::try_from(length).expect("a short frame")];
            self.0.read_exact(&mut content).await.ok()?;
            Some(Frame { kind: head[3], flags: head[4], content })
        };
        tokio::time::timeout(Duration::from_secs(30), read).await.expect("it says something")
    }

    /// Reads up to a farewell, and returns its reason; `None` when there is none before the end.
    async fn farewell(&mut self) -> Option<u8> {
        loop {
            let frame = self.next().await?;
            if frame.kind == GO_AWAY {
                return frame.content.get(7).copied();
            }
        }
    }

    /// Waits until the server has read all that was sent. Returns whether it says farewell meanwhile.
    async fn has_read(&mut self) -> bool {
        self.send(&frame(PING, 0, 0, b"are you?")).await;
        let mut is_over = false;
        loop {
            match self.next().await {
                Some(Frame { kind: PING, flags: 1, content }) if content == b"are you?" => {
                    return is_over;
                }
                Some(frame) => is_over |= frame.kind == GO_AWAY,
                None => return true,
            }
        }
    }
}

async fn others_are_served(served: &Served) {
    let answer = served.ask("GET /version").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn many_requests_share_a_connection_and_a_watch_beside_them_ends_with_the_server() {
    let served = serve(Limits::default()).await;
    let stream = served.connect_with(&[b"h2", b"http/1.1"]).await.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let token = served.token();
    let ask = |method: Method, path: &str| {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://localhost{path}"))
            .header("authorization", format!("Bearer {token}"))
            .body(Empty::<bytes::Bytes>::new())
            .expect("a request");
        let mut sender = sender.clone();
        async move { sender.send_request(request).await.expect("an answer") }
    };
    let send = |path: &str| ask(Method::GET, path);
    for path in ["/healthz", "/api/v1/configmaps"] {
        let whole = send(path).await.into_body().collect().await.expect("a whole body").to_bytes();
        let head = ask(Method::HEAD, path).await;
        assert_eq!(head.status(), StatusCode::OK, "{path}");
        assert_eq!(head.headers()["content-length"], whole.len().to_string(), "{path}");
        let body = head.into_body().collect().await.expect("a body in good order").to_bytes();
        assert!(body.is_empty(), "{path}: {body:?}");
    }
    let mut watch = send("/api/v1/configmaps?watch=true").await;
    assert_eq!(watch.status(), StatusCode::OK);
    let requests = (0..100).map(|_| send("/api/v1/configmaps"));
    for response in futures_util::future::join_all(requests).await {
        assert_eq!(response.status(), StatusCode::OK);
        let body = response.into_body().collect().await.expect("a whole body").to_bytes();
        assert!(body.ends_with(b"]}"));
    }
    let map = crate::fixture::config_map("a", &serde_json::json!({}));
    let made = orchestrator_core::api::Request::Create {
        kind: orchestrator_core::model::Kind::ConfigMap,
        namespace: "default".to_owned(),
        object: map,
        options: orchestrator_core::api::WriteOptions::default(),
    };
    let admin = orchestrator_core::api::Caller::Admin { name: "test".to_owned() };
    served.cluster().submit(&admin, made).await.expect("made");
    let event = watch.frame().await.expect("an event").expect("no error");
    assert!(event.into_data().expect("data").starts_with(b"{\"type\":\"ADDED\""));
    served.stop().await;
    while let Some(frame) = watch.frame().await {
        frame.expect("it ends in good order");
    }
    drop(sender);
    let _ = connection.await.expect("no panic");
}

#[tokio::test]
async fn without_http_2_in_the_handshake_it_is_http_1() {
    let served = serve(Limits::default()).await;
    for offered in [&[][..], &[&b"http/1.1"[..]]] {
        let stream = served.connect_with(offered).await.expect("a handshake");
        assert_ne!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    }
    others_are_served(&served).await;
    served.stop().await;
}

#[tokio::test]
async fn streams_reset_as_fast_as_they_are_opened_end_the_connection() {
    let served = serve(Limits::default()).await;
    let mut raw = Raw::connect(&served, &[]).await;
    let pair = |n: u32| {
        let stream = 2 * n + 1;
        let reset = frame(RESET, 0, stream, &8u32.to_be_bytes());
        [get(stream, "/api/v1/pods", served.token()), reset].concat()
    };
    let pairs: Vec<u8> = (0..500).flat_map(pair).collect();
    raw.send(&pairs).await;
    others_are_served(&served).await;
    // 11: "enhance your calm".
    assert_eq!(raw.farewell().await, Some(11));
    served.stop().await;
}

#[tokio::test]
async fn requests_given_up_again_and_again_end_the_connection() {
    let served = serve(Limits::default()).await;
    let mut raw = Raw::connect(&served, &[]).await;
    // The revision does not come, so none of them is answered before it is given up.
    let path = "/api/v1/pods?resourceVersion=999999";
    let (mut given_up, mut is_over) = (0u32, false);
    while !is_over {
        assert!(given_up < 5_000, "this goes on");
        let streams: Vec<u32> = (given_up..given_up + 10).map(|n| 2 * n + 1).collect();
        let ask = streams.iter().flat_map(|stream| get(*stream, path, served.token()));
        raw.send(&ask.collect::<Vec<_>>()).await;
        is_over = raw.has_read().await;
        let resets = streams.iter().flat_map(|it| frame(RESET, 0, *it, &8u32.to_be_bytes()));
        raw.send(&resets.collect::<Vec<_>>()).await;
        is_over |= raw.has_read().await;
        given_up += 10;
    }
    assert!(given_up >= 1_000, "{given_up} are not many");
    others_are_served(&served).await;
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_gives_no_window_or_says_nothing_is_cut_off() {
    let served = serve(Limits { stall_ms: 300, ..quick() }).await;
    // The setting of the window of new streams: nothing.
    let mut stuck = Raw::connect(&served, &[0, 4, 0, 0, 0, 0]).await;
    stuck.send(&get(1, "/openapi/v3/api/v1", served.token())).await;
    let mut silent = Raw::connect(&served, &[]).await;
    others_are_served(&served).await;
    let mut kinds = Vec::new();
    while let Some(frame) = stuck.next().await {
        kinds.push(frame.kind);
        assert_ne!(frame.kind, PING, "that it takes nothing is noticed first");
    }
    assert!(kinds.contains(&HEADERS), "it was answered: {kinds:?}");
    assert_eq!(silent.farewell().await, Some(0), "an idle connection ends in good order");
    while silent.next().await.is_some() {}
    served.stop().await;
}
