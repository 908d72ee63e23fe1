//! `Faults`: what may go wrong in a simulation, and how often.

use super::Rng;

/// How often, in percent of opportunities, each fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The control plane crashes before it does its next thing (F1, F37).
    pub control_crash: u64,
    /// A commit is applied, and its acknowledgement lost (F2).
    pub ack_lost: u64,
    /// A commit fails before it is applied, and nobody knows (F4).
    pub commit_lost: u64,
    /// A batch is delivered twice (F8).
    pub batch_twice: u64,
    /// The engine is not given its batches for a while (F5).
    pub lag: u64,
    /// An agent restarts and forgets what it remembered (F33).
    pub agent_crash: u64,
    /// A container dies (F25).
    pub container_death: u64,
    /// A sandbox is lost behind our back (F27).
    pub sandbox_loss: u64,
    /// A node loses everything it runs (F35).
    pub node_reboot: u64,
    /// Somebody binds a pod by hand.
    pub bind: u64,
    /// A node falls silent, and its agent does nothing, for up to ten minutes (F28).
    pub node_silence: u64,
    /// The probes of a node fail for a turn.
    pub probe_failure: u64,
    /// A user edits something (F47).
    pub user: u64,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self {
        control_crash: 0,
        ack_lost: 0,
        commit_lost: 0,
        batch_twice: 0,
        lag: 0,
        agent_crash: 0,
        container_death: 0,
        sandbox_loss: 0,
        node_reboot: 0,
        bind: 0,
        node_silence: 0,
        probe_failure: 0,
        user: 0,
    };

    /// A random subset of all faults at random rates: swarm testing finds more than everything at once
    /// (Groce et al., ISSTA 2012).
    pub const fn swarm(rng: &mut Rng) -> Self {
        const fn rate(rng: &mut Rng, most: usize) -> u64 {
            if rng.percent(50) { 1 + rng.below(most) as u64 } else { 0 }
        }
        Self {
            control_crash: rate(rng, 4),
            ack_lost: rate(rng, 20),
            commit_lost: rate(rng, 20),
            batch_twice: rate(rng, 20),
            lag: rate(rng, 70),
            agent_crash: rate(rng, 5),
            container_death: rate(rng, 5),
            sandbox_loss: rate(rng, 2),
            node_reboot: rate(rng, 1),
            bind: rate(rng, 4),
            node_silence: rate(rng, 1),
            probe_failure: rate(rng, 20),
            user: 1 + rng.below(8) as u64,
        }
    }
}
