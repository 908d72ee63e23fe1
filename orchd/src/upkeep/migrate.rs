//! `orchd migrate`: the state of a cluster that does not run goes into another store.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use orchestrator_core::driver::Filler;
use orchestrator_core::dump::DumpItem;
use orchestrator_core::election::{LEASE_MS, RENEW_EVERY_MS};
use orchestrator_core::model::Revision;

use super::begin_after;
use super::dump::Dump;
use super::progress::Progress;
use crate::clock::seconds_now;
use crate::data_dir::{DataDir, default_data_dir};
use crate::out::{line, remark, usage};
use crate::store::{Backend, EtcdArgs, NewStore, StoreUrl};

pub const EXAMPLES: &str = "\
Examples:
  orchd migrate --data-dir /var/lib/orchd --to etcd://10.0.0.1,10.0.0.2,10.0.0.3
  orchd migrate --data-dir /var/lib/orchd --to sqlite:/var/lib/orchd/cluster.db

Stop the server (every server) first. Afterwards start it with `--store` and the new place. What lies in the old one is left, and not
used any more; a database of the data directory is called cluster.db.moved then.";

/// How long a store that several may have open must be still before it is moved: when its leader has died, a server that follows writes
/// nothing until the lease is over.
const STILL_FOR: Duration = Duration::from_millis((LEASE_MS + 2 * RENEW_EVERY_MS).unsigned_abs());

/// Options of `orchd migrate`.
#[derive(Debug, clap::Args)]
pub struct MigrateArgs {
    /// The server's data directory, which then names the new store [default: the user's]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the state lies [default: where the data directory says]
    #[arg(long, value_name = "URL", value_parser = StoreUrl::parse)]
    from: Option<StoreUrl>,
    /// Where it is to lie; nothing may be there
    #[arg(long, value_name = "URL", value_parser = StoreUrl::parse)]
    to: StoreUrl,
    #[command(flatten)]
    etcd: EtcdArgs,
}

/// Moves a state.
pub async fn migrate(args: MigrateArgs) -> anyhow::Result<()> {
    let data_dir = std::path::absolute(args.data_dir.clone().unwrap_or_else(default_data_dir))?;
    let dir = DataDir::find(&data_dir)?;
    let from = dir.known_store(args.from.as_ref())?;
    if from.is_like(&args.to) {
        return Err(usage(format!("--to: the state lies in {from} already")));
    }
    dir.refuse_moved(&from)?;
    let source = Backend::open(&from, &args.etcd).await?;
    let before = source.shared().revision().await?;
    if matches!(source, Backend::Etcd(_)) {
        // Others may have it open. Who leads them renews its lease meanwhile.
        remark(format_args!(
            "looking for {} s whether a server writes to {from}",
            STILL_FOR.as_secs()
        ));
        tokio::time::sleep(STILL_FOR).await;
        refuse_written(&source, &from, before).await?;
    }
    let after = begin_after(before, seconds_now());
    let target = NewStore::begin(&args.to, &args.etcd, after).await?;
    let mut filler = Filler::new(target.shared(), after.0);
    let mut dump = Dump::of_store(&source);
    let mut progress = Progress::start("moving");
    while let Some(item) = dump.next().await? {
        match item {
            DumpItem::Record(record) => {
                progress.record(record.value.len());
                filler.add(record).await?;
            }
            DumpItem::Unreadable(found) => bail!(
                "{} in {from} cannot be read ({}); nothing is moved while something would be left behind",
                found.key,
                found.reason
            ),
            DumpItem::File { .. } => {}
        }
    }
    let records = filler.finish().await?;
    drop(progress);
    refuse_written(&source, &from, before).await?;
    target.finish().await?;
    source.close().await;
    dir.moved(&from, &args.to)?;
    let others = match from {
        StoreUrl::Etcd(_) => {
            "; no server may start on the old place any more, where the cluster would go on a second time"
        }
        StoreUrl::Sqlite(_) => "",
    };
    line(format_args!(
        "{records} records moved from {from} into {}; start the server with `--store {}`{others}",
        args.to, args.to
    ))
}

/// Refuses a store whose revision is another one now.
async fn refuse_written(source: &Backend, from: &StoreUrl, before: Revision) -> anyhow::Result<()> {
    let now = source.shared().revision().await.context("cannot read the old store")?;
    if now != before {
        bail!("a server writes to {from}: stop every server, then do it again");
    }
    Ok(())
}
