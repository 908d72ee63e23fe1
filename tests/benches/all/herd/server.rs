//! `orchd server`, and an `orchd agent` of it, as processes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use orchestrator_http::{Client, JoinRole, JoinToken, write_private};

use super::agents::admit;
use super::process::Process;
use crate::daemon::Failure;

/// A running server in a directory of its own.
pub struct Server {
    pub process: Process,
    program: PathBuf,
    dir: tempfile::TempDir,
    address: String,
}

impl Server {
    pub fn start(program: &Path) -> Result<Self, Failure> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let (process, said) = start(program, "127.0.0.1:0", dir.path())?;
        let url = said.split_whitespace().next().unwrap_or_default();
        let address = url.trim_start_matches("https://").to_owned();
        Ok(Self { process, program: program.to_owned(), dir, address })
    }

    /// Kills it and starts it anew at the same address; returns when it is ready.
    pub fn crash_and_start(&mut self, away: Duration) -> Result<(), Failure> {
        self.process.kill()?;
        std::thread::sleep(away);
        (self.process, _) = start(&self.program, &self.address, self.dir.path())?;
        Ok(())
    }

    /// Starts an agent of this machine, whose pods would be processes; returns when its node is ready.
    pub async fn agent(&self, client: &Client, root_pem: &str) -> Result<Process, Failure> {
        let token = JoinToken::new(root_pem, JoinRole::Agent)?;
        admit(client, &token, "alone").await?;
        let (file, dir) = (self.dir.path().join("token"), self.dir.path().join("agent"));
        write_private(&file, token.reveal().as_bytes())?;
        let mut command = Command::new(&self.program);
        command.args(["agent", "--server", client.server(), "--name", "alone", "--token-file"]);
        command.arg(file).args(["--runtime", "process", "--data-dir"]).arg(dir);
        tokio::task::block_in_place(|| Ok(Process::start(&mut command)?.0))
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }
}

fn start(program: &Path, listen: &str, dir: &Path) -> Result<(Process, String), Failure> {
    let mut command = Command::new(program);
    Process::start(command.args(["server", "--listen", listen, "--data-dir"]).arg(dir))
}
