//! `orchd delete`: takes objects away, and waits until they are gone.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use orchestrator_core::model::Key;
use orchestrator_http::{ClientError, DeleteParams};
use tokio::time::Instant;

use super::session::{ClientArgs, Session};
use super::wait::{Outcome, Verdict, selected, until};
use super::{duration, manifests, target, text_at};
use crate::arguments::number;
use crate::out::{Stop, line, remark, usage};

pub const EXAMPLES: &str = "\
Examples:
  orchd delete deployment web
  orchd delete pod/web-5d8f --grace-period 1 --wait=false
  orchd delete -f web.yaml
  orchd delete pods -l app=web
  orchd delete deployment web --cascade orphan    its pods stay";

/// What becomes of an object's dependants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Cascade {
    /// They go afterwards
    Background,
    /// They go first
    Foreground,
    /// They stay
    Orphan,
}

/// Options of `orchd delete`.
#[derive(Debug, clap::Args)]
pub struct DeleteArgs {
    /// What: KIND NAME… or KIND/NAME…, or KIND with -l or --all
    #[arg(conflicts_with = "file", value_name = "WHAT")]
    what: Vec<String>,
    /// The objects in a manifest, a directory of them, or - for standard input; may be repeated
    #[arg(short, long = "filename", value_name = "FILE")]
    file: Vec<PathBuf>,
    /// The objects that have these labels
    #[arg(short = 'l', long, value_name = "SELECTOR", value_parser = super::label_selector, conflicts_with = "file")]
    selector: Option<String>,
    /// Every object of the kind in the namespace
    #[arg(long, conflicts_with_all = ["file", "selector"])]
    all: bool,
    /// What becomes of dependants, such as pods of a deployment: background (they go afterwards), foreground (they go
    /// first) or orphan (they stay)
    #[arg(long, value_enum, hide_possible_values = true, default_value_t = Cascade::Background)]
    cascade: Cascade,
    /// How many seconds a pod may take to end [default: the pod's own]
    #[arg(long, value_name = "SECONDS", value_parser = |text: &str| number(text, 0..=i64::MAX), allow_negative_numbers = true)]
    grace_period: Option<i64>,
    /// Wait until the objects are gone
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    wait: bool,
    /// How long to wait at most, such as 90s [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// An object that is not there is no failure
    #[arg(long)]
    ignore_not_found: bool,
    /// Go through every check, but write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Deletes objects; one that cannot be deleted does not hinder the others.
pub async fn delete(args: DeleteArgs) -> anyhow::Result<()> {
    if args.what.is_empty() && args.file.is_empty() {
        return Err(usage(
            "delete what? give KIND NAME, KIND/NAME, KIND with -l or --all, or a manifest with -f",
        ));
    }
    let documents = match args.file.as_slice() {
        [] => Vec::new(),
        files => manifests::read(files)?,
    };
    let session = Session::open(&args.client)?;
    let keys = if args.file.is_empty() {
        keys(&session, &args).await?
    } else {
        // The last first: what is in a namespace goes before the namespace takes it along.
        let keys = documents.iter().rev().map(|document| manifests::key(document, &session));
        keys.collect::<Result<_, _>>()?
    };
    let propagation = match args.cascade {
        Cascade::Background => "Background",
        Cascade::Foreground => "Foreground",
        Cascade::Orphan => "Orphan",
    };
    let params = DeleteParams {
        propagation: Some(propagation.to_owned()),
        grace_seconds: args.grace_period,
        dry_run: args.dry_run,
    };
    let mut failed = false;
    let mut going: Vec<(Key, String)> = Vec::new();
    for key in keys {
        let shown = format!("{} {:?}", target::resource(key.kind), key.name);
        match session.client.delete(&key, &params).await {
            Ok(reply) => {
                let note = if args.dry_run { " (dry run)" } else { "" };
                line(format_args!("{shown} deleted{note}"))?;
                let uid = ["/metadata/uid", "/details/uid"].map(|at| text_at(&reply.value, at));
                going.push((key, uid.concat()));
            }
            Err(error) if error.is_not_found() && args.ignore_not_found => {}
            Err(error @ ClientError::Refused { .. }) => {
                failed = true;
                remark(format_args!("error: {}", session.explain(&key, error)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if args.wait && !args.dry_run {
        until_gone(&session, &going, args.timeout).await?;
    }
    if failed { Err(Stop::Told.into()) } else { Ok(()) }
}

async fn keys(session: &Session, args: &DeleteArgs) -> anyhow::Result<Vec<Key>> {
    let selector = match (&args.selector, args.all) {
        (Some(selector), _) if selector.is_empty() => {
            return Err(usage("an empty selector means every object; say --all for that"));
        }
        (Some(selector), _) => selector.as_str(),
        (None, true) => "",
        (None, false) => {
            return target::named(&args.what, session).map_err(|error| {
                usage(format!("{error}; -l chooses by label, --all takes every one"))
            });
        }
    };
    match selected(session, &args.what, selector).await {
        Err(error) if args.ignore_not_found && error.downcast_ref::<Stop>().is_none() => {
            Ok(Vec::new())
        }
        keys => keys,
    }
}

/// Waits until none of the objects is there, or another one has its name.
async fn until_gone(
    session: &Session,
    going: &[(Key, String)],
    timeout: Option<Duration>,
) -> anyhow::Result<()> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    for (key, uid) in going {
        let outcome = until(session, key, deadline, |object| match object {
            Some(object) if text_at(object, "/metadata/uid") == uid => Verdict::NotYet,
            Some(_) | None => Verdict::Met,
        })
        .await?;
        match outcome {
            Outcome::Hopeless | Outcome::Met => {}
            Outcome::TimedOut(last) => {
                let finalizers = last
                    .as_ref()
                    .and_then(|object| object.pointer("/metadata/finalizers"))
                    .map(|finalizers| format!("; it waits for its finalizers {finalizers}"))
                    .unwrap_or_default();
                bail!(
                    "{} is still there after {}{finalizers}",
                    target::with_kind(key),
                    duration::print(timeout.unwrap_or_default())
                );
            }
        }
    }
    Ok(())
}
