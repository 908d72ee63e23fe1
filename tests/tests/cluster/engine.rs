//! Engines that hang, fail, and do what they then do not confirm.

use std::time::Duration;

use orchestrator_tests::cluster::{ClusterRig, EngineFault};

use super::REPLICAS;

#[test]
fn f22_a_call_that_hangs_holds_up_neither_other_pods_nor_the_node() {
    ClusterRig::share(async |rig| {
        for run in rig.runs() {
            rig.node("a").proxy().strike("/start", EngineFault::Hang, 1);
            rig.deploy("web", &format!("{run}"), REPLICAS).await;
            let others = REPLICAS as usize - 1;
            rig.until("all but one run", |pods| pods.len() == others).await;
            assert_eq!(rig.node("a").proxy().struck(), 1, "a call hangs");
            rig.until_ready("a", true).await;
            // Who hangs is helped by a restart of the agent, which gives the call up.
            rig.node("a").kill_agent();
            rig.node("a").start_agent().await;
            rig.until("all run", |pods| pods.len() == REPLICAS as usize).await;
            rig.remove("web").await;
        }
    });
}

#[test]
fn f22_an_engine_that_stands_still_for_a_while_loses_nothing() {
    ClusterRig::share(async |rig| {
        let before = rig.deployed("web", REPLICAS).await;
        for run in rig.runs() {
            rig.node("a").pause_engine();
            // Something that takes its time, elsewhere.
            let name = format!("other-{run}");
            rig.deploy(&name, "1", 1).await;
            rig.node("a").resume_engine();
            rig.until("both run", |pods| pods.len() == REPLICAS as usize + 1).await;
            rig.remove(&name).await;
            rig.settle().await;
            assert_eq!(rig.running().await, before, "nothing was started anew");
        }
    });
}

#[test]
fn f23_an_engine_that_fails_is_asked_again_until_it_does_not() {
    ClusterRig::share(async |rig| {
        let late = EngineFault::Late(Duration::from_secs(1));
        let faults = [
            ("/containers/create", EngineFault::Refused(500)),
            ("/start", EngineFault::Refused(404)),
            ("/containers/create", EngineFault::Refused(409)),
            ("/containers/json", EngineFault::Torn(200)),
            ("/start", late),
        ];
        for run in rig.runs() {
            for (number, (call, fault)) in faults.into_iter().enumerate() {
                rig.node("a").proxy().strike(call, fault, 2);
                rig.deploy("web", &format!("{run}-{number}"), REPLICAS).await;
                rig.rolled_out("web", &format!("{run}-{number}"), REPLICAS).await;
                assert!(rig.node("a").proxy().struck() > 0, "{call}: {fault:?}");
                rig.node("a").proxy().calm();
            }
        }
    });
}

#[test]
fn f24_what_an_engine_did_without_confirming_it_is_not_done_twice() {
    ClusterRig::share(async |rig| {
        for run in rig.runs() {
            for (number, call) in ["/containers/create", "/start"].into_iter().enumerate() {
                rig.node("a").proxy().strike(call, EngineFault::AnswerLost, 3);
                rig.deploy("web", &format!("{run}-{number}"), REPLICAS).await;
                rig.rolled_out("web", &format!("{run}-{number}"), REPLICAS).await;
                assert!(rig.node("a").proxy().struck() > 0, "{call}");
                rig.node("a").proxy().calm();
            }
        }
    });
}
