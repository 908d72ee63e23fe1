//! How an agent joins: from a token to a certificate of its node, and later to a newer one.

use orchestrator_core::model::{Sensitive, Uid};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};

use super::{JoinRole, JoinToken, NodeCall};
use crate::certificate::validity;
use crate::client::{Client, ClientError};
use crate::kubeconfig::{ClientCertificate, ClientConfig};
use crate::pki::{PkiError, fingerprint};

/// Where agents join.
pub(crate) const JOIN_PATH: &str = "/apis/orchestrator.dev/v1/join";

/// Where agents show a certificate that is over for a newer one.
pub(crate) const RENEWAL_PATH: &str = "/apis/orchestrator.dev/v1/renewal";

/// Asks to join as a node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JoinRequest {
    pub(crate) node: String,
    /// A PKCS #10 request, in PEM.
    pub(crate) request: String,
}

/// What a node that has joined is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JoinAnswer {
    /// The root, in PEM.
    pub(crate) authority: String,
    /// The node's certificate and the authority's that signed it, in PEM.
    pub(crate) certificate: String,
    /// The cluster's id.
    pub(crate) cluster: String,
    pub(crate) uid: Uid,
}

/// Asks for a newer certificate.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CertificateRequest {
    pub(crate) request: String,
}

/// Asks for a newer certificate with one that TLS takes no more, for the same key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RenewalRequest {
    /// The certificate that is over and the authority's that signed it, in PEM.
    pub(crate) certificate: String,
    #[serde(flatten)]
    pub(crate) asked: CertificateRequest,
}

/// A newer certificate.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CertificateAnswer {
    pub(crate) certificate: String,
}

/// Why an agent could not join, or got no newer certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The server refused, or could not be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A key could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The token lets something else join.
    #[error("the token is not one for agents; `orchd token create` prints one")]
    Role,
    /// The answer is not what it should be.
    #[error("the server's answer cannot be used: {0}")]
    Answer(String),
}

/// What an agent keeps of having joined: which node of which cluster it is, and by what it is known there. Holds a key: keep it
/// in a file of mode 0600.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Membership {
    /// The cluster's id.
    pub cluster: String,
    /// The node's name.
    pub node: String,
    /// The node's uid.
    pub uid: Uid,
    /// The URL of the server that it joined, or that it is to ask first.
    pub server: String,
    /// The URLs of all servers, where there are several.
    #[serde(default)]
    pub servers: Vec<String>,
    pub(super) authority: String,
    pub(super) certificate: String,
    pub(super) key: Sensitive<String>,
}

impl Membership {
    /// Joins the cluster of a token's maker as a node of this name. `server` is a URL such as `https://10.0.0.1:6443`.
    ///
    /// # Errors
    /// [`JoinError`]: the server cannot be reached or is not of the token's cluster, the token is not good any more, the name
    /// is taken.
    pub async fn join(server: &str, token: &JoinToken, node: &str) -> Result<Self, JoinError> {
        if token.role() != JoinRole::Agent {
            return Err(JoinError::Role);
        }
        let key = new_key()?;
        let asked = JoinRequest { node: node.to_owned(), request: request(&key)? };
        let client = Client::pinned(server, token.root(), token.credential())?;
        let answer: JoinAnswer = post(&client, JOIN_PATH, &asked).await?;
        let JoinAnswer { authority, certificate, cluster, uid } = answer;
        if is_root_of(&authority, token) {
            let (node, server) = (node.to_owned(), server.to_owned());
            let key = Sensitive(key.serialize_pem());
            let servers = Vec::new();
            return Ok(Self { cluster, node, uid, server, servers, authority, certificate, key });
        }
        Err(JoinError::Answer("its authority is not the one that the token names".to_owned()))
    }

    /// How to reach the server as this node.
    pub fn client_config(&self) -> ClientConfig {
        ClientConfig {
            server: self.server.clone(),
            ca_pem: Some(self.authority.clone()),
            token: None,
            certificate: Some(ClientCertificate {
                chain_pem: self.certificate.clone(),
                key_pem: self.key.clone(),
            }),
            namespace: String::new(),
        }
    }

    /// Whether half of the certificate's time is over, at a time in seconds since the Unix epoch, so that it should be renewed.
    pub fn is_half_over(&self, now: i64) -> bool {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        let life = certificate.ok().and_then(|certificate| validity(&certificate));
        // One that cannot be read is not worth keeping.
        life.is_none_or(|(from, until)| now >= from + (until - from) / 2)
    }

    /// Whether the certificate's time is over, at a time in seconds since the Unix epoch.
    pub fn is_over(&self, now: i64) -> bool {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        let life = certificate.ok().and_then(|certificate| validity(&certificate));
        life.is_none_or(|(_, until)| now >= until)
    }

    /// Whether a token is of the cluster that was joined: names the same root. Where it does not, the cluster's keys were lost and made
    /// anew, or it is another cluster.
    pub fn is_of_token(&self, token: &JoinToken) -> bool {
        is_root_of(&self.authority, token)
    }

    /// Whether the server answers that the node has been removed; a server that does not answer has not.
    pub async fn is_removed(&self) -> bool {
        let Ok(client) = Client::from_config(&self.client_config()) else { return false };
        let path = NodeCall::Reports.path(&self.node);
        let answered = client.post(&path, &serde_json::json!({})).await;
        let refused = |error: ClientError| error.code() == Some(403);
        match answered {
            // TLS takes the certificate no more, perhaps.
            Err(error) if error.code().is_none() => match self.renewed_for_same_key().await {
                Err(JoinError::Client(error)) => refused(error),
                Err(JoinError::Answer(_) | JoinError::Pki(_) | JoinError::Role) | Ok(_) => false,
            },
            answered => answered.is_err_and(refused),
        }
    }

    /// Gets a newer certificate with the one there is: for a new key, or, when that one has been over for at most thirty days, for the
    /// same key.
    ///
    /// # Errors
    /// [`JoinError`]: the server cannot be reached, the certificate has been over for longer, or the node was removed.
    pub async fn renewed(&self) -> Result<Self, JoinError> {
        match self.renewed_for_new_key().await {
            // TLS takes the certificate no more, perhaps; or nobody is there, which then is said again.
            Err(JoinError::Client(error)) if error.code().is_none() => {
                self.renewed_for_same_key().await
            }
            outcome => outcome,
        }
    }

    async fn renewed_for_same_key(&self) -> Result<Self, JoinError> {
        let key = KeyPair::from_pem(&self.key.0).map_err(PkiError::Certificate)?;
        let asked = RenewalRequest {
            certificate: self.certificate.clone(),
            asked: CertificateRequest { request: request(&key)? },
        };
        let config = ClientConfig { certificate: None, ..self.client_config() };
        let client = Client::from_config(&config)?;
        let CertificateAnswer { certificate } = post(&client, RENEWAL_PATH, &asked).await?;
        Ok(Self { certificate, ..self.clone() })
    }

    async fn renewed_for_new_key(&self) -> Result<Self, JoinError> {
        let key = new_key()?;
        let asked = CertificateRequest { request: request(&key)? };
        let client = Client::from_config(&self.client_config())?;
        let path = NodeCall::Certificate.path(&self.node);
        let CertificateAnswer { certificate } = post(&client, &path, &asked).await?;
        Ok(Self { certificate, key: Sensitive(key.serialize_pem()), ..self.clone() })
    }
}

/// Whether a certificate in PEM is the root that a token names.
fn is_root_of(authority: &str, token: &JoinToken) -> bool {
    let root = CertificateDer::from_pem_slice(authority.as_bytes());
    root.is_ok_and(|root| fingerprint(&root) == token.root())
}

fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate().map_err(PkiError::Certificate)
}

/// A request to sign a key, which says nothing else: who it is for the server knows.
fn request(key: &KeyPair) -> Result<String, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(key).map_err(PkiError::Certificate)?;
    request.pem().map_err(PkiError::Certificate)
}

async fn post<T: serde::de::DeserializeOwned>(
    client: &Client,
    path: &str,
    body: &(impl Serialize + Sync),
) -> Result<T, JoinError> {
    let unusable = |error: serde_json::Error| JoinError::Answer(error.to_string());
    let body = serde_json::to_value(body).map_err(unusable)?;
    serde_json::from_value(client.post(path, &body).await?).map_err(unusable)
}
