//! The cluster's own certificate authorities, and the token of its administrator: files of mode 0600 in one directory.
//!
//! Clients trust the root (`root.crt`, `root.key`), which lives twenty years and signs nothing but the issuing authority
//! (`issuing.crt`, `issuing.key`), which lives ten and is renewed at a start in its last month. So `root.key` may be kept
//! elsewhere, and is needed again after ten years. The server's certificate lives in memory only and is made anew at each start.
//! All keys are ECDSA P-256.

mod authority;
mod issue;
mod renewal;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{Issuer, KeyPair};
use rustls::pki_types::CertificateDer;

use crate::private_file;

pub(crate) use authority::{fingerprint, read_key, sha256};
pub(crate) use renewal::RenewalError;

/// The name of HTTP/2 in a TLS handshake.
pub(crate) const HTTP2: &[u8] = b"h2";
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
    /// A file does not hold what its name says.
    #[error(
        "{} is not {expected}; put that of a backup back, or, where there is none, take it away: the next start makes another or says how",
        path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// Two files are of different origins.
    #[error("{} and {} do not belong together; put both of one backup back, with their keys", one.display(), other.display())]
    Mismatch {
        /// A file.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// The issuing authority must be made anew, and the root's key is kept elsewhere.
    #[error("the issuing authority is missing or about to end and {} is not there; put the root's key back for one start", path.display())]
    NoRootKey {
        /// Where it should be.
        path: PathBuf,
    },
    /// A request for a certificate cannot be read.
    #[error("the request for a certificate cannot be used: {0}")]
    Request(rcgen::Error),
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

/// The cluster's authorities and its administrator's token.
pub struct Pki {
    root_pem: String,
    root: CertificateDer<'static>,
    issuing_pem: String,
    issuing: CertificateDer<'static>,
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
    /// The file of the root's certificate, in the directory.
    pub const ROOT: &str = "root.crt";
    /// The file of the root's key, in the directory of the first server or wherever it was moved.
    pub const ROOT_KEY: &str = "root.key";
    /// The file of the certificate of the authority that signs everything, in the directory.
    pub const ISSUING: &str = "issuing.crt";
    /// The file of that authority's key, in the directory.
    pub const ISSUING_KEY: &str = "issuing.key";
    /// The file of the key that signs the tokens of service accounts, in the directory.
    pub const ACCOUNTS: &str = "sa.key";

    /// The file of the administrator's token, in the directory.
    pub const TOKEN: &str = "admin.token";

    /// Says of a directory's keys what would keep a server from starting, or from being trusted; makes none, and misses none.
    pub fn check(directory: &Path) -> Vec<PkiError> {
        let mut found = authority::check(directory);
        found.extend(read_key(&directory.join(Self::ACCOUNTS)).err());
        found.extend(read_token(&directory.join(Self::TOKEN)).err());
        found
    }

    /// Whether a directory has the issuing authority, or the root's key, with which another can be made.
    pub fn has_authority(directory: &Path) -> bool {
        let has = |name: &str| directory.join(name).exists();
        has(Self::ROOT_KEY) || (has(Self::ISSUING) && has(Self::ISSUING_KEY))
    }

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
        let root = authority::root(directory, now)?;
        let issuing = authority::issuing(directory, &root, now)?;
        let token = token(directory, root.is_new)?;
        Ok(Self {
            root_pem: root.pem,
            root: root.der,
            issuing_pem: issuing.pem,
            issuing: issuing.der,
            issuer: issuing.issuer,
            token,
        })
    }

    /// The root's certificate, to be trusted by clients.
    pub fn ca_pem(&self) -> &str {
        &self.root_pem
    }

    /// The root's SHA-256, in hexadecimal digits.
    pub fn root_sha256(&self) -> String {
        fingerprint(&self.root)
    }

    /// The administrator's token.
    pub const fn token(&self) -> &Token {
        &self.token
    }
}

fn read_token(path: &Path) -> Result<Option<Token>, PkiError> {
    let Some(text) = read(path)? else { return Ok(None) };
    let text = text.trim();
    if text.len() < TOKEN_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let expected = "a token of at least 32 printable characters";
        return Err(PkiError::Content { path: path.to_owned(), expected });
    }
    Ok(Some(Token::new(text)))
}

fn token(directory: &Path, is_new: bool) -> Result<Token, PkiError> {
    let path = directory.join(Pki::TOKEN);
    if let Some(token) = read_token(&path)? {
        return Ok(token);
    }
    if !is_new {
        tracing::warn!(
            path = %path.display(),
            "the administrator's token was missing; making a new one: kubeconfigs with the old one are refused from now on, and other servers keep theirs"
        );
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::authority::ROOT_DAYS;
    use super::*;
    use crate::certificate::not_after;

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
        for name in ["root.key", "root.crt", "issuing.key", "issuing.crt", "admin.token"] {
            let mode = fs::metadata(directory.path().join(name)).expect(name).permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn keys_of_different_origins_are_refused_by_name_or_made_anew_by_the_root() {
        let [ours, other] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        let trusted = open(ours.path(), NOW);
        open(other.path(), NOW);
        let take = |name: &str| {
            fs::copy(other.path().join(name), ours.path().join(name)).expect("copied");
        };
        let refused = || Pki::open(ours.path(), NOW).expect_err("refused").to_string();
        let kept = fs::read(ours.path().join(Pki::ROOT_KEY)).expect("there");
        assert!(Pki::check(ours.path()).is_empty());

        take(Pki::ISSUING_KEY);
        assert_eq!(Pki::check(ours.path()).len(), 1);
        let made = open(ours.path(), NOW);
        assert!(made.ca_pem() == trusted.ca_pem() && Pki::check(ours.path()).is_empty());

        fs::remove_file(ours.path().join(Pki::ROOT_KEY)).expect("there");
        take(Pki::ISSUING_KEY);
        assert!(refused().contains("issuing.key do not belong together"), "{}", refused());
        take(Pki::ISSUING);
        assert!(refused().contains("root.crt do not belong together"), "{}", refused());
        assert_eq!(Pki::check(ours.path()).len(), 1);
        take(Pki::ROOT_KEY);
        assert!(refused().contains("root.key do not belong together"), "{}", refused());

        fs::write(ours.path().join(Pki::ROOT_KEY), kept).expect("written");
        let theirs = fs::read(ours.path().join(Pki::ISSUING)).expect("there");
        assert!(refused().contains("root.crt do not belong together"), "{}", refused());
        let left = fs::read(ours.path().join(Pki::ISSUING)).expect("there");
        assert!(left == theirs, "one of the two is of another cluster, and nobody knows which");
        fs::remove_file(ours.path().join(Pki::ISSUING)).expect("there");
        open(ours.path(), NOW);
        for name in [Pki::ACCOUNTS, Pki::TOKEN] {
            fs::write(ours.path().join(name), "garbage").expect("written");
        }
        assert_eq!(Pki::check(ours.path()).len(), 2);
    }

    #[test]
    fn an_authority_about_to_expire_is_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = open(directory.path(), NOW);
        assert_eq!(not_after(&first.root), Some(NOW + ROOT_DAYS * 86_400));
        let issuing = |pki: &Pki| pki.issuing_pem.clone();
        let expires = not_after(&first.issuing).expect("a time");
        let later = open(directory.path(), expires - 10 * 86_400);
        assert_eq!(first.ca_pem(), later.ca_pem());
        assert_ne!(issuing(&first), issuing(&later));
        let last = open(directory.path(), NOW + (ROOT_DAYS - 10) * 86_400);
        assert_ne!(later.ca_pem(), last.ca_pem());
        assert_ne!(issuing(&later), issuing(&last), "a new root signs a new one");
    }

    #[test]
    fn the_roots_key_may_be_kept_elsewhere_until_it_is_needed() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = open(directory.path(), NOW);
        fs::remove_file(directory.path().join("root.key")).expect("there");
        assert_eq!(open(directory.path(), NOW + 86_400).issuing_pem, first.issuing_pem);
        let expires = not_after(&first.issuing).expect("a time");
        let error = Pki::open(directory.path(), expires).expect_err("it is needed").to_string();
        assert!(error.contains("root.key is not there; put the root's key back"), "{error}");
    }

    #[test]
    fn files_that_are_something_else_are_refused_by_name() {
        let directory = tempfile::tempdir().expect("a directory");
        open(directory.path(), NOW);
        fs::write(directory.path().join("issuing.key"), "nonsense").expect("writable");
        let error = Pki::open(directory.path(), NOW).expect_err("not a key").to_string();
        assert!(error.contains("issuing.key is not a PEM private key"), "{error}");
    }

    #[test]
    fn a_token_does_not_show_itself() {
        assert_eq!(format!("{:?}", Token::new("abc")), "Token([redacted])");
    }
}
