//! Passing a request on to the server where it belongs, in the name of whoever made it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use orchestrator_core::api::Caller;
use orchestrator_core::driver::{Cluster, Leader};
use orchestrator_core::model::{Key, Pod, Uid};
use serde::{Deserialize, Serialize};

use super::{Servers, is_server};
use crate::api::Transport;
use crate::body::{Body, BrokenOff};
use crate::client::{Client, ClientError};
use crate::node::NodeCall;
use crate::path::Route;
use crate::registry::{AnswerKind, Subresource};
use crate::status::Failure;
use crate::stream::Takeover;

/// The reason of the refusal when no leader answers; the server that says so is not at fault.
pub(crate) const NO_LEADER: &str = "NoLeader";
/// The header that says for whom a server asks another.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("orchestrator-forwarded-for");

/// Where a request belongs that this server cannot answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// To the leader: it is about what only that does or knows.
    Leader,
    /// To the server at which the agent of this node has its tunnel.
    ServerOf(String),
}

/// Whoever made a request that is passed on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Origin {
    Admin { name: String },
    Node { name: String, uid: Uid },
    User { name: String, groups: Vec<String> },
}

impl Place {
    /// Where a request belongs, if not here.
    pub(crate) fn of(route: &Route, method: &Method, cluster: &Cluster) -> Option<Self> {
        let leader = || (cluster.leader() != Leader::Here).then_some(Self::Leader);
        match route {
            // Whether another agent than before may speak for a node follows from when it was heard.
            Route::Node {
                call: NodeCall::Events | NodeCall::Registration | NodeCall::Reports,
                ..
            } => leader(),
            Route::Sub { sub: Subresource::Binding, .. } if *method == Method::POST => leader(),
            // One change of keys at a time.
            Route::SealingKeys if *method == Method::POST => leader(),
            // Usage is kept in the leader's memory.
            Route::Answered { answered, .. }
                if matches!(answered.kind, AnswerKind::NodeMetrics | AnswerKind::PodMetrics) =>
            {
                leader()
            }
            Route::Sub {
                key,
                sub:
                    Subresource::Attach
                    | Subresource::Exec
                    | Subresource::Log
                    | Subresource::PortForward,
            } => Self::of_pod(key, cluster),
            _ => None,
        }
    }

    fn of_pod(pod: &Key, cluster: &Cluster) -> Option<Self> {
        let world = cluster.world();
        let node = world.at::<Pod>(pod).map(|pod| pod.node_name.clone())?;
        let is_elsewhere = !node.is_empty() && !cluster.reaches(&node);
        is_elsewhere.then_some(Self::ServerOf(node))
    }
}

/// Finds out for whom a server asks; `None` when somebody asks for themselves.
///
/// # Errors
/// 403 when somebody who is no server says that they ask for others; 400 when it cannot be read.
pub(crate) fn forwarded_for(
    headers: &HeaderMap,
    transport: &Transport,
) -> Result<Option<Transport>, Failure> {
    let Some(said) = headers.get(FORWARDED_FOR) else { return Ok(None) };
    if !is_server(transport) {
        let message = format!("{FORWARDED_FOR}: only a server of the cluster may ask for others");
        return Err(Failure::forbidden(message));
    }
    let read = STANDARD.decode(said).ok().and_then(|json| serde_json::from_slice(&json).ok());
    let origin = read.ok_or_else(|| {
        Failure::bad_request(format!("{FORWARDED_FOR}: it does not say for whom"))
    })?;
    Ok(Some(match origin {
        Origin::Admin { name } => Transport::Known(Caller::Admin { name }),
        Origin::Node { name, uid } => Transport::Node { name, uid },
        Origin::User { name, groups } => Transport::Known(Caller::user(name, groups)),
    }))
}

fn origin(caller: &Caller, node: Option<Uid>) -> HeaderValue {
    let origin = match (caller, node) {
        (Caller::Admin { name }, _) => Origin::Admin { name: name.clone() },
        (Caller::Node { name }, uid) => {
            Origin::Node { name: name.clone(), uid: uid.unwrap_or_default() }
        }
        (Caller::User { name, groups }, _) => {
            Origin::User { name: name.clone(), groups: groups.clone() }
        }
    };
    let json = serde_json::to_vec(&origin).unwrap_or_default();
    HeaderValue::from_str(&STANDARD.encode(json)).expect("base64 is plain text")
}

impl Servers {
    /// Passes a request on. `caller` is who has made it, and `node` the uid of the node if it is one's.
    ///
    /// # Errors
    /// 503 when nobody is known to whom it could be passed on, or they do not answer.
    pub(crate) async fn forward(
        &self,
        cluster: &Cluster,
        place: &Place,
        mut parts: Parts,
        body: Bytes,
        (caller, node): (&Caller, Option<Uid>),
    ) -> Result<Response<Body>, Failure> {
        let world = cluster.world();
        let urls = match (place, cluster.leader()) {
            (Place::Leader, Leader::Elsewhere(identity)) => {
                Self::url_of(&world, &identity).into_iter().collect()
            }
            (Place::Leader, Leader::Here | Leader::Nobody) => Vec::new(),
            (Place::ServerOf(_), _) => self.others(&world),
        };
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        let request = request(&parts, body, origin(caller, node), upgrade.is_some());
        let (reason, mut why) = match place {
            Place::Leader => (NO_LEADER, "no server leads the cluster at the moment".to_owned()),
            Place::ServerOf(node) => {
                ("ServiceUnavailable", format!("node {node:?} is connected to no server"))
            }
        };
        for url in urls {
            match self.send(&url, request.clone()).await {
                // It is not there any more, or the other is behind.
                Ok(response) if response.status() == StatusCode::MISDIRECTED_REQUEST => {}
                Ok(response) => return Ok(passed_back(response, upgrade)),
                Err(error) => {
                    tracing::debug!(%error, url, "a server does not answer");
                    why = format!("the server at {url} does not answer; try again");
                }
            }
        }
        Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, reason, why))
    }

    async fn send(
        &self,
        url: &str,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<hyper::body::Incoming>, ClientError> {
        let client: Client = self.client(url)?;
        let host = url.trim_start_matches("https://");
        if let Ok(host) = HeaderValue::from_str(host) {
            request.headers_mut().insert(HOST, host);
        }
        client.pass(request).await
    }
}

/// The request as it is passed on: as it came, but for what concerns one connection, and for who asks.
fn request(
    parts: &Parts,
    body: Bytes,
    origin: HeaderValue,
    is_upgrade: bool,
) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = parts.method.clone();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    if let Ok(target) = target.parse() {
        *request.uri_mut() = target;
    }
    let mut headers = parts.headers.clone();
    let of_connection = [AUTHORIZATION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, FORWARDED_FOR];
    for name in of_connection {
        headers.remove(name);
    }
    if !is_upgrade || !headers.contains_key(UPGRADE) {
        headers.remove(CONNECTION);
        headers.remove(UPGRADE);
    }
    headers.insert(FORWARDED_FOR, origin);
    *request.headers_mut() = headers;
    request
}

/// The answer as it is passed back; where the connection becomes something else, both are tied together.
fn passed_back(
    mut response: Response<hyper::body::Incoming>,
    upgrade: Option<OnUpgrade>,
) -> Response<Body> {
    let other = response.extensions_mut().remove::<OnUpgrade>();
    let (mut parts, body) = response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS
        && let (Some(ours), Some(other)) = (upgrade, other)
    {
        let takeover = Takeover::new(async move {
            let (Ok(ours), Ok(other)) = (ours.await, other.await) else { return };
            let (mut ours, mut other) = (TokioIo::new(ours), TokioIo::new(other));
            // Whoever breaks off ends it for both.
            let _ = tokio::io::copy_bidirectional(&mut ours, &mut other).await;
        });
        parts.extensions.insert(takeover);
        return Response::from_parts(parts, crate::body::full(""));
    }
    parts.headers.remove(CONNECTION);
    parts.headers.remove(TRANSFER_ENCODING);
    let broken = |error: hyper::Error| BrokenOff(error.to_string());
    Response::from_parts(parts, body.map_err(broken).boxed_unsync())
}
