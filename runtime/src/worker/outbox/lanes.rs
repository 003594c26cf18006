//! The rows of the outbox that are in memory: a lane for each sender and recipient, worked in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use composable_rust_core::{OutboxKind, OutboxRow, Queue, QueuePosition, StreamId};

use crate::worker::quarantine::Suspicion;

/// Names a lane: the queue, the sender, the recipient.
pub(crate) type LaneKey = (Queue, StreamId, String);

pub(crate) fn lane_of(row: &OutboxRow) -> LaneKey {
    (row.queue.clone(), row.message.sender.clone(), row.message.row.recipient.clone())
}

/// What the first rows of lanes take up while they are executed: each room has a bound of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneCapacity {
    pub(crate) class: Class,
    /// The kind, with the aggregate type, gateway, policy or topic.
    pub(crate) window: (OutboxKind, String),
}

/// Why some rows are executed apart from the others, in the order in which they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Not executed, but parked behind another row.
    BehindParked,
    Suspect(Suspicion),
    Plain,
}

/// The lanes whose first rows can begin as soon as their room admits them.
#[derive(Debug, Default)]
struct WaitingLine {
    lanes: VecDeque<(u64, LaneKey)>,
    /// `true` while the room is full and nothing of it ends.
    is_stalled: bool,
}

/// The lanes of all queues, and which of them can go on.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    by_key: BTreeMap<LaneKey, Lane>,
    /// With the turns that they have; a lane that was taken out, or has another by now, has none.
    ready: VecDeque<(u64, LaneKey)>,
    lines: BTreeMap<LaneCapacity, WaitingLine>,
    /// The lanes whose first rows are to be read again.
    unread: BTreeMap<Queue, BTreeMap<QueuePosition, LaneKey>>,
    /// Until when, in the order in which they were put off: those that wait for the same moment, such
    /// as the next probe of a gateway, take turns.
    delayed: BTreeSet<(Duration, u64, LaneKey)>,
    /// The lanes that wait for a stuck instance, by the recipient's name.
    of_stuck: BTreeMap<String, BTreeSet<LaneKey>>,
    queues: BTreeMap<Queue, QueueStats>,
    pushed: u64,
    turns: u64,
}

/// What is in memory of one queue.
#[derive(Debug, Default)]
struct QueueStats {
    places: BTreeSet<QueuePosition>,
    bytes: usize,
    /// How many rows stand in lanes that do not get on, and their bytes.
    stuck: usize,
    stuck_bytes: usize,
    /// Lanes of which rows behind the first were let go.
    let_go: usize,
    /// Lanes whose first row was let go.
    away: usize,
    /// What stands behind this place is to be read again.
    rewound: Option<QueuePosition>,
}

impl QueueStats {
    fn forget(&mut self, row: &OutboxRow) {
        if self.places.remove(&row.position) {
            self.bytes = self.bytes.saturating_sub(bytes(row));
        }
    }

    fn rewind(&mut self, place: QueuePosition) {
        self.rewound = Some(self.rewound.map_or(place, |rewound| rewound.min(place)));
    }
}

pub(crate) fn bytes(row: &OutboxRow) -> usize {
    row.message.row.content.bytes.len() + row.message.row.metadata.len()
}

/// The last place before another one.
fn before(place: QueuePosition) -> QueuePosition {
    match place.index.checked_sub(1) {
        Some(index) => QueuePosition { index, ..place },
        None => QueuePosition { sequence: place.sequence.saturating_sub(1), index: u32::MAX },
    }
}

/// Tells apart two times that the same row was read.
pub(crate) type ReadId = u64;

#[derive(Debug, Default)]
struct Lane {
    rows: VecDeque<(ReadId, OutboxRow)>,
    /// The place of the first row, if it was let go: then no row is here.
    away: Option<QueuePosition>,
    /// Its next turn.
    turn: u64,
    /// How often the first was put off for reasons that are not its own.
    put_off: u32,
    /// Whether the first is to be tried again.
    is_stuck: bool,
    /// Whether rows behind these were let go. Until these are gone, it takes no others.
    let_go: bool,
    wait: LaneWait,
}

/// What a lane's next turn waits for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum LaneWait {
    #[default]
    Nothing,
    Time,
    /// Time, or the recovery of its recipient, which is stuck.
    Instance,
}

impl Lanes {
    /// How many rows of a queue are in memory.
    pub(crate) fn count(&self, queue: &Queue) -> usize {
        self.queues.get(queue).map_or(0, |of| of.places.len())
    }

    /// How many bytes these are.
    pub(crate) fn bytes(&self, queue: &Queue) -> usize {
        self.queues.get(queue).map_or(0, |of| of.bytes)
    }

    /// How many bytes the rows have that are in lanes that get on.
    pub(crate) fn flowing_bytes(&self, queue: &Queue) -> usize {
        self.queues.get(queue).map_or(0, |of| of.bytes.saturating_sub(of.stuck_bytes))
    }

    /// Whether rows of a queue were let go that wait still.
    pub(crate) fn has_let_go(&self, queue: &Queue) -> bool {
        self.queues.get(queue).is_some_and(|of| of.let_go > 0 || of.away > 0)
    }

    /// How many lanes of a queue have nothing in memory but the place of their first row.
    pub(crate) fn away(&self, queue: &Queue) -> usize {
        self.queues.get(queue).map_or(0, |of| of.away)
    }

    /// How many rows of a queue are in lanes that get on.
    pub(crate) fn flowing(&self, queue: &Queue) -> usize {
        self.queues.get(queue).map_or(0, |of| of.places.len() - of.stuck)
    }

    /// Where a queue is to be read again from, once.
    pub(crate) fn rewound(&mut self, queue: &Queue) -> Option<QueuePosition> {
        self.queues.get_mut(queue)?.rewound.take()
    }

    /// Makes room: of lanes that do not get on, all rows leave the memory, and are read again when the
    /// lane has its turn. Of those that have it now, the first row stays.
    pub(crate) fn let_go(&mut self, queue: &Queue) {
        let Some(of) = self.queues.get_mut(queue) else { return };
        for (_, lane) in self.by_key.iter_mut().filter(|(key, _)| key.0 == *queue) {
            if !lane.is_stuck || lane.rows.is_empty() {
                continue;
            }
            if lane.rows.len() > 1 && !std::mem::replace(&mut lane.let_go, true) {
                of.let_go += 1;
            }
            let kept = usize::from(lane.wait == LaneWait::Nothing);
            if let Some((_, first)) = lane.rows.front().filter(|_| kept == 0) {
                lane.away = Some(first.position);
                of.away += 1;
            }
            for (_, row) in lane.rows.drain(kept..) {
                of.forget(&row);
                of.stuck = of.stuck.saturating_sub(1);
                of.stuck_bytes = of.stuck_bytes.saturating_sub(bytes(&row));
            }
        }
    }

    /// Adds a row behind those of its lane, unless it is there already, or behind one that was let
    /// go.
    pub(crate) fn push(&mut self, row: OutboxRow, now: Duration) {
        let (key, wait) = (lane_of(&row), row.wait);
        let of = self.queues.entry(row.queue.clone()).or_default();
        let lane = self.by_key.get_mut(&key);
        if of.places.contains(&row.position) || lane.as_ref().is_some_and(|lane| lane.let_go) {
            return;
        }
        if let Some((lane, away)) = lane.and_then(|lane| lane.away.map(|away| (lane, away))) {
            if row.position > away {
                lane.let_go = true;
                of.let_go += 1;
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
        of.places.insert(row.position);
        of.bytes += bytes;
        let lane = self.by_key.entry(key).or_default();
        self.pushed += 1;
        lane.rows.push_back((self.pushed, row));
        if lane.is_stuck {
            of.stuck += 1;
            of.stuck_bytes += bytes;
        }
    }

    /// Has the first row of a lane, which was let go, read again.
    pub(crate) fn reread_first(&mut self, key: LaneKey) {
        if let Some(place) = self.by_key.get(&key).and_then(|lane| lane.away) {
            self.unread.entry(key.0.clone()).or_default().insert(place, key);
        }
    }

    /// The place before the first row of a queue that is to be read again.
    pub(crate) fn unread(&self, queue: &Queue) -> Option<QueuePosition> {
        let (place, _) = self.unread.get(queue)?.first_key_value()?;
        Some(before(*place))
    }

    /// Takes back rows that were let go, of what stands behind a place, up to `limit` rows.
    pub(crate) fn reread(
        &mut self,
        queue: &Queue,
        rows: impl IntoIterator<Item = OutboxRow>,
        limit: usize,
        now: Duration,
    ) {
        let Some(mut unread) = self.unread.remove(queue) else { return };
        let (mut count, mut last) = (0, QueuePosition::default());
        for row in rows {
            (count, last) = (count + 1, row.position);
            let Some(key) = unread.remove(&row.position) else { continue };
            if !self.is_away_at(&key, row.position) {
                continue;
            }
            self.is_back(&key);
            self.add(key.clone(), row);
            self.schedule(key, now, Duration::ZERO);
        }
        let later = if count < limit { BTreeMap::new() } else { unread.split_off(&last) };
        // These are gone: whatever stands behind them is read as it is now.
        for (place, key) in unread {
            if self.is_away_at(&key, place) {
                self.remove(&key);
            }
        }
        if !later.is_empty() {
            self.unread.insert(queue.clone(), later);
        }
    }

    fn is_away_at(&self, key: &LaneKey, place: QueuePosition) -> bool {
        self.by_key.get(key).is_some_and(|lane| lane.away == Some(place))
    }

    /// The first row of a lane is not let go any more.
    fn is_back(&mut self, key: &LaneKey) {
        if let Some(lane) = self.by_key.get_mut(key) {
            if lane.away.take().is_some() {
                let of = self.queues.entry(key.0.clone()).or_default();
                of.away = of.away.saturating_sub(1);
            }
        }
    }

    /// Says whether a lane gets on.
    pub(crate) fn set_stuck(&mut self, key: &LaneKey, is_stuck: bool) {
        let Some(lane) = self.by_key.get_mut(key) else { return };
        if std::mem::replace(&mut lane.is_stuck, is_stuck) == is_stuck {
            return;
        }
        let (of, rows) = (self.queues.entry(key.0.clone()).or_default(), lane.rows.len());
        let size: usize = lane.rows.iter().map(|(_, row)| bytes(row)).sum();
        if is_stuck {
            of.stuck += rows;
            of.stuck_bytes += size;
        } else {
            of.stuck = of.stuck.saturating_sub(rows);
            of.stuck_bytes = of.stuck_bytes.saturating_sub(size);
        }
    }

    fn schedule(&mut self, key: LaneKey, now: Duration, wait: Duration) {
        let Some(lane) = self.by_key.get_mut(&key) else { return };
        self.turns += 1;
        lane.turn = self.turns;
        let next = if wait.is_zero() { LaneWait::Nothing } else { LaneWait::Time };
        if std::mem::replace(&mut lane.wait, next) == LaneWait::Instance {
            self.leave_stuck(&key);
        }
        if wait.is_zero() {
            self.ready.push_back((self.turns, key));
        } else {
            self.delayed.insert((now + wait, self.turns, key));
        }
    }

    /// The next lane whose first row can be worked on now.
    pub(crate) fn next(&mut self, now: Duration) -> Option<LaneKey> {
        while let Some((until, ..)) = self.delayed.first() {
            if *until > now {
                break;
            }
            if let Some((_, turn, key)) = self.delayed.pop_first() {
                self.ready.push_back((turn, key));
            }
        }
        loop {
            let (turn, key) = self.ready.pop_front()?;
            if let Some(lane) = self.by_key.get_mut(&key).filter(|lane| lane.turn == turn) {
                if std::mem::take(&mut lane.wait) == LaneWait::Instance {
                    self.leave_stuck(&key);
                }
                return Some(key);
            }
        }
    }

    /// A lane that has its turn stands in the line for a room.
    pub(crate) fn stand_in_line(&mut self, key: &LaneKey, room: LaneCapacity) {
        let Some(turn) = self.by_key.get(key).map(|lane| lane.turn) else { return };
        let line = self.lines.entry(room).or_default();
        line.lanes.push_back((turn, key.clone()));
        if line.is_stalled {
            self.set_stuck(key, true);
        }
    }

    /// The rooms that lanes stand in line for, in order of classes.
    pub(crate) fn rooms(&self) -> Vec<LaneCapacity> {
        self.lines.keys().cloned().collect()
    }

    /// The next lane in the line for a room.
    pub(crate) fn next_in_line(&mut self, room: &LaneCapacity) -> Option<LaneKey> {
        let line = self.lines.get_mut(room)?;
        while let Some((turn, key)) = line.lanes.pop_front() {
            if self.by_key.get(&key).is_some_and(|lane| lane.turn == turn) {
                return Some(key);
            }
        }
        self.lines.remove(room);
        None
    }

    /// Says whether a full room stands still. What waits for it then keeps no others from being read.
    pub(crate) fn set_stalled(&mut self, room: &LaneCapacity, is_stalled: bool) {
        let Some(line) = self.lines.get_mut(room) else { return };
        if std::mem::replace(&mut line.is_stalled, is_stalled) || !is_stalled {
            return;
        }
        let lanes: Vec<_> = line.lanes.iter().map(|(_, key)| key.clone()).collect();
        for key in lanes {
            self.set_stuck(&key, true);
        }
    }

    /// Until the next lane that was put off can go on.
    pub(crate) fn next_in(&self, now: Duration) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        self.delayed.first().map(|(until, ..)| until.saturating_sub(now))
    }

    /// The first row of a lane.
    pub(crate) fn first(&self, key: &LaneKey) -> Option<(ReadId, &OutboxRow)> {
        let first = self.by_key.get(key).and_then(|lane| lane.rows.front());
        first.map(|(serial, row)| (*serial, row))
    }

    /// Whether this is the first row of its lane. It is not if the lane was taken out, and maybe
    /// read anew, since.
    pub(crate) fn is_first(&self, key: &LaneKey, serial: ReadId) -> bool {
        self.first(key).is_some_and(|(first, _)| first == serial)
    }

    /// The first row is done with: the next has its turn.
    pub(crate) fn advance(&mut self, key: &LaneKey, serial: ReadId, now: Duration) {
        if !self.is_first(key, serial) {
            return;
        }
        self.set_stuck(key, false);
        let Some(lane) = self.by_key.get_mut(key) else { return };
        lane.put_off = 0;
        if let (Some((_, row)), Some(of)) = (lane.rows.pop_front(), self.queues.get_mut(&key.0)) {
            of.forget(&row);
            if lane.rows.is_empty() && lane.let_go {
                of.let_go = of.let_go.saturating_sub(1);
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

    /// The first row has failed and is tried again after `wait`.
    pub(crate) fn retry(
        &mut self,
        key: &LaneKey,
        serial: ReadId,
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

    /// How an attempt at the first row ended is on record.
    pub(crate) fn has_ended(&mut self, key: &LaneKey, serial: ReadId) {
        let first = self.by_key.get_mut(key).and_then(|lane| lane.rows.front_mut());
        if let Some((_, row)) = first.filter(|(first, _)| *first == serial) {
            row.begun = false;
        }
    }

    /// A lane whose first row could not begin has its turn again after `wait`.
    pub(crate) fn defer(&mut self, key: LaneKey, now: Duration, wait: Duration) {
        self.schedule(key, now, wait.max(Duration::from_millis(1)));
    }

    /// A lane whose recipient is stuck waits, unless [`Lanes::retry_instance`] comes first.
    pub(crate) fn wait_for_instance(&mut self, key: &LaneKey, now: Duration, wait: Duration) {
        self.set_stuck(key, true);
        self.defer(key.clone(), now, wait);
        if let Some(lane) = self.by_key.get_mut(key) {
            lane.wait = LaneWait::Instance;
            self.of_stuck.entry(key.2.clone()).or_default().insert(key.clone());
        }
    }

    /// The lanes that wait for a stuck instance have their turns now.
    pub(crate) fn retry_instance(&mut self, recipient: &str, now: Duration) {
        for key in self.of_stuck.remove(recipient).unwrap_or_default() {
            self.schedule(key, now, Duration::ZERO);
        }
    }

    fn leave_stuck(&mut self, key: &LaneKey) {
        if let Some(lanes) = self.of_stuck.get_mut(&key.2) {
            lanes.remove(key);
            if lanes.is_empty() {
                self.of_stuck.remove(&key.2);
            }
        }
    }

    /// How often the first row was put off.
    pub(crate) fn times_put_off(&self, key: &LaneKey) -> u32 {
        self.by_key.get(key).map_or(0, |lane| lane.put_off)
    }

    /// The first row is tried again later, for reasons that are not its own.
    pub(crate) fn put_off(
        &mut self,
        key: &LaneKey,
        serial: ReadId,
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

    /// The rows behind the first of a lane.
    pub(crate) fn behind_first(&self, key: &LaneKey) -> impl Iterator<Item = &OutboxRow> {
        let rows = self.by_key.get(key).into_iter().flat_map(|lane| lane.rows.iter().skip(1));
        rows.map(|(_, row)| row)
    }

    /// The first row has no further turn, and nothing overtakes it, while it is in memory.
    pub(crate) fn set_aside(&mut self, key: &LaneKey, serial: ReadId) {
        if self.is_first(key, serial) {
            self.set_stuck(key, true);
        }
    }

    /// Takes a lane out with all its rows.
    pub(crate) fn remove(&mut self, key: &LaneKey) -> Vec<OutboxRow> {
        self.set_stuck(key, false);
        let Some(lane) = self.by_key.remove(key) else { return Vec::new() };
        if lane.wait == LaneWait::Instance {
            self.leave_stuck(key);
        }
        let rows: Vec<_> = lane.rows.into_iter().map(|(_, row)| row).collect();
        if let (Some(away), Some(of)) = (lane.away, self.queues.get_mut(&key.0)) {
            of.away = of.away.saturating_sub(1);
            of.let_go = of.let_go.saturating_sub(usize::from(lane.let_go));
            of.rewind(before(away));
            return rows;
        }
        if let Some(of) = self.queues.get_mut(&key.0) {
            for row in &rows {
                of.forget(row);
            }
            if lane.let_go {
                of.let_go = of.let_go.saturating_sub(1);
                of.rewind(rows.last().map(|row| row.position).unwrap_or_default());
            }
        }
        rows
    }

    /// Takes out everything of a queue.
    pub(crate) fn remove_queue(&mut self, queue: &Queue) {
        self.by_key.retain(|(of, _, _), _| of != queue);
        self.queues.remove(queue);
        self.delayed.retain(|(.., (of, _, _))| of != queue);
        self.ready.retain(|(_, (of, _, _))| of != queue);
        self.unread.remove(queue);
        self.lines.retain(|_, line| {
            line.lanes.retain(|(_, (of, _, _))| of != queue);
            !line.lanes.is_empty()
        });
        self.of_stuck.retain(|_, lanes| {
            lanes.retain(|(of, _, _)| of != queue);
            !lanes.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use composable_rust_core::{EncodedMessage, NewOutboxRow, OutboxKind, OutboxMessage};

    use super::*;

    fn queue() -> Queue {
        Queue { partition: 0, kind: OutboxKind::Dispatch, target: "thing".to_owned() }
    }

    fn row(sequence: u64, recipient: &str) -> OutboxRow {
        let content = EncodedMessage {
            name: "x".into(),
            version: 1,
            codec: "none".into(),
            bytes: vec![0; 10],
        };
        let row = NewOutboxRow {
            id: uuid::Uuid::from_u128(sequence.into()),
            kind: OutboxKind::Dispatch,
            target: "thing".to_owned(),
            recipient: recipient.to_owned(),
            content,
            metadata: String::new(),
        };
        OutboxRow {
            queue: queue(),
            position: QueuePosition { sequence, index: 0 },
            message: OutboxMessage { sender: "sender-1".parse().unwrap(), row },
            attempts: 0,
            begun: false,
            wait: Duration::ZERO,
            behind_parked: false,
        }
    }

    /// Reads what stands behind a place, as the dispatcher does.
    fn read(lanes: &mut Lanes, store: &[OutboxRow], after: &mut QueuePosition, limit: usize) {
        if let Some(place) = lanes.rewound(&queue()) {
            *after = place.min(*after);
        }
        let behind = store.iter().filter(|row| row.position > *after).take(limit);
        for row in behind.cloned().collect::<Vec<_>>() {
            *after = row.position;
            lanes.push(row, Duration::ZERO);
        }
    }

    /// Reads the first row of a lane again, as the dispatcher does.
    fn reread(lanes: &mut Lanes, key: LaneKey, store: &[OutboxRow]) {
        lanes.reread_first(key);
        let after = lanes.unread(&queue()).unwrap();
        let rows = store.iter().filter(|row| row.position > after).take(3).cloned();
        lanes.reread(&queue(), rows.collect::<Vec<_>>(), 3, MINUTE);
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_was_let_go_comes_back_in_order() {
        let mut store: Vec<_> = (1..=100).map(|n| row(n, "thing-a")).collect();
        store.insert(50, row(1_000, "thing-b"));
        store.sort_by_key(|row| row.position);
        let (mut lanes, mut after) = (Lanes::default(), QueuePosition::default());
        read(&mut lanes, &store, &mut after, 60);
        let key = lanes.next(Duration::ZERO).unwrap();
        let (serial, _) = lanes.first(&key).unwrap();
        lanes.let_go(&queue());
        assert_eq!(lanes.count(&queue()), 60, "it gets on");
        lanes.set_stuck(&key, true);
        lanes.let_go(&queue());
        assert_eq!((lanes.count(&queue()), lanes.bytes(&queue())), (1, 10), "it has its turn");
        lanes.put_off(&key, serial, Duration::ZERO, |_| MINUTE);
        lanes.let_go(&queue());
        assert_eq!((lanes.count(&queue()), lanes.bytes(&queue())), (0, 0));
        assert_eq!((lanes.flowing(&queue()), lanes.flowing_bytes(&queue())), (0, 0));
        assert!(lanes.has_let_go(&queue()));

        // Others are read, and nothing of the lane overtakes what was let go.
        read(&mut lanes, &store, &mut after, 200);
        assert_eq!((lanes.count(&queue()), lanes.flowing(&queue())), (1, 1));
        let other = lanes.next(Duration::ZERO).unwrap();
        assert_eq!(other.2, "thing-b");
        let (serial, _) = lanes.first(&other).unwrap();
        store.retain(|row| row.message.row.recipient != "thing-b");
        lanes.advance(&other, serial, Duration::ZERO);

        let mut done = Vec::new();
        while !store.is_empty() {
            read(&mut lanes, &store, &mut after, 7);
            let Some(key) = lanes.next(MINUTE) else { continue };
            let Some((serial, first)) = lanes.first(&key) else {
                reread(&mut lanes, key, &store);
                continue;
            };
            assert_eq!(store.remove(0).position, first.position);
            done.push(first.position.sequence);
            lanes.advance(&key, serial, MINUTE);
        }
        assert_eq!(done, (1..=100).collect::<Vec<_>>());
        assert_eq!((lanes.count(&queue()), lanes.bytes(&queue())), (0, 0));
        assert!(!lanes.has_let_go(&queue()));
    }

    #[test]
    fn a_lane_that_is_taken_out_is_read_again() {
        let store: Vec<_> = (1..=30).map(|n| row(n, "thing-a")).collect();
        let (mut lanes, mut after) = (Lanes::default(), QueuePosition::default());
        read(&mut lanes, &store, &mut after, 30);
        let key = lanes.next(Duration::ZERO).unwrap();
        let (serial, _) = lanes.first(&key).unwrap();
        lanes.retry(&key, serial, 1, Duration::ZERO, MINUTE);
        lanes.let_go(&queue());
        assert_eq!(lanes.remove(&key), []);
        read(&mut lanes, &store, &mut after, 30);
        let (_, first) = lanes.first(&key).unwrap();
        assert_eq!((first.position.sequence, lanes.count(&queue())), (1, 30));
    }

    /// A row that was let go and is gone when its lane has its turn, as when an operator discarded it.
    #[test]
    fn what_stands_behind_a_row_that_is_gone_is_read() {
        let mut store: Vec<_> = (1..=3).map(|n| row(n, "thing-a")).collect();
        let (mut lanes, mut after) = (Lanes::default(), QueuePosition::default());
        read(&mut lanes, &store, &mut after, 1);
        let key = lanes.next(Duration::ZERO).unwrap();
        let (serial, _) = lanes.first(&key).unwrap();
        lanes.put_off(&key, serial, Duration::ZERO, |_| MINUTE);
        lanes.let_go(&queue());
        read(&mut lanes, &store, &mut after, 10);
        assert_eq!((lanes.count(&queue()), lanes.away(&queue())), (0, 1), "it waits for the first");
        store.remove(0);
        let key = lanes.next(MINUTE).unwrap();
        reread(&mut lanes, key.clone(), &store);
        assert!(lanes.first(&key).is_none());
        read(&mut lanes, &store, &mut after, 10);
        assert_eq!((lanes.count(&queue()), lanes.away(&queue())), (2, 0));
        assert!(!lanes.has_let_go(&queue()));
        assert_eq!(lanes.first(&key).unwrap().1.position.sequence, 2);
    }

    /// A lane is looked at once when it joins the line, and once when its room admits it.
    #[test]
    fn lanes_stand_in_line_for_a_full_room() {
        let mut lanes = Lanes::default();
        for n in 1..=1_000 {
            lanes.push(row(n, &format!("thing-{n}")), Duration::ZERO);
        }
        let room = LaneCapacity {
            window: (OutboxKind::Dispatch, "thing".to_owned()),
            class: Class::Plain,
        };
        let mut looks = 0;
        while let Some(key) = lanes.next(Duration::ZERO) {
            lanes.stand_in_line(&key, room.clone());
            looks += 1;
        }
        assert_eq!((looks, lanes.next_in(Duration::ZERO)), (1_000, None));
        for n in 1..=1_000 {
            assert!(lanes.next(MINUTE).is_none(), "nothing comes back by itself");
            let key = lanes.next_in_line(&room).unwrap();
            assert_eq!(key.2, format!("thing-{n}"), "in order");
            let (serial, _) = lanes.first(&key).unwrap();
            lanes.advance(&key, serial, Duration::ZERO);
        }
        assert!(lanes.next_in_line(&room).is_none() && lanes.rooms().is_empty());
    }
}
