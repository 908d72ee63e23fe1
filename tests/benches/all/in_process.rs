//! A client in the same process: how soon it is answered, and how many objects it creates and reads back.
//!
//! The peer is a bare service that keeps bodies in a map: no admission, no revisions, no watch, nobody else to tell.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use orchestrator_core::driver::Cluster;
use orchestrator_core::mem::MemStore;
use orchestrator_http::Api;
use orchestrator_http::testkit::TestCluster;
use tokio::runtime::{Builder, Runtime};
use tower_service::Service;

use crate::Outcome;
use crate::report::{Floor, Report, Unit};

/// How long it may take from nothing to the first answer, in milliseconds.
const READY_MS_MAX: f64 = 1.0;
/// Starts in a measurement, of which the mean counts.
const STARTS: usize = 50;
/// Objects that are created and read in a measurement.
const OBJECTS: usize = 2_000;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Measures both. The test cluster comes last: from its start on, tokio looks for paused clocks in the whole process.
pub fn run(report: &mut Report) -> Outcome {
    let (pairs, ready) = ("create and get in process, against a map", "client in process ready");
    if report.wants(pairs) {
        let mut figures = Vec::new();
        for pair in 0..=report.options.pairs {
            let figure = (ours()?, theirs()?);
            // The first round fills caches.
            if pair > 0 {
                figures.push(figure);
            }
        }
        report.pairs(pairs, Unit::PerSecond, Floor(None), &figures);
    }
    if report.wants(ready) {
        let runtime = one_thread()?;
        let mut figures = Vec::new();
        for pair in 0..=report.options.pairs {
            let start = Instant::now();
            for _ in 0..STARTS {
                runtime.block_on(first_answer());
            }
            if pair > 0 {
                figures.push(start.elapsed().as_secs_f64() * 1_000.0 / STARTS as f64);
            }
        }
        report.against(ready, Unit::Milliseconds, READY_MS_MAX, &figures);
    }
    Ok(())
}

fn one_thread() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// From nothing to a first answer; the end of the cluster is included.
async fn first_answer() {
    let cluster = TestCluster::start().await;
    let (status, _) = send(&mut cluster.client(), "GET", "/api/v1/nodes", String::new()).await;
    assert_eq!(status, StatusCode::OK);
}

fn ours() -> Result<f64, Box<dyn std::error::Error + Send + Sync>> {
    let runtime = one_thread()?;
    runtime.block_on(async {
        let cluster = Cluster::builder().store(MemStore::new()).start().await?;
        let rate = per_second(Api::new(cluster.clone())).await;
        cluster.shutdown(false).await;
        Ok(rate)
    })
}

fn theirs() -> std::io::Result<f64> {
    Ok(one_thread()?.block_on(per_second(Bare::default())))
}

/// Returns pairs of a create and a get per second.
async fn per_second<S, B>(mut service: S) -> f64
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body,
{
    let start = Instant::now();
    for number in 0..OBJECTS {
        let map = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"m{number}"}},"data":{{"key":"value"}}}}"#
        );
        let (status, _) = send(&mut service, "POST", MAPS, map).await;
        assert_eq!(status, StatusCode::CREATED);
        let path = format!("{MAPS}/m{number}");
        let (status, length) = send(&mut service, "GET", &path, String::new()).await;
        assert!(status == StatusCode::OK && length > 50);
    }
    OBJECTS as f64 / start.elapsed().as_secs_f64()
}

/// Returns the status of an answer and the length of its body.
async fn send<S, B>(service: &mut S, method: &str, path: &str, body: String) -> (StatusCode, usize)
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body,
{
    let request = Request::builder().method(method).uri(path);
    let request = request.header("Content-Type", "application/json");
    let request = request.body(Full::from(body)).expect("a path");
    let Ok(response) = service.call(request).await;
    let status = response.status();
    let body = response.into_body().collect().await;
    (status, body.map_or(0, |body| body.to_bytes().len()))
}

/// Keeps bodies in a map.
#[derive(Clone, Default)]
struct Bare(Arc<Mutex<HashMap<String, Bytes>>>);

impl Service<Request<Full<Bytes>>> for Bare {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let maps = self.clone();
        Box::pin(async move { Ok(maps.answer(request).await) })
    }
}

impl Bare {
    async fn answer(&self, request: Request<Full<Bytes>>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let Ok(bytes) = body.collect().await.map(http_body_util::Collected::to_bytes);
        let (status, bytes) = if parts.method == http::Method::POST {
            let map: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
            let path = format!(
                "{}/{}",
                parts.uri.path(),
                map["metadata"]["name"].as_str().expect("a name")
            );
            let bytes = Bytes::from(map.to_string());
            self.lock().insert(path, bytes.clone());
            (StatusCode::CREATED, bytes)
        } else {
            (StatusCode::OK, self.lock().get(parts.uri.path()).cloned().unwrap_or_default())
        };
        let mut response = Response::new(Full::from(bytes));
        *response.status_mut() = status;
        response
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
