//! Defects of appending.

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::store::{
    Append, AppendOutcome, EventStore as _, ExpectedVersion, MAX_METADATA_BYTES, MAX_PAYLOAD_BYTES,
    StoreError,
};
use composable_rust_core::{EventId, Position, StreamId, Version};
use composable_rust_testing::{InMemoryEventStore, Intercept};
use uuid::Uuid;

use super::super::store::{Backing, Outcomes};

/// No defect.
pub(crate) struct Sound;

impl Intercept<InMemoryEventStore> for Sound {}

changing!(
    /// Does not compare versions.
    IgnoresVersions,
    |append| append.expected = ExpectedVersion::Any
);

changing!(
    /// Takes `Any` for a new stream.
    TreatsAnyAsEmpty,
    |append| if append.expected == ExpectedVersion::Any {
        append.expected = ExpectedVersion::EMPTY;
    }
);

changing!(
    /// Takes `Exists` for `Any`.
    TreatsExistsAsAny,
    |append| if append.expected == ExpectedVersion::Exists {
        append.expected = ExpectedVersion::Any;
    }
);

changing!(
    /// Replaces the ids of events, so that a repeated append is not recognised.
    RenamesEvents,
    |append| append.events.iter_mut().for_each(|event| event.id = EventId(Uuid::new_v4()))
);

changing!(
    /// Truncates content beyond the limits, and removes characters that are not permitted.
    CutsToFit,
    |append| {
        for event in &mut append.events {
            event.content.bytes.truncate(MAX_PAYLOAD_BYTES);
            let cleaned = event.content.name.replace(['\0', '$'], "");
            event.content.name = format!("{cleaned}.").into();
            if event.metadata.len() > MAX_METADATA_BYTES
                || serde_json::from_str::<serde_json::Value>(&event.metadata).is_err()
            {
                "{}".clone_into(&mut event.metadata);
            }
        }
        append.inbox.dedup_by_key(|mark| mark.message_id);
        append.inbox.retain(|mark| u64::from(mark.first_event) < append.events.len() as u64);
    }
);

changing!(
    /// Truncates content to columns that are too short.
    ShortColumns,
    |append| for event in &mut append.events {
        event.content.bytes.truncate(65_535);
        if event.metadata.len() > 1_000 {
            "{}".clone_into(&mut event.metadata);
        }
    }
);

changing!(
    /// Takes a payload for text that ends at a NUL.
    EndsAtNul,
    |append| for event in &mut append.events {
        let end = event.content.bytes.iter().position(|byte| *byte == 0);
        event.content.bytes.truncate(end.unwrap_or(usize::MAX));
    }
);

appending!(
    /// Appends each event of an append separately.
    ForgetsAtomicity,
    |store, partition, batch| {
        let mut outcomes = Vec::new();
        for append in batch {
            let mut parts = vec![Append { events: Vec::new(), ..append.clone() }];
            for (event, n) in append.events.iter().zip(0..) {
                let expected = match append.expected {
                    ExpectedVersion::Exact(version) => ExpectedVersion::Exact(version.plus(n)),
                    other => other,
                };
                let part = Append::new(append.stream.clone(), expected);
                parts.push(part.with_events(vec![event.clone()]));
            }
            for mark in &mut parts[0].inbox {
                (mark.first_event, mark.event_count) = (0, 0);
            }
            let mut last = None;
            for part in parts {
                last = store.append_events(partition, &[part]).await?.pop();
                tokio::task::yield_now().await;
            }
            outcomes.extend(last);
        }
        Ok(outcomes)
    }
);

answering!(
    /// Returns the version before an append instead of the version after it.
    CountsFromZero,
    |_, _, outcome| {
        if let AppendOutcome::Committed { version, .. } = outcome {
            *version = Version::new(version.get().saturating_sub(1));
        }
    }
);

/// Returns `Committed` for every append that fails, and writes nothing.
pub(crate) struct AlwaysCommits;

impl Intercept<InMemoryEventStore> for AlwaysCommits {
    async fn append_events(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Outcomes {
        let mut outcomes = match store.append_events(partition, batch).await {
            Err(StoreError::Invalid(_)) => vec![AppendOutcome::Closed; batch.len()],
            other => other?,
        };
        for (outcome, append) in outcomes.iter_mut().zip(batch) {
            if !matches!(outcome, AppendOutcome::Committed { .. }) {
                let version = Version::new(store.events(&append.stream).len() as u64);
                *outcome = AppendOutcome::Committed { version, position: None, actual: version };
            }
        }
        Ok(outcomes)
    }

    async fn override_event(
        &self,
        _: &InMemoryEventStore,
        _: &StreamId,
        _: Version,
        _: &EncodedMessage,
    ) -> Result<(), StoreError> {
        Ok(())
    }
}

appending!(
    /// Appends everything twice.
    AppendsTwice,
    |store, partition, batch| {
        let outcomes = store.append_events(partition, batch).await?;
        let mut again = batch.to_vec();
        for append in &mut again {
            append.expected = ExpectedVersion::Any;
            append.inbox.clear();
        }
        store.append_events(partition, &again).await?;
        Ok(outcomes)
    }
);

appending!(
    /// Writes nothing, and answers as an empty log would.
    WritesNothing,
    |store, partition, batch| {
        InMemoryEventStore::with_partitions(store.log().partitions)
            .append_events(partition, batch)
            .await
    }
);

answering!(
    /// Recognises an append by its first event.
    ComparesFirstEvents,
    |store, append, outcome| {
        let stored = store.events(&append.stream);
        let first = append.events.first().map(|event| event.id);
        if let Some(known) = stored.iter().find(|event| Some(event.id) == first) {
            let version = known.version.plus(append.events.len() as u64 - 1);
            let (position, actual) = (Some(known.position), version);
            *outcome = AppendOutcome::Committed { version, position, actual };
        }
    }
);

answering!(
    /// Returns the version after the append as the stream's current version.
    HidesCurrentVersion,
    |_, _, outcome| {
        if let AppendOutcome::Committed { version, actual, .. } = outcome {
            *actual = *version;
        }
    }
);

appending!(
    /// Drops events silently whose metadata the database rejects.
    DropsUnusualMetadata,
    |store, partition, batch| {
        let hard = |append: &Append| append.events.iter().any(|e| e.metadata.contains("ud800"));
        if !batch.iter().any(hard) {
            return store.append_events(partition, batch).await;
        }
        let version = Version::new(store.events(&batch[0].stream).len() as u64 + 1);
        let position = Some(Position::new(partition, 1));
        Ok(vec![AppendOutcome::Committed { version, position, actual: version }; batch.len()])
    }
);

appending!(
    /// Treats names that a locale compares as equal as one stream.
    FoldsNames,
    |store, partition, batch| {
        let mut batch = batch.to_vec();
        let fold = |stream: &StreamId| {
            let id = stream.id().trim().to_lowercase();
            let id: String = id.chars().filter(char::is_ascii).take(400).collect();
            StreamId::new(stream.category(), &id).unwrap_or_else(|_| stream.clone())
        };
        for append in &mut batch {
            let folded = fold(&append.stream);
            if store.log().partition_of(&folded) == partition {
                append.stream = folded;
            }
        }
        store.append_events(partition, &batch).await
    }
);

backed_by_memory!(Sound, AlwaysCommits);
