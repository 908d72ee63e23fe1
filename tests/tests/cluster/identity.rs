//! Who is let in as a node, and who is not.

use orchestrator_tests::cluster::ClusterRig;

use super::{REPLICAS, runs};

#[test]
fn f34_a_second_agent_of_a_name_is_refused_and_the_first_goes_on() {
    ClusterRig::share(async |rig| {
        let before = rig.deployed("web", REPLICAS).await;
        for run in 0..runs() {
            let (url, token) = (rig.server.url(), rig.token(&[]).await);
            let other = rig.node("b").machine.dir().join(format!("second-{run}"));
            let mut command = rig.node("b").agent_command(&other);
            command.args(["--server", &url, "--token", &token, "--name", "a"]);
            let said = rig.node("b").refused(&mut command);
            assert!(said.contains("orchd node remove a"), "{said}");
            let same = rig.node("a").data_dir();
            let mut command = rig.node("a").agent_command(&same);
            let said = rig.node("a").refused(&mut command);
            assert!(said.contains("another agent uses"), "{said}");
            assert_eq!(rig.running().await, before, "the first goes on");
        }
    });
}

#[test]
fn f42_a_token_that_was_used_and_the_certificate_of_a_node_that_was_removed_are_worth_nothing() {
    ClusterRig::share(async |rig| {
        rig.deployed("web", REPLICAS).await;
        for _ in 0..runs() {
            let (url, token) = (rig.server.url(), rig.token(&[]).await);
            rig.remove_node("b").await;
            // Its pods are another's now, and it is told nothing any more.
            let others = ["a", "c"].map(str::to_owned);
            rig.until("pods elsewhere", |pods| {
                pods.len() == REPLICAS as usize && pods.values().all(|it| others.contains(&it.node))
            })
            .await;
            rig.node("b").kill_agent();
            rig.node("b").join(&url, &token).await;
            rig.settle().await;
            let stranger = rig.node("b").machine.dir().join("stranger");
            let mut command = rig.node("b").agent_command(&stranger);
            command.args(["--server", &url, "--token", &token, "--name", "stranger"]);
            let said = rig.node("b").refused(&mut command);
            assert!(said.contains("for the node \"b\" and no other"), "{said}");
        }
    });
}
