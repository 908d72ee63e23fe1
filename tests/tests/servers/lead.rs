//! Leaders that die, that stand still, and that others think to be.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use orchestrator_tests::faults::Runs;
use orchestrator_tests::rig::poll;
use orchestrator_tests::servers::{SERVERS, Servers};

use super::{Writing, apply, maps, pods, settled, tell};

/// How often the leader is killed at least; `tests/run --long` says more.
const KILLS: u32 = 2;
/// How often somebody else is said to lead in one rollout.
const HANDED_OVER: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn f37_l7_a_leader_killed_in_a_rollout_loses_nothing_and_is_followed() {
    let mut servers = Servers::start().await;
    apply(&servers.client(0), 0).await;
    settled(&servers.client(0), 0).await;
    let mut written = 0;
    for kill in Runs::here().at_least(KILLS).map(|run| run + 1) {
        let victim = servers.leader(0).await;
        let (witness, writer) = ((victim + 1) % SERVERS, (victim + 2) % SERVERS);
        let writing = Writing::start(servers.client(victim), servers.client(writer), kill);
        let before = pods(&servers.client(witness)).await;
        apply(&servers.client(witness), kill).await;
        // The fault of this test: moments of a rollout that differ from kill to kill.
        tokio::time::sleep(Duration::from_millis(u64::from(kill * 37 % 400))).await;
        servers.kill(victim).await;
        let killed = Instant::now();
        tell(&format!("kill {kill}: server {victim} led, {} pods", before.len()));
        let client = servers.client(witness);
        poll("another leads", || async {
            match servers.leader(witness).await {
                leader if leader == victim => Err("the one that was killed"),
                leader => Ok(leader),
            }
        })
        .await;
        tell(&format!("another leads after {:?}", killed.elapsed()));
        settled(&client, kill).await;
        tell(&format!("rolled out after {:?}", killed.elapsed()));
        written += writing.check(&client).await;
        servers.start_server(victim).await;
        // It has caught up before it answers.
        let there = maps(&servers.client(victim)).await.len();
        assert!(there >= written, "{there} of {written} after kill {kill}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f11_a_leader_that_was_paused_writes_nothing_when_it_wakes() {
    let servers = Servers::start().await;
    apply(&servers.client(0), 0).await;
    settled(&servers.client(0), 0).await;
    let victim = servers.leader(0).await;
    let witness = (victim + 1) % SERVERS;
    servers.signal(victim, Signal::SIGSTOP);
    apply(&servers.client(witness), 1).await;
    poll("another leads", || async {
        if servers.leader(witness).await == victim { Err("the one that is paused") } else { Ok(()) }
    })
    .await;
    servers.signal(victim, Signal::SIGCONT);
    settled(&servers.client(witness), 1).await;
    let leader = servers.leader(witness).await;
    assert_ne!(leader, victim);
    // It goes on as one that follows.
    settled(&servers.client(victim), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_of_two_that_are_both_said_to_lead_no_write_is_lost_and_nothing_is_doubled() {
    let servers = Servers::start().await;
    let clients: Vec<_> = (0..SERVERS).map(|n| servers.client(n)).collect();
    apply(&clients[0], 0).await;
    settled(&clients[0], 0).await;
    for version in Runs::here().map(|run| run + 1) {
        let writing = Writing::start(servers.client(0), servers.client(1), version);
        apply(&clients[2], version).await;
        let mut handed = 0;
        for n in (0..SERVERS).cycle().take(HANDED_OVER) {
            let leader = servers.leader(2).await;
            // Stands still while the lead is another's, and wakes before it could know by its clock.
            servers.signal(leader, Signal::SIGSTOP);
            let by = (leader + 1) % SERVERS;
            let other = if n == leader { by } else { n };
            // Refused when somebody else has just written: then the next one is tried.
            handed += usize::from(servers.hand_lead_to(other, &clients[by]).await.is_ok());
            servers.signal(leader, Signal::SIGCONT);
        }
        assert!(handed > 0, "somebody else was said to lead");
        settled(&clients[0], version).await;
        writing.check(&clients[2]).await;
    }
}
