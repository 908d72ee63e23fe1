//! A plan in the making: sandbox, containers, and what the status shows of them.

use super::backoff::{due_at, restart_delay_ms};
use super::image::pull_policy;
use super::lifecycle::{Last, Runs};
use super::memory::note;
use super::plan::{PodInput, PodPlan, Refusal, RuntimeOp};
use super::restart::Step;
use super::spec::{container_spec, sandbox_spec};
use super::status::{self, Shown, Waiting};
use crate::model::{ContainerStatus, EventType, ImagePullPolicy, PodPhase, PodStatus, Timestamp};
use crate::runtime::{ContainerKey, SandboxKey, SandboxObservation};

/// A plan in the making.
pub(super) struct Planner<'a> {
    pub(super) input: &'a PodInput<'a>,
    pub(super) recorded: PodStatus,
    /// The newest sandbox, if it is alive.
    pub(super) live: Option<&'a SandboxObservation>,
    pub(super) plan: PodPlan,
}

impl<'a> Planner<'a> {
    pub(super) fn new(input: &'a PodInput<'a>) -> Self {
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
    pub(super) fn is_new(&self) -> bool {
        self.input.observed.is_empty()
            && self.recorded.phase == PodPhase::Pending
            && self.recorded.container_statuses.iter().all(|status| {
                status.container_id.is_empty() && status.last_state.terminated.is_none()
            })
    }

    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        status::refuse(self, refusal);
        let message = format!("node refuses the pod: {}", refusal.message);
        let event = note(self.input.pod, EventType::Warning, &refusal.reason, message);
        self.plan.events.push(event);
    }

    pub(super) fn run(&mut self) {
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
        self.stop_changed(&runs);
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

    pub(super) fn runs(&self) -> Vec<Runs<'a>> {
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

    pub(super) fn name(spec: &crate::model::Container) -> &str {
        &spec.name
    }

    pub(super) fn remember(&mut self, runs: &[Runs<'_>]) {
        let newest = self.input.observed.iter().map(|sandbox| sandbox.key.attempt).max();
        let memory = &mut self.plan.memory;
        if let Some(newest) = newest {
            memory.next_sandbox = memory.next_sandbox.max(newest.saturating_add(1));
            let known = memory.dead_sandbox.filter(|(known, _)| *known == newest);
            let dead = known.unwrap_or((newest, self.input.now));
            memory.dead_sandbox = self.live.is_none().then_some(dead);
        }
        for runs in runs {
            let streaks = &mut memory.container(&runs.spec.name).streaks;
            let attempt = runs.attempt().unwrap_or(0);
            streaks.retain(|known, _| *known >= attempt);
        }
    }

    /// Returns the sandbox to make containers in, asking for a new one where it is needed and allowed.
    pub(super) fn sandbox(&mut self, runs: &[Runs<'_>], steps: &[Step]) -> Option<SandboxKey> {
        if let Some(live) = self.live {
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
    pub(super) fn sandbox_must_wait(&mut self, runs: &[Runs<'_>]) -> bool {
        let now = self.input.now;
        if let Some(trouble) = self.plan.memory.sandbox_trouble.clone()
            && trouble.holds(now)
        {
            self.recheck(trouble.retry_at(now));
            return true;
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

    pub(super) fn begin(&mut self, runs: &Runs<'_>, step: &Step, sandbox: &SandboxKey) {
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

    pub(super) fn recheck(&mut self, at: Timestamp) {
        let known = self.plan.recheck_at;
        self.plan.recheck_at = Some(known.map_or(at, |known| known.min(at)));
    }

    pub(super) fn shown<'r>(&self, runs: &'r Runs<'r>, step: Option<&Step>) -> Shown<'r> {
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

    pub(super) fn creating(&self) -> Waiting {
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
