//! L13: an agent that is started while the control plane is away goes on with the pods that its node had.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orchestrator_core::driver::{Agent, AgentConfig, AgentHandle, Keep};
use orchestrator_core::model::*;
use orchestrator_core::runtime::*;
use orchestrator_core::testkit::clock::TokioClock;
use orchestrator_core::testkit::fake_link::FakeLink;
use orchestrator_core::testkit::sim_runtime::*;

/// Keeps in memory, or fails.
#[derive(Clone, Debug, Default)]
struct MemoryKeep(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    bytes: Option<Vec<u8>>,
    fails: bool,
}

impl MemoryKeep {
    fn set(&self, bytes: Option<Vec<u8>>) {
        self.0.lock().expect("no panic").bytes = bytes;
    }

    fn fail(&self, fails: bool) {
        self.0.lock().expect("no panic").fails = fails;
    }

    fn text(&self) -> String {
        let kept = self.0.lock().expect("no panic");
        String::from_utf8(kept.bytes.clone().unwrap_or_default()).expect("text")
    }
}

impl Keep for MemoryKeep {
    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let kept = self.0.lock().expect("no panic");
        if kept.fails { Err(io::Error::other("torn")) } else { Ok(kept.bytes.clone()) }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut kept = self.0.lock().expect("no panic");
        if kept.fails {
            return Err(io::Error::other("full"));
        }
        kept.bytes = Some(bytes.to_vec());
        Ok(())
    }
}

struct Bench {
    clock: TokioClock,
    runtime: SimRuntime,
    link: FakeLink,
    keep: MemoryKeep,
    scope: Scope,
}

impl Bench {
    fn new() -> Self {
        let clock = TokioClock::new(Timestamp::from_millis(1_800_000_000_000));
        Self {
            runtime: SimRuntime::new(Arc::new(clock.clone())),
            clock,
            link: FakeLink::default(),
            keep: MemoryKeep::default(),
            scope: Scope { cluster: "c".to_owned(), node: "n1".to_owned() },
        }
    }

    fn agent(&self) -> AgentHandle {
        let config = AgentConfig {
            clock: Arc::new(self.clock.clone()),
            keep: Some(Arc::new(self.keep.clone())),
            ..AgentConfig::new(self.scope.clone())
        };
        Agent::spawn(config, Arc::new(self.runtime.clone()), Arc::new(self.link.clone()))
    }

    fn pod(&self, name: &str, edit: impl FnOnce(&mut Pod)) {
        let mut pod = Pod::new(name, "app:1");
        pod.node_name = "n1".to_owned();
        pod.metadata.uid = Uid::derived(Uid::default(), name, Revision(1));
        edit(&mut pod);
        self.link.put(pod);
    }

    /// The running containers: their keys and ids.
    fn running(&self) -> Vec<(ContainerKey, String)> {
        let observed = self.runtime.observe(&self.scope);
        let containers = observed.iter().flat_map(|sandbox| &sandbox.containers);
        containers
            .filter(|container| matches!(container.state, ContainerRunState::Running { .. }))
            .map(|container| (container.key.clone(), container.id.clone()))
            .collect()
    }

    fn phase(&self, name: &str) -> Option<PodPhase> {
        self.link.status(name).map(|status| status.phase)
    }

    /// Lets virtual time pass until something holds.
    async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        for _ in 0..20_000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not in a thousand seconds: {what}; {:?}", self.runtime.observe(&self.scope));
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// An agent that dies without a chance to say or to write anything.
async fn kill(agent: AgentHandle, keep: &MemoryKeep) {
    let before = keep.text();
    agent.shutdown(false).await;
    keep.set((!before.is_empty()).then(|| before.into_bytes()));
}

#[tokio::test(start_paused = true)]
async fn l13_an_agent_started_without_its_control_plane_restarts_what_died_and_nothing_else() {
    let bench = Bench::new();
    let agent = bench.agent();
    bench.pod("a", |_| {});
    bench.pod("b", |_| {});
    bench.pod("once", |pod| {
        Arc::make_mut(&mut pod.spec).restart_policy = Some(RestartPolicy::Never)
    });
    bench.until("three run", |bench| bench.running().len() == 3).await;
    let pod = |name: &str| Uid::derived(Uid::default(), name, Revision(1));
    let of = |running: &[(ContainerKey, String)], name: &str| {
        running.iter().find(|(key, _)| key.sandbox.pod == pod(name)).cloned()
    };
    let before = bench.running();
    bench.runtime.kill(&of(&before, "once").expect("it runs").0, 0);
    bench.until("one has ended", |bench| bench.phase("once") == Some(PodPhase::Succeeded)).await;
    pass(5).await;
    bench.link.cut(true);
    kill(agent, &bench.keep).await;
    bench.runtime.kill(&of(&before, "a").expect("it runs").0, 1);
    assert_eq!(bench.running().len(), 1);

    let agent = bench.agent();
    bench.until("what died runs again", |bench| bench.running().len() == 2).await;
    // A day without anybody.
    pass(86_400).await;
    let alone = bench.running();
    assert_eq!(of(&alone, "b"), of(&before, "b"), "what ran was left alone");
    assert_ne!(of(&alone, "a"), of(&before, "a"));
    assert_eq!(of(&alone, "once"), None, "what has ended is not begun anew");

    let again = of(&alone, "a").expect("it runs").0;
    bench.runtime.kill(&again, 1);
    bench.until("by policy, again", |bench| bench.running().len() == 2).await;
    let alone = bench.running();
    bench.link.cut(false);
    bench
        .until("the restarts are told", |bench| {
            let status = bench.link.status("a").expect("there");
            status.container_statuses[0].restart_count == 2
        })
        .await;
    pass(60).await;
    assert_eq!(bench.running(), alone, "on return nothing is restarted");
    assert_eq!(bench.phase("once"), Some(PodPhase::Succeeded));
    agent.shutdown(false).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_without_the_control_plane_the_pods_are_made_anew() {
    let bench = Bench::new();
    let agent = bench.agent();
    bench.pod("a", |_| {});
    bench.until("it runs", |bench| bench.running().len() == 1).await;
    pass(5).await;
    bench.link.cut(true);
    kill(agent, &bench.keep).await;
    let rebooted = Bench { runtime: SimRuntime::new(Arc::new(bench.clock.clone())), ..bench };
    let agent = rebooted.agent();
    rebooted.until("it runs again", |bench| bench.running().len() == 1).await;
    agent.shutdown(false).await;
}

#[tokio::test(start_paused = true)]
async fn s19_what_is_kept_ends_nothing_and_gives_way_to_the_control_planes_word() {
    let bench = Bench::new();
    let agent = bench.agent();
    bench.pod("a", |_| {});
    bench.pod("gone", |_| {});
    bench.until("two run", |bench| bench.running().len() == 2).await;
    pass(5).await;
    let old = bench.keep.text();
    bench.pod("new", |_| {});
    bench.until("three run", |bench| bench.running().len() == 3).await;
    bench.link.cut(true);
    kill(agent, &bench.keep).await;
    let running = bench.running();
    for kept in [Some(old.clone().into_bytes()), Some(b"{ torn".to_vec()), None] {
        bench.keep.set(kept);
        let agent = bench.agent();
        pass(600).await;
        assert_eq!(bench.running(), running, "nobody said that any is gone");
        kill(agent, &bench.keep).await;
    }
    // Of another node, or of another cluster under the same name.
    for (from, to) in [("\"cluster\":\"c\"", "\"cluster\":\"d\""), ("\"format\":1", "\"format\":2")]
    {
        assert!(old.contains(from), "{old}");
        bench.keep.set(Some(old.replacen(from, to, 1).into_bytes()));
        for (key, _) in bench.running() {
            bench.runtime.kill(&key, 1);
        }
        let agent = bench.agent();
        pass(600).await;
        assert_eq!(bench.running(), [], "its pods are nobody's that is known here");
        kill(agent, &bench.keep).await;
    }

    // A pod that went while nobody was there is not run, whatever is kept, when the control plane answers.
    bench.keep.set(Some(old.into_bytes()));
    bench.link.cut(false);
    bench.link.forget("gone");
    let agent = bench.agent();
    bench.until("two run", |bench| bench.running().len() == 2).await;
    pass(60).await;
    assert!(
        bench.running().iter().all(|(key, _)| {
            key.sandbox.pod != Uid::derived(Uid::default(), "gone", Revision(1))
        })
    );
    agent.shutdown(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_full_keeps_no_pod_from_running_and_is_tried_again() {
    let bench = Bench::new();
    bench.keep.fail(true);
    let agent = bench.agent();
    bench.pod("a", |_| {});
    bench.until("it runs", |bench| bench.running().len() == 1).await;
    assert_eq!(bench.keep.text(), "");
    bench.keep.fail(false);
    bench.until("it is kept", |bench| bench.keep.text().contains("\"name\":\"a\"")).await;
    agent.shutdown(false).await;
}
