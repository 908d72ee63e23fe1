//! `Processes`: nodes that are agents on this machine, whose pods are processes.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use orchestrator_core::runtime::{Runtime as _, Scope};
use orchestrator_process::ProcessRuntime;
use tokio::process::{Child, Command};

use super::said_ready;

/// Agents on this machine, each with a directory of its own.
pub struct Processes {
    dir: PathBuf,
    server: String,
    agents: BTreeMap<String, Child>,
}

impl Processes {
    pub fn new(dir: &std::path::Path, server: &str) -> Self {
        Self { dir: dir.to_owned(), server: server.to_owned(), agents: BTreeMap::new() }
    }

    /// Has an agent join.
    pub async fn add(&mut self, name: &str, token: &str) -> anyhow::Result<()> {
        self.start(name, Some(token)).await
    }

    /// Starts an agent, which has joined unless there is a token, and waits until its node is Ready.
    pub async fn start(&mut self, name: &str, token: Option<&str>) -> anyhow::Result<()> {
        let output = self.dir.join(format!("{name}.log"));
        let log = File::create(&output).context("cannot write a log")?;
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut command = Command::new(program);
        command.args(["agent", "--runtime", "process", "--stop-pods", "--name", name]);
        command.arg("--data-dir").arg(self.dir.join(name));
        if let Some(token) = token {
            command.args(["--server", &self.server]).env("ORCHD_TOKEN", token);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let child = command.spawn().context("cannot start an agent")?;
        let pid = child.id();
        self.agents.insert(name.to_owned(), child);
        said_ready(&output, || !pid.is_some_and(runs)).await
    }

    /// Kills an agent, and then every process of its pods, as nobody would be there to start them again.
    pub async fn kill(&mut self, name: &str, cluster: &str) -> anyhow::Result<()> {
        let mut agent = self.agents.remove(name).with_context(|| format!("there is no {name}"))?;
        agent.kill().await.context("cannot kill the agent")?;
        let runtime = ProcessRuntime::open(self.dir.join(name).join("process"))?;
        let scope = Scope { cluster: cluster.to_owned(), node: name.to_owned() };
        for sandbox in runtime.list(&scope).await? {
            for container in &sandbox.containers {
                runtime.stop_container(&container.key, 0).await?;
            }
        }
        Ok(())
    }

    /// Stops every agent, which ends what pods it still has.
    pub async fn end(mut self) -> anyhow::Result<()> {
        for agent in self.agents.values_mut() {
            if let Some(pid) = agent.id() {
                kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?;
            }
        }
        for (name, mut agent) in self.agents {
            agent.wait().await.with_context(|| format!("{name} does not end"))?;
        }
        Ok(())
    }
}

/// Whether a process that this one has started has not ended.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
