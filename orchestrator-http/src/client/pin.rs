//! Trust by a fingerprint: who joins a cluster knows nothing of its root but the SHA-256.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::pki::{fingerprint, provider};

/// Trusts a server that shows a root of this SHA-256 and a certificate that leads to it.
#[derive(Debug)]
pub(super) struct Pinned {
    pub(super) root: String,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let root = intermediates.iter().find(|shown| fingerprint(shown) == self.root);
        let mut roots = RootCertStore::empty();
        roots.add(root.ok_or_else(unknown)?.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(roots.into(), provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 is needed".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::path::Path;
    use std::sync::Arc;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::server::WantsServerCert;
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use rustls::{ClientConfig, ClientConnection, ConfigBuilder, ServerConfig, ServerConnection};

    use super::*;
    use crate::pki::Pki;

    const NAME: &str = "server.example";

    type Chain = Vec<CertificateDer<'static>>;

    fn cluster(dir: &Path) -> Pki {
        let now = i64::try_from(UnixTime::now().as_secs()).expect("a time of today");
        Pki::open(dir, now).expect("a writable directory")
    }

    fn server_of(pki: &Pki) -> Arc<ServerConfig> {
        let now = i64::try_from(UnixTime::now().as_secs()).expect("a time of today");
        pki.server_config(&[NAME.to_owned()], now).expect("a certificate")
    }

    /// A server that shows a chain and has a key, whether they belong together or not.
    fn impostor(chain: Chain, key: &KeyPair) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let key = provider().key_provider.load_private_key(key).expect("a key");
        let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        let builder: ConfigBuilder<ServerConfig, WantsServerCert> =
            ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&rustls::version::TLS13])
                .expect("TLS 1.3")
                .with_no_client_auth();
        builder.with_cert_resolver(Arc::new(shown)).into()
    }

    /// Lets a client that knows the root of a cluster speak with a server; returns what that has shown.
    fn met(root: &str, name: &'static str, server: &Arc<ServerConfig>) -> Result<Chain, Error> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned { root: root.to_owned() }))
            .with_no_client_auth();
        let name = ServerName::try_from(name).expect("a name");
        let mut client = ClientConnection::new(config.into(), name).expect("a client");
        let mut server = ServerConnection::new(server.clone()).expect("a server");
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).expect("memory");
            }
            let mut sent = bytes.as_slice();
            while !sent.is_empty() {
                server.read_tls(sent.by_ref()).expect("memory");
                server.process_new_packets()?;
            }
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).expect("memory");
            }
            let mut sent = bytes.as_slice();
            while !sent.is_empty() {
                client.read_tls(sent.by_ref()).expect("memory");
                client.process_new_packets()?;
            }
        }
        let shown = client.peer_certificates().expect("it was asked for them");
        Ok(shown.iter().map(|it| it.clone().into_owned()).collect())
    }

    #[test]
    fn who_knows_the_root_alone_trusts_its_servers_and_no_others() {
        let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        let [ours, theirs] = [&dirs[0], &dirs[1]].map(|dir| cluster(dir.path()));
        let root = ours.root_sha256();
        let server = server_of(&ours);
        let chain = met(&root, NAME, &server).expect("it is the cluster's");
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_eq!(met(&root, NAME, &server_of(&theirs)), Err(unknown.clone()));
        let other_name = met(&root, "another.example", &server).expect_err("another's name");
        assert!(matches!(other_name, Error::InvalidCertificate(_)), "{other_name:?}");

        // Everybody can show the root's certificate, and the server's.
        let key = KeyPair::generate().expect("a key");
        let own = CertificateParams::new([NAME.to_owned()]).expect("a name");
        let own = own.self_signed(&key).expect("a certificate").der().clone();
        let with_root = [vec![own], chain[1..].to_vec()].concat();
        assert_eq!(met(&root, NAME, &impostor(with_root, &key)), Err(unknown));
        let bad = Error::InvalidCertificate(CertificateError::BadSignature);
        assert_eq!(met(&root, NAME, &impostor(chain, &key)), Err(bad));
        let ca = CertificateDer::from_pem_slice(ours.ca_pem().as_bytes()).expect("a certificate");
        assert_eq!(fingerprint(&ca), root, "it is the root that is known");
    }
}
