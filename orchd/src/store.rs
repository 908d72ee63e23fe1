//! `Store`: where a cluster's state lies, opened by a URL; and the flags that say how to reach it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use orchestrator_core::model::Revision;
use orchestrator_core::store::{BoxError, Quarantined, StateStore, StoreError};
use orchestrator_etcd::{
    EtcdIdentity, EtcdOptions, EtcdStore, EtcdTls, EtcdUser, OpenError, Standing,
};
use orchestrator_http::{KeyRotation, Peers, SealingKeys, Upkeep};
use orchestrator_seal::{KeyRing, SealedStore, Sealing};
use orchestrator_sqlite::{SqliteFilling, SqliteOptions, SqliteStore};

const SQLITE: &str = "sqlite:";
const ETCD: &str = "etcd://";
/// The most bytes of a file with a password.
const PASSWORD_BYTES_MAX: u64 = 4096;

/// A place for a cluster's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `etcd://HOST:PORT,…/PREFIX`, as it was written.
    Etcd(String),
    /// `sqlite:PATH`.
    Sqlite(PathBuf),
}

impl StoreUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is none, with examples.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with(ETCD) {
            EtcdOptions::from_url(text).map_err(|error| error.to_string())?;
            return Ok(Self::Etcd(text.to_owned()));
        }
        match text.strip_prefix(SQLITE) {
            // Absolute, for it is remembered, and the next start may be elsewhere.
            Some(path) if !path.is_empty() => match std::path::absolute(path) {
                Ok(path) => Ok(Self::Sqlite(path)),
                Err(error) => Err(format!("{path}: {error}")),
            },
            Some(_) | None => Err(
                "a place for the state is needed: sqlite:PATH or etcd://HOST:PORT,HOST:PORT/PREFIX"
                    .to_owned(),
            ),
        }
    }

    /// Whether both may name the same state; members of an etcd come and go.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Etcd(a), Self::Etcd(b)) => both(a, b).is_some_and(|(a, b)| a.prefix == b.prefix),
            (Self::Sqlite(a), Self::Sqlite(b)) => {
                let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
                real(a) == real(b)
            }
            (Self::Etcd(_), Self::Sqlite(_)) | (Self::Sqlite(_), Self::Etcd(_)) => false,
        }
    }

    /// Whether both certainly name the same state: of an etcd they have a member in common.
    pub fn is_same(&self, other: &Self) -> bool {
        self.is_like(other)
            && match (self, other) {
                (Self::Etcd(a), Self::Etcd(b)) => {
                    both(a, b).is_some_and(|(a, b)| a.shares_member(&b))
                }
                _ => true,
            }
    }
}

/// What two URLs of etcds say.
fn both(a: &str, b: &str) -> Option<(EtcdOptions, EtcdOptions)> {
    Some((EtcdOptions::from_url(a).ok()?, EtcdOptions::from_url(b).ok()?))
}

impl std::fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Etcd(url) => f.write_str(url),
            Self::Sqlite(path) => write!(f, "{SQLITE}{}", path.display()),
        }
    }
}

/// How an etcd is reached.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "etcd")]
pub struct EtcdArgs {
    /// The certificates that have signed etcd's, in PEM; TLS is spoken when it is given
    #[arg(long, value_name = "FILE")]
    etcd_ca: Option<PathBuf>,
    /// A certificate to show to etcd, in PEM
    #[arg(long, value_name = "FILE", requires = "etcd_ca", requires = "etcd_key")]
    etcd_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "etcd_cert")]
    etcd_key: Option<PathBuf>,
    /// The name that etcd's certificate bears, if not the host's
    #[arg(long, value_name = "NAME", requires = "etcd_ca")]
    etcd_server_name: Option<String>,
    /// A user to log in to etcd as
    #[arg(long, value_name = "NAME", requires = "etcd_password_file")]
    etcd_user: Option<String>,
    /// The file with that user's password
    #[arg(long, value_name = "FILE", requires = "etcd_user")]
    etcd_password_file: Option<PathBuf>,
}

impl EtcdArgs {
    /// The first of these flags that is given and stands for itself: the others go with it.
    pub fn first_given(&self) -> Option<&'static str> {
        let given =
            [("--etcd-ca", self.etcd_ca.is_some()), ("--etcd-user", self.etcd_user.is_some())];
        given.into_iter().find_map(|(flag, is_given)| is_given.then_some(flag))
    }

    fn options(&self, url: &str) -> anyhow::Result<EtcdOptions> {
        let mut options = EtcdOptions::from_url(url)?;
        if let Some(ca) = &self.etcd_ca {
            let identity = match (&self.etcd_cert, &self.etcd_key) {
                (Some(certificate), Some(key)) => Some(EtcdIdentity {
                    certificate_pem: read("--etcd-cert", certificate)?,
                    key_pem: read("--etcd-key", key)?,
                }),
                _ => None,
            };
            let server_name = self.etcd_server_name.clone();
            options.tls = Some(EtcdTls { ca_pem: read("--etcd-ca", ca)?, identity, server_name });
        }
        if let (Some(name), Some(file)) = (&self.etcd_user, &self.etcd_password_file) {
            let password = read_password(file)?;
            options.user = Some(EtcdUser { name: name.clone(), password });
        }
        Ok(options)
    }
}

/// A store as it was opened by its URL. Clones share it.
#[derive(Clone, Debug)]
pub enum Backend {
    Etcd(Arc<EtcdStore>),
    Sqlite(Arc<SqliteStore>),
}

impl Backend {
    /// Opens a store, and begins it if there is none.
    pub async fn open(url: &StoreUrl, etcd: &EtcdArgs) -> anyhow::Result<Self> {
        let failed = || format!("cannot use the store {url}");
        match url {
            StoreUrl::Etcd(text) => match EtcdStore::open(etcd.options(text)?).await {
                Err(OpenError::Moved { to, .. }) => bail!(
                    "{}: its state has been moved to {to}; start with `--store {to}`, and if the data directory names the old place let \
                     it follow first, with `orchd migrate --data-dir DIR --to {to}`",
                    failed()
                ),
                store => Ok(Self::Etcd(Arc::new(store.with_context(failed)?))),
            },
            StoreUrl::Sqlite(path) => {
                let store = SqliteStore::open(path).await;
                Ok(Self::Sqlite(Arc::new(store.with_context(failed)?)))
            }
        }
    }

    /// Opens a store in which there is a state.
    pub async fn open_known(url: &StoreUrl, etcd: &EtcdArgs) -> anyhow::Result<Self> {
        if may_be_there(url, etcd).await? {
            let store = Self::open(url, etcd).await?;
            if !is_empty(&*store.shared()).await? {
                return Ok(store);
            }
            store.close().await;
        }
        bail!("there is no state in {url}; say with --store where it lies, or restore a backup")
    }

    /// As [`Backend::open`], and also where the state has been left for another place.
    pub async fn open_left(url: &StoreUrl, etcd: &EtcdArgs) -> anyhow::Result<Self> {
        let StoreUrl::Etcd(text) = url else { return Self::open(url, etcd).await };
        let store = EtcdStore::open_left(etcd.options(text)?).await;
        Ok(Self::Etcd(Arc::new(store.with_context(|| format!("cannot use the store {url}"))?)))
    }

    /// Says that the state goes on elsewhere, so that nobody uses it here any more; `false` when it is not as at `revision` any more.
    /// A database stays open and in nobody else's hands, until it is closed.
    pub async fn leave(&self, revision: Revision, to: &StoreUrl) -> Result<bool, StoreError> {
        match self {
            Self::Etcd(store) => store.leave(revision, &to.to_string()).await,
            Self::Sqlite(store) => Ok(store.revision().await? == revision),
        }
    }

    /// The store as everyone else knows it. Secrets are sealed in it.
    pub fn shared(&self) -> Arc<dyn StateStore> {
        match self {
            Self::Etcd(store) => store.clone(),
            Self::Sqlite(store) => store.clone(),
        }
    }

    /// Finishes what was asked for, and closes it.
    pub async fn close(&self) {
        match self {
            Self::Etcd(store) => store.close().await,
            Self::Sqlite(store) => store.close().await,
        }
    }
}

/// A store with the keys that seal its secrets. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
    sealed: SealedStore,
}

impl Store {
    /// Seals the secrets of a store.
    pub fn new(backend: Backend, keys: KeyRing) -> Self {
        let sealed = SealedStore::new(backend.shared(), Arc::new(keys));
        Self { backend, sealed }
    }

    /// The store in which secrets are in clear for those who read it, and sealed where it lies.
    pub fn shared(&self) -> Arc<dyn StateStore> {
        Arc::new(self.sealed.clone())
    }

    /// Finishes what was asked for, and closes it.
    pub async fn close(&self) {
        self.backend.close().await;
    }

    /// Seals what lies in clear, from before secrets were sealed, or is sealed with an older key.
    pub async fn seal_all(&self) {
        match self.sealed.seal_all().await {
            Ok(sealing) if sealing.sealed > 0 => {
                tracing::info!(secrets = sealing.sealed, "sealed secrets with the newest key");
            }
            Ok(_) | Err(StoreError::Closed) => {}
            Err(error) => tracing::warn!(%error, "not every secret is sealed with the newest key"),
        }
    }

    /// Makes a new key, gives it to the other servers, and seals everything with it.
    pub async fn rotate(&self, peers: &dyn Peers) -> anyhow::Result<KeyRotation> {
        let keys = self.sealed.keys();
        let key = keys.prepare_key()?;
        // Everybody can open what it seals before it seals anything.
        peers.give(&self.sealing_keys()).await.map_err(anyhow::Error::from_boxed)?;
        keys.seal_with(&key)?;
        let seals = Some(key.to_string());
        if let Err(error) = peers.give(&SealingKeys { seals, ..self.sealing_keys() }).await {
            tracing::warn!(%error, "a server goes on sealing with the old key until it starts anew");
        }
        let Sealing { sealed, unreadable } = self.sealed.seal_all().await?;
        let told = |found: Quarantined| format!("{}: {}", found.key, found.reason);
        let unreadable = unreadable.into_iter().map(told).collect();
        Ok(KeyRotation { key: key.to_string(), sealed, unreadable })
    }
}

#[async_trait]
impl Upkeep for Store {
    fn store(&self) -> Arc<dyn StateStore> {
        self.backend.shared()
    }

    async fn rotate_keys(&self, peers: &dyn Peers) -> Result<KeyRotation, BoxError> {
        Ok(self.rotate(peers).await?)
    }

    fn sealing_keys(&self) -> SealingKeys {
        SealingKeys { text: self.sealed.keys().text(), seals: None }
    }

    fn take_sealing_keys(&self, given: &SealingKeys) -> Result<(), BoxError> {
        let keys = self.sealed.keys();
        keys.take_in(&given.text.0)?;
        if let Some(id) = &given.seals {
            keys.seal_with(&id.parse()?)?;
        }
        Ok(())
    }
}

/// A store that takes the place of another one. Until it is finished nobody can open it.
#[derive(Debug)]
pub enum NewStore {
    Etcd(Arc<EtcdStore>),
    Sqlite(SqliteFilling),
}

impl NewStore {
    /// Begins a store whose revisions come after one. There must be none, or one that was not finished.
    pub async fn begin(url: &StoreUrl, etcd: &EtcdArgs, after: Revision) -> anyhow::Result<Self> {
        let failed = || format!("cannot begin the store {url}");
        match url {
            StoreUrl::Etcd(text) => {
                let store = EtcdStore::begin(etcd.options(text)?, after).await;
                Ok(Self::Etcd(Arc::new(store.with_context(failed)?)))
            }
            StoreUrl::Sqlite(path) => {
                let options = SqliteOptions { begin_after: after, ..SqliteOptions::default() };
                let filling = SqliteFilling::begin(path, options).await;
                Ok(Self::Sqlite(filling.with_context(failed)?))
            }
        }
    }

    /// Gives up. What there is of it in an etcd is taken away by the next that begins one there.
    pub async fn abandon(self) -> anyhow::Result<()> {
        match self {
            Self::Etcd(store) => store.close().await,
            Self::Sqlite(filling) => filling.abandon().await?,
        }
        Ok(())
    }

    /// The store, to be filled.
    pub fn shared(&self) -> Arc<dyn StateStore> {
        match self {
            Self::Etcd(store) => store.clone(),
            Self::Sqlite(filling) => filling.store().clone(),
        }
    }

    /// Says that it is whole, and closes it.
    pub async fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Etcd(store) => Ok(store.finish().await?),
            Self::Sqlite(filling) => {
                let failed = format!("cannot finish {}", filling.store().path().display());
                filling.finish().await.context(failed)
            }
        }
    }
}

/// Whether there is nothing in a store, not even what cannot be read.
pub async fn is_empty(store: &dyn StateStore) -> anyhow::Result<bool> {
    let page = store.load(None).await.context("cannot find out whether the state is there")?;
    Ok(page.records.is_empty() && page.quarantined.is_empty() && page.next.is_none())
}

/// Whether opening a place finds something, and does not begin a state. What an etcd has that is not whole it says itself then.
pub async fn may_be_there(url: &StoreUrl, etcd: &EtcdArgs) -> anyhow::Result<bool> {
    let found = standing(url, etcd).await?;
    Ok(match url {
        StoreUrl::Sqlite(_) => found == Some(Standing::Whole),
        StoreUrl::Etcd(_) => found.is_some(),
    })
}

/// How the state at a place stands; `None` when there is none.
pub async fn standing(url: &StoreUrl, etcd: &EtcdArgs) -> anyhow::Result<Option<Standing>> {
    let failed = || format!("cannot look for a state in {url}");
    match url {
        StoreUrl::Etcd(text) => {
            EtcdStore::standing(&etcd.options(text)?).await.with_context(failed)
        }
        StoreUrl::Sqlite(path) => {
            let found = match path.try_exists().with_context(failed)? {
                true => Some(Standing::Whole),
                false => SqliteFilling::is_begun(path)
                    .with_context(failed)?
                    .then_some(Standing::Unfinished),
            };
            Ok(found)
        }
    }
}

fn read(flag: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {flag} {}", path.display()))
}

/// Reads the password in a file: its first line.
fn read_password(path: &Path) -> anyhow::Result<String> {
    const FLAG: &str = "--etcd-password-file";
    let length = std::fs::metadata(path).map(|metadata| metadata.len());
    let length = length.with_context(|| format!("cannot read {FLAG} {}", path.display()))?;
    if length > PASSWORD_BYTES_MAX {
        bail!(
            "{FLAG} {} has {length} bytes: a password has at most {PASSWORD_BYTES_MAX}",
            path.display()
        );
    }
    let text = String::from_utf8(read(FLAG, path)?);
    let text = text.map_err(|_| anyhow::anyhow!("{FLAG} {} is not UTF-8", path.display()))?;
    match text.lines().next() {
        Some(password) if !password.is_empty() => Ok(password.to_owned()),
        _ => bail!("{FLAG} {} has no password in its first line", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_store_and_what_is_none_is_refused_with_what_would_be() {
        for text in ["sqlite:/var/lib/orchd/cluster.db", "etcd://a,b:2379/x"] {
            assert_eq!(StoreUrl::parse(text).expect(text).to_string(), text);
        }
        for text in ["", "sqlite:", "cluster.db", "http://a"] {
            let message = StoreUrl::parse(text).expect_err(text);
            assert!(message.contains("sqlite:PATH or etcd://"), "{message}");
        }
        let url = |text| StoreUrl::parse(text).expect(text);
        let same = |other| url("etcd://a,b/x").is_same(&url(other));
        assert!(same("etcd://b:2379,c/x") && !same("etcd://b:2380/x") && !same("etcd://b/y"));
        assert!(!same("sqlite:/x") && url("sqlite:/x").is_same(&url("sqlite:/x")));
        let here = std::env::current_dir().expect("a directory").join("a.db");
        assert_eq!(StoreUrl::parse("sqlite:a.db"), Ok(StoreUrl::Sqlite(here)));
        assert!(StoreUrl::parse("etcd://a:x").expect_err("no port").contains("endpoints"));
    }

    #[test]
    fn a_password_is_the_first_line_of_its_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("password");
        std::fs::write(&file, "hush\n").expect("written");
        assert_eq!(read_password(&file).expect("a password"), "hush");
        for (content, wrong) in [("\nx", "first line"), ("\u{e4}", "")] {
            std::fs::write(&file, content).expect("written");
            assert_eq!(read_password(&file).is_err(), !wrong.is_empty(), "{content:?}");
        }
        std::fs::write(&file, [0xff]).expect("written");
        assert!(read_password(&file).expect_err("no text").to_string().contains("UTF-8"));
    }
}
