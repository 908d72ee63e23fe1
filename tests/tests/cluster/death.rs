//! Agents, engines and machines that die.

use orchestrator_tests::cluster::ClusterRig;

use super::runs;

#[test]
fn f33_an_agent_that_is_killed_leaves_its_pods_running_and_takes_them_over() {
    ClusterRig::run(&["a", "b"], async |rig| {
        let before = rig.deployed("web", 4).await;
        for _ in 0..runs() {
            rig.node("a").kill_agent();
            rig.node("a").start_agent().await;
            rig.settle().await;
            assert_eq!(rig.running().await, before, "nothing was started anew");
        }
    });
}
