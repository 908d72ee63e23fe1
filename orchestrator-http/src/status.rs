//! `Failure`: every error of the API as a Kubernetes Status.

use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use orchestrator_core::api::{FieldError, FieldErrorKind, Rejection};
use orchestrator_core::model::{Key, Kind};
use serde_json::{Value, json};

use crate::absent::Absent;
use crate::body::{self, Body};

/// A request that is refused, as the Status object that answers it.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The HTTP status.
    pub code: StatusCode,
    /// The reason, for programs.
    pub reason: &'static str,
    /// The explanation, for people.
    pub message: String,
    details: Option<Value>,
    /// A token with which an expired listing can go on, not consistently.
    resume: Option<String>,
}

impl Failure {
    /// Makes a failure without details.
    pub fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, resume: None }
    }

    /// 400: the request is malformed.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// 403: whoever asks may not do that.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// 404: there is nothing at that path.
    pub fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// 404: there is no such object.
    pub fn not_found(key: &Key) -> Self {
        Rejection::NotFound { key: key.clone() }.into()
    }

    /// 404: there is nothing of a kind of which there never is anything.
    pub(crate) fn absent(absent: &Absent, name: &str) -> Self {
        let message = format!("{} {name:?} not found", absent.full_name());
        let details = json!({ "name": name, "group": absent.group, "kind": absent.plural });
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).with_details(details)
    }

    /// 405: the path is right, the method is not.
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    /// 406: nothing that is served is accepted.
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    /// 410: what was asked for is not remembered any more.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// 415: the body's media type is not read here.
    pub fn unsupported_media_type(found: &str, accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}; found: {found}",
            accepted.join(", ")
        );
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    /// 422: options of a list or watch contradict each other.
    pub fn invalid_options(field: &str, kind: FieldErrorKind, message: &str) -> Self {
        let text = match kind {
            FieldErrorKind::Forbidden => format!("Forbidden: {message}"),
            _ => message.to_owned(),
        };
        let error = FieldError { field: field.to_owned(), kind, message: text };
        let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {error}");
        let details = json!({
            "group": "meta.k8s.io", "kind": "ListOptions", "causes": causes(&[error]),
        });
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).with_details(details)
    }

    /// 422: a patch that is asked for in a way that cannot be.
    pub(crate) fn invalid_patch_options(error: FieldError) -> Self {
        let message = format!("PatchOptions.meta.k8s.io \"\" is invalid: {error}");
        let details = json!({
            "group": "meta.k8s.io", "kind": "PatchOptions", "causes": causes(&[error]),
        });
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).with_details(details)
    }

    /// 429: one client asks for more than its share.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
            .with_details(json!({ "retryAfterSeconds": retry_after_seconds }))
    }

    /// 500: the server is at fault.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// 501: Kubernetes has it, this server does not.
    pub fn not_implemented(what: &str) -> Self {
        let message = format!("{what} is not implemented by this server yet");
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message)
    }

    /// 504: a revision that this server has not seen (yet).
    pub fn revision_too_large(asked: u64, newest: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {newest}");
        let details = json!({
            "retryAfterSeconds": 1,
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        });
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message).with_details(details)
    }

    /// 504: it took too long.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
            .with_details(json!({ "retryAfterSeconds": 1 }))
    }

    /// 401: nobody knows who asks.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// Lets an expired listing go on with this token.
    #[must_use]
    pub(crate) fn with_resume(mut self, token: String) -> Self {
        self.resume = Some(token);
        self
    }

    fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// Returns the Status object.
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        });
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        if let Some(token) = &self.resume {
            status["metadata"]["continue"] = Value::String(token.clone());
        }
        status
    }

    /// Returns the response.
    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(body::full(self.to_value().to_string()));
        *response.status_mut() = self.code;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        if self.code == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
        }
        let retry = self.details.as_ref().and_then(|details| details.get("retryAfterSeconds"));
        if let Some(seconds) = retry.and_then(Value::as_u64) {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Returns the Status object of a success that has no object of its own to show.
pub(crate) fn success(key: &Key, uid: &str) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {
            "name": &*key.name, "group": key.kind.group(), "kind": key.kind.plural(), "uid": uid,
        },
    })
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        let message = rejection.to_string();
        match rejection {
            Rejection::AlreadyExists { key } => {
                Self::new(StatusCode::CONFLICT, "AlreadyExists", message)
                    .with_details(object(&key, key.kind.plural()))
            }
            Rejection::ApplyConflict { key, conflicts } => {
                let mut details = object(&key, key.kind.plural());
                details["causes"] = conflicts
                    .iter()
                    .map(|conflict| {
                        let message = format!("conflict with {}", conflict.manager);
                        let reason = "FieldManagerConflict";
                        json!({ "reason": reason, "message": message, "field": conflict.field })
                    })
                    .collect();
                Self::new(StatusCode::CONFLICT, "Conflict", message).with_details(details)
            }
            Rejection::BadRequest { .. } => Self::bad_request(message),
            Rejection::Conflict { key, .. } => Self::new(StatusCode::CONFLICT, "Conflict", message)
                .with_details(object(&key, key.kind.plural())),
            Rejection::DisruptionBudget { cause, retry_after_seconds } => {
                let mut details =
                    json!({ "causes": [{ "reason": "DisruptionBudget", "message": cause }] });
                if retry_after_seconds > 0 {
                    details["retryAfterSeconds"] = retry_after_seconds.into();
                }
                Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
                    .with_details(details)
            }
            Rejection::Forbidden { .. } => Self::forbidden(message),
            Rejection::Invalid { key, errors } => {
                let mut details = object(&key, key.kind.name());
                details["causes"] = causes(&errors);
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
                    .with_details(details)
            }
            Rejection::NotFound { key } => Self::new(StatusCode::NOT_FOUND, "NotFound", message)
                .with_details(object(&key, key.kind.plural())),
            Rejection::UnsupportedPatch { .. } => {
                Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
            }
            Rejection::Unavailable { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
                    .with_details(json!({ "retryAfterSeconds": 1 }))
            }
            _ => Self::internal(message),
        }
    }
}

fn object(key: &Key, kind: &str) -> Value {
    json!({ "name": &*key.name, "group": key.kind.group(), "kind": kind })
}

fn causes(errors: &[FieldError]) -> Value {
    let cause = |error: &FieldError| {
        let reason = match error.kind {
            FieldErrorKind::Duplicate => "FieldValueDuplicate",
            FieldErrorKind::Forbidden => "FieldValueForbidden",
            FieldErrorKind::Invalid => "FieldValueInvalid",
            FieldErrorKind::NotSupported => "FieldValueNotSupported",
            FieldErrorKind::Required => "FieldValueRequired",
            FieldErrorKind::TooLong => "FieldValueTooLong",
        };
        json!({ "reason": reason, "message": error.message, "field": error.field })
    };
    errors.iter().map(cause).collect()
}

/// What the API calls a body that is not what its path says.
pub(crate) fn undecodable(kind: Kind, message: &str) -> Failure {
    let version = kind.api_version().rsplit('/').next().unwrap_or_default();
    Failure::bad_request(format!(
        "{kind} in version \"{version}\" cannot be handled as a {kind}: {message}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejections_become_the_statuses_that_kubectl_understands() {
        let key = Key::new(Kind::Deployment, "default", "web");
        let error = FieldError {
            field: "spec.replicas".to_owned(),
            kind: FieldErrorKind::Invalid,
            message: "Invalid value: -1: must be greater than or equal to 0".to_owned(),
        };
        let check = |rejection: Rejection, code: u16, reason: &str, kind: Option<&str>| {
            let status = Failure::from(rejection).to_value();
            assert_eq!(
                (status["code"].as_u64(), status["reason"].as_str()),
                (Some(code.into()), Some(reason))
            );
            assert_eq!(status["details"]["kind"].as_str(), kind);
            status
        };
        check(Rejection::NotFound { key: key.clone() }, 404, "NotFound", Some("deployments"));
        check(
            Rejection::AlreadyExists { key: key.clone() },
            409,
            "AlreadyExists",
            Some("deployments"),
        );
        let invalid = Rejection::Invalid { key, errors: vec![error] };
        let status = check(invalid, 422, "Invalid", Some("Deployment"));
        assert_eq!(status["details"]["causes"][0]["field"], "spec.replicas");
        assert_eq!(
            status["message"],
            "Deployment.apps \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
        );
    }
}
