//! The demo's own client: fetches pages from the Ready pods, as any client of the workload would.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use orchestrator_core::driver::Cluster;
use orchestrator_core::model::{LabelSelector, Pod};
use orchestrator_core::world::World;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The port the workload answers on.
pub const PORT: u16 = 8080;
/// How long a fetch may take.
const FETCH_WITHIN: Duration = Duration::from_secs(5);
/// The pause between two fetches.
const PAUSE: Duration = Duration::from_millis(5);

/// Fetches the page of one pod.
pub async fn fetch(ip: &str) -> anyhow::Result<String> {
    let ip: IpAddr = ip.parse().with_context(|| format!("{ip:?} is no address"))?;
    let page = async {
        let stream = TcpStream::connect(SocketAddr::new(ip, PORT)).await.context("connect")?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let request =
            Request::get("/").header("host", ip.to_string()).body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await.context("request")?;
        let status = response.status();
        let body = response.into_body().collect().await.context("body")?.to_bytes();
        drop(sender);
        driver.await?.context("connection")?;
        if !status.is_success() {
            bail!("status {status}");
        }
        Ok(String::from_utf8_lossy(&body).trim().to_owned())
    };
    tokio::time::timeout(FETCH_WITHIN, page)
        .await
        .with_context(|| format!("no page within {FETCH_WITHIN:?}"))?
}

/// The Ready pods of the demo that are not about to go.
pub fn ready_pods(cluster: &Cluster) -> Vec<Arc<Pod>> {
    ready_in(&cluster.world())
}

/// The Ready pods of the demo in a world that are not about to go.
pub fn ready_in(world: &World) -> Vec<Arc<Pod>> {
    let selector: LabelSelector =
        LabelSelector::from_labels([("app".to_owned(), "web".to_owned())].into());
    world
        .all::<Pod>(Some("default"))
        .filter(|pod| selector.matches(&pod.metadata.labels) && pod.is_active() && pod.is_ready())
        .cloned()
        .collect()
}

/// What a client saw.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub fetched: u64,
    pub failures: Vec<String>,
}

/// A client that fetches from the Ready pods in turn until told to stop.
pub struct Client {
    stop: Arc<Notify>,
    task: JoinHandle<Tally>,
}

impl Client {
    /// Starts fetching.
    pub fn start(cluster: Cluster) -> Self {
        let stop = Arc::new(Notify::new());
        let told = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut tally = Tally::default();
            let mut turn = 0;
            loop {
                let pods = ready_pods(&cluster);
                if let Some(pod) = pods.get(turn % pods.len().max(1)) {
                    match fetch(&pod.status.pod_ip).await {
                        Ok(_) => tally.fetched += 1,
                        Err(error) => {
                            tally.failures.push(format!("{}: {error:#}", pod.metadata.name))
                        }
                    }
                }
                turn += 1;
                tokio::select! {
                    () = told.notified() => return tally,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        });
        Self { stop, task }
    }

    /// Stops, and returns what was seen.
    pub async fn stop(self) -> anyhow::Result<Tally> {
        self.stop.notify_one();
        self.task.await.context("the client panicked")
    }
}
