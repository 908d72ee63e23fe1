//! `Orchd`: the daemon as users run it, as a child process.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use orchestrator_core::model::{Key, Kind};
use orchestrator_core::runtime::Scope;
use orchestrator_http::Client;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::rig::{NODE, Platform, Rig, cluster_id};

/// How long orchd may take to start, to end, or to refuse.
const WITHIN: Duration = Duration::from_secs(60);

/// Builds orchd, once, and returns where it lies.
///
/// # Panics
/// When it does not build.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let output = std::process::Command::new(env!("CARGO"))
            .args(["build", "--offline", "--package", "orchd", "--message-format=json"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .output()
            .expect("cargo runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let messages = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        let program = messages
            .filter(|message: &serde_json::Value| message["target"]["name"] == "orchd")
            .find_map(|message| message["executable"].as_str().map(PathBuf::from));
        program.unwrap_or_else(|| {
            panic!("orchd does not build: {}", String::from_utf8_lossy(&output.stderr))
        })
    })
}

/// A running `orchd dev`. Dropping it kills it; its pods stay.
#[derive(Debug)]
pub struct Orchd {
    child: Child,
    /// A client of it.
    pub client: Client,
    /// Its line `ready`.
    pub ready: String,
}

/// How an orchd ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit status.
    pub status: ExitStatus,
    /// What it printed on standard output.
    pub stdout: String,
    /// What it printed on standard error.
    pub stderr: String,
}

/// Prepares a run of orchd.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    for name in ["DOCKER_HOST", "KUBECONFIG", "ORCHD_LOG", "XDG_DATA_HOME"] {
        command.env_remove(name);
    }
    command
}

/// Runs orchd to its end.
///
/// # Panics
/// When it does not end within a minute.
pub async fn run(mut command: Command) -> Ended {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("orchd runs");
    let output = tokio::time::timeout(WITHIN * 5, child.wait_with_output()).await;
    let output = output.expect("orchd ends in time").expect("orchd is waited for");
    Ended {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Orchd {
    /// Starts `orchd dev` on a rig's data directory and runtime, and waits for its line `ready`.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start(rig: &Rig) -> Self {
        let (runtime, host) = match &rig.platform {
            Platform::Docker(engine, _) => ("docker", engine.host()),
            Platform::Process(_) => ("process", ""),
        };
        Self::start_in(&rig.data_dir(), runtime, host).await
    }

    /// Starts `orchd dev` on a data directory, and waits for its line `ready`.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_in(data_dir: &Path, runtime: &str, docker_host: &str) -> Self {
        Self::start_with(data_dir, &["--runtime", runtime], docker_host).await
    }

    /// As [`Self::start_in`], with options besides the data directory and the address.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_with(data_dir: &Path, options: &[&str], docker_host: &str) -> Self {
        let mut errors = tempfile::tempfile().expect("a temporary file");
        let stderr = errors.try_clone().expect("a descriptor");
        let data = data_dir.to_str().expect("paths of tests are text");
        let mut command = command(&["dev", "--data-dir", data, "--listen", "127.0.0.1:0"]);
        command.args(options).env("DOCKER_HOST", docker_host);
        let child = command.stdout(Stdio::piped()).stderr(stderr).spawn();
        let mut child = child.expect("orchd runs");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = tokio::time::timeout(WITHIN, lines.next_line()).await;
        let line = line.ok().and_then(Result::ok).flatten().unwrap_or_default();
        if !line.starts_with("ready") {
            // What it has said so far lies before the shared position.
            let mut said = String::new();
            let _ = std::io::Seek::rewind(&mut errors);
            let _ = errors.read_to_string(&mut said);
            panic!("orchd is not ready within {WITHIN:?}: {line:?} {said}");
        }
        let kubeconfig = data_dir.join("kubeconfig");
        let client = Client::from_kubeconfig(&kubeconfig).expect("orchd wrote its kubeconfig");
        Self { child, client, ready: line }
    }

    /// The scope of its pods.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn scope(&self) -> Scope {
        let key = Key::cluster(Kind::Namespace, "kube-system");
        let system = self.client.get(&key).await.expect("every cluster has it");
        let uid = system["metadata"]["uid"].as_str().expect("every object has one");
        Scope { cluster: cluster_id(uid), node: NODE.to_owned() }
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it has ended.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Kills it with KILL and waits for its end.
    ///
    /// # Panics
    /// When it has ended already.
    pub async fn kill(mut self) {
        self.child.start_kill().expect("it runs");
        let status = self.child.wait().await.expect("it is waited for");
        assert_eq!(status.code(), None, "it was killed, and did not end by itself before");
    }

    /// Asks it to stop with TERM, and returns how it ended.
    ///
    /// # Panics
    /// When it does not end within a minute.
    pub async fn stop(mut self) -> ExitStatus {
        let pid = self.pid().to_string();
        let asked = std::process::Command::new("kill").arg(pid).status();
        assert!(asked.expect("kill runs").success());
        let status = tokio::time::timeout(WITHIN, self.child.wait()).await;
        status.expect("it ends in time").expect("it is waited for")
    }
}
