//! `TestCluster`: an API server in memory, with the real engine, simulated nodes, and a clock that the test moves.
//!
//! For authors of Kubernetes clients and controllers, and of controllers for this library. Nothing listens on a socket, nothing is
//! written to disk, and five minutes of back-off pass at once.
//!
//! ```
//! use std::time::Duration;
//!
//! use orchestrator_core::model::Deployment;
//! use orchestrator_core::testkit::sim_runtime::SimProgram;
//! use orchestrator_http::testkit::TestCluster;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = TestCluster::start().await;
//! // kube::Client::new(cluster.client(), "default") is a client of kube-rs.
//! cluster.runtime().set_program("slow:1", SimProgram::ready_after(30_000));
//! cluster.cluster().apply(Deployment::new("web", "slow:1").replicas(3)).await?;
//! cluster.advance(Duration::from_secs(60)).await;
//! assert_eq!(cluster.cluster().world().deployment("web").status.ready_replicas, 3);
//! cluster.shutdown().await;
//! # Ok(()) }
//! ```

mod own_time;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use orchestrator_core::driver::{Clock as _, Cluster, ClusterBuilder, Machine};
use orchestrator_core::mem::MemStore;
use orchestrator_core::model::{Revision, Timestamp};
use orchestrator_core::testkit::clock::TokioClock;
use orchestrator_core::testkit::sim_runtime::{SimProgram, SimRuntime};
use orchestrator_core::testkit::uids;
use tokio::task::JoinHandle;

use crate::{Api, FairnessLimits};
use own_time::OwnTime;

/// The time at which a test cluster starts: 2026-01-01T00:00:00Z.
pub const STARTS_AT: Timestamp = Timestamp::from_millis(1_767_225_600_000);
/// How many commits may happen until a cluster comes to rest; more are two controllers that undo each other's work.
pub const COMMITS_UNTIL_REST_MAX: u64 = 1_000_000;

/// How long nodes may take to get ready, in turns of [`NODE_TURN`].
const NODE_TURNS_MAX: usize = 100;
const NODE_TURN: Duration = Duration::from_millis(100);

/// A cluster in memory whose clock the test moves. It ends when it is dropped.
///
/// The cluster lives in a thread of its own, where time stands still unless the test moves it. Equal requests at equal times lead
/// to equal objects, names, revisions, times and uids included, as long as the test lets the cluster come to rest
/// ([`Self::settle`], [`Self::advance`]) before it asks for the next thing.
pub struct TestCluster {
    time: OwnTime,
    clock: TokioClock,
    cluster: Cluster,
    runtime: SimRuntime,
    /// For clients in the test's time.
    api: Api,
    /// For what runs in the cluster's time. An API measures its clients' rates in their time, so one cannot serve both.
    inner_api: Api,
}

impl fmt::Debug for TestCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestCluster").field("now", &self.now()).finish_non_exhaustive()
    }
}

/// Says what a test cluster is like. Made by [`TestCluster::builder`].
#[must_use]
pub struct TestClusterBuilder {
    nodes: usize,
    machine: Machine,
    programs: Vec<(String, SimProgram)>,
    configure: Box<dyn FnOnce(ClusterBuilder) -> ClusterBuilder + Send>,
}

impl TestCluster {
    /// Starts a cluster of one node, `node-1`; when this returns the node is ready.
    ///
    /// # Panics
    /// When the system has no thread for it.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Begins to say what a cluster is like.
    pub fn builder() -> TestClusterBuilder {
        TestClusterBuilder {
            nodes: 1,
            machine: Machine::MadeUp { cpus: 8, memory_bytes: 32 << 30, disk_bytes: 100 << 30 },
            programs: Vec::new(),
            configure: Box::new(|builder| builder),
        }
    }

    /// The API, as a `tower` service: what clients are made from, `kube::Client::new(cluster.client(), "default")` for one.
    /// Every request is the administrator's.
    ///
    /// Requests are answered in the tokio runtime of whoever asks: limits of requests and watches follow that one's time. What is
    /// [spawned](Self::spawn) beside the cluster gets an API of its own.
    pub fn client(&self) -> Api {
        self.api.clone()
    }

    /// The cluster, as an embedder holds it.
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The runtime of all nodes: it says what images do, and loses, kills and fails what a test wants lost, killed or failed.
    pub const fn runtime(&self) -> &SimRuntime {
        &self.runtime
    }

    /// The time in the cluster.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The cluster's clock, for controllers under test that compare times of objects with the time of day.
    pub fn clock(&self) -> TokioClock {
        self.clock.clone()
    }

    /// Runs a controller beside the cluster, in the cluster's time: its own timers (requeues, back-offs, debounces) follow
    /// [`Self::advance`], and [`Self::settle`] waits for it too. It ends with the cluster, or by `abort` on what is returned.
    ///
    /// Make its client inside, so that the client's own tasks run there as well:
    ///
    /// ```text
    /// cluster.spawn(|api| async { my_controller(kube::Client::new(api, "default")).await });
    /// ```
    pub fn spawn<F>(
        &self,
        controller: impl FnOnce(Api) -> F + Send + 'static,
    ) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let api = self.inner_api.clone();
        self.time.spawn(async move { controller(api).await })
    }

    /// Waits until the cluster has come to rest: until nothing in it, and nothing that was [spawned](Self::spawn) beside it,
    /// can go on unless time moves or somebody outside asks for something.
    ///
    /// Some things need time to pass even when nothing is slow: an agent waits a little before it looks again, a status is
    /// rolled up at most every 200 ms. After a change [`advance`](Self::advance) by a second or more.
    ///
    /// # Panics
    /// When that takes more than [`COMMITS_UNTIL_REST_MAX`] commits.
    pub async fn settle(&self) {
        self.bounded(self.time.settle()).await;
    }

    /// Moves the clock, and returns when the cluster has come to rest at the new time (see [`Self::settle`]).
    ///
    /// Time does not jump: everything that becomes due on the way (a probe, the end of a program, a back-off, a
    /// deadline) happens at its time and in its order, and what it leads to is done before the clock goes on. The
    /// clock counts in milliseconds; parts of one are rounded up.
    ///
    /// # Panics
    /// When that takes more than [`COMMITS_UNTIL_REST_MAX`] commits.
    pub async fn advance(&self, by: Duration) {
        self.bounded(self.time.advance(by)).await;
    }

    /// Stops the cluster and waits until everything in it has ended.
    pub async fn shutdown(self) {
        let cluster = self.cluster.clone();
        let stopped = self.time.spawn(async move { cluster.shutdown(false).await });
        // It cannot be cancelled: the runtime lives as long as `self`.
        let _ = stopped.await;
    }

    async fn bounded(&self, rest: impl Future<Output = ()>) {
        let last = Revision(self.cluster.world().revision().0 + COMMITS_UNTIL_REST_MAX);
        let too_many = self.cluster.wait_for(move |world| world.revision() > last);
        tokio::select! {
            biased;
            () = rest => {}
            Ok(_) = too_many => panic!(
                "the cluster does not come to rest: {COMMITS_UNTIL_REST_MAX} commits, and more to come; \
                do two controllers undo each other's work?"
            ),
        }
    }
}

impl TestClusterBuilder {
    /// Sets the number of nodes, `node-1` and so on; 1 otherwise.
    pub const fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// Sets what each node has; 8 CPUs and 32 GiB otherwise.
    pub const fn node_size(mut self, cpus: i64, memory_bytes: i64) -> Self {
        self.machine = Machine::MadeUp { cpus, memory_bytes, disk_bytes: 100 << 30 };
        self
    }

    /// Sets what containers of an image do; others run until they are ended, and every check of them succeeds.
    pub fn program(mut self, image: &str, program: SimProgram) -> Self {
        self.programs.push((image.to_owned(), program));
        self
    }

    /// Changes how the cluster is wired: another scheduler, controllers of your own.
    pub fn configure(
        mut self,
        configure: impl FnOnce(ClusterBuilder) -> ClusterBuilder + Send + 'static,
    ) -> Self {
        self.configure = Box::new(configure);
        self
    }

    /// Starts the cluster; when this returns its nodes are ready.
    ///
    /// # Panics
    /// When the system has no thread for it, or what was configured does not start.
    pub async fn start(self) -> TestCluster {
        let time = OwnTime::start().expect("the system has a thread for a test cluster");
        let starting = time.spawn(async move {
            let clock = TokioClock::new(STARTS_AT);
            let runtime = SimRuntime::new(Arc::new(clock.clone()));
            for (image, program) in self.programs {
                runtime.set_program(&image, program);
            }
            let (machine, network) = (self.machine, Arc::new(runtime.clone()));
            let mut builder = Cluster::builder()
                .store(MemStore::new())
                .clock(clock.clone())
                .uids(uids::counted(clock.clone()))
                .configure_node(move |node| {
                    node.machine = machine;
                    node.network = network.clone();
                });
            for number in 1..=self.nodes {
                let name = format!("node-{number}");
                builder = builder.further_node(&name, Arc::new(runtime.clone()));
            }
            (self.configure)(builder).start().await.map(|cluster| (clock, cluster, runtime))
        });
        let (clock, cluster, runtime) = starting
            .await
            .expect("starting a cluster does not panic")
            .expect("a cluster in memory starts");
        let api = || Api::with_limits(cluster.clone(), limits());
        let (api, inner_api) = (api(), api());
        let test_cluster = TestCluster { time, clock, cluster, runtime, api, inner_api };
        test_cluster.settle().await;
        for _ in 0..NODE_TURNS_MAX {
            let ready = test_cluster.cluster.node_ready();
            let is_ready = tokio::select! { biased; ready = ready => ready.is_ok(), () = std::future::ready(()) => false };
            if is_ready {
                return test_cluster;
            }
            test_cluster.advance(NODE_TURN).await;
        }
        panic!(
            "the nodes of the cluster did not get ready; what was configured keeps them from it"
        );
    }
}

/// Where time stands still, however much is done, a rate says nothing; the other limits are a server's.
fn limits() -> FairnessLimits {
    FairnessLimits {
        requests_per_second_max: 1_000_000_000,
        requests_burst_max: u32::MAX,
        ..FairnessLimits::default()
    }
}
