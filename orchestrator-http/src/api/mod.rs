//! `Api`: what requests mean, whoever carries them: one dispatcher over the grammar of paths and the table of resources.
//!
//! Knows HTTP messages, not sockets: tests and embedders call [`Api::handle`] directly.

mod absent;
mod answers;
mod audited;
mod call;
mod delete;
mod encode;
mod fairness;
mod health;
mod host;
mod identity;
mod join;
mod list;
mod logs;
mod memo;
mod metrics;
mod nodes;
mod permit;
mod read;
mod renewal;
mod reply;
mod reviews;
mod scale;
mod service;
mod snapshots;
mod token;
mod upkeep;
mod watch;
mod write;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::ACCEPT;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use orchestrator_core::api::Caller;
use orchestrator_core::driver::Cluster;
use orchestrator_core::model::{Part, Time, Uid};
use serde_json::Value;

use crate::audit::AuditLog;
use crate::body::{self, Body};
use crate::custom;
use crate::discovery;
use crate::negotiate::{self, DiscoveryFormat};
use crate::node::NodeCall;
use crate::openapi;
use crate::path::{self, Route};
use crate::query::Query;
use crate::registry::{self, Subresource};
use crate::servers::{Place, Servers, forwarded_for, is_server};
use crate::status::Failure;
use crate::stopping::Stopping;
use crate::stream::{ExecQuery, Takeover};
use crate::upkeep::Upkeep;
use audited::Noted;
use call::{Call, Received, text};
use encode::Encoder;
use fairness::{Class, Fairness};
pub(crate) use identity::Credentials;
use metrics::Metrics;
use permit::Permit;
use reply::{aggregated, json, openapi_document, plain, typed, without_body};
use snapshots::Snapshots;

pub use fairness::FairnessLimits;

/// How long a request may take until its answer begins.
const REQUEST_SECONDS_MAX: u64 = 60;

/// How a request came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// From somebody who is known already: by the certificate of their connection, or to the program that serves them.
    Known(Caller),
    /// From the agent of a node, who is known by the certificate that the node was given when it joined.
    Node {
        /// The node's name.
        name: String,
        /// Its uid: a node made anew under its name is another.
        uid: Uid,
    },
    /// Over TCP: a token is needed.
    Tcp,
    /// Over a socket in the file system, whose peer has been checked: no token is needed.
    Unix,
}

/// The API of a cluster. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Api {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    cluster: Cluster,
    audit: Option<AuditLog>,
    credentials: Option<Credentials>,
    stopping: Stopping,
    encoder: Encoder,
    fairness: Fairness,
    metrics: Metrics,
    snapshots: Snapshots,
    upkeep: Option<Arc<dyn Upkeep>>,
}

impl Api {
    /// Makes the API of a cluster for use in the same process: every request is the administrator's, as over
    /// [`Transport::Unix`].
    pub fn new(cluster: Cluster) -> Self {
        Self::with_limits(cluster, FairnessLimits::default())
    }

    /// As [`Self::new`], with limits of what each identity may take.
    pub fn with_limits(cluster: Cluster, limits: FairnessLimits) -> Self {
        Self::with_credentials(cluster, None, None, limits, Stopping::never(), None)
    }

    /// Makes the API of a server: with credentials, perhaps an audit log, streams that end when the server stops, and what the upkeep of
    /// its store needs.
    pub(crate) fn with_credentials(
        cluster: Cluster,
        credentials: Option<Credentials>,
        audit: Option<AuditLog>,
        limits: FairnessLimits,
        stopping: Stopping,
        upkeep: Option<Arc<dyn Upkeep>>,
    ) -> Self {
        let metrics = Metrics::new(cluster.clone());
        let fairness = Fairness::new(limits, metrics.limits());
        let (encoder, snapshots) =
            (Encoder::new(cluster.clone(), metrics.encoded()), Snapshots::default());
        let inner = Inner {
            cluster,
            audit,
            credentials,
            stopping,
            encoder,
            fairness,
            metrics,
            snapshots,
            upkeep,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Answers a request. Never fails: what goes wrong is a Status in the answer.
    pub async fn handle<B>(&self, request: Request<B>, transport: Transport) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: std::fmt::Display,
    {
        let started = Instant::now();
        let method = request.method().clone();
        let path = request.uri().path();
        let route = path::parse(path).or_else(|failure| {
            custom::route(&self.inner.cluster.world(), path).unwrap_or(Err(failure))
        });
        let resource = route.as_ref().map_or("unknown", Route::resource);
        let noted = Noted::new(self);
        let outcome = self.answer(request, route, transport, &noted);
        let outcome = AssertUnwindSafe(outcome).catch_unwind();
        let limit = Duration::from_secs(REQUEST_SECONDS_MAX);
        let outcome = match tokio::time::timeout(limit, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => {
                Err(Failure::internal("the request made the server panic; its log has more"))
            }
            Err(_) => {
                let message = format!("no answer within {REQUEST_SECONDS_MAX} s");
                Err(Failure::timeout(message))
            }
        };
        let mut response = outcome.unwrap_or_else(Failure::into_response);
        if method == Method::HEAD {
            without_body(&mut response);
        }
        noted.answered(&response);
        self.inner.metrics.request(&method, resource, response.status(), started.elapsed());
        tracing::debug!(%method, resource, status = response.status().as_u16(), "request");
        response
    }

    /// The time of an answer, for ages.
    fn now(&self) -> Time {
        self.inner.cluster.now().to_time()
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.inner.cluster
    }

    /// Counts a connection that was closed because there are too many.
    pub(crate) fn note_refused_connection(&self) {
        self.inner.metrics.refused_connection();
    }

    async fn answer<B>(
        &self,
        request: Request<B>,
        route: Result<Route, Failure>,
        transport: Transport,
        noted: &Noted<'_>,
    ) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: std::fmt::Display,
    {
        let (parts, body) = request.into_parts();
        if matches!(route, Ok(Route::Health)) {
            return Ok(health::answer(&parts.uri, &self.inner.cluster).await);
        }
        self.meant(&parts)?;
        let route = self.seen_by(route, &parts).await?;
        match (&route, &parts.method) {
            // Their tokens are not those of users.
            (Ok(Route::Join), &Method::POST) => return self.join(&parts, body, noted).await,
            (Ok(Route::JoinServer), &Method::POST) => {
                return self.join_server(&parts, body, noted).await;
            }
            // It is known by what it shows.
            (Ok(Route::Renewal), &Method::POST) => {
                return self.renew_over(&parts, body, noted).await;
            }
            _ => {}
        }
        let forwarded = forwarded_for(&parts.headers, &transport)?;
        if matches!(&route, Ok(Route::PeerKeys)) && forwarded.is_none() && is_server(&transport) {
            let caller = self.authenticate(&parts.headers, transport)?;
            return self.peer_keys(&parts, body, &caller, noted).await;
        }
        let is_forwarded = forwarded.is_some();
        let transport = forwarded.unwrap_or(transport);
        let uid = match &transport {
            Transport::Node { uid, .. } => Some(*uid),
            Transport::Known(_) | Transport::Tcp | Transport::Unix => None,
        };
        let caller = match self.authenticate(&parts.headers, transport.clone()) {
            // Who is not known here may have become known at another server.
            Err(_) if self.inner.cluster.is_shared() => {
                self.inner.cluster.catch_up().await?;
                self.authenticate(&parts.headers, transport)?
            }
            known => known?,
        };
        if let Some(servers) = self.servers()
            && let Ok(route) = &route
            && let Some(place) = Place::of(route, &parts.method, &self.inner.cluster)
        {
            if is_forwarded {
                let message = "another server was asked than the one that can answer";
                return Err(Failure::new(StatusCode::MISDIRECTED_REQUEST, "Misdirected", message));
            }
            let body = body::read(body).await?;
            let whose = (&caller, uid);
            return servers.forward(&self.inner.cluster, &place, parts, body, whose).await;
        }
        // A query that cannot be read is refused further down, when it is known whose call it was.
        let understood = route.and_then(|route| {
            let query = Query::parse(parts.uri.query())?;
            let attributes = permit::attributes(&route, &parts.method, &query, parts.uri.path());
            Ok((route, query, Arc::new(attributes)))
        });
        if let Ok((route, query, attributes)) = &understood {
            noted.begin(&caller, route, query, attributes, &parts);
        }
        let caller = match self.impersonated(&caller, &parts.headers)? {
            Some(other) => {
                noted.act_for(&other);
                other
            }
            None => caller,
        };
        let class = match &understood {
            Ok((route, query, _)) => Class::of(&parts.method, route, query),
            Err(_) => Class::Request,
        };
        let ticket = self.inner.fairness.admit(&caller.user_name(), class).await?;
        let (route, query, attributes) = understood?;
        let permit = Permit::ask(&self.inner.cluster, &caller, attributes)?;
        let mut right = permit.clone();
        let call = Call { parts, query, body, caller, node: uid, permit };
        let deprecated = match &route {
            Route::Collection { kind, .. } => Some(*kind),
            Route::Object { key } | Route::Sub { key, .. } => Some(key.kind),
            _ => None,
        };
        let deprecated =
            deprecated.and_then(|kind| custom::deprecation(&self.inner.cluster.world(), kind));
        let mut response = self.dispatch(route, call).await?;
        Takeover::until(response.extensions_mut(), async move { right.withdrawn().await });
        write::warn(&mut response, deprecated.into_iter());
        Ok(ticket.keep_for(response))
    }

    /// The other servers, if there may be any.
    fn servers(&self) -> Option<&Servers> {
        self.inner.credentials.as_ref().and_then(|credentials| credentials.servers.as_ref())
    }

    /// Sees to it that a request is answered from a world that shows what any server had answered before it came (S8).
    async fn seen_by(
        &self,
        route: Result<Route, Failure>,
        parts: &Parts,
    ) -> Result<Result<Route, Failure>, Failure> {
        let lasts = |call: &NodeCall| matches!(call, NodeCall::Events | NodeCall::Reports);
        let needs_none = match &route {
            Ok(Route::Node { call, .. }) => lasts(call),
            Ok(Route::Metrics | Route::OpenApi | Route::OpenApiIndex | Route::Version) => true,
            Ok(_) | Err(_) => false,
        };
        if !self.inner.cluster.is_shared() || needs_none {
            return Ok(route);
        }
        let world = self.inner.cluster.catch_up().await?;
        // A kind may have been defined meanwhile.
        Ok(route.or_else(|failure| custom::route(&world, parts.uri.path()).unwrap_or(Err(failure))))
    }

    async fn dispatch<B>(&self, route: Route, mut call: Call<B>) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: std::fmt::Display,
    {
        let method = match &call.parts.method {
            &Method::HEAD => Method::GET,
            method => method.clone(),
        };
        match route {
            Route::Absent { absent, name, .. } => self.absent(absent, name, &method, call).await,
            Route::Answered { answered, namespace, name } => {
                self.answered(answered, namespace, name, call).await
            }
            Route::Backups if method == Method::POST => self.backup(call.permit),
            Route::SealingKeys if method == Method::POST => self.rotate_keys().await,
            Route::Collection { kind, namespace } => match method {
                Method::GET => {
                    let Call { parts, query, permit, .. } = call;
                    let accept = text(&parts.headers, ACCEPT);
                    self.list_or_watch(kind, namespace, &query, accept, permit).await
                }
                // Objects of all namespaces are only read together.
                _ if kind.is_namespaced() && namespace.is_none() => {
                    Err(Failure::method_not_allowed())
                }
                Method::POST => self.create(kind, namespace.unwrap_or_default(), call).await,
                Method::DELETE if registry::may_delete_collection(kind) => {
                    self.delete_collection(kind, namespace, call).await
                }
                _ => Err(Failure::method_not_allowed()),
            },
            Route::Node { node, call: what } => match (method, call.node) {
                (Method::POST, Some(uid)) => self.node_call(what, &node, uid, call).await,
                (Method::POST, None) => {
                    let message = "only the agent of a node that has joined may speak for it";
                    Err(Failure::forbidden(message))
                }
                _ => Err(Failure::method_not_allowed()),
            },
            Route::Object { key } => match method {
                Method::GET => self.get(&key, call).await,
                Method::PUT => self.update(key, Part::Main, call).await,
                Method::PATCH => self.patch(key, Part::Main, call).await,
                Method::DELETE => self.delete(key, call).await,
                _ => Err(Failure::method_not_allowed()),
            },
            Route::Sub { key, sub } => match (sub, method) {
                (Subresource::Attach, Method::GET | Method::POST) => {
                    let wish = ExecQuery::read(&call.query)?;
                    self.attach(&key, wish, &mut call.parts).await
                }
                (Subresource::Binding, Method::POST) => self.bind(key, call).await,
                (Subresource::Eviction, Method::POST) => self.evict(key, call).await,
                (Subresource::Exec, Method::GET | Method::POST) => {
                    let wish = ExecQuery::read(&call.query)?;
                    self.exec(&key, wish, &mut call.parts).await
                }
                (Subresource::Log, Method::GET) => self.logs(&key, &call.query, call.permit).await,
                (Subresource::PortForward, Method::GET | Method::POST) => {
                    self.port_forward(&key, &call.query, &mut call.parts)
                }
                (Subresource::Scale, Method::GET) => self.scale(&key, call.header(ACCEPT)),
                (Subresource::Scale, Method::PUT) => self.put_scale(key, call).await,
                (Subresource::Scale, Method::PATCH) => self.patch_scale(key, call).await,
                (Subresource::Status, Method::GET) => self.get(&key, call).await,
                (Subresource::Status, Method::PUT) => self.update(key, Part::Status, call).await,
                (Subresource::Token, Method::POST) => self.token(key, call).await,
                (Subresource::Status, Method::PATCH) => self.patch(key, Part::Status, call).await,
                _ => Err(Failure::method_not_allowed()),
            },
            _ if method != Method::GET => Err(Failure::method_not_allowed()),
            route => self.about(route, call.header(ACCEPT)),
        }
    }

    /// Answers what is asked about the server itself.
    fn about(&self, route: Route, accept: Option<&str>) -> Result<Response<Body>, Failure> {
        let ok = |value: &Value| Ok(json(StatusCode::OK, value));
        let world = self.inner.cluster.world();
        match route {
            Route::CoreVersions | Route::Groups => {
                let core = route == Route::CoreVersions;
                match negotiate::discovery(accept) {
                    DiscoveryFormat::Aggregated(version) => Ok(aggregated(&world, version, core)),
                    DiscoveryFormat::Legacy if core => ok(&discovery::core_versions()),
                    DiscoveryFormat::Legacy => {
                        let mut list = discovery::group_list();
                        custom::add_groups(&world, &mut list);
                        ok(&list)
                    }
                }
            }
            Route::CustomGroup { group } => ok(&custom::group(&world, &group)),
            Route::CustomOpenApi { group, version } => {
                Ok(openapi_document(&custom::document(&world, &group, &version)))
            }
            Route::CustomResources { group, version } => {
                ok(&custom::resource_list(&world, &group, &version))
            }
            Route::Explain { pod } => self.explain(&pod, accept),
            Route::Group { group } => ok(&discovery::group(group)),
            Route::Metrics => Ok(self.inner.metrics.render()),
            Route::OpenApi => Ok(typed(discovery::OPENAPI_V2_TYPE, discovery::OPENAPI_V2)),
            Route::OpenApiIndex => {
                let mut index = openapi::index();
                custom::add_to_index(&world, &mut index);
                ok(&index)
            }
            Route::OpenApiOf { group } => {
                let document = openapi::of_group(group).ok_or_else(Failure::no_such_path)?;
                Ok(openapi_document(document))
            }
            Route::Resources { group } => ok(&discovery::resource_list(group)),
            Route::Version => ok(&discovery::version()),
            Route::Absent { .. }
            | Route::Answered { .. }
            | Route::Backups
            | Route::Collection { .. }
            | Route::Health
            | Route::Join
            | Route::JoinServer
            | Route::Node { .. }
            | Route::Object { .. }
            | Route::PeerKeys
            | Route::Renewal
            | Route::SealingKeys
            | Route::Sub { .. } => Err(Failure::no_such_path()),
        }
    }
}
