//! The command line: what there is to say, and what is run for it.

use clap::{CommandFactory as _, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::demo::{DemoArgs, demo};
use crate::dev::{DevArgs, dev};
use crate::workload::{WebArgs, web};

/// A container orchestrator in one binary.
#[derive(Debug, Parser)]
#[command(name = "orchd", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Log filter, such as debug or orchestrator_core=trace
    #[arg(long, global = true, env = "ORCHD_LOG", default_value = "warn", value_name = "FILTER")]
    log: String,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show a whole cluster at work, step by step, in a temporary directory
    Demo(DemoArgs),
    /// Run a one-node cluster: server and agent in one process
    Dev(DevArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Small programs to run in pods, for demonstrations and tests
    #[command(subcommand, hide = true)]
    Workload(Workload),
}

#[derive(Debug, Subcommand)]
enum Workload {
    /// A web server that drains on TERM
    Web(WebArgs),
}

impl Cli {
    /// Starts logging to standard error.
    pub fn start_log(&self) {
        let filter = EnvFilter::try_new(&self.log).unwrap_or_else(|_| EnvFilter::new("warn"));
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }

    /// Does what was asked.
    pub async fn run(self) -> anyhow::Result<()> {
        match self.verb {
            Verb::Demo(args) => demo(args).await,
            Verb::Dev(args) => dev(args).await,
            Verb::Completions { shell } => {
                clap_complete::generate(
                    shell,
                    &mut Self::command(),
                    "orchd",
                    &mut std::io::stdout(),
                );
                Ok(())
            }
            Verb::Workload(Workload::Web(args)) => web(args).await,
        }
    }
}
