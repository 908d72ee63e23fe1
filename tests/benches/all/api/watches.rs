//! Fan-out: what many watches are told of, per second, and how long a write takes to reach them.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::etcd::EtcdWatch;
use super::ours::OurWatch;
use super::{CLIENTS, Client, FLOOR, Op, Sides, load};
use crate::daemon::Failure;
use crate::report::{Floor, Report, Unit};

const FAN_OUT_100: &str = "events to 100 watches, against etcd watch";
const FAN_OUT_1000: &str = "events to 1,000 watches, against etcd watch";
const LATENCY: &str = "create until 100 watches have it, p99";
const LATENCY_ETCD: &str = "create until 100 watches have it, p99, against etcd";

pub const NAMES: [&str; 4] = [FAN_OUT_100, FAN_OUT_1000, LATENCY, LATENCY_ETCD];

/// How long a create may take to reach the slowest of the watches, in milliseconds.
const LATENCY_MS_MAX: f64 = 10.0;
/// Writes one after the other whose way to the watches is timed.
const TIMED: usize = 200;
/// How long events may take in all.
const WITHIN: Duration = Duration::from_secs(120);

/// A watch of either side.
enum Watch {
    Etcd(Box<EtcdWatch>),
    Ours(OurWatch),
}

impl Watch {
    async fn events(&mut self) -> Result<usize, Failure> {
        match self {
            Self::Etcd(watch) => watch.events().await,
            Self::Ours(watch) => watch.events().await,
        }
    }

    /// Waits for so many events, and says when each came.
    async fn take(&mut self, number: usize) -> Result<Vec<Instant>, Failure> {
        let mut times = Vec::with_capacity(number);
        while times.len() < number {
            let events = self.events().await?;
            times.extend(std::iter::repeat_n(Instant::now(), events));
        }
        // More would mean that something was told twice.
        if times.len() > number { Err("an event too many".into()) } else { Ok(times) }
    }
}

pub async fn run(report: &mut Report, sides: &mut Sides) -> Result<(), Failure> {
    // Fewer writes for more watches: a measurement takes about as long.
    for (name, watches, rounds) in [(FAN_OUT_100, 100, 10), (FAN_OUT_1000, 1_000, 2)] {
        if report.wants(name) {
            fan_out(report, sides, name, watches, rounds).await?;
        }
    }
    if report.wants(LATENCY) || report.wants(LATENCY_ETCD) {
        latency(report, sides).await?;
    }
    Ok(())
}

async fn fan_out(
    report: &mut Report,
    sides: &mut Sides,
    name: &str,
    number: usize,
    rounds: usize,
) -> Result<(), Failure> {
    let (mut our_clients, mut etcd_clients) =
        (sides.our_clients(CLIENTS).await?, sides.etcd_clients(CLIENTS).await?);
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..number {
        ours.push(sides.our_watch().await?);
        theirs.push(sides.etcd_watch().await?);
    }
    let mut figures = Vec::new();
    for pair in 0..=report.options.pairs {
        sides.runs += 1;
        let run = sides.runs;
        let figure = (
            spread(&mut our_clients, &mut ours, rounds, run).await?,
            spread(&mut etcd_clients, &mut theirs, rounds, run).await?,
        );
        if pair > 0 {
            figures.push(figure);
        }
    }
    report.pairs(name, Unit::PerSecond, FLOOR, &figures);
    Ok(())
}

/// Lets the clients create and the watches hear of all of it; returns how many events were told per second.
async fn spread(
    clients: &mut Vec<Client>,
    watches: &mut Vec<Watch>,
    rounds: usize,
    run: usize,
) -> Result<f64, Failure> {
    let (number, events) = (watches.len(), clients.len() * rounds);
    let mut tasks = listen(watches, events);
    let start = Instant::now();
    load(clients, rounds, move |client, round| Op::Create(format!("w{run}-{client}-{round}")))
        .await?;
    heard(&mut tasks, watches).await?;
    Ok((number * events) as f64 / start.elapsed().as_secs_f64())
}

type Listeners = JoinSet<Result<(Watch, Vec<Instant>), Failure>>;

fn listen(watches: &mut Vec<Watch>, events: usize) -> Listeners {
    let mut tasks = JoinSet::new();
    for mut watch in watches.drain(..) {
        tasks.spawn(async move {
            let times = tokio::time::timeout(WITHIN, watch.take(events)).await??;
            Ok((watch, times))
        });
    }
    tasks
}

/// Waits until every watch has heard of everything.
async fn heard(
    tasks: &mut Listeners,
    watches: &mut Vec<Watch>,
) -> Result<Vec<Vec<Instant>>, Failure> {
    let mut all = Vec::new();
    while let Some(listened) = tasks.join_next().await {
        let (watch, times) = listened??;
        watches.push(watch);
        all.push(times);
    }
    Ok(all)
}

async fn latency(report: &mut Report, sides: &mut Sides) -> Result<(), Failure> {
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..100 {
        ours.push(sides.our_watch().await?);
        theirs.push(sides.etcd_watch().await?);
    }
    let mut our_client = Client::Ours(sides.ours.connect().await?);
    let mut etcd_client = Client::Etcd(sides.etcd.connect().await?, sides.value.clone());
    let mut figures = Vec::new();
    for pair in 0..=report.options.pairs {
        sides.runs += 1;
        let run = sides.runs;
        let figure = (
            p99_ms(&mut our_client, &mut ours, run).await?,
            p99_ms(&mut etcd_client, &mut theirs, run).await?,
        );
        if pair > 0 {
            figures.push(figure);
        }
    }
    let own: Vec<f64> = figures.iter().map(|figure| figure.0).collect();
    report.against(LATENCY, Unit::Milliseconds, LATENCY_MS_MAX, &own);
    report.pairs(LATENCY_ETCD, Unit::Milliseconds, Floor(None), &figures);
    Ok(())
}

/// Creates one after the other, and returns the 99th percentile of the time until a watch has heard of it.
async fn p99_ms(client: &mut Client, watches: &mut Vec<Watch>, run: usize) -> Result<f64, Failure> {
    let mut tasks = listen(watches, TIMED);
    let mut sent = Vec::with_capacity(TIMED);
    for number in 0..TIMED {
        sent.push(Instant::now());
        client.send(&Op::Create(format!("t{run}-{number}"))).await?;
    }
    let all = heard(&mut tasks, watches).await?;
    let took = |times: &Vec<Instant>| -> Vec<f64> {
        let each = times.iter().zip(&sent);
        each.map(|(heard, sent)| heard.duration_since(*sent).as_secs_f64() * 1_000.0).collect()
    };
    let mut took: Vec<f64> = all.iter().flat_map(took).collect();
    took.sort_by(f64::total_cmp);
    Ok(took[took.len() * 99 / 100])
}

impl Sides {
    async fn our_watch(&self) -> Result<Watch, Failure> {
        Ok(Watch::Ours(self.ours.connect().await?.watch().await?))
    }

    async fn etcd_watch(&self) -> Result<Watch, Failure> {
        Ok(Watch::Etcd(Box::new(self.etcd.connect().await?.watch().await?)))
    }
}
