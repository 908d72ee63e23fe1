//! `orchd check`: looks whether all is well with a server's state and its machine, and says what to do where it is not.

mod files;
mod machine;
mod state;

use std::path::PathBuf;

use serde_json::json;

use crate::clock::seconds_now;
use crate::data_dir::{DataDir, default_data_dir};
use crate::out::{Stop, text};
use crate::store::{EtcdArgs, StoreUrl};
use crate::verbs::columns::Columns;

pub const EXAMPLES: &str = "\
Examples:
  orchd check --data-dir /var/lib/orchd            on the server's machine, whether the server runs or not
  orchd check -o json | jq '.[] | select(.result != \"ok\")'

Exit codes: 0 when nothing has failed (warnings may be there), 1 when something has.";

/// Options of `orchd check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The server's data directory [default: the user's]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// For programs
    #[arg(short, long, value_name = "FORMAT", value_parser = ["json"])]
    output: Option<String>,
    /// Where the state lies, when no server runs: as `orchd server --store`
    #[arg(long, value_name = "URL", value_parser = StoreUrl::parse)]
    store: Option<StoreUrl>,
    #[command(flatten)]
    etcd: EtcdArgs,
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Result {
    Ok,
    Warning,
    Failure,
}

impl Result {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }

    const fn mark(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "WARN",
            Self::Failure => "FAIL",
        }
    }
}

/// What was looked at, and what came of it.
#[derive(Clone, Debug)]
struct Finding {
    /// What was looked at, such as `store`.
    about: &'static str,
    result: Result,
    found: String,
    /// What to do; empty when there is nothing.
    advice: String,
}

impl Finding {
    fn ok(about: &'static str, found: impl Into<String>) -> Self {
        Self { about, result: Result::Ok, found: found.into(), advice: String::new() }
    }

    fn warning(about: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let (found, advice) = (found.into(), advice.into());
        Self { about, result: Result::Warning, found, advice }
    }

    fn failure(about: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let (found, advice) = (found.into(), advice.into());
        Self { about, result: Result::Failure, found, advice }
    }
}

/// Looks at everything.
pub async fn check(args: CheckArgs) -> anyhow::Result<()> {
    let data_dir = std::path::absolute(args.data_dir.clone().unwrap_or_else(default_data_dir))?;
    let dir = DataDir::find(&data_dir)?;
    let now = seconds_now();
    let mut findings = state::look(&dir, args.store.as_ref(), &args.etcd, now).await;
    findings.extend(files::look(&data_dir, now));
    findings.extend(machine::look(&data_dir));
    if args.output.is_some() {
        let all: Vec<_> = findings.iter().map(for_programs).collect();
        text(format!("{:#}\n", serde_json::Value::Array(all)))?;
    } else {
        let row = |finding: &Finding| {
            let Finding { about, result, found, advice } = finding.clone();
            vec![result.mark().to_owned(), about.to_owned(), found, advice]
        };
        let rows: Vec<_> = findings.iter().map(row).collect();
        text(Columns::layout(&["Result", "About", "Found", "What to do"], &rows))?;
    }
    match findings.iter().any(|finding| finding.result == Result::Failure) {
        true => Err(Stop::Told.into()),
        false => Ok(()),
    }
}

fn for_programs(finding: &Finding) -> serde_json::Value {
    json!({
        "about": finding.about,
        "result": finding.result.name(),
        "found": finding.found,
        "advice": finding.advice,
    })
}
