//! The order in which the first rows of lanes begin.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use composable_rust_core::queue::{OutboxKind, Queue};

use super::{LaneKey, Lanes};
use crate::worker::outbox::call_limits::KeyLimit;
use crate::worker::quarantine::Suspicion;

/// The bound that the first row of a lane counts towards while it is executed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneCapacity {
    pub(crate) class: Class,
    /// The kind, with the aggregate type, gateway, policy or topic.
    pub(crate) executor: (OutboxKind, String),
}

/// The classes of rows that are bounded separately, in the order in which they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Not executed, but parked behind another row.
    BehindParked,
    Suspect(Suspicion),
    Plain,
}

/// The event that a lane's next turn waits for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneWait {
    #[default]
    Nothing,
    Time,
    /// A time, or the recovery of its recipient, which is stuck.
    Instance,
    /// A limit of the calls with its key.
    Limit,
}

/// A limit of the calls with one key, and the gateway that it belongs to.
pub(super) type GatewayLimit = (String, KeyLimit);

/// The turns of the lanes. An entry whose turn is not its lane's current one is void.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    ready: VecDeque<(u64, LaneKey)>,
    /// The lanes that wait for a time, in order of the time and of their turns: lanes that wait for
    /// the same time, such as the next probe of a gateway, alternate.
    delayed: BTreeSet<(Duration, u64, LaneKey)>,
    waiting: BTreeMap<LaneCapacity, WaitingLine>,
    by_stuck_recipient: BTreeMap<String, BTreeSet<LaneKey>>,
    limited: BTreeMap<GatewayLimit, LimitedLine>,
    /// The limits for which lanes wait, in order of the times at which they are considered again.
    due_limits: BTreeSet<(Duration, GatewayLimit)>,
    turns: u64,
}

/// The lanes that wait for a limit of the calls with one key.
#[derive(Debug, Default)]
struct LimitedLine {
    lanes: VecDeque<(u64, LaneKey)>,
    /// The time at which the limit is considered again.
    due: Duration,
}

/// The lanes whose first rows begin once a capacity admits them.
#[derive(Debug, Default)]
struct WaitingLine {
    lanes: VecDeque<(u64, LaneKey)>,
    /// `true` while the capacity is used up and none of its rows ends.
    is_stalled: bool,
}

impl Schedule {
    pub(super) fn leave_recipient(&mut self, key: &LaneKey) {
        if let Some(lanes) = self.by_stuck_recipient.get_mut(&key.recipient) {
            lanes.remove(key);
            if lanes.is_empty() {
                self.by_stuck_recipient.remove(&key.recipient);
            }
        }
    }

    pub(super) fn remove_queue(&mut self, queue: &Queue) {
        self.delayed.retain(|(.., key)| key.queue != *queue);
        self.ready.retain(|(_, key)| key.queue != *queue);
        self.waiting.retain(|_, line| {
            line.lanes.retain(|(_, key)| key.queue != *queue);
            !line.lanes.is_empty()
        });
        self.by_stuck_recipient.retain(|_, lanes| {
            lanes.retain(|key| key.queue != *queue);
            !lanes.is_empty()
        });
        let due_limits = &mut self.due_limits;
        self.limited.retain(|limit, line| {
            line.lanes.retain(|(_, key)| key.queue != *queue);
            if line.lanes.is_empty() {
                due_limits.remove(&(line.due, limit.clone()));
            }
            !line.lanes.is_empty()
        });
    }
}

impl Lanes {
    /// Gives a lane its next turn after `wait`.
    pub(super) fn schedule(&mut self, key: LaneKey, now: Duration, wait: Duration) {
        let Some(lane) = self.by_key.get_mut(&key) else { return };
        let schedule = &mut self.schedule;
        schedule.turns += 1;
        lane.turn = schedule.turns;
        let next = if wait.is_zero() { LaneWait::Nothing } else { LaneWait::Time };
        if std::mem::replace(&mut lane.wait, next) == LaneWait::Instance {
            schedule.leave_recipient(&key);
        }
        if wait.is_zero() {
            schedule.ready.push_back((schedule.turns, key));
        } else {
            schedule.delayed.insert((now + wait, schedule.turns, key));
        }
    }

    /// Returns the next lane that has its turn.
    pub(crate) fn next(&mut self, now: Duration) -> Option<LaneKey> {
        let schedule = &mut self.schedule;
        while let Some((until, ..)) = schedule.delayed.first() {
            if *until > now {
                break;
            }
            if let Some((_, turn, key)) = schedule.delayed.pop_first() {
                schedule.ready.push_back((turn, key));
            }
        }
        loop {
            let (turn, key) = schedule.ready.pop_front()?;
            if let Some(lane) = self.by_key.get_mut(&key).filter(|lane| lane.turn == turn) {
                if std::mem::take(&mut lane.wait) == LaneWait::Instance {
                    schedule.leave_recipient(&key);
                }
                return Some(key);
            }
        }
    }

    /// Returns the time until the next turn of a lane.
    pub(crate) fn next_in(&self, now: Duration) -> Option<Duration> {
        if !self.schedule.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let delayed = self.schedule.delayed.first().map(|(until, ..)| *until);
        let limited = self.schedule.due_limits.first().map(|(due, _)| *due);
        delayed.into_iter().chain(limited).min().map(|until| until.saturating_sub(now))
    }

    /// Has a lane that has its turn wait for a limit of the calls with its key, until the limit is
    /// considered again at `due` or before.
    pub(crate) fn wait_for_limit(&mut self, key: &LaneKey, limit: GatewayLimit, due: Duration) {
        self.set_blocked(key, true);
        let Some(lane) = self.by_key.get_mut(key) else { return };
        lane.wait = LaneWait::Limit;
        let (turn, schedule) = (lane.turn, &mut self.schedule);
        let waiting = schedule.limited.entry(limit.clone()).or_default();
        let is_first = waiting.lanes.is_empty();
        waiting.lanes.push_back((turn, key.clone()));
        if is_first || due < waiting.due {
            schedule.due_limits.remove(&(waiting.due, limit.clone()));
            waiting.due = due;
            schedule.due_limits.insert((due, limit));
        }
    }

    /// Has a limit considered again at `due`, if lanes wait for it.
    pub(crate) fn limit_is_due(&mut self, limit: &GatewayLimit, due: Duration) {
        let schedule = &mut self.schedule;
        if let Some(line) = schedule.limited.get_mut(limit) {
            schedule.due_limits.remove(&(line.due, limit.clone()));
            line.due = due;
            schedule.due_limits.insert((due, limit.clone()));
        }
    }

    /// Returns the limits that are to be considered again.
    pub(crate) fn due_limits(&self, now: Duration) -> Vec<GatewayLimit> {
        let due = self.schedule.due_limits.iter().take_while(|(due, _)| *due <= now);
        due.map(|(_, limit)| limit.clone()).collect()
    }

    /// Gives up to `count` lanes that wait for a limit their turns. The limit is considered again
    /// at `next`, if others wait.
    pub(crate) fn admit_limited(
        &mut self,
        limit: &GatewayLimit,
        count: usize,
        next: Duration,
        now: Duration,
    ) {
        let mut admitted = 0;
        while admitted < count {
            let line = self.schedule.limited.get_mut(limit);
            let Some((turn, key)) = line.and_then(|line| line.lanes.pop_front()) else { break };
            if self.by_key.get(&key).is_some_and(|lane| lane.turn == turn) {
                self.schedule(key, now, Duration::ZERO);
                admitted += 1;
            }
        }
        let schedule = &mut self.schedule;
        let Some(line) = schedule.limited.get(limit) else { return };
        if line.lanes.is_empty() {
            schedule.due_limits.remove(&(line.due, limit.clone()));
            schedule.limited.remove(limit);
        } else {
            self.limit_is_due(limit, next);
        }
    }

    /// Gives a lane whose first row could not begin its next turn after `wait`.
    pub(crate) fn defer(&mut self, key: LaneKey, now: Duration, wait: Duration) {
        self.schedule(key, now, wait.max(Duration::from_millis(1)));
    }

    /// Has a lane that has its turn wait for a capacity.
    pub(crate) fn wait_for_capacity(&mut self, key: &LaneKey, capacity: LaneCapacity) {
        let Some(turn) = self.by_key.get(key).map(|lane| lane.turn) else { return };
        let line = self.schedule.waiting.entry(capacity).or_default();
        line.lanes.push_back((turn, key.clone()));
        if line.is_stalled {
            self.set_blocked(key, true);
        }
    }

    /// Returns the capacities that lanes wait for, in order of classes.
    pub(crate) fn awaited_capacities(&self) -> Vec<LaneCapacity> {
        self.schedule.waiting.keys().cloned().collect()
    }

    /// Returns the next lane that waits for a capacity.
    pub(crate) fn next_waiting(&mut self, capacity: &LaneCapacity) -> Option<LaneKey> {
        let line = self.schedule.waiting.get_mut(capacity)?;
        while let Some((turn, key)) = line.lanes.pop_front() {
            if self.by_key.get(&key).is_some_and(|lane| lane.turn == turn) {
                return Some(key);
            }
        }
        self.schedule.waiting.remove(capacity);
        None
    }

    /// Records whether a capacity that is used up has stalled. The lanes that wait for it are then
    /// blocked, so that they do not keep others from being read.
    pub(crate) fn set_stalled(&mut self, capacity: &LaneCapacity, is_stalled: bool) {
        let Some(line) = self.schedule.waiting.get_mut(capacity) else { return };
        if std::mem::replace(&mut line.is_stalled, is_stalled) || !is_stalled {
            return;
        }
        let lanes: Vec<_> = line.lanes.iter().map(|(_, key)| key.clone()).collect();
        for key in lanes {
            self.set_blocked(&key, true);
        }
    }

    /// Has a lane wait whose recipient is stuck, unless [`Lanes::retry_instance`] comes first.
    pub(crate) fn wait_for_instance(&mut self, key: &LaneKey, now: Duration, wait: Duration) {
        self.set_blocked(key, true);
        self.defer(key.clone(), now, wait);
        if let Some(lane) = self.by_key.get_mut(key) {
            lane.wait = LaneWait::Instance;
            let lanes = self.schedule.by_stuck_recipient.entry(key.recipient.clone());
            lanes.or_default().insert(key.clone());
        }
    }

    /// Gives the lanes that wait for a stuck recipient their turns.
    pub(crate) fn retry_instance(&mut self, recipient: &str, now: Duration) {
        let lanes = self.schedule.by_stuck_recipient.remove(recipient);
        for key in lanes.unwrap_or_default() {
            self.schedule(key, now, Duration::ZERO);
        }
    }
}
