//! Agents, engines, servers and machines that die.

use orchestrator_tests::cluster::ClusterRig;

use super::{REPLICAS, all_but_on, assert_untouched, elsewhere};

/// How often the server is killed in one rollout.
const KILLS: u32 = 3;

#[test]
fn f21_what_an_engine_that_is_killed_ran_runs_again() {
    ClusterRig::share(async |rig| {
        let mut before = rig.deployed("web", REPLICAS).await;
        for run in rig.runs() {
            rig.node("a").kill_engine();
            rig.node("a").start_engine().await;
            rig.settle().await;
            let after = rig.until("all run", |pods| pods.len() == REPLICAS as usize).await;
            assert_untouched(&elsewhere("a", &before), &after);
            // Containers that ended again and again would be started later and later.
            rig.deploy("web", &format!("after-{run}"), REPLICAS).await;
            before = rig.rolled_out("web", &format!("after-{run}"), REPLICAS).await;
        }
    });
}

#[test]
fn f33_an_agent_that_is_killed_leaves_its_pods_running_and_takes_them_over() {
    ClusterRig::share(async |rig| {
        let before = rig.deployed("web", REPLICAS).await;
        for _ in rig.runs() {
            rig.node("a").kill_agent();
            rig.node("a").start_agent().await;
            rig.settle().await;
            assert_eq!(rig.running().await, before, "nothing was started anew");
        }
    });
}

#[test]
fn f33_an_agent_that_is_killed_while_it_starts_and_ends_pods_doubles_and_forgets_none() {
    ClusterRig::share(async |rig| {
        rig.deployed("web", REPLICAS).await;
        for run in rig.runs() {
            rig.deploy("web", &format!("killed-{run}"), REPLICAS).await;
            // In the middle of its work, by what the engine has begun.
            rig.node("a").until_started(1).await;
            rig.node("a").kill_agent();
            rig.node("a").start_agent().await;
            rig.rolled_out("web", &format!("killed-{run}"), REPLICAS).await;
            rig.settle().await;
        }
    });
}

#[test]
fn f35_a_machine_that_boots_again_has_its_pods_again_or_lost_them_to_others() {
    ClusterRig::share(async |rig| {
        let mut before = rig.deployed("web", REPLICAS).await;
        for run in rig.runs() {
            let boot = rig.boot_id("a").await;
            rig.node("a").switch_off();
            if run % 2 == 0 {
                // Long enough away to be missed.
                let there = rig.until("pods elsewhere", |pods| all_but_on("a", pods)).await;
                assert_untouched(&elsewhere("a", &before), &there);
            }
            rig.node("a").switch_on().await;
            rig.settle().await;
            rig.until("all run", |pods| pods.len() == REPLICAS as usize).await;
            assert_ne!(rig.boot_id("a").await, boot, "the node tells that it was booted");
            rig.deploy("web", &format!("after-{run}"), REPLICAS).await;
            before = rig.rolled_out("web", &format!("after-{run}"), REPLICAS).await;
        }
    });
}

#[test]
fn f36_a_machine_that_is_gone_for_ever_is_taken_out_and_another_of_its_name_comes() {
    ClusterRig::share(async |rig| {
        rig.deployed("web", REPLICAS).await;
        for _ in rig.runs() {
            rig.node("c").switch_off();
            rig.until("pods elsewhere", |pods| all_but_on("c", pods)).await;
            rig.remove_node("c").await;
            // Its engine still has the old pods' containers, which belong to nobody.
            rig.node("c").switch_on_without_agent().await;
            rig.node("c").forget().await;
            rig.join("c").await;
            rig.settle().await;
        }
    });
}

#[test]
fn f37_a_server_that_is_killed_during_rollouts_loses_nothing_and_goes_on() {
    ClusterRig::share(async |rig| {
        rig.deployed("web", REPLICAS).await;
        for run in rig.runs() {
            let writer = rig.writer(&format!("f37-{run}"));
            for kill in 0..KILLS {
                let version = format!("{run}-{kill}");
                rig.deploy("web", &version, REPLICAS).await;
                let some = |pods: &Vec<_>| !pods.is_empty() && pods.len() < REPLICAS as usize;
                rig.until_of_version(&version, some).await;
                rig.server.kill();
                rig.server.start_again().await;
                rig.rolled_out("web", &version, REPLICAS).await;
            }
            let written = writer.assert_nothing_lost(&rig.client).await;
            assert!(written > 0, "something was written meanwhile");
        }
    });
}
