//! What is answered and never stored: reviews, and what nodes and pods use.

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use orchestrator_core::model::{Key, Kind, Node, ObjectMeta, Pod, Uid};
use orchestrator_core::world::{ContainerUsage, NodeSignal, World};
use serde_json::{Value, json};

use super::list::Selection;
use super::{Api, Call, json};
use crate::body::Body;
use crate::query::ListOptions;
use crate::registry::{AnswerKind, Answered};
use crate::status::Failure;

/// Over how long usage is measured: the interval at which agents sample.
const USAGE_WINDOW: &str = "10s";

impl Api {
    /// Answers a request about something that is not stored.
    pub(super) async fn answered<B>(
        &self,
        answered: &'static Answered,
        namespace: Option<String>,
        name: Option<String>,
        call: Call<B>,
    ) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let is_asked = call.parts.method == Method::GET;
        match (answered.kind, name) {
            (AnswerKind::NodeMetrics, name) if is_asked => {
                let selection = selection(Kind::Node, None, &call)?;
                self.metrics_of(selection, name, node_metrics)
            }
            (AnswerKind::PodMetrics, name) if is_asked => {
                let selection = selection(Kind::Pod, namespace, &call)?;
                self.metrics_of(selection, name, pod_metrics)
            }
            (AnswerKind::NodeMetrics | AnswerKind::PodMetrics, _) | (_, Some(_)) => {
                Err(Failure::method_not_allowed())
            }
            (_, None) if call.parts.method == Method::POST => {
                let received = call.receive().await?;
                let asked = received.object((&answered.api_version(), answered.kind_name))?;
                let caller = &received.caller;
                let review = self.review(answered, namespace.as_deref(), caller, &asked)?;
                Ok(json(StatusCode::CREATED, &review))
            }
            (_, None) => Err(Failure::method_not_allowed()),
        }
    }

    fn metrics_of(
        &self,
        selection: Selection,
        name: Option<String>,
        metrics: impl Fn(&World, &Key) -> Option<Value>,
    ) -> Result<Response<Body>, Failure> {
        let world = self.inner.cluster.world();
        if let Some(name) = name {
            let namespace = selection.namespace.as_deref().unwrap_or_default();
            let key = Key::new(selection.kind, namespace, &name);
            let found = metrics(&world, &key).ok_or_else(|| Failure::not_found(&key))?;
            return Ok(json(StatusCode::OK, &found));
        }
        let items: Vec<Value> =
            selection.page(&world, None).filter_map(|(key, _)| metrics(&world, key)).collect();
        let kind = if selection.kind == Kind::Node { "NodeMetricsList" } else { "PodMetricsList" };
        let list = json!({
            "kind": kind,
            "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {},
            "items": items,
        });
        Ok(json(StatusCode::OK, &list))
    }
}

fn selection<B>(
    kind: Kind,
    namespace: Option<String>,
    call: &Call<B>,
) -> Result<Selection, Failure> {
    Ok(Selection { kind, namespace, options: ListOptions::read(&call.query, kind)? })
}

/// When a node was last heard; its usage is of about then.
fn measured_at(signal: &NodeSignal) -> String {
    // Whoever has a usage was heard.
    signal.last_heard.unwrap_or_default().to_time().to_string()
}

fn metadata(meta: &ObjectMeta) -> Value {
    let mut metadata = json!({
        "name": meta.name,
        "creationTimestamp": meta.creation_timestamp.map(|time| time.to_string()),
        "labels": meta.labels,
    });
    if !meta.namespace.is_empty() {
        metadata["namespace"] = meta.namespace.clone().into();
    }
    metadata
}

fn amounts(cpu_milli: u64, memory_bytes: u64) -> Value {
    json!({ "cpu": format!("{cpu_milli}m"), "memory": format!("{}Ki", memory_bytes / 1024) })
}

fn node_metrics(world: &World, key: &Key) -> Option<Value> {
    let node = world.at::<Node>(key)?;
    let signal = world.signal(&node.metadata.name);
    let usage = signal.usage.clone()?;
    Some(json!({
        "kind": "NodeMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": metadata(&node.metadata),
        "timestamp": measured_at(&signal),
        "window": USAGE_WINDOW,
        "usage": amounts(usage.cpu_milli, usage.memory_bytes),
    }))
}

fn pod_metrics(world: &World, key: &Key) -> Option<Value> {
    let pod = world.at::<Pod>(key)?;
    let signal = world.signal(&pod.node_name);
    let usage = signal.usage.clone()?;
    let of_pod = |uid: Uid| move |container: &&ContainerUsage| container.pod == uid;
    let containers: Vec<Value> = usage
        .containers
        .iter()
        .filter(of_pod(pod.metadata.uid))
        .map(|used| {
            let amounts = amounts(used.cpu_milli, used.memory_bytes);
            json!({ "name": used.container, "usage": amounts })
        })
        .collect();
    (!containers.is_empty()).then(|| {
        json!({
            "kind": "PodMetrics",
            "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": metadata(&pod.metadata),
            "timestamp": measured_at(&signal),
            "window": USAGE_WINDOW,
            "containers": containers,
        })
    })
}
