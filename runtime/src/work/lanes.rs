//! The rows of the outbox that are in memory: a lane for each sender and recipient, worked in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use composable_rust_core::{OutboxRow, Queue, QueuePlace, StreamId};

/// Names a lane: the queue, the sender, the recipient.
pub(crate) type LaneKey = (Queue, StreamId, String);

pub(crate) fn lane_of(row: &OutboxRow) -> LaneKey {
    (row.queue.clone(), row.queued.stream.clone(), row.queued.row.recipient.clone())
}

/// The lanes of all queues, and which of them can go on.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    by_key: BTreeMap<LaneKey, Lane>,
    ready: VecDeque<LaneKey>,
    delayed: BTreeSet<(Duration, LaneKey)>,
    places: BTreeMap<Queue, BTreeSet<QueuePlace>>,
    /// How many rows stand in lanes that do not get on.
    stuck: BTreeMap<Queue, usize>,
    pushed: u64,
}

/// Tells apart two times that the same row was read.
pub(crate) type Serial = u64;

#[derive(Debug, Default)]
struct Lane {
    rows: VecDeque<(Serial, OutboxRow)>,
    /// How often the first was put off for reasons that are not its own.
    put_off: u32,
    /// Whether the first is to be tried again.
    is_stuck: bool,
}

impl Lanes {
    /// How many rows of a queue are in memory.
    pub(crate) fn count(&self, queue: &Queue) -> usize {
        self.places.get(queue).map_or(0, BTreeSet::len)
    }

    /// How many rows of a queue are in lanes that get on.
    pub(crate) fn flowing(&self, queue: &Queue) -> usize {
        self.count(queue) - self.stuck.get(queue).copied().unwrap_or(0)
    }

    /// Adds a row behind those of its lane, unless it is there already.
    pub(crate) fn push(&mut self, row: OutboxRow, now: Duration) {
        if !self.places.entry(row.queue.clone()).or_default().insert(row.place) {
            return;
        }
        let (key, wait) = (lane_of(&row), row.wait);
        let lane = self.by_key.entry(key.clone()).or_default();
        self.pushed += 1;
        lane.rows.push_back((self.pushed, row));
        if lane.is_stuck {
            *self.stuck.entry(key.0.clone()).or_default() += 1;
        }
        if lane.rows.len() == 1 {
            self.schedule(key, now, wait);
        }
    }

    fn set_stuck(&mut self, key: &LaneKey, is_stuck: bool) {
        let Some(lane) = self.by_key.get_mut(key) else { return };
        if std::mem::replace(&mut lane.is_stuck, is_stuck) == is_stuck {
            return;
        }
        let (count, rows) = (self.stuck.entry(key.0.clone()).or_default(), lane.rows.len());
        *count = if is_stuck { *count + rows } else { count.saturating_sub(rows) };
    }

    fn schedule(&mut self, key: LaneKey, now: Duration, wait: Duration) {
        if wait.is_zero() {
            self.ready.push_back(key);
        } else {
            self.delayed.insert((now + wait, key));
        }
    }

    /// The next lane whose first row can be worked on now.
    pub(crate) fn next(&mut self, now: Duration) -> Option<LaneKey> {
        while let Some((until, _)) = self.delayed.first() {
            if *until > now {
                break;
            }
            if let Some((_, key)) = self.delayed.pop_first() {
                self.ready.push_back(key);
            }
        }
        loop {
            let key = self.ready.pop_front()?;
            if self.by_key.contains_key(&key) {
                return Some(key);
            }
        }
    }

    /// Until the next lane that was put off can go on.
    pub(crate) fn next_in(&self, now: Duration) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        self.delayed.first().map(|(until, _)| until.saturating_sub(now))
    }

    /// The first row of a lane.
    pub(crate) fn first(&self, key: &LaneKey) -> Option<(Serial, &OutboxRow)> {
        let first = self.by_key.get(key).and_then(|lane| lane.rows.front());
        first.map(|(serial, row)| (*serial, row))
    }

    /// Whether this is the first row of its lane. It is not if the lane was taken out, and maybe
    /// read anew, since.
    pub(crate) fn is_first(&self, key: &LaneKey, serial: Serial) -> bool {
        self.first(key).is_some_and(|(first, _)| first == serial)
    }

    /// The first row is done with: the next has its turn.
    pub(crate) fn advance(&mut self, key: &LaneKey, serial: Serial, now: Duration) {
        if !self.is_first(key, serial) {
            return;
        }
        self.set_stuck(key, false);
        let Some(lane) = self.by_key.get_mut(key) else { return };
        lane.put_off = 0;
        if let Some((_, row)) = lane.rows.pop_front() {
            if let Some(places) = self.places.get_mut(&row.queue) {
                places.remove(&row.place);
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

    /// The first row has failed and is tried again after `wait`.
    pub(crate) fn retry(
        &mut self,
        key: &LaneKey,
        serial: Serial,
        attempts: u32,
        now: Duration,
        wait: Duration,
    ) {
        let first = self.by_key.get_mut(key).and_then(|lane| lane.rows.front_mut());
        if let Some((_, row)) = first.filter(|(first, _)| *first == serial) {
            row.attempts = attempts;
            self.set_stuck(key, true);
            self.schedule(key.clone(), now, wait);
        }
    }

    /// A lane whose first row could not begin has its turn again after `wait`.
    pub(crate) fn defer(&mut self, key: LaneKey, now: Duration, wait: Duration) {
        self.schedule(key, now, wait.max(Duration::from_millis(1)));
    }

    /// The first row is tried again later, for reasons that are not its own.
    pub(crate) fn put_off(
        &mut self,
        key: &LaneKey,
        serial: Serial,
        now: Duration,
        wait: impl FnOnce(u32) -> Duration,
    ) {
        if !self.is_first(key, serial) {
            return;
        }
        self.set_stuck(key, true);
        if let Some(lane) = self.by_key.get_mut(key) {
            lane.put_off += 1;
            let wait = wait(lane.put_off);
            self.defer(key.clone(), now, wait);
        }
    }

    /// Takes a lane out with all its rows.
    pub(crate) fn remove(&mut self, key: &LaneKey) -> Vec<OutboxRow> {
        self.set_stuck(key, false);
        let Some(lane) = self.by_key.remove(key) else { return Vec::new() };
        self.delayed.retain(|(_, of)| of != key);
        self.ready.retain(|of| of != key);
        let rows: Vec<_> = lane.rows.into_iter().map(|(_, row)| row).collect();
        for row in &rows {
            if let Some(places) = self.places.get_mut(&row.queue) {
                places.remove(&row.place);
            }
        }
        rows
    }

    /// Takes out everything of a queue.
    pub(crate) fn remove_queue(&mut self, queue: &Queue) {
        self.by_key.retain(|(of, _, _), _| of != queue);
        self.places.remove(queue);
        self.stuck.remove(queue);
        self.delayed.retain(|(_, (of, _, _))| of != queue);
        self.ready.retain(|(of, _, _)| of != queue);
    }
}
