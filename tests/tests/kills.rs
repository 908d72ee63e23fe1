//! `kill -9` of orchd during rollouts: what ran goes on untouched, and the next orchd finishes the work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use orchestrator_core::model::{Deployment, Key, Kind, Object, Pod};
use orchestrator_core::runtime::{
    ContainerKey, ContainerObservation, ContainerRunState, SandboxObservation, Scope,
};
use orchestrator_http::{Client, DeleteParams, Selector, WriteParams};
use orchestrator_tests::orchd::Orchd;
use orchestrator_tests::rig::{Rig, is_running, poll};
use orchestrator_tests::workload::sleepers;

super::on_every_runtime! { orchd_killed_during_rollouts_disturbs_nothing_and_finishes }

/// How often orchd is killed.
const KILLS: u32 = 20;
const REPLICAS: i32 = 4;
/// Set it to see the same moments again.
const SEED_VARIABLE: &str = "ORCH_TEST_SEED";

/// Random numbers that a printed seed repeats.
struct Moments(u64);

impl Moments {
    fn new() -> Self {
        let given = std::env::var(SEED_VARIABLE).ok();
        let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = match given {
            Some(text) => text.parse().expect("the seed is a number"),
            None => now().map(|it| it.as_secs()).unwrap_or(1),
        };
        tell(&format!("the moments of this run: {SEED_VARIABLE}={seed}"));
        Self(seed)
    }

    /// A moment within a span.
    fn within(&mut self, span: Duration) -> Duration {
        // The finalizer of splitmix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        span.mul_f64(f64::from((mixed >> 32) as u32) / f64::from(u32::MAX))
    }
}

/// Shown when the test fails.
#[allow(clippy::print_stdout)]
fn tell(line: &str) {
    println!("{line}");
}

async fn orchd_killed_during_rollouts_disturbs_nothing_and_finishes(rig: Arc<Rig>) {
    let mut moments = Moments::new();
    let mut orchd = Orchd::start(&rig).await;
    let scope = orchd.scope().await;
    rig.know(&scope);

    apply(&orchd.client, 0).await;
    settle(&rig, &orchd.client, &scope, 0).await;
    let started = Instant::now();
    apply(&orchd.client, 1).await;
    settle(&rig, &orchd.client, &scope, 1).await;
    let span = started.elapsed();

    let mut in_the_middle = 0;
    for kill in 1..=KILLS {
        let version = kill + 1;
        apply(&orchd.client, version).await;
        // The fault of this test: a moment somewhere in a rollout.
        let moment = moments.within(span);
        tokio::time::sleep(moment).await;
        let (new, old): (Vec<_>, Vec<_>) =
            pods(&orchd.client).await.into_iter().partition(|pod| is_of(pod, version));
        in_the_middle += u32::from(!new.is_empty() && !old.is_empty());
        orchd.kill().await;
        let before = running(&rig.list(&scope).await);
        tell(&format!("kill {kill} after {moment:?} of {span:?}, {} run", before.len()));

        orchd = Orchd::start(&rig).await;
        settle(&rig, &orchd.client, &scope, version).await;
        let after = running(&rig.list(&scope).await);
        for (key, container) in &after {
            let same = before.get(key).is_none_or(|before| before == container);
            assert!(same, "{key} was started anew: {before:#?} became {after:#?}");
        }
        // What runs the new version already has no reason to go.
        for (key, container) in &before {
            if new.iter().any(|pod| pod.metadata.uid == key.sandbox.pod) {
                assert_eq!(after.get(key), Some(container), "{key} was replaced needlessly");
            }
        }
    }
    assert!(in_the_middle > 0, "no kill came in the middle of a rollout");

    let web = Key::new(Kind::Deployment, "default", "web");
    orchd.client.delete(&web, &DeleteParams::default()).await.expect("deleted");
    poll("the pods are gone", || async {
        let pods = pods(&orchd.client).await;
        if pods.is_empty() { Ok(()) } else { Err(pods) }
    })
    .await;
    assert_eq!(orchd.stop().await.code(), Some(0));
}

async fn apply(client: &Client, version: u32) {
    let mut deployment = sleepers("web", &version.to_string(), REPLICAS);
    deployment.metadata.namespace = "default".to_owned();
    let key = Key::new(Kind::Deployment, "default", "web");
    let manifest = Object::from(deployment).to_value();
    client.apply(&key, &manifest, WriteParams::default()).await.expect("applied");
}

async fn pods(client: &Client) -> Vec<Pod> {
    let selector = Selector::default();
    let list = client.list(Kind::Pod, Some("default"), &selector).await.expect("listed");
    let items = list["items"].as_array().cloned().unwrap_or_default();
    items.into_iter().map(|pod| serde_json::from_value(pod).expect("a pod")).collect()
}

fn is_of(pod: &Pod, version: u32) -> bool {
    pod.spec.containers[0].env[0].value == version.to_string()
}

fn running(sandboxes: &[SandboxObservation]) -> BTreeMap<ContainerKey, ContainerObservation> {
    let containers = sandboxes.iter().flat_map(|sandbox| &sandbox.containers);
    containers.filter(|it| is_running(it)).map(|it| (it.key.clone(), it.clone())).collect()
}

/// Waits until the deployment has rolled to a version and the runtime has exactly its pods; on the way nothing is
/// doubled, and nothing is run a second time.
async fn settle(rig: &Rig, client: &Client, scope: &Scope, version: u32) {
    poll(&format!("version {version} is there, and nothing else"), || async {
        let sandboxes = rig.list(scope).await;
        assert_nothing_doubled(&sandboxes);
        let key = Key::new(Kind::Deployment, "default", "web");
        let web = client.get(&key).await.expect("it was applied");
        let web: Deployment = serde_json::from_value(web).expect("a deployment");
        let pods = pods(client).await;
        let active = pods.iter().filter(|pod| pod.is_active()).count();
        assert!(active <= REPLICAS as usize + 1, "too many pods: {pods:#?}");
        for pod in &pods {
            for status in &pod.status.container_statuses {
                assert_eq!(status.restart_count, 0, "nothing ended by itself: {pod:#?}");
            }
        }
        let rolled = web.is_available()
            && pods.len() == REPLICAS as usize
            && pods.iter().all(|pod| pod.is_ready() && is_of(pod, version));
        let mut there: Vec<_> = sandboxes.iter().map(|sandbox| sandbox.key.pod).collect();
        let mut asked: Vec<_> = pods.iter().map(|pod| pod.metadata.uid).collect();
        there.sort();
        asked.sort();
        let all_run = sandboxes.iter().flat_map(|it| &it.containers).all(is_running);
        if rolled && there == asked && all_run {
            Ok(())
        } else {
            Err((web.status, pods, sandboxes))
        }
    })
    .await;
}

fn assert_nothing_doubled(sandboxes: &[SandboxObservation]) {
    let mut runs = BTreeMap::new();
    for container in sandboxes.iter().flat_map(|sandbox| &sandbox.containers) {
        match &container.state {
            ContainerRunState::Running { .. } => {
                *runs.entry((container.key.sandbox.pod, &container.key.name)).or_insert(0) += 1;
            }
            ContainerRunState::Created | ContainerRunState::Exited(_) => {}
        }
        assert_eq!(container.key.attempt, 0, "a second run: {sandboxes:#?}");
    }
    assert!(runs.values().all(|runs| *runs == 1), "doubled: {sandboxes:#?}");
}
