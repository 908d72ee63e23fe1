//! Metrics in OpenMetrics text: of requests, of the engine, and of what nodes and containers use.
//!
//! A registry per API: several clusters in one process do not mix. What comes and goes (nodes, containers) is read
//! from the world at each scrape, so that nothing stale is left.

use std::fmt;
use std::time::Duration;

use http::{Method, Response, StatusCode};
use orchestrator_core::driver::{Cluster, ClusterStats};
use orchestrator_core::model::Node;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::fairness::Limit;
use super::typed;
use crate::body::Body;

type Labels = Vec<(&'static str, String)>;

/// Bounds of the latency histogram, in seconds.
const LATENCY_BOUNDS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// The metrics of an API.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    latency: Family<Labels, Histogram>,
    watchers: Gauge,
    refused: Counter,
    audit_failed: Counter,
    encoded: Counter,
    limits: LimitMetrics,
}

/// Counts something (a watch, a request) while it lasts.
#[derive(Debug)]
pub(super) struct InUse(Gauge);

impl InUse {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What is in use of each limit of fairness, of all identities together, and how often each has refused.
#[derive(Clone, Debug, Default)]
pub(super) struct LimitMetrics {
    in_use: Family<LimitLabel, Gauge>,
    refused: Family<LimitLabel, Counter>,
}

type LimitLabel = [(&'static str, &'static str); 1];

impl LimitMetrics {
    fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        // Each is there from the beginning, as 0.
        for limit in Limit::ALL {
            drop(metrics.refused.get_or_create(&label(limit)));
            // A rate is spent, not held.
            if limit != Limit::Rate {
                drop(metrics.in_use.get_or_create(&label(limit)));
            }
        }
        let help = "Requests that are under way under a limit of their identity";
        registry.register("http_limit_in_use", help, metrics.in_use.clone());
        let help = "Requests answered with 429, by the limit of their identity";
        registry.register("http_limit_refused", help, metrics.refused.clone());
        metrics
    }

    pub(super) fn in_use(&self, limit: Limit) -> InUse {
        InUse::new(&self.in_use.get_or_create(&label(limit)))
    }

    pub(super) fn refused(&self, limit: Limit) {
        self.refused.get_or_create(&label(limit)).inc();
    }
}

const fn label(limit: Limit) -> LimitLabel {
    [("limit", limit.name())]
}

impl Metrics {
    pub(super) fn new(cluster: Cluster) -> Self {
        let mut registry = Registry::with_prefix("orchestrator");
        let requests = Family::default();
        registry.register("http_requests", "Requests answered", requests.clone());
        let histogram: fn() -> Histogram = || Histogram::new(LATENCY_BOUNDS);
        let latency = Family::new_with_constructor(histogram);
        let help = "Time until the answer began";
        registry.register("http_request_duration_seconds", help, latency.clone());
        let watchers = Gauge::default();
        registry.register("http_watchers", "Watches under way", watchers.clone());
        let refused = Counter::default();
        let help = "Connections closed because there were too many";
        registry.register("http_connections_refused", help, refused.clone());
        let audit_failed = Counter::default();
        let help = "Calls that could not be put down in the audit log";
        registry.register("audit_failures", help, audit_failed.clone());
        let encoded = Counter::default();
        let help = "Objects encoded for lists and watches, each revision once however many show it";
        registry.register("http_objects_encoded", help, encoded.clone());
        let limits = LimitMetrics::registered(&mut registry);
        registry.register_collector(Box::new(ClusterCollector(cluster)));
        Self { registry, requests, latency, watchers, refused, audit_failed, encoded, limits }
    }

    /// Counts a request that was answered.
    pub(super) fn request(
        &self,
        method: &Method,
        resource: &'static str,
        status: StatusCode,
        took: Duration,
    ) {
        // Methods are the client's choice: names that are not standard would be series without end.
        let method = match *method {
            Method::GET | Method::HEAD => "GET",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            _ => "other",
        };
        let mut labels = vec![("method", method.to_owned()), ("resource", resource.to_owned())];
        self.latency.get_or_create(&labels).observe(took.as_secs_f64());
        labels.push(("code", status.as_u16().to_string()));
        self.requests.get_or_create(&labels).inc();
    }

    pub(super) fn refused_connection(&self) {
        self.refused.inc();
    }

    pub(super) fn audit_failed(&self) {
        self.audit_failed.inc();
    }

    pub(super) fn watcher(&self) -> InUse {
        InUse::new(&self.watchers)
    }

    pub(super) fn encoded(&self) -> Counter {
        self.encoded.clone()
    }

    pub(super) fn limits(&self) -> LimitMetrics {
        self.limits.clone()
    }

    pub(super) fn render(&self) -> Response<Body> {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        typed("application/openmetrics-text; version=1.0.0; charset=utf-8", text)
    }
}

/// Reads the cluster at each scrape.
#[derive(Debug)]
struct ClusterCollector(Cluster);

impl Collector for ClusterCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let ClusterStats { engine, objects, quarantined, revision, .. } = self.0.stats();
        for (name, help, value) in [
            ("revision", "The newest revision", revision.0),
            ("objects", "Objects there are", objects),
            ("records_quarantined", "Records that cannot be read", quarantined),
            ("engine_queue_length", "Work that waits", engine.queued),
            ("engine_commits_in_flight", "Commits whose fate is not known yet", engine.in_flight),
            ("pods_pending", "Pods that wait for a node", engine.pending_pods),
        ] {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            metric.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX))?;
        }
        for (name, help, value) in [
            ("engine_binds", "Binds proposed", engine.binds),
            ("engine_commit_conflicts", "Commits that conflicted", engine.conflicts),
            ("engine_events_dropped", "Events dropped for their rate", engine.events_dropped),
            ("engine_proposals_gated", "Proposals the gate refused", engine.gated),
            ("engine_plugin_panics", "Panics of plug-ins, caught", engine.panics),
            ("engine_reconciles", "Times a controller was run", engine.reconciles),
        ] {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            metric.encode_counter::<Labels, u64, f64>(&value, None)?;
        }
        self.usage(&mut encoder)
    }
}

/// A series: its labels and its value.
type Row = (Labels, f64);

impl ClusterCollector {
    fn usage(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut series: [(&str, &str, Vec<Row>); 10] = [
            ("node_cpu_cores", "Cores in use on the node", Vec::new()),
            ("node_memory_bytes", "Memory in use on the node", Vec::new()),
            ("node_disk_bytes", "Disk in use where pods keep their data", Vec::new()),
            ("node_network_received_bytes", "Bytes received by the node since boot", Vec::new()),
            ("node_network_sent_bytes", "Bytes sent by the node since boot", Vec::new()),
            ("container_cpu_cores", "Cores in use by the container", Vec::new()),
            ("container_memory_bytes", "Memory in use by the container", Vec::new()),
            ("container_disk_bytes", "Disk in use by the container", Vec::new()),
            ("container_network_received_bytes", "Bytes received by the container", Vec::new()),
            ("container_network_sent_bytes", "Bytes sent by the container", Vec::new()),
        ];
        let world = self.0.world();
        for node in world.all::<Node>(None) {
            let name = &node.metadata.name;
            let Some(usage) = world.signal(name).usage else { continue };
            let labels = vec![("node", name.clone())];
            for (row, value) in series.iter_mut().zip([
                float(usage.cpu_milli) / 1000.0,
                float(usage.memory_bytes),
                float(usage.disk_bytes),
                float(usage.network_received_bytes),
                float(usage.network_sent_bytes),
            ]) {
                row.2.push((labels.clone(), value));
            }
            for container in &usage.containers {
                let pod = world.pods_on(name).find(|pod| pod.metadata.uid == container.pod);
                let Some(pod) = pod else { continue };
                let labels = vec![
                    ("namespace", pod.metadata.namespace.clone()),
                    ("pod", pod.metadata.name.clone()),
                    ("container", container.container.clone()),
                    ("node", name.clone()),
                ];
                for (row, value) in series.iter_mut().skip(5).zip([
                    float(container.cpu_milli) / 1000.0,
                    float(container.memory_bytes),
                    float(container.disk_bytes),
                    float(container.network_received_bytes),
                    float(container.network_sent_bytes),
                ]) {
                    row.2.push((labels.clone(), value));
                }
            }
        }
        for (name, help, rows) in &series {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, value) in rows {
                metric.encode_family(labels)?.encode_gauge(value)?;
            }
        }
        Ok(())
    }
}

/// Exact up to 2^53, which is far beyond what is measured.
#[allow(clippy::cast_precision_loss)]
const fn float(value: u64) -> f64 {
    value as f64
}
