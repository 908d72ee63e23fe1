//! `DataDir`: the directory in which an orchd, or an agent, keeps everything; refused when it is somebody else's.

mod moving;
mod ours;

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use orchestrator_seal::KeyRing;

use crate::runtime::RuntimeChoice;
use crate::store::StoreUrl;
pub use moving::{Moving, refuse_aside, refuse_put_aside};
use ours::refuse_foreign;

/// The database of a data directory; what makes it ours.
pub const DATABASE: &str = "cluster.db";
/// What makes the directory of an agent ours.
const AGENT: &str = "agent.json";
/// The file that names the runtime whose pods the database knows.
pub const RUNTIME: &str = "runtime";
/// The directory of the cluster's keys.
pub const PKI: &str = "pki";
/// The file of the keys that seal secrets, in the directory of the cluster's keys.
const SECRET_KEYS: &str = "secrets.keys";
const KUBECONFIG: &str = "kubeconfig";
/// What says that a state is being restored into the directory.
const FILLING: &str = "restoring";
/// What an agent locks as long as it runs.
const AGENT_LOCK: &str = "agent.lock";
/// How long a lock may outlive the process that took it: what a killed one had forked shares the lock until it runs its own
/// program.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(5);
/// The file that names the store, when the state lies elsewhere.
const STORE: &str = "store";

/// A data directory that may be used.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// What nobody else can lock as long as this is there, where one alone may use the directory.
    lock: Option<File>,
}

/// The directory used when none is given: `$XDG_DATA_HOME/orchd`, `~/.local/share/orchd`, or `/var/lib/orchd`.
pub fn default_data_dir() -> PathBuf {
    default_dir("orchd")
}

/// The one of an agent, which may run beside a server: `orchd-agent` instead of `orchd`.
pub fn default_agent_dir() -> PathBuf {
    default_dir("orchd-agent")
}

fn default_dir(name: &str) -> PathBuf {
    let from = |variable: &str| {
        std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
    };
    match (from("XDG_DATA_HOME"), from("HOME")) {
        (Some(data), _) => data.join(name),
        (None, Some(home)) => home.join(".local/share").join(name),
        (None, None) => Path::new("/var/lib").join(name),
    }
}

impl DataDir {
    /// Takes a directory: makes it if it is absent, and refuses one that holds something else than an orchd's data.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let opened = Self::open_to_move(path)?;
        match opened.moving()? {
            None => Ok(opened),
            Some(Moving { from, to }) => bail!(
                "the state of {0} is being moved from {from}, or that was interrupted; do it again with \
                 `orchd migrate --data-dir {0} --to {to}`",
                path.display()
            ),
        }
    }

    /// The same, and also one whose state is being moved.
    pub fn open_to_move(path: &Path) -> anyhow::Result<Self> {
        let opened = Self::open_as(path, DATABASE)?;
        match opened.path.join(FILLING).exists() {
            false => Ok(opened),
            true => bail!(
                "a restore into {} is under way or was interrupted; do it again with `orchd restore`",
                path.display()
            ),
        }
    }

    /// Takes a directory that is there, with the state of a server.
    pub fn find(path: &Path) -> anyhow::Result<Self> {
        Self::refuse_without_state(path)?;
        Self::open(path)
    }

    /// The same, and also one whose state is being moved.
    pub fn find_to_move(path: &Path) -> anyhow::Result<Self> {
        Self::refuse_without_state(path)?;
        Self::open_to_move(path)
    }

    fn refuse_without_state(path: &Path) -> anyhow::Result<()> {
        if !path.is_dir() {
            bail!("there is no data directory {}; name it with --data-dir", path.display());
        }
        let has = |name: &str| path.join(name).exists();
        match has(AGENT) && !has(DATABASE) && !has(STORE) {
            true => bail!(
                "{} is an agent's and has no state; name the server's with --data-dir",
                path.display()
            ),
            false => Ok(()),
        }
    }

    /// Takes a directory to restore a state into: one that has none, or in which that was interrupted. Nobody else does so meanwhile.
    pub fn begin_filling(path: &Path) -> anyhow::Result<Self> {
        let mut begun = Self::open_as(path, DATABASE)?;
        let mark = path.join(FILLING);
        let has_state = || [DATABASE, STORE].iter().any(|name| path.join(name).exists());
        let refused = "holds a state already; restore into another directory";
        if has_state() && !mark.exists() {
            bail!("{} {refused}", path.display());
        }
        let failed = || format!("cannot write {}", mark.display());
        let Some(mut file) = lock(&mark)? else {
            bail!("another restore into {} is under way", path.display());
        };
        let is_new = file.metadata().with_context(failed)?.len() == 0;
        if has_state() {
            // A state comes to its place whole, so that nothing is left to be done for it.
            let is_interrupted = !is_new && mark.exists();
            begun.remove(FILLING)?;
            match is_interrupted {
                true => bail!(
                    "{} holds the whole state of a restore that was interrupted at its end: start the server, or restore into \
                     another directory",
                    path.display()
                ),
                // The other one has come to its end since.
                false => bail!("{} {refused}", path.display()),
            }
        }
        if is_new {
            let written =
                file.write_all(b"a state is being restored\n").and_then(|()| file.sync_all());
            written.with_context(failed)?;
        }
        begun.lock = Some(file);
        Ok(begun)
    }

    /// Says that the state is restored.
    pub fn is_filled(&self) -> anyhow::Result<()> {
        self.remove(FILLING)
    }

    /// Takes a directory for an agent, and for it alone.
    pub fn open_agent(path: &Path) -> anyhow::Result<Self> {
        let opened = Self::open_as(path, AGENT)?;
        match lock(&path.join(AGENT_LOCK))? {
            Some(file) => Ok(Self { lock: Some(file), ..opened }),
            None => bail!(
                "another agent uses {}; give each agent a --data-dir and a --name of its own",
                path.display()
            ),
        }
    }

    /// Takes a directory that is known by files whose names begin with a mark.
    fn open_as(path: &Path, mark: &str) -> anyhow::Result<Self> {
        match std::fs::read_dir(path) {
            Ok(entries) => refuse_foreign(path, entries, mark)?,
            Err(error) if error.kind() == ErrorKind::NotFound => make_private(path)?,
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot read the data directory {}", path.display()));
            }
        }
        Ok(Self { path: path.to_owned(), lock: None })
    }

    /// The place for the state in the directory itself.
    pub fn own_store(&self) -> StoreUrl {
        StoreUrl::Sqlite(self.path.join(DATABASE))
    }

    /// Where the state lies that is there.
    pub fn known_store(&self, asked: Option<&StoreUrl>) -> anyhow::Result<StoreUrl> {
        let known = self.store(asked.or(self.any_store()?.as_ref()))?;
        match &known {
            StoreUrl::Sqlite(path) if !path.exists() => {
                bail!("there is no state in {}", self.path.display())
            }
            StoreUrl::Sqlite(_) | StoreUrl::Etcd(_) => Ok(known),
        }
    }

    /// The kubeconfig of the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path.join(KUBECONFIG)
    }

    /// The directory of the cluster's keys.
    pub fn pki(&self) -> PathBuf {
        self.path.join(PKI)
    }

    /// The file of the keys that seal secrets.
    pub fn key_file(&self) -> PathBuf {
        self.pki().join(SECRET_KEYS)
    }

    /// The keys that seal secrets; a first one is made where there is none.
    pub fn keys(&self) -> anyhow::Result<KeyRing> {
        make_private(&self.pki())?;
        Ok(KeyRing::open(self.key_file())?)
    }

    /// Where the state lies: where it is asked for, unless this directory's lies somewhere else.
    pub fn store(&self, asked: Option<&StoreUrl>) -> anyhow::Result<StoreUrl> {
        let own = self.own_store();
        match (self.any_store()?, asked) {
            (Some(known), Some(asked)) if !known.is_like(asked) => bail!(
                "the state of {} lies in {known}: start with `--store {known}`, move it with `orchd migrate`, \
                 or choose another data directory",
                self.path.display()
            ),
            (Some(known), None) if !known.is_like(&own) => bail!(
                "the state of {} lies in {known}: start with `--store {known}`",
                self.path.display()
            ),
            (_, asked) => Ok(asked.cloned().unwrap_or(own)),
        }
    }

    /// Refuses a place that was left while somebody waited for it to be free.
    pub fn refuse_left(&self, url: &StoreUrl) -> anyhow::Result<()> {
        Self::open(&self.path)?;
        match url.is_like(&self.own_store()) {
            true => self.store(None).map(drop),
            false => Ok(()),
        }
    }

    /// Whether a server has run here, or a state was moved or restored into here.
    pub fn is_used(&self) -> bool {
        [KUBECONFIG, STORE].iter().any(|name| self.path.join(name).exists())
    }

    /// Where the state lies, if there is one.
    pub fn any_store(&self) -> anyhow::Result<Option<StoreUrl>> {
        let path = self.path.join(STORE);
        match std::fs::read_to_string(&path) {
            Ok(text) => match StoreUrl::parse(text.trim()) {
                Ok(url) => Ok(Some(url)),
                Err(error) => bail!("{}: {error}", path.display()),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Ok(self.path.join(DATABASE).exists().then(|| self.own_store()))
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Remembers where the state lies, for the next start.
    pub fn remember_store(&self, url: &StoreUrl) -> anyhow::Result<()> {
        if url.is_like(&self.own_store()) {
            return self.remove(STORE);
        }
        self.write(STORE, &url.to_string())
    }

    /// The runtime to use: what is asked for, unless the pods of this directory run with another one.
    pub fn runtime(&self, asked: Option<RuntimeChoice>) -> anyhow::Result<Option<RuntimeChoice>> {
        let known = match std::fs::read_to_string(self.path.join(RUNTIME)) {
            Ok(text) => match text.trim() {
                "docker" => Some(RuntimeChoice::Docker),
                "process" => Some(RuntimeChoice::Process),
                other => bail!(
                    "{}: {other:?} is neither docker nor process; write the one that runs the pods of this directory into it",
                    self.path.join(RUNTIME).display()
                ),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).context("cannot read which runtime the data directory is for");
            }
        };
        match (known, asked) {
            (Some(known), Some(asked)) if known != asked => bail!(
                "the pods of {} run with `--runtime {}`; use that, or another data directory",
                self.path.display(),
                known.name()
            ),
            (Some(known), _) => Ok(Some(known)),
            (None, asked) => Ok(asked),
        }
    }

    /// Remembers the runtime for the next start.
    pub fn remember(&self, runtime: &str) -> anyhow::Result<()> {
        if self.path.join(RUNTIME).exists() {
            return Ok(());
        }
        self.write(RUNTIME, runtime)
    }

    fn remove(&self, name: &str) -> anyhow::Result<()> {
        let path = self.path.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            Err(_) => Ok(()),
            Ok(()) => {
                sync_parent(&path).with_context(|| format!("cannot write {}", self.path.display()))
            }
        }
    }

    /// Writes a line into a file.
    fn write(&self, name: &str, line: &str) -> anyhow::Result<()> {
        let path = self.path.join(name);
        let write = || -> std::io::Result<()> {
            // Whole or not at all, also when the machine stops meanwhile.
            let mut file =
                tempfile::Builder::new().prefix(ours::HALF_WRITTEN).tempfile_in(&self.path)?;
            writeln!(file, "{line}")?;
            file.as_file().sync_all()?;
            file.persist(&path).map(drop).map_err(|error| error.error)?;
            sync_parent(&path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Makes sure that the name of a file is on the disk, or that it is gone from there.
fn sync_parent(path: &Path) -> std::io::Result<()> {
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

/// Locks a file, which is made if it is absent; `None` while somebody else has it locked.
fn lock(path: &Path) -> anyhow::Result<Option<File>> {
    let mut options = File::options();
    let file = options.create(true).append(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    let until = Instant::now() + LOCK_WAIT_MAX;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
}

/// Makes a directory that only its owner may enter.
fn make_private(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make the data directory {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_stay_with_the_runtime_they_were_started_with() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = DataDir::open(dir.path()).expect("an empty directory is fine");
        assert_eq!(data.runtime(None).expect("no runtime yet"), None);
        data.remember("process").expect("writable");
        assert_eq!(data.runtime(None).expect("known"), Some(RuntimeChoice::Process));
        let error = data.runtime(Some(RuntimeChoice::Docker)).expect_err("another").to_string();
        assert!(error.contains("--runtime process"), "{error}");
    }

    #[test]
    fn a_state_stays_where_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = DataDir::open(dir.path()).expect("an empty directory is fine");
        let own = StoreUrl::Sqlite(dir.path().join("cluster.db"));
        let etcd = StoreUrl::Etcd("etcd://a,b".to_owned());
        assert_eq!(data.store(None).expect("nothing yet"), own);
        assert_eq!(data.store(Some(&etcd)).expect("nothing yet"), etcd);
        data.remember_store(&etcd).expect("writable");
        let other_members = StoreUrl::Etcd("etcd://b,c".to_owned());
        assert_eq!(data.store(Some(&other_members)).expect("members change"), other_members);
        for asked in [None, Some(&own), Some(&StoreUrl::Etcd("etcd://a,b/other".to_owned()))] {
            let error = data.store(asked).expect_err("elsewhere").to_string();
            assert!(error.contains("--store etcd://a,b`"), "{error}");
        }
    }

    #[test]
    fn one_restore_at_a_time_goes_into_a_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let begin = || DataDir::begin_filling(dir.path());
        let one = begin().expect("an empty directory is fine");
        let error = begin().expect_err("another one is under way").to_string();
        assert!(error.contains("another restore"), "{error}");
        drop(one);
        let again = begin().expect("it was interrupted");
        assert!(DataDir::open(dir.path()).is_err(), "and no server starts meanwhile");
        std::fs::write(dir.path().join("cluster.db"), "").expect("written");
        again.is_filled().expect("filled");
        let error = begin().expect_err("there is a state").to_string();
        assert!(error.contains("holds a state already"), "{error}");
        DataDir::open(dir.path()).expect("no mark is left");
    }

    #[test]
    fn a_restore_that_is_interrupted_at_its_very_end_is_no_dead_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let begun = DataDir::begin_filling(dir.path()).expect("an empty directory is fine");
        std::fs::write(dir.path().join("cluster.db"), "").expect("written");
        drop(begun);
        let error = DataDir::open(dir.path()).expect_err("it is not finished").to_string();
        assert!(error.contains("orchd restore"), "{error}");
        let error = DataDir::begin_filling(dir.path()).expect_err("it is whole").to_string();
        assert!(error.contains("start the server"), "{error}");
        DataDir::open(dir.path()).expect("as it said");
    }

    #[test]
    fn a_database_that_is_there_is_not_left_aside() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("cluster.db"), "").expect("written");
        let data = DataDir::open(dir.path()).expect("ours");
        let etcd = StoreUrl::Etcd("etcd://a,b".to_owned());
        let error = data.store(Some(&etcd)).expect_err("it has a database").to_string();
        assert!(error.contains("orchd migrate"), "{error}");
    }
}
