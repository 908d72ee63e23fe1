//! `Target`: which objects a user means by `pods`, `pod NAME…`, `pod/NAME…` or `pods,deploy`.

use orchestrator_core::model::{Key, Kind};
use orchestrator_http::{kind_by_any_name, short_names};

use super::session::Session;
use crate::out::usage;

/// What is meant when someone says `all`.
const ALL: [Kind; 4] = [Kind::Pod, Kind::Service, Kind::Deployment, Kind::ReplicaSet];

/// Objects that are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every object of a kind.
    Every(Kind),
    /// The object of this name.
    One(Kind, String),
}

impl Target {
    /// The kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Every(kind) | Self::One(kind, _) => *kind,
        }
    }
}

/// Reads arguments.
///
/// # Errors
/// Of usage.
pub fn parse(arguments: &[String]) -> anyhow::Result<Vec<Target>> {
    let Some(first) = arguments.first() else {
        return Err(usage(format!("which kind? {}", kinds())));
    };
    if arguments.iter().any(|argument| argument.contains('/')) {
        return arguments.iter().map(|argument| one(argument)).collect();
    }
    let mut targets = Vec::new();
    let names = &arguments[1..];
    if names.iter().any(String::is_empty) {
        return Err(usage(format!(
            "a name must not be empty; `orchd get {first}` lists what there is"
        )));
    }
    for word in first.split(',') {
        let kinds: &[Kind] = match word.eq_ignore_ascii_case("all") {
            true if names.is_empty() => &ALL,
            true => return Err(usage("\"all\" goes with no name")),
            false => &[kind(word)?],
        };
        for kind in kinds {
            match names {
                [] => targets.push(Target::Every(*kind)),
                names => {
                    targets.extend(names.iter().map(|name| Target::One(*kind, name.clone())));
                }
            }
        }
    }
    Ok(targets)
}

/// Reads arguments that must name objects.
///
/// # Errors
/// Of usage.
pub fn named(arguments: &[String], session: &Session) -> anyhow::Result<Vec<Key>> {
    parse(arguments)?
        .into_iter()
        .map(|target| match target {
            Target::One(kind, name) => Ok(session.key(kind, &name)),
            Target::Every(kind) => Err(usage(format!(
                "which {}? give a name; `orchd get {}` lists them",
                kind.name().to_lowercase(),
                kind.plural()
            ))),
        })
        .collect()
}

/// Reads arguments that must name one object.
///
/// # Errors
/// Of usage.
pub fn single(arguments: &[String], session: &Session) -> anyhow::Result<Key> {
    let mut keys = named(arguments, session)?;
    match (keys.pop(), keys.pop()) {
        (Some(key), None) => Ok(key),
        (_, _) => Err(usage("one object at a time")),
    }
}

/// Reads `KIND/NAME`.
pub fn one(argument: &str) -> anyhow::Result<Target> {
    let wrong = || usage(format!("{argument:?} is not KIND/NAME, such as deployment/web"));
    let (word, name) = argument.split_once('/').ok_or_else(wrong)?;
    if name.is_empty() || name.contains('/') {
        return Err(wrong());
    }
    Ok(Target::One(kind(word)?, name.to_owned()))
}

fn kind(word: &str) -> anyhow::Result<Kind> {
    kind_by_any_name(word).ok_or_else(|| usage(format!("unknown kind {word:?}; {}", kinds())))
}

/// The kinds there are, for people.
fn kinds() -> String {
    let names = Kind::ALL.map(|kind| match short_names(kind) {
        [] => kind.plural().to_owned(),
        short => format!("{} ({})", kind.plural(), short.join(", ")),
    });
    format!("the kinds are {}", names.join(", "))
}

/// The name with its kind, as it is printed and as it can be given: `pod/web-1`, `deployment.apps/web`.
pub fn with_kind(key: &Key) -> String {
    format!("{}/{}", resource(key.kind), key.name)
}

/// The kind with its group, as it is printed: `pod`, `deployment.apps`.
pub fn resource(kind: Kind) -> String {
    let name = kind.name().to_lowercase();
    match kind.group() {
        "" => name,
        group => format!("{name}.{group}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Vec<Target>, String> {
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        parse(&arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn objects_are_meant_in_any_of_the_usual_ways() {
        let one = |kind, name: &str| Target::One(kind, name.to_owned());
        let (pod, deployment) = (Kind::Pod, Kind::Deployment);
        for (arguments, expected) in [
            (&["po"][..], vec![Target::Every(pod)]),
            (&["pods,deploy"], vec![Target::Every(pod), Target::Every(deployment)]),
            (&["Pod", "a", "b"], vec![one(pod, "a"), one(pod, "b")]),
            (&["pod/a", "deployments.apps/b"], vec![one(pod, "a"), one(deployment, "b")]),
            (&["all"], ALL.map(Target::Every).to_vec()),
        ] {
            assert_eq!(parsed(arguments), Ok(expected), "{arguments:?}");
        }
    }

    #[test]
    fn what_is_no_target_says_what_would_be() {
        for (arguments, expected) in [
            (&[][..], "which kind? the kinds are"),
            (
                &["gadgets"],
                "unknown kind \"gadgets\"; the kinds are clusterroles, clusterrolebindings, configmaps (cm)",
            ),
            (&["pod/a", "b"], "\"b\" is not KIND/NAME"),
            (&["pod/"], "is not KIND/NAME"),
            (&["pod/a/b"], "is not KIND/NAME"),
            (&["all", "x"], "goes with no name"),
            (&["pod", ""], "must not be empty; `orchd get pod` lists"),
        ] {
            let error = parsed(arguments).expect_err("no target");
            assert!(error.contains(expected), "{error}");
        }
    }
}
