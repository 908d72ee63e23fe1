//! `plan`: from a pod, what the runtime shows and what is remembered, to verbs, checks and a status.
//!
//! Total and deterministic. It never asks for a second run of a container while one goes on (S17), and
//! stops something only for a reason given in [`StopReason`].

use super::backoff::{due_at, ran_well, restart_delay_ms};
use super::image::pull_policy;
use super::lifecycle::{Ended, Last, Runs};
use super::memory::{PodMemory, note};
use super::probe::ProbeDue;
use super::spec::{container_spec, sandbox_spec};
use super::status::{self, Shown, Waiting};
use crate::controller::EventNote;
use crate::model::{
    ContainerStatus, EventType, ImagePullPolicy, Pod, PodPhase, PodStatus, RestartPolicy,
    StateTerminated, Timestamp,
};
use crate::runtime::{
    ContainerKey, ContainerRunState, ContainerSpec, SandboxKey, SandboxObservation, SandboxSpec,
    Scope,
};

/// How long a failed pull is shown as `ErrImagePull` before it becomes `ImagePullBackOff`, in milliseconds.
pub const PULL_ERROR_SHOWN_MS: i64 = 2_000;

/// What a plan needs to know of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeContext {
    /// Whose pods these are.
    pub scope: Scope,
    /// The node's address.
    pub host_ip: String,
    /// Whether the runtime makes containers from images.
    pub uses_images: bool,
}

/// Why a node cannot take a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A word for programs, such as `OutOfcpu`.
    pub reason: String,
    /// An explanation for people.
    pub message: String,
}

/// Everything a plan is made from.
#[derive(Debug)]
pub struct PodInput<'a> {
    /// The node.
    pub node: &'a NodeContext,
    /// The pod, bound to this node.
    pub pod: &'a Pod,
    /// What the runtime shows of this pod uid: all of it, listed after the last verb for it ended.
    pub observed: &'a [SandboxObservation],
    /// Whether the node can take the pod; asked only before anything of it ran.
    pub fits: Result<(), Refusal>,
    /// What is remembered.
    pub memory: &'a PodMemory,
    /// The time.
    pub now: Timestamp,
}

/// A verb for the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeOp {
    /// Makes a container.
    CreateContainer(Box<ContainerSpec>),
    /// Makes and starts a sandbox.
    CreateSandbox(SandboxSpec),
    /// Pulls an image for a run of a container.
    Pull {
        /// The container's name.
        container: String,
        /// The number of the run.
        attempt: u32,
        /// The image.
        image: String,
    },
    /// Removes an ended container.
    RemoveContainer(ContainerKey),
    /// Ends and removes a sandbox with all in it.
    RemoveSandbox(SandboxKey),
    /// Starts a container.
    StartContainer(ContainerKey),
    /// Stops containers, side by side.
    Stop {
        /// The containers.
        containers: Vec<ContainerKey>,
        /// Milliseconds from TERM to KILL.
        grace_ms: u64,
        /// Why.
        reason: StopReason,
    },
}

/// Why containers are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopReason {
    /// The pod is being deleted.
    Deleted,
    /// A newer run of the same container goes on.
    Double,
    /// The pod is finished.
    Finished,
    /// The liveness probe failed.
    Liveness,
}

/// What to do next about a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodPlan {
    /// Verbs, in order. When one fails the rest are dropped, and a new plan is made.
    pub ops: Vec<RuntimeOp>,
    /// Checks that are due.
    pub probes: Vec<ProbeDue>,
    /// The status to record.
    pub status: PodStatus,
    /// What to remember.
    pub memory: PodMemory,
    /// When to plan again even if nothing is heard.
    pub recheck_at: Option<Timestamp>,
    /// What to tell people.
    pub events: Vec<EventNote>,
    /// Whether the pod's deletion was asked for and nothing of it is left: confirm it.
    pub deleted: bool,
}

/// Decides what to do next about a pod.
pub fn plan(input: &PodInput<'_>) -> PodPlan {
    let mut planner = Planner::new(input);
    if input.pod.metadata.is_deleting() {
        planner.delete();
    } else if planner.recorded.phase.is_final() {
        planner.rest();
    } else if let (Err(refusal), true) = (&input.fits, planner.is_new()) {
        planner.refuse(refusal);
    } else {
        planner.run();
    }
    planner.plan.memory.status = Some(planner.plan.status.clone());
    planner.plan
}

/// A plan in the making.
pub(super) struct Planner<'a> {
    pub(super) input: &'a PodInput<'a>,
    pub(super) recorded: PodStatus,
    /// The newest sandbox, if it is alive.
    pub(super) live: Option<&'a SandboxObservation>,
    pub(super) plan: PodPlan,
}

/// What to do about one container.
enum Step {
    /// Make and start the next run, after so many restarts in a row.
    Begin { streak: u32 },
    /// It ended for good.
    Over,
    /// It runs.
    Running,
    /// Start what is made.
    Start(ContainerKey),
    /// Wait.
    Wait { until: Timestamp, shown: Waiting },
}

impl<'a> Planner<'a> {
    fn new(input: &'a PodInput<'a>) -> Self {
        let memory = input.memory.clone();
        let mut recorded = memory.status.clone().unwrap_or_else(|| input.pod.status.clone());
        // Whoever finished the pod: that is the end of it (S21).
        if input.pod.status.phase.is_final() && !recorded.phase.is_final() {
            recorded = input.pod.status.clone();
        }
        let newest = input.observed.iter().max_by_key(|sandbox| sandbox.key.attempt);
        let live = newest.filter(|sandbox| sandbox.ready);
        let plan = PodPlan { memory, status: recorded.clone(), ..PodPlan::default() };
        Self { input, recorded, live, plan }
    }

    /// Whether nothing of the pod ever ran here.
    fn is_new(&self) -> bool {
        self.input.observed.is_empty()
            && self.recorded.phase == PodPhase::Pending
            && self.recorded.container_statuses.iter().all(|status| {
                status.container_id.is_empty() && status.last_state.terminated.is_none()
            })
    }

    fn refuse(&mut self, refusal: &Refusal) {
        status::refuse(self, refusal);
        let message = format!("node refuses the pod: {}", refusal.message);
        let event = note(self.input.pod, EventType::Warning, &refusal.reason, message);
        self.plan.events.push(event);
    }

    fn delete(&mut self) {
        if self.input.observed.is_empty() {
            self.plan.deleted = true;
            return;
        }
        let runs = self.runs();
        let shown: Vec<Shown<'_>> = runs.iter().map(|runs| self.shown(runs, None)).collect();
        self.plan.status = status::running(self, &shown);
        if self.cleanup_must_wait() {
            return;
        }
        self.stop_all(self.deletion_grace_ms(), StopReason::Deleted);
        for sandbox in self.input.observed {
            self.plan.ops.push(RuntimeOp::RemoveSandbox(sandbox.key.clone()));
        }
    }

    /// Does nothing but keep a finished pod finished; its sandbox stays for its logs.
    fn rest(&mut self) {
        status::keep(self);
        if !self.cleanup_must_wait() {
            self.stop_all(self.grace_ms(), StopReason::Finished);
        }
    }

    fn run(&mut self) {
        let mut runs = self.runs();
        let steps: Vec<Step> = runs.iter_mut().map(|runs| self.step(runs)).collect();
        self.remember(&runs);
        let blocked = self.stop_doubles(&runs) || self.remove_old_sandboxes(&steps);
        let sandbox = if blocked { None } else { self.sandbox(&runs, &steps) };
        if let Some(sandbox) = sandbox {
            for (runs, step) in runs.iter().zip(&steps) {
                self.begin(runs, step, &sandbox);
            }
        }
        self.tidy(&runs);
        for runs in &runs {
            self.probe(runs);
        }
        for step in &steps {
            if let Step::Wait { until, .. } = step {
                self.recheck(*until);
            }
        }
        let shown: Vec<Shown<'_>> =
            runs.iter().zip(&steps).map(|(runs, step)| self.shown(runs, Some(step))).collect();
        self.plan.status = status::running(self, &shown);
    }

    fn runs(&self) -> Vec<Runs<'a>> {
        let input = self.input;
        let find = |name: &str| -> Option<&ContainerStatus> {
            self.recorded.container_statuses.iter().find(|status| status.name == name)
        };
        let live = self.live.map(|sandbox| sandbox.key.attempt);
        let of = |spec| {
            let recorded = find(Self::name(spec));
            Runs::of(spec, input.observed, live, recorded, input.now.to_time())
        };
        input.pod.spec.containers.iter().map(of).collect()
    }

    fn name(spec: &crate::model::Container) -> &str {
        &spec.name
    }

    fn step(&mut self, runs: &mut Runs<'_>) -> Step {
        let now = self.input.now;
        let policy = self.input.pod.spec.restart_policy();
        self.give_up(runs, policy);
        let streak = match &runs.last {
            Last::Running(_) => return Step::Running,
            Last::Created(key) => {
                let trouble = self.trouble(runs);
                return trouble.unwrap_or_else(|| Step::Start(key.clone()));
            }
            Last::Absent => 0,
            Last::Ended(ended) => {
                let again = match policy {
                    RestartPolicy::Always => true,
                    RestartPolicy::Never => false,
                    RestartPolicy::OnFailure => ended.state.exit_code != 0,
                };
                if !again {
                    return Step::Over;
                }
                let streak = self.streak(runs, ended);
                let delay_ms = restart_delay_ms(streak);
                let until = due_at(self.ended_at(runs, ended), delay_ms, now);
                if now < until {
                    self.tell_backoff(runs, ended, delay_ms);
                    return Step::Wait { until, shown: crash_loop(runs, delay_ms) };
                }
                streak.saturating_add(1)
            }
        };
        self.trouble(runs).unwrap_or(Step::Begin { streak })
    }

    /// A container that can never start ends a pod that is not to be restarted.
    fn give_up(&self, runs: &mut Runs<'_>, policy: RestartPolicy) {
        let memory = self.plan.memory.containers.get(&runs.spec.name);
        let trouble = memory.and_then(|memory| memory.trouble.as_ref());
        let never_ran = matches!(runs.last, Last::Absent | Last::Created(_));
        if let Some(trouble) = trouble.filter(|trouble| {
            trouble.permanent && never_ran && policy == RestartPolicy::Never
        }) {
            let time = trouble.at.to_time();
            runs.last = Last::Ended(Ended {
                attempt: runs.attempt().unwrap_or(0),
                image: runs.spec.image.clone(),
                image_id: String::new(),
                state: StateTerminated {
                    exit_code: 128,
                    finished_at: Some(time),
                    message: trouble.message.clone(),
                    reason: "StartError".to_owned(),
                    started_at: Some(time),
                    ..StateTerminated::default()
                },
            });
        }
    }

    /// Returns what holds a container back: its image, or a verb that failed a moment ago.
    fn trouble(&mut self, runs: &Runs<'_>) -> Option<Step> {
        let now = self.input.now;
        let memory = self.plan.memory.containers.get(&runs.spec.name)?;
        if let Some(trouble) = memory.image.trouble.as_ref().filter(|found| found.holds(now)) {
            let shown_until = trouble.at.plus_millis(PULL_ERROR_SHOWN_MS);
            let is_pull = trouble.reason == "ErrImagePull";
            let (reason, until) = if is_pull && now >= shown_until {
                ("ImagePullBackOff", trouble.retry_at(now))
            } else if is_pull {
                (trouble.reason, shown_until.min(trouble.retry_at(now)))
            } else {
                (trouble.reason, trouble.retry_at(now))
            };
            return Some(Step::Wait { until, shown: Waiting::new(reason, &trouble.message) });
        }
        let trouble = memory.trouble.as_ref().filter(|found| found.holds(now))?;
        let shown = Waiting::new(trouble.reason, &trouble.message);
        Some(Step::Wait { until: trouble.retry_at(now), shown })
    }

    /// How many restarts in a row led to a run that ended.
    fn streak(&self, runs: &Runs<'_>, ended: &Ended) -> u32 {
        if ran_well(&ended.state) {
            return 0;
        }
        let memory = self.plan.memory.containers.get(&runs.spec.name);
        let known = memory.and_then(|memory| memory.streaks.get(&ended.attempt)).copied();
        known.unwrap_or_else(|| runs.streak())
    }

    fn ended_at(&mut self, runs: &Runs<'_>, ended: &Ended) -> Timestamp {
        if let Some(time) = ended.state.finished_at {
            return time.to_timestamp();
        }
        let now = self.input.now;
        let seen = &mut self.plan.memory.container(&runs.spec.name).ended_seen;
        match seen {
            Some((attempt, at)) if *attempt == ended.attempt => *at,
            Some(_) | None => {
                *seen = Some((ended.attempt, now));
                now
            }
        }
    }

    fn tell_backoff(&mut self, runs: &Runs<'_>, ended: &Ended, delay_ms: i64) {
        let told = &mut self.plan.memory.container(&runs.spec.name).backoff_told;
        if *told != Some(ended.attempt) {
            *told = Some(ended.attempt);
            let message = crash_loop(runs, delay_ms).message;
            let event = note(self.input.pod, EventType::Warning, "BackOff", message);
            self.plan.events.push(event);
        }
    }

    fn remember(&mut self, runs: &[Runs<'_>]) {
        let next = self.input.observed.iter().map(|sandbox| sandbox.key.attempt + 1).max();
        let memory = &mut self.plan.memory;
        memory.next_sandbox = memory.next_sandbox.max(next.unwrap_or(0));
        for runs in runs {
            let streaks = &mut memory.container(&runs.spec.name).streaks;
            let attempt = runs.attempt().unwrap_or(0);
            streaks.retain(|known, _| *known >= attempt);
        }
    }

    /// Stops older runs that still go on. Returns whether anything else must wait for that.
    fn stop_doubles(&mut self, runs: &[Runs<'_>]) -> bool {
        let doubles: Vec<ContainerKey> =
            runs.iter().flat_map(|runs| runs.doubles.iter().cloned()).collect();
        if doubles.is_empty() {
            return false;
        }
        if !self.cleanup_must_wait() {
            let grace_ms = self.grace_ms();
            let reason = StopReason::Double;
            self.plan.ops.push(RuntimeOp::Stop { containers: doubles, grace_ms, reason });
        }
        true
    }

    /// Removes every sandbox but the live one. Returns whether anything else must wait for that: a run in a
    /// dead sandbox may still go on.
    fn remove_old_sandboxes(&mut self, steps: &[Step]) -> bool {
        let live = self.live.map(|sandbox| sandbox.key.attempt);
        let old = self.input.observed.iter().filter(|sandbox| Some(sandbox.key.attempt) != live);
        let old: Vec<&SandboxObservation> = old.collect();
        let finished = steps.iter().all(|step| matches!(step, Step::Over));
        if old.is_empty() || finished && live.is_none() && !old.iter().any(|old| runs_in(old)) {
            return false;
        }
        if self.cleanup_must_wait() {
            return true;
        }
        for sandbox in old {
            self.plan.ops.push(RuntimeOp::RemoveSandbox(sandbox.key.clone()));
        }
        false
    }

    /// Returns the sandbox to make containers in, asking for a new one where it is needed and allowed.
    fn sandbox(&mut self, runs: &[Runs<'_>], steps: &[Step]) -> Option<SandboxKey> {
        if let Some(live) = self.live {
            self.plan.memory.dead_sandbox = None;
            return Some(live.key.clone());
        }
        let begins = steps.iter().any(|step| matches!(step, Step::Begin { .. }));
        if !begins || self.sandbox_must_wait(runs) {
            return None;
        }
        let attempt = self.plan.memory.next_sandbox;
        let scope = self.input.node.scope.clone();
        let key = SandboxKey { scope, pod: self.input.pod.metadata.uid, attempt };
        match sandbox_spec(self.input.pod, key.clone()) {
            Ok(spec) => {
                self.plan.ops.push(RuntimeOp::CreateSandbox(spec));
                Some(key)
            }
            Err(message) => {
                self.plan.memory.sandbox_trouble = Some(super::memory::Trouble {
                    times: u32::MAX,
                    at: self.input.now,
                    reason: "CreateContainerConfigError",
                    message,
                    permanent: true,
                });
                None
            }
        }
    }

    /// Whether a new sandbox has to wait: making one failed, or the ones before died at once.
    fn sandbox_must_wait(&mut self, runs: &[Runs<'_>]) -> bool {
        let now = self.input.now;
        if let Some(trouble) = self.plan.memory.sandbox_trouble.clone()
            && trouble.holds(now)
        {
            self.recheck(trouble.retry_at(now));
            return true;
        }
        let dead = self.input.observed.iter().max_by_key(|sandbox| sandbox.key.attempt);
        if let Some(dead) = dead {
            let attempt = dead.key.attempt;
            match self.plan.memory.dead_sandbox {
                Some((known, _)) if known == attempt => {}
                Some(_) | None => self.plan.memory.dead_sandbox = Some((attempt, now)),
            }
        }
        // Once something ran, the containers' own back-off is enough.
        let never_ran = runs.iter().all(|runs| matches!(runs.last, Last::Absent));
        match self.plan.memory.dead_sandbox {
            Some((attempt, since)) if never_ran => {
                let until = due_at(since, restart_delay_ms(attempt), now);
                if now < until {
                    self.recheck(until);
                }
                now < until
            }
            Some(_) | None => false,
        }
    }

    fn begin(&mut self, runs: &Runs<'_>, step: &Step, sandbox: &SandboxKey) {
        let name = &runs.spec.name;
        match step {
            Step::Begin { streak } => {
                let attempt = runs.next_attempt;
                let memory = self.plan.memory.container(name);
                memory.streaks.insert(attempt, *streak);
                if self.input.node.uses_images {
                    let wants = match pull_policy(runs.spec) {
                        ImagePullPolicy::Always => true,
                        ImagePullPolicy::IfNotPresent => memory.image.missing,
                        ImagePullPolicy::Never => false,
                    };
                    if wants && memory.image.pulled_for != Some(attempt) {
                        let image = runs.spec.image.clone();
                        let container = name.clone();
                        self.plan.ops.push(RuntimeOp::Pull { container, attempt, image });
                    }
                }
                let key = ContainerKey { sandbox: sandbox.clone(), name: name.clone(), attempt };
                let spec = container_spec(runs.spec, key.clone());
                self.plan.ops.push(RuntimeOp::CreateContainer(Box::new(spec)));
                self.plan.ops.push(RuntimeOp::StartContainer(key));
            }
            Step::Start(key) => self.plan.ops.push(RuntimeOp::StartContainer(key.clone())),
            Step::Over | Step::Running | Step::Wait { .. } => {}
        }
    }

    /// Removes what is left of runs before the previous one.
    fn tidy(&mut self, runs: &[Runs<'_>]) {
        let surplus: Vec<ContainerKey> =
            runs.iter().flat_map(|runs| runs.surplus.iter().cloned()).collect();
        if !surplus.is_empty() && !self.cleanup_must_wait() {
            self.plan.ops.extend(surplus.into_iter().map(RuntimeOp::RemoveContainer));
        }
    }

    fn stop_all(&mut self, grace_ms: u64, reason: StopReason) {
        let running = self.input.observed.iter().flat_map(|sandbox| &sandbox.containers);
        let running = running
            .filter(|container| matches!(container.state, ContainerRunState::Running { .. }));
        let containers: Vec<ContainerKey> =
            running.map(|container| container.key.clone()).collect();
        if !containers.is_empty() {
            self.plan.ops.push(RuntimeOp::Stop { containers, grace_ms, reason });
        }
    }

    pub(super) fn cleanup_must_wait(&mut self) -> bool {
        let now = self.input.now;
        match self.plan.memory.cleanup_trouble.clone() {
            Some(trouble) if trouble.holds(now) => {
                self.recheck(trouble.retry_at(now));
                true
            }
            Some(_) | None => false,
        }
    }

    pub(super) fn grace_ms(&self) -> u64 {
        u64::try_from(self.input.pod.spec.grace_seconds()).unwrap_or(0).saturating_mul(1000)
    }

    /// What is left of the grace that the deletion was given. The stored time has whole seconds, so the one
    /// it was cut from is counted in.
    fn deletion_grace_ms(&self) -> u64 {
        let meta = &self.input.pod.metadata;
        let whole = meta.deletion_grace_period_seconds.unwrap_or_else(|| {
            self.input.pod.spec.grace_seconds()
        });
        let whole = u64::try_from(whole).unwrap_or(0).saturating_mul(1000);
        let left = meta.deletion_timestamp.map_or(0, |at| {
            at.to_timestamp().plus_millis(999).millis_since(self.input.now)
        });
        u64::try_from(left).unwrap_or(0).min(whole)
    }

    pub(super) fn recheck(&mut self, at: Timestamp) {
        let known = self.plan.recheck_at;
        self.plan.recheck_at = Some(known.map_or(at, |known| known.min(at)));
    }

    fn shown<'r>(&self, runs: &'r Runs<'r>, step: Option<&Step>) -> Shown<'r> {
        let waiting = match step {
            Some(Step::Wait { shown, .. }) => Some(shown.clone()),
            Some(Step::Begin { .. } | Step::Start(_)) | None => {
                let never_ran = matches!(runs.last, Last::Absent | Last::Created(_));
                never_ran.then(|| self.creating())
            }
            Some(Step::Over | Step::Running) => None,
        };
        Shown { runs, waiting, ready: self.is_ready(runs), over: matches!(step, Some(Step::Over)) }
    }

    fn creating(&self) -> Waiting {
        let trouble = self.plan.memory.sandbox_trouble.as_ref();
        trouble.map_or_else(
            || Waiting::new("ContainerCreating", ""),
            |trouble| match trouble.reason {
                "CreateContainerConfigError" => Waiting::new(trouble.reason, &trouble.message),
                _ => Waiting::new("ContainerCreating", &trouble.message),
            },
        )
    }
}

fn runs_in(sandbox: &SandboxObservation) -> bool {
    sandbox
        .containers
        .iter()
        .any(|container| matches!(container.state, ContainerRunState::Running { .. }))
}

fn crash_loop(runs: &Runs<'_>, delay_ms: i64) -> Waiting {
    let seconds = delay_ms / 1000;
    let message = format!("back-off {seconds}s before container {} starts again", runs.spec.name);
    Waiting::new("CrashLoopBackOff", &message)
}
