//! What proves that an agent is still its node's, when TLS takes its certificate no more because it is over.

use std::time::Duration;

use orchestrator_core::model::Uid;
use rcgen::{CertificateSigningRequestParams, PublicKeyData as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};

use super::issue::DAY;
use super::{Pki, PkiError, provider};
use crate::api::Transport;
use crate::certificate::{not_after, transport};

/// How long after its end a node's certificate still proves whose it was, in days.
const RENEWAL_DAYS_MAX: i64 = 30;

/// Why a certificate that is shown for a newer one proves nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewalError {
    /// The certificate has been over for too long.
    #[error("the certificate of node {node:?} has been over for more than {RENEWAL_DAYS_MAX} days")]
    Late {
        /// Whose it was.
        node: String,
    },
    /// The request is for another key, or was not signed with it.
    #[error(
        "request: must be signed with the key that the certificate is for, and be for the same"
    )]
    OtherKey,
    /// The request cannot be read.
    #[error(transparent)]
    Request(#[from] PkiError),
    /// The certificate is not one of a node of this cluster.
    #[error("certificate: must be one of a node, signed by this cluster's authority: {0}")]
    Strange(String),
}

impl Pki {
    /// Finds out whose node's agent shows a certificate, which may have been over for a while, and asks for a newer one for the same
    /// key. Whoever signed the request has the key.
    ///
    /// # Errors
    /// [`RenewalError`] when it proves nothing.
    pub(crate) fn renewing_node(
        &self,
        chain: &str,
        request: &str,
        now: i64,
    ) -> Result<(String, Uid), RenewalError> {
        let strange = |error: &dyn std::fmt::Display| RenewalError::Strange(error.to_string());
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| strange(&error))?;
        let (leaf, others) = chain.split_first().ok_or_else(|| strange(&"there is none"))?;
        let over = not_after(leaf).ok_or_else(|| strange(&"it cannot be read"))?;
        let seconds = u64::try_from(now.min(over)).unwrap_or_default();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone()).map_err(PkiError::Tls)?;
        WebPkiClientVerifier::builder_with_provider(roots.into(), provider())
            .build()
            .map_err(|error| strange(&error))?
            .verify_client_cert(
                leaf,
                others,
                UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            )
            .map_err(|error| strange(&error))?;
        let Some(Transport::Node { name, uid }) = transport(leaf) else {
            return Err(strange(&"it is not a node's"));
        };
        let asked =
            CertificateSigningRequestParams::from_pem(request).map_err(PkiError::Request)?;
        let key = ParsedCertificate::try_from(leaf).map_err(|error| strange(&error))?;
        let key = key.subject_public_key_info();
        if key.as_ref() != asked.public_key.subject_public_key_info() {
            return Err(RenewalError::OtherKey);
        }
        if now - over > RENEWAL_DAYS_MAX * DAY {
            return Err(RenewalError::Late { node: name });
        }
        Ok((name, uid))
    }
}
