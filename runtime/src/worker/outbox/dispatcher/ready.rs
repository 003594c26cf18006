//! Beginning rows: a lane has its turn once, then waits for its capacity.

use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::queue::{OutboxKind, OutboxRow};

use crate::worker::outbox::call_limits::{AdmittedCall, NoCall};
use crate::worker::outbox::dispatcher::decisions::UNCONFIRMED_DECISION_POLL_INTERVAL;
use crate::worker::outbox::dispatcher::{
    Dispatcher, ExecutedRow, InFlight, executor_of, is_to_instance,
};
use crate::worker::outbox::execution::{Attempt, AttemptLimits, RowExecutor};
use crate::worker::outbox::gateway::RegisteredGateway;
use crate::worker::outbox::lanes::{Class, LaneCapacity, LaneKey};
use crate::worker::quarantine::Suspicion;

/// Pause of a lane whose queue has no lease under which work may begin.
const MISSING_LEASE_PAUSE: Duration = Duration::from_millis(100);

/// Duration after which a capacity that is used up counts as stalled.
const STALL_THRESHOLD: Duration = Duration::from_secs(1);

/// The duration for which a capacity admits no row.
enum Unavailable {
    /// Until one of its rows ends.
    UntilOneEnds,
    /// Until this monotonic time.
    Until(Duration),
    /// Until its gateway is resumed.
    UntilResumed,
}

impl From<NoCall> for Unavailable {
    fn from(no: NoCall) -> Self {
        match no {
            NoCall::Paused => Self::UntilResumed,
            NoCall::Until(until) => Self::Until(until),
            NoCall::UntilOneEnds => Self::UntilOneEnds,
        }
    }
}

/// The outcome of a lane's turn.
enum Turn {
    /// The first row begins once the capacity admits it.
    Ready(LaneCapacity),
    /// The lane has another turn after this pause.
    Later(Duration),
    /// The recipient is stuck, and is retried at this monotonic time.
    Stuck(Duration),
    /// The first row was evicted.
    Evicted,
}

impl<E: RowExecutor> Dispatcher<E> {
    /// Begins all rows that can begin now.
    pub(super) fn start(&mut self) {
        let now = self.context.now();
        self.admit_limited(now);
        while let Some(key) = self.lanes.next(now) {
            match self.turn(&key, now) {
                Turn::Ready(capacity) => self.lanes.wait_for_capacity(&key, capacity),
                turn => self.wait(key, &turn, now),
            }
        }
        for capacity in self.lanes.awaited_capacities() {
            while self.unavailable(&capacity, now).is_none() {
                let Some(key) = self.lanes.next_waiting(&capacity) else { break };
                match self.turn(&key, now) {
                    Turn::Ready(own) if own == capacity => self.begin(key, &capacity, now),
                    // The first row is not a suspect any more, or has become one.
                    Turn::Ready(own) => self.lanes.wait_for_capacity(&key, own),
                    turn => self.wait(key, &turn, now),
                }
            }
            let is_stalled = self.stalls_at(&capacity).is_some_and(|at| at <= now);
            self.lanes.set_stalled(&capacity, is_stalled);
        }
    }

    /// Gives lanes their turns whose limits by key admit calls again.
    fn admit_limited(&mut self, now: Duration) {
        for limit in self.lanes.due_limits(now) {
            let (name, by_key) = &limit;
            let (count, next) = match self.gateways.get(name.as_str()) {
                Some(gateway) => {
                    let limits = gateway.limits();
                    (limits.openings(by_key, now), limits.opens_at(by_key, now))
                }
                None => (usize::MAX, now),
            };
            self.lanes.admit_limited(&limit, count, next, now);
        }
    }

    /// Returns the time until [`Dispatcher::start`] can begin a row, if none ends before.
    pub(super) fn until_start(&self, now: Duration) -> Option<Duration> {
        let capacities = self.lanes.awaited_capacities();
        let lines =
            capacities.iter().filter_map(|capacity| match self.unavailable(capacity, now) {
                None => Some(Duration::ZERO),
                Some(Unavailable::Until(until)) => Some(until.saturating_sub(now)),
                Some(Unavailable::UntilResumed) => None,
                Some(Unavailable::UntilOneEnds) => {
                    let stalls_at = self.stalls_at(capacity).filter(|at| *at > now);
                    stalls_at.map(|at| at.saturating_sub(now))
                }
            });
        lines.chain(self.lanes.next_in(now)).min()
    }

    fn wait(&mut self, key: LaneKey, turn: &Turn, now: Duration) {
        match turn {
            Turn::Ready(_) => {}
            Turn::Evicted => self.lanes.request_first(key),
            Turn::Later(wait) => self.lanes.defer(key, now, *wait),
            Turn::Stuck(until) => {
                self.lanes.wait_for_instance(&key, now, until.saturating_sub(now));
            }
        }
    }

    /// Gives a lane its turn.
    fn turn(&self, key: &LaneKey, now: Duration) -> Turn {
        let Some(cursor) = self.queues.get(&key.queue) else {
            return Turn::Later(MISSING_LEASE_PAUSE);
        };
        if self.unconfirmed.contains_key(key) || self.executing.contains(key) {
            return Turn::Later(UNCONFIRMED_DECISION_POLL_INTERVAL);
        }
        let row = self.lanes.first(key).map(|(_, row)| row);
        let is_executed = row.is_none_or(|row| !row.behind_parked);
        if is_to_instance(key) && is_executed {
            let next = self.context.shared.stuck.next_attempt(&key.recipient, now);
            if next > now {
                return Turn::Stuck(next);
            }
        }
        let Some(row) = row else { return Turn::Evicted };
        if !cursor.held.admits(self.context.clock(), self.timeout(key)) {
            return Turn::Later(MISSING_LEASE_PAUSE);
        }
        let class = match row {
            OutboxRow { behind_parked: true, .. } => Class::BehindParked,
            row => Suspicion::of(row, cursor.suspects_to.unwrap_or(row.position))
                .map_or(Class::Plain, Class::Suspect),
        };
        Turn::Ready(LaneCapacity { executor: executor_of(key), class })
    }

    /// Returns the timeout of an attempt; zero if it has none.
    fn timeout(&self, key: &LaneKey) -> Duration {
        self.gateway_of(&executor_of(key)).map_or(Duration::ZERO, |gateway| gateway.timeout)
    }

    /// Returns the duration for which a capacity admits no row; `None` if it admits one.
    fn unavailable(&self, capacity: &LaneCapacity, now: Duration) -> Option<Unavailable> {
        let gateway = self.gateway_of(&capacity.executor);
        let max = match gateway {
            Some(gateway) => gateway.max_concurrent_calls,
            None => self.context.shared.settings.max_concurrent_dispatches,
        };
        if self.windows.get(&capacity.executor).is_some_and(|window| window.count >= max) {
            return Some(Unavailable::UntilOneEnds);
        }
        match capacity.class {
            Class::Suspect(of) if !self.quarantine.admits(of, &capacity.executor) => {
                return Some(Unavailable::UntilOneEnds);
            }
            Class::BehindParked => return None,
            Class::Suspect(_) | Class::Plain => {}
        }
        gateway?.limits().check(now).err().map(Unavailable::from)
    }

    /// Returns the gateway that executes rows, if they are calls.
    pub(super) fn gateway_of(&self, executor: &(OutboxKind, String)) -> Option<&RegisteredGateway> {
        let (kind, target) = executor;
        self.gateways.get(target.as_str()).filter(|_| *kind == OutboxKind::Call)
    }

    /// Admits the call of a lane, or has the lane wait. Returns `None` if it waits, and
    /// `Some(None)` for a row that is no call.
    #[expect(clippy::option_option, reason = "waiting and no call differ")]
    fn admit_call(&mut self, key: &LaneKey, now: Duration) -> Option<Option<AdmittedCall>> {
        let (Some(gateway), Some((_, row))) =
            (self.gateway_of(&executor_of(key)), self.lanes.first(key))
        else {
            return Some(None);
        };
        if row.behind_parked {
            return Some(None);
        }
        // The program's functions run before the lock.
        let keys = gateway.gateway.keys(self.context.shared.storage(), row);
        let admitted = gateway.limits().admit(keys, now);
        match admitted {
            Ok(call) => return Some(Some(call)),
            Err(Some((limit, due))) => {
                let limit = (key.queue.target.clone(), limit);
                self.lanes.wait_for_limit(key, limit, due);
            }
            Err(None) => self.lanes.defer(key.clone(), now, MISSING_LEASE_PAUSE),
        }
        None
    }

    /// Returns the time from which a capacity that is used up counts as stalled, if messages for
    /// other topics share its queue and must be read.
    fn stalls_at(&self, capacity: &LaneCapacity) -> Option<Duration> {
        let is_full = |window: &&InFlight| {
            window.count >= self.context.shared.settings.max_concurrent_dispatches
        };
        let window = self.windows.get(&capacity.executor).filter(is_full);
        let window = window.filter(|_| capacity.executor.0 == OutboxKind::Send)?;
        Some(window.last_progress + STALL_THRESHOLD)
    }

    fn begin(&mut self, key: LaneKey, capacity: &LaneCapacity, now: Duration) {
        if !self.queues.contains_key(&key.queue) {
            return;
        }
        let Some(call) = self.admit_call(&key, now) else { return };
        let (Some(cursor), Some((read_id, row))) =
            (self.queues.get(&key.queue), self.lanes.first(&key))
        else {
            return;
        };
        let is_executed = !row.behind_parked;
        if is_to_instance(&key) && is_executed {
            if let Err(until) = self.context.shared.stuck.admit(&key.recipient, now) {
                return self.wait(key, &Turn::Stuck(until), now);
            }
        }
        let suspicion = match capacity.class {
            Class::Suspect(suspicion) => Some(suspicion),
            Class::BehindParked | Class::Plain => None,
        };
        if let Some(suspicion) = suspicion {
            self.quarantine.begin(suspicion, &capacity.executor);
        }
        // The lane keeps the row, in case it must wait again.
        let (held, row) = (Arc::clone(&cursor.held), row.clone());
        let window = self.windows.entry(capacity.executor.clone());
        window.or_insert(InFlight { count: 0, last_progress: now }).count += 1;
        self.executing.insert(key.clone());
        let (context, executor) = (Arc::clone(&self.context), Arc::clone(&self.executor));
        let (timeout, retry) = (self.timeout(&key), self.retry_policy(&row.queue));
        let limits = AttemptLimits { timeout, retry };
        self.running.spawn(async move {
            let attempt = Attempt::make(&context, &*executor, &held, &row, limits, suspicion).await;
            let Attempt { execution, is_recorded } = attempt;
            if !row.behind_parked {
                let waited = context.clock().now().since(row.queued_at);
                let queue = (row.queue.kind, &*row.queue.target);
                context.deliveries.attempted(queue, &execution.result, waited);
            }
            ExecutedRow { key, read_id, row, held, suspicion, is_recorded, execution, call }
        });
    }
}
