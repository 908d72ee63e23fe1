//! The API over TLS sockets against a bare etcd: what 32 clients get done, how events fan out, what one client's lists cost
//! another, and what is kept costs in memory.
//!
//! Both sides are processes of their own on the same disk with durable writes, and both speak TLS; their clients are ours, alike
//! in weight, one connection each: HTTP/1.1 to `orchd`, gRPC over HTTP/2 to etcd. A value in etcd has the bytes of our object.
//! `orchd` does besides what an API server does: it authenticates, decodes, admits, merges, and shows a write only when its
//! controllers have it.

mod beside;
pub mod etcd;
mod ours;
mod tls;
mod watches;

use std::process::Child;
use std::time::Instant;

use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::JoinSet;

use crate::daemon::{self, Daemon, Failure, Memory};
use crate::report::{Floor, Report, Unit};
use etcd::{Etcd, EtcdClient};
use ours::{OurClient, Ours};

/// Not slower than bare etcd.
const FLOOR: Floor = Floor(Some(1.0));
/// Clients that ask at the same time, each the next thing when it has its answer.
const CLIENTS: usize = 32;
/// How many requests each client makes in a measurement.
const ROUNDS: usize = 100;
/// How many lists each client reads in a measurement.
const LISTS: usize = 4;
/// How many pods a list has.
const PODS: usize = 1_000;
/// How many pods are stored to see what they cost.
const PODS_STORED: usize = 5_000;

const CREATE: &str = "create by 32 clients, against etcd put";
const GET: &str = "get by 32 clients, against etcd get";
const LIST: &str = "list of 1,000 pods by 32 clients, against etcd range";
const PATCH: &str = "patch by 32 clients, against etcd put";
const MEMORY: &str = "resident memory per 1,000 stored pods, against etcd";
const MEMORY_OWN: &str = "of it no file's, per 1,000 stored pods, against etcd";

/// What a client does.
#[derive(Clone, Debug)]
pub enum Op {
    Create(String),
    Get(String),
    List,
    Patch(String, usize),
}

/// Both sides, running.
struct Sides {
    ours: Ours,
    etcd: Etcd,
    /// What etcd stores.
    value: Bytes,
    /// How many measurements there have been, so that every name is new.
    runs: usize,
}

/// One client of either side.
enum Client {
    Etcd(EtcdClient, Bytes),
    Ours(OurClient),
}

impl Client {
    async fn send(&mut self, op: &Op) -> Result<(), Failure> {
        match self {
            Self::Etcd(client, value) => client.send(op, value).await.map(|_| ()),
            Self::Ours(client) => client.send(op).await.map(|_| ()),
        }
    }
}

/// Measures everything, if etcd is there.
pub fn run(report: &mut Report) -> Result<(), Failure> {
    let names = [CREATE, GET, LIST, PATCH, MEMORY, MEMORY_OWN, beside::NAME];
    let names = names.into_iter().chain(watches::NAMES);
    if !names.into_iter().any(|name| report.wants(name)) {
        return Ok(());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let etcd = match Etcd::start().await {
            Ok(etcd) => etcd,
            Err(error) => {
                report.missing(
                    "everything against etcd",
                    &format!("{error}; `tests/bench` builds one"),
                );
                return Ok(());
            }
        };
        let mut program = None;
        let daemon = Daemon::start(daemon::built(&mut program)?, "process", None)?;
        let mut sides = Sides { ours: Ours::new(daemon)?, etcd, value: Bytes::new(), runs: 0 };
        requests(report, &mut sides).await?;
        watches::run(report, &mut sides).await?;
        sides.stop()?;
        if report.wants(beside::NAME) {
            beside::run(report, daemon::built(&mut program)?).await?;
        }
        if report.wants(MEMORY) || report.wants(MEMORY_OWN) {
            memory(report, daemon::built(&mut program)?).await?;
        }
        Ok(())
    })
}

async fn requests(report: &mut Report, sides: &mut Sides) -> Result<(), Failure> {
    sides.value = sides.sample().await?;
    let (mut ours, mut theirs) =
        (sides.our_clients(CLIENTS).await?, sides.etcd_clients(CLIENTS).await?);
    for client in 0..CLIENTS {
        let op = Op::Create(format!("own-{client}"));
        ours[client].send(&op).await?;
        theirs[client].send(&op).await?;
    }
    for name in [CREATE, GET, PATCH, LIST] {
        if !report.wants(name) {
            continue;
        }
        let rounds = if name == LIST { LISTS } else { ROUNDS };
        if name == LIST {
            sides.store_pods(PODS).await?;
        }
        let mut figures = Vec::new();
        for pair in 0..=report.options.pairs {
            sides.runs += 1;
            let run = sides.runs;
            let op = move |client: usize, round: usize| match name {
                CREATE => Op::Create(format!("m{run}-{client}-{round}")),
                GET => Op::Get(format!("own-{client}")),
                PATCH => Op::Patch(format!("own-{client}"), round + run * ROUNDS),
                _ => Op::List,
            };
            let figure = (load(&mut ours, rounds, op).await?, load(&mut theirs, rounds, op).await?);
            // The first round fills caches.
            if pair > 0 {
                figures.push(figure);
            }
        }
        report.pairs(name, Unit::PerSecond, FLOOR, &figures);
    }
    Ok(())
}

/// Lets every client work through its rounds, and returns how much was done per second.
async fn load(
    clients: &mut Vec<Client>,
    rounds: usize,
    op: impl Fn(usize, usize) -> Op + Copy + Send + 'static,
) -> Result<f64, Failure> {
    let number = clients.len();
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for (index, mut client) in clients.drain(..).enumerate() {
        tasks.spawn(async move {
            for round in 0..rounds {
                client.send(&op(index, round)).await?;
            }
            Ok::<_, Failure>(client)
        });
    }
    while let Some(client) = tasks.join_next().await {
        clients.push(client??);
    }
    Ok((number * rounds) as f64 / start.elapsed().as_secs_f64())
}

impl Sides {
    async fn our_clients(&self, number: usize) -> Result<Vec<Client>, Failure> {
        let mut clients = Vec::new();
        for _ in 0..number {
            clients.push(Client::Ours(self.ours.connect().await?));
        }
        Ok(clients)
    }

    async fn etcd_clients(&self, number: usize) -> Result<Vec<Client>, Failure> {
        let mut clients = Vec::new();
        for _ in 0..number {
            clients.push(Client::Etcd(self.etcd.connect().await?, self.value.clone()));
        }
        Ok(clients)
    }

    /// One of our objects, as it is shown.
    async fn sample(&self) -> Result<Bytes, Failure> {
        let mut client = self.ours.connect().await?;
        client.send(&Op::Create("sample".to_owned())).await?;
        client.send(&Op::Get("sample".to_owned())).await
    }

    /// Stores pods, and the same bytes in etcd.
    async fn store_pods(&self, number: usize) -> Result<(), Failure> {
        let sample = store_our_pods(&self.ours, number).await?;
        store_etcd_pods(&self.etcd, number, &sample).await
    }

    fn stop(self) -> Result<(), Failure> {
        self.ours.daemon.stop()?;
        self.etcd.stop()
    }
}

/// Stores pods, and returns one as it is shown.
async fn store_our_pods(ours: &Ours, number: usize) -> Result<Bytes, Failure> {
    let mut tasks = JoinSet::new();
    for client in 0..CLIENTS {
        let mut connection = ours.connect().await?;
        tasks.spawn(async move {
            for pod in (client..number).step_by(CLIENTS) {
                connection.create_pod(&format!("p{pod:06}")).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(stored) = tasks.join_next().await {
        stored??;
    }
    ours.connect().await?.get_pod("p000000").await
}

async fn store_etcd_pods(etcd: &Etcd, number: usize, value: &Bytes) -> Result<(), Failure> {
    let mut client = etcd.connect().await?;
    for pod in 0..number {
        client.put_listed(pod, value).await?;
    }
    Ok(())
}

/// What stored pods cost a process that was started after they were stored: no history, no garbage, the pods alone.
///
/// etcd keeps an index in memory of its own and maps the file with the values; we keep all objects in memory of our own.
async fn memory(report: &mut Report, program: &std::path::Path) -> Result<(), Failure> {
    let (daemon, etcd) = (Daemon::start(program, "process", None)?, Etcd::start().await?);
    let (daemon, etcd) = (daemon.restart()?, etcd.restart().await?);
    tokio::time::sleep(daemon::IDLE).await;
    let before = (daemon.memory()?, Memory::of(etcd.pid())?);
    let ours = Ours::new(daemon)?;
    let sample = store_our_pods(&ours, PODS_STORED).await?;
    store_etcd_pods(&etcd, PODS_STORED, &sample).await?;
    let (daemon, etcd) = (ours.daemon.restart()?, etcd.restart().await?);
    tokio::time::sleep(daemon::IDLE).await;
    let after = (daemon.memory()?, Memory::of(etcd.pid())?);
    let cost = |of: fn(Memory) -> f64| {
        let thousands = PODS_STORED as f64 / 1_000.0;
        ((of(after.0) - of(before.0)) / thousands, (of(after.1) - of(before.1)) / thousands)
    };
    report.pairs(MEMORY, Unit::Mebibytes, FLOOR, &[cost(|memory| memory.resident)]);
    report.pairs(MEMORY_OWN, Unit::Mebibytes, Floor(None), &[cost(|memory| memory.anonymous)]);
    daemon.stop()?;
    etcd.stop()
}

/// Ends a process in good order.
fn terminate(child: &mut Child) -> Result<(), Failure> {
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
    child.wait()?;
    Ok(())
}
