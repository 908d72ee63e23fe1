//! The root and the issuing authority: read, or made when they are missing or about to expire.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

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

/// Reads the root, or makes one.
pub(super) fn root(directory: &Path, now: i64) -> Result<Root, PkiError> {
    let (cert_path, key_path) = (directory.join(Pki::ROOT), directory.join(Pki::ROOT_KEY));
    let key = read_key(&key_path)?;
    if let Some(pem) = read(&cert_path)? {
        let (der, expires) = certificate(&cert_path, &pem)?;
        if expires - now > RENEW_DAYS * DAY {
            return Ok(Root { pem, der, key, is_new: false });
        }
        tracing::warn!(path = %cert_path.display(), "the root expires; making a new one, clients need the new kubeconfig and nodes must join anew");
    }
    let key = KeyPair::generate().map_err(PkiError::Certificate)?;
    let pem = root_params(now).self_signed(&key).map_err(PkiError::Certificate)?.pem();
    let (der, _) = certificate(&cert_path, &pem)?;
    // The key first: a key without its certificate is replaced at the next start.
    write(&key_path, &key.serialize_pem())?;
    write(&cert_path, &pem)?;
    Ok(Root { pem, der, key: Some(key), is_new: true })
}

/// Reads the issuing authority, or has the root make one.
pub(super) fn issuing(directory: &Path, root: &Root, now: i64) -> Result<Issuing, PkiError> {
    let (cert_path, key_path) = (directory.join(Pki::ISSUING), directory.join(Pki::ISSUING_KEY));
    if let (Some(pem), Some(key), false) = (read(&cert_path)?, read_key(&key_path)?, root.is_new) {
        let (der, expires) = certificate(&cert_path, &pem)?;
        if expires - now > RENEW_DAYS * DAY {
            return Ok(Issuing { pem, der, issuer: Issuer::new(issuing_params(now), key) });
        }
    }
    let Some(root_key) = &root.key else {
        return Err(PkiError::NoRootKey { path: directory.join(Pki::ROOT_KEY) });
    };
    if !root.is_new {
        tracing::warn!(
            path = %cert_path.display(),
            "the issuing authority was missing or about to end; the root's key makes another, which nodes and clients trust as they did the old one"
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

fn read_key(path: &Path) -> Result<Option<KeyPair>, PkiError> {
    let Some(text) = read(path)? else { return Ok(None) };
    let bad = |_| PkiError::Content { path: path.to_owned(), expected: "a PEM private key" };
    KeyPair::from_pem(&text).map(Some).map_err(bad)
}

/// Reads a certificate, and when it expires.
fn certificate(path: &Path, pem: &str) -> Result<(CertificateDer<'static>, i64), PkiError> {
    let bad = || PkiError::Content { path: path.to_owned(), expected: "a PEM certificate" };
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| bad())?;
    let expires = not_after(&der).ok_or_else(bad)?;
    Ok((der, expires))
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
