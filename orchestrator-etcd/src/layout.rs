//! `Layout`: where a cluster's records lie in etcd, what a key there means, and how revisions are counted.
//!
//! Below the prefix `/orchestrator`, say:
//!
//! ```text
//! /orchestrator/fence                            the format; every commit demands its revision
//! /orchestrator/state\0                          the head; every commit writes it, last
//! /orchestrator/state\0Pod\0default\0web\0main   a record
//! ```
//!
//! A NUL stands between the parts of a key, since it sorts before everything that names may contain: the order of etcd's keys
//! then is the order of kinds, namespaces, names and parts. Invariant: decoding what was encoded gives the same key, and whatever
//! else lies there gives an error.

use bytes::Bytes;
use orchestrator_core::model::{Key, Kind, Part, Revision};
use orchestrator_core::store::RecordKey;

/// What stands between the parts of a key.
const SEPARATOR: char = '\0';
const MAIN: &str = "main";
const STATUS: &str = "status";

/// The keys of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// What a revision has above etcd's: a state that took another one's place goes on where that was.
    base: u64,
    fence: Bytes,
    head: Bytes,
    end: Bytes,
}

impl Layout {
    /// Lays a cluster out below a prefix, which has no slash at its end.
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            base: 0,
            fence: format!("{prefix}/fence").into(),
            head: format!("{prefix}/state{SEPARATOR}").into(),
            end: format!("{prefix}/state\u{1}").into(),
        }
    }

    /// The same, with revisions that begin after one.
    pub(crate) fn counting_after(self, base: Revision) -> Self {
        Self { base: base.0, ..self }
    }

    /// A revision of etcd's as one of ours.
    pub(crate) const fn revision(&self, of_etcd: i64) -> Revision {
        Revision(self.base.saturating_add(of_etcd.cast_unsigned()))
    }

    /// One of our revisions as etcd's; 0 and less for those from before the state began.
    pub(crate) fn of_etcd(&self, revision: Revision) -> i64 {
        match revision.0.checked_sub(self.base) {
            Some(counted) => i64::try_from(counted).unwrap_or(i64::MAX - 1),
            None => -1,
        }
    }

    /// The key that says the format, and whose revision every commit demands.
    pub(crate) fn fence(&self) -> Bytes {
        self.fence.clone()
    }

    /// The key that every commit writes; its revision is the newest commit's. It sorts before the records.
    pub(crate) fn head(&self) -> Bytes {
        self.head.clone()
    }

    /// The end, exclusive, of head and records.
    pub(crate) fn end(&self) -> Bytes {
        self.end.clone()
    }

    /// The key of a record.
    ///
    /// # Errors
    /// Why it cannot have one: a name has a NUL in it.
    pub(crate) fn record(&self, key: &RecordKey) -> Result<Bytes, String> {
        let Key { kind, namespace, name } = &key.object;
        if [namespace, name].iter().any(|text| text.contains(SEPARATOR)) {
            return Err(format!("{:?} has a NUL character in its name", key.object.to_string()));
        }
        let part = match key.part {
            Part::Main => MAIN,
            Part::Status => STATUS,
        };
        let mut bytes = self.head.to_vec();
        bytes.extend_from_slice([kind.record_name(), namespace, name, part].join("\0").as_bytes());
        Ok(bytes.into())
    }

    /// What is behind the head in a key of this cluster's state; `None` for a key of something else.
    pub(crate) fn suffix<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        key.strip_prefix(&*self.head)
    }

    /// The key that has `suffix` behind the head.
    pub(crate) fn with_suffix(&self, suffix: &[u8]) -> Bytes {
        [&self.head, suffix].concat().into()
    }

    /// Reads the key of a record back.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(&self, key: &[u8]) -> Result<RecordKey, String> {
        let suffix = self.suffix(key).ok_or("key is none of this cluster's")?;
        let text = std::str::from_utf8(suffix).map_err(|_| "key is not UTF-8")?;
        let parts: Vec<_> = text.split(SEPARATOR).collect();
        let [kind, namespace, name, part] = parts[..] else {
            return Err(format!("key has {} parts, not 4", parts.len()));
        };
        let kind =
            Kind::from_record_name(kind).ok_or_else(|| format!("kind {kind:?} is unknown"))?;
        let part = match part {
            MAIN => Part::Main,
            STATUS => Part::Status,
            other => return Err(format!("part {other:?} is unknown")),
        };
        Ok(RecordKey { object: Key { kind, namespace: namespace.into(), name: name.into() }, part })
    }
}

/// A key for people: what is behind the head, with slashes.
pub(crate) fn printed(suffix: &[u8]) -> String {
    String::from_utf8_lossy(suffix).replace(SEPARATOR, "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout::new("/a")
    }

    fn record(key: &RecordKey) -> Bytes {
        layout().record(key).expect("a good name")
    }

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let custom = Kind::from_record_name("Lamp.lamps.example.com:Namespaced").expect("a kind");
        for key in [
            RecordKey::main(Key::pod("default", "web")),
            RecordKey::status(Key::pod("default", "web")),
            RecordKey::main(Key::node("n1")),
            RecordKey::main(Key::new(custom, "default", "it")),
            RecordKey::main(Key::new(Kind::ClusterRole, "", "system:a/b !\u{e4}")),
        ] {
            assert_eq!(layout().parse(&record(&key)), Ok(key));
        }
    }

    #[test]
    fn keys_sort_as_their_parts_do() {
        let pod = |namespace, name| record(&RecordKey::main(Key::pod(namespace, name)));
        let status = record(&RecordKey::status(Key::pod("a", "b")));
        let sorted = [
            layout().head(),
            record(&RecordKey::main(Key::node("z"))),
            pod("a", "b"),
            status,
            pod("a", "b-c"),
            pod("a", "b.c"),
            pod("a-b", "a"),
            pod("a.b", "a"),
            pod("ab", "a"),
            layout().end(),
        ];
        assert!(sorted.is_sorted(), "{sorted:?}");
    }

    #[test]
    fn clusters_whose_prefixes_lie_in_one_another_share_nothing() {
        let pod = RecordKey::main(Key::pod("default", "web"));
        let outer = layout();
        for prefix in ["/a/b", "/a/state", "/a/state/state", "/ab", "/"] {
            let inner = Layout::new(prefix);
            for key in [inner.fence(), inner.head(), inner.record(&pod).expect("a good name")] {
                assert!(key < outer.head() || key >= outer.end(), "{prefix}: {key:?}");
                assert_ne!(key, outer.fence());
            }
        }
    }

    #[test]
    fn a_strange_key_is_an_error() {
        let head = layout().head();
        for suffix in
            ["", "Pod", "Pod\0a\0b", "Pod\0a\0b\0main\0", "Pod\0a\0b\0x", "Cat\0a\0b\0main"]
        {
            let key = [&head[..], suffix.as_bytes()].concat();
            assert!(layout().parse(&key).is_err(), "{suffix:?}");
        }
        assert!(layout().parse(b"/b/state\0Pod\0a\0b\0main").is_err());
        assert!(layout().parse(b"/a/state\0Pod\0a\0\xff\0main").is_err());
        let name = layout().record(&RecordKey::main(Key::pod("a", "b\0c")));
        assert!(name.expect_err("two names in one").contains("NUL"));
    }

    #[test]
    fn revisions_go_on_above_those_of_the_state_before() {
        let layout = layout().counting_after(Revision(1_000));
        assert_eq!(layout.revision(7), Revision(1_007));
        assert_eq!(layout.of_etcd(Revision(1_007)), 7);
        assert_eq!(layout.of_etcd(Revision(1_000)), 0);
        assert_eq!(layout.of_etcd(Revision(999)), -1, "it was another state's");
        assert_eq!(layout.of_etcd(Revision(u64::MAX)), i64::MAX - 1);
    }
}
