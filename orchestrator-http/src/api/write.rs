//! Writing: from bytes to a [`Request`] of core, and from its effect to an answer.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use orchestrator_core::api::{
    Cascade, DeleteOptions, Effect, FieldValidation, Patch, Preconditions, Rejection, Request,
};
use orchestrator_core::manifest::{self, DuplicateField};
use orchestrator_core::model::{Key, Kind, Part};
use serde_json::{Value, json};

use super::list::Selection;
use super::{Api, Call, Received, json};
use crate::audit::Named;
use crate::body::{self, Body};
use crate::negotiate::{self, BodyFormat, PatchFormat};
use crate::protobuf::{self, ProtobufError};
use crate::query::{self, ListOptions, Query};
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
        let Received { options, format, bytes, caller } = call.receive().await?;
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
        let Received { options, format, bytes, caller } = call.receive().await?;
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
                    return Err(Failure::no_field_manager());
                }
                let document = decode(key.kind, BodyFormat::Yaml, &bytes, options.validation)?;
                let force = call.query.flag("force").unwrap_or(false);
                (Patch::ApplyServerSide { manifest: document.value, force }, document.warnings)
            }
        };
        let preconditions = Preconditions::default();
        let request = Request::Patch { key, part, patch, preconditions, options };
        let effect = self.inner.cluster.submit(&call.caller, request).await?;
        Ok(answer(&effect, warnings))
    }

    pub(super) async fn delete<B>(&self, key: Key, call: Call<B>) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let content_type = call.header(CONTENT_TYPE).map(str::to_owned);
        let bytes = body::read(call.body).await?;
        let options = delete_options(&call.query, content_type.as_deref(), &bytes)?;
        let request = Request::Delete { key: key.clone(), options };
        let effect = self.inner.cluster.submit(&call.caller, request).await?;
        if effect.deleted {
            let uid = effect.reply.meta().uid.to_string();
            return Ok(json(StatusCode::OK, &status::success(&key, &uid)));
        }
        Ok(answer(&effect, Vec::new()))
    }

    /// Deletes what a selection selects now, one after the other; with a limit, only so many.
    pub(super) async fn delete_collection<B>(
        &self,
        kind: Kind,
        namespace: Option<String>,
        call: Call<B>,
    ) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let list_options = ListOptions::read(&call.query, kind)?;
        let content_type = call.header(CONTENT_TYPE).map(str::to_owned);
        let bytes = body::read(call.body).await?;
        let options = delete_options(&call.query, content_type.as_deref(), &bytes)?;
        let options = DeleteOptions { of_collection: true, ..options };
        if list_options.resume.is_some() {
            let message =
                "continue: what is deleted begins at the start of the list; use limit alone";
            return Err(Failure::bad_request(message));
        }
        let limit = list_options.limit.unwrap_or(usize::MAX);
        let selection = Selection { kind, namespace, options: list_options };
        let world = self.inner.cluster.world();
        let selected: Vec<_> = selection
            .page(&world, None)
            .take(limit)
            .map(|(key, stored)| (key.clone(), stored.object.clone()))
            .collect();
        let mut items = Vec::with_capacity(selected.len());
        for (key, object) in selected {
            let request = Request::Delete { key, options };
            match self.inner.cluster.submit(&call.caller, request).await {
                Ok(_) => items.push(object.at_version_of(kind).to_value()),
                // Somebody else was faster.
                Err(Rejection::NotFound { .. }) => {}
                Err(rejection) => return Err(rejection.into()),
            }
        }
        let list = json!({
            "kind": format!("{kind}List"),
            "apiVersion": kind.api_version(),
            "metadata": { "resourceVersion": self.inner.cluster.world().revision().to_string() },
            "items": items,
        });
        Ok(json(StatusCode::OK, &list))
    }

    /// Binds a pod to the node its Binding names.
    pub(super) async fn bind<B>(&self, pod: Key, call: Call<B>) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let Received { options, format, bytes, caller } = call.receive().await?;
        let Document { value, .. } = parse(pod.kind, format, &bytes, FieldValidation::Ignore)?;
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
        let uid = effect.reply.meta().uid.to_string();
        Ok(json(StatusCode::CREATED, &status::success(&pod, &uid)))
    }
}

fn not_json(error: impl std::fmt::Display) -> Failure {
    Failure::bad_request(format!("the body cannot be read as JSON: {error}"))
}

fn not_protobuf(error: ProtobufError) -> Failure {
    Failure::bad_request(format!("the body cannot be read as Kubernetes' protobuf: {error}"))
}

impl Api {
    /// Deletes a pod as its Eviction says, if its disruption budget allows it.
    pub(super) async fn evict<B>(&self, pod: Key, call: Call<B>) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let format = negotiate::object_body(call.header(CONTENT_TYPE))?;
        let is = ("policy/v1", "Eviction");
        let eviction = read_object(format, &body::read(call.body).await?, is)?;
        for (field, right) in [("name", &pod.name), ("namespace", &pod.namespace)] {
            let said = eviction.pointer(&format!("/metadata/{field}")).and_then(Value::as_str);
            if let Some(said) = said.filter(|said| !said.is_empty() && **said != **right) {
                return Err(Failure::bad_request(format!(
                    "metadata.{field}: {said:?} does not match the path, where it is {:?}",
                    &**right
                )));
            }
        }
        let options = eviction.get("deleteOptions").filter(|options| !options.is_null());
        let bytes = options.map(Value::to_string).unwrap_or_default();
        let options = delete_options(&call.query, None, bytes.as_bytes())?;
        let request = Request::Evict { pod: pod.clone(), options };
        let effect = self.inner.cluster.submit(&call.caller, request).await?;
        let uid = effect.reply.meta().uid.to_string();
        Ok(json(StatusCode::CREATED, &status::success(&pod, &uid)))
    }
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

/// Reads a body that is an object of no stored kind.
pub(super) fn read_object(
    format: BodyFormat,
    bytes: &[u8],
    (api_version, kind): (&str, &str),
) -> Result<Value, Failure> {
    let value = match format {
        BodyFormat::Json | BodyFormat::Yaml => manifest::read_json(bytes).map_err(not_json)?.0,
        BodyFormat::Protobuf => protobuf::decode(bytes).map_err(not_protobuf)?,
    };
    if !value.is_object() {
        return Err(Failure::bad_request("the body must be a JSON object"));
    }
    for (field, right) in [("apiVersion", api_version), ("kind", kind)] {
        let said = value.get(field).and_then(Value::as_str).unwrap_or_default();
        if !said.is_empty() && said != right {
            return Err(Failure::bad_request(format!("{field}: {said:?} must be {right:?}")));
        }
    }
    Ok(value)
}

/// Reads a body that is some JSON object.
pub(super) fn parse(
    kind: Kind,
    format: BodyFormat,
    bytes: &[u8],
    validation: FieldValidation,
) -> Result<Document, Failure> {
    let (value, duplicates) = match format {
        BodyFormat::Json => manifest::read_json(bytes).map_err(not_json)?,
        BodyFormat::Protobuf => (protobuf::decode(bytes).map_err(not_protobuf)?, Vec::new()),
        BodyFormat::Yaml => {
            let value = manifest::read_yaml(bytes, "body").map_err(|error| {
                Failure::bad_request(format!("the body cannot be read as YAML: {error}"))
            })?;
            (value, Vec::new())
        }
    };
    if !value.is_object() {
        return Err(Failure::bad_request("the body must be a JSON object"));
    }
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

/// Reads how to delete, from the query and the body; what the body says counts more.
fn delete_options(
    query: &Query,
    content_type: Option<&str>,
    bytes: &[u8],
) -> Result<DeleteOptions, Failure> {
    let body = match bytes {
        [] => Value::Null,
        bytes => match negotiate::object_body(content_type)? {
            BodyFormat::Protobuf => protobuf::decode(bytes).map_err(not_protobuf)?,
            BodyFormat::Json | BodyFormat::Yaml => manifest::read_json(bytes).map_err(not_json)?.0,
        },
    };
    if !body.is_null() && !body.is_object() {
        return Err(Failure::bad_request("the body must be a DeleteOptions object"));
    }
    let wrong = |field: &str, value: &Value, right: &str| {
        Failure::bad_request(format!("{field}: {value} must be {right}"))
    };
    let given = |field: &str| body.get(field).filter(|value| !value.is_null());
    let policy = match given("propagationPolicy") {
        Some(Value::String(text)) => Some(text.as_str()),
        Some(other) => return Err(wrong("propagationPolicy", other, "a string")),
        None => query.text("propagationPolicy"),
    };
    let orphan = given("orphanDependents").and_then(Value::as_bool);
    let cascade = match (policy, orphan.or(query.flag("orphanDependents"))) {
        (Some("Background"), _) | (None, None | Some(false)) => Cascade::Background,
        (Some("Foreground"), _) => Cascade::Foreground,
        (Some("Orphan"), _) | (None, Some(true)) => Cascade::Orphan,
        (Some(other), _) => {
            return Err(Failure::bad_request(format!(
                "propagationPolicy: {other:?} is none of Background, Foreground, Orphan"
            )));
        }
    };
    let grace_seconds = match given("gracePeriodSeconds") {
        Some(value) => Some(
            value.as_i64().ok_or_else(|| wrong("gracePeriodSeconds", value, "a whole number"))?,
        ),
        None => query.number("gracePeriodSeconds")?,
    };
    if let Some(seconds) = grace_seconds.filter(|seconds| *seconds < 0) {
        let message = format!("gracePeriodSeconds: {seconds} must be greater than or equal to 0");
        return Err(Failure::bad_request(message));
    }
    let dry_run = match given("dryRun") {
        Some(Value::Array(values)) => {
            query::dry_run(values.iter().map(|value| value.as_str().unwrap_or("?")))?
        }
        Some(other) => return Err(wrong("dryRun", other, "a list")),
        None => query::dry_run(query.all("dryRun"))?,
    };
    let preconditions = preconditions(given("preconditions"))?;
    Ok(DeleteOptions { cascade, dry_run, grace_seconds, of_collection: false, preconditions })
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
fn answer(effect: &Effect, warnings: Vec<String>) -> Response<Body> {
    let status = if effect.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = json(status, &effect.reply.to_value());
    let meta = effect.reply.meta();
    let named = Named { name: meta.name.clone(), uid: meta.uid.to_string() };
    response.extensions_mut().insert(named);
    warn(&mut response, warnings.into_iter().chain(effect.warnings.iter().cloned()));
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

    fn options(query: &str, body: &str) -> Result<DeleteOptions, Failure> {
        delete_options(&Query::parse(Some(query))?, None, body.as_bytes())
    }

    #[test]
    fn how_to_delete_is_read_from_body_and_query() {
        assert_eq!(options("", ""), Ok(DeleteOptions::default()));
        let body = r#"{"propagationPolicy":"Foreground","preconditions":{"resourceVersion":"7"},
            "dryRun":["All"],"x":null}"#;
        let read = options("propagationPolicy=Orphan&gracePeriodSeconds=5", body).expect("valid");
        assert_eq!(read.cascade, Cascade::Foreground);
        assert_eq!((read.grace_seconds, read.dry_run), (Some(5), true));
        assert_eq!(read.preconditions.revision.map(|revision| revision.0), Some(7));
        assert_eq!(options("orphanDependents=true", "").expect("valid").cascade, Cascade::Orphan);
    }

    #[test]
    fn nonsense_in_delete_options_is_400() {
        for body in [
            "[]",
            "{",
            r#"{"propagationPolicy":"Sideways"}"#,
            r#"{"propagationPolicy":1}"#,
            r#"{"gracePeriodSeconds":"x"}"#,
            r#"{"gracePeriodSeconds":-1}"#,
            r#"{"dryRun":["Some"]}"#,
            r#"{"dryRun":true}"#,
            r#"{"preconditions":{"uid":"x"}}"#,
        ] {
            assert_eq!(options("", body).expect_err(body).code, StatusCode::BAD_REQUEST, "{body}");
        }
    }

    #[test]
    fn a_warning_is_one_quoted_line() {
        let mut response = Response::new(body::full(""));
        warn(&mut response, ["say \"no\"\n\\ever".to_owned()].into_iter());
        let value = response.headers().get("warning").expect("there");
        assert_eq!(value.as_bytes(), br#"299 - "say \"no\" \\ever""#);
    }
}
