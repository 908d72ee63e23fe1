//! A node without a shell: plan and simulated runtime in turn, in virtual time.

use std::sync::Arc;

use orchestrator_core::driver::Clock;
use orchestrator_core::model::*;
use orchestrator_core::node::*;
use orchestrator_core::runtime::*;
use orchestrator_core::testkit::clock::ManualClock;
use orchestrator_core::testkit::sim_runtime::*;
use orchestrator_core::world::EventNote;

/// The most plans in a row that may give verbs without time passing.
const PLANS_AT_ONCE_MAX: usize = 30;

/// One pod on one node.
pub struct Ticks {
    pub clock: ManualClock,
    pub runtime: SimRuntime,
    pub node: NodeContext,
    pub pod: Pod,
    pub memory: PodMemory,
    pub fits: Result<(), Refusal>,
    /// Every verb that was executed, with the time and whether it worked.
    pub verbs: Vec<(Timestamp, RuntimeOp, bool)>,
    pub events: Vec<EventNote>,
    pub probes: Vec<(Timestamp, ProbeDue)>,
    /// What checks come to.
    pub answer: fn(&ProbeDue) -> ProbeResult,
    pub deleted: bool,
    pub recheck_at: Option<Timestamp>,
}

impl Ticks {
    /// Makes a node to which a pod of these containers is bound, at a full second.
    pub fn new(containers: Vec<Container>, edit: impl FnOnce(&mut PodSpec)) -> Self {
        let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_000));
        let mut pod = Pod::of("web", containers);
        pod.metadata.uid = Uid::derived(Uid::default(), "web", Revision(1));
        pod.node_name = "n1".to_owned();
        edit(Arc::make_mut(&mut pod.spec));
        let scope = Scope { cluster: "c".to_owned(), node: "n1".to_owned() };
        Self {
            runtime: SimRuntime::new(Arc::new(clock.clone())),
            clock,
            node: NodeContext { scope, host_ip: "192.0.2.1".to_owned(), uses_images: true },
            pod,
            memory: PodMemory::default(),
            fits: Ok(()),
            verbs: Vec::new(),
            events: Vec::new(),
            probes: Vec::new(),
            answer: |_| ProbeResult::Success,
            deleted: false,
            recheck_at: None,
        }
    }

    /// Makes a node with a pod of one container `main` of the image `app:1`.
    pub fn one() -> Self {
        Self::new(vec![Container::new("main", "app:1")], |_| {})
    }

    /// As [`Ticks::one`], with a restart policy.
    pub fn with_policy(policy: RestartPolicy) -> Self {
        let container = vec![Container::new("main", "app:1")];
        Self::new(container, |spec| spec.restart_policy = Some(policy))
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn observed(&self) -> Vec<SandboxObservation> {
        self.runtime.observe(&self.node.scope)
    }

    /// Plans without doing anything. Asserts that the plan is a function of its input (S33).
    pub fn plan(&self) -> PodPlan {
        let observed = self.observed();
        let input = PodInput {
            node: &self.node,
            pod: &self.pod,
            observed: &observed,
            fits: self.fits.clone(),
            memory: &self.memory,
            now: self.now(),
        };
        let planned = plan(&input);
        assert_eq!(plan(&input), planned, "a plan is a function");
        planned
    }

    /// Plans once and executes it. Returns whether there was something to do.
    pub fn tick(&mut self) -> bool {
        let planned = self.plan();
        let now = self.now();
        self.memory = planned.memory;
        self.pod.status = planned.status;
        self.recheck_at = planned.recheck_at;
        self.deleted |= planned.deleted;
        self.events.extend(planned.events);
        let mut acted = !planned.ops.is_empty() || !planned.probes.is_empty();
        for due in planned.probes {
            let result = (self.answer)(&due);
            let notes = self.memory.record_probe(&self.pod, &due.container, due.kind, &result);
            self.events.extend(notes);
            self.probes.push((now, due));
            acted = true;
        }
        for op in planned.ops {
            let outcome = self.runtime.execute(&op);
            self.events.extend(self.memory.record(&self.pod, &op, &outcome, now));
            let worked = outcome.is_ok();
            self.verbs.push((now, op, worked));
            if !worked {
                break;
            }
        }
        acted
    }

    /// Plans and executes until there is nothing to do at this time.
    pub fn settle(&mut self) {
        for _ in 0..PLANS_AT_ONCE_MAX {
            if !self.tick() {
                return;
            }
        }
        panic!("not quiet after {PLANS_AT_ONCE_MAX} plans at one time: {:?}", self.verbs);
    }

    /// Lets time pass in steps of half a second, settling at each.
    pub fn pass(&mut self, seconds: i64) {
        self.settle();
        for _ in 0..seconds * 2 {
            self.clock.advance_millis(500);
            self.settle();
        }
    }

    /// As an agent that was killed and started again: only the recorded status is left.
    pub fn restart_agent(&mut self) {
        self.memory = PodMemory::default();
    }

    pub fn delete(&mut self, grace_seconds: i64) {
        let at = Time::from_seconds(self.now().to_time().as_seconds() + grace_seconds);
        self.pod.metadata.deletion_timestamp = Some(at);
        self.pod.metadata.deletion_grace_period_seconds = Some(grace_seconds);
    }

    /// Seconds from the first successful start of a container to each.
    pub fn starts(&self) -> Vec<i64> {
        let starts = self.verbs.iter().filter_map(|(at, op, worked)| match op {
            RuntimeOp::StartContainer(_) if *worked => Some(at.as_millis() / 1000),
            _ => None,
        });
        let starts: Vec<i64> = starts.collect();
        starts.iter().map(|at| at - starts[0]).collect()
    }

    pub fn status(&self, name: &str) -> &ContainerStatus {
        let mut statuses = self.pod.status.container_statuses.iter();
        statuses.find(|status| status.name == name).expect("every container has a status")
    }

    /// The reason for which a container waits; empty if it does not.
    pub fn waits_for(&self, name: &str) -> &str {
        self.status(name).state.waiting.as_ref().map_or("", |waiting| waiting.reason.as_str())
    }

    pub fn condition(&self, kind: &str) -> ConditionStatus {
        condition_status(&self.pod.status.conditions, kind)
    }

    /// The keys of running containers.
    pub fn running(&self) -> Vec<ContainerKey> {
        let observed = self.observed();
        let containers = observed.iter().flat_map(|sandbox| &sandbox.containers);
        containers
            .filter(|container| matches!(container.state, ContainerRunState::Running { .. }))
            .map(|container| container.key.clone())
            .collect()
    }

    /// The names of verbs that were executed, in order.
    pub fn verb_names(&self) -> Vec<SimVerb> {
        self.verbs.iter().map(|(_, op, _)| SimVerb::of(op)).collect()
    }

    pub fn told(&self, reason: &str) -> usize {
        self.events.iter().filter(|event| event.reason == reason).count()
    }
}
