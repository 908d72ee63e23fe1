//! `ClientError`: why a request of a client failed, and what to do next.

use std::io;

use http::StatusCode;
use rustls::CertificateError;
use serde_json::Value;

use crate::causes::causes;

/// A field that the server complains of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The field's path, such as `spec.replicas`; empty if none is to blame.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// The reason, for programs.
    pub reason: String,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server refused it.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// The reason, for programs, such as `NotFound`.
        reason: String,
        /// The explanation.
        message: String,
        /// The fields that are to blame.
        causes: Vec<Cause>,
    },
    /// Nobody answers there.
    #[error("cannot reach {server}: {source}")]
    Unreachable {
        /// The server's URL.
        server: String,
        /// Why not.
        source: io::Error,
    },
    /// The server's certificate does not lead to the authority that is trusted, or is not one of this server.
    #[error("{server} is not to be trusted ({source}): {}", distrust(.source))]
    Untrusted {
        /// The server's URL.
        server: String,
        /// What TLS says.
        source: io::Error,
    },
    /// The connection broke off.
    #[error("the connection to {server} broke off: {reason}")]
    Broken {
        /// The server's URL.
        server: String,
        /// How.
        reason: String,
    },
    /// What came back is not what was asked for.
    #[error("{server} answered with something else: {reason}")]
    Unexpected {
        /// The server's URL.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What the client was told of the server cannot be used.
    #[error("{0}")]
    Config(String),
}

/// What is wrong with a server, by what TLS says of it, and what to do.
fn distrust(source: &io::Error) -> &'static str {
    let error = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match error {
        // The authorities of all clusters have one name.
        Some(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => {
            "it is not a server of the cluster that the kubeconfig, the join token or the agent is of, or its keys were made anew; use \
             the kubeconfig of its data directory, or join by a token made there"
        }
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "it goes by other names; start it with `--name` and this one, or use one that it has",
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => "compare the clocks of both machines",
        Some(_) | None => "look whether the URL is that of an orchd",
    }
}

impl ClientError {
    /// A connection that broke off, with what lies behind it: hyper's own words do not tell that TLS refused a certificate.
    pub(super) fn broken(server: &str, error: &hyper::Error) -> Self {
        Self::Broken { server: server.to_owned(), reason: causes(error) }
    }

    /// The HTTP status, if the server refused the request.
    pub const fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Broken { .. }
            | Self::Config(_)
            | Self::Unexpected { .. }
            | Self::Unreachable { .. }
            | Self::Untrusted { .. } => None,
        }
    }

    /// Whether the server says that there is no such object.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether what was asked for is not remembered any more: list again.
    pub fn is_expired(&self) -> bool {
        self.code() == Some(410)
    }

    /// Reads a Status; what is none becomes one with the HTTP status.
    pub(super) fn from_status(code: StatusCode, body: &[u8]) -> Self {
        let status: Value = serde_json::from_slice(body).unwrap_or_default();
        Self::from_status_value(code, &status, body)
    }

    /// Reads a Status that came as an object, such as in a watch.
    pub(super) fn from_status_object(status: &Value) -> Self {
        let code = status.get("code").and_then(Value::as_u64).and_then(|code| code.try_into().ok());
        let code = code.and_then(|code: u16| StatusCode::from_u16(code).ok());
        Self::from_status_value(code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), status, b"")
    }

    fn from_status_value(code: StatusCode, status: &Value, body: &[u8]) -> Self {
        let text = |value: &Value, field: &str| {
            value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let mut message = text(status, "message");
        if message.is_empty() {
            let start = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
            message = format!("{code} {}", start.trim());
        }
        let causes = status.pointer("/details/causes").and_then(Value::as_array);
        let cause = |cause: &Value| Cause {
            field: text(cause, "field"),
            message: text(cause, "message"),
            reason: text(cause, "reason"),
        };
        Self::Refused {
            code: code.as_u16(),
            reason: text(status, "reason"),
            message,
            causes: causes.into_iter().flatten().map(cause).collect(),
        }
    }
}
