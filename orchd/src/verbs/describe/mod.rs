//! `orchd describe`: everything about an object, for people: what it is, how it does, and what happened to it.

mod node;
mod page;
mod pod;
mod workload;

use anyhow::Context as _;
use orchestrator_core::manifest;
use orchestrator_core::model::{
    Condition, ConditionStatus, Kind, LAST_APPLIED_ANNOTATION, ObjectMeta, Time,
};
use orchestrator_http::{ClientError, Selector, brief_duration};
use serde_json::Value;

use super::session::{ClientArgs, Session};
use super::target::{self, Target};
use super::{events, text_at};
use crate::out::{Stop, remark, text};
use page::Page;

pub const EXAMPLES: &str = "\
Examples:
  orchd describe pod web-5d8f
  orchd describe deployment/web
  orchd describe nodes                  every node";

/// Options of `orchd describe`.
#[derive(Debug, clap::Args)]
pub struct DescribeArgs {
    /// What: KIND, KIND NAME… or KIND/NAME…
    #[arg(required = true, value_name = "WHAT")]
    what: Vec<String>,
    /// Only objects with these labels
    #[arg(
        short = 'l',
        long,
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true
    )]
    selector: String,
    #[command(flatten)]
    client: ClientArgs,
}

/// Describes objects.
pub async fn describe(args: DescribeArgs) -> anyhow::Result<()> {
    let targets = target::parse(&args.what)?;
    let session = Session::open(&args.client)?;
    let mut failed = false;
    let mut count = 0;
    for target in &targets {
        let kind = target.kind();
        let objects = match target {
            Target::One(_, name) => {
                let key = session.key(kind, name);
                match session.client.get(&key).await {
                    Ok(object) => vec![object],
                    Err(error @ ClientError::Refused { .. }) => {
                        failed = true;
                        remark(format_args!("error: {}", session.explain(&key, error)));
                        Vec::new()
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Target::Every(_) => {
                let selector = Selector::labels(args.selector.as_str());
                let scope = session.scope(kind, false);
                let list = session.client.list(kind, scope, &selector).await?;
                list["items"].as_array().cloned().unwrap_or_default()
            }
        };
        for object in objects {
            let between = if count > 0 { "\n\n" } else { "" };
            count += 1;
            text(format!("{between}{}", one(&session, kind, &object).await?))?;
        }
    }
    if count == 0 && !failed {
        let what = args.what.join(" ");
        remark(format_args!("no {what} in namespace {:?}", session.namespace));
    }
    if failed { Err(Stop::Told.into()) } else { Ok(()) }
}

async fn one(session: &Session, kind: Kind, object: &Value) -> anyhow::Result<String> {
    let mut page = Page::default();
    match kind {
        Kind::Deployment => workload::deployment(&mut page, session, object).await?,
        Kind::Node => node::node(&mut page, session, object).await?,
        Kind::Pod => pod::pod(&mut page, object)?,
        Kind::ReplicaSet => workload::replica_set(&mut page, session, object).await?,
        _ => other(&mut page, kind, object)?,
    }
    if kind != Kind::Event {
        happened(&mut page, session, object).await?;
    }
    Ok(page.into_text())
}

/// What every object has.
fn metadata(page: &mut Page, kind: Kind, meta: &ObjectMeta) {
    page.field("Name", &meta.name);
    if kind.is_namespaced() {
        page.field("Namespace", &meta.namespace);
    }
    page.pairs("Labels", &meta.labels);
    let mut annotations = meta.annotations.clone();
    // The whole manifest once more would bury the rest.
    annotations.remove(LAST_APPLIED_ANNOTATION);
    page.pairs("Annotations", &annotations);
    if let Some(at) = meta.creation_timestamp {
        page.field("Created", since(at));
    }
    if let Some(at) = meta.deletion_timestamp {
        let grace = meta.deletion_grace_period_seconds.unwrap_or_default();
        page.field("Deleted", format_args!("to be gone by {at} (grace period {grace} s)"));
    }
    if !meta.finalizers.is_empty() {
        page.field("Finalizers", meta.finalizers.join(", "));
    }
    if let Some(owner) = meta.controller() {
        page.field("Controlled by", format_args!("{}/{}", owner.kind.to_lowercase(), owner.name));
    }
}

/// Kinds without a page of their own: what they hold, as YAML.
fn other(page: &mut Page, kind: Kind, object: &Value) -> anyhow::Result<()> {
    let meta = object.get("metadata").cloned().unwrap_or_default();
    metadata(page, kind, &serde_json::from_value(meta).context("cannot read the metadata")?);
    for (name, value) in object.as_object().into_iter().flatten() {
        if matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        let mut title = name.clone();
        title[..1].make_ascii_uppercase();
        match value {
            Value::Null => {}
            Value::Object(map) if map.is_empty() => {}
            Value::String(text) => page.field(&title, text),
            Value::Bool(_) | Value::Number(_) => page.field(&title, value),
            Value::Object(secrets) if kind == Kind::Secret => {
                page.title(&title);
                for (name, secret) in secrets {
                    let bytes = secret.as_str().map_or(0, decoded_length);
                    page.nested(1, name, format_args!("{bytes} bytes"));
                }
            }
            Value::Array(_) | Value::Object(_) => {
                page.title(&title);
                page.block(&manifest::to_yaml(value));
            }
        }
    }
    Ok(())
}

/// How many bytes base64 text stands for.
fn decoded_length(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

/// The conditions of a status.
fn conditions(page: &mut Page, conditions: impl IntoIterator<Item = Condition>) {
    let rows = conditions.into_iter().map(|condition| {
        vec![
            condition.kind,
            status_word(condition.status).to_owned(),
            condition.last_transition_time.map(age).unwrap_or_default(),
            condition.reason,
            condition.message,
        ]
    });
    page.table("Conditions", &["Type", "Status", "Since", "Reason", "Message"], rows);
}

const fn status_word(status: ConditionStatus) -> &'static str {
    match status {
        ConditionStatus::False => "False",
        ConditionStatus::True => "True",
        ConditionStatus::Unknown => "Unknown",
    }
}

/// What happened to the object lately.
async fn happened(page: &mut Page, session: &Session, object: &Value) -> anyhow::Result<()> {
    let uid = text_at(object, "/metadata/uid");
    let fields = format!("involvedObject.uid={uid}");
    let selector = Selector { fields, ..Selector::default() };
    let list = session.client.list(Kind::Event, None, &selector).await?;
    let table = events::table(&list)?;
    page.title("Events");
    page.block(if table.is_empty() { "none in the last hour\n" } else { &table });
    Ok(())
}

/// The server's own table of the objects of a kind, only those of an owner if there is one to ask for.
async fn table_of(
    session: &Session,
    kind: Kind,
    namespace: Option<&str>,
    selector: &Selector,
    owner: Option<&str>,
) -> Result<Vec<Vec<String>>, ClientError> {
    let table = session.client.table(kind, namespace, selector).await?;
    let rows = table["rows"].as_array().into_iter().flatten();
    Ok(rows
        .filter(|row| {
            let owners = row.pointer("/object/metadata/ownerReferences").and_then(Value::as_array);
            owner.is_none_or(|owner| {
                owners.into_iter().flatten().any(|found| text_at(found, "/uid") == owner)
            })
        })
        .map(|row| {
            let cells = row["cells"].as_array().into_iter().flatten();
            cells
                .map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned))
                .collect()
        })
        .collect())
}

fn age(at: Time) -> String {
    brief_duration(events::now().as_seconds() - at.as_seconds())
}

/// A time with how long ago it was.
fn since(at: Time) -> String {
    format!("{at} ({} ago)", age(at))
}
