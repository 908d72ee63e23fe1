//! The grammar of paths: from `/apis/apps/v1/namespaces/default/deployments/web/scale` to what it names.

use http::Method;
use orchestrator_core::model::{Key, Kind, is_dns_label, is_dns_subdomain};

use crate::absent::{self, Absent};
use crate::node::NodeCall;
use crate::query::Query;
use crate::registry::{self, Answered, OWN_GROUP, SUBRESOURCES_ABSENT, Subresource, VERSION};
use crate::status::Failure;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// A kind of which there is nothing here: all of it (none), or one.
    Absent { absent: &'static Absent, namespace: Option<String>, name: Option<String> },
    /// Something that is answered and never stored: all of it, or one.
    Answered { answered: &'static Answered, namespace: Option<String>, name: Option<String> },
    /// Copies of the store: one is made.
    Backups,
    /// The objects of a kind; of one namespace, or (with `None`) of all, or of a kind that has no namespaces.
    Collection { kind: Kind, namespace: Option<String> },
    /// `/api`.
    CoreVersions,
    /// `/apis/{group}` of custom kinds.
    CustomGroup { group: String },
    /// `/openapi/v3/apis/{group}/{version}` of custom kinds.
    CustomOpenApi { group: String, version: String },
    /// `/apis/{group}/{version}` of custom kinds.
    CustomResources { group: String, version: String },
    /// Why a pod is where it is.
    Explain { pod: Key },
    /// `/apis/{group}`.
    Group { group: &'static str },
    /// `/apis`.
    Groups,
    /// `/livez`, `/readyz`, `/healthz`.
    Health,
    /// Where agents join that are no nodes yet.
    Join,
    /// Where one more server gets the cluster's keys.
    JoinServer,
    /// Where servers tell one another the keys that seal secrets.
    PeerKeys,
    /// `/metrics`.
    Metrics,
    /// What the agent of a node says.
    Node { node: String, call: NodeCall },
    /// One object.
    Object { key: Key },
    /// `/openapi/v2`.
    OpenApi,
    /// `/openapi/v3`.
    OpenApiIndex,
    /// `/openapi/v3/api/v1` or `/openapi/v3/apis/{group}/{version}`.
    OpenApiOf { group: &'static str },
    /// Where agents show a certificate that is over for a newer one.
    Renewal,
    /// `/api/v1` or `/apis/{group}/{version}`.
    Resources { group: &'static str },
    /// The keys that seal secrets: a new one is made.
    SealingKeys,
    /// Something below an object.
    Sub { key: Key, sub: Subresource },
    /// `/version`.
    Version,
}

impl Route {
    /// Whether a request for it is a watch: its answer goes on for as long as there may be news.
    pub(crate) fn is_watch(&self, method: &Method, query: &Query) -> bool {
        let may_be = matches!(
            self,
            Self::Absent { name: None, .. }
                | Self::Collection { .. }
                | Self::Object { .. }
                | Self::Sub { sub: Subresource::Status, .. }
        );
        may_be && matches!(*method, Method::GET | Method::HEAD) && query.flag("watch") == Some(true)
    }

    /// A word for metrics, the same for every object of a kind.
    pub(crate) const fn resource(&self) -> &'static str {
        match self {
            Self::Absent { absent, .. } => absent.plural,
            Self::Answered { answered, .. } => answered.plural,
            Self::Backups => "backups",
            Self::Collection { kind, .. } => kind.plural(),
            Self::CoreVersions
            | Self::CustomGroup { .. }
            | Self::CustomResources { .. }
            | Self::Group { .. }
            | Self::Groups
            | Self::Resources { .. } => "discovery",
            Self::Explain { .. } => "explain",
            Self::Health => "health",
            Self::Join | Self::JoinServer => "join",
            Self::Metrics => "metrics",
            Self::PeerKeys => "peer-keys",
            Self::Node { call, .. } => call.name(),
            Self::Object { key } | Self::Sub { key, .. } => key.kind.plural(),
            Self::Renewal => "renewal",
            Self::SealingKeys => "sealingkeys",
            Self::CustomOpenApi { .. }
            | Self::OpenApi
            | Self::OpenApiIndex
            | Self::OpenApiOf { .. } => "openapi",
            Self::Version => "version",
        }
    }
}

/// Finds what a path names. Each segment is percent-decoded by itself, so that no name can climb out of its place.
///
/// # Errors
/// 400 for a segment that could never be part of a path, 404 for what is not served, 501 for what Kubernetes has
/// and this server does not.
pub(crate) fn parse(path: &str) -> Result<Route, Failure> {
    let segments = decoded(path)?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["livez" | "readyz" | "healthz"] => Ok(Route::Health),
        ["version"] => Ok(Route::Version),
        ["metrics"] => Ok(Route::Metrics),
        ["openapi", "v2"] => Ok(Route::OpenApi),
        ["openapi", "v3"] => Ok(Route::OpenApiIndex),
        ["openapi", "v3", "api", version] if *version == VERSION => {
            Ok(Route::OpenApiOf { group: "" })
        }
        ["openapi", "v3", "apis", group, version] if *version == VERSION => {
            known_group(group).map(|(group, _)| Route::OpenApiOf { group })
        }
        ["api"] => Ok(Route::CoreVersions),
        ["apis"] => Ok(Route::Groups),
        ["api", version, rest @ ..] if *version == VERSION => {
            absent("", rest).unwrap_or_else(|| in_group("", rest))
        }
        ["apis", group] => known_group(group).map(|(group, _)| Route::Group { group }),
        ["apis", group, version, rest @ ..] => {
            let (group, known) = known_group(group)?;
            match (*version == known, rest) {
                (false, rest) => {
                    answered(group, version, rest).unwrap_or_else(|| Err(Failure::no_such_path()))
                }
                (true, []) => Ok(Route::Resources { group }),
                (true, rest) => answered(group, version, rest)
                    .or_else(|| absent(group, rest))
                    .unwrap_or_else(|| in_group(group, rest)),
            }
        }
        _ => Err(Failure::no_such_path()),
    }
}

/// The segments of a path, each decoded.
pub(crate) fn decoded(path: &str) -> Result<Vec<String>, Failure> {
    let trimmed = path.trim_start_matches('/').trim_end_matches('/');
    trimmed.split('/').map(decode_segment).collect()
}

fn decode_segment(segment: &str) -> Result<String, Failure> {
    let bad = |decoded: &str| {
        Failure::bad_request(format!(
            "{decoded:?} in the path can be no name: at most 253 letters, digits, '-' and '.' make one"
        ))
    };
    let decoded = crate::query::percent_decode(segment)
        .ok_or_else(|| Failure::bad_request(format!("{segment:?} in the path is not UTF-8")))?;
    let climbs = matches!(decoded.as_str(), "." | "..");
    if climbs || decoded.len() > 253 || decoded.contains(['/', '\\', '%']) {
        return Err(bad(&decoded));
    }
    if decoded.chars().any(char::is_control) {
        return Err(bad(&decoded));
    }
    Ok(decoded)
}

/// A group that is served, with its version.
fn known_group(name: &str) -> Result<(&'static str, &'static str), Failure> {
    let found = registry::GROUPS.iter().find(|(group, _)| !group.is_empty() && *group == name);
    found.copied().ok_or_else(Failure::no_such_path)
}

/// Namespace, plural and name.
type Place<'a> = (Option<&'a str>, &'a str, Option<&'a str>);

/// Splits the path of a collection or object; `None` when it is neither.
fn place<'a>(rest: &[&'a str]) -> Option<Place<'a>> {
    match *rest {
        [plural] => Some((None, plural, None)),
        ["namespaces", namespace, plural] => Some((Some(namespace), plural, None)),
        [plural, name] => Some((None, plural, Some(name))),
        ["namespaces", namespace, plural, name] => Some((Some(namespace), plural, Some(name))),
        _ => None,
    }
}

/// Checks that a place is one of a resource, which has namespaces or not.
fn check_place((namespace, _, name): Place<'_>, is_namespaced: bool) -> Result<(), Failure> {
    let is_right = match namespace {
        Some(_) => is_namespaced,
        None => !is_namespaced || name.is_none(),
    };
    if !is_right {
        return Err(Failure::no_such_path());
    }
    namespace.map_or(Ok(()), check_namespace)
}

/// Finds what is answered and never stored; `None` when the path is about something else.
fn answered(group: &str, version: &str, rest: &[&str]) -> Option<Result<Route, Failure>> {
    let place = place(rest)?;
    let (namespace, plural, name) = place;
    let mut all = registry::ANSWERED.iter();
    let answered = all.find(|answered| {
        (answered.group, answered.version, answered.plural) == (group, version, plural)
    })?;
    let (namespace, name) = (namespace.map(str::to_owned), name.map(str::to_owned));
    let checked = check_place(place, answered.is_namespaced);
    Some(checked.map(|()| Route::Answered { answered, namespace, name }))
}

/// Finds a kind of which there is nothing; `None` when the path is about something else.
fn absent(group: &str, rest: &[&str]) -> Option<Result<Route, Failure>> {
    // What is below an object that is not there is no more there than the object.
    let rest = match *rest {
        ["namespaces", _, _, _, _] => rest.get(..4)?,
        ["namespaces", ..] => rest,
        [_, _, _] => rest.get(..2)?,
        _ => rest,
    };
    let place = place(rest)?;
    let (namespace, plural, name) = place;
    let absent = absent::find(group, plural)?;
    let (namespace, name) = (namespace.map(str::to_owned), name.map(str::to_owned));
    let checked = check_place(place, absent.is_namespaced);
    Some(checked.map(|()| Route::Absent { absent, namespace, name }))
}

fn in_group(group: &'static str, rest: &[&str]) -> Result<Route, Failure> {
    match (group, rest) {
        (_, []) => Ok(Route::Resources { group }),
        (OWN_GROUP, ["namespaces", namespace, "pods", name, "explain"]) => {
            Ok(Route::Explain { pod: key(Kind::Pod, namespace, name)? })
        }
        (OWN_GROUP, ["backups"]) => Ok(Route::Backups),
        (OWN_GROUP, ["join"]) => Ok(Route::Join),
        (OWN_GROUP, ["join-server"]) => Ok(Route::JoinServer),
        (OWN_GROUP, ["peer-keys"]) => Ok(Route::PeerKeys),
        (OWN_GROUP, ["renewal"]) => Ok(Route::Renewal),
        (OWN_GROUP, ["nodes", node, call]) => {
            let call = NodeCall::find(call).ok_or_else(Failure::no_such_path)?;
            let node = key(Kind::Node, "", node)?.name.to_string();
            Ok(Route::Node { node, call })
        }
        (OWN_GROUP, ["sealingkeys"]) => Ok(Route::SealingKeys),
        (OWN_GROUP, _) => Err(Failure::no_such_path()),
        ("", ["namespaces", name]) => Ok(Route::Object { key: key(Kind::Namespace, "", name)? }),
        ("", ["namespaces", name, sub]) if registry::find("", sub).is_none() => {
            below(key(Kind::Namespace, "", name)?, sub)
        }
        (_, ["namespaces", namespace, plural, rest @ ..]) => {
            in_resource(kind(group, plural)?, Some(namespace), rest)
        }
        (_, [plural, rest @ ..]) => in_resource(kind(group, plural)?, None, rest),
    }
}

fn kind(group: &str, plural: &str) -> Result<Kind, Failure> {
    let resource = registry::find(group, plural).ok_or_else(Failure::no_such_path)?;
    Ok(resource.kind)
}

fn in_resource(kind: Kind, namespace: Option<&str>, rest: &[&str]) -> Result<Route, Failure> {
    // Behind it goes the path of somebody else, and before it a name may have a scheme and a port.
    if let [_, "proxy", ..] = rest {
        return Err(Failure::not_implemented(&format!("{}/proxy", kind.plural())));
    }
    below_resource(kind, namespace, rest, below)
}

/// Reads the end of the path of a kind: nothing, a name, or a name and what `below` knows below an object.
pub(crate) fn below_resource(
    kind: Kind,
    namespace: Option<&str>,
    rest: &[&str],
    below: impl FnOnce(Key, &str) -> Result<Route, Failure>,
) -> Result<Route, Failure> {
    let is_right = match namespace {
        Some(_) => kind.is_namespaced(),
        None => !kind.is_namespaced() || rest.is_empty(),
    };
    if !is_right {
        return Err(Failure::no_such_path());
    }
    namespace.map_or(Ok(()), check_namespace)?;
    let key = |name| key(kind, namespace.unwrap_or_default(), name);
    match rest {
        [] => Ok(Route::Collection { kind, namespace: namespace.map(str::to_owned) }),
        [name] => Ok(Route::Object { key: key(name)? }),
        [name, sub] => below(key(name)?, sub),
        _ => Err(Failure::no_such_path()),
    }
}

fn below(key: Key, name: &str) -> Result<Route, Failure> {
    let resource = registry::of(key.kind).ok_or_else(Failure::no_such_path)?;
    if let Some(sub) = resource.subresources.iter().find(|sub| sub.name() == name) {
        return Ok(Route::Sub { key, sub: *sub });
    }
    if SUBRESOURCES_ABSENT.contains(&name) {
        return Err(Failure::not_implemented(&format!("{}/{name}", key.kind.plural())));
    }
    Err(Failure::no_such_path())
}

fn key(kind: Kind, namespace: &str, name: &str) -> Result<Key, Failure> {
    if kind.is_namespaced() {
        check_namespace(namespace)?;
    }
    // What is wrong with a name in the form of an ordinary one, the object's own checks tell.
    if !is_dns_subdomain(name) && !kind.may_be_named(name) {
        return Err(Failure::bad_request(format!(
            "{name:?} can be no name of a {kind}: a lower-case RFC 1123 subdomain is needed, such as \"web-1\""
        )));
    }
    Ok(Key::new(kind, namespace, name))
}

fn check_namespace(namespace: &str) -> Result<(), Failure> {
    if is_dns_label(namespace) {
        return Ok(());
    }
    Err(Failure::bad_request(format!(
        "{namespace:?} can be no namespace: a lower-case RFC 1123 label is needed, such as \"default\""
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(path: &str, code: u16) {
        let failure = parse(path).expect_err(path);
        assert_eq!(failure.code.as_u16(), code, "{path}: {}", failure.message);
    }

    #[test]
    fn the_paths_of_kubernetes_name_what_they_name_there() {
        let pod = Key::pod("default", "web-1");
        let check = |path: &str, route: Route| assert_eq!(parse(path), Ok(route), "{path}");
        check("/api/v1/pods", Route::Collection { kind: Kind::Pod, namespace: None });
        check("/api/v1/nodes/n1", Route::Object { key: Key::node("n1") });
        check(
            "/api/v1/nodes/n1.example/status",
            Route::Sub { key: Key::node("n1.example"), sub: Subresource::Status },
        );
        check("/api/v1/namespaces/default/pods/web-1", Route::Object { key: pod.clone() });
        check(
            "/api/v1/namespaces/default/pods/web-1/log",
            Route::Sub { key: pod.clone(), sub: Subresource::Log },
        );
        check("/api/v1/namespaces", Route::Collection { kind: Kind::Namespace, namespace: None });
        check("/api/v1/namespaces/x", Route::Object { key: Key::cluster(Kind::Namespace, "x") });
        check(
            "/api/v1/namespaces/x/status",
            Route::Sub { key: Key::cluster(Kind::Namespace, "x"), sub: Subresource::Status },
        );
        check(
            "/apis/apps/v1/namespaces/x/deployments/",
            Route::Collection { kind: Kind::Deployment, namespace: Some("x".into()) },
        );
        check("/apis/apps/v1", Route::Resources { group: "apps" });
        check(
            "/apis/orchestrator.dev/v1/namespaces/default/pods/web-1/explain",
            Route::Explain { pod },
        );
        check("/api/", Route::CoreVersions);
    }

    #[test]
    fn kinds_that_are_absent_are_told_from_paths_that_never_were() {
        let check = |path: &str, plural: &str, namespace: Option<&str>, name: Option<&str>| {
            let (group, namespace) = (plural.split_once('.'), namespace.map(str::to_owned));
            let (plural, group) = group.unwrap_or((plural, ""));
            let absent = absent::find(group, plural).expect(plural);
            let route = Route::Absent { absent, namespace, name: name.map(str::to_owned) };
            assert_eq!(parse(path), Ok(route), "{path}");
        };
        check("/apis/batch/v1/jobs", "jobs.batch", None, None);
        check("/apis/batch/v1/namespaces/x/jobs", "jobs.batch", Some("x"), None);
        check("/apis/batch/v1/namespaces/x/jobs/a", "jobs.batch", Some("x"), Some("a"));
        check("/apis/batch/v1/namespaces/x/jobs/a/status", "jobs.batch", Some("x"), Some("a"));
        check("/api/v1/namespaces/x/endpoints", "endpoints", Some("x"), None);
        check("/api/v1/persistentvolumes/a", "persistentvolumes", None, Some("a"));
    }

    #[test]
    fn what_is_not_served_is_404_and_what_comes_later_501() {
        for path in [
            "/",
            "/x",
            "/api/v2/pods",
            "/apis/batch/v1beta1/jobs",
            "/apis/batch/v1/gadgets",
            "/apis/batch/v1/namespaces/default/jobs/a/status/x",
            "/api/v1/namespaces/default/persistentvolumes",
            "/api/v1/deployments",
            "/api/v1/gadgets",
            "/api/v1/namespaces/default/nodes",
            "/api/v1/pods/web-1",
            "/apis/apps/v1/namespaces/default",
            "/api/v1/namespaces/default/pods/a/b",
            "/api/v1/namespaces/default/pods/a/log/x",
            "/api//v1/pods",
        ] {
            refused(path, 404);
        }
        for path in
            ["pods/a/proxy", "pods/a:80/proxy/x/y", "services/https:a:web/proxy/", "pods/a/resize"]
        {
            refused(&format!("/api/v1/namespaces/default/{path}"), 501);
        }
        refused("/api/v1/nodes/a/proxy/healthz", 501);
    }

    #[test]
    fn a_name_cannot_climb_out_of_its_place() {
        for name in [
            "..",
            ".",
            "..%2fx",
            "%2e%2e",
            "..%2f..%2fetc",
            "a%00b",
            "a%0ab",
            "A",
            "a_b",
            "%25",
            "a%5cb",
            &"a".repeat(300),
        ] {
            refused(&format!("/api/v1/namespaces/default/pods/{name}"), 400);
            refused(&format!("/api/v1/namespaces/{name}/pods"), 400);
        }
        refused("/api/v1/namespaces/default/pods/%ff", 400);
    }
}
