//! A small controller written with kube-rs, and its tests on a cluster in memory. The guide on testing a controller shows this file.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DeleteParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Client, ResourceExt as _};
use orchestrator_core::driver::Clock as _;
use orchestrator_http::testkit::TestCluster;
use serde_json::json;

/// How many seconds a deployment lives. The controller deletes it afterwards.
const LIVES_FOR: &str = "example.com/lives-for-seconds";

struct Context {
    client: Client,
    /// The time of day, in seconds since 1970.
    now: Box<dyn Fn() -> i64 + Send + Sync>,
}

async fn expire(web: Arc<Deployment>, context: Arc<Context>) -> Result<Action, kube::Error> {
    let lives_for = web.annotations().get(LIVES_FOR).and_then(|text| text.parse::<i64>().ok());
    let (Some(lives_for), Some(created)) = (lives_for, web.creation_timestamp()) else {
        return Ok(Action::await_change());
    };
    let left = created.0.as_second() + lives_for - (context.now)();
    if let Ok(left @ 1..) = u64::try_from(left) {
        return Ok(Action::requeue(Duration::from_secs(left)));
    }
    let namespace = web.namespace().unwrap_or_default();
    let deployments: Api<Deployment> = Api::namespaced(context.client.clone(), &namespace);
    deployments.delete(&web.name_any(), &DeleteParams::default()).await?;
    Ok(Action::await_change())
}

async fn run(context: Context) {
    let deployments: Api<Deployment> = Api::all(context.client.clone());
    let again = |_, _: &kube::Error, _| Action::requeue(Duration::from_secs(10));
    Controller::new(deployments, watcher::Config::default())
        .run(expire, again, Arc::new(context))
        .for_each(async |_| {})
        .await;
}

/// Runs the controller in the cluster's time.
fn spawn(cluster: &TestCluster) -> tokio::task::JoinHandle<()> {
    let clock = cluster.clock();
    let now = Box::new(move || clock.now().as_millis() / 1000);
    cluster.spawn(|api| async { run(Context { client: Client::new(api, "default"), now }).await })
}

/// Creates a deployment of three that lives for an hour.
async fn create(cluster: &TestCluster, name: &str) -> Api<Deployment> {
    let manifest = json!({
        "metadata": { "name": name, "annotations": { LIVES_FOR: "3600" } },
        "spec": {
            "replicas": 3,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "main", "image": "web:1" }] },
            },
        },
    });
    let web = serde_json::from_value(manifest).expect("a deployment");
    let deployments: Api<Deployment> =
        Api::default_namespaced(Client::new(cluster.client(), "default"));
    deployments.create(&PostParams::default(), &web).await.expect("created");
    deployments
}

#[tokio::test]
async fn a_deployment_goes_when_its_time_has_come_and_not_before() {
    let cluster = TestCluster::start().await;
    spawn(&cluster);
    let deployments = create(&cluster, "web").await;

    cluster.advance(Duration::from_secs(3599)).await;
    let web = deployments.get("web").await.expect("still there");
    assert_eq!(web.status.and_then(|status| status.ready_replicas), Some(3));

    cluster.advance(Duration::from_secs(2)).await;
    assert!(deployments.get_opt("web").await.expect("asked").is_none());
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_controller_that_was_down_makes_up_for_it() {
    let cluster = TestCluster::start().await;
    let controller = spawn(&cluster);
    let deployments = create(&cluster, "web").await;
    cluster.advance(Duration::from_secs(60)).await;
    controller.abort();

    cluster.advance(Duration::from_secs(2 * 3600)).await;
    assert!(deployments.get_opt("web").await.expect("asked").is_some());

    spawn(&cluster);
    cluster.settle().await;
    assert!(deployments.get_opt("web").await.expect("asked").is_none());
    cluster.shutdown().await;
}
