//! The keys of a cluster: made where a state begins, and never quietly made anew for one that has lost its own.
//!
//! Invariant: the keys are in their files before the first record of the state is written. So a state that has records, and no keys
//! beside it, has lost them; a start that was interrupted has not.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use orchestrator_core::store::StateStore;
use orchestrator_http::{Pki, forget_root, refuse_stranger};
use orchestrator_seal::{KeyRing, is_sealed};

use crate::clock::seconds_now;
use crate::data_dir::DataDir;
use crate::out;
use crate::store::{Backend, StoreUrl};

/// Whether keys that are lost may be made anew.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct NewKeysArgs {
    /// Make new keys for a state whose own are lost, once: agents and users must then be let in anew, and secrets do not open
    #[arg(long)]
    new_keys: bool,
}

/// What is missing.
enum Lost {
    /// The file of the root's certificate, and what else agents and clients know the cluster by.
    Root(PathBuf),
    /// The file of the keys that seal secrets.
    Seals(PathBuf),
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
        let store = &*backend.shared();
        if self.new_keys {
            match lost(dir, store).await? {
                Some(Lost::Root(_)) => forget_root(store, url_among, seconds_now()).await?,
                Some(Lost::Seals(_)) => {}
                None => {
                    let message = format!("--new-keys: no key of the state in {url} is missing");
                    return Err(out::usage(format!("{message}; leave the flag away")));
                }
            }
        } else {
            if url_among.is_some() {
                refuse_stranger(store, &dir.pki()).await?;
            }
            refuse_lost(dir, url, store).await?;
        }
        let keys = dir.keys()?;
        Pki::open(&dir.pki(), seconds_now())?;
        Ok(keys)
    }
}

/// Refuses a state some of whose keys are not in the data directory.
pub async fn refuse_lost(
    dir: &DataDir,
    url: &StoreUrl,
    store: &dyn StateStore,
) -> anyhow::Result<()> {
    match lost(dir, store).await? {
        None => Ok(()),
        Some(lost) => bail!(
            "there is the state of a cluster in {url}, and {lost}. It is in the old data directory and in every backup with keys \
             (docs/guides/backup.md, \"When the keys are lost\"). Where there is none, one start with `--new-keys` begins anew: agents \
             and users must then be let in anew, and secrets that were sealed do not open"
        ),
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(path) => {
                let shown = path.display();
                write!(f, "the keys by which agents and clients know it are missing: no {shown}")
            }
            Self::Seals(path) => {
                write!(f, "the keys that open its secrets are missing: no {}", path.display())
            }
        }
    }
}

/// What is missing of the keys of a state that has records.
async fn lost(dir: &DataDir, store: &dyn StateStore) -> anyhow::Result<Option<Lost>> {
    let (root, seals) = (dir.pki().join(Pki::ROOT), dir.key_file());
    let (has_root, has_seals) = (root.exists(), seals.exists());
    if has_root && has_seals {
        return Ok(None);
    }
    let failed = "cannot find out whether the state has lost its keys";
    let mut token = None;
    loop {
        let page = store.load(token.take()).await.context(failed)?;
        if !has_root && !page.records.is_empty() {
            return Ok(Some(Lost::Root(root)));
        }
        if page.records.iter().any(|record| is_sealed(&record.value)) {
            return Ok(Some(Lost::Seals(seals)));
        }
        token = page.next;
        if token.is_none() {
            return Ok(None);
        }
    }
}
