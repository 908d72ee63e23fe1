//! The Kubernetes dialect over HTTP: server and client.
//!
//! [`Server`] carries requests to an [`Api`] and [`Client`] is its other end. The dialect is a named profile of
//! Kubernetes: what is outside of it is answered with a clear 404, 405, 415 or 501 Status. Policy is core's; here bytes are
//! negotiated, decoded and encoded, for every kind by the same handlers over one table of resources.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use orchestrator_core::driver::Cluster;
//! use orchestrator_http::{Listen, Server, ServerConfig};
//!
//! # async fn run(cluster: Cluster) -> Result<(), Box<dyn std::error::Error>> {
//! let listen = Listen::Tcp(([127, 0, 0, 1], 6443).into());
//! let server = Server::bind(ServerConfig::new(listen, "/var/lib/my-program/pki"), cluster).await?;
//! server.write_kubeconfig(Path::new("/var/lib/my-program/kubeconfig"))?; // URL, authority, token; mode 0600
//! server.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! [`Api::handle`] answers requests without a socket, for tests and for servers of your own. [`Api`] is a `tower` service too:
//! `kube::Client::new(Api::new(cluster), "default")` is a client of the cluster in the same process.
//!
//! Feature `testkit`: `testkit::TestCluster`, a cluster in memory whose clock a test moves, for authors of clients and
//! controllers.

mod absent;
mod account_tokens;
mod age;
mod api;
mod audit;
mod body;
mod causes;
mod certificate;
mod client;
mod custom;
mod discovery;
mod fields;
mod kubeconfig;
mod negotiate;
mod node;
mod openapi;
mod path;
mod pki;
mod private_file;
mod protobuf;
mod query;
mod registry;
mod server;
mod servers;
mod status;
mod stopping;
mod stream;
mod table;
#[cfg(feature = "testkit")]
pub mod testkit;
mod upkeep;

pub use account_tokens::make_keys;
pub use age::brief as brief_duration;
pub use api::{Api, FairnessLimits, Transport};
pub use body::{BODY_BYTES_MAX, Body};
pub use certificate::validity_of_pem as certificate_validity;
pub use client::{
    ByteStream, Cause, Client, ClientError, DeleteParams, LogParams, Reply, Selector, WatchEvent,
    WatchStream, WriteParams,
};
pub use kubeconfig::{ClientCertificate, ClientConfig, KubeconfigError, read_kubeconfig};
pub use node::{
    HttpLink, JOIN_TOKEN_NAMESPACE, JOIN_TOKEN_PREFIX, JOIN_TOKEN_TYPE, JoinError, JoinRole,
    JoinToken, JoinTokenError, Membership, join_token_key, serve_streams,
};
pub use pki::{Pki, PkiError, Token};
pub use private_file::write as write_private;
pub use registry::{kind_by_any_name, short_names};
pub use server::{Limits, Listen, ServeError, Server, ServerConfig};
pub use servers::{
    JoinServerError, RootError, forget_root, join_as_server, refuse_others, refuse_stranger,
    sealing_keys_of_peers, server_urls,
};
pub use upkeep::{KeyRotation, NoPeers, Peers, SealingKeys, Upkeep};
