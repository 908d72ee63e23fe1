//! `Node`: a machine with a Docker engine and an agent.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use orchd_machines::{Engine, Lan, Machine, Process};
use serde_json::Value;

use super::engine_proxy::EngineProxy;
use super::image;
use super::record::{Happened, Record};
use super::wire::{self, Way};
use crate::engine::TestEngine;
use crate::orchd::program;
use crate::rig::poll;

/// A machine with a Docker engine and an agent, each of which may be there or not.
#[derive(Debug)]
pub struct Node {
    /// The machine.
    pub machine: Machine,
    engine: Option<Engine>,
    agent: Option<Process>,
    proxy: EngineProxy,
    record: Record,
}

impl Node {
    /// Boots a machine and starts its engine, but no agent.
    pub(super) async fn start(lan: &Lan, name: &str, record: &Record) -> Self {
        let machine = lan.boot(program(), name).expect("a machine boots");
        let sockets = ["docker.sock", "proxy.sock"].map(|file| machine.dir().join(file));
        let [engine, listen] = sockets;
        let proxy = EngineProxy::start(&engine, &listen);
        let record = record.clone();
        let mut node = Self { machine, engine: None, agent: None, proxy, record };
        node.start_engine().await;
        image::import(&engine).await;
        node.record.listen(name, &engine);
        node
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        self.machine.name()
    }

    /// The engine as an outsider sees it.
    pub fn engine(&self) -> TestEngine {
        TestEngine::at(&self.machine.dir().join("docker.sock"))
    }

    /// Whether the engine was started, and not killed since.
    pub const fn has_engine(&self) -> bool {
        self.engine.is_some()
    }

    /// Ends a container (`docker://…`) by killing its process, which the oracle is told.
    pub async fn kill_container(&self, container: &str) {
        let id = container.trim_start_matches("docker://").to_owned();
        self.record.note(Happened::Meant { id });
        self.engine().kill_process(container).await;
    }

    /// All containers of the engine, as it lists them, whatever state they are in.
    pub async fn containers(&self) -> Vec<Value> {
        let (code, list) = self.engine().call("GET", "/containers/json?all=true").await;
        assert_eq!(code, 200, "{list}");
        list.as_array().cloned().unwrap_or_default()
    }

    /// What stands between agent and engine.
    pub const fn proxy(&self) -> &EngineProxy {
        &self.proxy
    }

    /// The agent's data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.machine.dir().join("agent")
    }

    /// Starts the engine.
    pub async fn start_engine(&mut self) {
        assert!(self.engine.is_none(), "the engine runs");
        self.record.note(Happened::EngineStarted { node: self.name().to_owned() });
        let engine = Engine::start(&mut self.machine).expect("the engine starts");
        let waited = engine.clone();
        let ready = tokio::task::spawn_blocking(move || waited.ready()).await;
        ready.expect("no panic").expect("the engine answers");
        self.engine = Some(engine);
    }

    /// Kills the engine with KILL. Its next start ends what it ran.
    pub fn kill_engine(&mut self) {
        self.engine.take().expect("the engine runs").process().kill();
    }

    /// Stops the engine in its tracks; containers run on.
    pub fn pause_engine(&self) {
        signal(self.engine.as_ref().map(Engine::process), Signal::SIGSTOP);
    }

    /// Lets the engine go on.
    pub fn resume_engine(&self) {
        signal(self.engine.as_ref().map(Engine::process), Signal::SIGCONT);
    }

    /// Joins a cluster, and waits until the node is ready.
    pub async fn join(&mut self, server: &str, token: &str) {
        let mut command = self.agent_command(&self.data_dir());
        command.args(["--server", server, "--token", token, "--name", self.machine.name()]);
        self.start_agent_by(command).await;
    }

    /// Starts the agent of a node that has joined, and waits until the node is ready.
    pub async fn start_agent(&mut self) {
        let command = self.agent_command(&self.data_dir());
        self.start_agent_by(command).await;
    }

    /// Starts the agent without waiting: the server may be out of reach.
    pub fn launch_agent(&mut self) {
        let command = self.agent_command(&self.data_dir());
        self.launch(command);
    }

    /// Kills the agent with KILL.
    pub fn kill_agent(&mut self) {
        self.agent.take().expect("the agent runs").kill();
    }

    /// Stops the agent in its tracks.
    pub fn pause_agent(&self) {
        signal(self.agent.as_ref(), Signal::SIGSTOP);
    }

    /// Lets the agent go on.
    pub fn resume_agent(&self) {
        signal(self.agent.as_ref(), Signal::SIGCONT);
    }

    /// The agent's process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn agent(&self) -> &Process {
        self.agent.as_ref().expect("the agent runs")
    }

    /// Pulls the machine's plug.
    pub fn switch_off(&mut self) {
        self.machine.switch_off();
        (self.engine, self.agent) = (None, None);
        self.record.note(Happened::MachineLost { node: self.name().to_owned() });
    }

    /// Switches the machine on; engine and agent start as they would at boot.
    pub async fn switch_on(&mut self) {
        self.machine.switch_on().expect("a machine boots");
        self.start_engine().await;
        self.start_agent().await;
    }

    /// As [`Self::switch_on`], but the agent does not start.
    pub async fn switch_on_without_agent(&mut self) {
        self.machine.switch_on().expect("a machine boots");
        self.start_engine().await;
    }

    /// Makes it a machine that never joined: what its agent kept, and what it ran.
    pub async fn forget(&self) {
        std::fs::remove_dir_all(self.data_dir()).expect("the agent's directory");
        for container in self.containers().await {
            self.engine().remove_container(container["Id"].as_str().unwrap_or_default()).await;
        }
    }

    /// Waits until the engine has started so many containers from now on.
    pub async fn until_started(&self, more: usize) {
        let before = self.record.started_on(self.name());
        poll(&format!("{more} containers start"), || async {
            let started = self.record.started_on(self.name()) - before;
            if started >= more { Ok(()) } else { Err(started) }
        })
        .await;
    }

    /// Makes and starts a container as another (`docker://…`) is, labels and all; returns its id.
    pub async fn copy_container(&self, container: &str, name: &str) -> String {
        let id = container.trim_start_matches("docker://");
        let (code, mut found) = self.engine().call("GET", &format!("/containers/{id}/json")).await;
        assert_eq!(code, 200, "{found}");
        let mut body = found["Config"].take();
        body["HostConfig"] = found["HostConfig"].take();
        body["Hostname"] = Value::Null;
        let path = format!("/containers/create?name=copy-of-{name}");
        let (code, made) = self.engine().post(&path, &body).await;
        assert_eq!(code, 201, "{made}");
        let id = made["Id"].as_str().expect("an id").to_owned();
        let (code, answer) = self.engine().call("POST", &format!("/containers/{id}/start")).await;
        assert_eq!(code, 204, "{answer}");
        id
    }

    /// Runs an agent that is to be refused; returns what it says.
    pub fn refused(&mut self, command: &mut Command) -> String {
        let path = self.machine.dir().join("refused.log");
        command.stdout(Stdio::null()).stderr(File::create(&path).expect("a file"));
        let process = self.machine.spawn(command).expect("orchd runs");
        let ended = process.wait();
        let said = std::fs::read_to_string(&path).unwrap_or_default();
        assert_ne!(ended.and_then(|status| status.code()), Some(0), "{said}");
        said
    }

    /// Runs another agent on this machine, and waits until it says, among other things, each of these. It is killed then.
    ///
    /// # Panics
    /// When it ends, or does not say it in time.
    pub async fn until_said(&mut self, command: &mut Command, says: &[&str]) {
        let path = self.machine.dir().join("other.log");
        command.stdout(Stdio::null()).stderr(File::create(&path).expect("a file"));
        let process = self.machine.spawn(command).expect("orchd runs");
        poll(&format!("it says {says:?}"), || async {
            assert!(process.ended().is_none(), "it has ended");
            let said = std::fs::read_to_string(&path).unwrap_or_default();
            if says.iter().all(|it| said.contains(it)) { Ok(()) } else { Err(said) }
        })
        .await;
        process.kill();
    }

    /// Cuts the machine off, both ways.
    pub fn cut(&self) {
        self.cut_way(Way::In);
        self.cut_way(Way::Out);
    }

    /// Lets nothing reach the machine; what it sends arrives.
    pub fn deafen(&self) {
        self.cut_way(Way::In);
    }

    /// Lets nothing that the machine sends arrive; what is sent to it does.
    pub fn silence(&self) {
        self.cut_way(Way::Out);
    }

    /// Cuts the machine and its pods off from others, by an address or a range, one way.
    pub fn cut_from(&self, way: Way, others: &str) {
        wire::cut_from(&self.machine, way, others);
    }

    /// Loses so many percent of the machine's packets, both ways.
    pub fn lose(&self, percent: u8) {
        wire::lose(&self.machine, percent);
    }

    /// Lets the machine send only so many kilobits each second.
    pub fn slow(&self, kilobits: u32) {
        wire::slow(&self.machine, kilobits);
    }

    /// Takes every fault of the machine's network back.
    pub fn heal(&self) {
        wire::heal(&self.machine);
    }

    /// A run of `orchd agent` on a data directory, with what it says on standard error in a file beside it.
    pub fn agent_command(&self, data_dir: &Path) -> Command {
        let mut command = Command::new(program());
        command.args(["agent", "--runtime", "docker", "--data-dir"]).arg(data_dir);
        command.env("DOCKER_HOST", format!("unix://{}", self.proxy.socket().display()));
        command.env("ORCHD_LOG", "info").env_remove("ORCHD_TOKEN").stdin(Stdio::null());
        command
    }

    async fn start_agent_by(&mut self, command: Command) {
        let (process, out) = self.launch(command);
        poll("the agent is ready", || async {
            assert!(process.ended().is_none(), "the agent of {} has ended", self.name());
            let said = std::fs::read_to_string(&out).unwrap_or_default();
            if said.starts_with("ready ") { Ok(()) } else { Err(said) }
        })
        .await;
    }

    fn launch(&mut self, mut command: Command) -> (Process, PathBuf) {
        assert!(self.agent.is_none(), "the agent runs");
        let out = self.machine.dir().join("agent.out");
        let log = self.machine.dir().join("agent.log");
        let log = File::options().create(true).append(true).open(log);
        command.stdout(File::create(&out).expect("a file")).stderr(log.expect("a log"));
        let process = self.machine.spawn(&mut command).expect("orchd runs");
        self.agent = Some(process.clone());
        (process, out)
    }

    fn cut_way(&self, way: Way) {
        wire::cut(&self.machine, way);
    }
}

fn signal(process: Option<&Process>, signal: Signal) {
    process.expect("it runs").signal(signal).expect("it runs");
}
