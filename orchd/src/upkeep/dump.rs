//! `Dump`: a dump that comes from a server, a store or a file, piece by piece.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use orchestrator_core::driver::Dumper;
use orchestrator_core::dump::{DumpHeader, DumpItem, DumpReader};
use orchestrator_core::model::Time;
use orchestrator_http::{ByteStream, Client, ClientError};
use orchestrator_sqlite::OpenError;

use crate::clock::seconds_now;
use crate::data_dir::DataDir;
use crate::out;
use crate::store::{Backend, EtcdArgs, StoreUrl};

/// How much of a file is read at once.
const PIECE_BYTES: usize = 256 << 10;

/// A dump on its way.
pub struct Dump {
    from: From,
    reader: DumpReader,
    /// What was read together with the header.
    first: Option<DumpItem>,
}

enum From {
    File(File),
    Server(ByteStream),
    Store(Dumper),
}

impl Dump {
    /// Asks a server.
    pub async fn of_server(client: &Client) -> Result<Self, ClientError> {
        let bytes = client.backup().await?;
        Ok(Self::new(From::Server(bytes)))
    }

    /// Reads an open store.
    pub fn of_store(store: &Backend) -> Self {
        let dumper = Dumper::new(store.shared(), Time::from_seconds(seconds_now()));
        Self::new(From::Store(dumper))
    }

    /// Reads a file.
    pub fn of_file(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self::new(From::File(file)))
    }

    /// Reads what a data directory's server has: over its API when it runs, else from the store itself.
    pub async fn of_data_dir(
        dir: &DataDir,
        asked: Option<&StoreUrl>,
        etcd: &EtcdArgs,
    ) -> anyhow::Result<Self> {
        let kubeconfig = dir.kubeconfig();
        let unasked = match Client::from_kubeconfig(&kubeconfig) {
            Ok(client) => match Self::of_server(&client).await {
                Ok(dump) => return Ok(dump),
                Err(error @ ClientError::Refused { .. }) => return Err(error.into()),
                Err(error) => error.to_string(),
            },
            Err(_) if !kubeconfig.exists() => {
                format!(
                    "{} is not there; a start of the server writes it anew",
                    kubeconfig.display()
                )
            }
            Err(error) => {
                tracing::warn!(
                    error = out::chain(&error.into()),
                    "the kubeconfig of the data directory cannot be used; a start of the server writes it anew"
                );
                format!("{} cannot be used", kubeconfig.display())
            }
        };
        let url = dir.known_store(asked)?;
        match Backend::open_known(&url, etcd).await {
            Ok(store) => Ok(Self::of_store(&store)),
            Err(error) if is_in_use(&error) => {
                Err(error.context(format!("the server cannot be asked ({unasked})")))
            }
            Err(error) => Err(error),
        }
    }

    fn new(from: From) -> Self {
        Self { from, reader: DumpReader::default(), first: None }
    }

    /// Whether it comes from a server that runs.
    pub const fn is_of_server(&self) -> bool {
        matches!(self.from, From::Server(_))
    }

    /// What the dump says of itself. To be asked for first.
    pub async fn header(&mut self) -> anyhow::Result<DumpHeader> {
        if self.first.is_none() && self.reader.header().is_none() {
            self.first = self.read().await?;
        }
        self.reader.header().cloned().context("the dump has no header")
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> anyhow::Result<Option<DumpItem>> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> anyhow::Result<Option<DumpItem>> {
        loop {
            if let Some(item) = self.reader.next_item()? {
                return Ok(Some(item));
            }
            match self.from.next().await? {
                Some(bytes) => self.reader.push(&bytes),
                None => {
                    self.reader.finish()?;
                    return Ok(None);
                }
            }
        }
    }
}

impl From {
    async fn next(&mut self) -> anyhow::Result<Option<bytes::Bytes>> {
        match self {
            Self::File(file) => {
                let mut piece = vec![0; PIECE_BYTES];
                let read = file.read(&mut piece).context("cannot read the dump")?;
                piece.truncate(read);
                Ok((read > 0).then(|| piece.into()))
            }
            Self::Server(bytes) => Ok(bytes.next().await.transpose()?),
            Self::Store(dumper) => Ok(dumper.next().await?),
        }
    }
}

/// Refuses a path for a new file where there is something, or no directory for it.
pub fn refuse_existing(path: &Path) -> anyhow::Result<()> {
    let directory = directory_of(path);
    match path.symlink_metadata() {
        Ok(_) => bail!("{} is there already; choose another name", path.display()),
        Err(_) if !directory.is_dir() => {
            bail!("there is no directory {} to write a file into", directory.display())
        }
        Err(_) => Ok(()),
    }
}

/// The directory that a file is in.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

/// Whether a store was not opened because a server runs on it.
fn is_in_use(error: &anyhow::Error) -> bool {
    let cause = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(OpenError::InUse { .. }))
    };
    error.chain().any(cause)
}
