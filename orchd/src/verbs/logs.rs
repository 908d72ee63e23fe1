//! `orchd logs`: what a container printed, and prints.

use std::time::Duration;

use anyhow::{anyhow, bail};
use orchestrator_core::model::{Key, Kind};
use orchestrator_http::{ClientError, LogParams, Selector};

use super::duration;
use super::session::{ClientArgs, Session};
use super::target::{self, Target};
use super::text_at;
use crate::arguments::number;
use crate::out::{bytes, remark, usage, while_read};

pub const EXAMPLES: &str = "\
Examples:
  orchd logs web-5d8f                    everything the pod printed
  orchd logs -f --tail 20 web-5d8f       the last lines, then what comes
  orchd logs web-5d8f -c app --previous  the run before the last restart
  orchd logs --since 10m deployment/web  of one of its pods";

/// Options of `orchd logs`.
#[derive(Debug, clap::Args)]
pub struct LogsArgs {
    /// Whose: NAME of a pod, or KIND/NAME of what has pods
    #[arg(value_name = "NAME")]
    name: String,
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Only so many lines from the end
    #[arg(long, value_name = "LINES", value_parser = |text: &str| number(text, 0..=usize::MAX), allow_negative_numbers = true)]
    tail: Option<usize>,
    /// Only lines not older than this, such as 90s or 10m
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    since: Option<Duration>,
    /// Which container, where a pod has several
    #[arg(short, long, value_name = "CONTAINER")]
    container: Option<String>,
    /// The run before the last restart
    #[arg(short, long)]
    previous: bool,
    /// Begin each line with its time
    #[arg(long)]
    timestamps: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Prints a log.
pub async fn logs(args: LogsArgs) -> anyhow::Result<()> {
    let target = match args.name.contains('/') {
        true => target::one(&args.name)?,
        false => Target::One(Kind::Pod, args.name.clone()),
    };
    let session = Session::open(&args.client)?;
    let pod = pod_of(&session, &target).await?;
    let params = LogParams {
        container: args.container,
        follow: args.follow,
        previous: args.previous,
        tail_lines: args.tail,
        // The server counts in seconds; a part of one is not cut off.
        since_seconds: args.since.map(|since| since.as_millis().div_ceil(1_000) as u64),
        timestamps: args.timestamps,
    };
    let log = session.client.logs(&pod, &params).await;
    let mut log = match log {
        Ok(log) => log,
        Err(error) => return Err(hint(&session, &pod, error).await),
    };
    while_read(async {
        while let Some(piece) = log.next().await {
            bytes(&piece?)?;
        }
        Ok(())
    })
    .await
}

/// Says why there is no log, and what to ask next if the pod has not even a node.
async fn hint(session: &Session, pod: &Key, error: ClientError) -> anyhow::Error {
    let error = session.explain(pod, error);
    match session.client.get(pod).await {
        Ok(found) if text_at(&found, "/spec/nodeName").is_empty() => {
            anyhow!("{error}; `orchd explain pod {}` tells why", pod.name)
        }
        Ok(_) | Err(_) => error,
    }
}

/// Finds the pod that is meant: itself, or the first of the pods of something.
async fn pod_of(session: &Session, target: &Target) -> anyhow::Result<Key> {
    let Target::One(kind, name) = target else {
        return Err(usage("a log is one pod's; name it"));
    };
    let key = session.key(*kind, name);
    match kind {
        Kind::Pod => return Ok(key),
        Kind::Deployment | Kind::ReplicaSet => {}
        _ => {
            return Err(usage(format!(
                "a {kind} has no log; name a pod, deployment or replicaset"
            )));
        }
    }
    let owner = session.client.get(&key).await.map_err(|error| session.explain(&key, error))?;
    let labels = super::selector_of(&owner);
    let pods =
        session.client.list(Kind::Pod, Some(&key.namespace), &Selector::labels(labels)).await?;
    let pods = pods["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(pod) =
        pods.iter().find(|pod| text_at(pod, "/status/phase") == "Running").or(pods.first())
    else {
        bail!("{} has no pods; `orchd describe {0}` may tell why", target::with_kind(&key));
    };
    let name = text_at(pod, "/metadata/name");
    if pods.len() > 1 {
        remark(format_args!("{} has {} pods; this is {name}", target::with_kind(&key), pods.len()));
    }
    Ok(Key::new(Kind::Pod, &key.namespace, name))
}
