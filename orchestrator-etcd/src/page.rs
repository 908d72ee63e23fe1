//! Listings: pages of records at one revision, and tokens that any store on the same state understands. Pure.

use orchestrator_core::model::Revision;
use orchestrator_core::store::{Page, PageToken, Quarantined, Record};

use crate::layout::{Layout, printed};
use crate::wire::{KeyValue, RangeRequest, RangeResponse};

/// How a token begins.
const MARK: &str = "e1";

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The revision of etcd's at which every page is read.
    pub read_at: i64,
    /// The newest commit at that time.
    pub revision: Revision,
    /// What is behind the head in the last key of the page before.
    pub last: Vec<u8>,
}

impl Position {
    /// Reads a token back; `None` if it is none.
    pub(crate) fn parse(layout: &Layout, token: &PageToken) -> Option<Self> {
        let parts: Vec<_> = token.0.split('-').collect();
        let [MARK, read_at, revision, last] = parts[..] else { return None };
        let read_at: i64 = read_at.parse().ok().filter(|at| *at > 0)?;
        let revision = Revision(revision.parse::<u64>().ok()?);
        let last = parse_hex(last)?;
        (revision <= layout.revision(read_at)).then_some(Self { read_at, revision, last })
    }

    fn token(&self) -> PageToken {
        let Self { read_at, revision, last } = self;
        let last: String = last.iter().map(|byte| format!("{byte:02x}")).collect();
        PageToken(format!("{MARK}-{read_at}-{revision}-{last}"))
    }
}

/// Asks for the records after `last`, which is empty for the first page, at revision `read_at`, or the newest for 0.
pub(crate) fn request(
    layout: &Layout,
    last: &[u8],
    read_at: i64,
    records_max: usize,
) -> RangeRequest {
    // The next key that can be: the head itself is no record.
    let key = layout.with_suffix(&[last, b"\0"].concat());
    let limit = i64::try_from(records_max).unwrap_or(i64::MAX);
    RangeRequest {
        key,
        range_end: layout.end(),
        limit,
        revision: read_at,
        ..RangeRequest::default()
    }
}

/// Makes the page of etcd's answer.
pub(crate) fn page(
    layout: &Layout,
    read_at: i64,
    newest: Revision,
    response: RangeResponse,
) -> Page {
    let mut page = Page { revision: newest, ..Page::default() };
    if response.more
        && let Some(last) = response.kvs.last().and_then(|record| layout.suffix(&record.key))
    {
        page.next = Some(Position { read_at, revision: newest, last: last.to_owned() }.token());
    }
    for KeyValue { key, mod_revision, value } in response.kvs {
        match layout.parse(&key) {
            Ok(key) => {
                page.records.push(Record { key, revision: layout.revision(mod_revision), value })
            }
            Err(reason) => {
                let key = printed(layout.suffix(&key).unwrap_or(&key));
                tracing::warn!(key, reason, "a record cannot be read");
                let revision = Some(layout.revision(mod_revision));
                page.quarantined.push(Quarantined { key, reason, revision });
            }
        }
    }
    page
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    if text.is_empty()
        || !text.len().is_multiple_of(2)
        || !text.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return None;
    }
    let digits = text.as_bytes().chunks_exact(2);
    let digits = digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written() {
        let position = Position { read_at: 9, revision: Revision(7), last: b"Pod\0\xff-".into() };
        assert_eq!(Position::parse(&Layout::new("/a"), &position.token()), Some(position));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in [
            "",
            "e1",
            "e1-9-7-",
            "e1-9-7-0",
            "e1-9-7-0g",
            "e1-0-0-00",
            "e1-7-9-00",
            "e2-9-7-00",
            "e1--9-7-00",
            "e1-9-7-00-00",
            "e1-9-7-+1",
            "e1-9-7-\u{e4}",
        ] {
            assert_eq!(
                Position::parse(&Layout::new("/a"), &PageToken(text.to_owned())),
                None,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_page_goes_on_after_its_last_key_and_sets_strange_ones_aside() {
        let layout = Layout::new("/a");
        let record = |suffix: &str| KeyValue {
            key: layout.with_suffix(suffix.as_bytes()),
            mod_revision: 3,
            value: "v".into(),
        };
        let kvs = vec![record("Pod\0a\0b\0main"), record("Pod\0a\0b\0strange")];
        let page = page(&layout, 9, Revision(7), RangeResponse { header: None, kvs, more: true });
        assert_eq!(
            (page.revision, page.records.len(), page.quarantined.len()),
            (Revision(7), 1, 1)
        );
        assert_eq!(page.quarantined[0].key, "Pod/a/b/strange");
        let next = Position::parse(&layout, &page.next.expect("there is more")).expect("a token");
        let request = request(&layout, &next.last, next.read_at, 5);
        assert_eq!(&request.key[..], b"/a/state\0Pod\0a\0b\0strange\0");
        assert_eq!((request.revision, request.limit), (9, 5));
    }
}
