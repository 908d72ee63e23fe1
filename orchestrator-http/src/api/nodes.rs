//! What agents elsewhere say: each call is carried to the link of their node.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use orchestrator_core::model::{AgentId, EventType, Key, Kind, Node, Object, Revision, Uid};
use orchestrator_core::node::{LinkError, NetworkAt, NodeLink};
use orchestrator_core::world::EventNote;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::join::{NODE_CERTIFICATE_SECONDS, bad_request};
use super::permit::LOOK_EVERY;
use super::write::read;
use super::{Api, Call, json, text};
use crate::body::{self, Body};
use crate::node::{
    AGENT_HEADER, AssignmentsForm, CertificateAnswer, CertificateRequest, Deletion, Following,
    NetworkForm, NodeCall, Note, PROTOCOL, Recorded, Registration, Remote, Report, Reported,
    Status,
};
use crate::servers::Servers;
use crate::status::Failure;
use crate::stream::Takeover;

/// How long an agent waits for a change of its pods until it is told that there is none: less than a request may take.
const NOTHING_AFTER: Duration = Duration::from_secs(30);

/// How much of a tunnel's bytes waits between the connection and HTTP/2.
const PIPE_BYTES_MAX: usize = 64 * 1024;

impl Api {
    /// Does what a node's agent asks; whose it is has been checked.
    pub(super) async fn node_call<B>(
        &self,
        what: NodeCall,
        node: &str,
        uid: Uid,
        call: Call<B>,
    ) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let link = self.inner.cluster.node_link(node, uid);
        let other = self.other_agent(node, &call.parts.headers);
        if let Some(refusal) = other.clone().filter(|_| what != NodeCall::Registration) {
            return Err(Failure::forbidden(refusal));
        }
        if what == NodeCall::Tunnel {
            return self.tunnel(node, uid, call.parts);
        }
        let received = call.receive().await?;
        let (value, _) = read(received.format, &received.bytes)?;
        match what {
            NodeCall::Assignments => {
                let Following { after } = form(value)?;
                answered(&self.follow(&*link, after.map(Revision)).await?)
            }
            NodeCall::Certificate => self.renew(node, uid, &form(value)?),
            NodeCall::Deletions => {
                let (key, uid) = form::<Deletion>(value)?.pod();
                done(link.confirm_deleted(&key, uid).await)
            }
            NodeCall::Events => done(link.event(form::<Note>(value)?.into_event()).await),
            NodeCall::Network => {
                let Following { after } = form(value)?;
                answered(&self.network(&*link, after.map(Revision)).await?)
            }
            NodeCall::Registration => {
                let Registration { node: told } = form(value)?;
                let registered = link.register(record(told)?).await;
                if let (Err(LinkError::Refused { message }), Some(_)) = (&registered, other) {
                    // It is refused in any case; that somebody tried is told whoever looks after the node.
                    let _ = link.event(other_agent_refused(node, uid, message)).await;
                }
                done(registered)
            }
            NodeCall::Reports => {
                let Report { usage } = form(value)?;
                link.report(usage).await.map_err(refused)?;
                answered(&Reported { servers: Servers::urls(&self.inner.cluster.world()) })
            }
            NodeCall::Statuses => {
                let status: Status = form(value)?;
                let (key, uid) = status.pod();
                let outcome = link.write_status(&key, uid, status.status).await.map_err(refused)?;
                answered(&Recorded { outcome: outcome.into() })
            }
            NodeCall::Tunnel => Err(Failure::method_not_allowed()),
        }
    }

    /// Takes the connection over, to reach the node's streams through it until it ends or the node is removed.
    fn tunnel(&self, node: &str, uid: Uid, mut parts: Parts) -> Result<Response<Body>, Failure> {
        let asked = text(&parts.headers, UPGRADE).unwrap_or_default();
        if asked != PROTOCOL {
            let message = format!("upgrade: {asked:?} must be {PROTOCOL:?}");
            return Err(Failure::bad_request(message));
        }
        let upgrade = parts.extensions.remove::<OnUpgrade>().ok_or_else(|| {
            Failure::bad_request("this needs a connection of its own, which there is none of")
        })?;
        let mut response = Response::new(body::full(""));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
        let (api, node) = (self.clone(), node.to_owned());
        response.extensions_mut().insert(Takeover::new(async move {
            let outcome = async {
                // What drives HTTP/2 goes on as long as a stream is open; when the pipe is gone, so is every stream.
                let (near, mut far) = tokio::io::duplex(PIPE_BYTES_MAX);
                let mut connection = TokioIo::new(upgrade.await?);
                let (remote, driven) = Remote::new(TokioIo::new(near)).await?;
                let _connected = api.cluster().connect_node(&node, Arc::new(remote));
                tokio::select! {
                    ended = driven => ended,
                    _ = tokio::io::copy_bidirectional(&mut connection, &mut far) => Ok(()),
                    () = api.removed(&node, uid) => Ok(()),
                }
            };
            if let Err(error) = outcome.await {
                tracing::debug!(%error, node, "the tunnel ended");
            }
        }));
        Ok(response)
    }

    /// Says why an agent does not speak for its node, if the node has told of another.
    fn other_agent(&self, node: &str, headers: &HeaderMap) -> Option<String> {
        let said: AgentId = text(headers, AGENT_HEADER)?.parse().ok()?;
        let world = self.inner.cluster.world();
        let known = AgentId::of_node(world.at::<Node>(&Key::node(node))?)?;
        (said != known).then(|| format!("another agent speaks for node {node:?}"))
    }

    /// Waits for pods of a node that are other ones than at a revision.
    async fn follow(
        &self,
        link: &dyn NodeLink,
        after: Option<Revision>,
    ) -> Result<AssignmentsForm, Failure> {
        match (self.in_time(link.assignments(after)).await, after) {
            (Some(outcome), _) => Ok(AssignmentsForm::of(&outcome.map_err(refused)?)),
            (None, Some(after)) => Ok(AssignmentsForm::nothing_after(after)),
            (None, None) => Err(Failure::timeout("the pods of the node cannot be listed in time")),
        }
    }

    /// Waits for a network of a node that is another one than at a revision.
    async fn network(
        &self,
        link: &dyn NodeLink,
        after: Option<Revision>,
    ) -> Result<NetworkForm, Failure> {
        match (self.in_time(link.network(after)).await, after) {
            (Some(outcome), _) => {
                let NetworkAt { revision, network, is_expected } = outcome.map_err(refused)?;
                Ok(NetworkForm { revision: revision.0, changed: true, network, is_expected })
            }
            (None, Some(after)) => {
                let (revision, network) = (after.0, None);
                Ok(NetworkForm { revision, changed: false, network, is_expected: false })
            }
            (None, None) => Err(Failure::timeout("the network of the node cannot be told in time")),
        }
    }

    /// Waits for something to happen, for as long as an agent is let wait: a server that stops keeps nobody waiting.
    async fn in_time<T>(&self, happening: impl Future<Output = T>) -> Option<T> {
        let mut stopping = self.inner.stopping.clone();
        tokio::select! {
            biased;
            happened = tokio::time::timeout(NOTHING_AFTER, happening) => happened.ok(),
            () = stopping.wait() => None,
        }
    }

    /// Waits until a node has been removed.
    async fn removed(&self, node: &str, uid: Uid) {
        while self.live_node(node, uid).is_ok() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Gives a node a newer certificate.
    pub(super) fn renew(
        &self,
        node: &str,
        uid: Uid,
        asked: &CertificateRequest,
    ) -> Result<Response<Body>, Failure> {
        let Some(credentials) = &self.inner.credentials else {
            return Err(Failure::not_implemented("certificates without a server's keys"));
        };
        let (seconds, now) = (NODE_CERTIFICATE_SECONDS, self.now().as_seconds());
        let signed = credentials.pki.node_certificate(&asked.request, (node, uid), seconds, now);
        let certificate = signed.map_err(|error| bad_request(&error))?;
        answered(&CertificateAnswer { certificate })
    }

    /// Finds the node that a certificate was made for; 403 when it has been removed since.
    pub(super) fn live_node(&self, name: &str, uid: Uid) -> Result<(), Failure> {
        let world = self.inner.cluster.world();
        let node = world.at::<Node>(&Key::node(name));
        match node.is_some_and(|node| node.metadata.uid == uid) {
            true => Ok(()),
            false => Err(Failure::forbidden(format!(
                "node {name:?} has been removed from the cluster; its agent must join anew, with a token that `orchd token create` \
                 prints where the server runs: orchd agent --server URL --token-file FILE"
            ))),
        }
    }
}

fn other_agent_refused(node: &str, uid: Uid, why: &str) -> EventNote {
    EventNote {
        about: Key::node(node),
        uid,
        kind: EventType::Warning,
        reason: "AgentRefused".to_owned(),
        message: why.to_owned(),
    }
}

pub(super) fn form<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| Failure::bad_request(error.to_string()))
}

fn record(value: Value) -> Result<Node, Failure> {
    match Object::from_value(Kind::Node, value) {
        Ok(Object::Node(node)) => Ok((*node).clone()),
        Ok(other) => Err(Failure::bad_request(format!("node: a {} is no node", other.kind()))),
        Err(error) => Err(Failure::bad_request(format!("node: {error}"))),
    }
}

pub(super) fn answered(answer: &impl Serialize) -> Result<Response<Body>, Failure> {
    let value = serde_json::to_value(answer);
    let value = value.map_err(|error| Failure::internal(format!("encoding an answer: {error}")))?;
    Ok(json(StatusCode::OK, &value))
}

fn done(outcome: Result<(), LinkError>) -> Result<Response<Body>, Failure> {
    outcome.map_err(refused)?;
    Ok(json(StatusCode::OK, &json!({})))
}

fn refused(error: LinkError) -> Failure {
    match error {
        LinkError::Refused { message } => Failure::forbidden(message),
        error => Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            format!("the control plane does not answer: {error}"),
        ),
    }
}
