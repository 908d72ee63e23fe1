//! Several servers of one cluster: how they know and reach one another, and how one more becomes one of them.
//!
//! Each has a record, a Lease that names its URL. What only the leader does, and streams of a node whose agent has its tunnel
//! elsewhere, are passed on to where they belong (`forward`), over TLS that both sides' certificates come from the cluster's own
//! authority. A server dials what servers' records name, and believes nobody there who has no certificate of a server.

mod forward;
mod join;
mod keys;
mod record;
mod root;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use orchestrator_core::api::Caller;
use orchestrator_core::model::{Key, Kind, Lease};
use orchestrator_core::world::World;

use crate::api::Transport;
use crate::client::{Client, ClientError};
use crate::kubeconfig::{ClientCertificate, ClientConfig};
use crate::pki::{Pki, PkiError, sha256};

pub(crate) use forward::{NO_LEADER, Place, forwarded_for};
pub(crate) use join::{JOIN_SERVER_PATH, JoinServerRequest, shared_files};
pub use join::{JoinServerError, join_as_server};
pub(crate) use keys::Others;
pub use keys::sealing_keys_of_peers;
pub(crate) use record::keep_record;
pub use record::server_urls;
pub(crate) use root::check_root;
pub use root::{RootError, forget_root, refuse_others, refuse_stranger};

/// The namespace of what servers write down of themselves.
const NAMESPACE: &str = "kube-system";
/// What the names of servers' records begin with; the server's name follows.
const RECORD_PREFIX: &str = "orchestrator-server-";
/// The label of a server's record; its value is the server's name.
const LABEL_SERVER: &str = "orchestrator.dev/server";
/// The annotation of a server's record that says by which URL the others, and agents, reach it.
const URL: &str = "orchestrator.dev/url";
/// How servers are called by one another, before their name.
const USER_PREFIX: &str = "system:server:";
/// The group of all servers.
const GROUP: &str = "system:servers";
/// How long the certificate is good by which a server is known to the others, in days; one that runs longer must be restarted.
const CERTIFICATE_DAYS: i64 = 825;
/// The characters of a server's name.
const NAME_CHARS: usize = 12;
/// The most servers that are known of.
const SERVERS_MAX: usize = 16;

/// What a server knows of the others.
#[derive(Debug)]
pub(crate) struct Servers {
    /// The URL of this one.
    own: String,
    ca_pem: String,
    certificate: ClientCertificate,
    /// By URL.
    clients: Mutex<BTreeMap<String, Client>>,
}

impl Servers {
    pub(crate) fn new(own: String, pki: &Pki, now: i64) -> Result<Self, PkiError> {
        let user = format!("{USER_PREFIX}{}", name(&own));
        let certificate = pki.client_certificate(&user, Some(GROUP), CERTIFICATE_DAYS, now)?;
        let ca_pem = pki.ca_pem().to_owned();
        Ok(Self { own, ca_pem, certificate, clients: Mutex::default() })
    }

    /// The URLs of all servers, this one's too, in the order of their names.
    pub(crate) fn urls(world: &World) -> Vec<String> {
        records(world).filter_map(url).map(str::to_owned).take(SERVERS_MAX).collect()
    }

    /// The URLs of all servers but this one.
    fn others(&self, world: &World) -> Vec<String> {
        let mut urls = Self::urls(world);
        urls.retain(|url| *url != self.own);
        urls
    }

    /// The URL of the server of this identity.
    fn url_of(world: &World, identity: &str) -> Option<String> {
        let is_it = |lease: &&Lease| lease.spec.holder_identity.as_deref() == Some(identity);
        records(world).find(is_it).and_then(url).map(str::to_owned)
    }

    fn client(&self, url: &str) -> Result<Client, ClientError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(url) {
            return Ok(client.clone());
        }
        if clients.len() >= SERVERS_MAX {
            clients.clear();
        }
        let client = Client::from_config(&ClientConfig {
            server: url.to_owned(),
            ca_pem: Some(self.ca_pem.clone()),
            token: None,
            certificate: Some(self.certificate.clone()),
            namespace: String::new(),
        })?;
        clients.insert(url.to_owned(), client.clone());
        Ok(client)
    }
}

/// Whether a connection is another server's.
pub(crate) fn is_server(transport: &Transport) -> bool {
    match transport {
        Transport::Known(Caller::User { name, groups }) => {
            name.starts_with(USER_PREFIX) && groups.iter().any(|group| group == GROUP)
        }
        Transport::Known(_) | Transport::Node { .. } | Transport::Tcp | Transport::Unix => false,
    }
}

fn records(world: &World) -> impl Iterator<Item = &Lease> {
    let all = world.all::<Lease>(Some(NAMESPACE)).map(|lease| &**lease);
    all.filter(|lease| lease.metadata.labels.contains_key(LABEL_SERVER))
}

fn url(lease: &Lease) -> Option<&str> {
    lease.metadata.annotations.get(URL).map(String::as_str)
}

/// What a server of this URL is called.
fn name(url: &str) -> String {
    sha256(url.as_bytes())[..NAME_CHARS].to_owned()
}

fn record_key(url: &str) -> Key {
    Key::new(Kind::Lease, NAMESPACE, &format!("{RECORD_PREFIX}{}", name(url)))
}
