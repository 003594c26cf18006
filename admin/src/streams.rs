//! Streams: lists and histories.

use composable_rust_core::store::{EventStore as _, Inspection as _, StreamSummary};
use composable_rust_core::{StreamId, Timestamp, Version};
use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use crate::{Admin, AdminError, EventView, Page};

/// The number of streams that a search examines for one page.
const EXAMINED: usize = 20_000;
/// The number of streams that are read from each partition at a time while a search examines them.
const STRETCH: usize = 500;

/// A query of streams, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamQuery {
    /// The beginning of the names: a category and a hyphen, or more. Empty: all streams.
    pub prefix: String,
    /// A part of the names; empty: any.
    pub contains: String,
    /// The stream after which the page begins.
    pub after: Option<StreamId>,
    /// The maximum number of entries.
    pub limit: usize,
}

/// A stream of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamView {
    /// The stream.
    pub stream: StreamId,
    /// The version: the number of events.
    pub version: Version,
    /// The time of the first event.
    pub created_at: Timestamp,
    /// The time of the last event.
    pub changed_at: Timestamp,
    /// The stored name of the last event.
    pub last_event: String,
}

impl From<StreamSummary> for StreamView {
    fn from(of: StreamSummary) -> Self {
        let StreamSummary { stream, version, created_at, changed_at, last_event } = of;
        Self { stream, version, created_at, changed_at, last_event }
    }
}

impl Admin {
    /// Returns a page of streams, in the order of their names.
    ///
    /// A search for a part of the names examines at most 20,000 streams for each page.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn streams(
        &self,
        query: &StreamQuery,
    ) -> Result<Page<StreamView, StreamId>, AdminError> {
        let (mut entries, deadline) = (Vec::new(), self.deadline());
        let (mut after, mut examined) = (query.after.clone(), 0);
        let is_search = !query.contains.is_empty();
        let stretch = if is_search { STRETCH } else { query.limit.saturating_add(1) };
        loop {
            let found = self.next_streams(&query.prefix, after.as_ref(), stretch).await?;
            let is_last = found.len() < stretch;
            for stream in found {
                if entries.len() >= query.limit {
                    return Ok(Page { entries, next: after });
                }
                after = Some(stream.stream.clone());
                examined += 1;
                if stream.stream.as_str().contains(&query.contains) {
                    entries.push(stream);
                }
            }
            if is_last {
                return Ok(Page::last(entries));
            }
            if examined >= EXAMINED || deadline.has_passed() {
                return Ok(Page { entries, next: after });
            }
        }
    }

    /// Returns the next streams of all partitions, in order, up to `limit`.
    async fn next_streams(
        &self,
        prefix: &str,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<StreamView>, AdminError> {
        let store = self.store();
        let partitions = 0..self.log().partitions;
        let lists = partitions.map(|partition| store.list_streams(partition, prefix, after, limit));
        let mut found = try_join_all(lists).await?.concat();
        found.sort_by(|one, other| one.stream.cmp(&other.stream));
        found.truncate(limit);
        Ok(found.into_iter().map(StreamView::from).collect())
    }

    /// Returns a stream by its name.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`]: the stream has no events. [`AdminError::Store`]: the store cannot
    /// be read. Retry.
    pub async fn stream(&self, stream: &StreamId) -> Result<StreamView, AdminError> {
        let partition = self.log().partition_of(stream);
        let listed = self.store().list_streams(partition, stream.as_str(), None, 1).await?;
        let found = listed.into_iter().find(|of| of.stream == *stream).map(StreamView::from);
        found.ok_or_else(|| AdminError::not_found("stream", stream.as_str()))
    }

    /// Returns a page of the events of a stream after a version, in order.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry. [`AdminError::NotFound`]: the stream
    /// has no events.
    pub async fn history(
        &self,
        stream: &StreamId,
        after: Version,
        limit: usize,
    ) -> Result<Page<EventView, Version>, AdminError> {
        let events = self.store().load_events(stream, after).take(limit.saturating_add(1));
        let mut events: Vec<_> = events.try_collect().await?;
        if events.is_empty() && after == Version::ZERO {
            return Err(AdminError::not_found("stream", stream.as_str()));
        }
        let has_more = events.len() > limit;
        events.truncate(limit);
        let next = events.last().filter(|_| has_more).map(|event| event.version);
        Ok(Page { entries: events.iter().map(|event| self.event_view(event)).collect(), next })
    }
}
