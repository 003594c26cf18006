//! An inbox with missing or wrong entries.

use std::collections::BTreeMap;
use std::sync::Mutex;

use composable_rust_core::event::StoredContent;
use composable_rust_core::queue::InboxEntry;
use composable_rust_core::store::{Append, AppendOutcome, EventStore as _};
use composable_rust_core::{MessageId, StreamId, Version};
use composable_rust_testing::{InMemoryEventStore, Intercept};

use super::super::store::{Backing, Outcomes, poll};

changing!(
    /// Keeps no inbox entries, so that no duplicate is recognised.
    KeepsNoInbox,
    |append| append.inbox.clear()
);

answering!(
    /// Takes an append whose inbox entries exist, in any form, for a committed one.
    TrustsInboxEntries,
    |store, append, outcome| {
        let all = append.inbox.len();
        if matches!(outcome, AppendOutcome::Duplicate(known) if known.len() == all) {
            let version = Version::new(store.events(&append.stream).len() as u64);
            *outcome = AppendOutcome::Committed { version, position: None, actual: version };
        }
    }
);

appending!(
    /// Compares events by their ids alone.
    ComparesIds,
    |store, partition, batch| {
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
);

answering!(
    /// Reports one duplicate of several.
    ReportsOneDuplicate,
    |_, _, outcome| {
        if let AppendOutcome::Duplicate(entries) = outcome {
            entries.truncate(1);
        }
    }
);

answering!(
    /// Checks versions before the inbox.
    ComparesVersionsFirst,
    |store, append, outcome| {
        let actual = Version::new(store.events(&append.stream).len() as u64);
        if matches!(outcome, AppendOutcome::Duplicate(_)) && !append.expected.admits(actual) {
            *outcome = AppendOutcome::Conflict { actual };
        }
    }
);

appending!(
    /// Keeps the version of the whole append in inbox entries, and half of the digest.
    BlursInboxEntries,
    |store, partition, batch| {
        let mut batch = batch.to_vec();
        for append in &mut batch {
            let count = u32::try_from(append.events.len()).expect("few events");
            for entry in &mut append.inbox {
                (entry.first_event, entry.event_count) = (0, count);
                entry.digest &= u128::from(u64::MAX >> 1);
            }
        }
        store.append_events(partition, &batch).await
    }
);

/// Keeps one inbox for all streams.
#[derive(Default)]
pub(crate) struct SharesInbox(Mutex<BTreeMap<MessageId, (StreamId, InboxEntry)>>);

impl Intercept<InMemoryEventStore> for SharesInbox {
    async fn append_events(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Outcomes {
        let mut seen = self.0.lock().expect("no other task panicked");
        for append in batch {
            for entry in &append.inbox {
                match seen.get(&entry.message_id) {
                    Some((stream, entry)) if *stream != append.stream => {
                        return Ok(vec![
                            AppendOutcome::Duplicate(vec![entry.clone()]);
                            batch.len()
                        ]);
                    }
                    _ => {}
                }
            }
        }
        let outcomes = poll(store.append_events(partition, batch))?;
        for append in batch {
            for entry in store.inbox_entries(&append.stream) {
                seen.insert(entry.message_id, (append.stream.clone(), entry));
            }
        }
        Ok(outcomes)
    }
}

backed_by_memory!(SharesInbox);
