//! `orchd migrate`: the state of a cluster that does not run goes into another store.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use orchestrator_core::driver::Filler;
use orchestrator_core::dump::DumpItem;
use orchestrator_core::election::{LEASE_MS, RENEW_EVERY_MS};
use orchestrator_core::model::{Key, Kind, Revision, Uid};
use orchestrator_core::world::World;
use orchestrator_etcd::Standing;

use super::begin_after;
use super::dump::Dump;
use super::progress::Progress;
use crate::clock::seconds_now;
use crate::data_dir::{DataDir, Moving, default_data_dir, refuse_aside, refuse_put_aside};
use crate::out::{line, remark, usage};
use crate::store::{Backend, EtcdArgs, NewStore, StoreUrl, standing};

pub const EXAMPLES: &str = "\
Examples:
  orchd migrate --data-dir /var/lib/orchd --to etcd://10.0.0.1,10.0.0.2,10.0.0.3
  orchd migrate --data-dir /var/lib/orchd --to sqlite:/var/lib/orchd/cluster.db

Stop the server (every server) first. Afterwards start it with `--store` and the new place. What lies in the old one is left, and not \
used any more; a database of the data directory is called cluster.db.moved then. Where several servers shared the old place, run the \
same command for each one's data directory: the first moves the state, the others write the new place down. A move that was interrupted \
is done by running it again.";

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
    let dir = DataDir::find_to_move(&data_dir)?;
    let (moving, stage) = begin(&dir, &args).await?;
    let Moving { from, to } = &moving;
    match stage {
        Stage::Whole | Stage::Left => {}
        Stage::Arrived => return arrived(&dir, &moving, &args.etcd).await,
        Stage::There => {
            return line(format_args!(
                "the state lies in {to} already; start the server with `--store {to}`"
            ));
        }
    }
    let is_again = stage == Stage::Left;
    refuse_put_aside(from)?;
    let is_left = matches!(standing(from, &args.etcd).await?, Some(Standing::Moved { .. }));
    let (source, before) = open_quiet(from, &args.etcd, is_left).await?;
    let after = begin_after(before, seconds_now());
    let target = NewStore::begin(to, &args.etcd, after).await?;
    let records = match fill(&target, after, &source, from).await {
        Ok(records) => records,
        // Of a place that was left, what was begun of the new one says that it is to be done again.
        Err(error) if is_again => return Err(error),
        Err(error) => {
            target.abandon().await?;
            return Err(error);
        }
    };
    if let Err(error) = dir.begin_moving(&moving) {
        target.abandon().await?;
        return Err(error);
    }
    // When this fails nobody knows whether it is left, and the next try finds out.
    if !source.leave(before, to).await? {
        dir.give_up_moving()?;
        target.abandon().await?;
        return Err(written(from, &args.etcd).await);
    }
    target.finish().await?;
    dir.remember_store(to)?;
    source.close().await;
    dir.end_moving(&moving)?;
    line(format_args!(
        "{records} records moved from {from} into {to}; start the server with `--store {to}`"
    ))
}

/// How far a move has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The state lies in the old place.
    Whole,
    /// The old place is left, and the new one is not whole.
    Left,
    /// The new place is whole.
    Arrived,
    /// The old place is the new one.
    There,
}

/// Ends a move whose new place is whole.
async fn arrived(dir: &DataDir, moving: &Moving, etcd: &EtcdArgs) -> anyhow::Result<()> {
    let Moving { from, to } = moving;
    if refuse_put_aside(from).is_ok() && standing(from, etcd).await?.is_some() {
        let (source, target) =
            (Backend::open_left(from, etcd).await?, Backend::open(to, etcd).await?);
        let is_same = cluster_of(&source).await? == cluster_of(&target).await?;
        target.close().await;
        // What lies in the log of a database goes where the rest is.
        source.close().await;
        if !is_same {
            bail!(
                "{to} has the state of another cluster than {from}, which is still there; move it to another place (docs/guides/backup.md)"
            );
        }
    }
    dir.remember_store(to)?;
    dir.end_moving(moving)?;
    line(format_args!(
        "{from} has been moved into {to} before, which the data directory names now; start the server with `--store {to}`"
    ))
}

/// What tells a cluster's state from another one's.
async fn cluster_of(store: &Backend) -> anyhow::Result<Option<Uid>> {
    let (store, mut pages, mut next) = (store.shared(), Vec::new(), None);
    loop {
        let mut page = store.load(next).await?;
        next = page.next.take();
        pages.push(page);
        if next.is_none() {
            let key = Key::cluster(Kind::Namespace, "kube-system");
            return Ok(World::from_pages(pages).get(&key).map(|found| found.object.meta().uid));
        }
    }
}

/// What is to be moved where, and how far that has come before.
async fn begin(dir: &DataDir, args: &MigrateArgs) -> anyhow::Result<(Moving, Stage)> {
    if let Some(moving) = dir.moving()? {
        if !moving.to.is_same(&args.to) {
            return Err(usage(format!(
                "--to: a move of {} to {} was interrupted; do that again first",
                moving.from, moving.to
            )));
        }
        // Nothing was there when it began.
        let is_whole = standing(&moving.to, &args.etcd).await? == Some(Standing::Whole);
        return Ok((moving, if is_whole { Stage::Arrived } else { Stage::Left }));
    }
    let from = dir.known_store(args.from.as_ref())?;
    let moving = Moving { from, to: args.to.clone() };
    let Moving { from, to } = &moving;
    if from.is_same(to) {
        return Ok((moving, Stage::There));
    }
    refuse_aside(from)?;
    let Some(there) = moved_from(from, &args.etcd).await? else {
        return Ok((moving, Stage::Whole));
    };
    if !there.is_same(to) {
        return Err(usage(format!("--to: the state of {from} has been moved to {there}")));
    }
    match standing(to, &args.etcd).await? {
        Some(Standing::Whole) => Ok((moving, Stage::Arrived)),
        Some(Standing::Unfinished) => Ok((moving, Stage::Left)),
        _ => bail!(
            "the state of {from} has been moved to {there}, and there is none; is it this etcd, or this machine? If it is lost, restore a backup \
             into another place"
        ),
    }
}

/// Where the state of a place has gone in the end; `None` when it lies there.
async fn moved_from(from: &StoreUrl, etcd: &EtcdArgs) -> anyhow::Result<Option<StoreUrl>> {
    let mut places = vec![from.clone()];
    loop {
        let last = &places[places.len() - 1];
        let Some(Standing::Moved { to }) = standing(last, etcd).await? else {
            return Ok(places.pop().filter(|_| !places.is_empty()));
        };
        let next = StoreUrl::parse(&to).map_err(|_| {
            anyhow::anyhow!(
                "{last} says that its state has been moved to {to:?}, which is no place"
            )
        })?;
        if places.iter().any(|place| place.is_same(&next)) {
            bail!(
                "{last} says that its state has been moved to {next}, which says that it has been moved away"
            );
        }
        places.push(next);
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
        false => Backend::open_known(from, etcd).await?,
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
            return Err(written(from, etcd).await);
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

/// Why a state is not as it was.
async fn written(from: &StoreUrl, etcd: &EtcdArgs) -> anyhow::Error {
    match standing(from, etcd).await {
        Ok(Some(Standing::Moved { to })) => {
            anyhow::anyhow!("{from} has just been moved to {to} by somebody else")
        }
        _ => anyhow::anyhow!("a server writes to {from}: stop every server, then do it again"),
    }
}
