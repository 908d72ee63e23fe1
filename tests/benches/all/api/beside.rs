//! Fairness: how long one client's reads take while another reads lists of everything in a loop.

use std::time::Instant;

use tokio::task::JoinSet;

use super::etcd::Etcd;
use super::ours::Ours;
use super::{Client, FLOOR, Op, store_etcd_pods, store_our_pods};
use crate::daemon::{Daemon, Failure};
use crate::report::{Report, Unit};

pub const NAME: &str = "get beside lists of 10,000 pods in a loop, p99, against etcd";

/// How many pods a list has.
const PODS: usize = 10_000;
/// How many lists are read at a time, all by one identity.
const LISTERS: usize = 4;
/// Reads one after the other that are timed.
const TIMED: usize = 500;
/// What is read.
const MAP: &str = "own";

pub async fn run(report: &mut Report, program: &std::path::Path) -> Result<(), Failure> {
    let (ours, etcd) = (Ours::new(Daemon::start(program, "process", None)?)?, Etcd::start().await?);
    let sample = store_our_pods(&ours, PODS).await?;
    store_etcd_pods(&etcd, PODS, &sample).await?;
    let lister = ours.account("lister").await?;
    let mut reader = Client::Ours(ours.connect().await?);
    let mut etcd_reader = Client::Etcd(etcd.connect().await?, sample.clone());
    reader.send(&Op::Create(MAP.to_owned())).await?;
    etcd_reader.send(&Op::Create(MAP.to_owned())).await?;
    let mut figures = Vec::new();
    for pair in 0..=report.options.pairs {
        let mut lists = JoinSet::new();
        for _ in 0..LISTERS {
            lists.spawn(list_on(Client::Ours(ours.connect_as(&lister).await?)));
        }
        let own = p99_ms(&mut reader, &mut lists).await?;
        for _ in 0..LISTERS {
            lists.spawn(list_on(Client::Etcd(etcd.connect().await?, sample.clone())));
        }
        let figure = (own, p99_ms(&mut etcd_reader, &mut lists).await?);
        // The first round fills caches.
        if pair > 0 {
            figures.push(figure);
        }
    }
    report.pairs(NAME, Unit::Milliseconds, FLOOR, &figures);
    ours.daemon.stop()?;
    etcd.stop()
}

/// Reads one list after the other until it is ended.
async fn list_on(mut client: Client) -> Result<(), Failure> {
    loop {
        client.send(&Op::List).await?;
    }
}

/// Reads one after the other, then ends the lists, and returns the 99th percentile.
async fn p99_ms(
    client: &mut Client,
    lists: &mut JoinSet<Result<(), Failure>>,
) -> Result<f64, Failure> {
    let mut took = Vec::with_capacity(TIMED);
    while took.len() < TIMED {
        let start = Instant::now();
        client.send(&Op::Get(MAP.to_owned())).await?;
        took.push(start.elapsed().as_secs_f64() * 1_000.0);
    }
    // One that ended by itself has failed.
    if let Some(failed) = lists.try_join_next() {
        failed??;
    }
    lists.shutdown().await;
    took.sort_by(f64::total_cmp);
    Ok(took[took.len() * 99 / 100])
}
