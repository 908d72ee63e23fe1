//! Programs run beside a container: same environment and directory, a session of their own, ended at a timeout.
//!
//! The supervisor ends them, and all they started, when its standard input ends: at the timeout, or with this program.

use std::process::ExitStatus;
use std::time::Duration;

use orchestrator_core::runtime::ExecOutcome;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::error::{Result, backend};
use crate::record::ContainerRecord;
use crate::supervisor::{Supervisor, refused};

/// How much of the output is kept, in bytes.
const OUTPUT_BYTES_MAX: usize = 1024;
/// The exit code of a program that was ended at its timeout, as timeout(1) has it.
const CODE_TIMEOUT: i32 = 124;

/// Runs a program with a container's environment.
pub(crate) async fn exec(
    supervisor: &Supervisor,
    record: &ContainerRecord,
    program: &[String],
    timeout_ms: u64,
) -> Result<ExecOutcome> {
    let mut command = Command::from(supervisor.exec(record, program));
    let mut child = command.spawn().map_err(|error| refused(&program[0], error))?;
    let lifeline = child.stdin.take();
    let mut output = Output::default();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let run = output.collect(out, err);
    let in_time = tokio::time::timeout(Duration::from_millis(timeout_ms), run).await.is_ok();
    let status = if in_time {
        // Its output has ended; it may go on in silence until its time is over.
        tokio::time::timeout(Duration::from_millis(timeout_ms), child.wait()).await.ok()
    } else {
        None
    };
    drop(lifeline);
    let timed_out = status.is_none();
    let status = match status {
        Some(status) => status,
        None => child.wait().await,
    };
    let status = status.map_err(|error| backend(format!("wait for {program:?}"), error))?;
    let code = if timed_out { CODE_TIMEOUT } else { code_of(status) };
    Ok(ExecOutcome { code, output: output.into_text() })
}

fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or(255)
}

/// The beginning of what a program prints.
#[derive(Debug, Default)]
struct Output(Vec<u8>);

impl Output {
    /// Reads both streams to their ends.
    async fn collect(
        &mut self,
        out: Option<impl AsyncRead + Unpin>,
        err: Option<impl AsyncRead + Unpin>,
    ) {
        let (mut out, mut err) = (out, err);
        let (mut out_bytes, mut err_bytes) = ([0; 4096], [0; 4096]);
        while out.is_some() || err.is_some() {
            tokio::select! {
                read = read(&mut out, &mut out_bytes) => match read {
                    0 => out = None,
                    length => self.keep(&out_bytes[..length]),
                },
                read = read(&mut err, &mut err_bytes) => match read {
                    0 => err = None,
                    length => self.keep(&err_bytes[..length]),
                },
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = OUTPUT_BYTES_MAX - self.0.len();
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn into_text(self) -> String {
        let mut text = String::from_utf8_lossy(&self.0).into_owned();
        // A replacement is longer than the byte it stands for.
        let end =
            (0..=OUTPUT_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text
    }
}

/// Reads once; 0 at the end. Never returns when there is no stream.
async fn read(stream: &mut Option<impl AsyncRead + Unpin>, bytes: &mut [u8]) -> usize {
    match stream {
        Some(stream) => stream.read(bytes).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}
