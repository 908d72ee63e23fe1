//! Deleting: one object, a collection of them, and pods that are evicted.

use bytes::Bytes;
use http::{Response, StatusCode};
use orchestrator_core::api::{Cascade, DeleteOptions, Rejection, Request};
use orchestrator_core::model::{Key, Kind, ObjectMeta};
use serde_json::{Value, json};

use super::list::Selection;
use super::write::{answer, done, name, preconditions, read};
use super::{Api, Call, Received, json};
use crate::body::Body;
use crate::negotiate::BodyFormat;
use crate::query::{self, ListOptions, Query};
use crate::status::Failure;

impl Api {
    /// Deletes an object, or marks it as to be deleted when somebody has still something to do before.
    pub(super) async fn delete<B>(&self, key: Key, call: Call<B>) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let Received { query, format, bytes, caller, .. } = call.receive().await?;
        let options = read_delete_options(&query, format, &bytes)?;
        let request = Request::Delete { key: key.clone(), options };
        let effect = self.inner.cluster.submit(&caller, request).await?;
        if effect.deleted {
            return Ok(done(StatusCode::OK, &key, &effect, options.dry_run));
        }
        let mut response = answer(&effect, Vec::new());
        name(&mut response, effect.reply.meta(), options.dry_run);
        Ok(response)
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
        let Received { query, format, bytes, caller, .. } = call.receive().await?;
        let options = read_delete_options(&query, format, &bytes)?;
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
            match self.inner.cluster.submit(&caller, request).await {
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
        let mut response = json(StatusCode::OK, &list);
        name(&mut response, &ObjectMeta::default(), options.dry_run);
        Ok(response)
    }

    /// Deletes a pod as its Eviction says, if its disruption budget allows it.
    pub(super) async fn evict<B>(&self, pod: Key, call: Call<B>) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let received = call.receive().await?;
        let eviction = received.object(("policy/v1", "Eviction"))?;
        for (field, right) in [("name", &pod.name), ("namespace", &pod.namespace)] {
            let said = eviction.pointer(&format!("/metadata/{field}")).and_then(Value::as_str);
            if let Some(said) = said.filter(|said| !said.is_empty() && **said != **right) {
                return Err(Failure::bad_request(format!(
                    "metadata.{field}: {said:?} does not match the path, where it is {:?}",
                    &**right
                )));
            }
        }
        let options = eviction.get("deleteOptions").unwrap_or(&Value::Null);
        let options = delete_options(&received.query, options)?;
        let request = Request::Evict { pod: pod.clone(), options };
        let effect = self.inner.cluster.submit(&received.caller, request).await?;
        Ok(done(StatusCode::CREATED, &pod, &effect, options.dry_run))
    }
}

/// Reads how to delete from the query and a request's body, if it has one.
fn read_delete_options(
    query: &Query,
    format: BodyFormat,
    bytes: &[u8],
) -> Result<DeleteOptions, Failure> {
    let body = if bytes.is_empty() { Value::Null } else { read(format, bytes)?.0 };
    delete_options(query, &body)
}

/// Reads how to delete from the query and a DeleteOptions object; what the latter says counts more.
fn delete_options(query: &Query, body: &Value) -> Result<DeleteOptions, Failure> {
    if !body.is_null() && !body.is_object() {
        return Err(Failure::bad_request("deleteOptions: must be a DeleteOptions object"));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn options(query: &str, body: &str) -> Result<DeleteOptions, Failure> {
        read_delete_options(&Query::parse(Some(query))?, BodyFormat::Json, body.as_bytes())
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
}
