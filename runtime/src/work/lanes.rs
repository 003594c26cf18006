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
}

#[derive(Debug, Default)]
struct Lane {
    rows: VecDeque<OutboxRow>,
    /// How often the first was put off for reasons that are not its own.
    put_off: u32,
}

impl Lanes {
    /// How many rows of a queue are in memory.
    pub(crate) fn count(&self, queue: &Queue) -> usize {
        self.places.get(queue).map_or(0, BTreeSet::len)
    }

    /// Adds a row behind those of its lane, unless it is there already.
    pub(crate) fn push(&mut self, row: OutboxRow, now: Duration) {
        if !self.places.entry(row.queue.clone()).or_default().insert(row.place) {
            return;
        }
        let (key, wait) = (lane_of(&row), row.wait);
        let lane = self.by_key.entry(key.clone()).or_default();
        lane.rows.push_back(row);
        if lane.rows.len() == 1 {
            self.schedule(key, now, wait);
        }
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
    pub(crate) fn first(&self, key: &LaneKey) -> Option<&OutboxRow> {
        self.by_key.get(key).and_then(|lane| lane.rows.front())
    }

    /// The first row is done with: the next has its turn.
    pub(crate) fn advance(&mut self, key: &LaneKey, now: Duration) {
        let Some(lane) = self.by_key.get_mut(key) else { return };
        lane.put_off = 0;
        if let Some(row) = lane.rows.pop_front() {
            if let Some(places) = self.places.get_mut(&row.queue) {
                places.remove(&row.place);
            }
        }
        match lane.rows.front() {
            Some(next) => {
                let wait = next.wait;
                self.schedule(key.clone(), now, wait);
            }
            None => {
                self.by_key.remove(key);
            }
        }
    }

    /// The first row has failed and is tried again after `wait`.
    pub(crate) fn retry(&mut self, key: &LaneKey, attempts: u32, now: Duration, wait: Duration) {
        if let Some(row) = self.by_key.get_mut(key).and_then(|lane| lane.rows.front_mut()) {
            row.attempts = attempts;
            self.schedule(key.clone(), now, wait);
        }
    }

    /// The first row is tried again later, for reasons that are not its own.
    pub(crate) fn put_off(
        &mut self,
        key: &LaneKey,
        now: Duration,
        wait: impl FnOnce(u32) -> Duration,
    ) {
        if let Some(lane) = self.by_key.get_mut(key) {
            lane.put_off += 1;
            let wait = wait(lane.put_off);
            self.schedule(key.clone(), now, wait.max(Duration::from_millis(1)));
        }
    }

    /// Takes a lane out with all its rows.
    pub(crate) fn remove(&mut self, key: &LaneKey) -> Vec<OutboxRow> {
        let Some(lane) = self.by_key.remove(key) else { return Vec::new() };
        for row in &lane.rows {
            if let Some(places) = self.places.get_mut(&row.queue) {
                places.remove(&row.place);
            }
        }
        lane.rows.into()
    }

    /// Takes out everything of a queue.
    pub(crate) fn remove_queue(&mut self, queue: &Queue) {
        self.by_key.retain(|(of, _, _), _| of != queue);
        self.places.remove(queue);
        self.delayed.retain(|(_, (of, _, _))| of != queue);
        self.ready.retain(|(of, _, _)| of != queue);
    }
}
