//! Objects and events as JSON bytes: each object is encoded once per revision however many lists and watches show it, and each
//! event is one line whose bytes all its watches share.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use orchestrator_core::driver::Cluster;
use orchestrator_core::model::{Key, Object, PrinterColumn, Revision};
use orchestrator_core::world::ObjectChange;
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};

use super::memo::Memo;
use crate::negotiate::Format;
use crate::table::{self, IncludeObject};

/// The most bytes of encoded objects that are kept.
const OBJECTS_BYTES_MAX: usize = 8 << 20;
/// The most bytes of events that are kept: watches that keep up ask for the newest.
const LINES_BYTES_MAX: usize = 8 << 20;

/// Encodes objects as the world holds them and what happens to them, and remembers the newest results.
#[derive(Debug)]
pub(super) struct Encoder {
    /// Whose clock tells ages.
    cluster: Cluster,
    /// The version too: custom objects read otherwise in each.
    objects: Memo<(Key, &'static str, Revision)>,
    lines: Memo<LineKey>,
    encoded: Counter,
}

/// The form in which objects are shown.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) format: Format,
    pub(super) include: IncludeObject,
    /// The columns of a custom kind's tables.
    pub(super) columns: Option<Arc<[PrinterColumn]>>,
}

/// What a watch tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Event {
    Added,
    Bookmark,
    Deleted,
    Error,
    Modified,
}

impl Event {
    const fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Bookmark => "BOOKMARK",
            Self::Deleted => "DELETED",
            Self::Error => "ERROR",
            Self::Modified => "MODIFIED",
        }
    }
}

/// Of which change an event is told, how, and in which form. A store gives a revision to one commit, which changes an
/// object once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct LineKey {
    revision: Revision,
    key: Key,
    api_version: &'static str,
    event: Event,
    is_whole: bool,
}

impl Encoder {
    pub(super) fn new(cluster: Cluster, encoded: Counter) -> Self {
        let (objects, lines) = (Memo::new(OBJECTS_BYTES_MAX), Memo::new(LINES_BYTES_MAX));
        Self { cluster, objects, lines, encoded }
    }

    /// Encodes a whole object of the world.
    pub(super) fn object(&self, object: &Object) -> Bytes {
        let key = object.key();
        let name = (key.clone(), key.kind.api_version(), object.meta().resource_version);
        self.objects.get(&name, || self.encode(object))
    }

    /// Encodes an object in the form a list or watch shows it.
    pub(super) fn shaped(&self, object: &Object, shape: &Shape, with_columns: bool) -> Bytes {
        match shape.format {
            Format::Json => self.object(object),
            Format::Metadata => table::partial(object).to_string().into(),
            Format::Table => {
                let own = shape.columns.as_deref();
                let columns =
                    if with_columns { table::columns(object.kind(), own) } else { Value::Null };
                let row = table::row(object, shape.include, own, self.cluster.now().to_time());
                let metadata =
                    json!({ "resourceVersion": object.meta().resource_version.to_string() });
                table::table(&metadata, &columns, vec![row]).to_string().into()
            }
        }
    }

    /// Encodes what a watch tells of a change as a line; `None` of tables, which have ages and so are each watch's own.
    pub(super) fn shared_line(
        &self,
        change: &ObjectChange,
        event: Event,
        object: &Object,
        shape: &Shape,
    ) -> Option<Bytes> {
        let is_whole = match shape.format {
            Format::Json => true,
            Format::Metadata => false,
            Format::Table => return None,
        };
        let key = LineKey {
            revision: change.revision,
            key: change.key.clone(),
            api_version: object.kind().api_version(),
            event,
            is_whole,
        };
        let make = || line(event, &self.told(change, event, object, shape, false));
        Some(self.lines.get(&key, make))
    }

    /// Encodes the object of an event. One that is gone shows its last value, at the revision at which it went: it never was
    /// in the world like this.
    pub(super) fn told(
        &self,
        change: &ObjectChange,
        event: Event,
        object: &Object,
        shape: &Shape,
        with_columns: bool,
    ) -> Bytes {
        if event != Event::Deleted {
            return self.shaped(object, shape, with_columns);
        }
        let mut last = object.clone();
        last.set_revision(change.revision);
        match shape.format {
            Format::Json => self.encode(&last),
            Format::Metadata | Format::Table => self.shaped(&last, shape, with_columns),
        }
    }

    fn encode(&self, object: &Object) -> Bytes {
        self.encoded.inc();
        object.to_json().into()
    }
}

/// Makes the line of an event.
pub(super) fn line(event: Event, object: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(object.len() + 40);
    line.put_slice(br#"{"type":""#);
    line.put_slice(event.name().as_bytes());
    line.put_slice(br#"","object":"#);
    line.put_slice(object);
    line.put_slice(b"}\n");
    line.freeze()
}
