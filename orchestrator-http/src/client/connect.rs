//! Connections of a client: TCP with TLS that trusts one authority alone, or a socket in the file system.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::Response;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use orchestrator_core::model::Sensitive;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::error::ClientError;
use super::pin::Pinned;
use crate::kubeconfig::{ClientCertificate, ClientConfig};

/// How long connecting may take.
const CONNECT_SECONDS_MAX: u64 = 10;
/// How many idle connections are kept.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// Where a server is, and how to reach it.
#[derive(Debug)]
pub(super) struct Connector {
    url: String,
    target: Target,
    idle: Arc<Mutex<Vec<Connection>>>,
}

enum Target {
    Tls { host: String, port: u16, name: ServerName<'static>, config: Arc<rustls::ClientConfig> },
    Unix(PathBuf),
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tls { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A connection whose task ends with it.
#[derive(Debug)]
struct Connection {
    send: SendRequest<Full<Bytes>>,
    task: AbortHandle,
    /// Whether the task goes on instead, to its own end.
    is_kept: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.is_kept {
            self.task.abort();
        }
    }
}

/// The body of a response; its connection is used again once it has been read to its end.
#[derive(Debug)]
pub(super) struct ResponseBody {
    incoming: Incoming,
    connection: Option<Connection>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Connector {
    pub(super) fn new(config: &ClientConfig) -> Result<Self, ClientError> {
        let url = config.server.trim_end_matches('/').to_owned();
        let target = if let Some(path) = url.strip_prefix("unix://") {
            Target::Unix(PathBuf::from(path))
        } else {
            tls_target(&url, config)?
        };
        Ok(Self { url, target, idle: Arc::default() })
    }

    /// Trusts a server that shows a root of this SHA-256, over HTTPS alone.
    pub(super) fn pinned(url: &str, root: &str) -> Result<Self, ClientError> {
        let url = url.trim_end_matches('/').to_owned();
        let at = Authority::of(&url)?;
        let pinned = Arc::new(Pinned { root: root.to_owned() });
        let config = rustls::ClientConfig::builder_with_provider(crate::pki::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| bad(&url, &error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(pinned)
            .with_no_client_auth();
        let target = at.target(config);
        Ok(Self { url, target, idle: Arc::default() })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The value of the header `Host`.
    pub(super) fn host(&self) -> String {
        match &self.target {
            Target::Tls { .. } => self.url.trim_start_matches("https://").to_owned(),
            Target::Unix(_) => "localhost".to_owned(),
        }
    }

    /// Sends a request over an idle connection, or over a new one.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<ResponseBody>, ClientError> {
        let broken = |error| ClientError::broken(&self.url, &error);
        let mut request = request;
        while let Some(mut connection) = self.take_idle() {
            if connection.send.ready().await.is_err() {
                continue;
            }
            // It may have been closed meanwhile; a request that was not sent at all comes back.
            match connection.send.try_send_request(request).await {
                Ok(response) => return Ok(self.keep(response, connection)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(broken(error.into_error())),
                },
            }
        }
        let mut connection = self.connect().await?;
        let response = connection.send.send_request(request).await.map_err(broken)?;
        Ok(self.keep(response, connection))
    }

    /// Sends a request over a connection of its own, which goes on by itself; for one that becomes something else.
    pub(super) async fn send_alone(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut connection = self.connect().await?;
        let response = connection.send.send_request(request).await;
        connection.is_kept = true;
        response.map_err(|error| ClientError::Broken {
            server: self.url.clone(),
            reason: error.to_string(),
        })
    }

    fn keep(&self, response: Response<Incoming>, connection: Connection) -> Response<ResponseBody> {
        let idle = Arc::clone(&self.idle);
        response.map(|incoming| ResponseBody { incoming, connection: Some(connection), idle })
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.send.is_closed());
        idle.pop()
    }

    async fn connect(&self) -> Result<Connection, ClientError> {
        let limit = Duration::from_secs(CONNECT_SECONDS_MAX);
        let late = || io::Error::new(io::ErrorKind::TimedOut, "it takes too long");
        let unreachable = |source| ClientError::Unreachable { server: self.url.clone(), source };
        match &self.target {
            Target::Unix(path) => {
                let stream = tokio::time::timeout(limit, UnixStream::connect(path))
                    .await
                    .unwrap_or_else(|_| Err(late()))
                    .map_err(unreachable)?;
                self.handshake(stream).await
            }
            Target::Tls { host, port, name, config } => {
                let connecting = async {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream).await
                };
                let stream = tokio::time::timeout(limit, connecting)
                    .await
                    .unwrap_or_else(|_| Err(late()))
                    .map_err(|source| match source.get_ref() {
                        Some(inner) if inner.is::<rustls::Error>() => {
                            ClientError::Untrusted { server: self.url.clone(), source }
                        }
                        Some(_) | None => unreachable(source),
                    })?;
                self.handshake(stream).await
            }
        }
    }

    async fn handshake<S>(&self, stream: S) -> Result<Connection, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (send, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ClientError::broken(&self.url, &error))?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "client connection ended");
            }
        });
        Ok(Connection { send, task: task.abort_handle(), is_kept: false })
    }
}

fn bad(url: &str, reason: &str) -> ClientError {
    ClientError::Config(format!("server {url:?}: {reason}"))
}

/// Whom to connect to.
struct Authority {
    host: String,
    port: u16,
    name: ServerName<'static>,
}

impl Authority {
    fn of(url: &str) -> Result<Self, ClientError> {
        let bad = |reason: &str| bad(url, reason);
        let authority = url
            .strip_prefix("https://")
            .ok_or_else(|| bad("https://host:port or unix:///path is needed"))?;
        let uri: http::uri::Authority = authority
            .split('/')
            .next()
            .unwrap_or_default()
            .parse()
            .map_err(|_| bad("no host and port"))?;
        if authority.contains('/') {
            return Err(bad("a path is not supported"));
        }
        let host = uri.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name =
            ServerName::try_from(host.clone()).map_err(|_| bad("no host name or address"))?;
        Ok(Self { host, port: uri.port_u16().unwrap_or(443), name })
    }

    fn target(self, config: rustls::ClientConfig) -> Target {
        let Self { host, port, name } = self;
        Target::Tls { host, port, name, config: Arc::new(config) }
    }
}

fn tls_target(url: &str, of: &ClientConfig) -> Result<Target, ClientError> {
    let bad = |reason: &str| bad(url, reason);
    let at = Authority::of(url)?;
    let pem = of.ca_pem.as_deref().ok_or_else(|| bad("no certificate authority is given"))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| bad("the certificate authority is not PEM"))?;
        roots.add(certificate).map_err(|_| bad("the certificate authority is not one"))?;
    }
    if roots.is_empty() {
        return Err(bad("the certificate authority has no certificate"));
    }
    let config = rustls::ClientConfig::builder_with_provider(crate::pki::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| bad(&error.to_string()))?
        .with_root_certificates(roots);
    let config = match &of.certificate {
        Some(ClientCertificate { chain_pem, key_pem: Sensitive(key_pem) }) => {
            let chain: Result<Vec<_>, _> =
                CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect();
            let chain = chain.map_err(|_| bad("the client's certificate is not PEM"))?;
            let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
                .map_err(|_| bad("the client's key is not PEM"))?;
            config.with_client_auth_cert(chain, key).map_err(|error| bad(&error.to_string()))?
        }
        None => config.with_no_client_auth(),
    };
    Ok(at.target(config))
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        if let Poll::Ready(None) = &frame
            && let Some(connection) = self.connection.take()
        {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_CONNECTIONS_MAX {
                idle.push(connection);
            }
        }
        frame
    }
}
