//! Runs a program in a container and ends it at its timeout.
//!
//! The engine has no verb that ends such a program, so it is killed as a process of this machine, after a look at whether
//! it is one: its control group must be the container's.

use std::time::Duration;

use bollard::container::LogOutput;
use futures_util::StreamExt;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use orchestrator_core::runtime::{ExecOutcome, RuntimeError, SessionOptions};

use crate::engine::{Engine, OutputStream};
use crate::error::EngineError;
use crate::usage;

/// How much of the output is kept, in bytes.
const OUTPUT_BYTES_MAX: usize = 1024;
/// How often to ask again for the exit code of a program whose output has ended, in milliseconds.
const CODE_POLL_MS: u64 = 10;
/// How often, and how many milliseconds apart, it is looked whether a program has begun that is to be killed.
const LATE_LOOKS_MAX: u32 = 50;
const LATE_POLL_MS: u64 = 200;
/// The exit code of a program that was killed.
const KILLED: i32 = 137;

/// Runs `command` in the container with the id `container`; `label` names it in errors.
pub(crate) async fn run(
    engine: &Engine,
    (container, label): (&str, &str),
    command: &[String],
    timeout_ms: u64,
) -> Result<ExecOutcome, RuntimeError> {
    let fail = |error: EngineError| {
        if error.is_not_found() || error.is_conflict() {
            return RuntimeError::NotFound { what: format!("running container {label}") };
        }
        error.into_runtime(format!("running {:?} in {label}", command.first()))
    };
    let program = SessionOptions { command: command.to_vec(), ..SessionOptions::default() };
    let exec = engine.create_exec(container, &program).await.map_err(fail)?;
    let mut output = Vec::new();
    let run = async {
        let (stream, _) = engine.start_exec(&exec, false).await?;
        collect(stream, &mut output).await?;
        exit_code(engine, &exec).await
    };
    match tokio::time::timeout(Duration::from_millis(timeout_ms), run).await {
        Ok(code) => Ok(ExecOutcome { code: code.map_err(fail)?, output: printed(&output) }),
        Err(_) => {
            end(engine, container, &exec).await;
            let mut text = format!("did not end within {timeout_ms} ms\n").into_bytes();
            text.append(&mut output);
            Ok(ExecOutcome { code: KILLED, output: printed(&text) })
        }
    }
}

/// Reads the output to its end, of which the beginning is kept.
async fn collect(mut stream: OutputStream, output: &mut Vec<u8>) -> Result<(), EngineError> {
    while let Some(message) = stream.next().await {
        let bytes = match message? {
            LogOutput::StdErr { message }
            | LogOutput::StdOut { message }
            | LogOutput::Console { message }
            | LogOutput::StdIn { message } => message,
        };
        let room = OUTPUT_BYTES_MAX.saturating_sub(output.len());
        output.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
    Ok(())
}

/// Waits for the exit code, which the engine knows a moment after the output has ended.
pub(crate) async fn exit_code(engine: &Engine, exec: &str) -> Result<i32, EngineError> {
    loop {
        if let (Some(code), _) = engine.inspect_exec(exec).await? {
            return Ok(i32::try_from(code).unwrap_or(255));
        }
        tokio::time::sleep(Duration::from_millis(CODE_POLL_MS)).await;
    }
}

/// Kills a program that runs too long, with its children: each run leads a process group. One that the engine has not begun yet
/// is killed when it begins, soon.
pub(crate) async fn end(engine: &Engine, container: &str, exec: &str) {
    if is_ended(engine, container, exec).await {
        return;
    }
    let (engine, container, exec) = (engine.clone(), container.to_owned(), exec.to_owned());
    tokio::spawn(async move {
        for _ in 0..LATE_LOOKS_MAX {
            tokio::time::sleep(Duration::from_millis(LATE_POLL_MS)).await;
            if is_ended(&engine, &container, &exec).await {
                return;
            }
        }
        tracing::debug!(
            container,
            exec,
            "a timed-out program did not begin, or is not on this machine and runs on"
        );
    });
}

/// Kills a program if it runs; whether it runs no more.
async fn is_ended(engine: &Engine, container: &str, exec: &str) -> bool {
    let pid = match engine.inspect_exec(exec).await {
        Ok((Some(_), _)) => return true,
        Ok((None, pid)) => pid.and_then(|pid| i32::try_from(pid).ok()),
        Err(error) => return error.is_not_found(),
    };
    let Some(pid) = pid.filter(|pid| *pid > 1) else { return false };
    let is_ours = usage::is_in_container(pid.unsigned_abs(), container);
    if is_ours {
        // It may have ended by itself just now.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    is_ours
}

/// Makes text of the output, cut to the limit between characters.
fn printed(output: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(output).into_owned();
    let mut end = text.len().min(OUTPUT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_between_characters() {
        assert_eq!(printed(b"ok\n"), "ok\n");
        let text = printed("ä".repeat(OUTPUT_BYTES_MAX).as_bytes());
        assert!(text.len() <= OUTPUT_BYTES_MAX && text.chars().all(|it| it == 'ä'));
        assert!(printed(&[0xff; 2000]).len() <= OUTPUT_BYTES_MAX);
    }
}
