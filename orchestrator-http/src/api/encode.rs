//! Objects as JSON bytes, each revision encoded once however many lists and watches show it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use orchestrator_core::model::{Key, Object, Revision};
use serde_json::{Value, json};

use crate::negotiate::Format;
use crate::table::{self, IncludeObject};

/// The most bytes of encoded objects that are kept.
const ENCODED_BYTES_MAX: usize = 8 << 20;

/// Encodes objects as the world holds them, and remembers the newest results.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    encoded: HashMap<(Key, Revision), Bytes>,
    order: VecDeque<(Key, Revision)>,
    bytes: usize,
}

/// The form in which objects are shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) format: Format,
    pub(super) include: IncludeObject,
}

impl Encoder {
    /// Encodes a whole object of the world.
    pub(super) fn object(&self, object: &Object) -> Bytes {
        let name = (object.key(), object.meta().resource_version);
        let lock = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = lock().encoded.get(&name) {
            return bytes.clone();
        }
        let bytes = Bytes::from(encode(object));
        let mut cache = lock();
        if cache.encoded.insert(name.clone(), bytes.clone()).is_none() {
            cache.bytes += bytes.len();
            cache.order.push_back(name);
        }
        while cache.bytes > ENCODED_BYTES_MAX {
            let Some(oldest) = cache.order.pop_front() else { break };
            if let Some(bytes) = cache.encoded.remove(&oldest) {
                cache.bytes -= bytes.len();
            }
        }
        bytes
    }

    /// Encodes an object in the form a list or watch shows it.
    pub(super) fn shaped(&self, object: &Object, shape: Shape, with_columns: bool) -> Bytes {
        match shape.format {
            Format::Json => self.object(object),
            Format::Metadata => table::partial(object).to_string().into(),
            Format::Table => {
                let columns =
                    if with_columns { table::columns(object.kind()) } else { Value::Null };
                let row = table::row(object, shape.include, super::now());
                let metadata =
                    json!({ "resourceVersion": object.meta().resource_version.to_string() });
                table::table(&metadata, &columns, vec![row]).to_string().into()
            }
        }
    }
}

fn encode(object: &Object) -> Vec<u8> {
    serde_json::to_vec(object).expect("maps of the model have string keys")
}

#[cfg(test)]
mod tests {
    use orchestrator_core::model::Pod;

    use super::*;

    #[test]
    fn what_is_remembered_stays_within_its_bound() {
        let encoder = Encoder::default();
        for revision in 1..50 {
            let mut object = Object::from(Pod::new("a", &"x".repeat(400_000)));
            object.set_revision(Revision(revision));
            let bytes = encoder.object(&object);
            assert_eq!(bytes, encoder.object(&object));
        }
        let cache = encoder.cache.lock().expect("no panic");
        assert!(cache.bytes <= ENCODED_BYTES_MAX && cache.encoded.len() == cache.order.len());
        assert!(cache.encoded.len() > 10);
    }
}
