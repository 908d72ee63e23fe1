//! `Machine`: namespaces with a first process, which can be switched off and on again.

use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use nix::sched::CloneFlags;

use super::init::{INIT_VERB, READY};
use super::lan::{Lan, address};
use super::namespaces::{Namespace, of, within, within_new};
use super::process::Process;

/// The namespaces of a machine, as `/proc` calls them. The mounts come last: in them `/proc` is another.
const KINDS: [(&str, CloneFlags); 4] = [
    ("net", CloneFlags::CLONE_NEWNET),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("mnt", CloneFlags::CLONE_NEWNS),
];

/// A machine on a [`Lan`]. Dropped, it is switched off.
#[derive(Debug)]
pub struct Machine {
    lan: Lan,
    program: PathBuf,
    name: String,
    number: u8,
    dir: PathBuf,
    /// While it is on.
    power: Option<Power>,
}

/// What is only there while a machine is on.
#[derive(Debug)]
struct Power {
    /// Ends when its standard input does, and so with this process.
    init: Child,
    namespaces: Vec<Namespace>,
    processes: Vec<Process>,
}

impl Machine {
    pub(crate) fn boot(lan: &Lan, program: &Path, name: &str, number: u8) -> anyhow::Result<Self> {
        let dir = lan.dir().join(name);
        std::fs::create_dir(&dir).with_context(|| format!("a second machine {name:?}"))?;
        let (lan, program, name) = (lan.clone(), program.to_owned(), name.to_owned());
        let mut machine = Self { lan, program, name, number, dir, power: None };
        machine.switch_on()?;
        Ok(machine)
    }

    /// Switches it on again: with its files, its address and another boot id; without processes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn switch_on(&mut self) -> anyhow::Result<()> {
        ensure!(self.power.is_none(), "{} is on", self.name);
        let kinds = KINDS.iter().fold(CloneFlags::empty(), |all, (_, kind)| all | *kind);
        let mut command = Command::new(&self.program);
        command.args([INIT_VERB, "--name", &self.name]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let init = within_new(kinds, || command.spawn().context("cannot start a first process"));
        let mut power = Power { init: init?, namespaces: Vec::new(), processes: Vec::new() };
        let started = power.ready(&self.lan, self.number);
        let started = started.with_context(|| format!("machine {} does not start", self.name));
        if started.is_err() {
            power.end();
            return started;
        }
        self.power = Some(power);
        Ok(())
    }

    /// Switches it off as a pulled plug would: whatever runs is gone.
    pub fn switch_off(&mut self) {
        if let Some(power) = self.power.take() {
            power.end();
        }
    }

    /// Starts a program on it.
    ///
    /// # Errors
    /// When it is off, or the program cannot be started.
    pub fn spawn(&mut self, command: &mut Command) -> anyhow::Result<Process> {
        let power = self.power.as_mut().with_context(|| format!("{} is off", self.name))?;
        let spawned = within(&power.namespaces, || {
            command.spawn().with_context(|| format!("cannot run {:?}", command.get_program()))
        });
        let process = Process::new(spawned?);
        power.processes.retain(|process| process.ended().is_none());
        power.processes.push(process.clone());
        Ok(process)
    }

    /// Runs a program on it to its end, which must be a good one, and returns what it printed.
    ///
    /// # Errors
    /// When it is off, or the program fails.
    pub fn run(&self, command: &mut Command) -> anyhow::Result<String> {
        let power = self.power.as_ref().with_context(|| format!("{} is off", self.name))?;
        let output = within(&power.namespaces, || {
            let output = command.stdin(Stdio::null()).output();
            output.with_context(|| format!("cannot run {:?}", command.get_program()))
        })?;
        ensure!(
            output.status.success(),
            "{command:?} on {}: {}",
            self.name,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Its name, which is its host name too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the network.
    pub const fn address(&self) -> Ipv4Addr {
        address(self.number)
    }

    /// Its directory, which outlives its being switched off.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn control_group(&self) -> String {
        format!("{}/{}", self.lan.control_group(), self.name)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.switch_off();
    }
}

impl Power {
    /// Waits until its first process has set it up, and attaches it to the network.
    fn ready(&mut self, lan: &Lan, number: u8) -> anyhow::Result<()> {
        let mut line = String::new();
        let output = self.init.stdout.take().context("its output is piped")?;
        BufReader::new(output).read_line(&mut line).context("cannot read its output")?;
        ensure!(line.trim_end() == READY, "its first process said {line:?}");
        self.namespaces = of(self.init.id(), &KINDS)?;
        lan.attach(number, self.init.id())
    }

    fn end(mut self) {
        let _ = self.init.kill();
        // The kernel keeps the first process until all others are waited for.
        for process in &self.processes {
            process.wait();
        }
        let _ = self.init.wait();
    }
}
