//! `orchd`: a container orchestrator in one binary. Arguments in, exit code out: 0 done, 1 failed, 2 bad usage.

mod agent;
mod agent_id;
mod arguments;
mod cli;
mod clock;
mod cluster_keys;
mod control_plane;
mod data_dir;
mod demo;
mod dev;
mod host;
mod instance;
mod kept;
mod memory;
mod network_args;
mod network_keeper;
mod out;
mod runtime;
mod server;
mod signals;
mod store;
mod token;
mod upkeep;
mod user;
mod verbs;
mod workload;

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use out::Stop;

/// How long threads that block may take to end with the program.
const THREADS_END_WITHIN: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    cli.start_log();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let outcome = runtime.block_on(cli.run());
    // Every task was joined; a thread may still wait for a terminal or a file, and holds nothing up.
    runtime.shutdown_timeout(THREADS_END_WITHIN);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Prints a line on standard output. A reader that went away ends nothing.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn failed(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<Stop>() {
        Some(Stop::ReaderGone) => ExitCode::SUCCESS,
        Some(Stop::Told) => ExitCode::from(1),
        Some(Stop::Usage(message)) => {
            out::remark(format_args!("error: {message}"));
            ExitCode::from(2)
        }
        None => {
            out::remark(format_args!("error: {}", out::chain(error)));
            ExitCode::from(1)
        }
    }
}
