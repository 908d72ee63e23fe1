//! `Machine`: a simulated node: the agent's real brain over a simulated runtime.

use std::collections::{BTreeMap, BTreeSet};

use super::Rng;
use crate::model::{Key, Pod, Resource, Timestamp, Uid};
use crate::node::{
    CompleteList, NodeContext, OrphanGuard, PodInput, PodMemory, PodPlan, ProbeResult,
    orphan_removal, plan,
};
use crate::runtime::{ContainerKey, ContainerRunState, SandboxObservation, Scope};
use crate::testkit::clock::ManualClock;
use crate::testkit::sim_runtime::SimRuntime;
use crate::world::World;

/// What a machine wants recorded after a turn.
#[derive(Debug, Default)]
pub(super) struct Reports {
    pub(super) statuses: Vec<(Key, Uid, crate::model::PodStatus)>,
    pub(super) deleted: Vec<(Key, Uid)>,
}

/// A simulated node.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) name: String,
    /// Until when nothing is heard of it, and it hears nothing.
    pub(super) silent_until: Timestamp,
    scope: Scope,
    runtime: SimRuntime,
    memory: BTreeMap<Uid, PodMemory>,
    guard: OrphanGuard,
}

impl Machine {
    pub(super) fn new(name: &str, clock: &ManualClock) -> Self {
        Self {
            name: name.to_owned(),
            silent_until: Timestamp::default(),
            scope: Scope { cluster: "sim".to_owned(), node: name.to_owned() },
            runtime: SimRuntime::new(std::sync::Arc::new(clock.clone())),
            memory: BTreeMap::new(),
            guard: OrphanGuard::default(),
        }
    }

    /// Everything that exists on the machine.
    pub(super) fn observe(&self) -> Vec<SandboxObservation> {
        self.runtime.observe(&self.scope)
    }

    /// The agent restarts: what it remembered is gone, what runs goes on.
    pub(super) fn restart_agent(&mut self) {
        self.memory.clear();
        self.guard = OrphanGuard::default();
    }

    /// Everything that ran is gone.
    pub(super) fn reboot(&mut self) {
        for sandbox in self.observe() {
            self.runtime.lose_sandbox(&sandbox.key);
        }
        self.restart_agent();
    }

    /// Kills a container, if any runs.
    pub(super) fn kill_one(&self, rng: &mut Rng, code: i32) {
        let running: Vec<ContainerKey> = self
            .observe()
            .into_iter()
            .flat_map(|sandbox| sandbox.containers)
            .filter(|container| matches!(container.state, ContainerRunState::Running { .. }))
            .map(|container| container.key)
            .collect();
        if let Some(key) = running.get(rng.below(running.len())) {
            self.runtime.kill(key, code);
        }
    }

    /// Loses a sandbox, if there is one.
    pub(super) fn lose_one(&self, rng: &mut Rng) {
        let sandboxes = self.observe();
        if let Some(sandbox) = sandboxes.get(rng.below(sandboxes.len())) {
            self.runtime.lose_sandbox(&sandbox.key);
        }
    }

    /// Looks at what should run, as the world it is shown says, and does what is next. At most `verbs` runtime verbs are
    /// done; what is left is done next turn, as after a crash of the agent. Probes succeed if `healthy`.
    pub(super) fn turn(
        &mut self,
        world: &World,
        now: Timestamp,
        verbs: usize,
        healthy: bool,
    ) -> Reports {
        let mut reports = Reports::default();
        let mut left = verbs;
        let wanted: Vec<_> = world.pods_on(&self.name).cloned().collect();
        let pods: BTreeSet<Uid> = wanted.iter().map(|pod| pod.metadata.uid).collect();
        let observed = self.observe();
        let list = CompleteList { epoch: 1, revision: world.revision(), pods };
        for gone in self.guard.gone(&observed, &list) {
            let all: Vec<_> = observed.iter().filter(|sandbox| sandbox.key.pod == gone).collect();
            self.execute(&orphan_removal(&all), &mut left);
            self.memory.remove(&gone);
        }
        self.memory.retain(|uid, _| list.pods.contains(uid));
        for pod in wanted {
            self.look_after(&pod, now, healthy, &mut left, &mut reports);
        }
        reports
    }

    fn look_after(
        &mut self,
        pod: &Pod,
        now: Timestamp,
        healthy: bool,
        left: &mut usize,
        reports: &mut Reports,
    ) {
        let uid = pod.metadata.uid;
        let node = NodeContext {
            scope: self.scope.clone(),
            host_ip: "192.0.2.1".to_owned(),
            uses_images: false,
        };
        let mut memory = self.memory.remove(&uid).unwrap_or_default();
        let observed: Vec<_> =
            self.observe().into_iter().filter(|sandbox| sandbox.key.pod == uid).collect();
        let input =
            PodInput { node: &node, pod, observed: &observed, fits: Ok(()), memory: &memory, now };
        let PodPlan { ops, probes, status, memory: next, deleted, .. } = plan(&input);
        memory = next;
        for op in &ops {
            if *left == 0 {
                break;
            }
            *left -= 1;
            let outcome = self.runtime.execute(op);
            let failed = outcome.is_err();
            memory.record(pod, op, &outcome, now);
            if failed {
                break;
            }
        }
        for probe in probes {
            let result = match healthy {
                true => ProbeResult::Success,
                false => ProbeResult::Failure("it says no".to_owned()),
            };
            memory.record_probe(pod, &probe.container, probe.kind, &result);
        }
        if deleted {
            reports.deleted.push((pod.key(), uid));
        } else if status != pod.status {
            reports.statuses.push((pod.key(), uid, status));
        }
        self.memory.insert(uid, memory);
    }

    fn execute(&self, ops: &[crate::node::RuntimeOp], left: &mut usize) {
        for op in ops.iter().take(*left) {
            // A verb that failed is tried again with the next list.
            let _ = self.runtime.execute(op);
        }
        *left = left.saturating_sub(ops.len());
    }

    /// The containers that run, by pod.
    pub(super) fn running(&self) -> BTreeMap<Uid, Vec<ContainerKey>> {
        let mut running: BTreeMap<Uid, Vec<ContainerKey>> = BTreeMap::new();
        for sandbox in self.observe() {
            for container in sandbox.containers {
                if let ContainerRunState::Running { .. } = container.state {
                    running.entry(sandbox.key.pod).or_default().push(container.key);
                }
            }
        }
        running
    }
}
