//! A pod under random faults: safety at every step, and rest once the faults end.

use orchestrator_core::model::*;
use orchestrator_core::node::*;
use orchestrator_core::runtime::*;
use orchestrator_core::testkit::sim_runtime::*;
use proptest::prelude::*;

use crate::ticks::Ticks;

/// Something that happens to a node.
#[derive(Clone, Debug)]
enum Step {
    Fail(SimVerb, Fault),
    Kill(i32),
    LoseContainer,
    LoseSandbox,
    Pass(i64),
    RestartAgent,
}

fn step() -> impl Strategy<Value = Step> {
    let verb = prop_oneof![
        Just(SimVerb::CreateContainer),
        Just(SimVerb::CreateSandbox),
        Just(SimVerb::Pull),
        Just(SimVerb::RemoveContainer),
        Just(SimVerb::RemoveSandbox),
        Just(SimVerb::StartContainer),
        Just(SimVerb::StopContainer),
    ];
    let fault = prop_oneof![
        Just(Fault::Backend),
        Just(Fault::Unreachable),
        Just(Fault::Invalid("no".to_owned()))
    ];
    prop_oneof![
        2 => (verb, fault).prop_map(|(verb, fault)| Step::Fail(verb, fault)),
        3 => (0..3).prop_map(Step::Kill),
        1 => Just(Step::LoseContainer),
        1 => Just(Step::LoseSandbox),
        4 => (0_i64..400).prop_map(Step::Pass),
        2 => Just(Step::RestartAgent),
    ]
}

fn policy() -> impl Strategy<Value = RestartPolicy> {
    prop_oneof![
        Just(RestartPolicy::Always),
        Just(RestartPolicy::Never),
        Just(RestartPolicy::OnFailure)
    ]
}

/// Plans once, checks the plan, and executes it.
fn checked_tick(ticks: &mut Ticks) -> bool {
    let planned = ticks.plan();
    let observed = ticks.observed();
    let newest = observed.iter().map(|sandbox| sandbox.key.attempt).max();
    for op in &planned.ops {
        match op {
            RuntimeOp::Stop { reason, .. } => {
                assert_ne!(*reason, StopReason::Deleted, "nobody deleted the pod");
                assert_ne!(*reason, StopReason::Liveness, "there is no liveness probe");
            }
            RuntimeOp::RemoveSandbox(key) => {
                let alive = observed.iter().any(|sandbox| {
                    sandbox.key == *key && sandbox.ready && Some(key.attempt) == newest
                });
                assert!(!alive, "a living sandbox is not removed");
            }
            RuntimeOp::StartContainer(key) => {
                let ended = observed
                    .iter()
                    .flat_map(|sandbox| &sandbox.containers)
                    .any(|it| it.key == *key && matches!(it.state, ContainerRunState::Exited(_)));
                assert!(!ended, "an ended run is not started again");
            }
            RuntimeOp::CreateContainer(_)
            | RuntimeOp::CreateSandbox(_)
            | RuntimeOp::Pull { .. }
            | RuntimeOp::RemoveContainer(_) => {}
        }
    }
    let before = ticks.pod.status.clone();
    let acted = ticks.tick();
    let after = &ticks.pod.status;
    if before.phase.is_final() {
        assert_eq!(before.phase, after.phase, "S21");
    }
    if before.phase == PodPhase::Running {
        assert_ne!(after.phase, PodPhase::Pending, "S21");
    }
    for (old, new) in before.container_statuses.iter().zip(&after.container_statuses) {
        assert!(new.restart_count >= old.restart_count, "attempts never decrease (S21)");
    }
    assert!(ticks.runtime.most_runs_at_once() <= 1, "S17");
    acted
}

fn checked_pass(ticks: &mut Ticks, seconds: i64) {
    for _ in 0..=seconds {
        let mut plans = 0;
        while checked_tick(ticks) {
            plans += 1;
            assert!(plans < 40, "not quiet: {:?}", ticks.verbs);
        }
        ticks.clock.advance_millis(1000);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn faults_break_no_promise_and_the_pod_recovers(
        steps in proptest::collection::vec(step(), 1..14),
        policy in policy(),
        runs_ms in proptest::option::of(0_i64..100_000),
    ) {
        let mut ticks =
            Ticks::new(vec![Container::new("a", "app:1"), Container::new("b", "app:2")], |spec| {
                spec.restart_policy = Some(policy);
            });
        ticks.runtime.require_pulls();
        ticks.runtime.set_program("app:2", SimProgram { runs_ms, ..SimProgram::default() });
        for step in steps {
            match step {
                Step::Fail(verb, fault) => ticks.runtime.fail(verb, fault, 1),
                Step::Kill(code) => {
                    if let Some(key) = ticks.running().first() {
                        ticks.runtime.kill(key, code);
                    }
                }
                Step::LoseContainer => {
                    if let Some(key) = ticks.running().last() {
                        ticks.runtime.lose_container(key);
                    }
                }
                Step::LoseSandbox => {
                    if let Some(sandbox) = ticks.observed().last() {
                        ticks.runtime.lose_sandbox(&sandbox.key);
                    }
                }
                Step::Pass(seconds) => checked_pass(&mut ticks, seconds.min(30)),
                Step::RestartAgent => ticks.restart_agent(),
            }
            checked_tick(&mut ticks);
        }
        for verb in [
            SimVerb::CreateContainer, SimVerb::CreateSandbox, SimVerb::Pull, SimVerb::RemoveContainer,
            SimVerb::RemoveSandbox, SimVerb::StartContainer, SimVerb::StopContainer,
        ] {
            ticks.runtime.heal(verb);
        }
        ticks.runtime.set_program("app:2", SimProgram::default());
        checked_pass(&mut ticks, 700);
        let phase = ticks.pod.status.phase;
        if phase.is_final() {
            prop_assert_ne!(policy, RestartPolicy::Always);
            prop_assert_eq!(ticks.running(), Vec::new());
        } else {
            prop_assert_eq!(phase, PodPhase::Running);
            let over = ticks.pod.status.container_statuses.iter()
                .filter(|status| status.state.terminated.is_some()).count();
            prop_assert_eq!(ticks.running().len() + over, 2, "{:?}", ticks.pod.status);
            prop_assert!(policy != RestartPolicy::Always || over == 0);
        }
        ticks.delete(30);
        ticks.pass(1);
        prop_assert!(ticks.deleted, "{:?}", ticks.verbs);
        prop_assert_eq!(ticks.observed(), Vec::new());
    }
}
