//! `Member`: where a member of etcd is, and how one speaks with it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::error::OpenError;
use crate::options::{EtcdIdentity, EtcdOptions, EtcdTls, wrong_endpoint};

/// What a watch that nobody reads may hold back.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// What all of them together may, so that they are in nobody's way.
const CONNECTION_WINDOW_BYTES: u32 = 256 << 20;
/// How often a silent connection is asked for a sign of life. etcd takes it amiss more often than every 5 seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long it may take to give one.
const KEEP_ALIVE_ANSWER_MAX: Duration = Duration::from_secs(5);

/// One member of an etcd.
pub(crate) struct Member {
    address: (String, u16),
    endpoint: Endpoint,
    /// `host:port`.
    pub name: String,
}

impl Member {
    /// Connects to it. A connection that is lost is not replaced: calls then fail with a `tonic::ConnectError`.
    pub(crate) async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        let used = Arc::new(AtomicBool::new(false));
        self.endpoint.connect_with_connector(Once { address: self.address.clone(), used }).await
    }
}

/// Makes one connection. Another in its place would bear an old login, to an etcd that nobody has looked at.
#[derive(Clone)]
struct Once {
    address: (String, u16),
    used: Arc<AtomicBool>,
}

impl Service<Uri> for Once {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<TcpStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { address, used } = self.clone();
        Box::pin(async move {
            if used.swap(true, Ordering::Relaxed) {
                return Err(io::Error::new(io::ErrorKind::NotConnected, "the connection is lost"));
            }
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

/// Makes the members of the options' endpoints; connecting to one takes at most `patience`.
///
/// # Errors
/// [`OpenError`] when an endpoint is none, or nothing can be made of certificates and key.
pub(crate) fn members(options: &EtcdOptions, patience: Duration) -> Result<Vec<Member>, OpenError> {
    let mut members = Vec::new();
    for parsed in options.parsed_endpoints() {
        let name = parsed.authority();
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{name}"))
            .map_err(|_| wrong_endpoint(&name))?
            .connect_timeout(patience)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_ANSWER_MAX)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        if let Some(tls) = &options.tls {
            let config = tls_config(tls, &parsed.host).timeout(patience);
            endpoint = endpoint.tls_config(config).map_err(|error| OpenError::Tls(error.into()))?;
        }
        members.push(Member { address: (parsed.host, parsed.port), endpoint, name });
    }
    Ok(members)
}

fn tls_config(tls: &EtcdTls, host: &str) -> ClientTlsConfig {
    let config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&tls.ca_pem))
        .domain_name(tls.server_name.as_deref().unwrap_or(host));
    match &tls.identity {
        None => config,
        Some(EtcdIdentity { certificate_pem, key_pem }) => {
            config.identity(Identity::from_pem(certificate_pem, key_pem))
        }
    }
}
