//! What the issuing authority signs: certificates of the server, of users and of nodes.

use std::sync::Arc;
use std::time::Duration;

use orchestrator_core::api::{GROUP_NODES, NODE_USER_PREFIX};
use orchestrator_core::model::{Sensitive, Uid};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PublicKeyData as _,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;

use super::{HTTP2, Pki, PkiError, provider, sha256};
use crate::certificate::SERIAL_NUMBER;
use crate::kubeconfig::ClientCertificate;

/// A day, in seconds.
pub(super) const DAY: i64 = 86_400;
/// How long a server's certificate lives; a server that runs longer must be restarted.
const SERVER_DAYS: i64 = 825;
/// The most days a client's certificate is good.
const CLIENT_DAYS_MAX: i64 = 3_650;
/// How long a certificate is good before it is made, for clocks that are behind.
const EARLIER_SECONDS: i64 = 300;

impl Pki {
    /// Makes a certificate for these host names and addresses, and from it the TLS set-up of a server: TLS 1.3 alone.
    ///
    /// # Errors
    /// [`PkiError`] when a name is not one, or the cryptography fails.
    pub fn server_config(
        &self,
        names: &[String],
        now: i64,
    ) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        let mut params = CertificateParams::new(names).map_err(PkiError::Certificate)?;
        params.distinguished_name = name("orchd API server");
        set_life(&mut params, now, SERVER_DAYS * DAY);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(PkiError::Certificate)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(PkiError::Certificate)?;
        // The root too: who joins knows nothing but its fingerprint.
        let chain = vec![certificate.der().clone(), self.issuing.clone(), self.root.clone()];
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone()).map_err(PkiError::Tls)?;
        // Without a certificate a token is needed.
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|error| PkiError::Tls(rustls::Error::General(error.to_string())))?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|builder| {
                builder.with_client_cert_verifier(clients).with_single_cert(chain, key)
            })
            .map_err(PkiError::Tls)?;
        config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl Pki {
    /// Makes a certificate by which a user is known to the server, with its key: the user's name, a group they are of, and
    /// how many days it is good, from 1 to 3650. It cannot be taken back: whoever has it is that user until then.
    ///
    /// # Errors
    /// [`PkiError`] when the cryptography fails.
    pub fn client_certificate(
        &self,
        user: &str,
        group: Option<&str>,
        days: i64,
        now: i64,
    ) -> Result<ClientCertificate, PkiError> {
        let mut params = client_params(user, now, days.clamp(1, CLIENT_DAYS_MAX) * DAY);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        let key = KeyPair::generate().map_err(PkiError::Certificate)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(PkiError::Certificate)?;
        let key_pem = Sensitive(key.serialize_pem());
        Ok(ClientCertificate { chain_pem: certificate.pem() + &self.issuing_pem, key_pem })
    }
}

impl Pki {
    /// The SHA-256 of the key that a request is about.
    ///
    /// # Errors
    /// As [`Self::node_certificate`].
    pub(crate) fn requested_key(request: &str) -> Result<String, PkiError> {
        let asked =
            CertificateSigningRequestParams::from_pem(request).map_err(PkiError::Request)?;
        Ok(sha256(asked.public_key.der_bytes()))
    }

    /// Signs the key of a node's agent: by its certificate the agent is known as the node of this name and uid, for so many
    /// seconds. Nothing of the request is taken over but the key. Returns the certificate and the authority's, in PEM.
    ///
    /// # Errors
    /// [`PkiError::Request`] when the request is none, or was not signed with the key that it is about.
    pub(crate) fn node_certificate(
        &self,
        request: &str,
        (node, uid): (&str, Uid),
        seconds: i64,
        now: i64,
    ) -> Result<String, PkiError> {
        let asked =
            CertificateSigningRequestParams::from_pem(request).map_err(PkiError::Request)?;
        let mut params = client_params(&format!("{NODE_USER_PREFIX}{node}"), now, seconds);
        params.distinguished_name.push(DnType::OrganizationName, GROUP_NODES);
        params.distinguished_name.push(serial_number(), uid.to_string());
        let request = CertificateSigningRequestParams { params, public_key: asked.public_key };
        let signed = request.signed_by(&self.issuer).map_err(PkiError::Certificate)?;
        Ok(signed.pem() + &self.issuing_pem)
    }
}

/// What the certificates of all clients have.
fn client_params(called: &str, now: i64, seconds: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(called);
    set_life(&mut params, now, seconds);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn serial_number() -> DnType {
    DnType::CustomDnType(SERIAL_NUMBER.to_vec())
}

pub(super) fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Sets the life of a certificate: from a little before now to so many seconds from now.
pub(super) fn set_life(params: &mut CertificateParams, now: i64, seconds: i64) {
    let at = |seconds: i64| {
        let since = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        rcgen::date_time_ymd(1970, 1, 1) + since
    };
    params.not_before = at(now - EARLIER_SECONDS);
    params.not_after = at(now + seconds);
}
