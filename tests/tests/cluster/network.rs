//! Networks that are cut, cut one way, lossy, flapping and slow.

use std::collections::BTreeMap;

use orchestrator_tests::cluster::{ClusterRig, Node, Running, Way};

use super::{REPLICAS, all_but_on, assert_untouched, elsewhere};

/// How often somebody is told that a name is taken before a node is heard again.
const REFUSALS: usize = 20;
/// How often a link flaps.
const FLAPS: u32 = 2;
/// How many percent of packets a bad link loses.
const LOSS_PERCENT: u8 = 25;
/// What a slow line carries.
const SLOW_KILOBITS: u32 = 256;

#[test]
fn f28_pods_of_a_node_that_is_cut_off_are_elsewhere_and_end_there_when_it_is_back() {
    cut_off(Node::cut);
}

#[test]
fn f29_a_node_that_hears_nothing_is_as_good_as_cut_off() {
    cut_off(Node::deafen);
}

#[test]
fn f29_a_node_that_is_not_heard_is_as_good_as_cut_off() {
    cut_off(Node::silence);
}

#[test]
fn s15_a_name_that_is_wanted_all_the_time_is_never_doubled_while_its_node_is_cut_off() {
    ClusterRig::share(async |rig| {
        let name = "identity";
        let of = |pods: &BTreeMap<String, Running>| pods.get(name).cloned();
        for fault in [Node::cut, Node::deafen, Node::silence] {
            for _ in rig.runs() {
                let keeper = rig.keeper(name);
                let pods = rig.until("it runs", |pods| of(pods).is_some()).await;
                let first = of(&pods).expect("it runs");
                let node = first.node.clone();
                fault(rig.node(&node));
                rig.until_ready(&node, false).await;
                // Given up, and yet there: nobody knows whether it still runs.
                rig.until_leaving(name).await;
                keeper.until_refused(REFUSALS).await;
                rig.node(&node).heal();
                let next = |pods: &_| of(pods).is_some_and(|pod| pod.uid != first.uid);
                rig.until("there is one again", next).await;
                keeper.end().await;
                rig.settle().await;
                rig.remove_pod(name).await;
            }
        }
    });
}

fn cut_off(fault: fn(&Node)) {
    ClusterRig::share(async move |rig| {
        let mut before = rig.deployed("web", REPLICAS).await;
        for run in rig.runs() {
            let bare = format!("bare-{run}");
            rig.create_pod(&bare, "a").await;
            let with_it = REPLICAS as usize + 1;
            rig.until("the bare pod runs", |pods| pods.len() == with_it).await;
            fault(rig.node("a"));
            let there = rig.until("pods elsewhere", |pods| all_but_on("a", pods)).await;
            assert_untouched(&elsewhere("a", &before), &there);
            // S15: it may still run there, so there can be no other of its name.
            let again = rig.try_create_pod(&bare, "b").await;
            assert!(again.is_err(), "a pod of that name may still run: {again:?}");
            rig.node("a").heal();
            rig.until_ready("a", true).await;
            rig.settle().await;
            let after = rig.until("nothing moves back", |pods| all_but_on("a", pods)).await;
            assert_untouched(&there, &after);
            // So that it has pods to lose again.
            rig.deploy("web", &format!("after-{run}"), REPLICAS).await;
            before = rig.rolled_out("web", &format!("after-{run}"), REPLICAS).await;
        }
    });
}

#[test]
fn f30_nodes_that_reach_the_server_but_not_each_other_lose_nothing() {
    ClusterRig::share(async |rig| {
        let before = rig.deployed("web", REPLICAS).await;
        for run in rig.runs() {
            rig.cut_between("a", &[Way::In, Way::Out], "b").await;
            let name = format!("other-{run}");
            rig.deploy(&name, "1", 3).await;
            rig.until("both run", |pods| pods.len() == REPLICAS as usize + 3).await;
            rig.remove(&name).await;
            assert_eq!(rig.running().await, before, "nothing was started anew");
            rig.node("a").heal();
        }
    });
}

#[test]
fn f31_a_link_that_loses_packets_and_flaps_ends_in_what_is_wanted() {
    ClusterRig::share(async |rig| {
        rig.deployed("web", REPLICAS).await;
        for run in rig.runs() {
            rig.node("a").lose(LOSS_PERCENT);
            rig.deploy("web", &format!("lossy-{run}"), REPLICAS).await;
            rig.rolled_out("web", &format!("lossy-{run}"), REPLICAS).await;
            rig.node("a").heal();
            for _ in 0..FLAPS {
                rig.node("b").cut();
                rig.until_ready("b", false).await;
                rig.node("b").heal();
                rig.until_ready("b", true).await;
            }
            rig.settle().await;
            rig.until("all run", |pods| pods.len() == REPLICAS as usize).await;
        }
    });
}

#[test]
fn f32_a_slow_line_only_makes_things_late() {
    ClusterRig::share(async |rig| {
        rig.deployed("web", REPLICAS).await;
        for run in rig.runs() {
            rig.node("a").slow(SLOW_KILOBITS);
            rig.deploy("web", &format!("slow-{run}"), REPLICAS).await;
            let rolled = rig.rolled_out("web", &format!("slow-{run}"), REPLICAS).await;
            assert_ne!(elsewhere("a", &rolled), rolled, "the node with the slow line has pods");
            rig.node("a").heal();
        }
    });
}
