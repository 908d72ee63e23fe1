//! Sessions: programs run beside a container for somebody at the other end, with pipes or with a terminal.

use std::fs::File;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use orchestrator_core::runtime::{
    RuntimeError, Session, SessionEvent, SessionInput, SessionOptions, SessionOutput,
};
use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use tokio::fs::File as AsyncFile;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::Instant;

use crate::container::{Container, Phase};
use crate::error::{Result, backend};
use crate::record::ContainerRecord;
use crate::supervisor::{Supervisor, refused};

/// The most bytes that are read at once.
const PIECE_BYTES_MAX: usize = 32 * 1024;
/// How often to look whether the container still runs: its end is the end of what runs beside it. In milliseconds.
const CONTAINER_POLL_MS: u64 = 500;
/// What ends the input of a program at a terminal: the letter EOT.
const END_OF_INPUT: &[u8] = b"\x04";

/// Starts a program with a container's environment.
pub(crate) fn open(
    supervisor: &Supervisor,
    container: Container,
    record: &ContainerRecord,
    options: &SessionOptions,
) -> Result<Session> {
    let mut command = Command::from(supervisor.session(record, &options.command));
    let program = &options.command[0];
    if options.terminal {
        let failed = |error| backend("open a terminal", error);
        let (ours, theirs) = terminal().map_err(failed)?;
        let copy = || theirs.try_clone().map(Stdio::from);
        command.stdin(copy().map_err(failed)?).stdout(copy().map_err(failed)?).stderr(theirs);
        let child = command.spawn().map_err(|error| refused(program, error))?;
        // The command holds the other end of the terminal: it must not outlive the spawn.
        drop(command);
        let input = TerminalInput(AsyncFile::from_std(ours.try_clone().map_err(failed)?));
        let ours = AsyncFile::from_std(ours);
        let output =
            TerminalOutput { terminal: Some(ours), program: Program::new(child, container) };
        return Ok(Session { input: Box::new(input), output: Box::new(output) });
    }
    let stdin = if options.stdin { Stdio::piped() } else { Stdio::null() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| refused(program, error))?;
    let input = PipeInput(child.stdin.take());
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let output = PipeOutput { out, err, program: Program::new(child, container) };
    Ok(Session { input: Box::new(input), output: Box::new(output) })
}

/// Makes a terminal: our end, and the program's.
fn terminal() -> io::Result<(File, File)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&ours)?;
    rustix::pty::unlockpt(&ours)?;
    let name = rustix::pty::ptsname(&ours, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs = rustix::fs::open(&name, flags, rustix::fs::Mode::empty())?;
    Ok((ours.into(), theirs.into()))
}

/// The program of a session, by its supervisor, which ends as it does.
#[derive(Debug)]
struct Program {
    child: Child,
    container: Container,
    /// When to look again whether the container runs.
    look_at: Instant,
    is_asked: bool,
    has_ended: bool,
}

impl Program {
    fn new(child: Child, container: Container) -> Self {
        Self { child, container, look_at: Instant::now(), is_asked: false, has_ended: false }
    }

    /// Waits until the container has ended, and ends the program then. Cancel-safe; happens once.
    async fn end_with_container(&mut self) {
        if self.is_asked {
            std::future::pending::<()>().await;
        }
        loop {
            tokio::time::sleep_until(self.look_at).await;
            self.look_at = Instant::now() + Duration::from_millis(CONTAINER_POLL_MS);
            if !matches!(self.container.observe(), Ok(Phase::Running(_))) {
                return self.end();
            }
        }
    }

    /// Has the supervisor kill the program and all it started.
    fn end(&mut self) {
        self.is_asked = true;
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid {
            // It may have ended by itself just now; it is not reaped yet, so its number is its own.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }

    /// Waits for the end; `None` after it was told of.
    async fn exit(&mut self) -> Option<SessionResult> {
        if self.has_ended {
            return None;
        }
        let status = loop {
            if self.is_asked {
                break self.child.wait().await;
            }
            match tokio::time::timeout_at(self.look_at, self.child.wait()).await {
                Ok(status) => break status,
                // It goes on in silence: time to look at the container.
                Err(_) => {
                    drop(tokio::time::timeout_at(self.look_at, self.end_with_container()).await)
                }
            }
        };
        self.has_ended = true;
        Some(match status {
            Ok(status) => Ok(SessionEvent::Exited(status.code().unwrap_or(137))),
            Err(error) => Err(backend("wait for a program", error)),
        })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end();
        }
    }
}

type SessionResult = std::result::Result<SessionEvent, RuntimeError>;

#[derive(Debug)]
struct PipeInput(Option<ChildStdin>);

#[async_trait]
impl SessionInput for PipeInput {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if let Some(stdin) = &mut self.0
            && stdin.write_all(&bytes).await.is_err()
        {
            self.0 = None;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        self.0 = None;
        Ok(())
    }

    async fn resize(&mut self, _columns: u16, _rows: u16) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct PipeOutput {
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
    program: Program,
}

#[async_trait]
impl SessionOutput for PipeOutput {
    async fn next(&mut self) -> Option<SessionResult> {
        while self.out.is_some() || self.err.is_some() {
            tokio::select! {
                piece = read(&mut self.out) => match piece {
                    Some(bytes) => return Some(Ok(SessionEvent::Stdout(bytes))),
                    None => self.out = None,
                },
                piece = read(&mut self.err) => match piece {
                    Some(bytes) => return Some(Ok(SessionEvent::Stderr(bytes))),
                    None => self.err = None,
                },
                () = self.program.end_with_container() => {}
            }
        }
        self.program.exit().await
    }
}

/// Reads once; `None` at the end. Never returns when there is no stream.
async fn read(stream: &mut Option<impl AsyncRead + Unpin>) -> Option<Bytes> {
    let Some(stream) = stream else { return std::future::pending().await };
    let mut piece = Vec::with_capacity(PIECE_BYTES_MAX);
    let length = stream.read_buf(&mut piece).await.unwrap_or(0);
    (length > 0).then(|| piece.into())
}

/// Reads and writes of a terminal are done by threads: each of ours is open as long as its program has it open.
#[derive(Debug)]
struct TerminalInput(AsyncFile);

#[async_trait]
impl SessionInput for TerminalInput {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        // A program that is gone shows at the other end.
        if self.0.write_all(&bytes).await.is_ok() {
            let _ = self.0.flush().await;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        self.write(Bytes::from_static(END_OF_INPUT)).await
    }

    async fn resize(&mut self, columns: u16, rows: u16) -> Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.0, size)
            .map_err(|error| backend("tell a program its terminal's size", io::Error::from(error)))
    }
}

#[derive(Debug)]
struct TerminalOutput {
    terminal: Option<AsyncFile>,
    program: Program,
}

#[async_trait]
impl SessionOutput for TerminalOutput {
    async fn next(&mut self) -> Option<SessionResult> {
        // A terminal whose last program has closed it cannot be read: that is its end.
        while self.terminal.is_some() {
            tokio::select! {
                piece = read(&mut self.terminal) => match piece {
                    Some(bytes) => return Some(Ok(SessionEvent::Stdout(bytes))),
                    None => self.terminal = None,
                },
                () = self.program.end_with_container() => {}
            }
        }
        self.program.exit().await
    }
}
