//! `orchd restore`: a cluster comes back from a backup, in a data directory that has none.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use orchestrator_core::driver::Filler;
use orchestrator_core::dump::{DumpHeader, DumpItem};
use orchestrator_core::store::Quarantined;

use super::dump::Dump;
use super::progress::Progress;
use super::{begin_after, files};
use crate::clock::seconds_now;
use crate::data_dir::{DataDir, default_data_dir};
use crate::out::{line, remark};
use crate::store::{EtcdArgs, NewStore, StoreUrl};

pub const EXAMPLES: &str = "\
Examples:
  orchd restore monday.orchd --data-dir /var/lib/orchd
  orchd restore monday.orchd --data-dir /var/lib/orchd --store etcd://10.0.0.1,10.0.0.2,10.0.0.3

Then start the server as before, where agents can reach it. Pods that the backup knows run on; those made since are ended, once the \
agents are sure.";

/// Options of `orchd restore`.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The data directory to restore into, which holds no state yet [default: the user's]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the state is to lie; nothing may be there [default: cluster.db in the data directory]
    #[arg(long, value_name = "URL", value_parser = StoreUrl::parse)]
    store: Option<StoreUrl>,
    #[command(flatten)]
    etcd: EtcdArgs,
}

/// Restores a backup.
pub async fn restore(args: RestoreArgs) -> anyhow::Result<()> {
    let data_dir = std::path::absolute(args.data_dir.clone().unwrap_or_else(default_data_dir))?;
    // The whole file is looked at before anything is written.
    let found = inspect(&args.file)
        .await
        .with_context(|| format!("cannot restore {}", args.file.display()))?;
    let dir = DataDir::begin_filling(&data_dir)?;
    let url = args.store.clone().unwrap_or_else(|| dir.own_store());
    let now = seconds_now();
    let after = begin_after(found.header.revision, now);
    let store = NewStore::begin(&url, &args.etcd, after).await?;
    let mut filler = Filler::new(store.shared(), after.0);
    let mut dump = Dump::of_file(&args.file)?;
    let mut progress = Progress::start("restoring");
    while let Some(item) = dump.next().await? {
        match item {
            DumpItem::File { path, content } => files::write(&data_dir, &path, &content)?,
            DumpItem::Record(record) => {
                progress.record(record.value.len());
                filler.add(record).await?;
            }
            DumpItem::Unreadable(_) => {}
        }
    }
    let records = filler.finish().await?;
    drop(progress);
    store.finish().await?;
    dir.remember_store(&url)?;
    dir.is_filled()?;
    for Quarantined { key, reason, .. } in &found.unreadable {
        remark(format_args!("warning: {key} could not be read when the backup was made: {reason}"));
    }
    if !found.has_keys {
        remark(format_args!(
            "warning: the backup has no keys; put the directory pki of the old data directory into {}: without it the server does not start \
             unless `--new-keys` begins anew, and then agents and clients do not know it and secrets do not open",
            data_dir.display()
        ));
    }
    line(format_args!(
        "{}: {records} records of {} restored into {url}",
        args.file.display(),
        found.header.taken_at
    ))
}

struct Found {
    header: DumpHeader,
    has_keys: bool,
    unreadable: Vec<Quarantined>,
}

async fn inspect(file: &std::path::Path) -> anyhow::Result<Found> {
    let mut dump = Dump::of_file(file)?;
    let header = dump.header().await?;
    let mut found = Found { header, has_keys: false, unreadable: Vec::new() };
    let mut records = 0_u64;
    while let Some(item) = dump.next().await? {
        match item {
            DumpItem::File { path, .. } => {
                files::check(&path)?;
                found.has_keys = true;
            }
            DumpItem::Record(_) => records += 1,
            DumpItem::Unreadable(quarantined) => found.unreadable.push(quarantined),
        }
    }
    if records == 0 {
        bail!("there are no records in it");
    }
    Ok(found)
}
