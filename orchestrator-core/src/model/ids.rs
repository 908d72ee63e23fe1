//! Identities: `Kind`, `Key`, `Uid`, `Revision`, and the rules for names.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::custom_kind::CustomKind;
use super::role_binding::RBAC_GROUP;

/// The kinds of objects this version knows. Ordered by dependency only in `ALL`; `Ord` is alphabetical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Kind {
    ClusterRole,
    ClusterRoleBinding,
    ConfigMap,
    CustomResourceDefinition,
    Deployment,
    Event,
    Lease,
    Namespace,
    Node,
    Pod,
    PodDisruptionBudget,
    ReplicaSet,
    Role,
    RoleBinding,
    Secret,
    Service,
    ServiceAccount,
    /// A kind that a CustomResourceDefinition defines; after all others in order.
    Custom(CustomKind),
}

impl Kind {
    /// Every built-in kind, in alphabetical order.
    pub const ALL: [Self; 17] = [
        Self::ClusterRole,
        Self::ClusterRoleBinding,
        Self::ConfigMap,
        Self::CustomResourceDefinition,
        Self::Deployment,
        Self::Event,
        Self::Lease,
        Self::Namespace,
        Self::Node,
        Self::Pod,
        Self::PodDisruptionBudget,
        Self::ReplicaSet,
        Self::Role,
        Self::RoleBinding,
        Self::Secret,
        Self::Service,
        Self::ServiceAccount,
    ];

    /// The custom kind, if it is one.
    pub const fn custom(self) -> Option<CustomKind> {
        if let Self::Custom(kind) = self { Some(kind) } else { None }
    }

    /// The name on the wire, such as `ReplicaSet`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClusterRole => "ClusterRole",
            Self::ClusterRoleBinding => "ClusterRoleBinding",
            Self::ConfigMap => "ConfigMap",
            Self::Custom(kind) => kind.name(),
            Self::CustomResourceDefinition => "CustomResourceDefinition",
            Self::Deployment => "Deployment",
            Self::Event => "Event",
            Self::Lease => "Lease",
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::ReplicaSet => "ReplicaSet",
            Self::Role => "Role",
            Self::RoleBinding => "RoleBinding",
            Self::Secret => "Secret",
            Self::Service => "Service",
            Self::ServiceAccount => "ServiceAccount",
        }
    }

    /// The plural, lower-case resource name used in paths, such as `replicasets`.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::ClusterRole => "clusterroles",
            Self::ClusterRoleBinding => "clusterrolebindings",
            Self::ConfigMap => "configmaps",
            Self::Custom(kind) => kind.plural(),
            Self::CustomResourceDefinition => "customresourcedefinitions",
            Self::Deployment => "deployments",
            Self::Event => "events",
            Self::Lease => "leases",
            Self::Namespace => "namespaces",
            Self::Node => "nodes",
            Self::Pod => "pods",
            Self::PodDisruptionBudget => "poddisruptionbudgets",
            Self::ReplicaSet => "replicasets",
            Self::Role => "roles",
            Self::RoleBinding => "rolebindings",
            Self::Secret => "secrets",
            Self::Service => "services",
            Self::ServiceAccount => "serviceaccounts",
        }
    }

    /// The API group; empty for the core group.
    pub const fn group(self) -> &'static str {
        match self {
            Self::ConfigMap
            | Self::Event
            | Self::Namespace
            | Self::Node
            | Self::Pod
            | Self::Secret
            | Self::Service
            | Self::ServiceAccount => "",
            Self::Custom(kind) => kind.group(),
            Self::CustomResourceDefinition => "apiextensions.k8s.io",
            Self::Deployment | Self::ReplicaSet => "apps",
            Self::Lease => "coordination.k8s.io",
            Self::PodDisruptionBudget => "policy",
            Self::ClusterRole | Self::ClusterRoleBinding | Self::Role | Self::RoleBinding => {
                RBAC_GROUP
            }
        }
    }

    /// The `apiVersion` on the wire, such as `v1` or `apps/v1`.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::ConfigMap
            | Self::Event
            | Self::Namespace
            | Self::Node
            | Self::Pod
            | Self::Secret
            | Self::Service
            | Self::ServiceAccount => "v1",
            Self::Custom(kind) => kind.api_version(),
            Self::CustomResourceDefinition => "apiextensions.k8s.io/v1",
            Self::Deployment | Self::ReplicaSet => "apps/v1",
            Self::Lease => "coordination.k8s.io/v1",
            Self::PodDisruptionBudget => "policy/v1",
            Self::ClusterRole | Self::ClusterRoleBinding | Self::Role | Self::RoleBinding => {
                "rbac.authorization.k8s.io/v1"
            }
        }
    }

    /// Whether objects of this kind live in a namespace.
    pub const fn is_namespaced(self) -> bool {
        match self {
            Self::Custom(kind) => kind.is_namespaced(),
            Self::ClusterRole
            | Self::ClusterRoleBinding
            | Self::CustomResourceDefinition
            | Self::Namespace
            | Self::Node => false,
            Self::ConfigMap
            | Self::Deployment
            | Self::Event
            | Self::Lease
            | Self::Pod
            | Self::PodDisruptionBudget
            | Self::ReplicaSet
            | Self::Role
            | Self::RoleBinding
            | Self::Secret
            | Self::Service
            | Self::ServiceAccount => true,
        }
    }

    /// Whether objects of this kind have a status, stored as a record of its own.
    pub const fn has_status(self) -> bool {
        matches!(
            self,
            Self::Custom(_)
                | Self::CustomResourceDefinition
                | Self::Deployment
                | Self::Namespace
                | Self::Node
                | Self::Pod
                | Self::PodDisruptionBudget
                | Self::ReplicaSet
                | Self::Service
        )
    }

    /// Whether an object of this kind may have this name.
    pub fn may_be_named(self, name: &str) -> bool {
        self.name_rule().broken_by(name).is_none()
    }

    /// The resource as Kubernetes prints it in messages: `pods`, `deployments.apps`.
    pub fn resource(self) -> String {
        match self.group() {
            "" => self.plural().to_owned(),
            group => format!("{}.{group}", self.plural()),
        }
    }

    /// Under which name a store keeps the objects: the name of the kind, or for a custom one all there is to its identity.
    pub const fn record_name(self) -> &'static str {
        match self {
            Self::Custom(kind) => kind.record_name(),
            built_in => built_in.name(),
        }
    }

    /// Finds a kind by the name that a store knows it by, a custom one also without its definition.
    pub fn from_record_name(name: &str) -> Option<Self> {
        Self::from_name(name).or_else(|| CustomKind::from_record_name(name).map(Self::Custom))
    }

    /// Finds a built-in kind by its wire name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Identifies an object: kind, namespace (empty for cluster-scoped kinds) and name.
///
/// Cloning is cheap. The order (kind, namespace, name) is part of the contract: it is the order of
/// every listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind of the object.
    pub kind: Kind,
    /// The namespace; empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl Key {
    /// Makes the key of a namespaced object.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        let namespace = if kind.is_namespaced() { namespace } else { "" };
        Self { kind, namespace: namespace.into(), name: name.into() }
    }

    /// Makes the key of a cluster-scoped object.
    pub fn cluster(kind: Kind, name: &str) -> Self {
        Self::new(kind, "", name)
    }

    /// Makes the key of a pod.
    pub fn pod(namespace: &str, name: &str) -> Self {
        Self::new(Kind::Pod, namespace, name)
    }

    /// Makes the key of a node.
    pub fn node(name: &str) -> Self {
        Self::cluster(Kind::Node, name)
    }
}

/// Prints `Kind/namespace/name`, the form that `FromStr` reads and stores keep.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind.record_name(), self.namespace, self.name)
    }
}

/// A text that is not the printed form of a [`Key`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a key of the form Kind/namespace/name with a known kind")]
pub struct InvalidKey(String);

impl FromStr for Key {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let invalid = || InvalidKey(text.to_owned());
        let mut parts = text.splitn(3, '/');
        let kind = parts.next().and_then(Kind::from_record_name).ok_or_else(invalid)?;
        let namespace = parts.next().ok_or_else(invalid)?;
        let name = parts.next().ok_or_else(invalid)?;
        Ok(Self { kind, namespace: namespace.into(), name: name.into() })
    }
}

/// The identity of one life of an object: a deleted and recreated object has another one.
///
/// Objects made through the API get a UUIDv7 from the shell; children get [`Uid::derived`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Uid(uuid::Uuid);

impl Uid {
    /// Wraps a UUID made elsewhere.
    pub const fn from_uuid(uuid: uuid::Uuid) -> Self {
        Self(uuid)
    }

    /// Derives the uid of a child: a UUIDv8 hashed from the owner's uid, the child's name and the revision
    /// of the world in which the child was decided.
    pub fn derived(owner: Self, name: &str, world: Revision) -> Self {
        let mut hash = crate::hash::Fnv128::new();
        hash.write(owner.0.as_bytes());
        hash.write(name.as_bytes());
        hash.write(&world.0.to_be_bytes());
        Self(uuid::Builder::from_custom_bytes(hash.finish().to_be_bytes()).into_uuid())
    }

    /// Whether this is the zero uid, which no object has.
    pub fn is_nil(&self) -> bool {
        self.0.is_nil()
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Uid {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// A revision of the store: strictly increasing with each commit, never reused.
///
/// On the wire (`resourceVersion`) it is a decimal string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision before the first commit.
    pub const ZERO: Self = Self(0);
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Revision {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, std::num::ParseIntError> {
        text.parse().map(Self)
    }
}

impl Serialize for Revision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Revision {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self::ZERO);
        }
        text.parse().map_err(|_| {
            serde::de::Error::custom(format!(
                "{text:?} is not a resourceVersion (a decimal number)"
            ))
        })
    }
}

/// Whether `text` is a DNS label (RFC 1123): at most 63 of `a-z0-9-`, not at the ends a dash.
pub fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
}

/// Whether `text` is a DNS subdomain (RFC 1123): at most 253 characters of dot-separated labels.
pub fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// Whether `text` can be one segment of a path, as names of roles and bindings are: at most 253 characters, no `/`, `\`
/// or `%`, nothing that does not print, neither `.` nor `..`.
pub fn is_path_segment(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && !text.contains(['/', '\\', '%'])
        && !text.chars().any(char::is_control)
        && !matches!(text, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_print_and_parse_alike() {
        for key in [Key::pod("default", "web-1"), Key::node("n1")] {
            assert_eq!(key.to_string().parse::<Key>().expect("own output"), key);
        }
        assert!("Gadget/default/x".parse::<Key>().is_err());
    }

    #[test]
    fn a_derived_uid_depends_on_each_part() {
        let owner = Uid::from_uuid(uuid::Uuid::from_u128(7));
        let uid = Uid::derived(owner, "a", Revision(1));
        assert_eq!(uid, Uid::derived(owner, "a", Revision(1)));
        assert_ne!(uid, Uid::derived(owner, "b", Revision(1)));
        assert_ne!(uid, Uid::derived(owner, "a", Revision(2)));
        assert_ne!(uid, Uid::derived(Uid::default(), "a", Revision(1)));
        assert!(uid.to_string().starts_with(&uid.to_string()[..14]));
        assert_eq!(&uid.to_string()[14..15], "8", "version 8");
    }

    #[test]
    fn names_with_a_path_in_them_are_no_labels() {
        for bad in ["", "../x", "a/b", "-a", "a-", "A", "a.b", &"a".repeat(64)] {
            assert!(!is_dns_label(bad), "{bad:?}");
        }
        assert!(is_dns_label("web-1"));
        assert!(is_dns_subdomain("a.b-c.d"));
        assert!(!is_dns_subdomain("a..b"));
    }
}
