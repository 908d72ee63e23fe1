//! Three servers over three etcds: whichever dies, nothing that was acknowledged is lost, nothing that runs is disturbed, and another
//! leads.

mod etcd;
mod lead;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nix::sys::signal::Signal;
use orchestrator_core::model::{Deployment, Key, Kind, Object, Pod};
use orchestrator_http::{Client, ClientError, LogParams, Selector, WriteParams};
use orchestrator_tests::rig::poll;
use orchestrator_tests::servers::{AGENT_JOINED_AT, SERVERS, Servers};
use orchestrator_tests::workload::sleepers;
use serde_json::{Value, json};

const REPLICAS: i32 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_goes_on_with_another_server_when_its_own_stands_still() {
    let servers = Servers::start().await;
    apply(&servers.client(0), 0).await;
    settled(&servers.client(0), 0).await;
    // Where it has joined. Its connections stay open, and are answered no more.
    servers.signal(AGENT_JOINED_AT, Signal::SIGSTOP);
    let other = servers.client((AGENT_JOINED_AT + 1) % SERVERS);
    poll("a server leads that runs", || try_apply(&other, 1)).await;
    settled(&other, 1).await;
    let pod = Key::pod("default", &pods(&other).await.remove(0).metadata.name);
    let params = LogParams::default();
    poll("its streams are found at the new one", || other.logs(&pod, &params)).await;
    servers.signal(AGENT_JOINED_AT, Signal::SIGCONT);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_started_anew_one_by_one_and_nobody_notices() {
    let mut servers = Servers::start().await;
    apply(&servers.client(0), 0).await;
    settled(&servers.client(0), 0).await;
    for (n, version) in (0..SERVERS).zip(1..) {
        let other = (n + 1) % SERVERS;
        let writing = Writing::start(servers.client(n), servers.client(other), version);
        apply(&servers.client(n), version).await;
        let stopped = Instant::now();
        servers.stop(n).await;
        let client = servers.client(other);
        assert_ne!(servers.leader(other).await, n, "who stops leads no more");
        tell(&format!("server {n} stopped, and another led after {:?}", stopped.elapsed()));
        servers.start_server(n).await;
        settled(&client, version).await;
        writing.check(&client).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_servers_that_would_begin_a_cluster_in_one_etcd_one_is_refused() {
    let servers = Servers::start().await;
    let store = format!("{}/another", servers.store());
    let arguments = |name: &str| {
        let data = servers.dir().join(name).to_str().expect("paths of tests are text").to_owned();
        ["server", "--listen", "127.0.0.1:0", "--data-dir", &data, "--store", &store]
            .map(str::to_owned)
    };
    let (one, other) = (arguments("one"), arguments("other"));
    let (one, other) = (one.each_ref().map(String::as_str), other.each_ref().map(String::as_str));
    // The one that goes on ends with this.
    let refused = tokio::select! {
        ended = servers.call(&one) => ended,
        ended = servers.call(&other) => ended,
    };
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(!refused.stdout.contains("ready"), "{refused:?}");
    assert!(refused.stderr.contains("orchd token create --role server"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s8_what_one_server_has_answered_every_other_shows() {
    let servers = Servers::start().await;
    let clients: Vec<_> = (0..SERVERS).map(|n| servers.client(n)).collect();
    for round in 0..60 {
        let (writer, reader) = (round % SERVERS, (round + 1 + round / SERVERS % 2) % SERVERS);
        let (name, value) = ("counter".to_owned(), round.to_string());
        let key = Key::new(Kind::ConfigMap, "default", &name);
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": name, "namespace": "default" }, "data": { "round": value },
        });
        clients[writer].apply(&key, &map, WriteParams::default()).await.expect("written");
        let read = clients[reader].get(&key).await.expect("it was answered");
        assert_eq!(read["data"]["round"], value, "server {reader} is behind server {writer}");
    }
    // Logs are at the server where the agent's tunnel is; every server finds them.
    apply(&clients[0], 0).await;
    settled(&clients[0], 0).await;
    let pod = pods(&clients[0]).await.remove(0);
    for client in &clients {
        let key = Key::pod("default", &pod.metadata.name);
        let params = LogParams::default();
        poll("the log is there", || client.logs(&key, &params)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_the_clusters_keys_is_refused() {
    let servers = Servers::start().await;
    let data = servers.dir().join("stranger");
    let data = data.to_str().expect("paths of tests are text");
    let usual =
        ["server", "--data-dir", data, "--listen", "127.0.0.1:0", "--store", servers.store()];
    let refused = servers.call(&usual).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("orchd token create --role server"), "{refused:?}");
    let keys = std::path::Path::new(data).join("pki");
    assert!(!keys.exists(), "no key was made");

    let agents = servers.call(&["token", "create"]).await.stdout;
    let url = servers.url(0);
    let wrong = [&usual[..], &["--join", &url, "--token", agents.trim()]].concat();
    let refused = servers.call(&wrong).await;
    assert!(refused.stderr.contains("not one for servers"), "{refused:?}");
    assert!(!keys.exists(), "no key was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_for_secrets_reaches_every_server_and_one_that_was_away() {
    let mut servers = Servers::start().await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": "s", "namespace": "default" }, "data": { "word": "aHVzaA==" },
    });
    let params = WriteParams::default();
    servers.client(0).create(Kind::Secret, Some("default"), &secret, params).await.expect("made");
    let away = (servers.leader(0).await + 1) % SERVERS;
    let here = (away + 1) % SERVERS;
    servers.stop(away).await;
    let first = rotate(&servers, here).await.expect("nobody else need know");
    servers.start_server(away).await;
    word_is_read_by_all(&servers).await;

    let second = rotate(&servers, away).await.expect("all are there");
    assert_ne!(first, second);
    word_is_read_by_all(&servers).await;
    for n in 0..SERVERS {
        let keys = std::fs::read_to_string(servers.data_dir(n).join("pki/secrets.keys"));
        let keys = keys.expect("there");
        assert!(keys.contains(&first), "server {n}");
        let last = keys.lines().last().expect("lines");
        assert!(last.starts_with(&second), "server {n} seals with the newest");
    }

    let victim = (servers.leader(0).await + 1) % SERVERS;
    servers.kill(victim).await;
    let refused = rotate(&servers, (victim + 1) % SERVERS).await.expect_err("it may run");
    assert!(refused.contains(&servers.url(victim)), "{refused}");
    servers.start_server(victim).await;
    word_is_read_by_all(&servers).await;
}

/// Makes a new key at a server, and returns its name; or what orchd said.
async fn rotate(servers: &Servers, n: usize) -> Result<String, String> {
    let data = servers.data_dir(n);
    let data = data.to_str().expect("paths of tests are text");
    let ended = servers.call(&["secrets", "rotate", "--data-dir", data]).await;
    let key = ended.stdout.strip_prefix("key ").and_then(|rest| rest.split_once(" seals "));
    match key {
        Some((key, _)) if ended.status.success() => Ok(key.to_owned()),
        Some(_) | None => Err(format!("{ended:?}")),
    }
}

async fn word_is_read_by_all(servers: &Servers) {
    for n in 0..SERVERS {
        let secret = servers.client(n).get(&Key::new(Kind::Secret, "default", "s")).await;
        assert_eq!(secret.expect("opened")["data"]["word"], "aHVzaA==", "server {n}");
    }
}

/// Objects that somebody makes all the time, at one server or the other, as they answer.
struct Writing {
    stop: std::sync::Arc<AtomicBool>,
    task: tokio::task::JoinHandle<BTreeMap<String, String>>,
}

impl Writing {
    fn start(victim: Client, other: Client, kill: u32) -> Self {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let until = std::sync::Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut acknowledged = BTreeMap::new();
            for n in 0.. {
                if until.load(Ordering::SeqCst) {
                    break;
                }
                let name = format!("kill-{kill}-{n}");
                let map = json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": { "name": name, "namespace": "default" }, "data": { "n": n.to_string() },
                });
                for client in [&victim, &other] {
                    let params = WriteParams::default();
                    let namespace = Some("default");
                    if client.create(Kind::ConfigMap, namespace, &map, params).await.is_ok() {
                        acknowledged.insert(name.clone(), n.to_string());
                        break;
                    }
                }
            }
            acknowledged
        });
        Self { stop, task }
    }

    /// Stops it; everything that was acknowledged must be there. Returns how much that is.
    async fn check(self, client: &Client) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        let acknowledged = self.task.await.expect("it ends");
        assert!(!acknowledged.is_empty(), "nothing was written meanwhile");
        let there = maps(client).await;
        for (name, value) in &acknowledged {
            assert_eq!(there.get(name), Some(value), "{name} was acknowledged and is lost");
        }
        tell(&format!("{} objects were acknowledged, and are there", acknowledged.len()));
        acknowledged.len()
    }
}

async fn maps(client: &Client) -> BTreeMap<String, String> {
    let list = client.list(Kind::ConfigMap, Some("default"), &Selector::default()).await;
    let items = list.expect("listed")["items"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    items.iter().map(|map| (text(&map["metadata"]["name"]), text(&map["data"]["n"]))).collect()
}

async fn apply(client: &Client, version: u32) {
    try_apply(client, version).await.expect("applied");
}

async fn try_apply(client: &Client, version: u32) -> Result<(), ClientError> {
    let mut deployment = sleepers("web", &version.to_string(), REPLICAS);
    deployment.metadata.namespace = "default".to_owned();
    let key = Key::new(Kind::Deployment, "default", "web");
    let manifest = Object::from(deployment).to_value();
    client.apply(&key, &manifest, WriteParams::default()).await.map(drop)
}

async fn pods(client: &Client) -> Vec<Pod> {
    try_pods(client).await.expect("listed")
}

async fn try_pods(client: &Client) -> Result<Vec<Pod>, ClientError> {
    let list = client.list(Kind::Pod, Some("default"), &Selector::default()).await?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    Ok(items.into_iter().map(|pod| serde_json::from_value(pod).expect("a pod")).collect())
}

/// Waits until a version is rolled out; on the way nothing is run a second time, and there are never too many pods.
async fn settled(client: &Client, version: u32) {
    poll(&format!("version {version} is there, and nothing else"), || async {
        let key = Key::new(Kind::Deployment, "default", "web");
        let web = client.get(&key).await.map_err(|error| error.to_string())?;
        let web: Deployment = serde_json::from_value(web).expect("a deployment");
        let pods = try_pods(client).await.map_err(|error| error.to_string())?;
        let active = pods.iter().filter(|pod| pod.is_active()).count();
        assert!(active <= REPLICAS as usize + 1, "too many pods: {pods:#?}");
        for status in pods.iter().flat_map(|pod| &pod.status.container_statuses) {
            assert_eq!(status.restart_count, 0, "nothing ended by itself: {pods:#?}");
        }
        let is_new = |pod: &Pod| {
            pod.is_ready() && pod.spec.containers[0].env[0].value == version.to_string()
        };
        let rolled =
            web.is_available() && pods.len() == REPLICAS as usize && pods.iter().all(is_new);
        if rolled { Ok(()) } else { Err(format!("{:#?} {pods:#?}", web.status)) }
    })
    .await;
}

/// Shown when the test fails.
#[allow(clippy::print_stdout)]
fn tell(line: &str) {
    println!("{line}");
}
