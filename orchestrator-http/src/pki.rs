//! The cluster's own certificate authority, and the token of its administrator: files of mode 0600 in one directory.
//!
//! The authority (`ca.crt`, `ca.key`) lives ten years and is renewed at a start in its last month; the server's
//! certificate lives in memory only and is made anew at each start. All keys are ECDSA P-256.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orchestrator_core::model::Sensitive;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

use crate::certificate::not_after;
use crate::kubeconfig::ClientCertificate;
use crate::private_file;

/// The name of HTTP/2 in a TLS handshake.
pub(crate) const HTTP2: &[u8] = b"h2";
/// How long an authority lives.
const CA_DAYS: i64 = 3650;
/// How long a server's certificate lives; a server that runs longer must be restarted.
const SERVER_DAYS: i64 = 825;
/// The most days a client's certificate is good.
const CLIENT_DAYS_MAX: i64 = 3_650;
/// An authority that expires within this time is replaced.
const RENEW_DAYS: i64 = 30;
/// The random bytes of a token.
const TOKEN_BYTES: usize = 32;

/// What went wrong with keys and certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("{action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A file does not hold what its name says; remove it to have a new one made.
    #[error("{} is not {expected}; remove it to have a new one made", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// A certificate could not be made.
    #[error("making a certificate")]
    Certificate(#[source] rcgen::Error),
    /// TLS could not be set up.
    #[error("setting TLS up")]
    Tls(#[source] rustls::Error),
}

/// A bearer token. Its `Debug` form does not show it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Takes a token made elsewhere.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Makes a token of 32 random bytes.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn random() -> Result<Self, PkiError> {
        let mut bytes = [0u8; TOKEN_BYTES];
        provider()
            .secure_random
            .fill(&mut bytes)
            .map_err(|_| PkiError::Tls(rustls::Error::FailedToGetRandomBytes))?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The token's text.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Compares in a time that does not depend on where a difference is.
    pub(crate) fn matches(&self, other: &str) -> bool {
        use subtle::ConstantTimeEq;
        bool::from(self.0.as_bytes().ct_eq(other.as_bytes()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token([redacted])")
    }
}

/// The cluster's authority and its administrator's token.
pub struct Pki {
    ca_pem: String,
    ca: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    token: Token,
}

impl fmt::Debug for Pki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pki").finish_non_exhaustive()
    }
}

/// The one provider of cryptography, passed explicitly everywhere: the process default belongs to the host program.
pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Pki {
    /// Opens the directory, makes what is missing in it, and replaces an authority that is about to expire. `now` is
    /// in seconds since the Unix epoch.
    ///
    /// # Errors
    /// [`PkiError`] when a file cannot be read or written, or is not what it should be.
    pub fn open(directory: &Path, now: i64) -> Result<Self, PkiError> {
        private_file::directory(directory).map_err(|source| PkiError::File {
            action: "making the directory",
            path: directory.to_owned(),
            source,
        })?;
        let (ca_pem, key) = authority(directory, now)?;
        let cert_path = directory.join("ca.crt");
        let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes())
            .map_err(|_| PkiError::Content { path: cert_path, expected: "a PEM certificate" })?;
        let issuer = Issuer::new(ca_params(now), key);
        let token = token(directory)?;
        Ok(Self { ca_pem, ca, issuer, token })
    }

    /// The authority's certificate, to be trusted by clients.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The administrator's token.
    pub const fn token(&self) -> &Token {
        &self.token
    }

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
        set_life(&mut params, now, SERVER_DAYS);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(PkiError::Certificate)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(PkiError::Certificate)?;
        let chain = vec![certificate.der().clone(), self.ca.clone()];
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.ca.clone()).map_err(PkiError::Tls)?;
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
        let mut params = CertificateParams::default();
        params.distinguished_name = name(user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        set_life(&mut params, now, days.clamp(1, CLIENT_DAYS_MAX));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().map_err(PkiError::Certificate)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(PkiError::Certificate)?;
        let key_pem = Sensitive(key.serialize_pem());
        Ok(ClientCertificate { chain_pem: certificate.pem(), key_pem })
    }
}

/// Reads the authority, or makes one. Returns its certificate in PEM and its key.
fn authority(directory: &Path, now: i64) -> Result<(String, KeyPair), PkiError> {
    let (cert_path, key_path) = (directory.join("ca.crt"), directory.join("ca.key"));
    if let (Some(cert), Some(key)) = (read(&cert_path)?, read(&key_path)?) {
        let key = KeyPair::from_pem(&key).map_err(|_| PkiError::Content {
            path: key_path.clone(),
            expected: "a PEM private key",
        })?;
        let content =
            || PkiError::Content { path: cert_path.clone(), expected: "a PEM certificate" };
        let der = CertificateDer::from_pem_slice(cert.as_bytes()).map_err(|_| content())?;
        let expires = not_after(&der).ok_or_else(content)?;
        if expires - now > RENEW_DAYS * 86_400 {
            return Ok((cert, key));
        }
        tracing::warn!(path = %cert_path.display(), "certificate authority expires; making a new one, clients need the new kubeconfig");
    }
    let key = KeyPair::generate().map_err(PkiError::Certificate)?;
    let cert = ca_params(now).self_signed(&key).map_err(PkiError::Certificate)?.pem();
    // The key first: a certificate without its key is replaced at the next start, a key alone too.
    write(&key_path, &key.serialize_pem())?;
    write(&cert_path, &cert)?;
    Ok((cert, key))
}

fn token(directory: &Path) -> Result<Token, PkiError> {
    let path = directory.join("admin.token");
    if let Some(text) = read(&path)? {
        let text = text.trim();
        if text.len() < TOKEN_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let expected = "a token of at least 32 printable characters";
            return Err(PkiError::Content { path, expected });
        }
        return Ok(Token::new(text));
    }
    let token = Token::random()?;
    write(&path, token.reveal())?;
    Ok(token)
}

pub(crate) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::File { action: "reading", path: path.to_owned(), source }),
    }
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    private_file::write(path, text.as_bytes()).map_err(|source| PkiError::File {
        action: "writing",
        path: path.to_owned(),
        source,
    })
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// The same for making an authority and for signing in its name: the issuer's name must agree.
fn ca_params(now: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("orchd cluster authority");
    set_life(&mut params, now, CA_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Sets the life of a certificate: from the day before now to `days` from now.
fn set_life(params: &mut CertificateParams, now: i64, days: i64) {
    let day = |seconds: i64| {
        let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let date = jiff::tz::Offset::UTC.to_datetime(time).date();
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        rcgen::date_time_ymd(i32::from(date.year()), month, day)
    };
    params.not_before = day(now - 86_400);
    params.not_after = day(now + days * 86_400);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: i64 = 1_790_000_000;

    fn open(directory: &Path, now: i64) -> Pki {
        Pki::open(directory, now).expect("a writable directory")
    }

    #[test]
    fn authority_and_token_stay_the_same_across_starts() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = open(directory.path(), NOW);
        let second = open(directory.path(), NOW + 86_400);
        assert_eq!(first.ca_pem(), second.ca_pem());
        assert!(second.token().matches(first.token().reveal()));
        assert!(!second.token().matches("something else"));
        assert_eq!(first.token().reveal().len(), 64);
        for name in ["ca.key", "admin.token", "ca.crt"] {
            let mode = fs::metadata(directory.path().join(name)).expect(name).permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn an_authority_about_to_expire_is_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = open(directory.path(), NOW);
        assert_eq!(not_after(&first.ca).map(|at| (at - NOW) / 86_400), Some(CA_DAYS - 1));
        let later = open(directory.path(), NOW + (CA_DAYS - 10) * 86_400);
        assert_ne!(first.ca_pem(), later.ca_pem());
    }

    #[test]
    fn files_that_are_something_else_are_refused_by_name() {
        let directory = tempfile::tempdir().expect("a directory");
        open(directory.path(), NOW);
        fs::write(directory.path().join("ca.key"), "nonsense").expect("writable");
        let error = Pki::open(directory.path(), NOW).expect_err("not a key").to_string();
        assert!(error.contains("ca.key is not a PEM private key"), "{error}");
    }

    #[test]
    fn a_token_does_not_show_itself() {
        assert_eq!(format!("{:?}", Token::new("abc")), "Token([redacted])");
    }
}
