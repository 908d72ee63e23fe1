//! `NameRule`: what the names of a kind must look like.

use super::ids::{Kind, is_dns_label, is_dns_subdomain, is_path_segment};

/// What the names of a kind must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// A DNS label (RFC 1123).
    DnsLabel,
    /// A DNS label that begins with a letter (RFC 1035).
    DnsLabelOfLetter,
    /// A DNS subdomain (RFC 1123).
    DnsSubdomain,
    /// A segment of a path.
    PathSegment,
}

pub(in crate::model) const DNS_LABEL: &str = "must be a DNS label (RFC 1123): at most 63 lower-case letters, digits or '-', \
     beginning and ending with a letter or digit";
pub(in crate::model) const DNS_SUBDOMAIN: &str = "must be a DNS subdomain (RFC 1123): at most 253 lower-case letters, digits, '-' \
     or '.', each part beginning and ending with a letter or digit";

impl Kind {
    /// What the names of objects of this kind must look like.
    pub const fn name_rule(self) -> NameRule {
        match self {
            Self::ClusterRole | Self::ClusterRoleBinding | Self::Role | Self::RoleBinding => {
                NameRule::PathSegment
            }
            Self::Namespace => NameRule::DnsLabel,
            Self::Service => NameRule::DnsLabelOfLetter,
            Self::ConfigMap
            | Self::Custom(_)
            | Self::CustomResourceDefinition
            | Self::Deployment
            | Self::Event
            | Self::Lease
            | Self::Node
            | Self::Pod
            | Self::PodDisruptionBudget
            | Self::ReplicaSet
            | Self::Secret
            | Self::ServiceAccount => NameRule::DnsSubdomain,
        }
    }
}

impl NameRule {
    /// Says what would be right, if a name is not: `must be …`.
    pub fn broken_by(self, name: &str) -> Option<&'static str> {
        let (holds, right) = match self {
            Self::DnsLabel => (is_dns_label(name), DNS_LABEL),
            Self::DnsLabelOfLetter if is_dns_label(name) => (
                name.starts_with(|c: char| c.is_ascii_lowercase()),
                "must begin with a letter, as names of services do",
            ),
            Self::DnsLabelOfLetter => (false, DNS_LABEL),
            Self::DnsSubdomain => (is_dns_subdomain(name), DNS_SUBDOMAIN),
            Self::PathSegment => (
                is_path_segment(name),
                "must be at most 253 characters without '/', '\\' and '%', and neither '.' nor '..'",
            ),
        };
        (!holds).then_some(right)
    }
}
