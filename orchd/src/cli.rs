//! The command line: what there is to say, and what is run for it.

use std::io::IsTerminal as _;

use clap::{CommandFactory as _, Parser, Subcommand};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use orchd_machines::{InitArgs, init};
use orchestrator_http::ClientError;

use crate::agent::{self, AgentArgs, agent};
use crate::arguments::log_filter;
use crate::demo::{DemoArgs, demo};
use crate::dev::{DevArgs, dev};
use crate::out;
use crate::server::{self, ServerArgs, server};
use crate::upkeep::backup::{self, BackupArgs};
use crate::upkeep::check::{self, CheckArgs};
use crate::upkeep::migrate::{self, MigrateArgs};
use crate::upkeep::restore::{self, RestoreArgs};
use crate::upkeep::secrets::{self, SecretsVerb};
use crate::user::{self, UserArgs, user};
use crate::verbs::apply::{self, ApplyArgs};
use crate::verbs::delete::{self, DeleteArgs};
use crate::verbs::describe::{self, DescribeArgs};
use crate::verbs::events::{self, EventsArgs};
use crate::verbs::explain::{self, ExplainArgs};
use crate::verbs::get::{self, GetArgs};
use crate::verbs::logs::{self, LogsArgs};
use crate::verbs::node::{self, NodeVerb, node};
use crate::verbs::scale::{self, ScaleArgs};
use crate::verbs::token::{self, TokenVerb, token};
use crate::verbs::wait::{self, WaitArgs};
use crate::workload::{WebArgs, web};

const START: &str = "\
Start here:
  orchd demo                  see a whole cluster at work
  orchd dev                   run one; then, in another terminal:
  orchd apply -f web.yaml
  orchd get pods

Exit codes: 0 done, 1 failed, 2 bad usage.";

const COMPLETIONS: &str = "\
Examples:
  source <(orchd completions bash)
  orchd completions fish > ~/.config/fish/completions/orchd.fish";

/// A container orchestrator in one binary.
#[derive(Debug, Parser)]
#[command(name = "orchd", version, arg_required_else_help = true, after_help = START)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Log filter, such as debug or orchestrator_core=trace
    #[arg(
        long,
        global = true,
        env = "ORCHD_LOG",
        default_value = "warn",
        value_name = "FILTER",
        value_parser = log_filter,
        hide_env_values = true,
        help_heading = "Logging"
    )]
    log: Targets,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show a whole cluster at work, step by step, in a temporary directory
    Demo(DemoArgs),
    /// Run a one-node cluster: server and agent in one process
    Dev(DevArgs),
    /// Run the control plane of a cluster whose nodes are other machines
    #[command(after_help = server::EXAMPLES)]
    Server(ServerArgs),
    /// Run a node of such a cluster on this machine
    #[command(after_help = agent::EXAMPLES)]
    Agent(AgentArgs),
    /// Make, list and revoke the tokens by which agents join
    #[command(subcommand, after_help = token::EXAMPLES)]
    Token(TokenVerb),
    /// List, cordon, drain and remove nodes
    #[command(subcommand, after_help = node::EXAMPLES)]
    Node(NodeVerb),
    /// Copy everything a cluster needs to come back into a file, while it runs
    #[command(after_help = backup::EXAMPLES)]
    Backup(BackupArgs),
    /// Bring a cluster back from a backup
    #[command(after_help = restore::EXAMPLES)]
    Restore(RestoreArgs),
    /// Move the state of a cluster that does not run into another store
    #[command(after_help = migrate::EXAMPLES)]
    Migrate(MigrateArgs),
    /// Look whether all is well with a server's state and machine, and what to do if not
    #[command(after_help = check::EXAMPLES)]
    Check(CheckArgs),
    /// Change the key that seals secrets
    #[command(subcommand, after_help = secrets::EXAMPLES)]
    Secrets(SecretsVerb),
    /// Make the cluster have what manifests say
    #[command(after_help = apply::EXAMPLES)]
    Apply(ApplyArgs),
    /// List objects
    #[command(after_help = get::EXAMPLES)]
    Get(GetArgs),
    /// Tell everything about an object, with what happened to it
    #[command(after_help = describe::EXAMPLES)]
    Describe(DescribeArgs),
    /// Tell why a pod is where it is, or why nowhere
    #[command(after_help = explain::EXAMPLES)]
    Explain(ExplainArgs),
    /// Print what a container printed
    #[command(after_help = logs::EXAMPLES)]
    Logs(LogsArgs),
    /// Set how many replicas there are to be
    #[command(after_help = scale::EXAMPLES)]
    Scale(ScaleArgs),
    /// Take objects away
    #[command(after_help = delete::EXAMPLES)]
    Delete(DeleteArgs),
    /// Wait until objects are as they should be
    #[command(after_help = wait::EXAMPLES)]
    Wait(WaitArgs),
    /// List what happened
    #[command(after_help = events::EXAMPLES)]
    Events(EventsArgs),
    /// Let somebody else use a cluster: make a kubeconfig for them
    #[command(after_help = user::EXAMPLES)]
    User(UserArgs),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Small programs to run in pods, for demonstrations and tests
    #[command(subcommand, hide = true)]
    Workload(Workload),
    /// Be the first process of a machine made of namespaces, for demonstrations and tests
    #[command(hide = true)]
    Machine(InitArgs),
}

#[derive(Debug, Subcommand)]
enum Workload {
    /// A web server that drains on TERM
    Web(WebArgs),
}

impl Cli {
    /// Starts logging to standard error.
    pub fn start_log(&self) {
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = lines.with_ansi(std::io::stderr().is_terminal());
        tracing_subscriber::registry().with(lines.with_filter(self.log.clone())).init();
    }

    /// Does what was asked.
    pub async fn run(self) -> anyhow::Result<()> {
        let outcome = match self.verb {
            Verb::Demo(args) => return demo(args).await,
            Verb::Dev(args) => return dev(args).await,
            Verb::Server(args) => return server(args).await,
            Verb::Agent(args) => return agent(args).await,
            Verb::Token(verb) => token(verb).await,
            Verb::Node(verb) => node(verb).await,
            Verb::Backup(args) => backup::backup(args).await,
            Verb::Restore(args) => restore::restore(args).await,
            Verb::Migrate(args) => migrate::migrate(args).await,
            Verb::Check(args) => check::check(args).await,
            Verb::Secrets(verb) => secrets::secrets(verb).await,
            Verb::Apply(args) => apply::apply(args).await,
            Verb::Get(args) => get::get(args).await,
            Verb::Describe(args) => describe::describe(args).await,
            Verb::Explain(args) => explain::explain(args).await,
            Verb::Logs(args) => logs::logs(args).await,
            Verb::Scale(args) => scale::scale(args).await,
            Verb::Delete(args) => delete::delete(args).await,
            Verb::Wait(args) => wait::wait(args).await,
            Verb::Events(args) => events::events(args).await,
            Verb::User(args) => user(&args),
            Verb::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "orchd", &mut script);
                out::bytes(&script)
            }
            Verb::Workload(Workload::Web(args)) => web(args).await,
            Verb::Machine(args) => init(args).await,
        };
        outcome.map_err(advised)
    }
}

/// Says what a client's user can do about an error.
fn advised(error: anyhow::Error) -> anyhow::Error {
    let client_error = error.chain().find_map(|cause| cause.downcast_ref::<ClientError>());
    let advice = match client_error {
        Some(ClientError::Unreachable { .. }) => {
            "is orchd running? start it with `orchd dev`, or name another cluster with --kubeconfig"
        }
        Some(error) if error.code() == Some(401) => {
            "the token in the kubeconfig is not one of this server; use the kubeconfig in its data directory"
        }
        Some(_) | None => return error,
    };
    anyhow::anyhow!("{}; {advice}", out::chain(&error))
}
