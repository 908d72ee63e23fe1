//! Nodes whose agents are elsewhere: how they join, what they say to the server and what the server asks of them.
//!
//! An agent dials out, always. What it has to say it posts below `/apis/orchestrator.dev/v1/nodes/NAME/`; what is asked of it
//! (logs, sessions, connections to pods) comes the other way over a tunnel that it has opened. The server never dials an
//! address that a node names.

mod join;
mod link;
#[cfg(test)]
mod tests;
mod token;
mod tunnel;
mod wire;

pub(crate) use join::{
    CertificateAnswer, CertificateRequest, JOIN_PATH, JoinAnswer, JoinRequest, RENEWAL_PATH,
    RenewalRequest,
};
pub use join::{JoinError, Membership};
pub use link::HttpLink;
pub use token::{
    JOIN_TOKEN_NAMESPACE, JOIN_TOKEN_PREFIX, JOIN_TOKEN_TYPE, JoinRole, JoinToken, JoinTokenError,
    join_token_key,
};
pub use tunnel::serve_streams;
pub(crate) use tunnel::{PROTOCOL, Remote};
pub(crate) use wire::{
    AssignmentsForm, Deletion, Following, NetworkForm, Note, Recorded, Registration, Report,
    Reported, Status,
};

use http::HeaderName;
use orchestrator_core::model::is_dns_subdomain;

/// The header in which an agent says which one it is: an `AgentId`.
pub(crate) const AGENT_HEADER: HeaderName = HeaderName::from_static("orchestrator-agent");

/// What an agent says to the server, each a path of its own below its node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeCall {
    Assignments,
    Certificate,
    Deletions,
    Events,
    Network,
    Registration,
    Reports,
    Statuses,
    Tunnel,
}

impl NodeCall {
    const ALL: [Self; 9] = [
        Self::Assignments,
        Self::Certificate,
        Self::Deletions,
        Self::Events,
        Self::Network,
        Self::Registration,
        Self::Reports,
        Self::Statuses,
        Self::Tunnel,
    ];

    /// The last word of its path.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Assignments => "assignments",
            Self::Certificate => "certificate",
            Self::Deletions => "deletions",
            Self::Events => "events",
            Self::Network => "network",
            Self::Registration => "registration",
            Self::Reports => "reports",
            Self::Statuses => "statuses",
            Self::Tunnel => "tunnel",
        }
    }

    /// Finds a call by the last word of its path.
    pub(crate) fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|call| call.name() == name)
    }

    /// The path by which a node's agent makes the call.
    pub(crate) fn path(self, node: &str) -> String {
        debug_assert!(is_dns_subdomain(node), "{node:?} needs no encoding");
        format!("/apis/orchestrator.dev/v1/nodes/{node}/{}", self.name())
    }
}
