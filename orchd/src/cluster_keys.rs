//! The keys of a cluster: made where a state begins, and never quietly made anew for one that has lost its own.
//!
//! Invariant: the keys are in their files before the first record of the state is written. So a state that has records, and no keys
//! beside it, has lost them; a start that was interrupted has not. Made anew with a warning are two that a cluster can do without:
//! the issuing authority while the root's key is there, and the administrator's token.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use orchestrator_core::store::StateStore;
use orchestrator_http::{
    Pki, forget_root, make_keys, refuse_others, refuse_stranger, sealing_keys_of_peers,
    write_private,
};
use orchestrator_seal::{KeyRing, is_sealed};

use crate::clock::seconds_now;
use crate::data_dir::DataDir;
use crate::out;
use crate::store::{Backend, EtcdArgs, StoreUrl, is_empty, may_be_there};

/// What the root's certificate is called once its authority is lost.
const ROOT_ASIDE: &str = "root.crt.old";

/// Whether keys that are lost may be made anew.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct NewKeysArgs {
    /// Make new keys for a state whose own are lost, once: agents and users must then be let in anew, and secrets do not open
    #[arg(long)]
    new_keys: bool,
}

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    /// The root's certificate.
    Root,
    /// The issuing authority, and the root's key as well.
    Authority,
    /// The key that signs the tokens of service accounts.
    Accounts,
    /// The keys that seal secrets.
    Seals,
}

impl NewKeysArgs {
    /// The keys that seal the secrets of a state, which is opened for a server next. All keys are made, if it is a new one.
    ///
    /// # Errors
    /// When keys of the state are missing, and new ones are not asked for; or when they are asked for and none is missing.
    pub async fn keys(
        self,
        dir: &DataDir,
        (url, backend): (&StoreUrl, &Backend),
        url_among: Option<&str>,
    ) -> anyhow::Result<KeyRing> {
        dir.refuse_left(url)?;
        let store = &*backend.shared();
        if !self.new_keys && url_among.is_some() {
            refuse_stranger(store, &dir.pki()).await?;
        }
        match (&lost(dir, store).await?[..], url_among) {
            ([], _) if self.new_keys => {
                let message = format!("--new-keys: no key of the state in {url} is missing");
                return Err(out::usage(format!("{message}; leave the flag away")));
            }
            ([], _) => refuse_emptied(dir, url, store).await?,
            (lost, _) if self.new_keys => begin_anew(dir, store, lost, url_among).await?,
            ([Lost::Seals], Some(own)) if take_seals(dir, store, own).await? => {}
            (lost, _) => refuse(dir, url, lost)?,
        }
        let keys = dir.keys()?;
        make_keys(&dir.pki(), seconds_now())?;
        Ok(keys)
    }
}

/// Refuses a state some of whose keys are not in the data directory.
pub async fn refuse_lost(
    dir: &DataDir,
    url: &StoreUrl,
    store: &dyn StateStore,
) -> anyhow::Result<()> {
    match &lost(dir, store).await?[..] {
        [] => Ok(()),
        lost => refuse(dir, url, lost),
    }
}

/// Refuses, before anything is made there, a place in which nothing lies for a directory whose server has run: it is another one, or
/// was emptied. Begun there, an empty cluster would have the old one's keys, and would let its agents end their pods.
pub async fn refuse_absent(dir: &DataDir, url: &StoreUrl, etcd: &EtcdArgs) -> anyhow::Result<()> {
    if dir.is_used() && !may_be_there(url, etcd).await? {
        return Err(no_state(dir, url));
    }
    Ok(())
}

/// The same for a place that was begun and has no records.
async fn refuse_emptied(
    dir: &DataDir,
    url: &StoreUrl,
    store: &dyn StateStore,
) -> anyhow::Result<()> {
    match dir.is_used() && is_empty(store).await? {
        true => Err(no_state(dir, url)),
        false => Ok(()),
    }
}

fn no_state(dir: &DataDir, url: &StoreUrl) -> anyhow::Error {
    anyhow::anyhow!(
        "there is no state in {url}, and {} is of a cluster that has one. Say with --store where it lies; or restore a backup into another \
         directory, or begin a new cluster in one",
        dir.pki().with_file_name("").display()
    )
}

/// Learns which keys for secrets were made while this server was away.
pub async fn catch_up_on_keys(
    keys: &KeyRing,
    store: &dyn StateStore,
    dir: &DataDir,
    own: &str,
) -> anyhow::Result<()> {
    let told = sealing_keys_of_peers(store, &dir.pki(), own, seconds_now()).await;
    match told.map_err(anyhow::Error::from_boxed)? {
        Some(theirs) => Ok(keys.take_in(&theirs.text.0)?),
        None => Ok(()),
    }
}

/// Gets the lost keys for secrets from another server of the cluster; `false` when none gives them.
async fn take_seals(dir: &DataDir, store: &dyn StateStore, own: &str) -> anyhow::Result<bool> {
    let told = sealing_keys_of_peers(store, &dir.pki(), own, seconds_now()).await;
    let Some(theirs) = told.map_err(anyhow::Error::from_boxed)? else { return Ok(false) };
    let path = dir.key_file();
    let written = write_private(&path, theirs.text.0.as_bytes());
    written.with_context(|| format!("cannot write {}", path.display()))?;
    tracing::warn!(path = %path.display(), "the keys that seal secrets were missing; another server of the cluster has given them");
    Ok(true)
}

/// Makes room for new keys, unless other servers have the old ones.
async fn begin_anew(
    dir: &DataDir,
    store: &dyn StateStore,
    lost: &[Lost],
    url_among: Option<&str>,
) -> anyhow::Result<()> {
    let now = seconds_now();
    if lost.iter().any(|lost| matches!(lost, Lost::Root | Lost::Authority)) {
        forget_root(store, url_among, now).await?;
    } else if url_among.is_some() {
        refuse_others(store, url_among, now).await?;
    }
    if lost.contains(&Lost::Authority) {
        let (root, aside) = (dir.pki().join(Pki::ROOT), dir.pki().join(ROOT_ASIDE));
        let moved = std::fs::rename(&root, aside);
        moved.with_context(|| format!("cannot rename {}", root.display()))?;
    }
    Ok(())
}

fn refuse(dir: &DataDir, url: &StoreUrl, lost: &[Lost]) -> anyhow::Result<()> {
    let missing: Vec<_> =
        lost.iter().map(|lost| format!("no {} ({lost})", lost.file(dir).display())).collect();
    let after: Vec<_> = lost.iter().map(|lost| lost.after()).collect();
    let among = match url {
        StoreUrl::Etcd(_) if lost == [Lost::Seals] => {
            "; another server of the cluster gives them to a start of this one, but none that runs has answered"
        }
        StoreUrl::Etcd(_) => ", and with every other server of the cluster",
        StoreUrl::Sqlite(_) => "",
    };
    bail!(
        "there is the state of a cluster in {url}, and keys of it are missing: {}. They are in the old data directory and in every backup \
         with keys (docs/guides/backup.md, \"When the keys are lost\"){among}. Where there are none, one start with `--new-keys` begins \
         anew: {}",
        missing.join(", "),
        after.join(", and ")
    )
}

impl Lost {
    fn file(self, dir: &DataDir) -> PathBuf {
        match self {
            Self::Root => dir.pki().join(Pki::ROOT),
            Self::Authority => dir.pki().join(Pki::ROOT_KEY),
            Self::Accounts => dir.pki().join(Pki::ACCOUNTS),
            Self::Seals => dir.key_file(),
        }
    }

    /// What new ones mean.
    const fn after(self) -> &'static str {
        match self {
            Self::Root | Self::Authority => "agents and users must then be let in anew",
            Self::Accounts => "tokens of service accounts must then be made anew",
            Self::Seals => "secrets that were sealed do not open",
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "by which agents and clients know the cluster",
            Self::Authority => "which makes another issuing.crt and issuing.key, also missing",
            Self::Accounts => "which signs the tokens of service accounts",
            Self::Seals => "which opens secrets",
        })
    }
}

/// What is missing of the keys of a state that has records.
async fn lost(dir: &DataDir, store: &dyn StateStore) -> anyhow::Result<Vec<Lost>> {
    let pki = dir.pki();
    let mut lost = Vec::new();
    if !pki.join(Pki::ROOT).exists() {
        lost.push(Lost::Root);
    } else if !Pki::has_authority(&pki) {
        lost.push(Lost::Authority);
    }
    if !pki.join(Pki::ACCOUNTS).exists() {
        lost.push(Lost::Accounts);
    }
    let has_seals = dir.key_file().exists();
    if lost.is_empty() && has_seals {
        return Ok(lost);
    }
    let (mut token, mut has_records) = (None, false);
    loop {
        let page = store.load(token.take()).await;
        let page = page.context("cannot find out whether the state has lost its keys")?;
        has_records |= !page.records.is_empty();
        if !has_seals && page.records.iter().any(|record| is_sealed(&record.value)) {
            lost.push(Lost::Seals);
            return Ok(lost);
        }
        token = page.next;
        if token.is_none() || (has_seals && has_records) {
            return Ok(if has_records { lost } else { Vec::new() });
        }
    }
}
