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
            runtime: SimRuntime::new(Arc::new(clock.clone())),
            clock,
            link: FakeLink::default(),
            scope: Scope { cluster: "c".to_owned(), node: "n1".to_owned() },
        }
    }

    fn agent(&self) -> AgentHandle {
        let config = AgentConfig {
            clock: Arc::new(self.clock.clone()),
            ..AgentConfig::new(self.scope.clone())
        };
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

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_agent_touches_nothing() {
    let bench = Bench::new();
    let agent = bench.agent();
    for name in ["a", "b", "c"] {
        bench.pod(name, "app:1");
    }
    for name in ["a", "b", "c"] {
        bench.until_running(name).await;
    }
    let running = bench.running();
    agent.shutdown(false).await;
    let writes = bench.link.status_writes();
    let agent = bench.agent();
    pass(60).await;
    assert_eq!(bench.running(), running);
    assert_eq!(bench.link.status_writes(), writes, "every status was right already");
    agent.shutdown(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_costs_at_most_two_status_writes() {
    let bench = Bench::new();
    let agent = bench.agent();
    bench.pod("a", "app:1");
    bench.until_running("a").await;
    pass(30).await;
    assert!(bench.link.status_writes() <= 2, "{}", bench.link.status_writes());
    agent.shutdown(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_doubt_that_is_told_before_a_write_is_answered_is_taken_back() {
    let bench = Bench::new();
    bench.link.answer_statuses_after(Duration::from_millis(500));
    let agent = bench.agent();
    bench.pod("a", "app:1");
    bench.until_running("a").await;
    // As when its node is missed for a moment; the write that said Ready is not answered yet.
    bench.link.edit("a", |pod| {
        let ready = pod.status.conditions.iter_mut().find(|condition| condition.kind == "Ready");
        ready.expect("it is ready").status = ConditionStatus::False;
    });
    let is_ready = |bench: &Bench| {
        let status = bench.link.status("a").expect("there");
        condition_status(&status.conditions, "Ready") == ConditionStatus::True
    };
    assert!(!is_ready(&bench));
    bench.until("the pod is ready again", is_ready).await;
    agent.shutdown(false).await;
}

#[tokio::test(start_paused = true)]
async fn deletion_is_confirmed_once_nothing_is_left() {
    let bench = Bench::new();
    let agent = bench.agent();
    bench.pod("a", "app:1");
    bench.until_running("a").await;
    bench.link.delete("a", bench.clock.now().to_time(), 30);
    bench.until("the pod is gone", |bench| bench.link.status("a").is_none()).await;
    assert_eq!(bench.observed(), []);
    agent.shutdown(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_program_that_ignores_term_is_killed_after_its_grace() {
    let bench = Bench::new();
    let stubborn = SimProgram { on_term: OnTerm::Ignore, ..SimProgram::default() };
    bench.runtime.set_program("app:1", stubborn);
    let agent = bench.agent();
    bench.pod("a", "app:1");
    bench.until_running("a").await;
    let began = bench.clock.now();
    bench.link.delete("a", began.to_time(), 20);
    bench.until("the pod is gone", |bench| bench.link.status("a").is_none()).await;
    let took = bench.clock.now().millis_since(began);
    assert!((18_000..22_000).contains(&took), "{took}");
    agent.shutdown(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_is_made_quicker_does_not_wait_for_the_old_grace() {
    let bench = Bench::new();
    let stubborn = SimProgram { on_term: OnTerm::Ignore, ..SimProgram::default() };
    bench.runtime.set_program("app:1", stubborn);
    let agent = bench.agent();
    bench.pod("a", "app:1");
    bench.until_running("a").await;
    let began = bench.clock.now();
    bench.link.delete("a", began.to_time(), 600);
    pass(5).await;
    bench.link.delete("a", bench.clock.now().to_time(), 1);
    bench.until("the pod is gone", |bench| bench.link.status("a").is_none()).await;
    assert!(bench.clock.now().millis_since(began) < 10_000);
    assert_eq!(bench.observed(), []);
    agent.shutdown(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_vanished_from_the_control_plane_is_ended() {
    let bench = Bench::new();
    let agent = bench.agent();
    bench.pod("a", "app:1");
    bench.pod("b", "app:1");
    bench.until_running("a").await;
    bench.until_running("b").await;
    bench.link.forget("a");
    bench.until("one is left", |bench| bench.observed().len() == 1).await;
    assert_eq!(bench.observed()[0].name, "b");
    agent.shutdown(false).await;
}

#[tokio::test(start_paused = true)]
async fn pods_gone_while_the_agent_was_down_are_ended() {
    let bench = Bench::new();
    let agent = bench.agent();
    bench.pod("a", "app:1");
    bench.pod("b", "app:1");
    bench.until_running("a").await;
    bench.until_running("b").await;
    agent.shutdown(false).await;
    bench.link.forget("a");
    let agent = bench.agent();
    bench.until("one is left", |bench| bench.observed().len() == 1).await;
    agent.shutdown(false).await;
}

#[tokio::test(start_paused = true)]
async fn an_emptied_control_plane_kills_nothing_on_its_first_word() {
    let bench = Bench::new();
    let agent = bench.agent();
    for name in ["a", "b", "c", "d"] {
        bench.pod(name, "app:1");
    }
    for name in ["a", "b", "c", "d"] {
        bench.until_running(name).await;
    }
    let running = bench.running();
    bench.link.lose_history();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(bench.running(), running);
    // They come back before a second list says the same.
    for name in ["a", "b", "c", "d"] {
        bench.pod(name, "app:1");
    }
    pass(60).await;
    assert_eq!(bench.running(), running);
    agent.shutdown(false).await;
}

#[tokio::test(start_paused = true)]
async fn without_the_control_plane_pods_go_on_and_restart() {
    let bench = Bench::new();
    let agent = bench.agent();
    bench.pod("a", "app:1");
    bench.until_running("a").await;
    bench.link.cut(true);
    let (key, _) = bench.running()[0].clone();
    bench.runtime.kill(&key, 1);
    pass(60).await;
    assert_eq!(bench.running().len(), 1, "restarted without anybody's leave");
    bench.link.cut(false);
    bench
        .until("the restart is told", |bench| {
            let status = bench.link.status("a").expect("there");
            status.container_statuses[0].restart_count == 1 && status.container_statuses[0].ready
        })
        .await;
    agent.shutdown(false).await;
}

#[tokio::test(start_paused = true)]
async fn hung_verbs_of_some_pods_do_not_hold_up_others() {
    let bench = Bench::new();
    let agent = bench.agent();
    bench.runtime.fail(SimVerb::CreateSandbox, Fault::Hang, 6);
    for number in 0..6 {
        bench.pod(&format!("hung-{number}"), "app:1");
    }
    bench.until("six verbs hang", |bench| bench.runtime.calls(SimVerb::CreateSandbox) == 6).await;
    let began = bench.clock.now();
    bench.pod("fine", "app:1");
    bench.until_running("fine").await;
    assert!(bench.clock.now().millis_since(began) < 5_000);
    assert!(bench.link.node().is_some_and(|node| node.is_ready()), "L15");
    for number in 0..6 {
        bench.until_running(&format!("hung-{number}")).await;
    }
    agent.shutdown(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_is_down_makes_the_node_not_ready_and_back() {
    let bench = Bench::new();
    let agent = bench.agent();
    bench.pod("a", "app:1");
    bench.until_running("a").await;
    bench.runtime.fail(SimVerb::List, Fault::Unreachable, u32::MAX);
    let is_ready = |bench: &Bench| bench.link.node().is_some_and(|node| node.is_ready());
    bench.until("not ready", |bench| !is_ready(bench)).await;
    let node = bench.link.node().expect("there");
    assert_eq!(node.status.conditions[0].reason, "ContainerRuntimeDown");
    assert_eq!(bench.phase("a"), Some(PodPhase::Running), "nothing is known, nothing is said");
    bench.runtime.heal(SimVerb::List);
    bench.until("ready", is_ready).await;
    assert_eq!(bench.running().len(), 1);
    agent.shutdown(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_liveness_probe_restarts_the_container() {
    let bench = Bench::new();
    bench.runtime.set_program("app:1", SimProgram { exec_code: 1, ..SimProgram::default() });
    let agent = bench.agent();
    bench.pod_with("a", "app:1", |spec| {
        let exec = Some(ExecAction { command: vec!["check".to_owned()] });
        let probe = Probe { exec, period_seconds: Some(1), ..Probe::default() };
        spec.containers[0].liveness_probe = Some(probe);
    });
    bench
        .until("restarted", |bench| {
            bench.link.status("a").is_some_and(|status| {
                status.container_statuses.first().is_some_and(|it| it.restart_count >= 2)
            })
        })
        .await;
    assert!(bench.link.events().iter().any(|event| event.reason == "Unhealthy"));
    agent.shutdown(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_too_many_is_refused_with_a_reason() {
    let bench = Bench::new();
    let agent = bench.agent();
    bench.pod_with("big", "app:1", |spec| {
        let container = spec.containers[0].clone();
        spec.containers[0] = container.requests(1_000_000_000, 1);
    });
    bench.until("refused", |bench| bench.phase("big") == Some(PodPhase::Failed)).await;
    assert_eq!(bench.link.status("big").map(|it| it.reason), Some("OutOfcpu".to_owned()));
    assert_eq!(bench.observed(), []);
    agent.shutdown(false).await;
}

#[tokio::test(start_paused = true)]
async fn the_node_is_heard_and_measured() {
    let bench = Bench::new();
    let agent = bench.agent();
    bench.pod("a", "app:1");
    bench.until_running("a").await;
    pass(60).await;
    assert!(bench.link.reports() >= 12, "{}", bench.link.reports());
    assert_eq!(bench.link.registrations(), 1, "heartbeats are no registrations");
    let usage = bench.link.usage().expect("measured");
    assert_eq!(usage.containers[0].cpu_milli, 100, "the simulated tenth of a core");
    assert!(usage.memory_bytes > 0 && usage.disk_bytes > 0);
    agent.shutdown(false).await;
}

#[tokio::test(start_paused = true)]
async fn stopping_with_its_pods_leaves_nothing() {
    let bench = Bench::new();
    let agent = bench.agent();
    for name in ["a", "b", "c"] {
        bench.pod(name, "app:1");
        bench.until_running(name).await;
    }
    agent.shutdown(true).await;
    assert_eq!(bench.observed(), []);
}

#[tokio::test(start_paused = true)]
async fn logs_are_those_of_the_newest_run_or_the_one_before() {
    let bench = Bench::new();
    let says = |text: &str, runs_ms| SimProgram {
        prints: vec![text.to_owned()],
        runs_ms,
        ..SimProgram::default()
    };
    bench.runtime.set_program("app:1", says("first", None));
    let agent = bench.agent();
    let uid = bench.pod("a", "app:1");
    bench.until_running("a").await;
    bench.runtime.set_program("app:1", says("second", None));
    let (key, _) = bench.running()[0].clone();
    bench.runtime.kill(&key, 1);
    bench.until("the second run", |bench| bench.running().iter().any(|it| it.0.attempt == 1)).await;
    let streams = agent.streams();
    for (previous, expected) in [(false, "second\n"), (true, "first\n")] {
        let log = streams.logs(uid, "main", previous, &LogOptions::default()).await;
        let line = log.expect("there").next().await.expect("a line").expect("reads");
        assert_eq!(line.text, expected);
    }
    let missing = streams.logs(uid, "other", false, &LogOptions::default()).await;
    assert!(matches!(missing, Err(RuntimeError::NotFound { .. })));
    agent.shutdown(false).await;
}

#[tokio::test(start_paused = true)]
async fn forty_pods_start_and_go() {
    let bench = Bench::new();
    let agent = bench.agent();
    let names: Vec<String> = (0..40).map(|number| format!("pod-{number}")).collect();
    for name in &names {
        bench.pod(name, "app:1");
    }
    for name in &names {
        bench.until_running(name).await;
    }
    assert_eq!(bench.runtime.calls(SimVerb::CreateSandbox), 40, "no verb was repeated");
    for name in &names {
        bench.link.delete(name, bench.clock.now().to_time(), 30);
    }
    bench.until("all gone", |bench| names.iter().all(|it| bench.link.status(it).is_none())).await;
    assert_eq!(bench.observed(), []);
    agent.shutdown(false).await;
}
