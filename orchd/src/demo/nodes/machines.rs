//! `Machines`: nodes that are machines made of namespaces, each with a Docker engine. When they are gone, so is everything of theirs.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use orchd_machines::{Engine, Lan, Machine};
use orchestrator_docker::DockerRuntime;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::said_ready;
use crate::demo::image;

/// The port at which the server is found on the machines' network.
const SERVER_PORT: u16 = 6443;

/// Machines on a network of their own.
pub struct Machines {
    machines: BTreeMap<String, Machine>,
    lan: Lan,
    program: PathBuf,
    relay: JoinHandle<()>,
}

impl Machines {
    /// Makes the network, on which the server at a URL of this machine's loopback is found too.
    pub fn new(server: &str) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let lan = Lan::create()?;
        let listener = lan.listen(SERVER_PORT)?;
        listener.set_nonblocking(true)?;
        let server = server.trim_start_matches("https://").to_owned();
        let relay = tokio::spawn(relay(TcpListener::from_std(listener)?, server));
        Ok(Self { machines: BTreeMap::new(), lan, program, relay })
    }

    /// Boots a machine, gives its engine the demo's image, and has its agent join.
    pub async fn add(&mut self, name: &str, token: &str, tag: &str) -> anyhow::Result<()> {
        let machine = self.lan.boot(&self.program, name)?;
        // In the map before anything can fail, so that it ends with the others.
        let machine = self.machines.entry(name.to_owned()).or_insert(machine);
        let engine = engine(machine).await?;
        let docker = DockerRuntime::connect_to(&engine).await?;
        image::build(&docker, tag).await?;
        agent(machine, &self.program, Some(token), &engine).await
    }

    /// Pulls a machine's plug.
    pub fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        self.machine(name)?.switch_off();
        Ok(())
    }

    /// Switches a machine on again, with what it has on its disk.
    pub async fn revive(&mut self, name: &str) -> anyhow::Result<()> {
        let program = self.program.clone();
        let machine = self.machine(name)?;
        machine.switch_on()?;
        let engine = engine(machine).await?;
        agent(machine, &program, None, &engine).await
    }

    /// Switches everything off.
    pub fn end(self) {
        self.relay.abort();
        drop(self.machines);
    }

    fn machine(&mut self, name: &str) -> anyhow::Result<&mut Machine> {
        self.machines.get_mut(name).with_context(|| format!("there is no {name}"))
    }
}

/// Starts a machine's engine; returns its address.
async fn engine(machine: &mut Machine) -> anyhow::Result<String> {
    let engine = Engine::start(machine)?;
    let waited = engine.clone();
    tokio::task::spawn_blocking(move || waited.ready()).await.context("waiting panicked")??;
    Ok(format!("unix://{}", engine.socket().display()))
}

/// Starts a machine's agent, and waits until its node is Ready.
async fn agent(
    machine: &mut Machine,
    program: &Path,
    token: Option<&str>,
    engine: &str,
) -> anyhow::Result<()> {
    let output = machine.dir().join("agent.log");
    let log = File::create(&output).context("cannot write a log")?;
    let mut command = Command::new(program);
    command.args(["agent", "--runtime", "docker", "--name", machine.name(), "--data-dir"]);
    command.arg(machine.dir().join("agent")).env("DOCKER_HOST", engine);
    if let Some(token) = token {
        let server = format!("https://{}:{SERVER_PORT}", Lan::GATEWAY);
        command.args(["--server", &server]).env("ORCHD_TOKEN", token);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let process = machine.spawn(&mut command)?;
    said_ready(&output, || process.ended().is_some()).await
}

/// Carries every connection to the server on this machine's loopback, which machines do not reach.
async fn relay(listener: TcpListener, server: String) {
    while let Ok((mut from, _)) = listener.accept().await {
        let server = server.clone();
        tokio::spawn(async move {
            let carried: anyhow::Result<()> = async {
                let mut to = TcpStream::connect(&server).await?;
                tokio::io::copy_bidirectional(&mut from, &mut to).await?;
                Ok(())
            }
            .await;
            if let Err(error) = carried {
                tracing::debug!(%error, "a connection of a machine's ended");
            }
        });
    }
}
