//! The node agent's shell over a simulated runtime and a fake control plane, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use orchestrator_core::driver::{Agent, AgentConfig, AgentHandle, Clock};
use orchestrator_core::model::*;
use orchestrator_core::runtime::*;
use orchestrator_core::testkit::clock::TokioClock;
use orchestrator_core::testkit::fake_link::FakeLink;
use orchestrator_core::testkit::sim_runtime::*;

/// An agent with all that is around it.
struct Bench {
    clock: TokioClock,
    runtime: SimRuntime,
    link: FakeLink,
    scope: Scope,
}

impl Bench {
    fn new() -> Self {
        let clock = TokioClock::new(Timestamp::from_millis(1_800_000_000_000));
        Self {
            clock,
            runtime: SimRuntime::new(Arc::new(clock)),
            link: FakeLink::default(),
            scope: Scope { cluster: "c".to_owned(), node: "n1".to_owned() },
        }
    }

    fn agent(&self) -> AgentHandle {
        let config =
            AgentConfig { clock: Arc::new(self.clock), ..AgentConfig::new(self.scope.clone()) };
        Agent::spawn(config, Arc::new(self.runtime.clone()), Arc::new(self.link.clone()))
    }

    /// Records a pod of one container.
    fn pod(&self, name: &str, image: &str) -> Uid {
        self.pod_with(name, image, |_| {})
    }

    fn pod_with(&self, name: &str, image: &str, edit: impl FnOnce(&mut PodSpec)) -> Uid {
        let mut pod = Pod::new(name, image);
        pod.node_name = "n1".to_owned();
        pod.metadata.uid = Uid::derived(Uid::default(), name, Revision(1));
        edit(Arc::make_mut(&mut pod.spec));
        let uid = pod.metadata.uid;
        self.link.put(pod);
        uid
    }

    fn phase(&self, name: &str) -> Option<PodPhase> {
        self.link.status(name).map(|status| status.phase)
    }

    fn observed(&self) -> Vec<SandboxObservation> {
        self.runtime.observe(&self.scope)
    }

    /// The running containers: their keys and ids.
    fn running(&self) -> Vec<(ContainerKey, String)> {
        let observed = self.observed();
        let containers = observed.iter().flat_map(|sandbox| &sandbox.containers);
        containers
            .filter(|container| matches!(container.state, ContainerRunState::Running { .. }))
            .map(|container| (container.key.clone(), container.id.clone()))
            .collect()
    }

    /// Lets virtual time pass until something holds.
    async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        for _ in 0..20_000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!(
            "not in a thousand seconds: {what}; {:?}; {:?}",
            self.link.events(),
            self.observed()
        );
    }

    async fn until_running(&self, name: &str) {
        self.until("a pod runs", |bench| {
            bench.link.status(name).is_some_and(|status| {
                status.phase == PodPhase::Running
                    && status.container_statuses.iter().all(|container| container.ready)
            })
        })
        .await;
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_started_and_reported_running_and_ready() {
    let bench = Bench::new();
    let agent = bench.agent();
    bench.pod("web", "nginx:1.27");
    bench.until_running("web").await;
    let status = bench.link.status("web").expect("there");
    assert_eq!(status.host_ip, "127.0.0.1");
    assert!(status.pod_ip.starts_with("10."), "{status:?}");
    assert_eq!(condition_status(&status.conditions, "Ready"), ConditionStatus::True);
    assert_eq!(status.container_statuses[0].restart_count, 0);
    assert!(bench.link.node().is_some_and(|node| node.is_ready()));
    agent.shutdown(false).await;
    assert_eq!(bench.running().len(), 1, "pods outlive the agent");
}
