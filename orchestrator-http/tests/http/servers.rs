//! Two servers of one cluster: what belongs to the other is passed on, in the name of whoever asks, and to nobody else.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use orchestrator_core::driver::{Agent, AgentConfig, AgentHandle, Cluster, Leader, SystemClock};
use orchestrator_core::mem::MemStore;
use orchestrator_core::model::{Key, Kind, Object, Pod, PodSpec, Time};
use orchestrator_core::runtime::Scope;
use orchestrator_core::testkit::sim_runtime::{SimProgram, SimRuntime};
use orchestrator_http::{
    Client, HttpLink, JoinRole, JoinServerError, JoinToken, Listen, LogParams, Membership, Server,
    ServerConfig, forget_root, join_as_server, refuse_others, refuse_stranger, serve_streams,
    server_urls,
};
use serde_json::json;
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

/// How long anything may take.
const WITHIN: Duration = Duration::from_secs(60);

/// A control plane with its server.
struct One {
    cluster: Cluster,
    server: Server,
    client: Client,
}

impl One {
    async fn start(store: &MemStore, identity: &str, keys: &Path) -> Self {
        let builder = Cluster::builder().store(store.clone()).elect_as(identity);
        let cluster = builder.start().await.expect("started");
        let url_among = Some("https://127.0.0.1:0".to_owned());
        let config = ServerConfig { url_among, ..ServerConfig::loopback(keys) };
        let server = Server::bind(config, cluster.clone()).await.expect("a free port");
        let kubeconfig = keys.with_extension(identity);
        server.write_kubeconfig(&kubeconfig).expect("writable");
        let client = Client::from_kubeconfig(&kubeconfig).expect("usable");
        Self { cluster, server, client }
    }

    async fn token(&self, role: JoinRole) -> JoinToken {
        let token = JoinToken::new(self.server.ca_pem(), role).expect("made");
        let expires = Time::from_seconds(self.cluster.now().to_time().as_seconds() + 600);
        let secret = Object::from_value(Kind::Secret, token.to_secret(expires, None));
        self.cluster.apply(secret.expect("a secret")).await.expect("recorded");
        token
    }

    async fn stop(self) {
        self.server.shutdown().await;
        self.cluster.shutdown(true).await;
    }
}

async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_true().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WITHIN, waiting).await.unwrap_or_else(|_| panic!("{what}: in time"));
}

/// Two servers, of which the first leads.
async fn two(directory: &Path) -> (One, One) {
    let store = MemStore::new();
    for one in ["one", "two"] {
        std::fs::create_dir(directory.join(one)).expect("a directory");
    }
    let first = One::start(&store, "a", &directory.join("one/pki")).await;
    // What else is kept among the keys: those that seal secrets.
    std::fs::write(directory.join("one/pki/secrets.keys"), "theirs").expect("written");
    until("the first leads", async || first.cluster.leader() == Leader::Here).await;
    let token = first.token(JoinRole::Server).await;
    let keys = directory.join("two/pki");
    join_as_server(&first.server.url(), &token, "b", &keys).await.expect("it joins");
    assert!(!keys.join("root.key").exists(), "it stays where it was made");
    let sealing = std::fs::read_to_string(keys.join("secrets.keys"));
    assert_eq!(sealing.expect("given too"), "theirs");
    let second = One::start(&store, "b", &keys).await;
    let led = Leader::Elsewhere("a".to_owned());
    until("the second follows", async || second.cluster.leader() == led).await;
    (first, second)
}

/// The agent of a node that has joined at a server, with its tunnel there.
async fn agent(one: &One, name: &str) -> AgentHandle {
    let token = one.token(JoinRole::Agent).await;
    let joined = Membership::join(&one.server.url(), &token, name).await.expect("joined");
    let runtime = SimRuntime::new(Arc::new(SystemClock));
    let prints = ["one", "two"].map(str::to_owned).to_vec();
    runtime.set_program("talker", SimProgram { prints, ..SimProgram::default() });
    let scope = Scope { cluster: joined.cluster.clone(), node: name.to_owned() };
    let link = HttpLink::new(&joined).expect("usable");
    let agent = Agent::spawn(AgentConfig::new(scope), Arc::new(runtime), Arc::new(link.clone()));
    let streams = agent.streams();
    tokio::spawn(async move { serve_streams(&link, streams).await });
    agent
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_another_server_is_passed_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let (leader, other) = two(directory.path()).await;
    // Its reports reach the one that does not lead, and are heard by the one that does.
    let agent = agent(&other, "n1").await;
    let pod = Key::pod("default", "a");
    leader.cluster.apply(Pod::new("a", "talker")).await.expect("a good pod");
    let running =
        leader.cluster.wait_for(|world| world.at::<Pod>(&pod).is_some_and(|it| it.is_ready()));
    tokio::time::timeout(WITHIN, running).await.expect("in time").expect("no shutdown");
    assert!(leader.cluster.world().signal("n1").last_heard.is_some());
    assert!(!leader.cluster.reaches("n1"), "its tunnel is at the other");

    // A log through the server where the tunnel is not.
    let log = async || leader.client.logs(&pod, &LogParams::default()).await;
    until("the tunnel is open", async || log().await.is_ok()).await;
    let mut bytes = log().await.expect("open");
    let mut said = Vec::new();
    while let Some(piece) = bytes.next().await {
        said.extend(piece.expect("whole"));
    }
    assert_eq!(said, b"one\ntwo\n");

    // Usage, which the leader alone knows, from the other.
    let path = "/apis/metrics.k8s.io/v1beta1/nodes";
    until("usage is measured", async || {
        let usage = other.client.raw(path).await.expect("passed on");
        String::from_utf8_lossy(&usage).contains("\"n1\"")
    })
    .await;

    // A bind by the one that does not lead.
    let spec =
        PodSpec { scheduler_name: "mine".to_owned(), ..(*Pod::new("b", "talker").spec).clone() };
    let bound = Pod { spec: spec.into(), ..Pod::new("b", "talker") };
    other.cluster.apply(bound).await.expect("a good pod");
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "b" },
        "target": { "kind": "Node", "name": "n1" },
    });
    other.client.post("/api/v1/namespaces/default/pods/b/binding", &binding).await.expect("bound");
    let shown = other.client.get(&Key::pod("default", "b")).await.expect("there");
    assert_eq!(shown["spec"]["nodeName"], "n1");

    exec_through(&leader, directory.path()).await;
    agent.shutdown(true).await;
    other.stop().await;
    leader.stop().await;
}

async fn next(socket: &mut WebSocketStream<UnixStream>) -> Message {
    let message = tokio::time::timeout(WITHIN, socket.next()).await.expect("in time");
    message.expect("more").expect("whole")
}

/// Runs a program through a server that has to pass the connection on.
async fn exec_through(one: &One, directory: &Path) {
    let socket = directory.join("api.sock");
    let url_among = Some(one.server.url());
    let keys = directory.join("one/pki");
    let config =
        ServerConfig { url_among, ..ServerConfig::new(Listen::Unix(socket.clone()), keys) };
    let server = Server::bind(config, one.cluster.clone()).await.expect("a free path");
    let path = "a/exec?command=say&command=hello&stdin=true&stdout=true";
    let url = format!("ws://localhost/api/v1/namespaces/default/pods/{path}");
    let mut request = url.into_client_request().expect("well-formed");
    let protocol = "v5.channel.k8s.io".parse().expect("a value");
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let stream = UnixStream::connect(&socket).await.expect("it listens");
    let (mut socket, _) =
        tokio_tungstenite::client_async(request, stream).await.expect("a session");
    let said = next(&mut socket).await;
    assert_eq!(said, Message::Binary(Bytes::from_static(b"\x01say hello\n")));
    socket.send(Message::Binary(Bytes::from_static(b"\x00more"))).await.expect("taken");
    let echo = next(&mut socket).await;
    assert_eq!(echo, Message::Binary(Bytes::from_static(b"\x01more")));
    drop(socket);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_a_server_asks_for_others_or_gets_the_keys() {
    let directory = tempfile::tempdir().expect("a directory");
    let (leader, other) = two(directory.path()).await;
    let agents = leader.token(JoinRole::Agent).await;
    let stolen = directory.path().join("stolen");
    std::fs::create_dir(&stolen).expect("a directory");
    let keys = stolen.join("pki");
    let refused = join_as_server(&leader.server.url(), &agents, "c", &keys).await;
    assert!(matches!(refused, Err(JoinServerError::Role)), "{refused:?}");
    // Nor by calling it one for servers.
    let renamed: JoinToken = agents.reveal().replace("agent", "server").parse().expect("a form");
    let refused = join_as_server(&leader.server.url(), &renamed, "c", &keys).await;
    assert!(refused.expect_err("refused").to_string().contains("unknown, used or expired"));
    let token = leader.token(JoinRole::Server).await;
    std::fs::create_dir(&keys).expect("a directory");
    std::fs::write(keys.join("secrets.keys"), "precious").expect("written");
    let refused = join_as_server(&other.server.url(), &token, "c", &keys).await;
    let refused = refused.expect_err("nothing is overwritten").to_string();
    assert!(refused.contains("pki holds something already"), "{refused}");
    std::fs::remove_dir_all(&keys).expect("ours");
    join_as_server(&other.server.url(), &token, "c", &keys)
        .await
        .expect("the token is still good, once");
    let again = stolen.join("again");
    let refused = join_as_server(&other.server.url(), &token, "d", &again).await;
    assert!(refused.expect_err("refused").to_string().contains("has been used by the server"));
    assert!(!again.exists());
    // The keys that seal secrets are told to servers alone, whoever else may do everything.
    let told = leader.client.raw("/apis/orchestrator.dev/v1/peer-keys").await;
    assert_eq!(told.expect_err("refused").code(), Some(404));
    for one in [other, leader] {
        one.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_keys_are_forgotten_only_when_no_other_server_is_heard() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MemStore::new();
    let one = One::start(&store, "a", &directory.path().join("pki")).await;
    let own = one.server.url();
    until("it has told of itself", async || {
        server_urls(&store).await.expect("readable").contains(&own)
    })
    .await;
    let now = one.cluster.now().to_time().as_seconds();
    let absent = directory.path().join("absent");
    let refused = refuse_stranger(&store, &absent).await.expect_err("it has no keys").to_string();
    assert!(refused.contains("--join URL") && refused.contains("--new-keys"), "{refused}");

    let refused = forget_root(&store, None, now).await.expect_err("it has the keys").to_string();
    assert!(refused.contains(&own), "{refused}");
    let refused = refuse_others(&store, None, now).await.expect_err("as above").to_string();
    assert!(refused.contains(&own), "{refused}");
    refuse_others(&store, Some(&own), now).await.expect("it is itself");
    refuse_stranger(&store, &absent).await.expect_err("nothing was forgotten");
    forget_root(&store, Some(&own), now).await.expect("it is the one that has lost them");
    refuse_stranger(&store, &absent).await.expect("any keys will do");
    forget_root(&store, None, now + 2 * 3_600).await.expect("nobody is heard, and nothing is left");
    one.stop().await;
}
