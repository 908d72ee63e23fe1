//! `Daemon`: an `orchd dev`, server or agent of a test's own, and calls of `orchd` as its client.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running `orchd dev`, server or agent. Dropped, it is told to stop, and waited for.
pub struct Daemon {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// The line it printed when it was ready.
    pub ready: String,
    pub kubeconfig: PathBuf,
    /// A directory for the test's files; the data directory is in it unless the test has its own.
    pub dir: TempDir,
}

/// What a call of `orchd` left.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// The program under test, with nothing of the tester's own clusters in its environment.
pub fn orchd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orchd"));
    command.env_remove("KUBECONFIG").env_remove("ORCHD_LOG").env("HOME", "/nonexistent");
    command.env_remove("XDG_DATA_HOME").stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    Ran::from(command.output().expect("orchd runs"))
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Daemon {
    /// Starts one in a directory of its own; its pods end with it.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        Self::start_on(&data, &["--stop-pods"], dir)
    }

    /// Starts one on a data directory.
    pub fn start_on(data: &Path, arguments: &[&str], dir: TempDir) -> Self {
        let mut command = dev(data);
        command.args(arguments);
        Self::ready(command, data.join("kubeconfig"), dir)
    }

    /// Starts what says that it is ready, beside a kubeconfig for its clients.
    #[track_caller]
    pub fn ready(command: Command, kubeconfig: PathBuf, dir: TempDir) -> Self {
        let mut daemon = Self::begin(command, kubeconfig, dir);
        daemon.becomes_ready();
        daemon
    }

    /// Starts what is to say later that it is ready.
    pub fn begin(mut command: Command, kubeconfig: PathBuf, dir: TempDir) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, stdout, ready: String::new(), kubeconfig, dir }
    }

    /// Waits until it says that it is ready.
    #[track_caller]
    pub fn becomes_ready(&mut self) {
        self.stdout.read_line(&mut self.ready).expect("text");
        assert!(self.ready.starts_with("ready"), "it said {:?}", self.ready);
    }

    /// What others on the machine can read of how it was started.
    pub fn command_line_and_environment(&self) -> String {
        let read = |name: &str| std::fs::read(self.proc().join(name)).expect("it runs");
        let bytes = [read("cmdline"), read("environ")].concat();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    }

    /// Where Linux tells of the process.
    pub fn proc(&self) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string())
    }

    /// A call as a client of this daemon.
    pub fn client(&self, arguments: &[&str]) -> Command {
        let mut command = orchd();
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig).current_dir(self.dir.path());
        command
    }

    /// Calls and returns what came of it.
    pub fn call(&self, arguments: &[&str]) -> Ran {
        run(&mut self.client(arguments))
    }

    /// Calls, expects success, and returns the output.
    #[track_caller]
    pub fn done(&self, arguments: &[&str]) -> String {
        let ran = self.call(arguments);
        assert_eq!(ran.code, Some(0), "orchd {arguments:?}: {ran:?}");
        ran.out
    }

    /// Calls, expects an exit code that is none of success, and returns what was said on standard error.
    #[track_caller]
    pub fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let ran = self.call(arguments);
        assert_eq!(ran.code, Some(code), "orchd {arguments:?}: {ran:?}");
        ran.err
    }

    /// Calls with a text on standard input.
    pub fn call_with(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = self.client(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("orchd runs");
        let mut stdin = child.stdin.take().expect("piped");
        // It may refuse before it has read everything.
        let _ = stdin.write_all(input);
        drop(stdin);
        Ran::from(child.wait_with_output().expect("it ends"))
    }

    /// Applies a manifest and expects success.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        let ran = self.call_with(&["apply", "-f", "-"], manifest.as_bytes());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.out
    }

    /// Writes a file into the test's directory.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
        std::fs::write(path, content).expect("a file");
    }

    /// Reads objects as JSON.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.done(&[&["get", "-o", "json"], arguments].concat());
        serde_json::from_str(&text).expect("JSON")
    }

    /// The names of the pods there are.
    pub fn pods(&self) -> Vec<String> {
        let names = self.done(&["get", "pods", "-o", "name"]);
        names.lines().map(|line| line.trim_start_matches("pod/").to_owned()).collect()
    }

    /// Ends it without a chance to say anything.
    pub fn kill(mut self) -> TempDir {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
        std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a directory"))
    }

    /// Tells it to stop and returns its exit code.
    pub fn stop(mut self) -> (Option<i32>, TempDir) {
        let code = self.end();
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a directory"));
        (code, dir)
    }

    fn end(&mut self) -> Option<i32> {
        signal(&self.child.id().to_string(), "TERM");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        None
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.end();
        }
    }
}

/// `orchd dev` on a data directory, not started yet.
pub fn dev(data: &Path) -> Command {
    let mut command = orchd();
    command
        .args(["dev", "--runtime", "process", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data);
    command
}

/// Sends a signal.
pub fn signal(pid: &str, name: &str) {
    let sent = Command::new("/bin/sh").args(["-c", &format!("kill -{name} {pid}")]).status();
    assert!(sent.is_ok_and(|status| status.success()), "cannot send {name} to {pid}");
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A Deployment whose pods run a shell script.
pub fn deployment(name: &str, replicas: u32, script: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
spec:
  replicas: {replicas}
  selector:
    matchLabels: {{app: {name}}}
  template:
    metadata:
      labels: {{app: {name}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: main
        image: none
        imagePullPolicy: Never
        command: [/bin/sh, -c, {script:?}]
"
    )
}

/// A Pod whose containers run shell scripts once.
pub fn pod(name: &str, containers: &[(&str, &str)]) -> String {
    let mut text = format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: {name}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
  containers:
"
    );
    for (name, script) in containers {
        text.push_str(&format!(
            "  - name: {name}
    image: none
    imagePullPolicy: Never
    command: [/bin/sh, -c, {script:?}]
"
        ));
    }
    text
}
