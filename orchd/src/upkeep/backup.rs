//! `orchd backup`: everything that a cluster needs to come back, in one file, while it runs.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use orchestrator_core::dump::{DumpItem, DumpWriter};
use orchestrator_core::store::Quarantined;
use orchestrator_http::Client;
use tempfile::NamedTempFile;

use super::dump::{Dump, directory_of, refuse_existing};
use super::files;
use super::progress::Progress;
use crate::data_dir::{DataDir, default_data_dir};
use crate::out::{line, remark, usage};
use crate::store::{EtcdArgs, StoreUrl};

pub const EXAMPLES: &str = "\
Examples:
  orchd backup monday.orchd --data-dir /var/lib/orchd       on the server's machine
  orchd backup monday.orchd --without-keys --kubeconfig K   from anywhere

A backup with keys is all that `orchd restore` needs. Who has it can read every secret and be anybody in the cluster: keep it as you \
would keep the root's password. Without keys, secrets in it are sealed, and the directory `pki` of the data directory is \
needed too.";

/// Options of `orchd backup`.
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// The file to write; there must be none
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The server's data directory [default: the user's]
    #[arg(long, value_name = "DIR", conflicts_with = "kubeconfig")]
    data_dir: Option<PathBuf>,
    /// Leave the cluster's keys and the keys of its secrets out
    #[arg(long)]
    without_keys: bool,
    /// Ask a server elsewhere; needs --without-keys, for its keys stay where they are
    #[arg(long, value_name = "FILE", requires = "without_keys")]
    kubeconfig: Option<PathBuf>,
    /// Where the state lies, when no server runs: as `orchd server --store`
    #[arg(long, value_name = "URL", value_parser = StoreUrl::parse, conflicts_with = "kubeconfig")]
    store: Option<StoreUrl>,
    #[command(flatten)]
    etcd: EtcdArgs,
}

/// Writes a backup.
pub async fn backup(args: BackupArgs) -> anyhow::Result<()> {
    if args.file.file_name().is_none() {
        return Err(usage(format!("{} is no name of a file", args.file.display())));
    }
    refuse_existing(&args.file)?;
    let data_dir = args.data_dir.clone().unwrap_or_else(default_data_dir);
    let dump = match &args.kubeconfig {
        Some(kubeconfig) => Dump::of_server(&Client::from_kubeconfig(kubeconfig)?).await?,
        None => {
            let dir = DataDir::find(&data_dir)?;
            Dump::of_data_dir(&dir, args.store.as_ref(), &args.etcd).await?
        }
    };
    let keys = if args.without_keys { Vec::new() } else { files::read(&data_dir)? };
    if keys.is_empty() && !args.without_keys {
        bail!(
            "{} holds no keys; name the server's data directory, or say --without-keys",
            data_dir.display()
        );
    }
    let written = write(&args.file, dump, keys).await?;
    for Quarantined { key, reason, .. } in &written.unreadable {
        remark(format_args!("warning: {key} cannot be read and is not in the backup: {reason}"));
    }
    line(format_args!(
        "{}: {} records at revision {}, {}",
        args.file.display(),
        written.records,
        written.revision,
        if args.without_keys { "without keys" } else { "with keys" }
    ))
}

struct Written {
    records: u64,
    revision: orchestrator_core::model::Revision,
    unreadable: Vec<Quarantined>,
}

/// Writes a file whole or not at all, for its owner alone.
async fn write(path: &Path, mut dump: Dump, keys: Vec<DumpItem>) -> anyhow::Result<Written> {
    let directory = directory_of(path);
    let failed = || format!("cannot write {}", path.display());
    // Such a file is made with mode 0600.
    let file = NamedTempFile::new_in(directory);
    // What it is called meanwhile concerns nobody.
    let file = file.map_err(|error| std::io::Error::from(error.kind())).with_context(failed)?;
    let mut out = std::io::BufWriter::new(file);
    let header = dump.header().await?;
    let (mut writer, begin) = DumpWriter::begin(&header)?;
    out.write_all(&begin).with_context(failed)?;
    for item in &keys {
        out.write_all(&writer.item(item)?).with_context(failed)?;
    }
    let (mut progress, mut unreadable) = (Progress::start("backing up"), Vec::new());
    while let Some(item) = dump.next().await? {
        let bytes = writer.item(&item)?;
        out.write_all(&bytes).with_context(failed)?;
        match item {
            DumpItem::Record(_) => progress.record(bytes.len()),
            DumpItem::Unreadable(quarantined) => unreadable.push(quarantined),
            DumpItem::File { path, .. } => bail!("the server has sent a file {path:?}"),
        }
    }
    out.write_all(&writer.end()).with_context(failed)?;
    let file =
        out.into_inner().map_err(std::io::IntoInnerError::into_error).with_context(failed)?;
    file.as_file().sync_all().with_context(failed)?;
    if let Err(error) = file.persist_noclobber(path) {
        // Somebody else may have made it meanwhile.
        refuse_existing(path)?;
        return Err(error.error).with_context(failed);
    }
    std::fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .with_context(failed)?;
    Ok(Written { records: progress.records, revision: header.revision, unreadable })
}
