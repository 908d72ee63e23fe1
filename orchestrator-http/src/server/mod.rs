//! The server: sockets, TLS, limits and a shutdown that joins every task. What requests mean is [`Api`]'s.

mod connection;
mod http2;
mod listener;
mod streams;
mod timed_io;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orchestrator_core::driver::Cluster;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::account_tokens::AccountTokens;
use crate::api::{Api, Credentials, FairnessLimits};
use crate::audit::AuditLog;
use crate::kubeconfig::{self, Credential};
use crate::pki::{Pki, PkiError, Token};
use crate::servers::{RootError, Servers, check_root, keep_record};
use crate::stopping::{self, Stop};
use crate::upkeep::Upkeep;
use connection::Connection;
use listener::Acceptor;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address, with TLS and a token. Port 0 takes a free one.
    Tcp(SocketAddr),
    /// A socket in the file system, of mode 0600: who runs as the same user (or as root) needs no token.
    Unix(PathBuf),
}

/// The limits of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most connections at a time; further ones are closed at once.
    pub connections_max: usize,
    /// How long a TLS handshake may take, in milliseconds.
    pub handshake_ms: u64,
    /// How long a new connection may stay silent, in milliseconds.
    pub first_byte_ms: u64,
    /// How long a request's head may take to come, and a connection may stay idle, in milliseconds.
    pub head_ms: u64,
    /// How long a client may take no bytes of an answer before it is cut off, in milliseconds.
    pub stall_ms: u64,
    /// How long requests under way may take to end at a shutdown, in milliseconds.
    pub shutdown_ms: u64,
    /// How much each identity may take.
    pub fairness: FairnessLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A thousand agents have up to four connections each.
            connections_max: 8_000,
            handshake_ms: 10_000,
            first_byte_ms: 10_000,
            head_ms: 60_000,
            stall_ms: 30_000,
            shutdown_ms: 5_000,
            fairness: FairnessLimits::default(),
        }
    }
}

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where it listens.
    pub listen: Listen,
    /// The directory of the authority's certificate and key and the administrator's token; made if it is missing.
    pub pki_directory: PathBuf,
    /// Host names and addresses, beside the usual ones, by which clients reach the server.
    pub extra_names: Vec<String>,
    /// The file in which calls that change something are put down, if they are: lines of JSON, mode 0600. A file of 64 MiB is
    /// put aside; four of those are kept.
    pub audit_log: Option<PathBuf>,
    /// The URL by which other servers of the cluster and agents reach this one, such as `https://10.0.0.1:6443`, if the cluster
    /// shares its store (`ClusterBuilder::elect_as`). With port 0 the port is the one that it listens on.
    pub url_among: Option<String>,
    /// Its limits.
    pub limits: Limits,
    /// What the upkeep of its store needs; without it there are no backups over the API.
    pub upkeep: Option<Arc<dyn Upkeep>>,
}

impl ServerConfig {
    /// Sets up a server on this machine alone, on a free port.
    pub fn loopback(pki_directory: impl Into<PathBuf>) -> Self {
        Self::new(Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))), pki_directory)
    }

    /// Sets up a server with the usual limits.
    pub fn new(listen: Listen, pki_directory: impl Into<PathBuf>) -> Self {
        let pki_directory = pki_directory.into();
        Self {
            listen,
            pki_directory,
            extra_names: Vec::new(),
            audit_log: None,
            url_among: None,
            limits: Limits::default(),
            upkeep: None,
        }
    }
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("listening on {address}")]
    Listen {
        /// The address.
        address: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The audit log cannot be opened.
    #[error("opening the audit log {}", path.display())]
    AuditLog {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Its keys are not those of the cluster.
    #[error(transparent)]
    Root(#[from] RootError),
    /// Keys and certificates cannot be had.
    #[error("setting up keys and certificates")]
    Pki(#[from] PkiError),
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source(pub(crate) SocketAddr);

/// A server that runs. Dropping it stops it without waiting; [`shutdown`](Server::shutdown) waits.
#[derive(Debug)]
pub struct Server {
    local: Listen,
    ca_pem: String,
    token: Token,
    stop: Stop,
    task: Option<JoinHandle<()>>,
    record: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server of a cluster.
    ///
    /// # Errors
    /// [`ServeError`] when the address is taken or not ours, or keys cannot be had.
    pub async fn bind(config: ServerConfig, cluster: Cluster) -> Result<Self, ServeError> {
        let now = seconds_now();
        let open = || Pki::open(&config.pki_directory, now);
        let pki = match config.url_among {
            Some(_) => check_root(&cluster, &config.pki_directory, open).await?,
            None => open()?,
        };
        let listen_error = |source| ServeError::Listen { address: print(&config.listen), source };
        let (stop, stopping) = stopping::channel();
        let (acceptor, local, names) = match &config.listen {
            Listen::Tcp(address) => {
                let socket = tokio::net::TcpListener::bind(address).await.map_err(listen_error)?;
                let local = socket.local_addr().map_err(listen_error)?;
                let names = names(local, &config.extra_names);
                let tls = pki.server_config(&names, now)?;
                (Acceptor::Tcp(socket, tls.into()), Listen::Tcp(local), names)
            }
            Listen::Unix(path) => {
                let socket = listener::bind_unix(path).await.map_err(listen_error)?;
                (Acceptor::Unix(socket, path.clone()), config.listen.clone(), Vec::new())
            }
        };
        let audit = config.audit_log.as_deref().map(open_audit_log).transpose()?;
        let accounts = AccountTokens::open(&config.pki_directory)?;
        let (ca_pem, token) = (pki.ca_pem().to_owned(), pki.token().clone());
        let own = config.url_among.map(|own| with_port(own, &local));
        let servers = own.as_ref().map(|own| Servers::new(own.clone(), &pki, now)).transpose()?;
        let keys = config.pki_directory;
        let credentials = Credentials { accounts, keys, servers, names, pki };
        let fairness = config.limits.fairness.clone();
        let record =
            own.map(|own| tokio::spawn(keep_record(cluster.clone(), own, stopping.clone())));
        let api = Api::with_credentials(
            cluster,
            Some(credentials),
            audit,
            fairness,
            stopping.clone(),
            config.upkeep,
        );
        let connection = Arc::new(Connection { api, limits: config.limits.clone(), stopping });
        let task = tokio::spawn(accept_until_stopped(acceptor, connection));
        Ok(Self { local, ca_pem, token, stop, task: Some(task), record })
    }

    /// The address the server listens on; `None` for a socket in the file system.
    pub const fn local_addr(&self) -> Option<SocketAddr> {
        match &self.local {
            Listen::Tcp(address) => Some(*address),
            Listen::Unix(_) => None,
        }
    }

    /// The URL by which clients on this machine reach the server.
    pub fn url(&self) -> String {
        kubeconfig::url(&self.local)
    }

    /// The certificate of the cluster's authority, in PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The administrator's token.
    pub const fn token(&self) -> &Token {
        &self.token
    }

    /// Writes a kubeconfig of mode 0600 with the URL, the authority's certificate and the token, for kubectl and for
    /// [`Client`](crate::Client).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_kubeconfig(&self, path: &Path) -> std::io::Result<()> {
        let credential = Credential::Token(&self.token);
        let text = kubeconfig::render(&self.url(), Some(&self.ca_pem), "admin", credential);
        crate::private_file::write(path, text.as_bytes())
    }

    /// Stops: no new connections, watches end, requests under way get a few seconds to end; then every task is joined.
    pub async fn shutdown(mut self) {
        self.stop.stop();
        if let Some(task) = self.task.take() {
            // A panic of the accept loop has been reported by the panic hook.
            let _ = task.await;
        }
        if let Some(record) = self.record.take() {
            let _ = record.await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// Names the port that a server listens on where none is named.
fn with_port(own: String, local: &Listen) -> String {
    match (own.strip_suffix(":0"), local) {
        (Some(rest), Listen::Tcp(local)) => format!("{rest}:{}", local.port()),
        _ => own,
    }
}

fn open_audit_log(path: &Path) -> Result<AuditLog, ServeError> {
    AuditLog::open(path).map_err(|source| ServeError::AuditLog { path: path.to_owned(), source })
}

async fn accept_until_stopped(acceptor: Acceptor, connection: Arc<Connection>) {
    let permits = Arc::new(Semaphore::new(connection.limits.connections_max));
    let mut stopping = connection.stopping.clone();
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stopping.wait() => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            accepted = acceptor.accept() => match (accepted, Arc::clone(&permits).try_acquire_owned()) {
                (Ok(peer), Ok(permit)) => {
                    let connection = Arc::clone(&connection);
                    tasks.spawn(async move {
                        connection.serve(peer).await;
                        drop(permit);
                    });
                }
                (Ok(_), Err(_)) => connection.api.note_refused_connection(),
                (Err(error), _) => {
                    // Out of descriptors, most likely: the loop must neither end nor spin.
                    tracing::warn!(%error, "accepting a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(acceptor);
    let all = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_millis(connection.limits.shutdown_ms), all).await;
    tasks.shutdown().await;
}

/// The names a certificate must have for clients to find the server under.
fn names(local: SocketAddr, extra: &[String]) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !local.ip().is_unspecified() {
        names.push(local.ip().to_string());
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().to_ascii_lowercase();
    if orchestrator_core::model::is_dns_subdomain(&host) {
        names.push(host);
    }
    names.extend(extra.iter().cloned());
    names.sort();
    names.dedup();
    names
}

fn print(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix(path) => path.display().to_string(),
    }
}

fn seconds_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
