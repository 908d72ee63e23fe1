//! What somebody sees who reads along between agents, clients and the server (threat A): a relay puts down every byte.

use std::net::SocketAddr;
use std::time::Duration;

use orchestrator_core::model::EnvVar;
use orchestrator_core::runtime::LogStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::kubeconfig::{ClientConfig, read_kubeconfig};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// What must be seen nowhere: as an environment variable, in a log, as a command, in a secret.
pub(super) const CANARY: &str = "canary-b5f7e0c2";

/// What was said.
type Said = Arc<Mutex<Vec<u8>>>;

/// Hands connections on, and keeps what is said.
struct Relay {
    address: SocketAddr,
    /// What the client and what the server said, for each connection.
    heard: Arc<Mutex<Vec<(Said, Said)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Relay {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let heard: Arc<Mutex<Vec<(Said, Said)>>> = Arc::default();
        let known = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { return };
                let Ok(server) = TcpStream::connect(server).await else { continue };
                let (said, answered) = (Said::default(), Said::default());
                let connection = (Arc::clone(&said), Arc::clone(&answered));
                known.lock().expect("no panic").push(connection);
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(pump(from_client, to_server, said));
                tokio::spawn(pump(from_server, to_client, answered));
            }
        });
        Self { address, heard, task }
    }

    fn connections(&self) -> Vec<[Vec<u8>; 2]> {
        let heard = self.heard.lock().expect("no panic");
        let copy = |bytes: &Said| bytes.lock().expect("no panic").clone();
        heard.iter().map(|(said, answered)| [copy(said), copy(answered)]).collect()
    }

    fn contains(&self, text: &str) -> bool {
        self.connections()
            .iter()
            .flatten()
            .any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    heard: Said,
) {
    let mut piece = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        heard.lock().expect("no panic").extend_from_slice(&piece[..length]);
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

fn address(served: &Served) -> SocketAddr {
    let url = served.server.url();
    url.trim_start_matches("https://").parse().expect("an address")
}

/// The kinds of the records in what one side of a connection said; the last one may be cut off.
fn records(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [kind, 3, 1..=3, high, low, rest @ ..] = bytes {
        kinds.push(*kind);
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        bytes = rest.get(length..).unwrap_or_default();
    }
    assert!(bytes.len() < 5, "what comes after {kinds:?} is no TLS");
    kinds
}

/// The version that a server has chosen, by its first record.
fn chosen_version(answered: &[u8]) -> Option<u16> {
    // Record 5, handshake 4, version 2, random 32; then the session's id, cipher 2 and compression 1.
    let session = usize::from(*answered.get(43)?);
    let mut extensions = answered.get(44 + session + 3 + 2..)?;
    while let [k1, k2, l1, l2, rest @ ..] = extensions {
        let length = usize::from(u16::from_be_bytes([*l1, *l2]));
        if [*k1, *k2] == [0, 43] {
            return Some(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
        }
        extensions = rest.get(length..)?;
    }
    None
}

#[tokio::test]
async fn who_reads_along_sees_nothing_in_clear_from_joining_to_sessions() {
    let cluster = cluster().await;
    let served = serve(&cluster).await;
    let relay = Relay::to(address(&served)).await;
    let url = format!("https://{}", relay.address);
    let token = served.token(&cluster, 3_600, None).await;
    let (agent, tunnel) = agent_through(&url, &token, "n1").await;

    let mut pod = Pod::new("a", "teller");
    let spec = Arc::make_mut(&mut pod.spec);
    spec.containers[0].env = vec![EnvVar { name: "SECRET".into(), value: CANARY.into() }];
    let key = Key::pod("default", "a");
    cluster.apply(pod).await.expect("a good pod");
    let runs = cluster.wait_for(|world| world.at::<Pod>(&key).is_some_and(|pod| pod.is_ready()));
    tokio::time::timeout(PATIENCE, runs).await.expect("it becomes ready").expect("no shutdown");
    let mut log = reached(&cluster, &key).await;
    let line = log.next().await.expect("a line").expect("whole");
    assert_eq!(line.text, format!("{CANARY}\n"), "it has come the whole way");
    let command = vec!["say".to_owned(), CANARY.to_owned()];
    let options = SessionOptions { command, stdin: true, terminal: false };
    let mut session = cluster.session(&key, None, &options).await.expect("it runs");
    let event = session.output.next().await.expect("more").expect("whole");
    assert_eq!(event, SessionEvent::Stdout(Bytes::from(format!("say {CANARY}\n"))));
    session.input.close().await.expect("taken");

    // An administrator with a bearer token reads a secret the same way.
    let kubeconfig = served.directory.path().join("kubeconfig");
    served.server.write_kubeconfig(&kubeconfig).expect("writable");
    let mut config = read_kubeconfig(&kubeconfig).expect("just written");
    config.server.clone_from(&url);
    let bearer = config.token.as_ref().map(|token| token.reveal().to_owned());
    let admin = Client::from_config(&config).expect("usable");
    let secret = json!({ "metadata": { "name": "s" }, "stringData": { "k": CANARY } });
    admin.post("/api/v1/namespaces/default/secrets", &secret).await.expect("recorded");

    let connections = relay.connections();
    assert!(connections.len() >= 3, "joining, the link, its tunnel and the administrator");
    let secret_part = &token.reveal()[90..];
    let clear =
        [CANARY, secret_part, "apiVersion", "HTTP/1.1", "PRI * HTTP", "system:node", "Bearer"];
    for text in clear.into_iter().chain(bearer.as_deref()) {
        assert!(!relay.contains(text), "{text:?} is read along");
    }
    for [said, answered] in &connections {
        assert_eq!(chosen_version(answered), Some(0x0304), "TLS 1.3 and nothing older");
        for bytes in [said, answered] {
            // In clear are only the two hellos: the certificates, which name the node, are not.
            let kinds = records(bytes);
            assert_eq!(kinds.iter().filter(|kind| **kind == 22).count(), 1, "{kinds:?}");
            assert!(kinds.iter().all(|kind| [20, 22, 23].contains(kind)), "{kinds:?}");
        }
    }

    // The relay would have shown it: this is said in clear, and gets no answer in clear.
    let mut clear = TcpStream::connect(relay.address).await.expect("it listens");
    clear.write_all(format!("GET /{CANARY} HTTP/1.1\r\n\r\n").as_bytes()).await.expect("said");
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, clear.read_to_end(&mut answer)).await.expect("closed");
    assert!(relay.contains(CANARY));
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

    cluster.delete(&Key::node("n1")).await.expect("there");
    let ended = tokio::time::timeout(PATIENCE, tunnel).await.expect("it ends");
    ended.expect("no panic").expect("it was open");
    agent.shutdown(true).await;
    served.server.shutdown().await;
    cluster.shutdown(false).await;
}

#[tokio::test]
async fn who_offers_nothing_newer_than_tls_1_2_gets_no_answer_but_that() {
    let cluster = cluster().await;
    let served = serve(&cluster).await;
    let extensions: &[u8] = &[
        0, 10, 0, 4, 0, 2, 0, 23, // groups: secp256r1
        0, 13, 0, 4, 0, 2, 4, 3, // signatures: ECDSA with it and SHA-256
    ];
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    // No session; two ciphers of TLS 1.2; no compression.
    hello.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0, 0]);
    hello.push(u8::try_from(extensions.len()).expect("few"));
    hello.extend(extensions);
    let length = u8::try_from(hello.len()).expect("short");
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    let mut connection = TcpStream::connect(address(&served)).await.expect("it listens");
    connection.write_all(&record).await.expect("said");
    let mut answer = Vec::new();
    let read = connection.read_to_end(&mut answer);
    let _ = tokio::time::timeout(PATIENCE, read).await.expect("closed");
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 70], "a fatal alert: protocol_version");
    served.server.shutdown().await;
    cluster.shutdown(false).await;
}

#[tokio::test]
async fn f42_a_certificate_that_is_over_or_not_begun_or_of_another_authority_is_refused() {
    let cluster = cluster().await;
    let served = serve(&cluster).await;
    let token = served.token(&cluster, 3_600, None).await;
    let good = served.join(&token, "n1").await.expect("joined");
    let now = cluster.now().to_time().as_seconds();
    let stranger = tempfile::tempdir().expect("a directory");
    let own = Pki::open(&served.directory.path().join("pki"), now).expect("there");
    let strange = Pki::open(stranger.path(), now - 90 * 86_400).expect("made");
    let (hour, day) = (3_600, 86_400);
    let key = KeyPair::generate().expect("a key");
    let request = CertificateParams::default().serialize_request(&key).expect("made");
    let request = request.pem().expect("made");
    for (what, pki, from, is_good) in [
        ("good", &own, now, true),
        ("over for a month", &own, now - 31 * day, false),
        ("not begun", &own, now + 2 * day, false),
        ("another authority's", &strange, now, false),
        ("another authority's, and over", &strange, now - 2 * day, false),
    ] {
        let signed = pki.node_certificate(&request, ("n1", good.uid), hour, from);
        let certificate = signed.expect("signed");
        let key = Sensitive(key.serialize_pem());
        let shown = Membership { certificate, key, ..good.clone() };
        let link = HttpLink::new(&shown).expect("usable");
        let outcome = link.report(None).await;
        assert_eq!(outcome.is_ok(), is_good, "{what}: {outcome:?}");
        assert_eq!(shown.renewed().await.is_ok(), is_good, "{what}");
        let is_late = from < now - 30 * day;
        assert_eq!(shown.is_removed().await, is_late, "{what}: whether only joining anew helps");
    }
    served.server.shutdown().await;
    cluster.shutdown(false).await;
}

#[tokio::test]
async fn l13_an_agent_whose_certificate_ended_while_the_server_was_away_gets_another_for_its_key() {
    let cluster = cluster().await;
    let served = serve(&cluster).await;
    let token = served.token(&cluster, 3_600, None).await;
    let joined = served.join(&token, "n1").await.expect("joined");
    let now = cluster.now().to_time().as_seconds();
    let pki = Pki::open(&served.directory.path().join("pki"), now).expect("there");
    let request_of = |key: &KeyPair| {
        let request = CertificateParams::default().serialize_request(key).expect("made");
        request.pem().expect("made")
    };
    let key = KeyPair::from_pem(&joined.key.0).expect("a key");
    let (day, days) = (86_400, 29);
    let begun = now - (days + 1) * day;
    let certificate = pki.node_certificate(&request_of(&key), ("n1", joined.uid), day, begun);
    let over = Membership { certificate: certificate.expect("signed"), ..joined };
    assert!(over.is_over(now) && over.is_half_over(now));
    let link = HttpLink::new(&over).expect("usable");
    link.report(None).await.expect_err("for everything else it is over");

    // Whoever has seen the certificate has not the key.
    let other = KeyPair::generate().expect("a key");
    let config = ClientConfig { certificate: None, ..over.client_config() };
    let client = Client::from_config(&config).expect("usable");
    let asked = json!({ "certificate": over.certificate, "request": request_of(&other) });
    let error = client.post(RENEWAL_PATH, &asked).await.expect_err("another key");
    assert_eq!(error.code(), Some(400), "{error}");
    assert!(error.to_string().contains("request: must be signed with the key"), "{error}");

    let newer = over.renewed().await.expect("the same key");
    assert_eq!(newer.key, over.key);
    assert!(!newer.is_half_over(now));
    link.know_as(&newer).expect("usable");
    link.report(None).await.expect("it is known again");
    let audit = std::fs::read_to_string(served.directory.path().join("audit.log"));
    let audit = audit.expect("readable");
    assert!(audit.contains(RENEWAL_PATH) && audit.contains("system:node:n1"), "{audit}");

    cluster.delete(&Key::node("n1")).await.expect("there");
    refused(over.renewed().await, 403, "must join anew");
    assert!(over.is_removed().await);
    served.server.shutdown().await;
    cluster.shutdown(false).await;
}

#[tokio::test]
async fn f42_what_a_removed_node_has_open_ends_and_its_certificate_opens_nothing_more() {
    let cluster = cluster().await;
    let served = serve(&cluster).await;
    let token = served.token(&cluster, 3_600, None).await;
    let url = served.server.url();
    let (agent, tunnel) = agent_through(&url, &token, "n1").await;
    let key = Key::pod("default", "a");
    cluster.apply(Pod::new("a", "teller")).await.expect("a good pod");
    let runs = cluster.wait_for(|world| world.at::<Pod>(&key).is_some_and(|pod| pod.is_ready()));
    tokio::time::timeout(PATIENCE, runs).await.expect("it becomes ready").expect("no shutdown");
    reached(&cluster, &key).await;
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let mut log = cluster.logs(&key, None, false, &options).await.expect("reachable");
    log.next().await.expect("a line").expect("whole");
    let command = vec!["say".to_owned()];
    let options = SessionOptions { command, stdin: true, terminal: false };
    let mut session = cluster.session(&key, None, &options).await.expect("it runs");
    session.output.next().await.expect("more").expect("whole");

    cluster.delete(&Key::node("n1")).await.expect("there");
    let ended = async {
        while let Some(Ok(_)) = log.next().await {}
        while let Some(Ok(_)) = session.output.next().await {}
        tunnel.await.expect("no panic").expect("it was open");
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("all that was open ends");
    agent.shutdown(true).await;
    served.server.shutdown().await;
    cluster.shutdown(false).await;
}

/// Waits until the tunnel is there, and opens a pod's log through it.
async fn reached(cluster: &Cluster, pod: &Key) -> Box<dyn LogStream> {
    let options = LogOptions::default();
    let opened = async {
        loop {
            match cluster.logs(pod, None, false, &options).await {
                Ok(log) => return log,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, opened).await.expect("a tunnel")
}
