//! Listening sockets: TCP with TLS, and sockets in the file system for the same user.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;

/// A listening socket.
pub(super) enum Acceptor {
    Tcp(TcpListener, Tls),
    /// With its path, which goes when the acceptor goes.
    Unix(UnixListener, PathBuf),
}

/// What TLS handshakes are made with.
pub(super) struct Tls(TlsAcceptor);

impl From<Arc<rustls::ServerConfig>> for Tls {
    fn from(config: Arc<rustls::ServerConfig>) -> Self {
        Self(config.into())
    }
}

/// A connection that was accepted; its TLS handshake is still to come.
pub(super) enum Peer {
    Tcp(TcpStream, SocketAddr, TlsAcceptor),
    Unix(UnixStream),
}

/// How long a client may be silent before it is asked whether it is there: of one that has vanished, a watch in which nothing
/// happens would hear nothing.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(60);
/// How often it is asked.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
/// How often it may give no answer.
const KEEP_ALIVE_MISSES_MAX: u32 = 4;

fn keep_alive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(KEEP_ALIVE_AFTER)
        .with_interval(KEEP_ALIVE_EVERY)
        .with_retries(KEEP_ALIVE_MISSES_MAX)
}

impl Acceptor {
    /// Waits for a connection. Cancel-safe.
    pub(super) async fn accept(&self) -> io::Result<Peer> {
        match self {
            Self::Tcp(listener, Tls(tls)) => {
                let (stream, address) = listener.accept().await?;
                // Answers are small; waiting to fill packets would only delay them.
                stream.set_nodelay(true)?;
                SockRef::from(&stream).set_tcp_keepalive(&keep_alive())?;
                Ok(Peer::Tcp(stream, address, tls.clone()))
            }
            Self::Unix(listener, path) => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred()?.uid();
                let owner = std::fs::symlink_metadata(path)?.uid();
                if peer != owner && peer != 0 {
                    let message = format!("user {peer} may not use the socket of user {owner}");
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
                }
                Ok(Peer::Unix(stream))
            }
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // A leftover socket is replaced by the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Listens on a socket of mode 0600 in the file system. A leftover of a server that is gone is replaced; one that
/// answers is not.
pub(super) async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixStream::connect(path).await {
        Ok(_) => {
            let message = "another server listens there";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Made in a directory that only we may enter, so that nobody can connect before its mode is set.
    let parent = path.parent().unwrap_or(Path::new("."));
    let private = parent.join(format!(".sock-{}", std::process::id()));
    std::fs::DirBuilder::new().mode(0o700).create(&private)?;
    let outcome = (|| {
        let inside = private.join("s");
        let listener = UnixListener::bind(&inside)?;
        std::fs::set_permissions(&inside, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&inside, path)?;
        Ok(listener)
    })();
    let _ = std::fs::remove_dir_all(&private);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_vanishes_is_noticed_though_nothing_is_said() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("defaults")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
        let acceptor = Acceptor::Tcp(listener, Arc::new(tls).into());
        let _client = TcpStream::connect(address).await.expect("it listens");
        let Ok(Peer::Tcp(stream, _, _)) = acceptor.accept().await else { panic!("a connection") };
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().expect("an option"));
        assert_eq!(socket.tcp_keepalive_time().expect("an option"), KEEP_ALIVE_AFTER);
    }
}
