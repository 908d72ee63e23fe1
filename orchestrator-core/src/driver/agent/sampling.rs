//! Measuring the machine and its containers, and telling that the node is alive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::core::Core;
use super::machine::MachineUse;
use super::tasks::{Event, limited, limited_link};
use crate::model::Uid;
use crate::node::LinkError;
use crate::runtime::Usage;
use crate::world::{ContainerUsage, NodeUsage};

/// The node is reported alive this often.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// A report that takes longer has failed, in milliseconds; the next one follows at once.
const HEARTBEAT_TIMEOUT_MS: u64 = 2_000;
/// The machine and its containers are measured this often.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);
/// The first two measurements, from which the first rates come.
const SAMPLE_FIRST: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
/// How long measuring may take, in milliseconds.
const SAMPLE_TIMEOUT_MS: u64 = 20_000;

/// What was measured at one time.
#[derive(Debug)]
pub(super) struct Reading {
    at: Instant,
    machine: MachineUse,
    containers: Vec<Usage>,
}

/// Measurements and reports.
#[derive(Debug, Default)]
pub(super) struct Sampling {
    started: Option<Instant>,
    begun: usize,
    last_begun: Option<Instant>,
    in_flight: bool,
    last: Option<Reading>,
    /// A sample that was not reported yet.
    fresh: Option<NodeUsage>,
    reporting: bool,
    last_report: Option<Instant>,
}

impl Core {
    pub(super) fn act_sampling(&mut self) -> Option<Instant> {
        if !self.registration.is_accepted() {
            return None;
        }
        let now = Instant::now();
        let sampling = &mut self.sampling;
        let started = *sampling.started.get_or_insert(now);
        let sample_at = match (SAMPLE_FIRST.get(sampling.begun), sampling.last_begun) {
            (Some(after), _) => started + *after,
            (None, Some(last)) => last + SAMPLE_INTERVAL,
            (None, None) => now,
        };
        if !sampling.in_flight && sample_at <= now {
            sampling.in_flight = true;
            sampling.begun = sampling.begun.saturating_add(1);
            sampling.last_begun = Some(now);
            self.measure();
        }
        let sampling = &mut self.sampling;
        let report_at = sampling.last_report.map_or(now, |last| last + HEARTBEAT_INTERVAL);
        if !sampling.reporting && report_at <= now {
            sampling.reporting = true;
            sampling.last_report = Some(now);
            let (usage, link) = (sampling.fresh.take(), Arc::clone(&self.link));
            self.tasks.spawn(async move {
                let report = limited_link(HEARTBEAT_TIMEOUT_MS, link.report(usage));
                Event::Reported(report.await)
            });
        }
        [sample_at, report_at].into_iter().filter(|at| *at > now).min()
    }

    pub(super) fn handle_reported(&mut self, outcome: &Result<(), LinkError>) {
        self.sampling.reporting = false;
        if let Err(error) = outcome {
            tracing::debug!(%error, "a heartbeat was lost");
            self.heard_refusal(error);
        }
    }

    pub(super) fn handle_sampled(&mut self, reading: Reading) {
        let sampling = &mut self.sampling;
        sampling.in_flight = false;
        if let Some(last) = &sampling.last {
            let cpus = self.registration.cpus();
            sampling.fresh = Some(rates(last, &reading, cpus));
        }
        sampling.last = Some(reading);
    }

    fn measure(&mut self) {
        let (runtime, scope) = (Arc::clone(&self.runtime), self.config.scope.clone());
        let read = MachineUse::of(self.config.machine, self.config.disk_path.clone());
        self.tasks.spawn(async move {
            let usage = limited("measuring", SAMPLE_TIMEOUT_MS, runtime.usage(&scope));
            let (machine, usage) = tokio::join!(read, usage);
            let containers = usage.unwrap_or_else(|error| {
                tracing::debug!(%error, "containers were not measured");
                Vec::new()
            });
            Event::Sampled(Box::new(Reading { at: Instant::now(), machine, containers }))
        });
    }
}

/// Makes a sample of two readings: amounts are the later one's, CPU is what was used between them.
fn rates(before: &Reading, after: &Reading, cpus: i64) -> NodeUsage {
    let passed = after.at.duration_since(before.at).as_nanos();
    let passed = u64::try_from(passed).unwrap_or(u64::MAX).max(1);
    let earlier: BTreeMap<_, u64> =
        before.containers.iter().map(|usage| (&usage.key, usage.cpu_nanos)).collect();
    let container = |usage: &Usage| {
        let earlier = earlier.get(&usage.key).copied().unwrap_or(usage.cpu_nanos);
        let used = usage.cpu_nanos.saturating_sub(earlier);
        let pod: Uid = usage.key.sandbox.pod;
        ContainerUsage {
            pod,
            container: usage.key.name.clone(),
            cpu_milli: used.saturating_mul(1000) / passed,
            memory_bytes: usage.memory_bytes,
            disk_bytes: usage.disk_bytes,
            network_received_bytes: usage.network_received_bytes,
            network_sent_bytes: usage.network_sent_bytes,
        }
    };
    let (old, new) = (&before.machine, &after.machine);
    let busy = new.cpu_busy_ticks.saturating_sub(old.cpu_busy_ticks);
    let all = new.cpu_all_ticks.saturating_sub(old.cpu_all_ticks).max(1);
    let cpus = u64::try_from(cpus).unwrap_or(1);
    NodeUsage {
        cpu_milli: busy.saturating_mul(1000 * cpus) / all,
        memory_bytes: new.memory_bytes,
        disk_bytes: new.disk_bytes,
        network_received_bytes: new.network_received_bytes,
        network_sent_bytes: new.network_sent_bytes,
        containers: after.containers.iter().map(container).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{ContainerKey, SandboxKey, Scope};

    fn usage(cpu_nanos: u64) -> Usage {
        let scope = Scope { cluster: "c".to_owned(), node: "n".to_owned() };
        let sandbox = SandboxKey { scope, pod: Uid::default(), attempt: 0 };
        Usage {
            key: ContainerKey { sandbox, name: "main".to_owned(), attempt: 0 },
            cpu_nanos,
            memory_bytes: 7,
            disk_bytes: 0,
            network_received_bytes: 0,
            network_sent_bytes: 0,
        }
    }

    #[test]
    fn cpu_is_what_was_used_between_two_readings() {
        let at = Instant::now();
        let machine = |busy, all| MachineUse {
            cpu_busy_ticks: busy,
            cpu_all_ticks: all,
            ..MachineUse::default()
        };
        let before =
            Reading { at, machine: machine(100, 1000), containers: vec![usage(5_000_000_000)] };
        let at = at + Duration::from_secs(10);
        let after =
            Reading { at, machine: machine(600, 3000), containers: vec![usage(10_000_000_000)] };
        let sample = rates(&before, &after, 2);
        assert_eq!(sample.cpu_milli, 500, "a quarter of two cores");
        assert_eq!(sample.containers[0].cpu_milli, 500, "half a core");
        assert_eq!(sample.containers[0].memory_bytes, 7);
    }

    #[test]
    fn a_container_that_is_new_or_was_reset_uses_nothing_yet() {
        let at = Instant::now();
        let reading = |containers| Reading { at, machine: MachineUse::default(), containers };
        for before in [Vec::new(), vec![usage(99)]] {
            let sample = rates(&reading(before), &reading(vec![usage(5)]), 1);
            assert_eq!(sample.containers[0].cpu_milli, 0);
        }
    }
}
