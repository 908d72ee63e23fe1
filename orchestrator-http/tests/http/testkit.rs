//! The test cluster: time that moves only when it is moved, and everything that happens on the way.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt as _;
use orchestrator_core::model::{Deployment, Key, Kind, Object, Pod, Time};
use orchestrator_core::scheduler::FilterScore;
use orchestrator_core::testkit::sim_runtime::SimProgram;
use orchestrator_http::testkit::{STARTS_AT, TestCluster};
use orchestrator_http::{Body, Transport};
use serde_json::{Value, json};

/// A deployment of one container, with more in its spec and in its container's.
fn deployment(name: &str, image: &str, spec: &Value, container: &Value) -> Deployment {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "main", "image": image }] },
            },
        },
    });
    merge(&mut object["spec"], spec);
    merge(&mut object["spec"]["template"]["spec"]["containers"][0], container);
    serde_json::from_value(object).expect("a deployment")
}

fn merge(object: &mut Value, more: &Value) {
    for (name, value) in more.as_object().into_iter().flatten() {
        object[name] = value.clone();
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn get(cluster: &TestCluster, path: &str, accept: &str) -> Value {
    let request = Request::get(path).header("Accept", accept).body(Body::default());
    let request = request.expect("a request");
    let answer = cluster.client().handle(request, Transport::Unix).await;
    let bytes = answer.into_body().collect().await.expect("an answer").to_bytes();
    serde_json::from_slice(&bytes).expect("JSON")
}

/// Restarts and the reason for which the only pod waits.
fn only_pod(cluster: &TestCluster) -> (i32, String) {
    let world = cluster.cluster().world();
    let mut pods = world.all::<Pod>(None);
    let pod = pods.next().expect("a pod");
    assert!(pods.next().is_none(), "one pod");
    let status = &pod.status.container_statuses[0];
    let waiting = status.state.waiting.as_ref().map(|waiting| waiting.reason.clone());
    (status.restart_count, waiting.unwrap_or_default())
}

fn available(cluster: &TestCluster, name: &str) -> i32 {
    cluster.cluster().world().deployment(name).status.available_replicas
}

#[tokio::test]
async fn a_started_cluster_is_ready_and_its_time_stands_still() {
    let cluster = TestCluster::builder().nodes(3).start().await;
    let world = cluster.cluster().world();
    let nodes: Vec<bool> = (1..=3)
        .filter_map(|number| world.node(&format!("node-{number}")))
        .map(|node| node.is_ready())
        .collect();
    assert_eq!(nodes, [true; 3]);
    let now = cluster.now();
    cluster.settle().await;
    assert_eq!((cluster.now(), cluster.cluster().world().revision()), (now, world.revision()));
    cluster.advance(seconds(3_600)).await;
    assert_eq!(cluster.now().millis_since(now), 3_600_000);
    assert!(cluster.cluster().world().node("node-2").is_some_and(|node| node.is_ready()));
    cluster.shutdown().await;
}

#[tokio::test]
async fn crash_back_off_doubles_up_to_five_minutes_and_no_restart_is_left_out() {
    let cluster = TestCluster::builder().program("crash:1", SimProgram::exits(1, 1_000)).start();
    let cluster = cluster.await;
    let crashing = deployment("web", "crash:1", &json!({}), &json!({}));
    cluster.cluster().apply(crashing).await.expect("applied");
    // It runs for a second each time, and the first restart is at once; then it waits 10 s, 20 s, 40 s, and so on.
    cluster.advance(seconds(5)).await;
    assert_eq!(only_pod(&cluster), (1, "CrashLoopBackOff".to_owned()));
    for (wait, restarts) in [(10, 2), (23, 3), (43, 4), (83, 5), (163, 6), (303, 7), (303, 8)] {
        cluster.advance(seconds(wait)).await;
        assert_eq!(only_pod(&cluster), (restarts, "CrashLoopBackOff".to_owned()), "{wait}");
    }
    cluster.advance(seconds(270)).await;
    assert_eq!(only_pod(&cluster).0, 8, "not before its time");
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_rollout_waits_for_readiness_and_for_min_ready_seconds() {
    let cluster = TestCluster::builder().program("slow:1", SimProgram::ready_after(20_000)).start();
    let cluster = cluster.await;
    let probe = json!({ "httpGet": { "path": "/healthz", "port": 80 }, "periodSeconds": 1 });
    let spec = json!({ "replicas": 3, "minReadySeconds": 30 });
    let web = deployment("web", "slow:1", &spec, &json!({ "readinessProbe": probe }));
    cluster.cluster().apply(web).await.expect("applied");
    cluster.advance(seconds(19)).await;
    assert_eq!(cluster.cluster().world().deployment("web").status.ready_replicas, 0);
    cluster.advance(seconds(5)).await;
    assert_eq!(cluster.cluster().world().deployment("web").status.ready_replicas, 3);
    cluster.advance(seconds(22)).await;
    assert_eq!(available(&cluster, "web"), 0);
    cluster.advance(seconds(10)).await;
    assert_eq!(available(&cluster, "web"), 3);
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_rollout_that_does_not_get_ready_misses_its_deadline_and_keeps_the_old_pods() {
    let cluster = TestCluster::builder().program("web:2", SimProgram::never_ready()).start().await;
    for probe in [
        json!({ "exec": { "command": ["check"] } }),
        json!({ "httpGet": { "port": 80 } }),
        json!({ "tcpSocket": { "port": 80 } }),
    ] {
        let container = json!({ "readinessProbe": probe });
        let name = format!("web{}", available(&cluster, "web"));
        let spec = json!({ "replicas": 2, "progressDeadlineSeconds": 120 });
        let web = |image| deployment(&name, image, &spec, &container);
        cluster.cluster().apply(web("web:1")).await.expect("applied");
        cluster.advance(seconds(15)).await;
        assert_eq!(available(&cluster, &name), 2, "{probe}");
        cluster.cluster().apply(web("web:2")).await.expect("applied");
        let reason = || {
            let world = cluster.cluster().world();
            let conditions = &world.deployment(&name).status.conditions;
            let progressing = conditions.iter().find(|condition| condition.kind == "Progressing");
            progressing.map(|condition| condition.reason.clone()).unwrap_or_default()
        };
        cluster.advance(seconds(115)).await;
        assert_eq!(reason(), "ReplicaSetUpdated", "{probe}");
        cluster.advance(seconds(10)).await;
        assert_eq!(reason(), "ProgressDeadlineExceeded", "{probe}");
        assert_eq!(available(&cluster, &name), 2, "{probe}");
        let key = Key::new(Kind::Deployment, "default", &name);
        cluster.cluster().delete(&key).await.expect("deleted");
        cluster.advance(seconds(60)).await;
    }
    cluster.shutdown().await;
}

#[tokio::test]
async fn nodes_and_images_are_what_the_test_says() {
    let cluster = TestCluster::builder()
        .nodes(3) // node-1, node-2, node-3
        .node_size(4, 8 << 30) // CPUs, bytes of memory
        .program("crash:1", SimProgram::exits(1, 500)) // ends with 1 after half a second
        .program("slow:1", SimProgram::ready_after(20_000)) // checks succeed after 20 s
        .program("stuck:1", SimProgram::never_ready()) // checks never succeed
        .program("wrong:1", SimProgram::broken("no such program")) // does not start
        .configure(|builder| builder.scheduler(FilterScore::bin_packing()))
        .start()
        .await;
    let probe = json!({ "readinessProbe": { "httpGet": { "port": 80 } } });
    for name in ["crash", "slow", "stuck", "wrong", "other"] {
        let object = deployment(name, &format!("{name}:1"), &json!({}), &probe);
        cluster.cluster().apply(object).await.expect("applied");
    }
    cluster.advance(seconds(60)).await;
    let world = cluster.cluster().world();
    let node = world.node("node-3").expect("a third node");
    assert_eq!(node.status.capacity["cpu"].to_string(), "4");
    let pods = world.all::<Pod>(None);
    let statuses = pods.map(|pod| (pod, &pod.status.container_statuses[0]));
    let found: Vec<_> = statuses
        .map(|(pod, status)| {
            let waiting = status.state.waiting.as_ref().map_or("", |waiting| &waiting.reason);
            (pod.spec.containers[0].image.as_str(), status.ready, waiting, &*pod.node_name)
        })
        .collect();
    let expected = [
        ("crash:1", false, "CrashLoopBackOff", "node-1"),
        ("other:1", true, "", "node-1"),
        ("slow:1", true, "", "node-1"),
        ("stuck:1", false, "", "node-1"),
        ("wrong:1", false, "RunContainerError", "node-1"),
    ];
    assert_eq!(found, expected);
    cluster.shutdown().await;
}

/// Everything there is after an hour with a rollout, a crash, a lost container and a scale.
async fn an_hour() -> Vec<Value> {
    let builder = TestCluster::builder().nodes(3).program("job:1", SimProgram::exits(3, 40_000));
    let cluster = builder.start().await;
    for (name, image, replicas) in [("a", "web:1", 5), ("b", "job:1", 2), ("a", "web:2", 4)] {
        let object = deployment(name, image, &json!({ "replicas": replicas }), &json!({}));
        cluster.cluster().apply(object).await.expect("applied");
        cluster.advance(seconds(100)).await;
    }
    let key = Key::new(Kind::Deployment, "default", "a");
    cluster.cluster().scale(&key, 7).await.expect("scaled");
    cluster.advance(seconds(3_600 - 300)).await;
    let world = cluster.cluster().world();
    let all = world.iter().map(|(_, stored)| Object::clone(&stored.object).to_value()).collect();
    cluster.shutdown().await;
    all
}

#[tokio::test]
async fn equal_hours_leave_equal_objects_down_to_uids_and_revisions() {
    let (one, other) = (an_hour().await, an_hour().await);
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(&other) {
        assert_eq!(one, other);
    }
    let pods = one.iter().filter(|object| object["kind"] == "Pod").count();
    assert_eq!(pods, 9);
}

#[tokio::test]
async fn timers_of_what_runs_beside_the_cluster_follow_its_clock() {
    let cluster = TestCluster::start().await;
    let writer = cluster.cluster().clone();
    let started = cluster.now();
    cluster.spawn(move |_api| async move {
        let mut minutes = tokio::time::interval(Duration::from_secs(60));
        for number in 0.. {
            minutes.tick().await;
            let map = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "name": format!("minute-{number}"), "namespace": "default" },
            });
            let map: orchestrator_core::model::ConfigMap =
                serde_json::from_value(map).expect("a config map");
            writer.apply(map).await.expect("applied");
        }
    });
    cluster.settle().await;
    let made = || -> Vec<Option<Time>> {
        let world = cluster.cluster().world();
        let maps = world.list(Kind::ConfigMap, Some("default"));
        let mut made: Vec<_> =
            maps.map(|(_, stored)| stored.object.meta().creation_timestamp).collect();
        made.sort();
        made
    };
    assert_eq!(made().len(), 1, "the first tick is at once");
    cluster.advance(seconds(600)).await;
    let expected: Vec<_> =
        (0..=10).map(|minute| Some(started.plus_millis(minute * 60_000).to_time())).collect();
    assert_eq!(made(), expected);
    cluster.shutdown().await;
}

#[tokio::test]
async fn clusters_in_one_process_have_their_own_time_and_ages_follow_it() {
    let (one, other) = (TestCluster::start().await, TestCluster::start().await);
    one.advance(seconds(3 * 3_600 + 60)).await;
    assert_eq!(other.now(), STARTS_AT, "starting takes no time");
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let age = async |cluster| {
        let table = get(cluster, "/api/v1/namespaces/default", table).await;
        let columns = table["columnDefinitions"].as_array().expect("columns");
        let age = columns.iter().position(|column| column["name"] == "Age").expect("an age");
        table["rows"][0]["cells"][age].clone()
    };
    assert_eq!(age(&one).await, "3h1m");
    assert_eq!(age(&other).await, "0s");
    one.shutdown().await;
    other.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_works_from_a_runtime_with_threads_and_without_a_goodbye() {
    let cluster = TestCluster::start().await;
    cluster.cluster().apply(deployment("web", "web:1", &json!({}), &json!({}))).await.expect("ok");
    cluster.advance(seconds(5)).await;
    assert_eq!(available(&cluster, "web"), 1);
    let outside = cluster.cluster().clone();
    drop(cluster);
    // What is left of it answers or refuses, and hangs for nobody.
    let _ = outside.world();
}
