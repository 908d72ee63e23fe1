//! A process runtime in a temporary directory, and looks at the world behind its back.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use orchestrator_core::model::Uid;
use orchestrator_core::runtime::{
    ContainerKey, ContainerObservation, ContainerSpec, Limits, Runtime, SandboxKey, SandboxSpec,
    Scope, StandardStreams,
};
use orchestrator_core::testkit::runtime::RuntimeFixture;
use orchestrator_core::testkit::runtime::bench::eventually;
use orchestrator_process::ProcessRuntime;
use tempfile::TempDir;

use crate::helper;

#[derive(Debug)]
pub struct Fixture {
    pub runtime: Arc<ProcessRuntime>,
    pub state: TempDir,
}

impl Fixture {
    pub fn new() -> Self {
        let state = tempfile::tempdir().expect("a temporary directory");
        let runtime = ProcessRuntime::open(state.path().join("state")).expect("opened");
        Self { runtime: Arc::new(runtime), state }
    }
}

#[async_trait::async_trait]
impl RuntimeFixture for Fixture {
    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::clone(&self.runtime) as Arc<dyn Runtime>
    }

    async fn another(&self) -> Arc<dyn Runtime> {
        Arc::new(ProcessRuntime::open(self.state.path().join("state")).expect("opened"))
    }

    fn image(&self) -> String {
        String::new()
    }

    fn port(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        listener.local_addr().expect("bound").port()
    }

    fn listen(&self, address: &str, port: u16) -> String {
        helper::command("listen", &format!("ADDRESS={address} PORT={port}"))
    }

    fn connect(&self, address: &str, port: u16) -> String {
        helper::command("connect", &format!("ADDRESS={address} PORT={port}"))
    }

    async fn kill_outside(&self, container: &ContainerObservation) {
        kill_pid(pid_of(&self.runtime, &container.key));
    }

    async fn assert_nothing_left(&self, scope: &Scope) {
        nothing_left(&scope.cluster).await;
    }
}

pub fn pid_of(runtime: &ProcessRuntime, key: &ContainerKey) -> i32 {
    let pid = runtime.process_id(key).expect("the container exists").expect("it runs");
    i32::try_from(pid).expect("a pid")
}

pub fn kill_pid(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("the process is there");
}

/// Returns the parent of a process.
pub fn parent_of(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    let fields = stat.rsplit_once(')').expect("a name").1;
    fields.split_whitespace().nth(1).expect("a parent").parse().expect("a pid")
}

/// Returns the processes with `text` in their arguments or environment.
pub fn processes_with(text: &str) -> Vec<i32> {
    let holds = |path: String| {
        let bytes = fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains(text)
    };
    let entries = fs::read_dir("/proc").expect("/proc is there").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        holds(format!("/proc/{pid}/cmdline")) || holds(format!("/proc/{pid}/environ"))
    })
    .filter(|pid| u32::try_from(*pid) != Ok(std::process::id()))
    .collect()
}

/// Waits until the machine has no process and no claim of a cluster.
pub async fn nothing_left(cluster: &str) {
    let claims = format!("/tmp/orchestrator-process-{}", geteuid());
    let path = format!("/pods/{cluster}/");
    eventually("nothing is left", || async {
        let claimed =
            fs::read_dir(&claims).into_iter().flatten().flatten().any(|entry| {
                fs::read_to_string(entry.path()).is_ok_and(|owner| owner.contains(&path))
            });
        (processes_with(&path).is_empty() && !claimed).then_some(())
    })
    .await;
}

pub fn sandbox(cluster: &str) -> SandboxSpec {
    let scope = Scope { cluster: cluster.to_owned(), node: "n1".to_owned() };
    let pod = Uid::from_uuid(uuid::Uuid::new_v4());
    SandboxSpec {
        key: SandboxKey { scope, pod, attempt: 0 },
        namespace: "default".to_owned(),
        name: "web-1".to_owned(),
        ports: Vec::new(),
    }
}

pub fn container(sandbox: &SandboxKey, name: &str, script: &str) -> ContainerSpec {
    ContainerSpec {
        key: ContainerKey { sandbox: sandbox.clone(), name: name.to_owned(), attempt: 0 },
        image: String::new(),
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        args: Vec::new(),
        working_dir: String::new(),
        env: Vec::new(),
        limits: Limits::default(),
        stdio: StandardStreams::default(),
    }
}

/// Starts a pod with a container `waits`, which ends with 7 when its state directory has a file `go` beside it, a
/// container `stays`, and a container `repeats` what it is sent.
pub async fn start_pod(state: &Path, cluster: &str) -> SandboxSpec {
    let runtime = ProcessRuntime::open(state).expect("opened");
    let pod = sandbox(cluster);
    runtime.create_sandbox(&pod).await.expect("made");
    let go = state.with_file_name("go");
    let waits = format!(
        "echo waits; while [ ! -e '{}' ]; do sleep 0.1; done; echo goes; exit 7",
        go.display()
    );
    for (name, script) in [("waits", waits.as_str()), ("stays", "sleep 1000"), ("repeats", "cat")] {
        let mut spec = container(&pod.key, name, script);
        spec.stdio.stdin = name == "repeats";
        runtime.create_container(&spec).await.expect("made");
        runtime.start_container(&spec.key).await.expect("started");
    }
    pod
}
