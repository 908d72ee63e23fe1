//! Kinds that every Kubernetes has and this server does not (yet). There never is one, and none can be made: they are
//! listed as empty, so that clients which look at all built-in kinds (`kubectl apply --prune`, `describe`) do not fail.

/// A kind of which there is nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Absent {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) short_names: &'static [&'static str],
    pub(crate) is_in_all: bool,
    pub(crate) is_namespaced: bool,
}

/// What may be asked of such a kind.
pub(crate) const ABSENT_VERBS: [&str; 3] = ["get", "list", "watch"];

/// Every kind that is absent, in the order of discovery. A kind that comes leaves this table.
pub(crate) static ABSENT: [Absent; 14] = [
    absent("", "v1", "Endpoints", "endpoints", &["ep"]),
    absent("", "v1", "LimitRange", "limitranges", &["limits"]),
    absent("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", &["pvc"]),
    absent("", "v1", "PersistentVolume", "persistentvolumes", &["pv"]).in_no_namespace(),
    absent("", "v1", "ReplicationController", "replicationcontrollers", &["rc"]).in_all(),
    absent("", "v1", "ResourceQuota", "resourcequotas", &["quota"]),
    absent("apps", "v1", "DaemonSet", "daemonsets", &["ds"]).in_all(),
    absent("apps", "v1", "StatefulSet", "statefulsets", &["sts"]).in_all(),
    absent("autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", &["hpa"])
        .in_all(),
    absent("batch", "v1", "CronJob", "cronjobs", &["cj"]).in_all(),
    absent("batch", "v1", "Job", "jobs", &[]).in_all(),
    absent("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", &[]),
    absent("networking.k8s.io", "v1", "Ingress", "ingresses", &["ing"]),
    absent("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", &["pc"])
        .in_no_namespace(),
];

const fn absent(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    short_names: &'static [&'static str],
) -> Absent {
    Absent { group, version, kind, plural, short_names, is_in_all: false, is_namespaced: true }
}

impl Absent {
    const fn in_all(self) -> Self {
        Self { is_in_all: true, ..self }
    }

    const fn in_no_namespace(self) -> Self {
        Self { is_namespaced: false, ..self }
    }

    /// The `apiVersion` on the wire.
    pub(crate) fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// The resource as messages name it: `jobs.batch`.
    pub(crate) fn full_name(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// The singular.
    pub(crate) fn singular(&self) -> String {
        self.kind.to_lowercase()
    }

    /// The categories.
    pub(crate) const fn categories(&self) -> &'static [&'static str] {
        if self.is_in_all { &["all"] } else { &[] }
    }
}

/// Finds the absent kind with a plural name in a group.
pub(crate) fn find(group: &str, plural: &str) -> Option<&'static Absent> {
    ABSENT.iter().find(|absent| absent.group == group && absent.plural == plural)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{self, GROUPS};

    #[test]
    fn what_is_absent_is_not_served_twice_and_its_group_is_known() {
        for absent in &ABSENT {
            assert!(registry::find(absent.group, absent.plural).is_none(), "{}", absent.kind);
            assert!(GROUPS.contains(&(absent.group, absent.version)), "{}", absent.kind);
        }
    }
}
