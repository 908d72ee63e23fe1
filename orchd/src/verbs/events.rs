//! `orchd events`: what happened, the newest last.

use anyhow::Context as _;
use orchestrator_core::model::{Event, EventType, Kind, Time};
use orchestrator_http::{Selector, WatchEvent, brief_duration};
use serde_json::Value;

use super::columns::Columns;
use super::follow::Follower;
use super::session::{ClientArgs, Session};
use super::target::{self, Target};
use super::text_at;
use crate::out::{remark, text, usage, while_read};

pub const EXAMPLES: &str = "\
Examples:
  orchd events
  orchd events -A -w
  orchd events --for deployment/web
  orchd events --type Warning

An event is kept for an hour after it last happened.";

/// The columns of events.
const HEADER: [&str; 6] = ["Last seen", "Type", "Reason", "Object", "Count", "Message"];

/// Options of `orchd events`.
#[derive(Debug, clap::Args)]
pub struct EventsArgs {
    /// Only what happened to this object
    #[arg(long = "for", value_name = "KIND/NAME")]
    object: Option<String>,
    /// Only this sort: Normal or Warning
    #[arg(long = "type", value_name = "TYPE", value_parser = ["Normal", "Warning"], ignore_case = true)]
    sort: Option<String>,
    /// In every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Go on with what happens
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Prints events.
pub async fn events(args: EventsArgs) -> anyhow::Result<()> {
    let mut fields = Vec::new();
    let mut everywhere = args.all_namespaces;
    if let Some(object) = &args.object {
        let Target::One(kind, name) = target::one(object)? else {
            return Err(usage("--for takes KIND/NAME"));
        };
        fields.push(format!("involvedObject.kind={kind},involvedObject.name={name}"));
        // What has no namespace has its events in the namespace "default".
        everywhere |= !kind.is_namespaced();
    }
    if let Some(sort) = &args.sort {
        let warning = sort.eq_ignore_ascii_case("warning");
        fields.push(format!("type={}", if warning { "Warning" } else { "Normal" }));
    }
    let selector = Selector { fields: fields.join(","), ..Selector::default() };
    let session = Session::open(&args.client)?;
    let scope = session.scope(Kind::Event, everywhere);
    let list = session.client.list(Kind::Event, scope, &selector).await?;
    let events = read(&list)?;
    if events.is_empty() && !args.watch {
        let hint = if everywhere { "" } else { "; -A shows all namespaces" };
        remark(format_args!("no events in the last hour{hint}"));
        return Ok(());
    }
    let (header, rows) = rows(&events, args.all_namespaces);
    let mut columns = Columns::default();
    columns.fit(&header);
    rows.iter().for_each(|row| columns.fit(row));
    text(std::iter::once(&header).chain(&rows).map(|row| columns.line(row)).collect::<String>())?;
    if !args.watch {
        return Ok(());
    }
    let revision = text_at(&list, "/metadata/resourceVersion");
    let mut follower = Follower::new(&session.client, Kind::Event, scope, &selector, revision);
    while_read(async {
        loop {
            if let WatchEvent::Added(event) | WatchEvent::Modified(event) = follower.next().await? {
                let event: Event = serde_json::from_value(event).context("cannot read an event")?;
                let row = row(&event, args.all_namespaces, now());
                columns.fit(&row);
                text(columns.line(&row))?;
            }
        }
    })
    .await
}

/// Lays out a list of events as a table.
pub fn table(list: &Value) -> anyhow::Result<String> {
    let events = read(list)?;
    if events.is_empty() {
        return Ok(String::new());
    }
    let (header, rows) = rows(&events, false);
    let header: Vec<_> = header.iter().map(String::as_str).collect();
    Ok(Columns::layout(&header, &rows))
}

/// Reads a list of events, in the order in which they last happened. Times are whole seconds; within one, that is the
/// order in which they were recorded.
fn read(list: &Value) -> anyhow::Result<Vec<Event>> {
    let items = list["items"].clone();
    let mut events: Vec<Event> = serde_json::from_value(items).context("cannot read the events")?;
    events.sort_by_key(|event| (last_seen(event), event.metadata.resource_version));
    Ok(events)
}

fn rows(events: &[Event], with_namespace: bool) -> (Vec<String>, Vec<Vec<String>>) {
    let namespace = with_namespace.then_some("Namespace");
    let header = namespace.into_iter().chain(HEADER).map(str::to_uppercase).collect();
    let now = now();
    (header, events.iter().map(|event| row(event, with_namespace, now)).collect())
}

fn row(event: &Event, with_namespace: bool, now: Time) -> Vec<String> {
    let seen = last_seen(event)
        .map(|at| brief_duration(now.as_seconds() - at.as_seconds()))
        .unwrap_or_default();
    let sort = match event.kind {
        EventType::Normal => "Normal",
        EventType::Warning => "Warning",
    };
    let object = &event.involved_object;
    let namespace = with_namespace.then(|| event.metadata.namespace.clone());
    let cells = [
        seen,
        sort.to_owned(),
        event.reason.clone(),
        format!("{}/{}", object.kind.to_lowercase(), object.name),
        event.count.max(1).to_string(),
        event.message.clone(),
    ];
    namespace.into_iter().chain(cells).collect()
}

fn last_seen(event: &Event) -> Option<Time> {
    event.last_timestamp.or(event.metadata.creation_timestamp)
}

/// The time by the clock of this machine.
pub fn now() -> Time {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time::from_seconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_in_the_order_in_which_they_happened_within_a_second_too() {
        let event = |name: &str, revision: &str, at: &str| {
            json!({
                "metadata": { "name": name, "resourceVersion": revision },
                "lastTimestamp": at,
            })
        };
        let (second, next) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z");
        let list = json!({ "items": [
            event("a", "10", second), event("b", "9", second), event("c", "8", next),
        ] });
        let events = read(&list).expect("events");
        let names: Vec<_> = events.iter().map(|event| event.metadata.name.as_str()).collect();
        assert_eq!(names, ["b", "a", "c"]);
    }
}
