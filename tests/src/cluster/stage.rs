//! `Stage`: the thread on which a cluster lives, in whose network every scenario is.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use orchd_machines::Lan;
use tokio::runtime::{Builder, Runtime};

use super::rig::ClusterRig;

/// The nodes of the cluster that scenarios share.
const SHARED_NODES: [&str; 3] = ["a", "b", "c"];

type Job = Box<dyn FnOnce(&mut Cast) + Send>;

/// A cluster that plays one scenario after the other. When it is dropped the cluster is gone.
#[derive(Debug)]
pub(super) struct Stage {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// What lives on the thread: the cluster, once a scenario has asked for it, and until one has failed.
struct Cast {
    nodes: Vec<String>,
    cluster: Option<(ClusterRig, Runtime)>,
}

impl Stage {
    pub(super) fn new(nodes: &[&str]) -> Self {
        let nodes = nodes.iter().map(|name| (*name).to_owned()).collect();
        let (jobs, asked) = channel::<Job>();
        // Of its own: the network that a thread enters it never leaves.
        let thread = std::thread::spawn(move || {
            let mut cast = Cast { nodes, cluster: None };
            for job in asked {
                job(&mut cast);
            }
            cast.leave();
        });
        Self { jobs: Some(jobs), thread: Some(thread) }
    }

    /// Plays a scenario.
    ///
    /// # Panics
    /// When it fails, with what the cluster's programs have said.
    pub(super) fn play(&self, scenario: impl AsyncFnOnce(&mut ClusterRig) + Send + 'static) {
        let (done, outcome) = channel();
        // The test's, by which its progress is told.
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        let job: Job = Box::new(move |cast| {
            let _ = done.send(cast.play(name, scenario));
        });
        self.jobs.as_ref().expect("not dropped").send(job).expect("the stage's thread runs");
        if let Err(why) = outcome.recv().expect("the stage's thread runs") {
            panic!("{why}");
        }
    }
}

/// The clusters that scenarios share: as many as there are scenarios at a time, each with one after the other.
#[derive(Debug, Default)]
pub(super) struct Stages {
    idle: Vec<Stage>,
    /// How many scenarios are being played.
    playing: usize,
}

static STAGES: Mutex<Stages> = Mutex::new(Stages { idle: Vec::new(), playing: 0 });

impl Stages {
    /// Plays a scenario on a cluster that nobody else has just now, or else on a new one.
    ///
    /// # Panics
    /// When it fails, with what the cluster's programs have said.
    pub(super) fn play(scenario: impl AsyncFnOnce(&mut ClusterRig) + Send + 'static) {
        // Also after a scenario that fails.
        let lent = Lent(Some(Self::take()));
        lent.0.as_ref().expect("it has one").play(scenario);
    }

    fn take() -> Stage {
        let mut stages = Self::lock();
        stages.playing += 1;
        let idle = stages.idle.pop();
        drop(stages);
        idle.unwrap_or_else(|| Stage::new(&SHARED_NODES))
    }

    fn give_back(stage: Stage) {
        let mut stages = Self::lock();
        stages.playing -= 1;
        stages.idle.push(stage);
        // Nobody is there who would say when the last one has ended.
        let over = if stages.playing == 0 { std::mem::take(&mut stages.idle) } else { Vec::new() };
        drop(stages);
        drop(over);
    }

    fn lock() -> MutexGuard<'static, Self> {
        STAGES.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stage that goes back to the others.
struct Lent(Option<Stage>);

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(stage) = self.0.take() {
            Stages::give_back(stage);
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Cast {
    fn play(
        &mut self,
        name: String,
        scenario: impl AsyncFnOnce(&mut ClusterRig),
    ) -> Result<(), String> {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let (rig, runtime) = self.cluster.get_or_insert_with(|| {
                let runtime = enter();
                let nodes: Vec<&str> = self.nodes.iter().map(String::as_str).collect();
                let rig = runtime.1.block_on(ClusterRig::start(runtime.0, &nodes));
                (rig, runtime.1)
            });
            rig.scenario = name;
            runtime.block_on(async {
                scenario(rig).await;
                rig.judge().await;
                rig.clear().await;
            });
        }));
        outcome.map_err(|panic| {
            let logs = self.cluster.as_ref().map(|(rig, _)| rig.logs()).unwrap_or_default();
            // What a scenario has left is no place for another.
            self.leave();
            format!("{}\n{logs}", message(&*panic))
        })
    }

    fn leave(&mut self) {
        if let Some((rig, runtime)) = self.cluster.take() {
            let _inside = runtime.enter();
            drop(rig);
        }
    }
}

/// Makes a network, and puts this thread and those of a runtime on it.
fn enter() -> (Lan, Runtime) {
    let lan = Lan::create().expect("machines can be made here; this needs root");
    lan.enter().expect("a thread enters the network");
    let everybody = lan.clone();
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .on_thread_start(move || everybody.enter().expect("a thread enters the network"))
        .build();
    (lan, runtime.expect("a runtime starts"))
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the scenario failed")
}
