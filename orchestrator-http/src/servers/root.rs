//! Whether a server has the keys of the cluster whose store it was given.

use std::path::{Path, PathBuf};

use orchestrator_core::api::{Caller, Rejection, Request, WriteOptions};
use orchestrator_core::driver::Cluster;
use orchestrator_core::model::{ConfigMap, Key, Kind, Object, ObjectMeta};
use orchestrator_core::store::{CommitOutcome, RecordKey, StateStore, StoreError, Txn, Write};
use orchestrator_core::world::World;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::NAMESPACE;
use super::record::{heard_lately, read_records};
use crate::pki::{Pki, fingerprint};

/// The object that names the root of the cluster whose state it lies in.
const NAME: &str = "orchestrator-root";
/// The entry that is the root's SHA-256.
const SHA256: &str = "sha256";

/// Why a server cannot be one of a cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// It has no keys yet, and the cluster has some.
    #[error(
        "the store is of a cluster that has its keys elsewhere, and {} holds none; join it with `--join URL --token TOKEN`, where \
         `orchd token create --role server` prints the token; if they were here and are lost, put the directory of a backup there, or begin \
         anew with `--new-keys` (docs/guides/backup.md, \"When the keys are lost\")",
        keys.display()
    )]
    NoKeys {
        /// Where they should be.
        keys: PathBuf,
    },
    /// Its keys are another cluster's.
    #[error(
        "the keys in {} are of another cluster: their root is {own}, and that of the store's cluster {theirs}; name another store, or move \
         the directory away and join with `--join URL --token TOKEN`, where `orchd token create --role server` prints the token",
        keys.display()
    )]
    OtherKeys {
        /// Where they are.
        keys: PathBuf,
        /// The SHA-256 of their root.
        own: String,
        /// The SHA-256 of the cluster's root.
        theirs: String,
    },
    /// Whose keys the cluster has cannot be found out, or recorded.
    #[error("cannot find out whose keys the cluster has: {0}")]
    Cluster(Rejection),
    /// Other servers have the cluster's keys.
    #[error(
        "new keys would not be those of the servers that the cluster has: {}; if `secrets.keys` alone is missing, a start without \
         `--new-keys` gets it from one that runs; else move the directory of keys away and join them with `--join URL --token TOKEN`, where \
         `orchd token create --role server` prints the token, or stop them; one that was killed is forgotten an hour after it was heard \
         last",
        servers.join(", ")
    )]
    OtherServers {
        /// Their URLs.
        servers: Vec<String>,
    },
    /// The store does not answer.
    #[error("cannot find out whose keys the cluster has")]
    Store(#[source] StoreError),
}

/// Refuses a store whose cluster has other keys than those in a directory, or keys while there are none in it, before anything is
/// made in the directory or written to the store.
///
/// # Errors
/// [`RootError`].
pub async fn refuse_stranger(store: &dyn StateStore, keys: &Path) -> Result<(), RootError> {
    let Some(theirs) = root_of(&read_records(store).await.map_err(RootError::Store)?) else {
        return Ok(());
    };
    let own = match std::fs::read(keys.join(Pki::ROOT)) {
        Ok(pem) => CertificateDer::from_pem_slice(&pem),
        Err(_) => return Err(RootError::NoKeys { keys: keys.to_owned() }),
    };
    match own.map(|own| fingerprint(&own)) {
        Ok(own) if own != theirs => {
            Err(RootError::OtherKeys { keys: keys.to_owned(), own, theirs })
        }
        // What is no certificate is told when it is opened.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Takes away what a store says of its cluster's keys, so that new ones can be recorded: those that it names are lost. `own_url` is the URL of
/// the server for which they are made, `now` in seconds since the Unix epoch.
///
/// # Errors
/// [`RootError`]; also when other servers have been heard in the last hour, which have the keys.
pub async fn forget_root(
    store: &dyn StateStore,
    own_url: Option<&str>,
    now: i64,
) -> Result<(), RootError> {
    let world = read_records(store).await.map_err(RootError::Store)?;
    refuse_heard(&world, own_url, now)?;
    let key = Key::new(Kind::ConfigMap, NAMESPACE, NAME);
    let Some(stored) = world.get(&key) else { return Ok(()) };
    let write = Write::Delete { key: RecordKey::main(key), expect: stored.main };
    let txn = Txn { guards: Vec::new(), writes: vec![write] };
    match store.commit(txn).await.map_err(RootError::Store)? {
        CommitOutcome::Committed(_) => Ok(()),
        CommitOutcome::Conflict { .. } | CommitOutcome::Unknown => {
            let message = "another server has written to it; try again".to_owned();
            Err(RootError::Cluster(Rejection::Unavailable { message }))
        }
    }
}

/// Refuses new keys while other servers than that at `own_url` have been heard in the last hour. `now` is in seconds since the Unix
/// epoch.
///
/// # Errors
/// [`RootError`].
pub async fn refuse_others(
    store: &dyn StateStore,
    own_url: Option<&str>,
    now: i64,
) -> Result<(), RootError> {
    refuse_heard(&read_records(store).await.map_err(RootError::Store)?, own_url, now)
}

fn refuse_heard(world: &World, own_url: Option<&str>, now: i64) -> Result<(), RootError> {
    let servers = heard_lately(world, own_url, now);
    match servers.is_empty() {
        true => Ok(()),
        false => Err(RootError::OtherServers { servers }),
    }
}

/// Opens the keys in a directory, which are made if the cluster has none yet, and makes sure that they are the cluster's.
///
/// # Errors
/// [`RootError`] before any key is made; else as [`Pki::open`].
pub(crate) async fn check_root(
    cluster: &Cluster,
    keys: &Path,
    open: impl FnOnce() -> Result<Pki, crate::pki::PkiError>,
) -> Result<Pki, crate::server::ServeError> {
    let recorded = recorded(cluster).await?;
    if recorded.is_some() && !keys.join(Pki::ROOT).exists() {
        return Err(RootError::NoKeys { keys: keys.to_owned() }.into());
    }
    let pki = open()?;
    let own = pki.root_sha256();
    let theirs = match recorded {
        Some(theirs) => theirs,
        None => record(cluster, &own).await?,
    };
    match theirs == own {
        true => Ok(pki),
        false => Err(RootError::OtherKeys { keys: keys.to_owned(), own, theirs }.into()),
    }
}

async fn recorded(cluster: &Cluster) -> Result<Option<String>, RootError> {
    Ok(root_of(&cluster.catch_up().await.map_err(RootError::Cluster)?))
}

fn root_of(world: &World) -> Option<String> {
    world.find::<ConfigMap>(NAMESPACE, NAME)?.data.get(SHA256).cloned()
}

/// Records the root, unless another server is first; returns what is recorded then.
async fn record(cluster: &Cluster, own: &str) -> Result<String, RootError> {
    let mut root =
        ConfigMap { metadata: ObjectMeta::named(NAMESPACE, NAME), ..ConfigMap::default() };
    root.data.insert(SHA256.to_owned(), own.to_owned());
    root.immutable = true;
    let request = Request::Create {
        kind: Kind::ConfigMap,
        namespace: NAMESPACE.to_owned(),
        object: Object::from(root).to_value(),
        options: WriteOptions::default(),
    };
    let caller = Caller::Admin { name: "system:server".to_owned() };
    match cluster.submit(&caller, request).await {
        Ok(_) => Ok(own.to_owned()),
        Err(Rejection::AlreadyExists { .. }) => Ok(recorded(cluster).await?.unwrap_or_default()),
        Err(rejection) => Err(RootError::Cluster(rejection)),
    }
}
