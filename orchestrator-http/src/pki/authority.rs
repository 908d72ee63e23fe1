//! The root and the issuing authority: read, or made when they are missing or about to expire.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::parse_x509_certificate;

use super::issue::{DAY, name, set_life};
use super::{Pki, PkiError, read, write};
use crate::certificate::not_after;

/// How long the root lives.
pub(super) const ROOT_DAYS: i64 = 7_300;
/// How long an issuing authority lives.
const ISSUING_DAYS: i64 = 3_650;
/// An authority that expires within this time is replaced.
const RENEW_DAYS: i64 = 30;

/// The root: its certificate, and its key unless that is kept elsewhere.
pub(super) struct Root {
    pub(super) pem: String,
    pub(super) der: CertificateDer<'static>,
    key: Option<KeyPair>,
    pub(super) is_new: bool,
}

/// The authority that signs what the cluster uses.
pub(super) struct Issuing {
    pub(super) pem: String,
    pub(super) der: CertificateDer<'static>,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

/// The SHA-256 of a certificate, by which it is known again.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    sha256(certificate)
}

/// The SHA-256 of bytes, in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A certificate of a directory, and its key if that is there too.
struct Pair {
    pem: String,
    der: CertificateDer<'static>,
    expires: i64,
    key: Option<KeyPair>,
}

impl Pair {
    /// Reads the two; `None` without the certificate. Who has signed it is looked at before what key it has.
    fn read(
        directory: &Path,
        (certificate, key): (&str, &str),
        signer: Option<&CertificateDer<'_>>,
    ) -> Result<Option<Self>, PkiError> {
        let (cert_path, key_path) = (directory.join(certificate), directory.join(key));
        let key = read_key(&key_path)?;
        let Some(pem) = read(&cert_path)? else { return Ok(None) };
        let bad = || PkiError::Content { path: cert_path.clone(), expected: "a PEM certificate" };
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| bad())?;
        let expires = not_after(&der).ok_or_else(bad)?;
        let (_, parsed) = parse_x509_certificate(&der).map_err(|_| bad())?;
        if signer.is_some_and(|root| !is_signed_by(&der, root)) {
            return Err(PkiError::Mismatch { one: cert_path, other: directory.join(Pki::ROOT) });
        }
        if key.as_ref().is_some_and(|key| key.subject_public_key_info() != parsed.public_key().raw)
        {
            return Err(PkiError::Mismatch { one: cert_path, other: key_path });
        }
        Ok(Some(Self { pem, der, expires, key }))
    }

    fn root(directory: &Path) -> Result<Option<Self>, PkiError> {
        Self::read(directory, (Pki::ROOT, Pki::ROOT_KEY), None)
    }

    /// The issuing authority that a root has made.
    fn issuing(directory: &Path, root: &CertificateDer<'_>) -> Result<Option<Self>, PkiError> {
        Self::read(directory, (Pki::ISSUING, Pki::ISSUING_KEY), Some(root))
    }
}

fn is_signed_by(certificate: &CertificateDer<'_>, root: &CertificateDer<'_>) -> bool {
    let (Ok((_, certificate)), Ok((_, root))) =
        (parse_x509_certificate(certificate), parse_x509_certificate(root))
    else {
        return false;
    };
    certificate.verify_signature(Some(root.public_key())).is_ok()
}

/// Says what is wrong with the files there are, and makes none.
pub(super) fn check(directory: &Path) -> Vec<PkiError> {
    match Pair::root(directory) {
        Ok(None) => Vec::new(),
        Ok(Some(root)) => Pair::issuing(directory, &root.der).err().into_iter().collect(),
        Err(error) => vec![error],
    }
}

/// Reads the root, or makes one.
pub(super) fn root(directory: &Path, now: i64) -> Result<Root, PkiError> {
    let (cert_path, key_path) = (directory.join(Pki::ROOT), directory.join(Pki::ROOT_KEY));
    if let Some(Pair { pem, der, expires, key }) = Pair::root(directory)? {
        if expires - now > RENEW_DAYS * DAY {
            return Ok(Root { pem, der, key, is_new: false });
        }
        tracing::warn!(path = %cert_path.display(), "the root expires; making a new one, clients need the new kubeconfig and nodes must join anew");
    }
    let key = KeyPair::generate().map_err(PkiError::Certificate)?;
    let signed = root_params(now).self_signed(&key).map_err(PkiError::Certificate)?;
    // The key first: a key without its certificate is replaced at the next start.
    write(&key_path, &key.serialize_pem())?;
    write(&cert_path, &signed.pem())?;
    Ok(Root { pem: signed.pem(), der: signed.der().clone(), key: Some(key), is_new: true })
}

/// Reads the issuing authority, or has the root make one.
pub(super) fn issuing(directory: &Path, root: &Root, now: i64) -> Result<Issuing, PkiError> {
    let (cert_path, key_path) = (directory.join(Pki::ISSUING), directory.join(Pki::ISSUING_KEY));
    let found = match Pair::issuing(directory, &root.der) {
        // Of an earlier root.
        Err(PkiError::Mismatch { .. }) if root.is_new => None,
        // Of a start that was interrupted between the two files. What another root has signed may be all that the cluster still has.
        Err(PkiError::Mismatch { other, .. }) if root.key.is_some() && other == key_path => None,
        found => found?,
    };
    if let Some(Pair { pem, der, expires, key: Some(key) }) = found
        && expires - now > RENEW_DAYS * DAY
    {
        return Ok(Issuing { pem, der, issuer: Issuer::new(issuing_params(now), key) });
    }
    let Some(root_key) = &root.key else {
        return Err(PkiError::NoRootKey { path: directory.join(Pki::ROOT_KEY) });
    };
    if !root.is_new {
        tracing::warn!(
            path = %cert_path.display(),
            "the issuing authority was missing, about to end or of something else; the root's key makes another, which nodes and clients trust as they did the old one"
        );
    }
    let key = KeyPair::generate().map_err(PkiError::Certificate)?;
    let by_root = Issuer::new(root_params(now), root_key);
    let signed = issuing_params(now).signed_by(&key, &by_root).map_err(PkiError::Certificate)?;
    let pem = signed.pem();
    write(&key_path, &key.serialize_pem())?;
    write(&cert_path, &pem)?;
    let issuer = Issuer::new(issuing_params(now), key);
    Ok(Issuing { pem, der: signed.der().clone(), issuer })
}

pub(crate) fn read_key(path: &Path) -> Result<Option<KeyPair>, PkiError> {
    let Some(text) = read(path)? else { return Ok(None) };
    let bad = |_| PkiError::Content { path: path.to_owned(), expected: "a PEM private key" };
    KeyPair::from_pem(&text).map(Some).map_err(bad)
}

/// The same for making an authority and for signing in its name: the issuer's name must agree.
fn root_params(now: i64) -> CertificateParams {
    authority_params("orchd cluster root", 1, ROOT_DAYS, now)
}

fn issuing_params(now: i64) -> CertificateParams {
    authority_params("orchd cluster authority", 0, ISSUING_DAYS, now)
}

fn authority_params(called: &str, path_length: u8, days: i64, now: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(called);
    set_life(&mut params, now, days * DAY);
    params.use_authority_key_identifier_extension = true;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
