//! The roles and bindings that every cluster has, as in Kubernetes: `cluster-admin`, `admin`, `edit`, `view`, and what
//! everybody may ask.

use crate::model::{
    AggregationRule, ClusterRole, ClusterRoleBinding, LabelSelector, Object, ObjectMeta,
    PolicyRule, RBAC_GROUP, RoleRef, StringMap, Subject,
};

use super::rules::everything;
use super::{GROUP_AUTHENTICATED, GROUP_MASTERS};

/// A built-in role with this annotation at `false` is left as its owner made it; any other gets back, at a start, the
/// rights it is missing.
pub const AUTO_UPDATE_ANNOTATION: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// Marks what is built in.
const BOOTSTRAPPING_LABEL: &str = "kubernetes.io/bootstrapping";
/// With `admin`, `edit` or `view` after it and the value `true`: the label of cluster roles that are part of that role.
const AGGREGATE_TO: &str = "rbac.authorization.k8s.io/aggregate-to-";

const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];

/// Lists the roles and bindings that every cluster has.
pub fn built_in_access() -> Vec<Object> {
    let everything = everything().to_vec();
    let mut found: Vec<Object> = vec![
        role("cluster-admin", &[], everything),
        role("system:aggregate-to-admin", &["admin"], admin()),
        role("system:aggregate-to-edit", &["edit"], edit()),
        role("system:aggregate-to-view", &["view"], view()),
        role("system:basic-user", &[], basic_user()),
        role("system:discovery", &[], vec![read_paths(&DISCOVERY)]),
        aggregated("admin", &[], &["admin", "edit", "view"]),
        aggregated("edit", &["admin"], &["edit", "view"]),
        aggregated("view", &["edit", "admin"], &["view"]),
    ];
    found.push(binding("cluster-admin", GROUP_MASTERS));
    found.push(binding("system:basic-user", GROUP_AUTHENTICATED));
    found.push(binding("system:discovery", GROUP_AUTHENTICATED));
    found
}

const DISCOVERY: [&str; 11] = [
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
    "/version/",
];

/// Kinds in namespaces that Kubernetes has and this server does not yet. There are none of them, and who may look at all else
/// may look at that, as `kubectl get all` does.
const ABSENT: [(&str, &[&str]); 6] = [
    (
        "",
        &[
            "endpoints",
            "limitranges",
            "persistentvolumeclaims",
            "replicationcontrollers",
            "resourcequotas",
        ],
    ),
    ("apps", &["daemonsets", "statefulsets"]),
    ("autoscaling", &["horizontalpodautoscalers"]),
    ("batch", &["cronjobs", "jobs"]),
    ("discovery.k8s.io", &["endpointslices"]),
    ("networking.k8s.io", &["ingresses"]),
];

fn absent(verbs: &[&str]) -> impl Iterator<Item = PolicyRule> {
    ABSENT.iter().map(move |(group, kinds)| resources(&[group], kinds, verbs))
}

/// What one may look at in a namespace without learning a secret or who has which rights.
fn view() -> Vec<PolicyRule> {
    let mut rules = vec![
        resources(
            &[""],
            &[
                "configmaps",
                "events",
                "namespaces",
                "namespaces/status",
                "pods",
                "pods/log",
                "pods/status",
                "serviceaccounts",
                "services",
                "services/status",
            ],
            &READ,
        ),
        resources(
            &["apps"],
            &[
                "deployments",
                "deployments/scale",
                "deployments/status",
                "replicasets",
                "replicasets/scale",
                "replicasets/status",
            ],
            &READ,
        ),
        resources(&["coordination.k8s.io"], &["leases"], &READ),
        resources(&["metrics.k8s.io"], &["pods"], &READ),
        resources(&["orchestrator.dev"], &["pods/explain"], &READ),
        resources(&["policy"], &["poddisruptionbudgets", "poddisruptionbudgets/status"], &READ),
    ];
    rules.extend(absent(&READ));
    rules
}

/// What one may change in a namespace; reading secrets and using any of its service accounts is among it.
fn edit() -> Vec<PolicyRule> {
    let mut rules = vec![
        resources(
            &[""],
            &["configmaps", "events", "pods", "secrets", "serviceaccounts", "services"],
            &WRITE,
        ),
        resources(&[""], &["secrets"], &READ),
        resources(&[""], &["pods/attach", "pods/exec", "pods/portforward"], &["create", "get"]),
        resources(&[""], &["pods/eviction", "serviceaccounts/token"], &["create"]),
        resources(
            &["apps"],
            &["deployments", "deployments/scale", "replicasets", "replicasets/scale"],
            &WRITE,
        ),
        resources(&["coordination.k8s.io"], &["leases"], &WRITE),
        resources(&["policy"], &["poddisruptionbudgets"], &WRITE),
    ];
    // Whoever makes one is then told that there is no such thing here, and not that a right is missing.
    rules.extend(absent(&WRITE));
    rules
}

/// What only the owner of a namespace may do in it: giving others rights.
fn admin() -> Vec<PolicyRule> {
    let all: Vec<&str> = READ.into_iter().chain(WRITE).collect();
    vec![
        resources(&[RBAC_GROUP], &["rolebindings", "roles"], &all),
        resources(&["authorization.k8s.io"], &["localsubjectaccessreviews"], &["create"]),
    ]
}

/// What everybody may ask about themselves.
fn basic_user() -> Vec<PolicyRule> {
    vec![
        resources(
            &["authorization.k8s.io"],
            &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
            &["create"],
        ),
        resources(&["authentication.k8s.io"], &["selfsubjectreviews"], &["create"]),
    ]
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn resources(api_groups: &[&str], resources: &[&str], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: texts(api_groups),
        resources: texts(resources),
        verbs: texts(verbs),
        ..PolicyRule::default()
    }
}

fn read_paths(urls: &[&str]) -> PolicyRule {
    PolicyRule { non_resource_urls: texts(urls), verbs: texts(&["get"]), ..PolicyRule::default() }
}

fn meta(name: &str, part_of: &[&str]) -> ObjectMeta {
    let mut labels: StringMap =
        [(BOOTSTRAPPING_LABEL.to_owned(), "rbac-defaults".to_owned())].into();
    for role in part_of {
        labels.insert(format!("{AGGREGATE_TO}{role}"), "true".to_owned());
    }
    let annotations = [(AUTO_UPDATE_ANNOTATION.to_owned(), "true".to_owned())].into();
    ObjectMeta { annotations, labels, ..ObjectMeta::named("", name) }
}

fn role(name: &str, part_of: &[&str], rules: Vec<PolicyRule>) -> Object {
    ClusterRole { metadata: meta(name, part_of), rules, ..ClusterRole::default() }.into()
}

/// A role that consists of others. Its rules are there from the start, whoever runs the controller.
fn aggregated(name: &str, part_of: &[&str], parts: &[&str]) -> Object {
    let label = (format!("{AGGREGATE_TO}{name}"), "true".to_owned());
    let selector = LabelSelector::from_labels([label].into());
    let mut rules: Vec<PolicyRule> = parts
        .iter()
        .flat_map(|part| match *part {
            "admin" => admin(),
            "edit" => edit(),
            _ => view(),
        })
        .collect();
    // As its controller writes them.
    rules.sort();
    rules.dedup();
    ClusterRole {
        aggregation_rule: Some(AggregationRule { cluster_role_selectors: vec![selector] }),
        metadata: meta(name, part_of),
        rules,
        ..ClusterRole::default()
    }
    .into()
}

fn binding(role: &str, group: &str) -> Object {
    ClusterRoleBinding {
        metadata: meta(role, &[]),
        role_ref: RoleRef {
            api_group: RBAC_GROUP.to_owned(),
            kind: "ClusterRole".to_owned(),
            name: role.to_owned(),
        },
        subjects: vec![Subject {
            api_group: RBAC_GROUP.to_owned(),
            kind: "Group".to_owned(),
            name: group.to_owned(),
            namespace: String::new(),
        }],
        ..ClusterRoleBinding::default()
    }
    .into()
}
