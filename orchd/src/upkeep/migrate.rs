//! `orchd migrate`: the state of a cluster that does not run goes into another store.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use orchestrator_core::driver::Filler;
use orchestrator_core::dump::DumpItem;
use orchestrator_core::election::{LEASE_MS, RENEW_EVERY_MS};
use orchestrator_core::model::Revision;
use orchestrator_etcd::Standing;

use super::begin_after;
use super::dump::Dump;
use super::progress::Progress;
use crate::clock::seconds_now;
use crate::data_dir::{DataDir, default_data_dir};
use crate::out::{line, remark, usage};
use crate::store::{Backend, EtcdArgs, NewStore, StoreUrl, standing};

pub const EXAMPLES: &str = "\
Examples:
  orchd migrate --data-dir /var/lib/orchd --to etcd://10.0.0.1,10.0.0.2,10.0.0.3
  orchd migrate --data-dir /var/lib/orchd --to sqlite:/var/lib/orchd/cluster.db

Stop the server (every server) first. Afterwards start it with `--store` and the new place. What lies in the old one is left, and not
used any more; a database of the data directory is called cluster.db.moved then. Where several servers shared the old place, run the
same command for each one's data directory: the first moves the state, the others write the new place down.";

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
    let to = &args.to;
    if from.is_same(to) {
        return Err(usage(format!("--to: the state lies in {from} already")));
    }
    dir.refuse_moved(&from)?;
    let is_left = match standing(&from, &args.etcd).await? {
        Some(Standing::Moved { to: there }) => {
            if is_finished(&from, &there, &args).await? {
                dir.moved(&from, to)?;
                return line(format_args!(
                    "{from} has been moved into {to} before, which the data directory names now; start the server with `--store {to}`"
                ));
            }
            true
        }
        _ => false,
    };
    let (source, before) = open_quiet(&from, &args.etcd, is_left).await?;
    let after = begin_after(before, seconds_now());
    let target = NewStore::begin(to, &args.etcd, after).await?;
    let records = match fill(&target, after, &source, &from).await {
        Ok(records) => records,
        Err(error) => {
            target.abandon().await?;
            return Err(error);
        }
    };
    // When this fails both places stay as they are, and the next try goes on from there.
    if !source.leave(before, to).await? {
        target.abandon().await?;
        return Err(written(&from));
    }
    target.finish().await?;
    dir.moved(&from, to)?;
    line(format_args!(
        "{records} records moved from {from} into {to}; start the server with `--store {to}`"
    ))
}

/// Whether a state that has been left for another place has come there. If not, that is to be done again.
async fn is_finished(from: &StoreUrl, there: &str, args: &MigrateArgs) -> anyhow::Result<bool> {
    let to = &args.to;
    if !StoreUrl::parse(there).is_ok_and(|there| there.is_like(to)) {
        return Err(usage(format!("--to: the state of {from} has been moved to {there}")));
    }
    match standing(to, &args.etcd).await? {
        Some(Standing::Whole) => Ok(true),
        Some(Standing::Unfinished) => Ok(false),
        _ => bail!(
            "the state of {from} has been moved to {there}, and {to} has none; is it this etcd, or this machine? If it is lost, restore a backup \
             into another place"
        ),
    }
}

/// Opens a state that nobody writes to, and says at which revision it is.
async fn open_quiet(
    from: &StoreUrl,
    etcd: &EtcdArgs,
    is_left: bool,
) -> anyhow::Result<(Backend, Revision)> {
    let source = match is_left {
        true => Backend::open_left(from, etcd).await?,
        false => Backend::open(from, etcd).await?,
    };
    let before = source.shared().revision().await?;
    if matches!(source, Backend::Etcd(_)) && !is_left {
        // Others may have it open. Who leads them renews its lease meanwhile.
        remark(format_args!(
            "looking for {} s whether a server writes to {from}",
            STILL_FOR.as_secs()
        ));
        tokio::time::sleep(STILL_FOR).await;
        if source.shared().revision().await.context("cannot read the old store")? != before {
            return Err(written(from));
        }
    }
    Ok((source, before))
}

/// Puts every record of a store into another one, and compares what has arrived; says how many they are.
async fn fill(
    target: &NewStore,
    after: Revision,
    source: &Backend,
    from: &StoreUrl,
) -> anyhow::Result<u64> {
    let mut filler = Filler::new(target.shared(), after.0);
    let mut dump = Dump::of_store(source);
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
    Ok(filler.finish().await?)
}

fn written(from: &StoreUrl) -> anyhow::Error {
    anyhow::anyhow!("a server writes to {from}: stop every server, then do it again")
}
