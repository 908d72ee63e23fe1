//! Agents and a server over real sockets: the promises of a link, joining, and streams through the tunnel.

mod herd;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use orchestrator_core::driver::{Agent, AgentConfig, AgentHandle, Cluster, SystemClock};
use orchestrator_core::mem::MemStore;
use orchestrator_core::model::{
    AGENT_ANNOTATION, AgentId, Event, Key, Kind, Node, Object, ObjectMeta, Pod, Secret, Sensitive,
    Time, Uid,
};
use orchestrator_core::node::NodeLink;
use orchestrator_core::runtime::{LogOptions, Scope, SessionEvent, SessionOptions};
use orchestrator_core::testkit::link::LinkFixture;
use orchestrator_core::testkit::sim_runtime::{SimProgram, SimRuntime};
use orchestrator_core::world::World;
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use super::*;
use crate::{Client, ClientError, Pki, Server, ServerConfig};

mod capture;

/// A server of a cluster on a free port.
struct Served {
    server: Server,
    directory: tempfile::TempDir,
}

async fn serve(cluster: &Cluster) -> Served {
    let directory = tempfile::tempdir().expect("a directory");
    // Its authorities are older than the oldest certificate that is shown here.
    let begun = cluster.now().to_time().as_seconds() - 90 * 86_400;
    Pki::open(&directory.path().join("pki"), begun).expect("made");
    let config = ServerConfig {
        audit_log: Some(directory.path().join("audit.log")),
        ..ServerConfig::loopback(directory.path().join("pki"))
    };
    let server = Server::bind(config, cluster.clone()).await.expect("a free port");
    Served { server, directory }
}

impl Served {
    /// Records a token that is good for an hour, of a node alone if one is named.
    async fn token(&self, cluster: &Cluster, expires: i64, node: Option<&str>) -> JoinToken {
        let token = JoinToken::new(self.server.ca_pem(), JoinRole::Agent).expect("made");
        let expires = Time::from_seconds(cluster.now().to_time().as_seconds() + expires);
        let secret = Object::from_value(Kind::Secret, token.to_secret(expires, node));
        cluster.apply(secret.expect("a secret")).await.expect("recorded");
        token
    }

    async fn join(&self, token: &JoinToken, node: &str) -> Result<Membership, JoinError> {
        Membership::join(&self.server.url(), token, node).await
    }
}

async fn cluster() -> Cluster {
    Cluster::builder().store(MemStore::new()).start().await.expect("started")
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, JoinError>, code: u16, says: &str) {
    match outcome {
        Err(JoinError::Client(error)) if error.code() == Some(code) => {
            assert!(error.to_string().contains(says), "{error}");
        }
        other => panic!("{other:?} is not {code}"),
    }
}

/// Links over HTTP; each has a server of its own.
#[derive(Default)]
struct OverHttp(Mutex<Vec<Served>>);

#[async_trait]
impl LinkFixture for OverHttp {
    async fn link(&self, cluster: &Cluster, node: &str, uid: Uid) -> Arc<dyn NodeLink> {
        let served = serve(cluster).await;
        let key = KeyPair::generate().expect("a key");
        let request = CertificateParams::default().serialize_request(&key).expect("made");
        let now = cluster.now().to_time().as_seconds();
        let pki = Pki::open(&served.directory.path().join("pki"), now).expect("there");
        let request = request.pem().expect("made");
        let certificate = pki.node_certificate(&request, (node, uid), 3_600, now).expect("signed");
        let membership = Membership {
            servers: Vec::new(),
            cluster: cluster.id().to_owned(),
            node: node.to_owned(),
            uid,
            server: served.server.url(),
            authority: served.server.ca_pem().to_owned(),
            certificate,
            key: Sensitive(key.serialize_pem()),
        };
        self.0.lock().expect("no panic").push(served);
        Arc::new(HttpLink::new(&membership).expect("usable"))
    }
}

orchestrator_core::link_conformance!(OverHttp::default());

#[tokio::test]
async fn a_token_is_good_for_one_node_and_its_answer_may_be_lost() {
    let cluster = cluster().await;
    let served = serve(&cluster).await;
    let token = served.token(&cluster, 3_600, None).await;
    let joined = served.join(&token, "n1").await.expect("joined");
    let node = cluster.world().node("n1").cloned().expect("recorded");
    assert_eq!((joined.uid, joined.cluster.as_str()), (node.metadata.uid, cluster.id()));
    // Another key: whoever has seen the token.
    refused(served.join(&token, "n1").await, 403, "has been used");
    refused(served.join(&token, "n2").await, 403, "used by the node \"n1\"");

    let link = HttpLink::new(&joined).expect("usable");
    link.report(None).await.expect("it is known");
    let now = cluster.now().to_time().as_seconds();
    assert_eq!([0, 42_000, 44_000].map(|s| joined.is_half_over(now + s)), [false, false, true]);
    let newer = joined.renewed().await.expect("renewed");
    assert_ne!((&newer.certificate, &newer.key), (&joined.certificate, &joined.key));
    link.know_as(&newer).expect("usable");
    link.report(None).await.expect("it is known by the newer one");

    // A name that is taken costs no token.
    let another = served.token(&cluster, 3_600, None).await;
    refused(served.join(&another, "n1").await, 409, "orchd node remove n1");
    served.join(&another, "n2").await.expect("joined");

    cluster.delete(&Key::node("n1")).await.expect("there");
    link.report(None).await.expect_err("it was removed");
    refused(newer.renewed().await, 403, "must join anew");
    // Nor is it known again once another node has the name.
    let third = served.token(&cluster, 3_600, None).await;
    served.join(&third, "n1").await.expect("joined");
    link.report(None).await.expect_err("it is another node");
    refused(newer.renewed().await, 403, "must join anew");

    let audit = std::fs::read_to_string(served.directory.path().join("audit.log"));
    let audit = audit.expect("readable");
    assert!(audit.contains(&format!("system:join:{}", token.id())), "{audit}");
    assert!(!audit.contains(&token.reveal()[90..]), "no secret");
    served.server.shutdown().await;
    cluster.shutdown(false).await;
}

#[tokio::test]
async fn an_answer_that_was_lost_is_given_again_to_who_has_the_key() {
    let cluster = cluster().await;
    let served = serve(&cluster).await;
    let token = served.token(&cluster, 3_600, None).await;
    let client = Client::pinned(&served.server.url(), token.root(), token.credential());
    let client = client.expect("usable");
    let key = KeyPair::generate().expect("a key");
    let request = CertificateParams::default().serialize_request(&key).expect("made");
    let asked = json!({ "node": "n1", "request": request.pem().expect("made") });
    let first = client.post(JOIN_PATH, &asked).await.expect("joined");
    let second = client.post(JOIN_PATH, &asked).await.expect("the same again");
    assert_eq!(first["uid"], second["uid"]);
    for (field, value) in [("node", json!("N 1")), ("request", json!("nonsense"))] {
        let mut wrong = asked.clone();
        wrong[field] = value;
        let token = served.token(&cluster, 3_600, None).await;
        let client = Client::pinned(&served.server.url(), token.root(), token.credential());
        let error = client.expect("usable").post(JOIN_PATH, &wrong).await.expect_err(field);
        assert_eq!(error.code(), Some(400), "{error}");
        assert!(error.to_string().contains(field), "{error}");
    }
    served.server.shutdown().await;
    cluster.shutdown(false).await;
}

#[tokio::test]
async fn of_several_that_join_by_a_token_or_a_name_at_one_moment_one_gets_in() {
    let cluster = cluster().await;
    let served = serve(&cluster).await;
    for round in 0..4 {
        let token = served.token(&cluster, 3_600, None).await;
        let [a, b] = ["a", "b"].map(|name| format!("{name}-{round}"));
        // Each has a key of its own, also those of one name.
        let all =
            tokio::join!(served.join(&token, &a), served.join(&token, &a), served.join(&token, &b));
        let joined = [&all.0, &all.1, &all.2].into_iter().filter(|it| it.is_ok()).count();
        assert_eq!(joined, 1, "{all:?}");
    }
    // And of several that use tokens of their own for one name.
    for name in ["c-0", "c-1", "c-2", "c-3"] {
        let tokens =
            [served.token(&cluster, 3_600, None).await, served.token(&cluster, 3_600, None).await];
        let both = tokio::join!(served.join(&tokens[0], name), served.join(&tokens[1], name));
        assert!(both.0.is_ok() != both.1.is_ok(), "{both:?}");
    }
    assert_eq!(cluster.world().all::<Node>(None).count(), 8);
    served.server.shutdown().await;
    cluster.shutdown(false).await;
}

#[tokio::test]
async fn what_is_no_good_token_lets_nobody_in() {
    let cluster = cluster().await;
    let served = serve(&cluster).await;
    let good = served.token(&cluster, 3_600, Some("n1")).await;
    let changed = {
        let text = good.reveal();
        let (rest, last) = text.split_at(text.len() - 1);
        let last = if last == "0" { "1" } else { "0" };
        format!("{rest}{last}").parse::<JoinToken>().expect("well-formed")
    };
    refused(served.join(&changed, "n1").await, 401, "orchd token create");
    let old = served.token(&cluster, -1, None).await;
    refused(served.join(&old, "n1").await, 401, "expired");
    refused(served.join(&good, "n2").await, 403, "for the node \"n1\"");
    let revoked = served.token(&cluster, 3_600, None).await;
    cluster.delete(&join_token_key(revoked.id())).await.expect("there");
    refused(served.join(&revoked, "n1").await, 401, "unknown");
    // A secret of another type is no token, whatever is in it.
    let fake = JoinToken::new(served.server.ca_pem(), JoinRole::Agent).expect("made");
    let expires = Time::from_seconds(cluster.now().to_time().as_seconds() + 3_600);
    let mut secret = fake.to_secret(expires, None);
    secret["type"] = "Opaque".into();
    let secret = Object::from_value(Kind::Secret, secret).expect("a secret");
    cluster.apply(secret).await.expect("recorded");
    refused(served.join(&fake, "n1").await, 401, "unknown");
    // A server of another cluster is not talked to.
    let stranger = Pki::open(&served.directory.path().join("other"), 1_790_000_000).expect("made");
    let strange = JoinToken::new(stranger.ca_pem(), JoinRole::Agent).expect("made");
    match served.join(&strange, "n1").await {
        Err(JoinError::Client(error @ ClientError::Untrusted { .. })) => {
            let said = error.to_string();
            assert!(said.contains("not a server of the cluster that"), "{said}");
        }
        other => panic!("{other:?}"),
    }
    assert!(cluster.world().all::<Node>(None).next().is_none());
    let kept = cluster.world().all::<Secret>(None).count();
    assert!(kept >= 3, "nothing was used up");
    served.join(&good, "n1").await.expect("it is good for its node");
    served.server.shutdown().await;
    cluster.shutdown(false).await;
}

#[tokio::test]
async fn only_the_agent_of_a_node_speaks_for_it() {
    let cluster = cluster().await;
    let served = serve(&cluster).await;
    let path = |node: &str| NodeCall::Reports.path(node);
    let mut clients = Vec::new();
    for name in ["n1", "n2"] {
        let token = served.token(&cluster, 3_600, None).await;
        let joined = served.join(&token, name).await.expect("joined");
        clients.push(Client::from_config(&joined.client_config()).expect("usable"));
    }
    clients[0].post(&path("n1"), &json!({})).await.expect("itself");
    for (path, code) in [(path("n2"), 403), ("/api/v1/nodes".to_owned(), 403)] {
        let error = clients[0].post(&path, &json!({})).await.expect_err("not its own");
        assert_eq!(error.code(), Some(code), "{path}: {error}");
    }
    clients[0].raw("/api/v1/secrets").await.expect_err("a node reads no secrets");
    let kubeconfig = served.directory.path().join("kubeconfig");
    served.server.write_kubeconfig(&kubeconfig).expect("writable");
    let admin = Client::from_kubeconfig(&kubeconfig).expect("usable");
    let error = admin.post(&path("n1"), &json!({})).await.expect_err("no agent");
    assert_eq!(error.code(), Some(403), "{error}");
    served.server.shutdown().await;
    cluster.shutdown(false).await;
}

#[tokio::test]
async fn a_server_that_stops_tells_agents_that_wait_that_nothing_has_changed() {
    let cluster = cluster().await;
    let served = serve(&cluster).await;
    let token = served.token(&cluster, 3_600, None).await;
    let joined = served.join(&token, "n1").await.expect("joined");
    let kubeconfig = served.directory.path().join("kubeconfig");
    served.server.write_kubeconfig(&kubeconfig).expect("writable");
    let admin = Client::from_kubeconfig(&kubeconfig).expect("usable");
    let in_flight = async || -> u64 {
        let metrics = admin.raw("/metrics").await.expect("told");
        let metrics = String::from_utf8(metrics.to_vec()).expect("text");
        let line = metrics.lines().find(|line| {
            line.starts_with("orchestrator_http_limit_in_use{limit=\"requests_in_flight_max\"}")
        });
        let value = line.and_then(|line| line.split_whitespace().next_back());
        value.and_then(|value| value.parse().ok()).expect("a number")
    };
    let before = in_flight().await;
    let after = json!({ "after": cluster.world().revision().0 });
    let waiting = [NodeCall::Assignments, NodeCall::Network].map(|call| {
        let client = Client::from_config(&joined.client_config()).expect("usable");
        let (path, after) = (call.path("n1"), after.clone());
        tokio::spawn(async move { client.post(&path, &after).await })
    });
    while in_flight().await < before + 2 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // Who is not answered when it has stopped is cut off.
    served.server.shutdown().await;
    for waiting in waiting {
        let answer = waiting.await.expect("no panic").expect("answered");
        assert_eq!(answer["pods"].as_array().map_or(0, Vec::len), 0, "{answer}");
        assert_eq!(answer.get("epoch"), None, "no list of pods, from which to conclude: {answer}");
    }
    cluster.shutdown(false).await;
}

#[tokio::test]
async fn f34_a_copy_of_an_agents_identity_is_refused_everything_and_the_node_says_so() {
    let cluster = cluster().await;
    let served = serve(&cluster).await;
    let token = served.token(&cluster, 3_600, None).await;
    let joined = served.join(&token, "n1").await.expect("joined");
    let speaking = |installation: &str| {
        let id = AgentId::new(installation, "01").expect("hexadecimal");
        let mut node = Node { metadata: ObjectMeta::named("", "n1"), ..Node::default() };
        node.metadata.annotations.insert(AGENT_ANNOTATION.to_owned(), id.to_string());
        (HttpLink::new(&joined).expect("usable").speaking_as(id), node)
    };
    let ((first, node), (copy, copied)) = (speaking("0a"), speaking("0b"));
    first.register(node.clone()).await.expect("it is the first");
    for _ in 0..2 {
        let refused = copy.register(copied.clone()).await.expect_err("a copy").to_string();
        assert!(refused.contains("the data directory of this one is a copy"), "{refused}");
        let refused = copy.report(None).await.expect_err("a copy").to_string();
        assert!(refused.contains("another agent speaks for node \"n1\""), "{refused}");
        copy.assignments(None).await.expect_err("a copy is told of no pods");
        first.report(None).await.expect("it goes on");
        first.register(node.clone()).await.expect("it goes on");
    }
    let told = |world: &World| world.all::<Event>(None).any(|it| it.reason == "AgentRefused");
    let told = cluster.wait_for(told);
    let told = tokio::time::timeout(std::time::Duration::from_secs(60), told).await;
    told.expect("people are told").expect("no shutdown");
    served.server.shutdown().await;
    cluster.shutdown(false).await;
}

/// A node elsewhere: an agent on a simulated runtime, and its tunnel.
async fn agent(
    cluster: &Cluster,
    served: &Served,
    name: &str,
) -> (AgentHandle, tokio::task::JoinHandle<Result<(), ClientError>>) {
    let token = served.token(cluster, 3_600, None).await;
    agent_through(&served.server.url(), &token, name).await
}

/// The same, which reaches the server by another URL.
async fn agent_through(
    url: &str,
    token: &JoinToken,
    name: &str,
) -> (AgentHandle, tokio::task::JoinHandle<Result<(), ClientError>>) {
    let joined = Membership::join(url, token, name).await.expect("joined");
    let runtime = SimRuntime::new(Arc::new(SystemClock));
    for (program, prints) in [("talker", &["one", "two"][..]), ("teller", &[capture::CANARY])] {
        let prints = prints.iter().map(|line| (*line).to_owned()).collect();
        runtime.set_program(program, SimProgram { prints, ..SimProgram::default() });
    }
    let scope = Scope { cluster: joined.cluster.clone(), node: name.to_owned() };
    let link = HttpLink::new(&joined).expect("usable");
    let agent = Agent::spawn(AgentConfig::new(scope), Arc::new(runtime), Arc::new(link.clone()));
    let streams = agent.streams();
    let tunnel = tokio::spawn(async move { serve_streams(&link, streams).await });
    (agent, tunnel)
}

#[tokio::test]
async fn a_pod_elsewhere_runs_and_its_streams_come_through_the_tunnel() {
    let cluster = cluster().await;
    let served = serve(&cluster).await;
    let (agent, tunnel) = agent(&cluster, &served, "n1").await;
    let pod = Key::pod("default", "a");
    cluster.apply(Pod::new("a", "talker")).await.expect("a good pod");
    let running = cluster.wait_for(|world| world.at::<Pod>(&pod).is_some_and(|it| it.is_ready()));
    tokio::time::timeout(std::time::Duration::from_secs(60), running)
        .await
        .expect("it becomes ready")
        .expect("no shutdown");

    let options = LogOptions::default();
    let mut log = loop {
        // The tunnel is opened while the agent registers.
        match cluster.logs(&pod, None, false, &options).await {
            Ok(log) => break log,
            Err(rejection) => {
                assert!(rejection.to_string().contains("not reachable"), "{rejection}")
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    let mut lines = Vec::new();
    while let Some(line) = log.next().await {
        lines.push(line.expect("whole").text);
    }
    assert_eq!(lines, ["one\n", "two\n"]);

    let command = ["say", "hello"].map(str::to_owned).to_vec();
    let options = SessionOptions { command, stdin: true, terminal: false };
    let mut session = cluster.session(&pod, None, &options).await.expect("it runs");
    let mut heard = async |says: &str| {
        let event = session.output.next().await.expect("more").expect("whole");
        assert_eq!(event, SessionEvent::Stdout(Bytes::copy_from_slice(says.as_bytes())));
    };
    heard("say hello\n").await;
    session.input.write(Bytes::from_static(b"more")).await.expect("taken");
    let event = session.output.next().await.expect("more").expect("whole");
    assert_eq!(event, SessionEvent::Stdout(Bytes::from_static(b"more")));
    session.input.close().await.expect("taken");
    let event = session.output.next().await.expect("its end").expect("whole");
    assert_eq!(event, SessionEvent::Exited(0));
    assert!(session.output.next().await.is_none());

    let nothing = cluster.logs(&pod, None, true, &LogOptions::default()).await;
    assert!(nothing.expect_err("one run").to_string().contains("no previous run"));

    // Whoever is removed is not reached any more, though its agent would like to be.
    cluster.delete(&Key::node("n1")).await.expect("there");
    tunnel.await.expect("no panic").expect("it was open");
    let gone = cluster.session(&pod, None, &options).await.expect_err("not reachable");
    assert!(gone.to_string().contains("n1") || gone.to_string().contains("not found"), "{gone}");
    agent.shutdown(true).await;
    served.server.shutdown().await;
    cluster.shutdown(false).await;
}
