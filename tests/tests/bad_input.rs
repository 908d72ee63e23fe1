//! Bad input over the real API, TLS and all: each gets a precise 4xx Status, and the store is unchanged.

use std::sync::Arc;
use std::time::Duration;

use orchestrator_core::driver::Cluster;
use orchestrator_core::model::{Deployment, Revision};
use orchestrator_core::store::StateStore;
use orchestrator_http::{Server, ServerConfig};
use orchestrator_sqlite::SqliteStore;
use orchestrator_tests::rig::until;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const STRICT: &str = "?fieldValidation=Strict";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

/// A server on a database, and a client that sends whatever bytes it is told to.
struct Served {
    cluster: Cluster,
    server: Server,
    store: Arc<SqliteStore>,
    _dir: tempfile::TempDir,
}

/// A request, and what must come of it.
struct Case {
    name: &'static str,
    method: &'static str,
    path: String,
    media_type: &'static str,
    body: Vec<u8>,
    code: u64,
    reason: &'static str,
    /// What the message must contain.
    says: &'static [&'static str],
}

impl Served {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = SqliteStore::open(dir.path().join("cluster.db")).await.expect("it opens");
        let store = Arc::new(store);
        let cluster = Cluster::builder()
            .shared_store(Arc::clone(&store) as Arc<dyn StateStore>)
            .start()
            .await
            .expect("it starts");
        let config = ServerConfig::loopback(dir.path().join("pki"));
        let server = Server::bind(config, cluster.clone()).await.expect("a free port");
        Self { cluster, server, store, _dir: dir }
    }

    async fn send(&self, case: &Case) -> (u64, Value) {
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.server.ca_pem().as_bytes()).expect("PEM");
        roots.add(ca).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("defaults")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let address = self.server.local_addr().expect("it listens on TCP");
        let stream = TcpStream::connect(address).await.expect("it listens");
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, stream).await.expect("a handshake");
        let head = format!(
            "{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
             Content-Type: {}\r\nContent-Length: {}\r\n\r\n",
            case.method,
            case.path,
            self.server.token().reveal(),
            case.media_type,
            case.body.len()
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        stream.write_all(&case.body).await.expect("sent");
        stream.flush().await.expect("sent");
        let mut answer = Vec::new();
        // The server may end the connection without the farewell of TLS; what counts is what it said.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let code = code.unwrap_or_else(|| panic!("{}: no HTTP: {answer:?}", case.name));
        (code, serde_json::from_str(body).unwrap_or(Value::Null))
    }
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "web" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "main", "image": "nginx:1.27" }] },
            },
        },
    })
}

/// The deployment with one value set, by its JSON pointer's parent and name.
fn with(parent: &str, name: &str, value: Value) -> Value {
    let mut deployment = deployment();
    deployment.pointer_mut(parent).expect("there is such a part")[name] = value;
    deployment
}

fn post(
    name: &'static str,
    body: impl Into<Vec<u8>>,
    code: u64,
    says: &'static [&'static str],
) -> Case {
    let reason = match code {
        400 => "BadRequest",
        413 => "RequestEntityTooLarge",
        422 => "Invalid",
        _ => "",
    };
    let path = format!("{DEPLOYMENTS}{STRICT}");
    Case { name, method: "POST", path, media_type: JSON, body: body.into(), code, reason, says }
}

fn bodies() -> Vec<Case> {
    let object = |value: &Value| value.to_string().into_bytes();
    let alias_bomb = {
        let mut text = String::from("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\n");
        text.push_str("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
        for level in 1..=12 {
            let inner = vec![format!("*a{}", level - 1); 9].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        text
    };
    let deep = |levels: usize| [vec![b'['; levels], vec![b']'; levels]].concat();
    let deep_in_place = with("/spec", "x", json!("HERE")).to_string();
    let deep_in_place = deep_in_place.replace("\"HERE\"", &String::from_utf8_lossy(&deep(100_000)));
    let mut invalid_utf8 = object(&deployment());
    let at = invalid_utf8.windows(5).position(|it| it == b"nginx").expect("the image");
    invalid_utf8[at] = 0xff;
    let mut too_large = deployment();
    too_large["metadata"]["annotations"]["x"] = "x".repeat(10 << 20).into();
    vec![
        post(
            "an unknown field",
            object(&with("/spec", "replica", json!(3))),
            400,
            &["spec.replica"],
        ),
        post(
            "an unknown field of a container",
            object(&with("/spec/template/spec/containers/0", "imgae", json!("x"))),
            400,
            &["spec.template.spec.containers[0].imgae"],
        ),
        post(
            "a wrong type",
            object(&with("/spec", "replicas", json!("three"))),
            400,
            &["spec.replicas", "three"],
        ),
        post(
            "a wrong type inside",
            object(&with("/spec/template/spec", "containers", json!({}))),
            400,
            &["spec.template.spec.containers"],
        ),
        post("no object at all", b"[1, 2]".to_vec(), 400, &[]),
        post("half an object", b"{\"kind\": \"Deploy".to_vec(), 400, &[]),
        post("nothing", Vec::new(), 400, &[]),
        post(
            "negative replicas",
            object(&with("/spec", "replicas", json!(-1))),
            422,
            &["spec.replicas", "-1"],
        ),
        post(
            "a selector that does not match the template",
            object(&with("/spec/selector", "matchLabels", json!({ "app": "other" }))),
            422,
            &["spec.template.metadata.labels"],
        ),
        post("10 MB", object(&too_large), 413, &["too large"]),
        post("a depth bomb", deep(1_000_000), 400, &["nested", "100"]),
        post("a depth bomb in its place", deep_in_place, 400, &["nested", "100"]),
        post("invalid UTF-8", invalid_utf8, 400, &["unicode", "line 1"]),
        post("another kind", object(&with("", "kind", json!("Pod"))), 400, &["Pod", "Deployment"]),
        post(
            "an unknown kind",
            object(&with("", "kind", json!("Deploymint"))),
            400,
            &["Deploymint"],
        ),
        post(
            "another version",
            object(&with("", "apiVersion", json!("apps/v9"))),
            400,
            &["apps/v9"],
        ),
        post(
            "a name that climbs",
            object(&with("/metadata", "name", json!("../../etc/passwd"))),
            422,
            &["metadata.name", "../../etc/passwd"],
        ),
        post(
            "a namespace that climbs",
            object(&with("/metadata", "namespace", json!("../x"))),
            400,
            &["../x", "default"],
        ),
        post(
            "a container whose name climbs",
            object(&with("/spec/template/spec/containers/0", "name", json!("../x"))),
            422,
            &["spec.template.spec.containers[0].name"],
        ),
        post("no name", object(&with("/metadata", "name", json!(""))), 422, &["metadata.name"]),
        Case {
            path: format!("/api/v1/namespaces/default/configmaps{STRICT}"),
            media_type: YAML,
            ..post("an alias bomb", alias_bomb, 400, &["alias"])
        },
        Case {
            media_type: YAML,
            ..post("YAML nested too deeply", deep(1_000_000), 400, &["nested", "100"])
        },
        Case {
            media_type: YAML,
            ..post("invalid UTF-8 in YAML", b"kind: \xff\xfe".to_vec(), 400, &["UTF-8"])
        },
        Case {
            media_type: "text/plain",
            reason: "UnsupportedMediaType",
            ..post("a media type that is none of ours", object(&deployment()), 415, &["text/plain"])
        },
    ]
}

fn paths() -> Vec<Case> {
    let path = |name, method, path: &str, code, reason, says| Case {
        name,
        method,
        path: path.to_owned(),
        media_type: JSON,
        body: deployment().to_string().into_bytes(),
        code,
        reason,
        says,
    };
    let existing = format!("{DEPLOYMENTS}/existing");
    let patch = |name, body: Value, code, reason, says| Case {
        body: body.to_string().into_bytes(),
        media_type: "application/merge-patch+json",
        ..path(name, "PATCH", &format!("{existing}{STRICT}"), code, reason, says)
    };
    vec![
        path(
            "an unknown kind in the path",
            "POST",
            "/apis/apps/v1/namespaces/default/deploymints",
            404,
            "NotFound",
            &[],
        ),
        path("an unknown group", "POST", "/apis/absent.example/v1/things", 404, "NotFound", &[]),
        path(
            "a path that climbs",
            "PUT",
            &format!("{DEPLOYMENTS}/../../secrets/x"),
            400,
            "BadRequest",
            &[".."],
        ),
        path(
            "a name in the path that climbs",
            "PUT",
            &format!("{DEPLOYMENTS}/..%2f..%2fetc"),
            400,
            "BadRequest",
            &["../../etc"],
        ),
        path(
            "a namespace in the path that climbs",
            "POST",
            "/apis/apps/v1/namespaces/..%2f..%2fetc/deployments",
            400,
            "BadRequest",
            &["../../etc"],
        ),
        path(
            "deleting what climbs",
            "DELETE",
            &format!("{DEPLOYMENTS}/%2e%2e%2fexisting"),
            400,
            "BadRequest",
            &["../existing"],
        ),
        path(
            "a path that is not UTF-8",
            "PUT",
            &format!("{DEPLOYMENTS}/%ff%fe"),
            400,
            "BadRequest",
            &["UTF-8"],
        ),
        path(
            "another name than the path's",
            "PUT",
            &format!("{existing}{STRICT}"),
            400,
            "BadRequest",
            &["web", "existing"],
        ),
        path(
            "a namespace that does not exist",
            "POST",
            "/apis/apps/v1/namespaces/absent/deployments",
            404,
            "NotFound",
            &["absent"],
        ),
        patch(
            "an unknown field in a patch",
            json!({ "spec": { "replica": 1 } }),
            400,
            "BadRequest",
            &["spec.replica"],
        ),
        patch(
            "a wrong type in a patch",
            json!({ "spec": { "replicas": {} } }),
            400,
            "BadRequest",
            &["spec.replicas"],
        ),
        patch(
            "negative replicas in a patch",
            json!({ "spec": { "replicas": -5 } }),
            422,
            "Invalid",
            &["spec.replicas", "-5"],
        ),
        patch(
            "a change of what never changes",
            json!({ "spec": { "selector": { "matchLabels": { "x": "y" } } } }),
            422,
            "Invalid",
            &["spec.selector"],
        ),
        Case {
            body: json!({ "spec": { "replicas": -5 } }).to_string().into_bytes(),
            media_type: "application/merge-patch+json",
            ..path(
                "scaling below nothing",
                "PATCH",
                &format!("{existing}/scale"),
                422,
                "Invalid",
                &["spec.replicas", "-5"],
            )
        },
    ]
}

/// Waits until roll-ups and events have been written too: the revision has stood still for a while and nothing waits.
async fn at_rest(served: &Served) -> Revision {
    let (mut last, mut quiet) = (Revision::ZERO, 0);
    loop {
        let newest = served.store.revision().await.expect("it answers");
        let engine = served.cluster.stats().engine;
        let still = newest == last && engine.queued == 0 && engine.in_flight == 0;
        quiet = if still { quiet + 1 } else { 0 };
        if quiet >= 20 {
            return newest;
        }
        last = newest;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_gets_a_precise_status_and_changes_nothing() {
    let served = Served::start().await;
    let existing = Deployment::new("existing", "nginx:1.27").replicas(0);
    served.cluster.apply(existing).await.expect("applied");
    until(&served.cluster, "the controllers have nothing left to do", |world| {
        let existing = world.deployment("existing");
        existing.status.observed_generation == existing.metadata.generation
            && existing.is_available()
    })
    .await;
    let before = at_rest(&served).await;

    let mut wrong = Vec::new();
    for case in bodies().into_iter().chain(paths()) {
        let (code, status) = served.send(&case).await;
        let message = status["message"].as_str().unwrap_or_default();
        let precise = code == case.code
            && status["kind"] == "Status"
            && status["status"] == "Failure"
            && status["code"] == case.code
            && status["reason"] == case.reason
            && !message.is_empty()
            && case.says.iter().all(|text| message.contains(text));
        if !precise {
            wrong.push(format!(
                "{}: expected {} {} with {:?}, got {code} {status}",
                case.name, case.code, case.reason, case.says
            ));
        }
        let after = served.store.revision().await.expect("it answers");
        assert_eq!(after, before, "{} changed the store", case.name);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    // What was refused has not made the server refuse what is right.
    let fine = Case { code: 201, ..post("fine", deployment().to_string(), 201, &[]) };
    let (code, made) = served.send(&fine).await;
    assert_eq!(code, 201, "{made}");
    served.server.shutdown().await;
    served.cluster.shutdown(false).await;
    served.store.close().await;
}
