//! A short life of a deployment, with a control plane that dies at one chosen commit: before the store has it, or after.

use super::{CrashPoint, Faults, Rng, Simulation, user};
use crate::api::{Caller, Cascade};
use crate::model::{Key, Kind, Pod, Resource, StrategyType};

/// Fair rounds between what the user does.
const ROUNDS: usize = 8;

/// How many commits the control plane makes in that life when it does not die.
///
/// # Errors
/// Says which invariant or liveness property was broken.
pub fn commits_without_a_crash() -> Result<u64, String> {
    live(None)
}

/// Lives it with a crash.
///
/// # Errors
/// Says where the crash was, and which invariant or liveness property was broken (S37).
pub fn crash_at(point: CrashPoint) -> Result<(), String> {
    live(Some(point)).map(drop).map_err(|broken| format!("{point:?}: {broken}"))
}

fn live(crash_at: Option<CrashPoint>) -> Result<u64, String> {
    let mut simulation = Simulation::with(Rng::new(0), Faults::NONE, false);
    simulation.crash_at = crash_at;
    simulation.undisturbed = true;
    let deployment = Key::new(Kind::Deployment, "default", "d0");
    let apply =
        |image, replicas| user::request("d0", image, 100, replicas, StrategyType::RollingUpdate);
    let edits = [apply("image:0", 3), apply("image:1", 3), apply("image:1", 1)];
    let user = Caller::Admin { name: "user".to_owned() };
    for edit in edits {
        simulation.request(&user, &edit)?;
        simulation.rounds(ROUNDS)?;
    }
    simulation.settle()?;
    simulation.judge()?;
    simulation.request(&user, &user::delete(deployment.clone(), Cascade::Foreground))?;
    simulation.settle()?;
    simulation.judge()?;
    match simulation.truth.get(&deployment) {
        Some(_) => Err("L3: the deployment is still there".to_owned()),
        None => Ok(simulation.decided),
    }
}

impl Simulation {
    fn rounds(&mut self, rounds: usize) -> Result<(), String> {
        (0..rounds).try_for_each(|_| self.round())
    }

    pub(super) fn none_restarted(&self) -> Result<(), String> {
        let restarted = self.truth.all::<Pod>(None).find(|pod| {
            pod.status.container_statuses.iter().any(|status| status.restart_count > 0)
        });
        match restarted {
            Some(pod) => Err(format!("S37: {} was restarted needlessly", pod.key())),
            None => Ok(()),
        }
    }
}
