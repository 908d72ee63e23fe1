//! `orchd wait`: until objects are as they should be.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::bail;
use orchestrator_core::model::Key;
use orchestrator_http::{ClientError, Selector, WatchEvent};
use serde_json::Value;
use tokio::time::Instant;

use super::duration;
use super::json_path::JsonPath;
use super::session::{ClientArgs, Session};
use super::target::{self, Target};
use super::text_at;
use crate::out::{line, usage};

pub const EXAMPLES: &str = "\
Examples:
  orchd wait deployment web --for condition=Available
  orchd wait pods -l app=web --for condition=Ready --timeout 2m
  orchd wait pod/web-5d8f --for delete
  orchd wait pod/job --for jsonpath={.status.phase}=Succeeded";

/// The pause before a watch that ended is begun anew.
const PAUSE: Duration = Duration::from_millis(100);

/// Options of `orchd wait`.
#[derive(Debug, clap::Args)]
pub struct WaitArgs {
    /// What: KIND NAME… or KIND/NAME…, or KIND with -l
    #[arg(required = true, value_name = "WHAT")]
    what: Vec<String>,
    /// What for: condition=TYPE[=STATUS], create, delete, or jsonpath={.PATH}[=VALUE]
    #[arg(long = "for", value_name = "WISH")]
    wish: Wish,
    /// How long at most, such as 90s or 5m; 0 looks once
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    timeout: Duration,
    /// All objects that have these labels now
    #[arg(short = 'l', long, value_name = "SELECTOR", value_parser = super::label_selector)]
    selector: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    Condition { kind: String, status: String },
    Create,
    Delete,
    Field { path: JsonPath, value: Option<String> },
}

impl FromStr for Wish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "create" => Ok(Self::Create),
            None if text == "delete" => Ok(Self::Delete),
            Some(("condition", rest)) => {
                let (kind, status) = rest.split_once('=').unwrap_or((rest, "True"));
                if kind.is_empty() {
                    return Err("which condition? as in condition=Ready".to_owned());
                }
                Ok(Self::Condition { kind: kind.to_owned(), status: status.to_owned() })
            }
            Some(("jsonpath", rest)) => {
                // Quotes that a shell did not take away.
                let rest = rest.replace("'{", "{").replace("}'", "}");
                let end = rest.find('}').map_or(rest.len(), |end| end + 1);
                let (path, rest) = rest.split_at(end);
                let value = match rest.strip_prefix('=') {
                    Some(value) => Some(value.trim_matches(['"', '\'']).to_owned()),
                    None if rest.is_empty() => None,
                    None => return Err(format!("{rest:?}: = and a value belong after the path")),
                };
                Ok(Self::Field { path: JsonPath::parse(path)?, value })
            }
            None | Some(_) => {
                Err("give condition=TYPE, create, delete, or jsonpath={.status.phase}=VALUE"
                    .to_owned())
            }
        }
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Condition { kind, status } if status == "True" => write!(f, "is not {kind}"),
            Self::Condition { kind, status } => write!(f, "has no condition {kind}={status}"),
            Self::Create => f.write_str("does not exist"),
            Self::Delete => f.write_str("still exists"),
            Self::Field { value: Some(value), .. } => write!(f, "has another value than {value:?}"),
            Self::Field { value: None, .. } => f.write_str("has no value there"),
        }
    }
}

impl Wish {
    /// Judges an object, or there being none.
    fn judge(&self, object: Option<&Value>) -> Verdict {
        let is_met = match (self, object) {
            (Self::Create, object) => object.is_some(),
            (Self::Delete, object) => object.is_none(),
            (Self::Condition { .. } | Self::Field { .. }, None) => return Verdict::Hopeless,
            (Self::Condition { kind, status }, Some(object)) => condition(object, kind)
                .is_some_and(|condition| {
                    is_current(object, condition)
                        && text_at(condition, "/status").eq_ignore_ascii_case(status)
                }),
            (Self::Field { path, value }, Some(object)) => match (path.find(object), value) {
                (None | Some(Value::Null), _) => false,
                (Some(_), None) => true,
                (Some(found), Some(value)) => match found.as_str() {
                    Some(found) => found == value,
                    None => serde_json::from_str(value).is_ok_and(|value: Value| value == *found),
                },
            },
        };
        if is_met { Verdict::Met } else { Verdict::NotYet }
    }

    /// What the object says instead, for people.
    fn excuse(&self, object: Option<&Value>) -> String {
        match (self, object) {
            (Self::Delete | Self::Create, _) => String::new(),
            (_, None) => " (it does not exist)".to_owned(),
            (Self::Condition { kind, .. }, Some(object)) => match condition(object, kind) {
                None => " (it has no such condition)".to_owned(),
                Some(condition) if !is_current(object, condition) => {
                    " (its newest version has not been looked at)".to_owned()
                }
                Some(condition) => {
                    let reason = text_at(condition, "/reason");
                    let message = text_at(condition, "/message");
                    let parts: Vec<_> =
                        [reason, message].into_iter().filter(|part| !part.is_empty()).collect();
                    match parts.is_empty() {
                        true => format!(" (it is {})", text_at(condition, "/status")),
                        false => format!(" ({})", parts.join(": ")),
                    }
                }
            },
            (Self::Field { path, .. }, Some(object)) => {
                path.find(object).map(|found| format!(" ({found})")).unwrap_or_default()
            }
        }
    }
}

fn condition<'v>(object: &'v Value, kind: &str) -> Option<&'v Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| text_at(condition, "/type").eq_ignore_ascii_case(kind))
}

/// Whether a condition tells of what the object's spec says now, not of what it said before the last change.
fn is_current(object: &Value, condition: &Value) -> bool {
    let number = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_i64);
    let seen = number(condition, "/observedGeneration")
        .or_else(|| number(object, "/status/observedGeneration"));
    match (seen, number(object, "/metadata/generation")) {
        (Some(seen), Some(generation)) => seen >= generation,
        (None, _) | (_, None) => true,
    }
}

/// Waits.
pub async fn wait(args: WaitArgs) -> anyhow::Result<()> {
    let deadline = Instant::now() + args.timeout;
    let session = Session::open(&args.client)?;
    let keys = match &args.selector {
        None => target::named(&args.what, &session)?,
        Some(selector) => selected(&session, &args.what, selector).await?,
    };
    for key in &keys {
        let shown = target::with_kind(key);
        match until(&session, key, Some(deadline), |object| args.wish.judge(object)).await? {
            Outcome::Met if args.wish == Wish::Delete => line(format_args!("{shown} deleted"))?,
            Outcome::Met => line(format_args!("{shown} condition met"))?,
            Outcome::Hopeless => bail!("{}", session.absence(key)),
            Outcome::TimedOut(last) => bail!(
                "{shown} {} after {}{}; `orchd describe {shown}` tells more",
                args.wish,
                duration::print(args.timeout),
                args.wish.excuse(last.as_ref())
            ),
        }
    }
    Ok(())
}

/// Finds the objects with these labels.
pub async fn selected(
    session: &Session,
    what: &[String],
    selector: &str,
) -> anyhow::Result<Vec<Key>> {
    let mut keys = Vec::new();
    for target in target::parse(what)? {
        let Target::Every(kind) = target else {
            return Err(usage("a selector does not go with a name"));
        };
        let scope = session.scope(kind, false);
        let list = session.client.list(kind, scope, &Selector::labels(selector)).await?;
        let items = list["items"].as_array().into_iter().flatten();
        keys.extend(items.map(|item| session.key(kind, text_at(item, "/metadata/name"))));
    }
    if keys.is_empty() {
        let labels = if selector.is_empty() { "" } else { " with labels " };
        bail!("no {}{labels}{selector} in namespace {:?}", what.join(","), session.namespace);
    }
    Ok(keys)
}

/// What there is to say of an object that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It never will be as it should, such as when it is gone.
    Hopeless,
    /// It is as it should be.
    Met,
    /// It may become so.
    NotYet,
}

/// How waiting ended.
#[derive(Debug)]
pub enum Outcome {
    /// The object never will be as it should.
    Hopeless,
    /// The object is as it should be.
    Met,
    /// Time is over; this is what the object was last.
    TimedOut(Option<Value>),
}

/// Waits until an object, or there being none, is as it should be; without a deadline for ever. Looks at least once.
pub async fn until(
    session: &Session,
    key: &Key,
    deadline: Option<Instant>,
    mut judge: impl FnMut(Option<&Value>) -> Verdict,
) -> Result<Outcome, ClientError> {
    loop {
        let mut last = match session.client.get(key).await {
            Ok(object) => Some(object),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let mut verdict = judge(last.as_ref());
        if verdict == Verdict::NotYet {
            let followed = follow(session, key, &mut last, &mut judge);
            verdict = match deadline {
                None => followed.await?,
                Some(deadline) => match tokio::time::timeout_at(deadline, followed).await {
                    Ok(verdict) => verdict?,
                    Err(_) => return Ok(Outcome::TimedOut(last)),
                },
            };
        }
        match verdict {
            Verdict::Hopeless => return Ok(Outcome::Hopeless),
            Verdict::Met => return Ok(Outcome::Met),
            Verdict::NotYet => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Follows one object in one watch, until there is a verdict or the watch ends.
async fn follow(
    session: &Session,
    key: &Key,
    last: &mut Option<Value>,
    judge: &mut impl FnMut(Option<&Value>) -> Verdict,
) -> Result<Verdict, ClientError> {
    let scope = key.kind.is_namespaced().then_some(&*key.namespace);
    let revision = last.as_ref().map(|last| text_at(last, "/metadata/resourceVersion").to_owned());
    let selector = Selector::name(&key.name);
    let watch = session.client.watch(key.kind, scope, &selector, revision.as_deref()).await;
    let mut watch = match watch {
        Err(error) if error.is_expired() => return Ok(Verdict::NotYet),
        watch => watch?,
    };
    while let Some(event) = watch.next().await {
        match event {
            Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => *last = Some(object),
            Ok(WatchEvent::Deleted(_)) => *last = None,
            Ok(WatchEvent::Bookmark(_)) => continue,
            Err(error) if error.is_expired() => break,
            Err(error) => return Err(error),
        }
        let verdict = judge(last.as_ref());
        if verdict != Verdict::NotYet {
            return Ok(verdict);
        }
    }
    Ok(Verdict::NotYet)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_wish_is_read_and_judged() {
        let object = json!({
            "metadata": { "generation": 2 },
            "status": {
                "phase": "Running", "replicas": 3, "observedGeneration": 2,
                "conditions": [{ "type": "Ready", "status": "False", "reason": "NotYet" }],
            },
        });
        let judge = |wish: &str| Wish::from_str(wish).expect(wish).judge(Some(&object));
        let met = |wish: &str| judge(wish) == Verdict::Met;
        assert!(met("condition=ready=false") && !met("condition=Ready"));
        assert!(met("jsonpath={.status.phase}=Running") && met("jsonpath='{.status.replicas}'=3"));
        assert!(met("jsonpath={.status.phase}") && !met("jsonpath={.status.absent}"));
        assert!(met("create") && !met("delete") && Wish::Delete.judge(None) == Verdict::Met);
        let wish = Wish::from_str("condition=Ready").expect("a wish");
        assert_eq!(wish.excuse(Some(&object)), " (NotYet)");
        assert_eq!(wish.judge(None), Verdict::Hopeless);
        for wrong in ["Ready", "condition=", "jsonpath=", "jsonpath={.a}x", "deleted"] {
            assert!(Wish::from_str(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_condition_of_an_older_version_does_not_count() {
        let mut object = json!({
            "metadata": { "generation": 3 },
            "status": {
                "observedGeneration": 2,
                "conditions": [{ "type": "Available", "status": "True" }],
            },
        });
        let wish = Wish::from_str("condition=Available").expect("a wish");
        assert_eq!(wish.judge(Some(&object)), Verdict::NotYet);
        object["status"]["observedGeneration"] = 3.into();
        assert_eq!(wish.judge(Some(&object)), Verdict::Met);
    }
}
