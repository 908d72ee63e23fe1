//! The client against the server, over TLS and over a socket in the file system.

use std::path::Path;

use orchestrator_core::driver::Cluster;
use orchestrator_core::model::{Key, Kind};
use orchestrator_http::{
    Client, ClientConfig, ClientError, DeleteParams, Listen, Selector, Server, ServerConfig,
    WatchEvent, WriteParams,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fixture::{cluster, config_map, deployment};

async fn serve(directory: &Path) -> (Cluster, Server, Client) {
    let cluster = cluster().await;
    let config = ServerConfig::loopback(directory.join("pki"));
    let server = Server::bind(config, cluster.clone()).await.expect("a free port");
    let path = directory.join("kubeconfig");
    server.write_kubeconfig(&path).expect("writable");
    let client = Client::from_kubeconfig(&path).expect("own kubeconfig");
    (cluster, server, client)
}

#[tokio::test]
async fn the_client_does_what_the_command_line_needs() {
    let directory = tempfile::tempdir().expect("a directory");
    let (cluster, server, client) = serve(directory.path()).await;
    let key = Key::new(Kind::Deployment, "default", "web");
    let manifest = deployment("web");
    let reply = client.apply(&key, &manifest, WriteParams::default()).await.expect("applied");
    assert!(reply.created);
    let again = client.apply(&key, &manifest, WriteParams::default()).await.expect("applied");
    assert!(!again.created);
    let scaled = client.scale(&key, 7).await.expect("scaled");
    assert_eq!(scaled.value["spec"]["replicas"], 7);
    assert_eq!(client.get(&key).await.expect("there")["spec"]["replicas"], 7);
    let table = client.table(Kind::Deployment, None, &Selector::default()).await.expect("listed");
    assert_eq!(table["rows"][0]["cells"][0], "web");
    client.delete(&key, &DeleteParams::default()).await.expect("deleted");
    assert!(client.raw("/metrics").await.expect("there").starts_with(b"# HELP"));
    assert!(client.raw("metrics").await.is_err());

    let mut bad = manifest.clone();
    bad["spec"]["bogus"] = 1.into();
    let error = client.apply(&key, &bad, WriteParams::default()).await.expect_err("unknown field");
    assert!(error.to_string().contains("spec.bogus"), "{error}");
    let absent = client.get(&Key::pod("default", "absent")).await.expect_err("absent");
    assert!(absent.is_not_found());
    assert_eq!(absent.to_string(), "pods \"absent\" not found");
    server.shutdown().await;
    cluster.shutdown(false).await;
}

#[tokio::test]
async fn a_long_list_is_read_page_by_page() {
    let directory = tempfile::tempdir().expect("a directory");
    let (cluster, server, client) = serve(directory.path()).await;
    for n in 0..501 {
        let map = config_map(&format!("m{n}"), &json!({}));
        client
            .create(Kind::ConfigMap, Some("default"), &map, WriteParams::default())
            .await
            .expect("made");
    }
    let list = client.list(Kind::ConfigMap, None, &Selector::default()).await.expect("listed");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(501));
    assert!(list["metadata"]["continue"].is_null());
    server.shutdown().await;
    cluster.shutdown(false).await;
}

#[tokio::test]
async fn a_watch_is_followed_until_the_server_stops() {
    let directory = tempfile::tempdir().expect("a directory");
    let (cluster, server, client) = serve(directory.path()).await;
    let (kind, namespace) = (Kind::ConfigMap, Some("default"));
    let mut watch =
        client.watch(kind, namespace, &Selector::name("a"), None).await.expect("a watch");
    for name in ["b", "a"] {
        let map = config_map(name, &json!({}));
        client.create(kind, namespace, &map, WriteParams::default()).await.expect("made");
    }
    let event = watch.next().await.expect("an event").expect("no error");
    let WatchEvent::Added(object) = event else { panic!("{event:?}") };
    assert_eq!(object["metadata"]["name"], "a");
    server.shutdown().await;
    assert!(watch.next().await.is_none(), "it ends in good order");
    cluster.shutdown(false).await;
}

#[tokio::test]
async fn a_client_says_what_to_do_when_it_cannot_reach_or_trust_the_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let (cluster, server, client) = serve(directory.path()).await;
    let other = tempfile::tempdir().expect("a directory");
    let (other_cluster, other_server, _) = serve(other.path()).await;

    let text = std::fs::read_to_string(directory.path().join("kubeconfig")).expect("there");
    let mixed = directory.path().join("mixed");
    std::fs::write(&mixed, text.replace(&server.url(), &other_server.url())).expect("writable");
    let stranger = Client::from_kubeconfig(&mixed).expect("well-formed");
    let error = stranger.raw("/version").await.expect_err("another authority");
    assert!(matches!(error, ClientError::Untrusted { .. }), "{error:?}");

    let wrong = text.replace(server.token().reveal(), "wrong");
    std::fs::write(&mixed, wrong).expect("writable");
    let error = Client::from_kubeconfig(&mixed).expect("well-formed").raw("/version").await;
    assert_eq!(error.expect_err("wrong token").code(), Some(401));

    server.shutdown().await;
    let error = client.raw("/version").await.expect_err("stopped");
    assert!(error.to_string().starts_with("cannot reach https://"), "{error}");
    other_server.shutdown().await;
    cluster.shutdown(false).await;
    other_cluster.shutdown(false).await;
}

#[tokio::test]
async fn a_socket_in_the_file_system_needs_no_token() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a directory");
    let cluster = cluster().await;
    let socket = directory.path().join("orchd.sock");
    let bind = || {
        let config = ServerConfig::new(Listen::Unix(socket.clone()), directory.path().join("pki"));
        Server::bind(config, cluster.clone())
    };
    let server = bind().await.expect("a free path");
    let mode = std::fs::metadata(&socket).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(bind().await.is_err(), "a socket that is in use is not taken over");
    let path = directory.path().join("kubeconfig");
    server.write_kubeconfig(&path).expect("writable");
    let client = Client::from_kubeconfig(&path).expect("own kubeconfig");
    client.raw("/version").await.expect("served");
    server.shutdown().await;
    assert!(!socket.exists());
    // What a killed server leaves behind is replaced.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a free path"));
    bind().await.expect("a leftover is replaced").shutdown().await;
    cluster.shutdown(false).await;
}

/// Answers each connection on a socket with the next of some answers, and returns how many requests came.
async fn scripted(path: &Path, answers: &[&str]) -> usize {
    let listener = tokio::net::UnixListener::bind(path).expect("a free path");
    let mut requests = 0;
    for answer in answers {
        let (mut stream, _) = listener.accept().await.expect("a client comes");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut head).await.expect("it is read") > 0, "the head ends");
        }
        requests += 1;
        stream.write_all(answer.as_bytes()).await.expect("it is taken");
    }
    requests
}

#[tokio::test]
async fn the_client_comes_again_when_it_is_told_to() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s");
    let busy = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 0\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let full = "HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let good = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    let config = ClientConfig {
        certificate: None,
        server: format!("unix://{}", path.display()),
        ca_pem: None,
        token: None,
        namespace: "default".to_owned(),
    };
    let client = Client::from_config(&config).expect("a socket needs nothing");
    let pod = Key::pod("default", "web");
    let answers = [busy, busy, good];
    let (requests, answer) = tokio::join!(scripted(&path, &answers), client.get(&pod));
    assert_eq!((requests, answer.expect("the third is good")), (3, json!({})));
    std::fs::remove_file(&path).expect("it was there");
    // Without a time the server does not ask for another try: evictions are refused like this.
    let answers = [full];
    let (_, answer) = tokio::join!(scripted(&path, &answers), client.get(&pod));
    assert!(matches!(answer, Err(ClientError::Refused { code: 429, .. })), "{answer:?}");
}
