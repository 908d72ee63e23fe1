//! What holds of deployments and replica sets whatever happens in whatever order.
//!
//! A run is a list of small steps: a controller decides, a decision old or new is committed in part or in whole, a
//! notification is lost, a pod moves on, people change their minds. Safety is checked at every commit of a
//! controller, liveness at the end, when nothing goes wrong any more.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::{Config, TestCaseError};

use super::{Decision, DeploymentController, GarbageCollector, ReplicaSetController};
use crate::model::{
    Container, CountOrPercent, Deployment, Key, Kind, ObjectMeta, Pod, PodPhase, ReplicaSet,
    ReplicaSetSpec, Resource, RollingUpdate, Uid,
};
use crate::testkit::sandbox::Sandbox;
use crate::world::{World, graceful_delete};

/// The most decisions remembered for later.
const OLD_MAX: usize = 8;

/// Controllers and the decisions that are still on their way.
struct Run {
    sandbox: Sandbox,
    old: Vec<(usize, Key, Decision)>,
}

/// Looks at the worlds before and after a commit, and whether the decision was made just before.
type Check<'c> = &'c dyn Fn(&World, &World, bool) -> Result<(), TestCaseError>;

impl Run {
    fn new(sandbox: Sandbox) -> Self {
        Self { sandbox, old: Vec::new() }
    }

    /// Takes one step of the control plane; `pick` chooses whom it concerns.
    fn control(&mut self, step: u8, pick: u8, check: Check<'_>) -> Result<(), TestCaseError> {
        let queue = self.sandbox.queue();
        let chosen = queue.iter().nth(usize::from(pick) % queue.len().max(1)).cloned();
        match (step % 6, chosen) {
            (0, Some(chosen)) => self.sandbox.forget(Some(&chosen)),
            (1, _) if !self.old.is_empty() => {
                // An old decision arrives, or arrives again.
                let (controller, key, decision) =
                    self.old[usize::from(pick) % self.old.len()].clone();
                self.commit(controller, &key, &decision, usize::MAX, false, check)?;
            }
            (_, Some((controller, key))) => {
                let sandbox = &self.sandbox;
                let decision =
                    sandbox.controllers()[controller].reconcile(&key, sandbox.world(), sandbox.now);
                if self.old.len() < OLD_MAX || step.is_multiple_of(5) {
                    self.old.truncate(OLD_MAX - 1);
                    self.old.insert(0, (controller, key.clone(), decision.clone()));
                }
                self.sandbox.forget(Some(&(controller, key.clone())));
                // Every third time only a part of it gets through.
                let part = if step.is_multiple_of(3) { usize::from(pick) % 3 } else { usize::MAX };
                self.commit(controller, &key, &decision, part, true, check)?;
            }
            (_, None) => self.sandbox.restart(),
        }
        Ok(())
    }

    fn commit(
        &mut self,
        controller: usize,
        key: &Key,
        decision: &Decision,
        part: usize,
        fresh: bool,
        check: Check<'_>,
    ) -> Result<(), TestCaseError> {
        for proposal in decision.proposals.iter().take(part) {
            let one = Decision { proposals: vec![proposal.clone()], ..Decision::default() };
            let before = self.sandbox.world().clone();
            self.sandbox.execute(controller, key, &one);
            check(&before, self.sandbox.world(), fresh)?;
        }
        Ok(())
    }

    /// Chooses a pod.
    fn pod(&self, pick: u8) -> Option<Arc<Pod>> {
        let pods: Vec<_> = self.sandbox.world().all::<Pod>(None).cloned().collect();
        pods.get(usize::from(pick) % pods.len().max(1)).cloned()
    }

    fn delete(&mut self, key: &Key) {
        let now = self.sandbox.now;
        let deletion =
            self.sandbox.world().get(key).and_then(|stored| graceful_delete(stored, None, now));
        if let Some(deletion) = deletion {
            self.sandbox.commit(&deletion).expect("decided on this very world");
        }
    }

    /// Lets everything that was lost be found, and the cluster come to rest.
    fn heal(&mut self) -> Result<(), TestCaseError> {
        self.sandbox.restart();
        self.sandbox.complete().map_err(|error| TestCaseError::fail(error.to_string()))
    }
}

fn active(world: &World) -> i32 {
    i32::try_from(world.all::<Pod>(None).filter(|pod| pod.is_active()).count()).unwrap_or(i32::MAX)
}

fn ready(world: &World) -> i32 {
    let ready = world.all::<Pod>(None).filter(|pod| pod.is_active() && pod.is_ready());
    i32::try_from(ready.count()).unwrap_or(i32::MAX)
}

fn replica_set(replicas: i32) -> ReplicaSet {
    let source = Deployment::new("web", "nginx");
    let mut metadata = ObjectMeta::named("default", "web");
    metadata.uid = Uid::from_uuid(uuid::Uuid::from_u128(7));
    let spec = ReplicaSetSpec {
        replicas: Some(replicas),
        selector: source.spec.selector,
        template: source.spec.template,
        ..ReplicaSetSpec::default()
    };
    ReplicaSet { metadata, spec, ..ReplicaSet::default() }
}

fn config() -> Config {
    Config { cases: 100, failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn s26_a_replica_set_never_makes_more_pods_than_are_wanted(
        steps in vec((any::<u8>(), any::<u8>(), any::<u8>()), 1..120),
    ) {
        let key = Key::new(Kind::ReplicaSet, "default", "web");
        let mut run = Run::new(Sandbox::new(vec![Box::new(ReplicaSetController)]));
        run.sandbox.put(replica_set(3));
        let check = |before: &World, after: &World, fresh: bool| {
            let set = after.at::<ReplicaSet>(&key).expect("nobody deletes it");
            let wanted = set.spec.replicas.unwrap_or(1);
            let (had, has) = (active(before), active(after));
            prop_assert!(has <= had.max(wanted), "{} pods, {} wanted", has, wanted);
            // A pod that goes by itself while another is being given up is beyond any precondition.
            prop_assert!(!fresh || has >= had.min(wanted), "{} pods, {} wanted", has, wanted);
            Ok(())
        };
        for (what, step, pick) in steps {
            let pod = run.pod(pick);
            match (what % 12, pod) {
                (0, _) => run.sandbox.change(&key, |set: &mut ReplicaSet| {
                    set.spec.replicas = Some(i32::from(pick % 5));
                    set.metadata.generation += 1;
                }),
                (1, Some(pod)) => run.delete(&pod.key()),
                (2, Some(pod)) if pod.is_bound() => run.sandbox.finish(&pod.key(), PodPhase::Failed),
                (3 | 4, Some(pod)) => drop(run.sandbox.run_pod(&pod.key())),
                (5, Some(pod)) if pod.is_active() => run.sandbox.set_ready(&pod.key(), false),
                (6, _) => run.sandbox.advance(i64::from(pick) * 100),
                _ => run.control(step, pick, &check)?,
            }
        }
        run.heal()?;
        let wanted = run.sandbox.world().at::<ReplicaSet>(&key).expect("there").spec.replicas;
        prop_assert_eq!(Some(active(run.sandbox.world())), wanted);
        prop_assert_eq!(Some(ready(run.sandbox.world())), wanted);
    }

    #[test]
    fn s28_a_rollout_keeps_its_bounds_at_every_commit(
        replicas in 1..6i32,
        surge in 0..3i32,
        missing in 0..3i32,
        steps in vec((any::<u8>(), any::<u8>(), any::<u8>()), 1..160),
    ) {
        let missing = if surge == 0 { missing.max(1) } else { missing };
        let mut run = Run::new(deployed(replicas, surge, missing));
        run.heal()?;
        let check = |before: &World, after: &World, _: bool| {
            let (had, has) = (active(before), active(after));
            prop_assert!(has <= had.max(replicas + surge), "{} pods", has);
            let (had, has) = (ready(before), ready(after));
            let least = (replicas - missing).max(0);
            prop_assert!(has >= had.min(least), "{} of {} ready", has, least);
            Ok(())
        };
        for (what, step, pick) in steps {
            let pod = run.pod(pick);
            match (what % 12, pod) {
                (0, _) => edit(&mut run.sandbox, |deployment| {
                    set_image(deployment, ["v1", "v2", "v3"][usize::from(pick) % 3]);
                }),
                (1, Some(pod)) if !pod.is_ready() => run.delete(&pod.key()),
                (2, _) => run.sandbox.advance(i64::from(pick) * 100),
                (3..6, Some(pod)) => drop(run.sandbox.run_pod(&pod.key())),
                _ => run.control(step, pick, &check)?,
            }
        }
        run.heal()?;
        prop_assert!(run.sandbox.world().deployment("web").is_available());
        prop_assert_eq!(active(run.sandbox.world()), replicas);
    }

    #[test]
    fn l1_a_deployment_gets_there_after_any_disturbance(
        steps in vec((any::<u8>(), any::<u8>(), any::<u8>()), 1..120),
    ) {
        let mut run = Run::new(deployed(3, 1, 0));
        for (what, step, pick) in steps {
            let pod = run.pod(pick);
            match (what % 10, pod) {
                (0, _) => edit(&mut run.sandbox, |deployment| {
                    set_image(deployment, ["v1", "v2", "v3"][usize::from(pick) % 3]);
                    deployment.spec.replicas = Some(i32::from(pick % 7));
                    deployment.spec.paused = pick.is_multiple_of(5);
                }),
                (1, Some(pod)) => run.delete(&pod.key()),
                (2, Some(pod)) if pod.is_bound() => run.sandbox.finish(&pod.key(), PodPhase::Failed),
                (3, Some(pod)) if pod.is_active() => run.sandbox.set_ready(&pod.key(), false),
                (4, _) => {
                    let set = run.sandbox.world().all::<ReplicaSet>(None).next().map(|s| s.key());
                    if let Some(set) = set {
                        run.delete(&set);
                    }
                }
                (5, Some(pod)) => drop(run.sandbox.run_pod(&pod.key())),
                _ => run.control(step, pick, &|_, _, _| Ok(()))?,
            }
        }
        edit(&mut run.sandbox, |deployment| {
            deployment.spec.paused = false;
            deployment.spec.replicas = Some(4);
        });
        run.heal()?;
        prop_assert!(run.sandbox.world().deployment("web").is_available());
        prop_assert_eq!(active(run.sandbox.world()), 4);
    }
}

fn deployed(replicas: i32, surge: i32, missing: i32) -> Sandbox {
    let mut sandbox = Sandbox::new(vec![
        Box::new(DeploymentController),
        Box::new(GarbageCollector),
        Box::new(ReplicaSetController),
    ]);
    let mut deployment = Deployment::new("web", "nginx").replicas(replicas);
    deployment.metadata.uid = Uid::from_uuid(uuid::Uuid::from_u128(7));
    deployment.metadata.generation = 1;
    deployment.spec.strategy.rolling_update = Some(RollingUpdate {
        max_surge: Some(CountOrPercent::Count(surge)),
        max_unavailable: Some(CountOrPercent::Count(missing)),
    });
    set_image(&mut deployment, "v1");
    sandbox.put(deployment);
    sandbox
}

fn edit(sandbox: &mut Sandbox, edit: impl FnOnce(&mut Deployment)) {
    let key = Key::new(Kind::Deployment, "default", "web");
    sandbox.change(&key, |deployment: &mut Deployment| {
        edit(deployment);
        deployment.metadata.generation += 1;
    });
}

fn set_image(deployment: &mut Deployment, image: &str) {
    let spec = Arc::make_mut(&mut deployment.spec.template.spec);
    spec.containers = vec![Container::new("web", image)];
}
