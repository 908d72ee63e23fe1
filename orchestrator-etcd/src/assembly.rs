//! `Assembly`: makes the batches of commits out of the events of a watch. Pure.
//!
//! etcd tells events in the order of revisions and, within one, in the order of the writes; a large answer comes in fragments.
//! Invariant: a batch is yielded whole or not at all. The head, which every commit writes, says how many changes the commit made; if
//! some are missing, a compaction has taken them, and the history is told to be gone.

use orchestrator_core::model::Revision;
use orchestrator_core::store::{Batch, RecordChange};

use crate::layout::{Layout, printed};
use crate::wire::{EventType, KeyValue, WatchResponse};

/// History that is no longer whole: a watch can go on after this revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub oldest: Revision,
}

/// The events of a watch on their way to batches.
#[derive(Debug)]
pub(crate) struct Assembly {
    layout: Layout,
    after: i64,
    group: Group,
}

/// The events of one revision that have come so far.
#[derive(Debug, Default)]
struct Group {
    revision: i64,
    changes: Vec<RecordChange>,
    /// How many events of records there were, readable or not.
    records: usize,
    /// How many there must be.
    announced: Option<usize>,
}

impl Assembly {
    /// Begins after a revision.
    pub(crate) fn new(layout: Layout, after: i64) -> Self {
        Self { layout, after, group: Group::default() }
    }

    /// The revision up to which everything has been yielded: where another watch may go on.
    pub(crate) const fn after(&self) -> i64 {
        self.after
    }

    /// Takes an answer in and appends the commits that are whole with it to `ready`.
    ///
    /// # Errors
    /// [`Gap`] when a part of a commit is missing; those before it are yielded.
    pub(crate) fn handle_response(
        &mut self,
        response: WatchResponse,
        ready: &mut impl Extend<Batch>,
    ) -> Result<(), Gap> {
        let is_progress = response.events.is_empty() && !response.created;
        for event in response.events {
            let is_delete = event.r#type == EventType::Delete as i32;
            let Some(record) = event.kv.filter(|record| record.mod_revision > self.after) else {
                continue;
            };
            if record.mod_revision != self.group.revision {
                self.complete(ready)?;
                self.group.revision = record.mod_revision;
            }
            self.group.add(&self.layout, record, is_delete);
        }
        if !response.fragment {
            self.complete(ready)?;
        }
        if let Some(header) = response.header.filter(|_| is_progress && !response.fragment) {
            // Everything up to there has been told.
            self.after = self.after.max(header.revision);
        }
        Ok(())
    }

    fn complete(&mut self, ready: &mut impl Extend<Batch>) -> Result<(), Gap> {
        let Group { revision: at, changes, records, announced } = std::mem::take(&mut self.group);
        if at == 0 {
            return Ok(());
        }
        self.after = at;
        let revision = self.layout.revision(at);
        match announced {
            Some(wanted) if wanted != records => return Err(Gap { oldest: revision }),
            Some(_) => {}
            None => tracing::warn!(%revision, "somebody else has written this cluster's records"),
        }
        if !changes.is_empty() {
            ready.extend([Batch { revision, changes }]);
        }
        Ok(())
    }
}

impl Group {
    fn add(&mut self, layout: &Layout, record: KeyValue, is_delete: bool) {
        if record.key == layout.head() {
            // Whoever deletes it, or writes something else there, is none of our writers.
            self.announced = std::str::from_utf8(&record.value).ok().and_then(|it| it.parse().ok());
            return;
        }
        self.records += 1;
        match layout.parse(&record.key) {
            Ok(key) => {
                let value = (!is_delete).then_some(record.value);
                self.changes.push(RecordChange { key, value });
            }
            Err(reason) => {
                let key = printed(layout.suffix(&record.key).unwrap_or(&record.key));
                tracing::warn!(key, reason, "a record cannot be read");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use orchestrator_core::model::Key;
    use orchestrator_core::store::RecordKey;

    use super::*;
    use crate::wire::{Event, ResponseHeader};

    fn layout() -> Layout {
        Layout::new("/a")
    }

    fn key(n: usize) -> RecordKey {
        RecordKey::main(Key::pod("default", &format!("p{n}")))
    }

    fn event(key: bytes::Bytes, mod_revision: i64, value: Option<String>) -> Event {
        let kind = if value.is_some() { EventType::Put } else { EventType::Delete };
        let value = value.unwrap_or_default().into();
        Event { r#type: kind.into(), kv: Some(KeyValue { key, mod_revision, value }) }
    }

    fn put(n: usize, revision: i64) -> Event {
        event(layout().record(&key(n)).expect("a name"), revision, Some(format!("v{n}")))
    }

    fn delete(n: usize, revision: i64) -> Event {
        event(layout().record(&key(n)).expect("a name"), revision, None)
    }

    fn head(changes: usize, revision: i64) -> Event {
        event(layout().head(), revision, Some(changes.to_string()))
    }

    fn batch(revision: u64, changes: &[(usize, bool)]) -> Batch {
        let change = |&(n, lives): &(usize, bool)| RecordChange {
            key: key(n),
            value: lives.then(|| format!("v{n}").into()),
        };
        Batch { revision: Revision(revision), changes: changes.iter().map(change).collect() }
    }

    /// Takes answers in, each with whether more of it follows; the batches, and what went wrong.
    fn assemble(
        assembly: &mut Assembly,
        answers: Vec<(Vec<Event>, bool)>,
    ) -> (Vec<Batch>, Result<(), Gap>) {
        let mut ready = Vec::new();
        for (events, fragment) in answers {
            let response = WatchResponse { events, fragment, ..WatchResponse::default() };
            if let Err(gap) = assembly.handle_response(response, &mut ready) {
                return (ready, Err(gap));
            }
        }
        (ready, Ok(()))
    }

    #[test]
    fn commits_come_whole_however_they_are_cut() {
        let events =
            [put(1, 5), delete(2, 5), head(2, 5), put(3, 6), head(1, 6), put(1, 9), head(1, 9)];
        let wanted =
            [batch(5, &[(1, true), (2, false)]), batch(6, &[(3, true)]), batch(9, &[(1, true)])];
        for cuts in 0..1_u32 << (events.len() - 1) {
            let mut answers = vec![(vec![], true)];
            for (n, event) in events.iter().enumerate() {
                answers.last_mut().expect("one").0.push(event.clone());
                if cuts >> n & 1 == 1 {
                    answers.push((vec![], true));
                }
            }
            answers.last_mut().expect("one").1 = false;
            let mut assembly = Assembly::new(layout(), 4);
            assert_eq!(assemble(&mut assembly, answers), (wanted.to_vec(), Ok(())), "{cuts:b}");
            assert_eq!(assembly.after(), 9);
        }
    }

    #[test]
    fn a_commit_of_which_a_part_is_missing_is_a_gap() {
        let mut assembly = Assembly::new(layout(), 4);
        let events = vec![put(1, 5), head(1, 5), put(1, 6), head(2, 6), put(2, 7), head(1, 7)];
        let gap = Gap { oldest: Revision(6) };
        let wanted = (vec![batch(5, &[(1, true)])], Err(gap));
        assert_eq!(assemble(&mut assembly, vec![(events, false)]), wanted);
    }

    #[test]
    fn what_was_told_before_and_commits_without_changes_are_passed_over() {
        let mut assembly = Assembly::new(layout(), 5);
        let events = vec![put(1, 5), head(1, 5), head(0, 6), put(2, 7), head(1, 7)];
        let wanted = vec![batch(7, &[(2, true)])];
        assert_eq!(assemble(&mut assembly, vec![(events, false)]), (wanted, Ok(())));
    }

    #[test]
    fn a_write_of_somebody_else_is_told_and_a_strange_key_is_not() {
        let mut assembly = Assembly::new(layout(), 4);
        let strange = event(layout().with_suffix(b"Cat"), 6, Some(String::new()));
        let events = vec![put(1, 5), put(2, 6), strange, head(2, 6)];
        let wanted = vec![batch(5, &[(1, true)]), batch(6, &[(2, true)])];
        assert_eq!(assemble(&mut assembly, vec![(events, false)]), (wanted, Ok(())));
    }

    #[test]
    fn only_a_notification_of_progress_moves_a_quiet_watch() {
        let mut assembly = Assembly::new(layout(), 4);
        let header = Some(ResponseHeader { cluster_id: 1, revision: 9 });
        let created = WatchResponse { header: header.clone(), created: true, ..Default::default() };
        assert_eq!(assembly.handle_response(created, &mut Vec::new()), Ok(()));
        assert_eq!(assembly.after(), 4);
        let progress = WatchResponse { header, ..WatchResponse::default() };
        assert_eq!(assembly.handle_response(progress, &mut Vec::new()), Ok(()));
        assert_eq!(assembly.after(), 9);
    }
}
