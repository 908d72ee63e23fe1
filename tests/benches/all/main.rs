//! The benchmarks: each a ratio whose two sides run in one go, in turns; one table at the end.
//!
//! `cargo bench -p orchestrator-tests -- [--filter TEXT] [--pairs N] [--agents N] [--fresh-clone]`. What needs Docker needs an engine at
//! `$ORCH_TEST_DOCKER_HOST` or `$DOCKER_HOST`; what is held against etcd needs a current one at `$ORCH_TEST_ETCD` or on the path, and what
//! kubectl does one at `$ORCH_TEST_KUBECTL`; `tests/bench` sees to all three. Ends with 1 when a figure is below its floor, and when something that was asked for cannot be measured.

mod api;
mod commits;
mod daemon;
mod engine;
mod etcd_commits;
mod first_get;
mod fresh_clone;
mod heal;
mod herd;
mod in_process;
mod machine_death;
mod options;
mod placements;
mod pods;
mod report;
mod rollout;
mod tied;

use std::io::Write as _;
use std::process::ExitCode;

use crate::engine::RawEngine;
use crate::options::Options;
use crate::report::Report;

/// What needs an engine.
const ON_DOCKER: [&str; 5] =
    [daemon::READY_DOCKER, daemon::MEMORY_DOCKER, heal::ON_DOCKER, rollout::NAME, tied::NAME];

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
            if report.is_below() || report.is_incomplete() {
                ExitCode::from(1)
            } else {
                ExitCode::SUCCESS
            }
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
    etcd_commits::run(report)?;
    placements::run(report);
    daemon::run(report, engine.as_ref())?;
    first_get::run(report)?;
    api::run(report)?;
    heal::run_on_processes(report)?;
    match &engine {
        Some(engine) => {
            heal::run_on_docker(report, engine)?;
            rollout::run(report, engine)?;
            tied::run(report, engine)?;
        }
        None if ON_DOCKER.iter().any(|name| report.wants(name)) => report.missing(
            "everything on Docker",
            "no engine answers at $ORCH_TEST_DOCKER_HOST or $DOCKER_HOST; `tests/bench` starts one",
        ),
        None => {}
    }
    machine_death::run(report)?;
    herd::run(report)?;
    in_process::run(report)?;
    fresh_clone::run(report)
}

/// Prints a line. A reader that went away ends nothing.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
