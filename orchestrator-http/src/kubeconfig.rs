//! Kubeconfig files: how clients learn where the server is and whom to trust.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use orchestrator_core::manifest;
use serde_json::{Value, json};

use crate::pki::Token;
use crate::server::Listen;

/// The URL of a server for clients on its machine.
pub(crate) fn url(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => {
            let mut address = *address;
            if address.ip().is_unspecified() {
                // Nobody can connect to "any address"; loopback is one of them.
                address.set_ip(match address {
                    std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                    std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
                });
            }
            format!("https://{address}")
        }
        Listen::Unix(path) => format!("unix://{}", path.display()),
    }
}

/// Writes the text of a kubeconfig.
pub(crate) fn render(listen: &Listen, ca_pem: &str, token: &Token) -> String {
    let mut cluster = json!({ "server": url(listen) });
    let mut user = json!({});
    if let Listen::Tcp(_) = listen {
        cluster["certificate-authority-data"] = STANDARD.encode(ca_pem).into();
        user["token"] = token.reveal().into();
    }
    manifest::to_yaml(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "orchd", "cluster": cluster }],
        "users": [{ "name": "admin", "user": user }],
        "contexts": [{ "name": "orchd", "context": { "cluster": "orchd", "user": "admin" } }],
        "current-context": "orchd",
    }))
}

/// What a client needs to know of a server.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The URL: `https://host:port`, or `unix:///path` for a socket.
    pub server: String,
    /// The certificate of the authority to trust, in PEM; needed with `https`.
    pub ca_pem: Option<String>,
    /// The bearer token.
    pub token: Option<Token>,
    /// The namespace that is meant when none is said.
    pub namespace: String,
}

/// A kubeconfig that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("kubeconfig {}: {reason}", path.display())]
pub struct KubeconfigError {
    /// The file.
    pub path: PathBuf,
    /// Why not.
    pub reason: String,
}

/// Reads the current context of a kubeconfig.
///
/// # Errors
/// [`KubeconfigError`] when the file cannot be read, or needs something this client does not do.
pub fn read_kubeconfig(path: &Path) -> Result<ClientConfig, KubeconfigError> {
    read(path).map_err(|reason| KubeconfigError { path: path.to_owned(), reason })
}

fn read(path: &Path) -> Result<ClientConfig, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let documents =
        manifest::parse(&bytes, &path.display().to_string()).map_err(|error| error.to_string())?;
    let config = &documents.first().ok_or("the file is empty")?.value;
    let context = text(config, "current-context").ok_or("no current-context")?;
    let context = named(config, "contexts", "context", context)?;
    let cluster = text(context, "cluster").ok_or("the context names no cluster")?;
    let cluster = named(config, "clusters", "cluster", cluster)?;
    let user = match text(context, "user") {
        Some(user) => named(config, "users", "user", user)?,
        None => &Value::Null,
    };
    if cluster.get("insecure-skip-tls-verify") == Some(&Value::Bool(true)) {
        return Err("insecure-skip-tls-verify is not supported".to_owned());
    }
    for field in ["client-certificate", "client-certificate-data", "exec", "username"] {
        if user.get(field).is_some() {
            return Err(format!("users: {field} is not supported; a token is needed"));
        }
    }
    let relative = |name: &str| path.parent().unwrap_or(Path::new("")).join(name);
    let read_file = |name: &str| {
        let path = relative(name);
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let ca_pem =
        match (text(cluster, "certificate-authority-data"), text(cluster, "certificate-authority"))
        {
            (Some(data), _) => {
                let bytes =
                    STANDARD.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                Some(bytes.ok_or("certificate-authority-data is not base64 of PEM")?)
            }
            (None, Some(file)) => Some(read_file(file)?),
            (None, None) => None,
        };
    let token = match (text(user, "token"), text(user, "tokenFile")) {
        (Some(token), _) => Some(token.to_owned()),
        (None, Some(file)) => Some(read_file(file)?.trim().to_owned()),
        (None, None) => None,
    };
    Ok(ClientConfig {
        server: text(cluster, "server").ok_or("the cluster has no server")?.to_owned(),
        ca_pem,
        token: token.map(Token::new),
        namespace: text(context, "namespace").unwrap_or("default").to_owned(),
    })
}

fn text<'v>(value: &'v Value, field: &str) -> Option<&'v str> {
    value.get(field).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// Finds the entry of this name in a list of `{name, <what>}`.
fn named<'v>(config: &'v Value, list: &str, what: &str, name: &str) -> Result<&'v Value, String> {
    config
        .get(list)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|entry| text(entry, "name") == Some(name))
        .and_then(|entry| entry.get(what))
        .ok_or_else(|| format!("{list}: no {name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("kubeconfig");
        let listen = Listen::Tcp(std::net::SocketAddr::from(([0, 0, 0, 0], 6443)));
        let text = render(&listen, "-----BEGIN CERTIFICATE-----\n", &Token::new("secret"));
        std::fs::write(&path, text).expect("writable");
        let config = read_kubeconfig(&path).expect("own output");
        assert_eq!(config.server, "https://127.0.0.1:6443");
        assert_eq!(config.ca_pem.as_deref(), Some("-----BEGIN CERTIFICATE-----\n"));
        assert_eq!(config.token.expect("a token").reveal(), "secret");
        assert_eq!(config.namespace, "default");
    }

    #[test]
    fn a_config_that_cannot_be_used_says_why() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("kubeconfig");
        let check = |text: &str, reason: &str| {
            std::fs::write(&path, text).expect("writable");
            let error = read_kubeconfig(&path).expect_err("unusable").to_string();
            assert!(error.contains(reason), "{error}");
        };
        check("", "empty");
        check("kind: Config", "no current-context");
        check("current-context: a", "contexts: no \"a\"");
        check("a: [", "kubeconfig:");
        assert!(read_kubeconfig(&directory.path().join("absent")).is_err());
    }
}
