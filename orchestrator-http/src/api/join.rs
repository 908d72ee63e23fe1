//! Joining: an agent that has a token becomes a node, with a certificate to be known by from then on; one more server gets the keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{Response, StatusCode};
use orchestrator_core::api::{Caller, Patch, Preconditions, Rejection, Request, WriteOptions};
use orchestrator_core::model::{
    Key, Kind, LABEL_HOSTNAME, Node, Part, Resource, Secret, Time, Uid, is_dns_subdomain,
};
use serde_json::json;

use super::audited::Noted;
use super::fairness::Class;
use super::nodes::{answered, form};
use super::write::read;
use super::{Api, Credentials, text};
use crate::body::{self, Body};
use crate::negotiate::BodyFormat;
use crate::node::{JOIN_PATH, JOIN_TOKEN_TYPE, JoinAnswer, JoinRequest, JoinRole, join_token_key};
use crate::pki::{Pki, Token, sha256};
use crate::servers::{JOIN_SERVER_PATH, JoinServerRequest, shared_files};
use crate::status::Failure;

/// How long a node's certificate is good, in seconds: a day. Its agent renews it at half of that.
pub(super) const NODE_CERTIFICATE_SECONDS: i64 = 86_400;
/// In whose name nodes are recorded that join, and whose lane of requests they share until they are known.
pub(super) const JOINING: &str = "system:join";
/// The annotation of a node that says by which token it joined.
const JOINED_BY: &str = "orchestrator.dev/joined-by";

/// A token that has been shown, and is good.
struct Claim {
    id: String,
    /// What may join by it, in words.
    what: &'static str,
    /// The name that it is good for alone, and the key that it was used with, once it has been used.
    used_by: Option<(String, String)>,
    stored: Key,
    preconditions: Preconditions,
}

impl Claim {
    /// Whether it has been used by this name and key, and so need not be tied to them; refused when it is tied to others.
    fn is_used_by(&self, name: &str, key: &str) -> Result<bool, Failure> {
        match &self.used_by {
            Some((tied, used)) if tied != name => Err(Failure::forbidden(match used.is_empty() {
                true => format!("the join token is for the {} {tied:?} and no other", self.what),
                false => format!(
                    "the join token has been used by the {} {tied:?}; `orchd token create` makes another",
                    self.what
                ),
            })),
            Some((_, used)) if used == key => Ok(true),
            Some((_, used)) if !used.is_empty() => Err(Failure::forbidden(
                "the join token has been used; `orchd token create` makes another",
            )),
            Some(_) | None if !is_dns_subdomain(name) => Err(Failure::bad_request(format!(
                "{what}: {name:?} can be no name of a {what}: a lower-case RFC 1123 subdomain is needed, such as \"{what}-1\"",
                what = self.what
            ))),
            Some(_) | None => Ok(false),
        }
    }
}

impl Api {
    /// Lets an agent join. Asked again with the same token, name and key it answers again: the first answer may have been
    /// lost on its way.
    pub(super) async fn join<B>(
        &self,
        parts: &Parts,
        body: B,
        noted: &Noted<'_>,
    ) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let _ticket = self.inner.fairness.admit(JOINING, Class::Request).await?;
        let credentials = self.credentials()?;
        // Before the body is looked at.
        let claim = self.shown(parts, JoinRole::Agent)?;
        noted.joining(&claim.id, JOIN_PATH, parts);
        let (value, _) = read(BodyFormat::Json, &body::read(body).await?)?;
        let JoinRequest { node, request } = form(value)?;
        let key = Pki::requested_key(&request).map_err(|error| bad_request(&error))?;
        if !claim.is_used_by(&node, &key)? {
            // Whose name is taken keeps the token for another try.
            if self.inner.cluster.world().get(&Key::node(&node)).is_some() {
                return Err(taken(&node));
            }
            self.use_up(&claim, &node, &key).await?;
        }
        let uid = self.record(&claim, &node).await?;
        let now = self.now().as_seconds();
        let certificate = credentials
            .pki
            .node_certificate(&request, (&node, uid), NODE_CERTIFICATE_SECONDS, now)
            .map_err(|error| bad_request(&error))?;
        let cluster = self.inner.cluster.id().to_owned();
        let authority = credentials.pki.ca_pem().to_owned();
        answered(&JoinAnswer { authority, certificate, cluster, uid })
    }

    /// Lets one more server have the cluster's keys.
    pub(super) async fn join_server<B>(
        &self,
        parts: &Parts,
        body: B,
        noted: &Noted<'_>,
    ) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let _ticket = self.inner.fairness.admit(JOINING, Class::Request).await?;
        let credentials = self.credentials()?;
        if !self.inner.cluster.is_shared() {
            return Err(Failure::new(
                StatusCode::CONFLICT,
                "Conflict",
                "this server has its state to itself; for several servers, start it with `--store etcd://…`",
            ));
        }
        // Before the body is looked at.
        let claim = self.shown(parts, JoinRole::Server)?;
        noted.joining(&claim.id, JOIN_SERVER_PATH, parts);
        let (value, _) = read(BodyFormat::Json, &body::read(body).await?)?;
        let JoinServerRequest { server, nonce } = form(value)?;
        let key = sha256(nonce.0.as_bytes());
        if !claim.is_used_by(&server, &key)? {
            self.use_up(&claim, &server, &key).await?;
        }
        let answer = shared_files(&credentials.keys).map_err(|error| {
            tracing::error!(%error, "the keys cannot be read");
            Failure::internal("the keys cannot be read; the server's log has more")
        })?;
        answered(&answer)
    }

    /// What certificates are signed with; an API that is embedded has none.
    pub(super) fn credentials(&self) -> Result<&Credentials, Failure> {
        let missing = || Failure::not_implemented("joining without a server's keys");
        self.inner.credentials.as_ref().ok_or_else(missing)
    }

    /// Finds the token that is shown.
    fn shown(&self, parts: &Parts, role: JoinRole) -> Result<Claim, Failure> {
        let refusal = || {
            let message =
                "the join token is unknown, used or expired; `orchd token create` makes another";
            Failure::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
        };
        let given = text(&parts.headers, AUTHORIZATION).and_then(|it| it.strip_prefix("Bearer "));
        let (id, secret) = given.and_then(|it| it.split_once('.')).ok_or_else(refusal)?;
        let stored = join_token_key(id);
        let world = self.inner.cluster.world();
        let found = world.get(&stored).ok_or_else(refusal)?;
        let token = Secret::from_object(&found.object).ok_or_else(refusal)?;
        let field = |name: &str| {
            let bytes = STANDARD.decode(token.data.0.get(name)?).ok()?;
            String::from_utf8(bytes).ok()
        };
        let expires = field("expires").and_then(|text| text.parse::<Time>().ok());
        // Tokens of before there were roles are agents'.
        let is_for = field("role").as_deref().map_or(Some(JoinRole::Agent), JoinRole::find);
        let is_good = token.kind == JOIN_TOKEN_TYPE
            && is_for == Some(role)
            && Token::new(field("secretSha256").ok_or_else(refusal)?)
                .matches(&sha256(secret.as_bytes()))
            && expires.is_some_and(|expires| expires > self.now());
        if !is_good {
            return Err(refusal());
        }
        let preconditions = Preconditions {
            revision: Some(token.metadata.resource_version),
            uid: Some(token.metadata.uid),
        };
        let used_by = field("node").map(|node| (node, field("key").unwrap_or_default()));
        let what = match role {
            JoinRole::Agent => "node",
            JoinRole::Server => "server",
        };
        Ok(Claim { id: id.to_owned(), what, used_by, stored, preconditions })
    }

    /// Ties the token to a name and a key.
    async fn use_up(&self, claim: &Claim, node: &str, key: &str) -> Result<(), Failure> {
        let data = json!({ "node": STANDARD.encode(node), "key": STANDARD.encode(key) });
        let request = Request::Patch {
            key: claim.stored.clone(),
            part: Part::Main,
            patch: Patch::Merge(json!({ "data": data })),
            preconditions: claim.preconditions,
            options: WriteOptions::default(),
        };
        match self.inner.cluster.submit(&joining(), request).await {
            Ok(_) => Ok(()),
            Err(Rejection::Conflict { .. } | Rejection::NotFound { .. }) => {
                Err(Failure::forbidden("somebody else has just used the join token, or revoked it"))
            }
            Err(rejection) => Err(rejection.into()),
        }
    }

    /// Records the node, unless it is there from an earlier try with the same token.
    async fn record(&self, claim: &Claim, name: &str) -> Result<Uid, Failure> {
        let key = Key::node(name);
        let mut labels = json!({});
        labels[LABEL_HOSTNAME] = name.into();
        let mut annotations = json!({});
        annotations[JOINED_BY] = claim.id.as_str().into();
        let request = Request::Create {
            kind: Kind::Node,
            namespace: String::new(),
            object: json!({
                "metadata": { "name": name, "labels": labels, "annotations": annotations },
            }),
            options: WriteOptions::default(),
        };
        match self.inner.cluster.submit(&joining(), request).await {
            Ok(effect) => Ok(effect.reply.meta().uid),
            Err(Rejection::AlreadyExists { .. }) => {
                let world = self.inner.cluster.world();
                let node = world.at::<Node>(&key).ok_or_else(|| taken(name))?;
                match node.metadata.annotations.get(JOINED_BY) == Some(&claim.id) {
                    true => Ok(node.metadata.uid),
                    false => Err(taken(name)),
                }
            }
            Err(rejection) => Err(rejection.into()),
        }
    }
}

fn joining() -> Caller {
    Caller::Admin { name: JOINING.to_owned() }
}

fn taken(node: &str) -> Failure {
    let message = format!(
        "there is a node {node:?} already; join with another --name, or take that node out with `orchd node remove {node}`"
    );
    Failure::new(StatusCode::CONFLICT, "AlreadyExists", message)
}

pub(super) fn bad_request(error: &dyn std::error::Error) -> Failure {
    Failure::bad_request(format!("request: {error}"))
}
