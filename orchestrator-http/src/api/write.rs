//! Writing: from bytes to a [`Request`] of core, and from its effect to an answer.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use orchestrator_core::api::{Effect, FieldError, FieldValidation, Patch, Preconditions, Request};
use orchestrator_core::manifest::{self, DuplicateField};
use orchestrator_core::model::{Key, Kind, ObjectMeta, Part};
use serde_json::Value;

use super::{Api, Call, Received, json, typed};
use crate::audit::Named;
use crate::body::{self, Body};
use crate::negotiate::{self, BodyFormat, PatchFormat};
use crate::protobuf::{self, ProtobufError};
use crate::status::{self, Failure};

/// The most warnings in an answer.
const WARNINGS_MAX: usize = 64;
/// The most characters of a warning.
const WARNING_CHARS_MAX: usize = 1_024;

/// A body that is read, with what its author should know.
pub(super) struct Document {
    pub(super) value: Value,
    warnings: Vec<String>,
}

impl Api {
    pub(super) async fn create<B>(
        &self,
        kind: Kind,
        namespace: String,
        call: Call<B>,
    ) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let Received { options, format, bytes, caller, .. } = call.receive().await?;
        let Document { value: object, warnings } =
            decode(kind, format, &bytes, options.validation)?;
        let request = Request::Create { kind, namespace, object, options };
        let effect = self.inner.cluster.submit(&caller, request).await?;
        Ok(answer(&effect, warnings))
    }

    pub(super) async fn update<B>(
        &self,
        key: Key,
        part: Part,
        call: Call<B>,
    ) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let Received { options, format, bytes, caller, .. } = call.receive().await?;
        let Document { value: object, warnings } =
            decode(key.kind, format, &bytes, options.validation)?;
        let request = Request::Update { key, part, object, options };
        let effect = self.inner.cluster.submit(&caller, request).await?;
        Ok(answer(&effect, warnings))
    }

    pub(super) async fn patch<B>(
        &self,
        key: Key,
        part: Part,
        call: Call<B>,
    ) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let options = call.write_options()?;
        let format = negotiate::patch_body(call.header(CONTENT_TYPE))?;
        let force = call.query.flag("force");
        if format != PatchFormat::Apply && force.is_some() {
            let error = FieldError::forbidden("force", "may not be specified for non-apply patch");
            return Err(Failure::invalid_patch_options(error));
        }
        let bytes = body::read(call.body).await?;
        let (patch, warnings) = match format {
            PatchFormat::Json => {
                let (operations, _) = manifest::read_json(&bytes).map_err(not_json)?;
                (Patch::Json(operations), Vec::new())
            }
            PatchFormat::Merge => {
                let document = parse(key.kind, BodyFormat::Json, &bytes, options.validation)?;
                (Patch::Merge(document.value), document.warnings)
            }
            PatchFormat::Strategic => {
                let document = parse(key.kind, BodyFormat::Json, &bytes, options.validation)?;
                (Patch::Strategic(document.value), document.warnings)
            }
            PatchFormat::ThreeWay => {
                let document = decode(key.kind, BodyFormat::Yaml, &bytes, options.validation)?;
                (Patch::Apply(document.value), document.warnings)
            }
            PatchFormat::Apply => {
                if call.query.text("fieldManager").is_none_or(str::is_empty) {
                    let error = FieldError::required("fieldManager", "is required for apply patch");
                    return Err(Failure::invalid_patch_options(error));
                }
                let document = decode(key.kind, BodyFormat::Yaml, &bytes, options.validation)?;
                let force = force.unwrap_or(false);
                (Patch::ApplyServerSide { manifest: document.value, force }, document.warnings)
            }
        };
        let preconditions = Preconditions::default();
        let request = Request::Patch { key, part, patch, preconditions, options };
        let effect = self.inner.cluster.submit(&call.caller, request).await?;
        Ok(answer(&effect, warnings))
    }

    /// Binds a pod to the node its Binding names.
    pub(super) async fn bind<B>(&self, pod: Key, call: Call<B>) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let Received { options, format, bytes, caller, .. } = call.receive().await?;
        let (value, _) = read(format, &bytes)?;
        let text = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let node = text("/target/name");
        if node.is_empty() || !matches!(text("/target/kind"), "" | "Node") {
            let message = "target: a reference to a Node with its name is needed";
            return Err(Failure::bad_request(message));
        }
        if options.dry_run {
            return Err(Failure::bad_request("dryRun: a binding cannot be tried"));
        }
        let request = Request::Bind { pod: pod.clone(), node: node.to_owned() };
        let effect = self.inner.cluster.submit(&caller, request).await?;
        Ok(done(StatusCode::CREATED, &pod, &effect, false))
    }
}

pub(super) fn not_json(error: impl std::fmt::Display) -> Failure {
    Failure::bad_request(format!("the body cannot be read as JSON: {error}"))
}

fn not_yaml(error: impl std::fmt::Display) -> Failure {
    Failure::bad_request(format!("the body cannot be read as YAML: {error}"))
}

fn not_protobuf(error: ProtobufError) -> Failure {
    Failure::bad_request(format!("the body cannot be read as Kubernetes' protobuf: {error}"))
}

/// Reads a body that must be an object of a kind.
fn decode(
    kind: Kind,
    format: BodyFormat,
    bytes: &[u8],
    validation: FieldValidation,
) -> Result<Document, Failure> {
    let document = parse(kind, format, bytes, validation)?;
    let said = |field: &str, is: &str| match document.value.get(field) {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(text)) if text == is || text.is_empty() => Ok(()),
        Some(other) => Err(Failure::bad_request(format!(
            "{field}: {other} does not match the path, where it is {is:?}"
        ))),
    };
    said("kind", kind.name())?;
    said("apiVersion", kind.api_version())?;
    Ok(document)
}

impl Received {
    /// Reads the body as an object of a version and kind of which none is stored.
    pub(super) fn object(&self, (api_version, kind): (&str, &str)) -> Result<Value, Failure> {
        let (value, _) = read(self.format, &self.bytes)?;
        for (field, right) in [("apiVersion", api_version), ("kind", kind)] {
            let said = value.get(field).and_then(Value::as_str).unwrap_or_default();
            if !said.is_empty() && said != right {
                return Err(Failure::bad_request(format!("{field}: {said:?} must be {right:?}")));
            }
        }
        Ok(value)
    }
}

/// Reads a body that is some JSON object, and the fields that it has twice, where that can be told.
pub(super) fn read(
    format: BodyFormat,
    bytes: &[u8],
) -> Result<(Value, Vec<DuplicateField>), Failure> {
    let (value, duplicates) = match format {
        BodyFormat::Json => manifest::read_json(bytes).map_err(not_json)?,
        BodyFormat::Protobuf => (protobuf::decode(bytes).map_err(not_protobuf)?, Vec::new()),
        BodyFormat::Yaml => (manifest::read_yaml(bytes, "body").map_err(not_yaml)?, Vec::new()),
    };
    match value.is_object() {
        true => Ok((value, duplicates)),
        false => Err(Failure::bad_request("the body must be a JSON object")),
    }
}

/// Reads a body that is some JSON object of a kind, as strictly as is asked for.
pub(super) fn parse(
    kind: Kind,
    format: BodyFormat,
    bytes: &[u8],
    validation: FieldValidation,
) -> Result<Document, Failure> {
    let (value, duplicates) = read(format, bytes)?;
    let duplicates: Vec<String> =
        duplicates.iter().map(|DuplicateField(path)| format!("duplicate field {path:?}")).collect();
    match validation {
        FieldValidation::Ignore => Ok(Document { value, warnings: Vec::new() }),
        FieldValidation::Strict if !duplicates.is_empty() => {
            let message = format!("strict decoding error: {}", duplicates.join(", "));
            Err(status::undecodable(kind, &message))
        }
        FieldValidation::Strict | FieldValidation::Warn => {
            Ok(Document { value, warnings: duplicates })
        }
    }
}

/// Reads `{uid, resourceVersion}`.
pub(super) fn preconditions(value: Option<&Value>) -> Result<Preconditions, Failure> {
    let text = |field: &str| {
        let found = value.and_then(|value| value.get(field)).and_then(Value::as_str);
        found.filter(|text| !text.is_empty())
    };
    let bad = |field: &str, text: &str| {
        Failure::bad_request(format!("{field}: {text:?} is not one of this server"))
    };
    let uid = text("uid").map(|text| text.parse().map_err(|_| bad("uid", text)));
    let revision =
        text("resourceVersion").map(|text| text.parse().map_err(|_| bad("resourceVersion", text)));
    Ok(Preconditions { revision: revision.transpose()?, uid: uid.transpose()? })
}

/// Answers with the object a request came to.
pub(super) fn answer(effect: &Effect, warnings: Vec<String>) -> Response<Body> {
    let status = if effect.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = typed("application/json", effect.reply.to_json());
    *response.status_mut() = status;
    name(&mut response, effect.reply.meta(), false);
    warn(&mut response, warnings.into_iter().chain(effect.warnings.iter().cloned()));
    response
}

/// Tells the audit log which object an answer is about, and whether the body said that nothing is to happen to it.
pub(super) fn name(response: &mut Response<Body>, meta: &ObjectMeta, dry_run: bool) {
    let named = Named { name: meta.name.clone(), uid: meta.uid.to_string(), dry_run };
    response.extensions_mut().insert(named);
}

/// Answers that something has been done to an object, without the object.
pub(super) fn done(
    status: StatusCode,
    key: &Key,
    effect: &Effect,
    dry_run: bool,
) -> Response<Body> {
    let meta = effect.reply.meta();
    let mut response = json(status, &status::success(key, &meta.uid.to_string()));
    name(&mut response, meta, dry_run);
    response
}

/// Adds warnings to an answer: `299 - "text"`.
pub(super) fn warn(response: &mut Response<Body>, warnings: impl Iterator<Item = String>) {
    for warning in warnings.take(WARNINGS_MAX) {
        let text: String = warning
            .chars()
            .take(WARNING_CHARS_MAX)
            .map(|c| if c.is_control() { ' ' } else { c })
            .flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c]))
            .collect();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()) {
            response.headers_mut().append(HeaderName::from_static("warning"), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_one_quoted_line() {
        let mut response = Response::new(body::full(""));
        warn(&mut response, ["say \"no\"\n\\ever".to_owned()].into_iter());
        let value = response.headers().get("warning").expect("there");
        assert_eq!(value.as_bytes(), br#"299 - "say \"no\" \\ever""#);
    }
}
