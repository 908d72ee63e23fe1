//! Each rule of `plan`, shown on one pod.

use orchestrator_core::model::*;
use orchestrator_core::node::*;
use orchestrator_core::runtime::*;
use orchestrator_core::testkit::sim_runtime::*;

use crate::ticks::Ticks;

fn exec_probe() -> Probe {
    let exec = ExecAction { command: vec!["check".to_owned()] };
    Probe { exec: Some(exec), period_seconds: Some(5), ..Probe::default() }
}

fn failing(_: &ProbeDue) -> ProbeResult {
    ProbeResult::Failure("no".to_owned())
}

#[test]
fn a_new_pod_gets_a_sandbox_and_its_containers() {
    let mut ticks =
        Ticks::new(vec![Container::new("a", "app:1"), Container::new("b", "app:1")], |_| {});
    assert!(ticks.tick());
    assert_eq!(ticks.pod.status.phase, PodPhase::Pending);
    assert_eq!(ticks.waits_for("a"), "ContainerCreating");
    assert_eq!(
        ticks.verb_names(),
        [
            SimVerb::CreateSandbox,
            SimVerb::CreateContainer,
            SimVerb::StartContainer,
            SimVerb::CreateContainer,
            SimVerb::StartContainer,
        ]
    );
    ticks.settle();
    let status = &ticks.pod.status;
    assert_eq!(status.phase, PodPhase::Running);
    assert_eq!((status.host_ip.as_str(), status.qos_class.as_str()), ("192.0.2.1", "BestEffort"));
    assert_eq!(status.pod_ips, [PodIp { ip: status.pod_ip.clone() }]);
    assert_eq!(status.start_time, Some(ticks.now().to_time()));
    for kind in ["PodScheduled", "Initialized", "ContainersReady", "Ready"] {
        assert_eq!(ticks.condition(kind), ConditionStatus::True, "{kind}");
    }
    let names: Vec<&str> = status.container_statuses.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(ticks.status("a").started && ticks.status("a").container_id.starts_with("sim://"));
    assert!(!ticks.plan().status.container_statuses[0].image_id.is_empty());
}

#[test]
fn a_settled_pod_asks_for_nothing_and_keeps_its_times() {
    let mut ticks = Ticks::one();
    ticks.settle();
    let settled = ticks.pod.status.clone();
    ticks.pass(3600);
    assert_eq!(ticks.pod.status, settled);
    assert_eq!(ticks.starts().len(), 1);
    assert_eq!(ticks.recheck_at, None);
}

#[test]
fn images_are_pulled_as_the_policy_says() {
    let check = |policy, present: bool, expected: &[SimVerb]| {
        let container =
            Container { image_pull_policy: Some(policy), ..Container::new("main", "app:1") };
        let mut ticks = Ticks::new(vec![container], |_| {});
        if !present {
            ticks.runtime.require_pulls();
        }
        ticks.settle();
        assert_eq!(ticks.verb_names()[1..], *expected, "{policy:?} {present}");
    };
    use SimVerb::{CreateContainer, Pull, StartContainer};
    check(ImagePullPolicy::Always, true, &[Pull, CreateContainer, StartContainer]);
    check(ImagePullPolicy::IfNotPresent, true, &[CreateContainer, StartContainer]);
    let pulled = [CreateContainer, Pull, CreateContainer, StartContainer];
    check(ImagePullPolicy::IfNotPresent, false, &pulled);
    check(ImagePullPolicy::Never, false, &[CreateContainer]);
}

#[test]
fn a_failed_pull_is_shown_and_tried_again_later_and_later() {
    let mut ticks = Ticks::one();
    ticks.runtime.require_pulls();
    ticks.runtime.fail(SimVerb::Pull, Fault::Backend, 3);
    ticks.settle();
    assert_eq!(ticks.waits_for("main"), "ErrImagePull");
    assert_eq!(ticks.pod.status.phase, PodPhase::Pending);
    ticks.pass(3);
    assert_eq!(ticks.waits_for("main"), "ImagePullBackOff");
    ticks.pass(100);
    let pulls = ticks.verbs.iter().filter(|(_, op, _)| matches!(op, RuntimeOp::Pull { .. }));
    let pulls: Vec<i64> = pulls.map(|(at, ..)| at.as_millis() / 1000).collect();
    let gaps: Vec<i64> = pulls.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps, [10, 20, 40]);
    assert_eq!(ticks.pod.status.phase, PodPhase::Running);
    assert_eq!((ticks.told("Failed"), ticks.told("Pulled")), (3, 1));
}

#[test]
fn an_image_that_may_not_be_pulled_is_missed_by_name() {
    let container = Container {
        image_pull_policy: Some(ImagePullPolicy::Never),
        ..Container::new("main", "app:1")
    };
    let mut ticks = Ticks::new(vec![container], |_| {});
    ticks.runtime.require_pulls();
    ticks.pass(5);
    let waiting = ticks.status("main").state.waiting.clone().expect("waits");
    assert_eq!(waiting.reason, "ErrImageNeverPull");
    assert!(waiting.message.contains("\"app:1\""), "{}", waiting.message);
    assert_eq!(ticks.runtime.calls(SimVerb::Pull), 0);
}

#[test]
fn restarts_wait_0_10_20_and_so_on() {
    let mut ticks = Ticks::one();
    ticks.runtime.set_program("app:1", SimProgram::exits(1, 0));
    ticks.pass(1300);
    assert_eq!(ticks.starts(), [0, 0, 10, 30, 70, 150, 310, 610, 910, 1210]);
    assert_eq!(ticks.pod.status.phase, PodPhase::Running);
    assert_eq!(ticks.waits_for("main"), "CrashLoopBackOff");
    assert_eq!(ticks.status("main").restart_count, 9);
    let last = ticks.status("main").last_state.terminated.clone().expect("ended before");
    assert_eq!((last.exit_code, last.reason.as_str()), (1, "Error"));
    assert!(!last.container_id.is_empty());
}

#[test]
fn a_long_run_forgets_the_restarts_before_it() {
    let mut ticks = Ticks::one();
    ticks.runtime.set_program("app:1", SimProgram::exits(1, 0));
    ticks.pass(60);
    ticks.runtime.set_program("app:1", SimProgram::exits(1, 600_000));
    ticks.pass(60);
    let before = ticks.starts().len();
    assert!(before >= 4, "{:?}", ticks.starts());
    ticks.pass(700);
    let starts = ticks.starts();
    assert_eq!(starts[before] - starts[before - 1], 600, "at once after a long run: {starts:?}");
}

#[test]
fn the_back_off_survives_a_restart_of_the_agent() {
    let mut ticks = Ticks::one();
    ticks.runtime.set_program("app:1", SimProgram::exits(1, 0));
    ticks.pass(60);
    for _ in 0..500 {
        ticks.restart_agent();
        ticks.pass(1);
    }
    assert_eq!(ticks.starts(), [0, 0, 10, 30, 70, 150, 310]);
}

#[test]
fn runs_that_ended_with_the_agent_do_not_count_as_crashes() {
    let mut ticks = Ticks::one();
    ticks.settle();
    for stops in 1..=5 {
        ticks.pass(3);
        if stops == 5 {
            ticks.runtime.set_program("app:1", SimProgram::exits(1, 1000));
        }
        let sandbox = ticks.observed()[0].key.clone();
        ticks.runtime.execute(&RuntimeOp::RemoveSandbox(sandbox)).expect("removed");
        ticks.restart_agent();
        ticks.settle();
        assert_eq!(ticks.running().len(), 1, "again at once after {stops} stops");
        assert_eq!(ticks.status("main").restart_count, stops);
    }
    // The crashes that follow are the first ones, also for an agent that did not see the run begin.
    ticks.restart_agent();
    ticks.pass(40);
    assert_eq!(ticks.starts()[5..], [15, 26, 47]);
}

#[test]
fn a_sandbox_that_always_dies_backs_off_under_a_live_agent() {
    let mut ticks = Ticks::one();
    ticks.settle();
    for _ in 0..80 {
        if let Some(alive) = ticks.running().first().cloned() {
            ticks.runtime.lose_sandbox(&alive.sandbox);
        }
        ticks.pass(1);
    }
    assert!(ticks.starts().len() <= 6, "{:?}", ticks.starts());
}

#[test]
fn only_the_last_ended_run_is_kept_beside_the_newest() {
    let mut ticks = Ticks::one();
    ticks.runtime.set_program("app:1", SimProgram::exits(1, 1000));
    ticks.pass(400);
    let observed = ticks.observed();
    let kept: Vec<u32> = observed[0].containers.iter().map(|it| it.key.attempt).collect();
    let newest = u32::try_from(ticks.status("main").restart_count).expect("small");
    assert!(newest > 4);
    assert_eq!(kept, [newest - 1, newest]);
}

#[test]
fn restart_policies_decide_the_end() {
    let check = |policy, code, restarts: bool, phase| {
        let mut ticks = Ticks::with_policy(policy);
        ticks.runtime.set_program("app:1", SimProgram::exits(code, 1000));
        ticks.pass(8);
        assert_eq!(ticks.starts().len() > 1, restarts, "{policy:?} {code}");
        assert_eq!(ticks.pod.status.phase, phase, "{policy:?} {code}");
    };
    check(RestartPolicy::Always, 0, true, PodPhase::Running);
    check(RestartPolicy::OnFailure, 0, false, PodPhase::Succeeded);
    check(RestartPolicy::OnFailure, 3, true, PodPhase::Running);
    check(RestartPolicy::Never, 0, false, PodPhase::Succeeded);
    check(RestartPolicy::Never, 3, false, PodPhase::Failed);
}

#[test]
fn a_finished_pod_stays_finished_whatever_is_lost() {
    let mut ticks = Ticks::with_policy(RestartPolicy::Never);
    ticks.runtime.set_program("app:1", SimProgram::exits(0, 1000));
    ticks.pass(3);
    let finished = ticks.pod.status.clone();
    assert_eq!(finished.phase, PodPhase::Succeeded);
    assert_eq!(ticks.condition("Ready"), ConditionStatus::False);
    assert_eq!(ticks.observed().len(), 1, "its logs are kept");
    let sandbox = ticks.observed()[0].key.clone();
    ticks.runtime.lose_sandbox(&sandbox);
    ticks.restart_agent();
    ticks.pass(60);
    assert_eq!(ticks.pod.status, finished);
    assert_eq!(ticks.starts().len(), 1);
    ticks.delete(30);
    ticks.settle();
    assert!(ticks.deleted && ticks.observed().is_empty());
    assert_eq!(ticks.pod.status.phase, PodPhase::Succeeded);
}

#[test]
fn a_dead_sandbox_is_replaced_and_its_containers_count_as_ended() {
    let mut ticks = Ticks::one();
    ticks.settle();
    let old = ticks.pod.status.pod_ip.clone();
    let sandbox = ticks.observed()[0].key.clone();
    ticks.runtime.lose_sandbox(&sandbox);
    ticks.pass(1);
    let observed = ticks.observed();
    assert_eq!(observed.iter().map(|it| it.key.attempt).collect::<Vec<_>>(), [1]);
    assert_ne!(ticks.pod.status.pod_ip, old);
    assert_eq!(ticks.status("main").restart_count, 1);
    assert_eq!(ticks.running().len(), 1);
    let last = ticks.status("main").last_state.terminated.clone().expect("ended");
    assert_eq!((last.exit_code, last.reason.as_str()), (137, "ContainerStatusUnknown"));
}

#[test]
fn a_pod_that_is_not_restarted_fails_with_its_sandbox() {
    let mut ticks = Ticks::with_policy(RestartPolicy::Never);
    ticks.settle();
    let sandbox = ticks.observed()[0].key.clone();
    ticks.runtime.lose_sandbox(&sandbox);
    ticks.pass(1);
    assert_eq!(ticks.pod.status.phase, PodPhase::Failed);
    assert_eq!(ticks.running(), [], "nothing goes on in the dead sandbox");
}

#[test]
fn a_changed_image_restarts_its_container_at_once_and_no_other() {
    for policy in [RestartPolicy::Always, RestartPolicy::Never] {
        let containers = vec![Container::new("a", "app:1"), Container::new("b", "app:1")];
        let mut ticks = Ticks::new(containers, |spec| spec.restart_policy = Some(policy));
        ticks.pass(5);
        std::sync::Arc::make_mut(&mut ticks.pod.spec).containers[0].image = "app:2".to_owned();
        ticks.restart_agent();
        ticks.settle();
        assert_eq!(
            (ticks.status("a").image.as_str(), ticks.status("a").restart_count),
            ("app:2", 1)
        );
        assert_eq!(ticks.status("b").restart_count, 0);
        assert_eq!(ticks.running().len(), 2);
        let stops = ticks.verbs.iter().filter_map(|(_, op, _)| match op {
            RuntimeOp::Stop { containers, reason, .. } => Some((containers.len(), *reason)),
            _ => None,
        });
        assert_eq!(stops.collect::<Vec<_>>(), [(1, StopReason::Changed)]);
        ticks.pass(60);
        assert_eq!(ticks.starts().len(), 3, "{policy:?}: once");
    }
}

#[test]
fn a_deleted_pod_that_is_held_shows_how_it_ended() {
    let mut ticks = Ticks::one();
    ticks.settle();
    ticks.pod.metadata.finalizers.push("example.org/hold".to_owned());
    ticks.delete(5);
    ticks.settle();
    assert!(ticks.deleted && ticks.observed().is_empty());
    let ended = ticks.status("main").state.terminated.clone().expect("it ended");
    assert_ne!(ended.reason, "ContainerStatusUnknown", "its end was seen");
    assert!(!ticks.status("main").ready);
    assert_eq!(ticks.condition("Ready"), ConditionStatus::False);
}

#[test]
fn a_container_removed_behind_our_back_is_replaced() {
    let mut ticks = Ticks::one();
    ticks.settle();
    let key = ticks.running()[0].clone();
    ticks.runtime.lose_container(&key);
    ticks.restart_agent();
    ticks.pass(1);
    assert_eq!(ticks.running()[0].attempt, 1);
    assert_eq!(ticks.running()[0].sandbox, key.sandbox, "in the same sandbox");
    assert_eq!(ticks.status("main").restart_count, 1);
}

#[test]
fn a_restart_of_the_agent_changes_nothing_at_all() {
    let mut container = Container::new("main", "app:1");
    container.readiness_probe = Some(exec_probe());
    container.liveness_probe = Some(exec_probe());
    let mut ticks = Ticks::new(vec![container], |_| {});
    ticks.pass(20);
    assert_eq!(ticks.condition("Ready"), ConditionStatus::True);
    let (status, running) = (ticks.pod.status.clone(), ticks.running());
    ticks.restart_agent();
    let planned = ticks.plan();
    assert_eq!(planned.ops, []);
    assert_eq!(planned.status, status, "ready until a check says otherwise");
    ticks.pass(20);
    assert_eq!(ticks.running(), running);
}

#[test]
fn a_failing_liveness_probe_restarts_within_the_grace_and_backs_off() {
    let mut container = Container::new("main", "app:1");
    container.liveness_probe = Some(Probe { failure_threshold: Some(2), ..exec_probe() });
    let mut ticks =
        Ticks::new(vec![container], |spec| spec.termination_grace_period_seconds = Some(7));
    ticks.answer = failing;
    ticks.pass(4);
    assert_eq!(ticks.starts().len(), 1, "one failure is not enough");
    ticks.pass(40);
    let stops = ticks.verbs.iter().filter_map(|(_, op, _)| match op {
        RuntimeOp::Stop { grace_ms, reason, .. } => Some((*grace_ms, *reason)),
        _ => None,
    });
    assert!(stops.clone().all(|stop| stop == (7000, StopReason::Liveness)));
    // Each run fails its second check five seconds after its start.
    assert_eq!(ticks.starts(), [0, 5, 20]);
    assert!(ticks.told("Unhealthy") > 0 && ticks.told("Killing") > 0);
    assert_eq!(ticks.pod.status.phase, PodPhase::Running);
}

#[test]
fn readiness_shows_in_the_conditions_and_restarts_nothing() {
    let mut container = Container::new("main", "app:1");
    let initial_delay_seconds = Some(10);
    container.readiness_probe = Some(Probe { initial_delay_seconds, ..exec_probe() });
    let mut ticks = Ticks::new(vec![container, Container::new("other", "app:1")], |_| {});
    ticks.pass(9);
    assert_eq!(ticks.condition("Ready"), ConditionStatus::False);
    let message = |ticks: &Ticks| {
        let mut conditions = ticks.pod.status.conditions.iter();
        conditions.find(|it| it.kind == "ContainersReady").map(|it| it.message.clone())
    };
    assert_eq!(message(&ticks).as_deref(), Some("containers with unready status: [main]"));
    assert!(ticks.status("other").ready);
    ticks.pass(1);
    assert_eq!(ticks.condition("Ready"), ConditionStatus::True);
    let since = ticks.now().to_time();
    ticks.answer = failing;
    ticks.pass(10);
    assert_eq!(ticks.condition("Ready"), ConditionStatus::True, "two failures of three");
    let ready = ticks.pod.status.conditions.iter().find(|it| it.kind == "Ready").cloned();
    assert_eq!(ready.and_then(|it| it.last_transition_time), Some(since));
    ticks.pass(5);
    assert_eq!(ticks.condition("ContainersReady"), ConditionStatus::False);
    assert_eq!(ticks.starts().len(), 2, "one start each");
}

#[test]
fn deletion_stops_with_the_grace_that_is_left_and_leaves_nothing() {
    let mut ticks =
        Ticks::new(vec![Container::new("a", "app:1"), Container::new("b", "app:1")], |_| {});
    ticks.settle();
    ticks.delete(20);
    ticks.clock.advance_millis(5_000);
    let planned = ticks.plan();
    let RuntimeOp::Stop { containers, grace_ms, reason } = &planned.ops[0] else {
        panic!("{:?}", planned.ops)
    };
    assert_eq!((containers.len(), *grace_ms, *reason), (2, 15_999, StopReason::Deleted));
    assert!(!planned.deleted, "something is left");
    ticks.settle();
    assert!(ticks.deleted);
    assert_eq!(ticks.observed(), []);
}

#[test]
fn a_deletion_without_grace_kills_at_once() {
    let mut ticks = Ticks::one();
    ticks.settle();
    ticks.delete(0);
    let planned = ticks.plan();
    assert!(matches!(&planned.ops[0], RuntimeOp::Stop { grace_ms: 0, .. }), "{:?}", planned.ops);
}

#[test]
fn a_pod_that_does_not_fit_is_refused_before_anything_runs() {
    let mut ticks = Ticks::one();
    let refusal = Refusal { reason: "OutOfcpu".to_owned(), message: "no".to_owned() };
    ticks.fits = Err(refusal.clone());
    ticks.settle();
    assert_eq!(ticks.pod.status.phase, PodPhase::Failed);
    assert_eq!(ticks.pod.status.reason, "OutOfcpu");
    assert_eq!(ticks.verbs, []);
    assert_eq!(ticks.told("OutOfcpu"), 1);

    let mut ticks = Ticks::one();
    ticks.settle();
    ticks.fits = Err(refusal);
    ticks.pass(1);
    assert_eq!(ticks.pod.status.phase, PodPhase::Running, "what runs is not refused");
}

#[test]
fn a_program_that_cannot_start_is_shown_and_tried_again() {
    let broken = SimProgram { broken: Some("no such file".to_owned()), ..SimProgram::default() };
    let mut ticks = Ticks::one();
    ticks.runtime.set_program("app:1", broken.clone());
    ticks.pass(35);
    assert_eq!(ticks.waits_for("main"), "RunContainerError");
    let tries = ticks.verb_names();
    let tries = tries.iter().filter(|verb| **verb == SimVerb::StartContainer).count();
    assert_eq!(tries, 3, "after 0, 10 and 30 seconds");
    assert_eq!(ticks.pod.status.phase, PodPhase::Pending);

    let mut ticks = Ticks::with_policy(RestartPolicy::Never);
    ticks.runtime.set_program("app:1", broken);
    ticks.pass(2);
    assert_eq!(ticks.pod.status.phase, PodPhase::Failed);
    let state = ticks.status("main").state.terminated.clone().expect("given up");
    assert_eq!((state.exit_code, state.reason.as_str()), (128, "StartError"));
}

#[test]
fn failing_verbs_are_told_and_tried_again_soon() {
    let mut ticks = Ticks::one();
    ticks.runtime.fail(SimVerb::CreateSandbox, Fault::Backend, 3);
    ticks.settle();
    assert_eq!(ticks.verbs.len(), 1, "not again at once");
    ticks.pass(5);
    assert_eq!(ticks.told("FailedCreatePodSandBox"), 3);
    assert_eq!(ticks.pod.status.phase, PodPhase::Running);
}

#[test]
fn one_bad_image_does_not_hold_up_its_neighbour() {
    let mut ticks =
        Ticks::new(vec![Container::new("bad", "bad:1"), Container::new("good", "good:1")], |_| {});
    ticks.runtime.require_pulls();
    ticks.runtime.fail(SimVerb::Pull, Fault::Backend, 1);
    ticks.settle();
    assert_eq!(ticks.waits_for("bad"), "ErrImagePull");
    assert!(ticks.status("good").ready);
    assert_eq!(ticks.pod.status.phase, PodPhase::Pending);
}

#[test]
fn a_port_that_cannot_be_is_told_in_the_status() {
    let mut container = Container::new("main", "app:1").port(80);
    container.ports[0].host_port = Some(99_999);
    let mut ticks = Ticks::new(vec![container], |_| {});
    ticks.pass(1);
    assert_eq!(ticks.waits_for("main"), "CreateContainerConfigError");
    assert_eq!(ticks.verbs, []);
}

#[test]
fn a_sandbox_that_keeps_dying_is_not_made_in_a_hurry() {
    let mut ticks = Ticks::one();
    ticks.runtime.fail(SimVerb::CreateContainer, Fault::Backend, u32::MAX);
    for _ in 0..240 {
        ticks.pass(1);
        if let Some(sandbox) = ticks.observed().first() {
            ticks.runtime.lose_sandbox(&sandbox.key);
        }
    }
    let made = ticks.runtime.calls(SimVerb::CreateSandbox);
    assert!((3..=7).contains(&made), "{made}");
}

#[test]
fn conditions_of_others_are_kept() {
    let mut ticks = Ticks::one();
    let kind = "example.com/Gate".to_owned();
    ticks.pod.status.conditions.push(Condition { kind: kind.clone(), ..Condition::default() });
    ticks.settle();
    assert!(ticks.pod.status.conditions.iter().any(|condition| condition.kind == kind));
}

#[test]
fn classes_of_service_follow_requests_and_limits() {
    let mut container = Container::new("main", "app:1");
    assert_eq!(qos_class(&Pod::of("a", vec![container.clone()])), "BestEffort");
    container = container.requests(100, 1 << 20);
    assert_eq!(qos_class(&Pod::of("a", vec![container.clone()])), "Burstable");
    container.resources.limits = container.resources.requests.clone();
    assert_eq!(qos_class(&Pod::of("a", vec![container.clone()])), "Guaranteed");
    let both = vec![container, Container::new("other", "app:1")];
    assert_eq!(qos_class(&Pod::of("a", both)), "Burstable");
}

#[test]
fn runtimes_without_images_are_never_asked_to_pull() {
    let mut ticks = Ticks::new(vec![Container::new("main", "anything")], |_| {});
    ticks.node.uses_images = false;
    ticks.settle();
    assert_eq!(ticks.runtime.calls(SimVerb::Pull), 0);
    assert_eq!(ticks.running().len(), 1);
}

#[test]
fn an_older_run_that_still_goes_on_is_stopped_first() {
    let mut ticks = Ticks::one();
    ticks.settle();
    let key = ticks.running()[0].clone();
    let newer = ContainerKey { attempt: 1, ..key.clone() };
    let spec = container_spec(&ticks.pod.spec.containers[0], newer.clone());
    for op in [RuntimeOp::CreateContainer(Box::new(spec)), RuntimeOp::StartContainer(newer.clone())]
    {
        ticks.runtime.execute(&op).expect("works");
    }
    ticks.settle();
    assert_eq!(ticks.running(), [newer]);
}
