//! How a node reaches its pods' ports: over the machine's network, or over one that a test makes up.

use std::fmt::Debug;
use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Bytes in both directions.
pub trait Connection: AsyncRead + AsyncWrite + Debug + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Debug + Send + Unpin + 'static> Connection for S {}

/// Connects to ports of pods, for checks and for port-forwards.
#[async_trait]
pub trait PodNetwork: Debug + Send + Sync + 'static {
    /// Connects to a port. Callers put a time limit around it.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionRefused`] when nobody listens there.
    async fn connect(&self, host: &str, port: u16) -> io::Result<Box<dyn Connection>>;
}

/// The machine's own network.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostNetwork;

#[async_trait]
impl PodNetwork for HostNetwork {
    async fn connect(&self, host: &str, port: u16) -> io::Result<Box<dyn Connection>> {
        Ok(Box::new(TcpStream::connect((host, port)).await?))
    }
}
