//! Exec, attach and port-forward over WebSockets, on a simulated runtime and a socket in the file system.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Method;
use orchestrator_core::model::{Container, Key, Pod, PodPhase, RestartPolicy};
use orchestrator_http::{Listen, Server, ServerConfig};
use serde_json::json;
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::fixture::Fixture;
use crate::logs::with_a_pod;

const V5: &str = "v5.channel.k8s.io";

struct Served {
    fixture: Fixture,
    server: Server,
    directory: tempfile::TempDir,
}

async fn serve() -> Served {
    let fixture = with_a_pod().await;
    let directory = tempfile::tempdir().expect("a directory");
    let listen = Listen::Unix(directory.path().join("api.sock"));
    let config = ServerConfig::new(listen, directory.path().join("pki"));
    let server = Server::bind(config, fixture.cluster.clone()).await.expect("a free path");
    Served { fixture, server, directory }
}

type Socket = WebSocketStream<UnixStream>;

impl Served {
    async fn connect(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Socket, Error> {
        let stream = UnixStream::connect(self.directory.path().join("api.sock")).await;
        let url = format!("ws://localhost/api/v1/namespaces/default/pods/{path}");
        let mut request = url.into_client_request().expect("well-formed");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a value"));
        }
        let connected = tokio_tungstenite::client_async(request, stream.expect("it listens")).await;
        connected.map(|(socket, response)| {
            assert_eq!(response.headers()["sec-websocket-protocol"], headers[0].1);
            socket
        })
    }

    /// Connects, which must be refused with this status.
    async fn refused(&self, path: &str, headers: &[(&'static str, &str)]) -> u16 {
        match self.connect(path, headers).await {
            Err(Error::Http(response)) => response.status().as_u16(),
            other => panic!("{other:?}"),
        }
    }

    async fn stop(self) {
        self.server.shutdown().await;
        self.fixture.cluster.shutdown(true).await;
    }
}

/// Waits for the next message with bytes; `None` when the server says goodbye.
async fn next(socket: &mut Socket) -> Option<Bytes> {
    loop {
        let message = tokio::time::timeout(Duration::from_secs(30), socket.next()).await;
        match message.expect("something comes")? {
            Ok(Message::Binary(bytes)) => return Some(bytes),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

async fn send(socket: &mut Socket, bytes: &'static [u8]) {
    socket.send(Message::Binary(Bytes::from_static(bytes))).await.expect("taken");
}

#[tokio::test]
async fn a_program_is_sent_input_and_heard_to_its_end() {
    let served = serve().await;
    let path = "a/exec?command=say&command=hello&stdin=true&stdout=true";
    let mut socket =
        served.connect(path, &[("sec-websocket-protocol", V5)]).await.expect("a session");
    assert_eq!(next(&mut socket).await.as_deref(), Some(&b"\x01say hello\n"[..]));
    send(&mut socket, b"\x00more").await;
    assert_eq!(next(&mut socket).await.as_deref(), Some(&b"\x01more"[..]));
    send(&mut socket, br#"{"Width":1}"#).await;
    send(&mut socket, b"\x04{\"Width\":80,\"Height\":24}").await;
    assert_eq!(next(&mut socket).await.as_deref(), Some(&b"\x0180x24\n"[..]));
    send(&mut socket, b"\xff\x00").await;
    let status = next(&mut socket).await.expect("how it ended");
    assert_eq!(status[0], 3);
    let status: serde_json::Value = serde_json::from_slice(&status[1..]).expect("JSON");
    assert_eq!(status["status"], "Success");
    assert_eq!(next(&mut socket).await, None);
    served.stop().await;
}

#[tokio::test]
async fn attaching_shows_nothing_of_before_and_ends_with_the_server() {
    let served = serve().await;
    let path = "a/attach?stdout=true&stderr=true";
    let mut socket =
        served.connect(path, &[("sec-websocket-protocol", V5)]).await.expect("a session");
    served.stop().await;
    assert_eq!(next(&mut socket).await, None);
}

#[tokio::test]
async fn a_session_ends_when_its_right_is_withdrawn() {
    let served = serve().await;
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let binding = json!({
        "metadata": { "name": "jane" },
        "roleRef": { "kind": "ClusterRole", "name": "edit" },
        "subjects": [{ "kind": "User", "name": "jane" }],
    });
    served.fixture.post(bindings, &binding).await.expect(201);
    let path = "a/exec?command=say&command=hello&stdin=true&stdout=true";
    let headers = [("sec-websocket-protocol", V5), ("impersonate-user", "jane")];
    let mut socket = served.connect(path, &headers).await.expect("a session");
    assert_eq!(next(&mut socket).await.as_deref(), Some(&b"\x01say hello\n"[..]));
    let binding = format!("{bindings}/jane");
    served.fixture.send(Method::DELETE, &binding, &[], "").await.expect(200);
    assert_eq!(next(&mut socket).await, None);
    assert_eq!(served.refused(path, &headers).await, 403);
    served.stop().await;
}

#[tokio::test]
async fn an_attached_client_is_heard_and_ends_the_input_of_a_program() {
    let served = serve().await;
    let mut container = Container::new("main", "talker");
    container.stdin = true;
    container.stdin_once = true;
    container.tty = true;
    let mut pod = Pod::of("b", vec![container]);
    Arc::make_mut(&mut pod.spec).restart_policy = Some(RestartPolicy::Never);
    let f = &served.fixture;
    f.cluster.apply(pod).await.expect("a good pod");
    let is = |phase: PodPhase| {
        let ready = f.cluster.wait_for(move |world| {
            world.at::<Pod>(&Key::pod("default", "b")).is_some_and(|pod| pod.status.phase == phase)
        });
        tokio::time::timeout(Duration::from_secs(30), ready)
    };
    is(PodPhase::Running).await.expect("in time").expect("no shutdown");
    let v5 = ("sec-websocket-protocol", V5);
    let path = "b/attach?stdin=true&stdout=true&tty=true";
    let mut socket = served.connect(path, &[v5]).await.expect("a session");
    let mut watcher = served.connect("b/attach?stdout=true", &[v5]).await.expect("a session");
    send(&mut socket, b"\x04{\"Width\":80,\"Height\":24}").await;
    send(&mut socket, b"\x00more").await;
    for client in [&mut socket, &mut watcher] {
        assert_eq!(next(client).await.as_deref(), Some(&b"\x0180x24\n"[..]));
        assert_eq!(next(client).await.as_deref(), Some(&b"\x01more"[..]));
    }
    send(&mut watcher, b"\x00not asked for").await;
    send(&mut socket, b"\xff\x00").await;
    for client in [&mut socket, &mut watcher] {
        let status = next(client).await.expect("how it ended");
        assert_eq!(status[0], 3, "{status:?}");
        assert!(String::from_utf8_lossy(&status).contains("Success"), "{status:?}");
    }
    is(PodPhase::Succeeded).await.expect("in time").expect("no shutdown");
    served.stop().await;
}

#[tokio::test]
async fn who_may_not_or_cannot_is_refused_before_anything_runs() {
    let served = serve().await;
    let exec = "a/exec?command=x&stdout=true";
    let v5 = ("sec-websocket-protocol", V5);
    assert_eq!(served.refused(exec, &[("sec-websocket-protocol", "v9.channel.k8s.io")]).await, 400);
    assert_eq!(served.refused(exec, &[v5, ("origin", "https://evil.example")]).await, 403);
    assert_eq!(served.refused("a/exec?stdout=true", &[v5]).await, 400);
    assert_eq!(served.refused("a/exec?command=x", &[v5]).await, 400);
    assert_eq!(served.refused("a/exec?command=x&stdout=true&container=nope", &[v5]).await, 400);
    assert_eq!(served.refused("a/portforward", &[v5]).await, 400);
    assert_eq!(served.refused("a/portforward?ports=0", &[v5]).await, 400);
    let plain =
        served.fixture.get("/api/v1/namespaces/default/pods/a/exec?command=x&stdout=true").await;
    assert!(plain.refused(400, "BadRequest").contains("WebSocket"));
    let missing =
        served.fixture.get("/api/v1/namespaces/default/pods/b/exec?command=x&stdout=true").await;
    missing.refused(404, "NotFound");
    served.stop().await;
}

#[tokio::test]
async fn a_pod_that_cannot_be_reached_is_told_of_on_the_error_channel() {
    let served = serve().await;
    let v4 = ("sec-websocket-protocol", "v4.channel.k8s.io");
    let mut pod = Pod::new("b", "talker");
    let nowhere = [("no".to_owned(), "where".to_owned())];
    std::sync::Arc::make_mut(&mut pod.spec).node_selector = nowhere.into();
    served.fixture.cluster.apply(pod).await.expect("a good pod");
    let mut socket = served.connect("b/portforward?ports=80", &[v4]).await.expect("channels");
    assert_eq!(next(&mut socket).await.as_deref(), Some(&[0, 80, 0][..]));
    assert_eq!(next(&mut socket).await.as_deref(), Some(&[1, 80, 0][..]));
    let error = next(&mut socket).await.expect("an error");
    assert_eq!(error[0], 1);
    assert!(String::from_utf8_lossy(&error).contains("has no node yet"), "{error:?}");
    assert_eq!(next(&mut socket).await, None);
    served.stop().await;
}
