//! The benchmarks: each a ratio whose two sides run in one go, in turns; one table at the end.
//!
//! `cargo bench -p orchestrator-tests -- [--filter TEXT] [--pairs N] [--fresh-clone]`. What needs Docker runs when an engine
//! answers at `$ORCH_TEST_DOCKER_HOST` or `$DOCKER_HOST` (`tests/bench` starts one). Ends with 1 when a figure is below its floor.

mod commits;
mod daemon;
mod engine;
mod fresh_clone;
mod heal;
mod in_process;
mod options;
mod placements;
mod pods;
mod report;
mod rollout;

use std::io::Write as _;
use std::process::ExitCode;

use crate::engine::RawEngine;
use crate::options::Options;
use crate::report::Report;

/// What a benchmark ends with when it could not be done.
type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            say(&message);
            return ExitCode::from(2);
        }
    };
    let mut report = Report::new(options);
    match run(&mut report) {
        Ok(()) => {
            report.print();
            if report.is_below() { ExitCode::from(1) } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            report.print();
            say(&format!("a benchmark could not be done: {error}"));
            ExitCode::from(1)
        }
    }
}

fn run(report: &mut Report) -> Outcome {
    let engine = RawEngine::from_env();
    commits::run(report)?;
    placements::run(report);
    daemon::run(report, engine.as_ref())?;
    heal::run_on_processes(report)?;
    match &engine {
        Some(engine) => {
            heal::run_on_docker(report, engine)?;
            rollout::run(report, engine)?;
        }
        None => report.leave_out(
            "everything on Docker",
            "no engine answers at $ORCH_TEST_DOCKER_HOST or $DOCKER_HOST; `tests/bench` starts one",
        ),
    }
    in_process::run(report)?;
    fresh_clone::run(report)
}

/// Prints a line. A reader that went away ends nothing.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
