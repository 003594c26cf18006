//! Searching the log.

use std::collections::BTreeMap;

use composable_rust_core::event::StoredEvent;
use composable_rust_core::store::{EventFilter, EventStore as _, Inspection as _, LogRange};
use composable_rust_core::{CorrelationId, Position, Timestamp};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};

use crate::{Admin, AdminError, EventView, Page};

/// The number of offsets of each partition that one statement examines.
const STRETCH: u64 = 5_000;
/// The number of events of each partition that are read at a time to follow the log.
const FOLLOWED: usize = 500;
/// The number of statements for each partition that one page makes.
const MAX_STRETCHES: usize = 40;

/// A query of events, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// The category of the streams.
    pub category: Option<String>,
    /// A part of the streams' names.
    pub stream_contains: Option<String>,
    /// The stored names, of which any matches. Empty: all names.
    pub names: Vec<String>,
    /// The id of the workflow.
    pub correlation: Option<CorrelationId>,
    /// The time of the oldest events.
    pub since: Option<Timestamp>,
    /// The time before which the newest events were recorded.
    pub until: Option<Timestamp>,
    /// The place at which the page begins: the `next` of the page before.
    pub cursor: Option<EventCursor>,
    /// The maximum number of entries.
    pub limit: usize,
}

/// The place in the log at which a page of a search begins: in each partition, the last offset that
/// is not examined yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventCursor(pub(crate) Vec<Position>);

impl EventCursor {
    /// Returns the number of events of the log that lie before this place.
    pub fn events_before(&self) -> u64 {
        self.0.iter().map(|position| position.offset).fold(0, u64::saturating_add)
    }
}

impl std::fmt::Display for EventCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let positions: Vec<_> = self.0.iter().map(Position::to_string).collect();
        f.write_str(&positions.join(","))
    }
}

impl std::str::FromStr for EventCursor {
    type Err = composable_rust_core::InvalidPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let positions = text.split(',').filter(|part| !part.is_empty());
        Ok(Self(positions.map(str::parse).collect::<Result<_, _>>()?))
    }
}

impl EventQuery {
    fn filter(&self) -> EventFilter {
        EventFilter {
            category: self.category.clone(),
            stream_contains: self.stream_contains.clone(),
            names: self.names.clone(),
            correlation: self.correlation,
        }
    }
}

impl Admin {
    /// Returns a page of events, newest first: those of a partition in the order of the log, those
    /// of different partitions by their times.
    ///
    /// Each page examines at most 200,000 offsets of each partition. A page may therefore be empty
    /// and have a next one.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn events(
        &self,
        query: &EventQuery,
    ) -> Result<Page<EventView, EventCursor>, AdminError> {
        let (found, next) = self.search(query).await?;
        let entries = found.iter().map(|event| self.event_view(event)).collect();
        Ok(Page { entries, next })
    }

    /// Returns the event at a position.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`]: the log has none there. [`AdminError::Store`]: the store cannot be
    /// read. Retry.
    pub async fn event_at(&self, at: Position) -> Result<EventView, AdminError> {
        let before = Position::new(at.partition, at.offset.saturating_sub(1));
        let events = self.store().read_log(&[before], 1).await?;
        let found = events.iter().find(|event| event.position == at);
        let found = found.map(|event| self.event_view(event));
        found.ok_or_else(|| AdminError::not_found("event at", at.to_string()))
    }

    /// Returns the place after the last event of the log, for [`events_after`](Self::events_after).
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn end_of_log(&self) -> Result<EventCursor, AdminError> {
        Ok(EventCursor(self.store().heads().await?))
    }

    /// Returns the events after a place that match a query, oldest first, and the place after them.
    /// The query's times, cursor and limit have no effect: the call examines up to 500 events of
    /// each partition. If the place is the same as before, there are no further events yet.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn events_after(
        &self,
        place: &EventCursor,
        query: &EventQuery,
    ) -> Result<(Vec<EventView>, EventCursor), AdminError> {
        let (filter, mut next) = (query.filter(), place.clone());
        let mut found = self.store().read_log(&place.0, FOLLOWED).await?;
        for event in &found {
            for at in next.0.iter_mut().filter(|at| at.partition == event.position.partition) {
                at.offset = at.offset.max(event.position.offset);
            }
        }
        found.retain(|event| filter.matches(event));
        found.sort_by_key(|event| (event.recorded_at, event.position));
        Ok((found.iter().map(|event| self.event_view(event)).collect(), next))
    }

    pub(crate) async fn search(
        &self,
        query: &EventQuery,
    ) -> Result<(Vec<StoredEvent>, Option<EventCursor>), AdminError> {
        let (filter, deadline) = (query.filter(), self.deadline());
        let first = match query.since {
            Some(since) => self.positions_before(since).await?,
            None => self.log().start_positions(),
        };
        let mut at = match (&query.cursor, query.until) {
            (Some(cursor), _) => cursor.0.clone(),
            (None, Some(until)) => self.positions_before(until).await?,
            (None, None) => self.store().heads().await?,
        };
        let mut found: Vec<StoredEvent> = Vec::new();
        for _ in 0..MAX_STRETCHES {
            let ranges = at.iter().filter_map(|at| range_to(*at, &first)).collect::<Vec<_>>();
            if ranges.is_empty() {
                break;
            }
            let searches = ranges.iter().map(|range| async {
                let events = self.store().search_log(*range, &filter, query.limit).await?;
                let is_cut = events.len() >= query.limit;
                let last = events.last().filter(|_| is_cut).map(|event| event.position.offset - 1);
                let at = Position::new(range.partition, last.unwrap_or(range.after));
                Ok::<_, AdminError>((events, at))
            });
            let results = try_join_all(searches).await?;
            let mut moved: BTreeMap<u16, u64> =
                at.iter().map(|at| (at.partition, at.offset)).collect();
            for (events, at) in results {
                found.extend(events);
                moved.insert(at.partition, at.offset);
            }
            at = moved
                .into_iter()
                .map(|(partition, offset)| Position::new(partition, offset))
                .collect();
            if found.len() >= query.limit || deadline.has_passed() {
                break;
            }
        }
        Ok(cut(found, at, &first, query.limit))
    }

    /// Returns the position in each partition of the last event that was recorded before a moment,
    /// by bisection: the times of a partition rise with its offsets, as far as the clock does.
    pub(crate) async fn positions_before(
        &self,
        moment: Timestamp,
    ) -> Result<Vec<Position>, AdminError> {
        let heads = self.store().heads().await?;
        // The last offset that is known to be before, and the first that is known not to be.
        let mut bounds: Vec<(u64, u64)> = heads.iter().map(|head| (0, head.offset + 1)).collect();
        loop {
            let probes: Vec<Position> = heads
                .iter()
                .zip(&bounds)
                .filter(|(_, (low, high))| high - low > 1)
                .map(|(head, (low, high))| Position::new(head.partition, (low + high) / 2 - 1))
                .collect();
            if probes.is_empty() {
                break;
            }
            let events = self.store().read_log(&probes, 1).await?;
            for (head, (low, high)) in heads.iter().zip(&mut bounds) {
                let middle = low.midpoint(*high);
                if *high - *low <= 1 {
                    continue;
                }
                let event = events.iter().find(|event| event.position.partition == head.partition);
                match event {
                    Some(event) if event.recorded_at < moment => *low = middle,
                    _ => *high = middle,
                }
            }
        }
        let position =
            |(head, (low, _)): (&Position, &(u64, u64))| Position::new(head.partition, *low);
        Ok(heads.iter().zip(&bounds).map(position).collect())
    }
}

/// Returns the stretch of a partition that ends at a position; `None` if nothing is left.
fn range_to(at: Position, first: &[Position]) -> Option<LogRange> {
    let start = first.iter().find(|of| of.partition == at.partition)?.offset;
    (at.offset > start).then(|| LogRange {
        partition: at.partition,
        after: at.offset.saturating_sub(STRETCH).max(start),
        until: at.offset,
    })
}

/// Keeps the latest `limit` events of what was found, and moves the cursor back to the first event
/// that is left out in each partition.
///
/// Events of a partition stay in the order of the log, whatever the clocks did, so that each is on
/// exactly one page.
fn cut(
    found: Vec<StoredEvent>,
    mut at: Vec<Position>,
    first: &[Position],
    limit: usize,
) -> (Vec<StoredEvent>, Option<EventCursor>) {
    let mut partitions: BTreeMap<u16, Vec<StoredEvent>> = BTreeMap::new();
    for event in found {
        partitions.entry(event.position.partition).or_default().push(event);
    }
    for events in partitions.values_mut() {
        events.sort_by_key(|event| event.position);
    }
    let mut kept = Vec::new();
    while kept.len() < limit {
        let time =
            |of: &&mut Vec<StoredEvent>| of.last().map(|event| (event.recorded_at, event.position));
        let latest = partitions.values_mut().max_by_key(time);
        let Some(event) = latest.and_then(Vec::pop) else { break };
        kept.push(event);
    }
    for left_out in partitions.values().filter_map(|events| events.last()) {
        for at in at.iter_mut().filter(|at| at.partition == left_out.position.partition) {
            at.offset = left_out.position.offset;
        }
    }
    let is_left = |at: &Position| {
        first.iter().any(|first| first.partition == at.partition && at.offset > first.offset)
    };
    let next = at.iter().any(is_left).then_some(EventCursor(at));
    (kept, next)
}
