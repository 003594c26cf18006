//! The operators' stream: who did what, and why.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::str::FromStr;

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::NewEvent;
use composable_rust_core::store::{
    Append, AppendOutcome, EventStore as _, ExpectedVersion, StoreError,
};
use composable_rust_core::{CorrelationId, EventId, Metadata, StreamId, Timestamp, Version};
use composable_rust_runtime::operations::OPERATORS;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Admin, AdminError, Page, StreamQuery};

/// The stored name of the entry that is made before an operation.
const BEGAN: &str = "operators.began";
/// The stored name of the entry with the result of an operation.
const ENDED: &str = "operators.ended";
/// The number of versions that are read at a time. A result that is further from its beginning is
/// not shown.
const STRETCH: u64 = 500;
/// The maximum number of months: of some eighty years.
const MAX_MONTHS: usize = 1_000;

/// An operation that is about to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The name of the operation, as the command line has it.
    pub operation: String,
    /// The thing that it changes.
    pub target: String,
}

impl Intent {
    /// Creates an intent.
    pub fn new(operation: impl Into<String>, target: impl Into<String>) -> Self {
        Self { operation: operation.into(), target: target.into() }
    }
}

/// An operation in the operators' stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    /// The id of the operation.
    pub id: Uuid,
    /// The time at which it began.
    pub at: Timestamp,
    /// The operator.
    pub operator: String,
    /// The reason; empty if none was given.
    pub reason: String,
    /// The operation.
    pub intent: Intent,
    /// The result; `None` if the operation is under way or was interrupted.
    pub result: Option<String>,
}

/// The place at which a page of the operators' entries begins, printed as `STREAM@VERSION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditCursor {
    stream: StreamId,
    /// The version before which the entries of the page began.
    before: u64,
}

impl fmt::Display for AuditCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.stream, self.before)
    }
}

/// A text is not an [`AuditCursor`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the `next` of a page of the audit")]
pub struct InvalidAuditCursor(String);

impl FromStr for AuditCursor {
    type Err = InvalidAuditCursor;

    fn from_str(text: &str) -> Result<Self, InvalidAuditCursor> {
        let parts = text.rsplit_once('@').and_then(|(stream, before)| {
            Some(Self { stream: stream.parse().ok()?, before: before.parse().ok()? })
        });
        parts.ok_or_else(|| InvalidAuditCursor(text.to_owned()))
    }
}

impl Serialize for AuditCursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Serialize, Deserialize)]
struct Began {
    operator: String,
    reason: String,
    #[serde(flatten)]
    intent: Intent,
}

#[derive(Serialize, Deserialize)]
struct Ended {
    result: String,
}

impl Admin {
    /// Makes an operation between two entries in the operators' stream: one before it, and one with
    /// its result, which `operation` returns as its second part. If the first entry cannot be made,
    /// neither is the operation.
    ///
    /// The entry with the result is missing if the operation is dropped, or if the store becomes
    /// unavailable.
    ///
    /// # Errors
    ///
    /// The operation's error, or that of the first entry.
    pub async fn audited<T, F>(
        &self,
        intent: Intent,
        operation: impl FnOnce() -> F,
    ) -> Result<T, AdminError>
    where
        F: Future<Output = Result<(T, String), AdminError>>,
    {
        self.audited_as(Uuid::new_v4(), intent, operation).await
    }

    /// Makes an operation of a given id between two entries.
    pub(crate) async fn audited_as<T, F>(
        &self,
        id: Uuid,
        intent: Intent,
        operation: impl FnOnce() -> F,
    ) -> Result<T, AdminError>
    where
        F: Future<Output = Result<(T, String), AdminError>>,
    {
        // One stream for both entries, also at the end of a month.
        let stream = stream_of(self.store().now().await?);
        let began = Began {
            operator: self.operator.name.clone(),
            reason: self.operator.reason.clone(),
            intent,
        };
        self.enter(&stream, id, BEGAN, &began).await?;
        let done = operation().await;
        let result = match &done {
            Ok((_, result)) => result.clone(),
            Err(error) => format!("failed: {}", crate::content::error_chain(error)),
        };
        if let Err(error) = self.enter(&stream, id, ENDED, &Ended { result }).await {
            tracing::warn!(%error, %id, "failed to record the result of an operation");
        }
        done.map(|(done, _)| done)
    }

    /// Checks that a stream is none of the operators'.
    pub(crate) fn check_not_audit(stream: &StreamId) -> Result<(), AdminError> {
        if stream.category() == OPERATORS {
            return Err(AdminError::OperatorsStream(stream.clone()));
        }
        Ok(())
    }

    async fn enter(
        &self,
        stream: &StreamId,
        operation: Uuid,
        name: &'static str,
        content: &impl Serialize,
    ) -> Result<(), StoreError> {
        let metadata = Metadata {
            correlation_id: CorrelationId(operation),
            causation_id: operation,
            user: Some(self.operator.name.clone()),
            user_from: None,
            traceparent: None,
            return_addresses: Vec::new(),
            reply: None,
            follower: None,
        };
        let event = NewEvent {
            id: EventId(Uuid::new_v4()),
            content: EncodedMessage {
                name: name.into(),
                version: 1,
                codec: "json".into(),
                bytes: serde_json::to_vec(content).unwrap_or_default(),
            },
            metadata: serde_json::to_string(&metadata).unwrap_or_default(),
        };
        let partition = self.log().partition_of(stream);
        let append = Append::new(stream.clone(), ExpectedVersion::Any).with_events(vec![event]);
        match self.store().append_events(partition, &[append]).await?.first() {
            Some(AppendOutcome::Committed { .. }) => Ok(()),
            other => Err(StoreError::Invalid(format!(
                "the operators' stream rejects entries: {other:?}"
            ))),
        }
    }

    /// Returns a page of the operators' entries, newest first.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn audit(
        &self,
        cursor: Option<AuditCursor>,
        limit: usize,
    ) -> Result<Page<AuditEntry, AuditCursor>, AdminError> {
        let months = self.months().await?;
        let mut entries = Vec::new();
        let before = cursor.map(|cursor| (cursor.stream, cursor.before));
        for (stream, last) in months.into_iter().rev() {
            let mut end = match &before {
                Some((of, _)) if *of < stream => continue,
                Some((of, before)) if *of == stream => (*before).min(last.get() + 1),
                _ => last.get() + 1,
            };
            while end > 1 {
                let start = end.saturating_sub(STRETCH).max(1);
                for (entry, version) in self.entries(&stream, start, end).await? {
                    if entries.len() == limit {
                        return Ok(Page {
                            entries,
                            next: Some(AuditCursor { stream, before: end }),
                        });
                    }
                    (end, _) = (version, entries.push(entry));
                }
                end = start;
            }
        }
        Ok(Page::last(entries))
    }

    /// Returns the operators' streams with their versions, the oldest first.
    async fn months(&self) -> Result<Vec<(StreamId, Version)>, AdminError> {
        let query = StreamQuery {
            prefix: format!("{OPERATORS}-"),
            limit: MAX_MONTHS,
            ..StreamQuery::default()
        };
        let months = self.streams(&query).await?.entries;
        Ok(months.into_iter().map(|of| (of.stream, of.version)).collect())
    }

    /// Returns the entries that began at the versions `start` to `end`, exclusive, of a stream,
    /// each with its version and newest first.
    async fn entries(
        &self,
        stream: &StreamId,
        start: u64,
        end: u64,
    ) -> Result<Vec<(AuditEntry, u64)>, AdminError> {
        let span = usize::try_from(end - start + STRETCH).unwrap_or(usize::MAX);
        let after = Version::new(start - 1);
        let events: Vec<_> =
            self.store().load_events(stream, after).take(span).try_collect().await?;
        let mut results = BTreeMap::new();
        let mut entries = Vec::new();
        for event in events.iter().rev() {
            let (Some(metadata), Some(content)) = (event.metadata(), event.content.present())
            else {
                continue;
            };
            let id = metadata.causation_id;
            if event.name() == ENDED {
                if let Ok(Ended { result }) = serde_json::from_slice(&content.bytes) {
                    results.insert(id, result);
                }
            } else if let Ok(Began { operator, reason, intent }) =
                serde_json::from_slice(&content.bytes)
                && event.version.get() < end
            {
                let (at, result) = (event.recorded_at, results.remove(&id));
                let entry = AuditEntry { id, at, operator, reason, intent, result };
                entries.push((entry, event.version.get()));
            }
        }
        Ok(entries)
    }
}

/// Returns the stream of the month of a moment.
fn stream_of(moment: Timestamp) -> StreamId {
    let month: String = moment.to_string().chars().take(7).collect();
    StreamId::new(OPERATORS, &month).unwrap_or_else(|error| unreachable!("{error}: {month}"))
}
