//! Appending that goes wrong.

use composable_rust_core::{
    Append, AppendOutcome, EncodedMessage, EventId, EventStore as _, ExpectedVersion,
    MAX_METADATA_BYTES, MAX_PAYLOAD_BYTES, Position, StoreError, StreamId, Version,
};
use composable_rust_testing::InMemoryEventStore;
use uuid::Uuid;

use super::super::store::{Defect, Verdicts};

/// None.
pub(crate) struct Sound;

impl Defect for Sound {}

changing!(
    /// Does not compare versions.
    IgnoresVersions,
    |append| append.expected = ExpectedVersion::Any
);

changing!(
    /// Takes `Any` for a stream that is new.
    TakesAnyForEmpty,
    |append| if append.expected == ExpectedVersion::Any {
        append.expected = ExpectedVersion::EMPTY;
    }
);

changing!(
    /// Takes `Exists` for `Any`.
    TakesExistsForAny,
    |append| if append.expected == ExpectedVersion::Exists {
        append.expected = ExpectedVersion::Any;
    }
);

changing!(
    /// Gives events ids of its own, so that the same append is not recognised.
    RenamesEvents,
    |append| append.events.iter_mut().for_each(|event| event.id = EventId(Uuid::new_v4()))
);

changing!(
    /// Cuts what is too large, and cleans what is not permitted.
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
    /// Has columns that are too short.
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

/// Appends each event of an append on its own.
pub(crate) struct ForgetsAtomicity;

impl Defect for ForgetsAtomicity {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        let mut verdicts = Vec::new();
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
            verdicts.extend(last);
        }
        Ok(verdicts)
    }
}

/// Tells the version before an append for the version after it.
pub(crate) struct CountsFromZero;

impl Defect for CountsFromZero {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        let mut verdicts = store.append_events(partition, batch).await?;
        for verdict in &mut verdicts {
            if let AppendOutcome::Committed { version, .. } = verdict {
                *version = Version::new(version.get().saturating_sub(1));
            }
        }
        Ok(verdicts)
    }
}

/// Says `Committed` of what stood in the way, and writes nothing.
pub(crate) struct SaysYes;

impl Defect for SaysYes {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        let mut verdicts = match store.append_events(partition, batch).await {
            Err(StoreError::Invalid(_)) => vec![AppendOutcome::Closed; batch.len()],
            other => other?,
        };
        for (verdict, append) in verdicts.iter_mut().zip(batch) {
            if !matches!(verdict, AppendOutcome::Committed { .. }) {
                let version = Version::new(store.events(&append.stream).len() as u64);
                *verdict = AppendOutcome::Committed { version, position: None, actual: version };
            }
        }
        Ok(verdicts)
    }

    fn replace(
        &self,
        _: &InMemoryEventStore,
        _: &StreamId,
        _: Version,
        _: &EncodedMessage,
    ) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Appends everything twice.
pub(crate) struct AppendsTwice;

impl Defect for AppendsTwice {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        let verdicts = store.append_events(partition, batch).await?;
        let mut again = batch.to_vec();
        for append in &mut again {
            append.expected = ExpectedVersion::Any;
            append.inbox.clear();
        }
        store.append_events(partition, &again).await?;
        Ok(verdicts)
    }
}

/// Writes nothing at all, and says what it would have said of an empty log.
pub(crate) struct WritesNothing;

impl Defect for WritesNothing {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        InMemoryEventStore::with_partitions(store.log().partitions)
            .append_events(partition, batch)
            .await
    }
}

/// Recognises an append by its first event.
pub(crate) struct ComparesFirstEvents;

impl Defect for ComparesFirstEvents {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        let mut verdicts = store.append_events(partition, batch).await?;
        for (verdict, append) in verdicts.iter_mut().zip(batch) {
            let stored = store.events(&append.stream);
            let first = append.events.first().map(|event| event.id);
            if let Some(known) = stored.iter().find(|event| Some(event.id) == first) {
                let version = known.version.plus(append.events.len() as u64 - 1);
                let (position, actual) = (Some(known.position), version);
                *verdict = AppendOutcome::Committed { version, position, actual };
            }
        }
        Ok(verdicts)
    }
}

/// Says of every append that the stream stands where it ends.
pub(crate) struct HidesWhereTheStreamStands;

impl Defect for HidesWhereTheStreamStands {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        let mut verdicts = store.append_events(partition, batch).await?;
        for verdict in &mut verdicts {
            if let AppendOutcome::Committed { version, actual, .. } = verdict {
                *actual = *version;
            }
        }
        Ok(verdicts)
    }
}

/// Drops an event silently whose metadata its database refuses.
pub(crate) struct ForgetsHardMetadata;

impl Defect for ForgetsHardMetadata {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
        let hard = |append: &Append| append.events.iter().any(|e| e.metadata.contains("ud800"));
        if !batch.iter().any(hard) {
            return store.append_events(partition, batch).await;
        }
        let version = Version::new(store.events(&batch[0].stream).len() as u64 + 1);
        let position = Some(Position::new(partition, 1));
        Ok(vec![AppendOutcome::Committed { version, position, actual: version }; batch.len()])
    }
}

/// Takes names that a locale compares as equal for one stream.
pub(crate) struct FoldsNames;

impl Defect for FoldsNames {
    async fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Verdicts {
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
}
