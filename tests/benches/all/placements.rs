//! Placements: the default scheduler against a bare scan of the same columns, and per second.
//!
//! Pods of mixed sizes come one by one (`place`, each counted before the next) or as a batch of deployments of 50
//! replicas (`place_batch`). The bare scan knows CPU, memory and number of pods, scores the least used node, and counts.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use orchestrator_core::model::{Container, Node, NodeCondition, ObjectMeta, Pod, Quantity, Uid};
use orchestrator_core::scheduler::{ClusterView, FilterScore, PodGroup, Scheduler, Trial};

use crate::report::{Floor, Report, Unit};

/// Placements per second that must be reached at 5,000 nodes.
const PER_SECOND_MIN: f64 = 10_000.0;
/// Pods that are placed in a measurement.
const PODS: usize = 2_000;
/// Replicas of each deployment in a batch.
const REPLICAS: usize = 50;
/// Sizes of pods: thousandths of a CPU and MiB.
const SIZES: [(i64, i64); 5] = [(100, 128), (250, 256), (500, 512), (150, 1024), (50, 64)];
/// What a node has.
const NODE_CPU_MILLI: i64 = 16_000;
const NODE_MEMORY_BYTES: i64 = 64 << 30;
const NODE_PODS: i64 = 110;

/// Measures clusters of 500 and 5,000 nodes.
pub fn run(report: &mut Report) {
    for nodes in [500, 5_000] {
        let names = [
            format!("place, {nodes} nodes, against a scan"),
            format!("place_batch, {nodes} nodes, against a scan"),
            format!("place, {nodes} nodes"),
        ];
        if !names.iter().any(|name| report.wants(name)) {
            continue;
        }
        let view = ClusterView::of((0..nodes).map(node), []);
        let pods: Vec<Arc<Pod>> = (0..PODS).map(|number| Arc::new(pod(number))).collect();
        let (mut singles, mut batches) = (Vec::new(), Vec::new());
        for pair in 0..=report.options.pairs {
            let single = one_by_one(&view, &pods);
            let bare = Columns::new(nodes).scan(&pods);
            let batch = batch(&view, &pods);
            // The first round fills caches.
            if pair > 0 {
                singles.push((single, bare));
                batches.push((batch, bare));
            }
        }
        let [single, batch, rate] = &names;
        report.pairs(single, Unit::PerSecond, Floor(None), &singles);
        report.pairs(batch, Unit::PerSecond, Floor(None), &batches);
        if nodes == 5_000 {
            let rates: Vec<f64> = singles.iter().map(|pair| pair.0).collect();
            report.against(rate, Unit::PerSecond, PER_SECOND_MIN, &rates);
        }
    }
}

/// Returns placements per second.
fn one_by_one(view: &ClusterView, pods: &[Arc<Pod>]) -> f64 {
    let scheduler = FilterScore::default();
    let mut view = view.clone();
    let start = Instant::now();
    for pod in pods {
        let placement = scheduler.place(pod, &view).expect("there is room");
        view.assume(pod, &placement.node);
    }
    per_second(pods.len(), start)
}

fn batch(view: &ClusterView, pods: &[Arc<Pod>]) -> f64 {
    let scheduler = FilterScore::default();
    let mut trial = Trial::new(view.clone());
    let start = Instant::now();
    let groups = PodGroup::group(pods.iter().cloned());
    scheduler.place_batch(&groups, &mut trial);
    let rate = per_second(pods.len(), start);
    assert!(trial.outcomes().iter().all(|(_, outcome)| outcome.is_ok()), "there is room");
    rate
}

fn per_second(count: usize, start: Instant) -> f64 {
    count as f64 / start.elapsed().as_secs_f64()
}

/// What is left of nodes.
struct Columns {
    cpu_milli: Vec<i64>,
    memory_bytes: Vec<i64>,
    pods: Vec<i64>,
}

impl Columns {
    fn new(nodes: usize) -> Self {
        Self {
            cpu_milli: vec![NODE_CPU_MILLI; nodes],
            memory_bytes: vec![NODE_MEMORY_BYTES; nodes],
            pods: vec![NODE_PODS; nodes],
        }
    }

    fn scan(&mut self, pods: &[Arc<Pod>]) -> f64 {
        let demands: Vec<(i64, i64)> = (0..pods.len()).map(size).collect();
        let start = Instant::now();
        for demand in &demands {
            let best = black_box(self.best(*demand)).expect("there is room");
            self.cpu_milli[best] -= demand.0;
            self.memory_bytes[best] -= demand.1;
            self.pods[best] -= 1;
        }
        per_second(pods.len(), start)
    }

    fn best(&self, (cpu_milli, memory_bytes): (i64, i64)) -> Option<usize> {
        let columns = self.cpu_milli.iter().zip(&self.memory_bytes).zip(&self.pods);
        let mut best: Option<(f64, usize)> = None;
        for (slot, ((cpu, memory), pods)) in columns.enumerate() {
            if *cpu < cpu_milli || *memory < memory_bytes || *pods < 1 {
                continue;
            }
            let score = (cpu - cpu_milli) as f64 / NODE_CPU_MILLI as f64
                + (memory - memory_bytes) as f64 / NODE_MEMORY_BYTES as f64;
            if best.is_none_or(|(most, _)| score > most) {
                best = Some((score, slot));
            }
        }
        best.map(|(_, slot)| slot)
    }
}

fn node(number: usize) -> Node {
    let mut node =
        Node { metadata: ObjectMeta::named("", &format!("node-{number:04}")), ..Node::default() };
    let capacity = &mut node.status.capacity;
    capacity.insert("cpu".to_owned(), Quantity::from_milli(NODE_CPU_MILLI));
    capacity.insert("memory".to_owned(), Quantity::from_bytes(NODE_MEMORY_BYTES));
    capacity.insert("pods".to_owned(), Quantity::from_milli(NODE_PODS * 1000));
    node.status.conditions.push(NodeCondition {
        kind: "Ready".to_owned(),
        status: true.into(),
        ..NodeCondition::default()
    });
    node
}

/// The pods of a deployment are alike and follow each other.
fn pod(number: usize) -> Pod {
    let app = format!("app-{}", number / REPLICAS);
    let (cpu_milli, memory_bytes) = size(number);
    let container = Container::new("main", "app:1").requests(cpu_milli, memory_bytes);
    let mut pod = Pod::of(&format!("{app}-{number}"), vec![container]);
    pod.metadata.uid = Uid::from_uuid(uuid::Uuid::from_u128(number as u128 + 1));
    pod.metadata.labels.insert("app".to_owned(), app);
    pod
}

fn size(number: usize) -> (i64, i64) {
    let (cpu_milli, mebibytes) = SIZES[number / REPLICAS % SIZES.len()];
    (cpu_milli, mebibytes << 20)
}
