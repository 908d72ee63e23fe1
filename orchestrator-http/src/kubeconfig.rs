//! Kubeconfig files: how clients learn where the server is and whom to trust.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use orchestrator_core::manifest;
use orchestrator_core::model::Sensitive;
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

/// By what a user of a kubeconfig is known.
pub(crate) enum Credential<'a> {
    Certificate(&'a ClientCertificate),
    Token(&'a Token),
}

/// Writes the text of a kubeconfig. Over a socket in the file system nothing need be said.
pub(crate) fn render(
    url: &str,
    ca_pem: Option<&str>,
    user: &str,
    credential: Credential<'_>,
) -> String {
    let mut cluster = json!({ "server": url });
    let mut credentials = json!({});
    if !url.starts_with("unix:") {
        if let Some(ca_pem) = ca_pem {
            cluster["certificate-authority-data"] = STANDARD.encode(ca_pem).into();
        }
        match credential {
            Credential::Certificate(ClientCertificate { chain_pem, key_pem }) => {
                credentials["client-certificate-data"] = STANDARD.encode(chain_pem).into();
                credentials["client-key-data"] = STANDARD.encode(&key_pem.0).into();
            }
            Credential::Token(token) => credentials["token"] = token.reveal().into(),
        }
    }
    manifest::to_yaml(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "orchd", "cluster": cluster }],
        "users": [{ "name": user, "user": credentials }],
        "contexts": [{ "name": "orchd", "context": { "cluster": "orchd", "user": user } }],
        "current-context": "orchd",
    }))
}

/// A certificate by which a client is known, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, and those between it and the authority, in PEM.
    pub chain_pem: String,
    /// Its key, in PEM.
    pub key_pem: Sensitive<String>,
}

impl ClientCertificate {
    /// Writes the text of a kubeconfig in which a user is known by this certificate.
    pub fn kubeconfig(&self, server: &ClientConfig, user: &str) -> String {
        let credential = Credential::Certificate(self);
        render(&server.server, server.ca_pem.as_deref(), user, credential)
    }
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
    /// The certificate to be known by; a token counts more.
    pub certificate: Option<ClientCertificate>,
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
    for field in ["exec", "username"] {
        if user.get(field).is_some() {
            return Err(format!(
                "users: {field} is not supported; a token or a client certificate is needed"
            ));
        }
    }
    let relative = |name: &str| path.parent().unwrap_or(Path::new("")).join(name);
    let read_file = |name: &str| {
        let path = relative(name);
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let pem = |of: &Value, name: &str| -> Result<Option<String>, String> {
        let data = format!("{name}-data");
        match (text(of, &data), text(of, name)) {
            (Some(data_text), _) => {
                let bytes = STANDARD.decode(data_text).ok();
                let pem = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
                pem.map(Some).ok_or_else(|| format!("{data} is not base64 of PEM"))
            }
            (None, Some(file)) => read_file(file).map(Some),
            (None, None) => Ok(None),
        }
    };
    let ca_pem = pem(cluster, "certificate-authority")?;
    let certificate = match (pem(user, "client-certificate")?, pem(user, "client-key")?) {
        (Some(chain_pem), Some(key_pem)) => {
            Some(ClientCertificate { chain_pem, key_pem: Sensitive(key_pem) })
        }
        (None, None) => None,
        (Some(_), None) => return Err("users: client-certificate needs a client-key".to_owned()),
        (None, Some(_)) => return Err("users: client-key needs a client-certificate".to_owned()),
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
        certificate,
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
        let (ca, token) = ("-----BEGIN CERTIFICATE-----\n", Token::new("secret"));
        let text = render(&url(&listen), Some(ca), "admin", Credential::Token(&token));
        std::fs::write(&path, text).expect("writable");
        let config = read_kubeconfig(&path).expect("own output");
        assert_eq!(config.server, "https://127.0.0.1:6443");
        assert_eq!(config.ca_pem.as_deref(), Some("-----BEGIN CERTIFICATE-----\n"));
        assert_eq!(config.token.expect("a token").reveal(), "secret");
        assert_eq!(config.namespace, "default");

        let certificate = ClientCertificate {
            chain_pem: "chain".to_owned(),
            key_pem: Sensitive("key".to_owned()),
        };
        let server = ClientConfig { token: None, ..read_kubeconfig(&path).expect("own output") };
        std::fs::write(&path, certificate.kubeconfig(&server, "jane")).expect("writable");
        let config = read_kubeconfig(&path).expect("own output");
        assert!(config.token.is_none() && config.certificate == Some(certificate));
        assert!(!format!("{config:?}").contains("\"key\""), "keys are not shown");
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
