//! `orchd scale`: sets how many replicas there are to be.

use orchestrator_core::model::Kind;

use super::session::{ClientArgs, Session};
use super::target;
use crate::arguments::number;
use crate::out::{line, usage};

pub const EXAMPLES: &str = "\
Examples:
  orchd scale deployment web --replicas 5
  orchd scale deploy/web deploy/api --replicas 0";

/// What has replicas.
const SCALED: [Kind; 2] = [Kind::Deployment, Kind::ReplicaSet];

/// Options of `orchd scale`.
#[derive(Debug, clap::Args)]
pub struct ScaleArgs {
    /// What: KIND NAME… or KIND/NAME…, a deployment or replicaset
    #[arg(required = true, value_name = "WHAT")]
    what: Vec<String>,
    /// How many
    #[arg(long, value_name = "NUMBER", value_parser = |text: &str| number(text, 0..=i32::MAX), allow_negative_numbers = true)]
    replicas: i32,
    #[command(flatten)]
    client: ClientArgs,
}

/// Sets the number of replicas.
pub async fn scale(args: ScaleArgs) -> anyhow::Result<()> {
    let session = Session::open(&args.client)?;
    let keys = target::named(&args.what, &session)?;
    if let Some(key) = keys.iter().find(|key| !SCALED.contains(&key.kind)) {
        let message = format!("a {} has no replicas; scale a deployment or replicaset", key.kind);
        return Err(usage(message));
    }
    for key in keys {
        let scaled = session.client.scale(&key, args.replicas).await;
        scaled.map_err(|error| session.explain(&key, error))?;
        line(format_args!("{} scaled", target::with_kind(&key)))?;
    }
    Ok(())
}
