//! An etcd that loses members, whose members stand still, and that is full.

use std::time::Duration;

use nix::sys::signal::Signal;
use orchestrator_core::model::Kind;
use orchestrator_http::{Client, WriteParams};
use orchestrator_tests::faults::Runs;
use orchestrator_tests::rig::poll;
use orchestrator_tests::servers::{SERVERS, Servers};
use serde_json::json;

use super::{Writing, apply, maps, pods, settled, try_apply, try_pods};

/// The size at which etcd is full, in bytes, and how much goes into it at a time.
const QUOTA_BYTES: usize = 8 << 20;
const PIECE_BYTES: usize = 500 << 10;
/// How long a slow member stands still at a time, and how long it goes on in between.
const STANDS_STILL: Duration = Duration::from_millis(400);
const GOES_ON: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread")]
async fn f13_servers_say_that_etcd_has_no_majority_and_go_on_once_it_has() {
    let mut servers = Servers::start().await;
    let clients: Vec<_> = (0..SERVERS).map(|n| servers.client(n)).collect();
    apply(&clients[0], 0).await;
    settled(&clients[0], 0).await;
    servers.kill_member(0).await;
    poll("one member of three is missed by nobody", || try_apply(&clients[1], 1)).await;
    settled(&clients[1], 1).await;

    servers.kill_member(1).await;
    for client in &clients {
        poll("it says that it is not ready", || async {
            match client.raw("/readyz").await {
                Err(error) if error.code() == Some(500) => Ok(()),
                answer => Err(format!("{answer:?}")),
            }
        })
        .await;
        client.raw("/livez").await.expect("it need not be started anew");
        let refused = pods_refused(client).await;
        assert!(refused.contains("the store does not answer"), "{refused}");
    }

    for member in [0, 1] {
        servers.start_member(member);
    }
    for client in &clients {
        poll("it is ready again", || client.raw("/readyz")).await;
    }
    poll("somebody leads, and writes", || try_apply(&clients[2], 2)).await;
    // What ran meanwhile was not started anew.
    settled(&clients[2], 2).await;
}

async fn pods_refused(client: &Client) -> String {
    poll("nothing is read that may be old", || async {
        match try_pods(client).await {
            Err(error) if error.code() == Some(503) => Ok(error.to_string()),
            answer => Err(format!("{answer:?}")),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_member_of_etcd_that_stands_still_or_is_slow_holds_up_nothing() {
    let servers = Servers::start().await;
    let clients: Vec<_> = (0..SERVERS).map(|n| servers.client(n)).collect();
    apply(&clients[0], 0).await;
    settled(&clients[0], 0).await;
    let mut version = 0;
    for run in Runs::here() {
        // Each once, so also the one that leads, and each server's own.
        for member in 0..SERVERS {
            version += 1;
            let writing = Writing::start(servers.client(0), servers.client(1), version);
            servers.signal_member(member, Signal::SIGSTOP);
            for client in &clients {
                poll("it answers without that member", || try_pods(client)).await;
            }
            poll("and takes writes", || try_apply(&clients[2], version)).await;
            settled(&clients[1], version).await;
            servers.signal_member(member, Signal::SIGCONT);
            writing.check(&clients[2]).await;
        }
        version += 1;
        let slow = run as usize % SERVERS;
        let writing = Writing::start(servers.client(0), servers.client(1), version);
        let slowly = async {
            loop {
                servers.signal_member(slow, Signal::SIGSTOP);
                tokio::time::sleep(STANDS_STILL).await;
                servers.signal_member(slow, Signal::SIGCONT);
                tokio::time::sleep(GOES_ON).await;
            }
        };
        let rolled = async {
            poll("it takes writes", || try_apply(&clients[2], version)).await;
            settled(&clients[1], version).await;
        };
        tokio::select! {
            () = slowly => {}
            () = rolled => {}
        }
        servers.signal_member(slow, Signal::SIGCONT);
        writing.check(&clients[2]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_an_etcd_that_is_full_loses_nothing_says_so_and_goes_on_when_it_has_room() {
    let quota = |bytes: usize| format!("--quota-backend-bytes={bytes}");
    let mut servers = Servers::start_on(&[&quota(QUOTA_BYTES)]).await;
    let clients: Vec<_> = (0..SERVERS).map(|n| servers.client(n)).collect();
    apply(&clients[0], 0).await;
    settled(&clients[0], 0).await;
    let before = uids(&clients[0]).await;
    let (mut acknowledged, mut refused) = (0, String::new());
    while refused.is_empty() {
        match fill(&clients[1], acknowledged).await {
            Ok(()) => acknowledged += 1,
            Err(why) => refused = why,
        }
    }
    assert!(acknowledged > 0, "{refused}");
    poll("it is said what is wrong", || async {
        match fill(&clients[1], acknowledged).await {
            Err(why) if why.contains("database space exceeded") => Ok(()),
            answer => Err(format!("{answer:?}")),
        }
    })
    .await;
    for client in &clients {
        poll("what is there can be read", || async {
            let there = maps(client).await.len();
            if there >= acknowledged { Ok(()) } else { Err(there) }
        })
        .await;
        client.raw("/livez").await.expect("it need not be started anew");
    }
    assert_eq!(uids(&clients[0]).await, before, "pods run on");

    servers.restart_members(&[&quota(16 * QUOTA_BYTES)]).await;
    servers.disarm_members().await;
    poll("somebody leads, and writes", || try_apply(&clients[2], 1)).await;
    settled(&clients[1], 1).await;
    let there = maps(&clients[0]).await.len();
    assert!(there >= acknowledged, "{there} of {acknowledged}");
}

/// Makes a large object.
async fn fill(client: &Client, number: usize) -> Result<(), String> {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": format!("large-{number}"), "namespace": "default" },
        "data": { "n": "x".repeat(PIECE_BYTES) },
    });
    let params = WriteParams::default();
    let created = client.create(Kind::ConfigMap, Some("default"), &map, params).await;
    created.map(drop).map_err(|error| error.to_string())
}

async fn uids(client: &Client) -> Vec<String> {
    let pods = pods(client).await;
    let mut uids: Vec<_> = pods.iter().map(|pod| pod.metadata.uid.to_string()).collect();
    uids.sort();
    uids
}
