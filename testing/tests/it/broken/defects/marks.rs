//! An inbox that remembers too little or too much.

use std::collections::BTreeMap;
use std::sync::Mutex;

use composable_rust_core::{
    Append, AppendOutcome, EventStore as _, InboxEntry, MessageId, StoredContent, StreamId, Version,
};
use composable_rust_testing::InMemoryEventStore;

use super::super::store::{Defect, Verdicts, poll};

changing!(
    /// Keeps no marks, so that nothing is recognised by them.
    ForgetsMarks,
    |append| append.inbox.clear()
);

/// Takes an append whose marks stand, however, for one that was committed.
pub(crate) struct TrustsMarks;

impl Defect for TrustsMarks {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        let mut verdicts = store.append_events(partition, batch).await?;
        for (verdict, append) in verdicts.iter_mut().zip(batch) {
            if matches!(verdict, AppendOutcome::Duplicate(standing) if standing.len() == append.inbox.len())
            {
                let version = Version::new(store.events(&append.stream).len() as u64);
                *verdict = AppendOutcome::Committed { version, position: None, actual: version };
            }
        }
        Ok(verdicts)
    }
}

/// Compares events by their ids alone.
pub(crate) struct ComparesIds;

impl Defect for ComparesIds {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        let mut batch = batch.to_vec();
        for append in &mut batch {
            let stored = store.events(&append.stream);
            for event in &mut append.events {
                let same = stored.iter().find(|stored| stored.id == event.id);
                if let Some(StoredContent::Present(content)) = same.map(|same| &same.content) {
                    event.content = content.clone();
                }
            }
        }
        store.append_events(partition, &batch).await
    }
}

/// Reports one duplicate of several.
pub(crate) struct ReportsOneDuplicate;

impl Defect for ReportsOneDuplicate {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        let mut verdicts = store.append_events(partition, batch).await?;
        for verdict in &mut verdicts {
            if let AppendOutcome::Duplicate(marks) = verdict {
                marks.truncate(1);
            }
        }
        Ok(verdicts)
    }
}

/// Looks at versions before marks.
pub(crate) struct ComparesVersionsFirst;

impl Defect for ComparesVersionsFirst {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        let mut verdicts = store.append_events(partition, batch).await?;
        for (verdict, append) in verdicts.iter_mut().zip(batch) {
            let actual = Version::new(store.events(&append.stream).len() as u64);
            if matches!(verdict, AppendOutcome::Duplicate(_)) && !append.expected.admits(actual) {
                *verdict = AppendOutcome::Conflict { actual };
            }
        }
        Ok(verdicts)
    }
}

/// Marks keep the version of the whole append, and no digest to speak of.
pub(crate) struct BlursMarks;

impl Defect for BlursMarks {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        let mut batch = batch.to_vec();
        for append in &mut batch {
            let count = u32::try_from(append.events.len()).expect("few events");
            for mark in &mut append.inbox {
                (mark.first_event, mark.event_count) = (0, count);
                mark.digest &= u128::from(u64::MAX >> 1);
            }
        }
        store.append_events(partition, &batch).await
    }
}

/// Keeps one inbox for all streams.
#[derive(Default)]
pub(crate) struct SharesMarks(Mutex<BTreeMap<MessageId, (StreamId, InboxEntry)>>);

impl Defect for SharesMarks {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        let mut seen = self.0.lock().expect("not poisoned");
        for append in batch {
            for mark in &append.inbox {
                match seen.get(&mark.message_id) {
                    Some((stream, mark)) if *stream != append.stream => {
                        return Ok(vec![AppendOutcome::Duplicate(vec![mark.clone()]); batch.len()]);
                    }
                    _ => {}
                }
            }
        }
        let verdicts = poll(store.append_events(partition, batch))?;
        for append in batch {
            for mark in store.marks(&append.stream) {
                seen.insert(mark.message_id, (append.stream.clone(), mark));
            }
        }
        Ok(verdicts)
    }
}
