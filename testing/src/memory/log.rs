//! Reading streams and the log.

use std::collections::VecDeque;

use composable_rust_core::event::StoredEvent;
use composable_rust_core::store::{Fingerprint, StreamRow};
use composable_rust_core::{Position, StreamId, Version};
use rand::Rng as _;

use super::state::{Row, State};

impl State {
    pub(super) fn load_with_snapshot(
        &self,
        stream: &StreamId,
        fingerprint: Fingerprint,
    ) -> Vec<StreamRow> {
        let snapshot = self.stream(stream).and_then(|s| s.snapshots.get(&fingerprint)).cloned();
        let after = snapshot.as_ref().map_or(Version::ZERO, |s| s.version);
        let events = self.events_of(stream, after).into_iter().map(StreamRow::Event);
        snapshot.map(StreamRow::Snapshot).into_iter().chain(events).collect()
    }

    pub(super) fn read_log(&mut self, after: &[Position], limit: usize) -> Vec<StoredEvent> {
        let pages = after.iter().filter_map(|position| {
            let rows = &self.partitions.get(usize::from(position.partition))?.rows;
            let start = usize::try_from(position.offset).unwrap_or(usize::MAX).min(rows.len());
            Some(rows[start..].iter().take(limit).map(Row::read).collect())
        });
        let mut pages: Vec<VecDeque<StoredEvent>> = pages.collect();
        let mut shuffled = Vec::with_capacity(pages.iter().map(VecDeque::len).sum());
        loop {
            pages.retain(|page| !page.is_empty());
            if pages.is_empty() {
                return shuffled;
            }
            let chosen = self.rng.random_range(0..pages.len());
            shuffled.extend(pages[chosen].pop_front());
        }
    }

    pub(super) fn heads(&self) -> Vec<Position> {
        self.partitions.iter().map(|p| Position::new(p.partition, p.head())).collect()
    }

    /// Returns `true` if there are events after any of the given positions.
    pub(super) fn is_past(&self, after: &[Position]) -> bool {
        after.iter().any(|position| {
            let partition = self.partitions.get(usize::from(position.partition));
            partition.is_some_and(|partition| partition.head() > position.offset)
        })
    }
}
