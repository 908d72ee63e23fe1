//! `orchd secrets`: the key that seals them.

use std::path::PathBuf;

use anyhow::bail;
use orchestrator_http::{Client, ClientError, KeyRotation, NoPeers, server_urls};

use crate::cluster_keys::refuse_lost;
use crate::data_dir::{DataDir, default_data_dir};
use crate::out::{Stop, line, remark};
use crate::store::{Backend, EtcdArgs, Store, StoreUrl};

pub const EXAMPLES: &str = "\
Examples:
  orchd secrets rotate --data-dir /var/lib/orchd

The new key is put into the file pki/secrets.keys of the data directory, below the old ones. Those are needed for backups made before; take \
their lines out when there are none any more.";

#[derive(Debug, clap::Subcommand)]
pub enum SecretsVerb {
    /// Make a new key and seal every secret with it, while the server runs
    Rotate {
        /// The server's data directory [default: the user's]
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// Where the state lies, when no server runs: as `orchd server --store`
        #[arg(long, value_name = "URL", value_parser = StoreUrl::parse)]
        store: Option<StoreUrl>,
        #[command(flatten)]
        etcd: EtcdArgs,
    },
}

/// Changes the key.
pub async fn secrets(verb: SecretsVerb) -> anyhow::Result<()> {
    let SecretsVerb::Rotate { data_dir, store, etcd } = verb;
    let dir = DataDir::find(&data_dir.unwrap_or_else(default_data_dir))?;
    let KeyRotation { key, sealed, unreadable } = rotate(&dir, store.as_ref(), &etcd).await?;
    for secret in &unreadable {
        remark(format_args!("error: {secret}"));
    }
    line(format_args!("key {key} seals {sealed} secrets"))?;
    if unreadable.is_empty() { Ok(()) } else { Err(Stop::Told.into()) }
}

async fn rotate(
    dir: &DataDir,
    asked: Option<&StoreUrl>,
    etcd: &EtcdArgs,
) -> anyhow::Result<KeyRotation> {
    let kubeconfig = dir.kubeconfig();
    if kubeconfig.exists() {
        match Client::from_kubeconfig(&kubeconfig)?.rotate_keys().await {
            Ok(rotation) => return Ok(rotation),
            Err(error @ ClientError::Unreachable { .. }) => {
                tracing::debug!(%error, "no server answers");
            }
            Err(error) => return Err(error.into()),
        }
    }
    let url = dir.known_store(asked)?;
    let backend = Backend::open_known(&url, etcd).await?;
    if let Err(error) = refuse_lost(dir, &url, &*backend.shared()).await {
        backend.close().await;
        return Err(error);
    }
    let store = Store::new(backend, dir.keys()?);
    let rotation = rotate_alone(&store).await;
    store.close().await;
    rotation
}

/// Changes the key of a store that no server has open.
async fn rotate_alone(store: &Store) -> anyhow::Result<KeyRotation> {
    let servers = server_urls(&*store.shared()).await?;
    if !servers.is_empty() {
        bail!(
            "other servers may use the store, and would not know the new key: {}; start this server, which gives it to them",
            servers.join(", ")
        );
    }
    store.rotate(&NoPeers).await
}
