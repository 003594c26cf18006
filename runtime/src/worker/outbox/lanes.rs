//! The rows of the outbox that are in memory, in lanes: a lane has the rows of one queue from one
//! sender to one recipient, which are executed in order.

mod eviction;
mod schedule;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use composable_rust_core::StreamId;
use composable_rust_core::queue::{OutboxRow, Queue, QueuePosition};

pub(crate) use self::schedule::{Class, LaneCapacity};
use self::schedule::{LaneWait, Schedule};

/// The name of a lane.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneKey {
    pub(crate) queue: Queue,
    pub(crate) sender: StreamId,
    pub(crate) recipient: String,
}

impl LaneKey {
    pub(crate) fn of(row: &OutboxRow) -> Self {
        let message = &row.message;
        let (sender, recipient) = (message.sender.clone(), message.row.recipient.clone());
        Self { queue: row.queue.clone(), sender, recipient }
    }
}

/// The lanes of all queues, and the order in which their first rows begin.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    by_key: BTreeMap<LaneKey, Lane>,
    schedule: Schedule,
    /// The lanes whose first rows were evicted and are to be read again.
    requested: BTreeMap<Queue, BTreeMap<QueuePosition, LaneKey>>,
    queues: BTreeMap<Queue, QueueStats>,
    /// The number of rows that were added.
    reads: ReadId,
}

/// The rows of one queue that are in memory.
#[derive(Debug, Default)]
struct QueueStats {
    positions: BTreeSet<QueuePosition>,
    bytes: usize,
    /// The number of rows in blocked lanes.
    blocked_rows: usize,
    /// The size of the rows in blocked lanes.
    blocked_bytes: usize,
    /// The number of lanes that have evicted rows behind their first.
    lanes_with_evicted_rows: usize,
    /// The number of lanes whose first row was evicted.
    evicted_lanes: usize,
    /// The position after which the queue is to be read again.
    rewind_to: Option<QueuePosition>,
}

impl QueueStats {
    fn forget(&mut self, row: &OutboxRow) {
        if self.positions.remove(&row.position) {
            self.bytes = self.bytes.saturating_sub(bytes(row));
        }
    }

    fn rewind(&mut self, position: QueuePosition) {
        self.rewind_to = Some(self.rewind_to.map_or(position, |to| to.min(position)));
    }
}

/// Returns the size of a row.
pub(crate) fn bytes(row: &OutboxRow) -> usize {
    row.message.row.content.bytes.len() + row.message.row.metadata.len()
}

/// Distinguishes two reads of the same row.
pub(crate) type ReadId = u64;

#[derive(Debug, Default)]
struct Lane {
    rows: VecDeque<(ReadId, OutboxRow)>,
    /// The position of the first row, if it was evicted: then no row is in memory.
    evicted_first: Option<QueuePosition>,
    /// The number of the lane's next turn.
    turn: u64,
    /// The number of times that the first row was deferred for reasons that are not its own.
    deferrals: u32,
    /// `true` if the first row waits for a retry.
    is_blocked: bool,
    /// `true` if rows behind these were evicted. Until these are done, no others are added.
    has_evicted_rows: bool,
    wait: LaneWait,
}

impl Lanes {
    /// Returns the number of rows of a queue in memory.
    pub(crate) fn rows(&self, queue: &Queue) -> usize {
        self.queues.get(queue).map_or(0, |of| of.positions.len())
    }

    /// Returns the size of the rows of a queue in memory.
    pub(crate) fn bytes(&self, queue: &Queue) -> usize {
        self.queues.get(queue).map_or(0, |of| of.bytes)
    }

    /// Returns the number of rows of a queue in lanes that are not blocked.
    pub(crate) fn unblocked_rows(&self, queue: &Queue) -> usize {
        self.queues.get(queue).map_or(0, |of| of.positions.len() - of.blocked_rows)
    }

    /// Returns the size of the rows of a queue in lanes that are not blocked.
    pub(crate) fn unblocked_bytes(&self, queue: &Queue) -> usize {
        self.queues.get(queue).map_or(0, |of| of.bytes.saturating_sub(of.blocked_bytes))
    }

    /// Adds a row to the end of its lane, unless it is in memory, or is behind an evicted one.
    pub(crate) fn push(&mut self, row: OutboxRow, now: Duration) {
        let (key, wait) = (LaneKey::of(&row), row.wait);
        let of = self.queues.entry(row.queue.clone()).or_default();
        let lane = self.by_key.get_mut(&key);
        let is_behind_evicted = lane.as_ref().is_some_and(|lane| lane.has_evicted_rows);
        if of.positions.contains(&row.position) || is_behind_evicted {
            return;
        }
        if let Some((first, lane)) = lane.and_then(|lane| Some((lane.evicted_first?, lane))) {
            if row.position > first {
                lane.has_evicted_rows = true;
                of.lanes_with_evicted_rows += 1;
            }
            return;
        }
        self.add(key.clone(), row);
        if self.by_key.get(&key).is_some_and(|lane| lane.rows.len() == 1) {
            self.schedule(key, now, wait);
        }
    }

    fn add(&mut self, key: LaneKey, row: OutboxRow) {
        let of = self.queues.entry(row.queue.clone()).or_default();
        let bytes = bytes(&row);
        of.positions.insert(row.position);
        of.bytes += bytes;
        let lane = self.by_key.entry(key).or_default();
        self.reads += 1;
        lane.rows.push_back((self.reads, row));
        if lane.is_blocked {
            of.blocked_rows += 1;
            of.blocked_bytes += bytes;
        }
    }

    /// Records whether a lane is blocked. The rows of a blocked lane do not keep others from being
    /// read.
    pub(crate) fn set_blocked(&mut self, key: &LaneKey, is_blocked: bool) {
        let Some(lane) = self.by_key.get_mut(key) else { return };
        if std::mem::replace(&mut lane.is_blocked, is_blocked) == is_blocked {
            return;
        }
        let (of, rows) = (self.queues.entry(key.queue.clone()).or_default(), lane.rows.len());
        let size: usize = lane.rows.iter().map(|(_, row)| bytes(row)).sum();
        if is_blocked {
            of.blocked_rows += rows;
            of.blocked_bytes += size;
        } else {
            of.blocked_rows = of.blocked_rows.saturating_sub(rows);
            of.blocked_bytes = of.blocked_bytes.saturating_sub(size);
        }
    }

    /// Returns the first row of a lane.
    pub(crate) fn first(&self, key: &LaneKey) -> Option<(ReadId, &OutboxRow)> {
        let first = self.by_key.get(key).and_then(|lane| lane.rows.front());
        first.map(|(read_id, row)| (*read_id, row))
    }

    fn first_mut(&mut self, key: &LaneKey, read_id: ReadId) -> Option<&mut OutboxRow> {
        let first = self.by_key.get_mut(key).and_then(|lane| lane.rows.front_mut());
        first.filter(|(first, _)| *first == read_id).map(|(_, row)| row)
    }

    /// Returns `true` if this is the first row of its lane. It is not if the lane was removed
    /// since, and maybe read again.
    pub(crate) fn is_first(&self, key: &LaneKey, read_id: ReadId) -> bool {
        self.first(key).is_some_and(|(first, _)| first == read_id)
    }

    /// Returns the rows behind the first of a lane.
    pub(crate) fn behind_first(&self, key: &LaneKey) -> impl Iterator<Item = &OutboxRow> {
        let rows = self.by_key.get(key).into_iter().flat_map(|lane| lane.rows.iter().skip(1));
        rows.map(|(_, row)| row)
    }

    /// Removes the first row of a lane, which is done, so that the next begins.
    pub(crate) fn advance(&mut self, key: &LaneKey, read_id: ReadId, now: Duration) {
        if !self.is_first(key, read_id) {
            return;
        }
        self.set_blocked(key, false);
        let Some(lane) = self.by_key.get_mut(key) else { return };
        lane.deferrals = 0;
        let of = self.queues.get_mut(&key.queue);
        if let (Some((_, row)), Some(of)) = (lane.rows.pop_front(), of) {
            of.forget(&row);
            if lane.rows.is_empty() && lane.has_evicted_rows {
                of.lanes_with_evicted_rows = of.lanes_with_evicted_rows.saturating_sub(1);
                of.rewind(row.position);
            }
        }
        match lane.rows.front() {
            Some((_, next)) => {
                let wait = next.wait;
                self.schedule(key.clone(), now, wait);
            }
            None => {
                self.by_key.remove(key);
            }
        }
    }

    /// Retries the first row of a lane, which has failed `attempts` times, after `backoff`.
    pub(crate) fn retry(
        &mut self,
        key: &LaneKey,
        read_id: ReadId,
        attempts: u32,
        now: Duration,
        backoff: Duration,
    ) {
        if let Some(row) = self.first_mut(key, read_id) {
            row.attempts = attempts;
            self.set_blocked(key, true);
            self.schedule(key.clone(), now, backoff);
        }
    }

    /// Retries the first row of a lane later, for reasons that are not its own.
    pub(crate) fn back_off(
        &mut self,
        key: &LaneKey,
        read_id: ReadId,
        now: Duration,
        backoff: impl FnOnce(u32) -> Duration,
    ) {
        if !self.is_first(key, read_id) {
            return;
        }
        self.set_blocked(key, true);
        if let Some(lane) = self.by_key.get_mut(key) {
            lane.deferrals += 1;
            let backoff = backoff(lane.deferrals);
            self.defer(key.clone(), now, backoff);
        }
    }

    /// Returns the number of times that the first row was deferred by [`back_off`](Self::back_off).
    pub(crate) fn deferrals(&self, key: &LaneKey) -> u32 {
        self.by_key.get(key).map_or(0, |lane| lane.deferrals)
    }

    /// Records that the end of an attempt at the first row is recorded.
    pub(crate) fn attempt_ended(&mut self, key: &LaneKey, read_id: ReadId) {
        if let Some(row) = self.first_mut(key, read_id) {
            row.begun = false;
        }
    }

    /// Keeps the first row of a lane without another turn, so that no other row overtakes it.
    pub(crate) fn set_aside(&mut self, key: &LaneKey, read_id: ReadId) {
        if self.is_first(key, read_id) {
            self.set_blocked(key, true);
        }
    }

    /// Removes a lane, and returns its rows.
    pub(crate) fn remove(&mut self, key: &LaneKey) -> Vec<OutboxRow> {
        self.set_blocked(key, false);
        let Some(lane) = self.by_key.remove(key) else { return Vec::new() };
        if lane.wait == LaneWait::Instance {
            self.schedule.leave_recipient(key);
        }
        let rows: Vec<_> = lane.rows.into_iter().map(|(_, row)| row).collect();
        let Some(of) = self.queues.get_mut(&key.queue) else { return rows };
        let with_evicted = usize::from(lane.has_evicted_rows);
        of.lanes_with_evicted_rows = of.lanes_with_evicted_rows.saturating_sub(with_evicted);
        if let Some(first) = lane.evicted_first {
            of.evicted_lanes = of.evicted_lanes.saturating_sub(1);
            of.rewind(position_before(first));
            return rows;
        }
        for row in &rows {
            of.forget(row);
        }
        if lane.has_evicted_rows {
            of.rewind(rows.last().map(|row| row.position).unwrap_or_default());
        }
        rows
    }

    /// Removes all lanes of a queue.
    pub(crate) fn remove_queue(&mut self, queue: &Queue) {
        self.by_key.retain(|key, _| key.queue != *queue);
        self.queues.remove(queue);
        self.requested.remove(queue);
        self.schedule.remove_queue(queue);
    }
}

/// Returns the last position before another one.
fn position_before(position: QueuePosition) -> QueuePosition {
    match position.index.checked_sub(1) {
        Some(index) => QueuePosition { index, ..position },
        None => QueuePosition { sequence: position.sequence.saturating_sub(1), index: u32::MAX },
    }
}
