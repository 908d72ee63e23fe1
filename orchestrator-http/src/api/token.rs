//! `/token` of a service account: makes a token that its programs identify themselves with.

use bytes::Bytes;
use http::{Response, StatusCode};
use orchestrator_core::model::{Key, Kind, Resource, ServiceAccount, Time, Uid};
use orchestrator_core::world::World;
use serde_json::{Value, json};

use super::{Api, Call, json};
use crate::account_tokens::{Bound, Holder, ISSUER};
use crate::body::Body;
use crate::status::Failure;

/// How long a token is good when its request does not say, in seconds, as in Kubernetes.
const TOKEN_SECONDS: i64 = 3_600;
/// The shortest that may be asked for, in seconds, as in Kubernetes.
const TOKEN_SECONDS_MIN: i64 = 600;
/// The longest that may be asked for, in seconds: a year.
const TOKEN_SECONDS_MAX: i64 = 365 * 86_400;
/// The most audiences of a token.
const AUDIENCES_MAX: usize = 16;

impl Api {
    /// Makes a token of a service account.
    pub(super) async fn token<B>(
        &self,
        account: Key,
        call: Call<B>,
    ) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let received = call.receive().await?;
        let asked = received.object(("authentication.k8s.io/v1", "TokenRequest"))?;
        let Some(credentials) = &self.inner.credentials else {
            return Err(Failure::not_implemented("making tokens without a server's keys"));
        };
        let world = self.inner.cluster.world();
        let stored = world.get(&account).ok_or_else(|| Failure::not_found(&account))?;
        let Some(found) = ServiceAccount::from_object(&stored.object) else {
            return Err(Failure::no_such_path());
        };
        let holder = Holder {
            namespace: account.namespace.to_string(),
            name: account.name.to_string(),
            uid: found.metadata.uid,
            bound: bound(&asked, &account.namespace, &world)?,
        };
        let (seconds, audiences) = (seconds(&asked)?, audiences(&asked)?);
        let now = self.now();
        let mut status = json!({
            "expirationTimestamp": Time::from_seconds(now.as_seconds() + seconds).to_string(),
        });
        let mut spec = json!({
            "audiences": if audiences.is_empty() { vec![ISSUER.to_owned()] } else { audiences.clone() },
            "expirationSeconds": seconds,
        });
        if let Some(bound) = asked.pointer("/spec/boundObjectRef") {
            spec["boundObjectRef"] = bound.clone();
        }
        if !received.options.dry_run {
            let token = credentials.accounts.issue(&holder, audiences, now, seconds);
            let failed =
                |error: String| Failure::internal(format!("the token cannot be signed: {error}"));
            status["token"] = token.map_err(failed)?.into();
        }
        Ok(json(
            StatusCode::CREATED,
            &json!({
                "kind": "TokenRequest",
                "apiVersion": "authentication.k8s.io/v1",
                "metadata": { "name": &*account.name, "namespace": &*account.namespace },
                "spec": spec,
                "status": status,
            }),
        ))
    }
}

fn seconds(asked: &Value) -> Result<i64, Failure> {
    let at = "spec.expirationSeconds";
    let given = asked.pointer("/spec/expirationSeconds").filter(|given| !given.is_null());
    let Some(given) = given else { return Ok(TOKEN_SECONDS) };
    let seconds = given.as_i64().ok_or_else(|| {
        Failure::bad_request(format!("{at}: {given} must be a whole number of seconds"))
    })?;
    if !(TOKEN_SECONDS_MIN..=TOKEN_SECONDS_MAX).contains(&seconds) {
        return Err(Failure::bad_request(format!(
            "{at}: {seconds} must be from {TOKEN_SECONDS_MIN} (10 minutes) to {TOKEN_SECONDS_MAX} (a year)"
        )));
    }
    Ok(seconds)
}

fn audiences(asked: &Value) -> Result<Vec<String>, Failure> {
    let list = match asked.pointer("/spec/audiences") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= AUDIENCES_MAX => list,
        Some(_) => {
            let message = format!("spec.audiences: a list of at most {AUDIENCES_MAX} is needed");
            return Err(Failure::bad_request(message));
        }
    };
    let texts = list.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<_>>();
    texts.ok_or_else(|| Failure::bad_request("spec.audiences: each must be a text"))
}

/// The object that the token shall end with.
fn bound(asked: &Value, namespace: &str, world: &World) -> Result<Option<Bound>, Failure> {
    let Some(wanted) = asked.pointer("/spec/boundObjectRef").filter(|it| !it.is_null()) else {
        return Ok(None);
    };
    let text = |field: &str| wanted.get(field).and_then(Value::as_str).unwrap_or_default();
    let kind = match text("kind") {
        "Pod" => Kind::Pod,
        "Secret" => Kind::Secret,
        other => {
            let message = format!("spec.boundObjectRef.kind: {other:?} must be Pod or Secret");
            return Err(Failure::bad_request(message));
        }
    };
    let key = Key::new(kind, namespace, text("name"));
    let uid = world.get(&key).ok_or_else(|| Failure::not_found(&key))?.object.meta().uid;
    let said: &str = text("uid");
    if !said.is_empty() && said.parse::<Uid>().ok() != Some(uid) {
        let message = format!("spec.boundObjectRef.uid: {said:?} must be {:?}", uid.to_string());
        return Err(Failure::bad_request(message));
    }
    Ok(Some(Bound { kind, name: key.name.to_string(), uid }))
}
