//! The table of resources: what is served under which name, and what may be done with it.

use orchestrator_core::model::Kind;

/// A resource below an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subresource {
    /// What a container prints from now on.
    Attach,
    /// Binds a pod to a node.
    Binding,
    /// A deletion that a disruption budget may refuse.
    Eviction,
    /// A program run in a container.
    Exec,
    /// The log of a pod's container.
    Log,
    /// Connections to ports.
    PortForward,
    /// The number of replicas.
    Scale,
    /// The status.
    Status,
    /// A token of a service account.
    Token,
}

impl Subresource {
    /// The name in paths.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Binding => "binding",
            Self::Eviction => "eviction",
            Self::Exec => "exec",
            Self::Log => "log",
            Self::PortForward => "portforward",
            Self::Scale => "scale",
            Self::Status => "status",
            Self::Token => "token",
        }
    }

    /// What may be done with it.
    pub(crate) const fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::Attach | Self::Exec | Self::PortForward => &["create", "get"],
            Self::Binding | Self::Eviction | Self::Token => &["create"],
            Self::Log => &["get"],
            Self::Scale | Self::Status => &["get", "patch", "update"],
        }
    }
}

/// What Kubernetes has below objects and this server does not (yet), but for proxies; answered with 501.
pub(crate) const SUBRESOURCES_ABSENT: [&str; 3] = ["ephemeralcontainers", "finalize", "resize"];

/// A resource that is served.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) kind: Kind,
    pub(crate) singular: &'static str,
    pub(crate) short_names: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    pub(crate) subresources: &'static [Subresource],
}

/// What may be done with resources.
pub(crate) const VERBS: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

impl Resource {
    /// What may be done with it. Namespaces, as in Kubernetes, are deleted one by one: too much goes with each.
    pub(crate) fn verbs(&self) -> impl Iterator<Item = &'static str> {
        let is_whole = self.kind != Kind::Namespace;
        VERBS.into_iter().filter(move |verb| is_whole || *verb != "deletecollection")
    }
}

/// Every resource that is served, in the order of discovery.
pub(crate) static RESOURCES: [Resource; 17] = [
    Resource {
        kind: Kind::ConfigMap,
        singular: "configmap",
        short_names: &["cm"],
        categories: &[],
        subresources: &[],
    },
    Resource {
        kind: Kind::Event,
        singular: "event",
        short_names: &["ev"],
        categories: &[],
        subresources: &[],
    },
    Resource {
        kind: Kind::Namespace,
        singular: "namespace",
        short_names: &["ns"],
        categories: &[],
        subresources: &[Subresource::Status],
    },
    Resource {
        kind: Kind::Node,
        singular: "node",
        short_names: &["no"],
        categories: &[],
        subresources: &[Subresource::Status],
    },
    Resource {
        kind: Kind::Pod,
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        subresources: &[
            Subresource::Attach,
            Subresource::Binding,
            Subresource::Eviction,
            Subresource::Exec,
            Subresource::Log,
            Subresource::PortForward,
            Subresource::Status,
        ],
    },
    Resource {
        kind: Kind::Secret,
        singular: "secret",
        short_names: &[],
        categories: &[],
        subresources: &[],
    },
    Resource {
        kind: Kind::Service,
        singular: "service",
        short_names: &["svc"],
        categories: &["all"],
        subresources: &[Subresource::Status],
    },
    Resource {
        kind: Kind::ServiceAccount,
        singular: "serviceaccount",
        short_names: &["sa"],
        categories: &[],
        subresources: &[Subresource::Token],
    },
    Resource {
        kind: Kind::Deployment,
        singular: "deployment",
        short_names: &["deploy"],
        categories: &["all"],
        subresources: &[Subresource::Scale, Subresource::Status],
    },
    Resource {
        kind: Kind::ReplicaSet,
        singular: "replicaset",
        short_names: &["rs"],
        categories: &["all"],
        subresources: &[Subresource::Scale, Subresource::Status],
    },
    Resource {
        kind: Kind::Lease,
        singular: "lease",
        short_names: &[],
        categories: &[],
        subresources: &[],
    },
    Resource {
        kind: Kind::CustomResourceDefinition,
        singular: "customresourcedefinition",
        short_names: &["crd", "crds"],
        categories: &["api-extensions"],
        subresources: &[Subresource::Status],
    },
    Resource {
        kind: Kind::PodDisruptionBudget,
        singular: "poddisruptionbudget",
        short_names: &["pdb"],
        categories: &[],
        subresources: &[Subresource::Status],
    },
    Resource {
        kind: Kind::ClusterRole,
        singular: "clusterrole",
        short_names: &[],
        categories: &[],
        subresources: &[],
    },
    Resource {
        kind: Kind::ClusterRoleBinding,
        singular: "clusterrolebinding",
        short_names: &[],
        categories: &[],
        subresources: &[],
    },
    Resource {
        kind: Kind::Role,
        singular: "role",
        short_names: &[],
        categories: &[],
        subresources: &[],
    },
    Resource {
        kind: Kind::RoleBinding,
        singular: "rolebinding",
        short_names: &[],
        categories: &[],
        subresources: &[],
    },
];

/// What is asked of something that is answered and never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerKind {
    /// Whether the asker may do something.
    Access,
    /// Whether somebody may do something.
    AccessOf,
    /// What a node uses.
    NodeMetrics,
    /// What a pod uses.
    PodMetrics,
    /// All that the asker may do.
    Rules,
    /// Whose a token is.
    Token,
    /// Who asks.
    WhoAmI,
}

/// A resource that is answered and never stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) kind: AnswerKind,
    /// The name of the kind on the wire.
    pub(crate) kind_name: &'static str,
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) is_namespaced: bool,
    pub(crate) verbs: &'static [&'static str],
}

impl Answered {
    /// The `apiVersion` of its answers.
    pub(crate) fn api_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }
}

/// Every resource that is answered and never stored. One of another version than its group's is not told of in discovery: it is
/// there for clients that know no newer one.
pub(crate) static ANSWERED: [Answered; 9] = [
    Answered {
        kind: AnswerKind::WhoAmI,
        kind_name: "SelfSubjectReview",
        group: "authentication.k8s.io",
        version: "v1",
        plural: "selfsubjectreviews",
        is_namespaced: false,
        verbs: &["create"],
    },
    // What `kubectl auth whoami` of 1.27 asks.
    Answered {
        kind: AnswerKind::WhoAmI,
        kind_name: "SelfSubjectReview",
        group: "authentication.k8s.io",
        version: "v1beta1",
        plural: "selfsubjectreviews",
        is_namespaced: false,
        verbs: &["create"],
    },
    Answered {
        kind: AnswerKind::Token,
        kind_name: "TokenReview",
        group: "authentication.k8s.io",
        version: "v1",
        plural: "tokenreviews",
        is_namespaced: false,
        verbs: &["create"],
    },
    Answered {
        kind: AnswerKind::AccessOf,
        kind_name: "LocalSubjectAccessReview",
        group: "authorization.k8s.io",
        version: "v1",
        plural: "localsubjectaccessreviews",
        is_namespaced: true,
        verbs: &["create"],
    },
    Answered {
        kind: AnswerKind::Access,
        kind_name: "SelfSubjectAccessReview",
        group: "authorization.k8s.io",
        version: "v1",
        plural: "selfsubjectaccessreviews",
        is_namespaced: false,
        verbs: &["create"],
    },
    Answered {
        kind: AnswerKind::Rules,
        kind_name: "SelfSubjectRulesReview",
        group: "authorization.k8s.io",
        version: "v1",
        plural: "selfsubjectrulesreviews",
        is_namespaced: false,
        verbs: &["create"],
    },
    Answered {
        kind: AnswerKind::AccessOf,
        kind_name: "SubjectAccessReview",
        group: "authorization.k8s.io",
        version: "v1",
        plural: "subjectaccessreviews",
        is_namespaced: false,
        verbs: &["create"],
    },
    Answered {
        kind: AnswerKind::NodeMetrics,
        kind_name: "NodeMetrics",
        group: "metrics.k8s.io",
        version: "v1beta1",
        plural: "nodes",
        is_namespaced: false,
        verbs: &["get", "list"],
    },
    Answered {
        kind: AnswerKind::PodMetrics,
        kind_name: "PodMetrics",
        group: "metrics.k8s.io",
        version: "v1beta1",
        plural: "pods",
        is_namespaced: true,
        verbs: &["get", "list"],
    },
];

/// The groups that are served, the core group without a name, each with its version, in the order of discovery.
pub(crate) static GROUPS: [(&str, &str); 15] = [
    ("", VERSION),
    ("apiextensions.k8s.io", VERSION),
    ("apps", VERSION),
    ("authentication.k8s.io", "v1"),
    ("authorization.k8s.io", "v1"),
    ("autoscaling", "v1"),
    ("batch", "v1"),
    ("coordination.k8s.io", VERSION),
    ("discovery.k8s.io", "v1"),
    ("metrics.k8s.io", "v1beta1"),
    ("networking.k8s.io", "v1"),
    ("policy", VERSION),
    ("rbac.authorization.k8s.io", VERSION),
    ("scheduling.k8s.io", "v1"),
    (OWN_GROUP, VERSION),
];

/// The version of every group whose objects are stored.
pub(crate) const VERSION: &str = "v1";
/// The group of what Kubernetes has no verb for.
pub(crate) const OWN_GROUP: &str = "orchestrator.dev";

/// Finds the resource of a kind.
pub(crate) fn of(kind: Kind) -> Option<&'static Resource> {
    RESOURCES.iter().find(|resource| resource.kind == kind)
}

/// Whether all of a kind may be deleted in one request.
pub(crate) fn may_delete_collection(kind: Kind) -> bool {
    kind.custom().is_some()
        || of(kind).is_some_and(|resource| resource.verbs().any(|verb| verb == "deletecollection"))
}

/// Finds the resource with a plural name in a group.
pub(crate) fn find(group: &str, plural: &str) -> Option<&'static Resource> {
    RESOURCES
        .iter()
        .find(|resource| resource.kind.group() == group && resource.kind.plural() == plural)
}

/// The short names of a kind, such as `po`.
pub fn short_names(kind: Kind) -> &'static [&'static str] {
    of(kind).map_or(&[], |resource| resource.short_names)
}

/// Finds a kind by what a person may call it: its kind, plural, singular or short name, in any case, with or without
/// its group (`deploy`, `Deployment`, `deployments.apps`).
pub fn kind_by_any_name(name: &str) -> Option<Kind> {
    let name = name.to_ascii_lowercase();
    RESOURCES
        .iter()
        .find(|resource| {
            let group = resource.kind.group();
            let bare = name.strip_suffix(group).and_then(|rest| rest.strip_suffix('.'));
            let bare = if group.is_empty() { None } else { bare }.unwrap_or(&name);
            bare == resource.singular
                || bare == resource.kind.plural()
                || resource.short_names.contains(&bare)
        })
        .map(|resource| resource.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_served_and_found_by_any_of_its_names() {
        for kind in Kind::ALL {
            let resource = of(kind).expect("in the table");
            assert_eq!(resource.singular, kind.name().to_lowercase());
            for name in resource.short_names.iter().chain([
                &resource.singular,
                &kind.plural(),
                &kind.name(),
            ]) {
                assert_eq!(kind_by_any_name(name), Some(kind), "{name}");
            }
        }
        assert_eq!(kind_by_any_name("deployments.apps"), Some(Kind::Deployment));
        assert_eq!(kind_by_any_name("pods.apps"), None);
        assert_eq!(kind_by_any_name("gadget"), None);
    }
}
