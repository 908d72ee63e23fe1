//! `orchd scale`: sets how many replicas there are to be.

use super::session::{ClientArgs, Session};
use super::target;
use crate::out::line;

pub const EXAMPLES: &str = "\
Examples:
  orchd scale deployment web --replicas 5
  orchd scale deploy/web deploy/api --replicas 0";

/// Options of `orchd scale`.
#[derive(Debug, clap::Args)]
pub struct ScaleArgs {
    /// What: KIND NAME… or KIND/NAME…, a deployment or replicaset
    #[arg(required = true, value_name = "WHAT")]
    what: Vec<String>,
    /// How many
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..), allow_negative_numbers = true)]
    replicas: i32,
    #[command(flatten)]
    client: ClientArgs,
}

/// Sets the number of replicas.
pub async fn scale(args: ScaleArgs) -> anyhow::Result<()> {
    let session = Session::open(&args.client)?;
    for key in target::named(&args.what, &session)? {
        let scaled = session.client.scale(&key, args.replicas).await;
        scaled.map_err(|error| session.explain(&key, error))?;
        line(format_args!("{} scaled", target::with_kind(&key)))?;
    }
    Ok(())
}
