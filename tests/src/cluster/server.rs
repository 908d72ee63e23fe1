//! `ServerMachine`: the machine of `orchd server`.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use orchd_machines::{Lan, Machine, Process};

use crate::orchd::{command, program};
use crate::rig::poll;

/// A machine with an `orchd server`.
#[derive(Debug)]
pub struct ServerMachine {
    /// The machine.
    pub machine: Machine,
    process: Option<Process>,
}

impl ServerMachine {
    pub(super) async fn start(lan: &Lan, name: &str) -> Self {
        let machine = lan.boot(program(), name).expect("a machine boots");
        let mut server = Self { machine, process: None };
        server.start_again().await;
        server
    }

    /// The API's URL.
    pub fn url(&self) -> String {
        format!("https://{}:6443", self.machine.address())
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.machine.dir().join("data")
    }

    /// The file with which clients reach it.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("kubeconfig")
    }

    /// Runs orchd as its administrator; returns what it prints.
    ///
    /// # Panics
    /// When it fails.
    pub async fn orchd(&self, arguments: &[&str]) -> String {
        let mut command = command(arguments);
        command.env("KUBECONFIG", self.kubeconfig());
        let output = command.output().await.expect("orchd runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Kills it with KILL.
    pub fn kill(&mut self) {
        self.process.take().expect("the server runs").kill();
    }

    /// Stops it in its tracks.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Starts it, and waits until it says that it is ready.
    pub async fn start_again(&mut self) {
        assert!(self.process.is_none(), "the server runs");
        let dir = self.machine.dir();
        let out = dir.join("server.out");
        let log = File::options().create(true).append(true).open(dir.join("server.log"));
        let mut command = Command::new(program());
        command.args(["server", "--listen", &format!("{}:6443", self.machine.address())]);
        command.arg("--data-dir").arg(self.data_dir()).env("ORCHD_LOG", "info");
        command.stdin(Stdio::null()).stderr(log.expect("a log"));
        command.stdout(File::create(&out).expect("a file"));
        let process = self.machine.spawn(&mut command).expect("orchd runs");
        poll("the server is ready", || async {
            assert!(process.ended().is_none(), "the server has ended");
            let said = std::fs::read_to_string(&out).unwrap_or_default();
            if said.starts_with("ready ") { Ok(()) } else { Err(said) }
        })
        .await;
        self.process = Some(process);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("the server runs");
        process.signal(signal).expect("the server runs");
    }
}
