//! `Follower`: what becomes of objects, across the ends of single watches.

use std::time::Duration;

use orchestrator_core::model::Kind;
use orchestrator_http::{Client, ClientError, Selector, WatchEvent, WatchStream};

use super::text_at;

/// The pause before a watch that ended is begun anew.
const PAUSE: Duration = Duration::from_millis(100);

/// Follows objects of one kind.
#[derive(Debug)]
pub struct Follower {
    client: Client,
    kind: Kind,
    namespace: Option<String>,
    selector: Selector,
    as_table: bool,
    after: Option<String>,
    stream: Option<WatchStream>,
}

impl Follower {
    /// Follows objects after a revision; with an empty one from now, what there is first.
    pub fn new(
        client: &Client,
        kind: Kind,
        namespace: Option<&str>,
        selector: &Selector,
        after: &str,
    ) -> Self {
        Self {
            client: client.clone(),
            kind,
            namespace: namespace.map(str::to_owned),
            selector: selector.clone(),
            as_table: false,
            after: Some(after.to_owned()).filter(|after| !after.is_empty()),
            stream: None,
        }
    }

    /// Has each object come as a Table of one row.
    pub fn with_tables(self) -> Self {
        Self { as_table: true, ..self }
    }

    /// Waits for the next change. Never a bookmark. A revision that is too old begins anew with what there is.
    pub async fn next(&mut self) -> Result<WatchEvent, ClientError> {
        loop {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => match self.open().await {
                    Ok(stream) => self.stream.insert(stream),
                    Err(error) if error.is_expired() => {
                        self.after = None;
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            match stream.next().await {
                Some(Ok(event)) => {
                    let (is_change, object) = match &event {
                        WatchEvent::Added(object)
                        | WatchEvent::Deleted(object)
                        | WatchEvent::Modified(object) => (true, object),
                        WatchEvent::Bookmark(object) => (false, object),
                    };
                    let revision = text_at(object, "/metadata/resourceVersion");
                    if !revision.is_empty() {
                        self.after = Some(revision.to_owned());
                    }
                    if is_change {
                        return Ok(event);
                    }
                }
                Some(Err(error)) if error.is_expired() => (self.after, self.stream) = (None, None),
                Some(Err(error)) => return Err(error),
                None => {
                    self.stream = None;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn open(&self) -> Result<WatchStream, ClientError> {
        let (namespace, after) = (self.namespace.as_deref(), self.after.as_deref());
        if self.as_table {
            self.client.watch_table(self.kind, namespace, &self.selector, after).await
        } else {
            self.client.watch(self.kind, namespace, &self.selector, after).await
        }
    }
}
