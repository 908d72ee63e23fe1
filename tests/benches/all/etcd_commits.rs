//! Durable commits in etcd: `EtcdStore` against bare transactions of the same etcd, over TLS on both sides.
//!
//! A bare transaction says that a key must not be there, and puts a value. A commit of the store says in the same transaction that the
//! fence has not moved, and writes the head too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use orchestrator_core::model::{Key, Kind};
use orchestrator_core::store::{CommitOutcome, Expect, RecordKey, StateStore, Txn, Write};
use orchestrator_etcd::{EtcdHistory, EtcdStore};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::Outcome;
use crate::api::etcd::{Etcd, EtcdClient};
use crate::daemon::Failure;
use crate::report::{Floor, Report, Unit};

/// What a commit must reach of a bare transaction; 0.92 and 0.93 were seen on a machine of two processors with other work to do.
const FLOOR: Floor = Floor(Some(0.7));
/// The bytes of a value.
const VALUE_BYTES: usize = 512;
/// Clients that commit at the same time.
const CLIENTS: usize = 32;
/// How many commits each side does in a measurement, about.
const COMMITS: usize = 1_000;

/// Measures commits of one write, one after the other and from 32 clients.
pub fn run(report: &mut Report) -> Outcome {
    let runtime = Runtime::new()?;
    for clients in [1, CLIENTS] {
        let how = if clients == 1 { "serial".to_owned() } else { format!("{clients} clients") };
        let name = format!("etcd: commits of 1 write, {how}");
        if !report.wants(&name) {
            continue;
        }
        match runtime.block_on(Etcd::start()) {
            Ok(etcd) => {
                let pairs = runtime.block_on(measure(report.options.pairs, etcd, clients))?;
                report.pairs(&name, Unit::PerSecond, FLOOR, &pairs);
            }
            Err(error) => report.missing(&name, &format!("{error}; `tests/bench` builds one")),
        }
    }
    Ok(())
}

async fn measure(pairs: usize, etcd: Etcd, clients: usize) -> Result<Vec<(f64, f64)>, Failure> {
    let mut options = etcd.options()?;
    options.history = EtcdHistory::KeptByOthers;
    let store = Arc::new(EtcdStore::open(options).await?);
    let names = Arc::new(AtomicU64::new(0));
    let mut bare = Vec::new();
    for _ in 0..clients {
        bare.push(etcd.connect().await?);
    }
    let rounds = COMMITS.div_ceil(clients);
    let mut figures = Vec::new();
    for pair in 0..=pairs {
        let ours = ours(&store, &names, clients, rounds).await?;
        let (theirs, again) = theirs(bare, &names, rounds).await?;
        bare = again;
        // The first round fills caches.
        if pair > 0 {
            figures.push((ours, theirs));
        }
    }
    store.close().await;
    etcd.stop()?;
    Ok(figures)
}

/// Returns commits per second.
async fn ours(
    store: &Arc<EtcdStore>,
    names: &Arc<AtomicU64>,
    clients: usize,
    rounds: usize,
) -> Result<f64, Failure> {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (store, names) = (Arc::clone(store), Arc::clone(names));
        tasks.spawn(async move {
            for _ in 0..rounds {
                let key = Key::new(Kind::ConfigMap, "default", &name(&names));
                let value = Bytes::from_static(&[b'x'; VALUE_BYTES]);
                let write = Write::Put { key: RecordKey::main(key), expect: Expect::Absent, value };
                let txn = Txn { guards: Vec::new(), writes: vec![write] };
                let outcome = store.commit(txn).await.expect("etcd answers");
                assert!(matches!(outcome, CommitOutcome::Committed(_)), "{outcome:?}");
            }
        });
    }
    while let Some(joined) = tasks.join_next().await {
        joined?;
    }
    Ok((clients * rounds) as f64 / start.elapsed().as_secs_f64())
}

/// Returns transactions per second, and the clients for the next time.
async fn theirs(
    clients: Vec<EtcdClient>,
    names: &Arc<AtomicU64>,
    rounds: usize,
) -> Result<(f64, Vec<EtcdClient>), Failure> {
    let (start, count) = (Instant::now(), clients.len() * rounds);
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let names = Arc::clone(names);
        tasks.spawn(async move {
            for _ in 0..rounds {
                client.create(&name(&names), &[b'x'; VALUE_BYTES]).await?;
            }
            Ok::<_, Failure>(client)
        });
    }
    let mut again = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        again.push(joined??);
    }
    Ok((count as f64 / start.elapsed().as_secs_f64(), again))
}

fn name(names: &AtomicU64) -> String {
    format!("object-{:08}", names.fetch_add(1, Ordering::Relaxed))
}
