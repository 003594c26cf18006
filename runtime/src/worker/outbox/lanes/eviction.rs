//! Evicting the rows of blocked lanes, and reading them again.

use std::collections::BTreeMap;
use std::time::Duration;

use composable_rust_core::queue::{OutboxRow, Queue, QueuePosition};

use super::schedule::LaneWait;
use super::{LaneKey, Lanes, bytes, position_before};

impl Lanes {
    /// Evicts the rows of all blocked lanes of a queue, except for the first rows of lanes that
    /// have their turn. They are read again when their lane has its turn.
    pub(crate) fn evict(&mut self, queue: &Queue) {
        let Some(of) = self.queues.get_mut(queue) else { return };
        for (_, lane) in self.by_key.iter_mut().filter(|(key, _)| key.queue == *queue) {
            if !lane.is_blocked || lane.rows.is_empty() {
                continue;
            }
            if lane.rows.len() > 1 && !std::mem::replace(&mut lane.has_evicted_rows, true) {
                of.lanes_with_evicted_rows += 1;
            }
            let kept = usize::from(lane.wait == LaneWait::Nothing);
            if let Some((_, first)) = lane.rows.front().filter(|_| kept == 0) {
                lane.evicted_first = Some(first.position);
                of.evicted_lanes += 1;
            }
            for (_, row) in lane.rows.drain(kept..) {
                of.forget(&row);
                of.blocked_rows = of.blocked_rows.saturating_sub(1);
                of.blocked_bytes = of.blocked_bytes.saturating_sub(bytes(&row));
            }
        }
    }

    /// Returns `true` if evicted rows of a queue still wait.
    pub(crate) fn has_evicted(&self, queue: &Queue) -> bool {
        let has_evicted =
            |of: &super::QueueStats| of.lanes_with_evicted_rows > 0 || of.evicted_lanes > 0;
        self.queues.get(queue).is_some_and(has_evicted)
    }

    /// Returns the number of lanes of a queue whose first row was evicted.
    pub(crate) fn evicted_lanes(&self, queue: &Queue) -> usize {
        self.queues.get(queue).map_or(0, |of| of.evicted_lanes)
    }

    /// Takes the position after which a queue is to be read again.
    pub(crate) fn take_rewind(&mut self, queue: &Queue) -> Option<QueuePosition> {
        self.queues.get_mut(queue)?.rewind_to.take()
    }

    /// Requests the first row of a lane, which was evicted.
    pub(crate) fn request_first(&mut self, key: LaneKey) {
        if let Some(position) = self.by_key.get(&key).and_then(|lane| lane.evicted_first) {
            self.requested.entry(key.queue.clone()).or_default().insert(position, key);
        }
    }

    /// Returns the position before the first requested row of a queue.
    pub(crate) fn requested_after(&self, queue: &Queue) -> Option<QueuePosition> {
        let (position, _) = self.requested.get(queue)?.first_key_value()?;
        Some(position_before(*position))
    }

    /// Takes back requested rows from `rows`: those after a position, read with a limit.
    pub(crate) fn restore(
        &mut self,
        queue: &Queue,
        rows: impl IntoIterator<Item = OutboxRow>,
        limit: usize,
        now: Duration,
    ) {
        let Some(mut requested) = self.requested.remove(queue) else { return };
        let (mut count, mut last) = (0, QueuePosition::default());
        for row in rows {
            (count, last) = (count + 1, row.position);
            let Some(key) = requested.remove(&row.position) else { continue };
            if !self.is_evicted_at(&key, row.position) {
                continue;
            }
            if let Some(lane) = self.by_key.get_mut(&key) {
                lane.evicted_first = None;
            }
            let of = self.queues.entry(key.queue.clone()).or_default();
            of.evicted_lanes = of.evicted_lanes.saturating_sub(1);
            self.add(key.clone(), row);
            self.schedule(key, now, Duration::ZERO);
        }
        let later = if count < limit { BTreeMap::new() } else { requested.split_off(&last) };
        // The other requested rows are gone: the rows behind them are read.
        for (position, key) in requested {
            if self.is_evicted_at(&key, position) {
                self.remove(&key);
            }
        }
        if !later.is_empty() {
            self.requested.insert(queue.clone(), later);
        }
    }

    fn is_evicted_at(&self, key: &LaneKey, position: QueuePosition) -> bool {
        self.by_key.get(key).is_some_and(|lane| lane.evicted_first == Some(position))
    }
}
