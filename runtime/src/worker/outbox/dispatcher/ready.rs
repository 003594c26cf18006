//! Beginning what can begin: each lane has its turn once, then stands in line for its room.

use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{OutboxKind, OutboxRow};

use crate::worker::outbox::circuit_breaker::NotPermitted;
use crate::worker::outbox::dispatcher::{
    Dispatcher, ExecutedRow, ReadWindow, STALL_THRESHOLD, is_to_instance, window_of,
};
use crate::worker::outbox::lanes::{Class, LaneCapacity, LaneKey};
use crate::worker::quarantine::Suspicion;

/// The wait for a lease under which work may begin again.
const MISSING_LEASE_PAUSE: Duration = Duration::from_millis(100);

/// Why the line for a room stands still.
enum BlockedGateway {
    /// Until something of it ends.
    UntilOneEnds,
    /// Until this monotonic time.
    Until(Duration),
}

/// What a lane waits for.
enum StartOutcome {
    InLine(LaneCapacity),
    Later(Duration),
    /// Its recipient is stuck, and is tried again at this monotonic time.
    Stuck(Duration),
    /// Its first row is read again.
    Unread,
}

impl Dispatcher {
    /// Begins everything that can begin now.
    pub(super) fn start(&mut self) {
        let now = self.work.now();
        while let Some(key) = self.lanes.next(now) {
            match self.turn(&key, now) {
                StartOutcome::InLine(room) => self.lanes.stand_in_line(&key, room),
                turn => self.wait(key, &turn, now),
            }
        }
        for room in self.lanes.rooms() {
            while self.closed(&room, now).is_none() {
                let Some(key) = self.lanes.next_in_line(&room) else { break };
                match self.turn(&key, now) {
                    StartOutcome::InLine(own) if own == room => self.begin(key, &room, now),
                    // It was a suspect's when it joined the line.
                    StartOutcome::InLine(own) => self.lanes.stand_in_line(&key, own),
                    turn => self.wait(key, &turn, now),
                }
            }
            let is_stalled = self.stalls_at(&room).is_some_and(|at| at <= now);
            self.lanes.set_stalled(&room, is_stalled);
        }
    }

    /// The time until [`Dispatcher::start`] is worth another call, if nothing ends before.
    pub(super) fn until_start(&self, now: Duration) -> Option<Duration> {
        let rooms = self.lanes.rooms();
        let lines = rooms.iter().filter_map(|room| match self.closed(room, now) {
            None => Some(Duration::ZERO),
            Some(BlockedGateway::Until(until)) => Some(until.saturating_sub(now)),
            Some(BlockedGateway::UntilOneEnds) => {
                let stalls_at = self.stalls_at(room).filter(|at| *at > now);
                stalls_at.map(|at| at.saturating_sub(now))
            }
        });
        lines.chain(self.lanes.next_in(now)).min()
    }

    fn wait(&mut self, key: LaneKey, turn: &StartOutcome, now: Duration) {
        match turn {
            StartOutcome::InLine(_) => {}
            StartOutcome::Unread => self.lanes.reread_first(key),
            StartOutcome::Later(wait) => self.lanes.defer(key, now, *wait),
            StartOutcome::Stuck(until) => {
                self.lanes.wait_for_instance(&key, now, until.saturating_sub(now));
            }
        }
    }

    fn turn(&self, key: &LaneKey, now: Duration) -> StartOutcome {
        let Some(reading) = self.queues.get(&key.0) else {
            return StartOutcome::Later(MISSING_LEASE_PAUSE);
        };
        if self.doubtful.contains_key(key) || self.executing.contains(key) {
            return StartOutcome::Later(
                crate::worker::outbox::dispatcher::UNCONFIRMED_DECISION_POLL_INTERVAL,
            );
        }
        let row = self.lanes.first(key).map(|(_, row)| row);
        let is_executed = row.is_none_or(|row| !row.behind_parked);
        if is_to_instance(key) && is_executed {
            let next = self.work.shared.stuck.next_attempt(&key.2, now);
            if next > now {
                return StartOutcome::Stuck(next);
            }
        }
        let Some(row) = row else { return StartOutcome::Unread };
        if !reading.held.admits(self.work.clock(), self.limits(key).0) {
            return StartOutcome::Later(MISSING_LEASE_PAUSE);
        }
        let class = match row {
            OutboxRow { behind_parked: true, .. } => Class::BehindParked,
            row => Suspicion::of(row, reading.waited_to.unwrap_or(row.position))
                .map_or(Class::Plain, Class::Suspect),
        };
        StartOutcome::InLine(LaneCapacity { window: window_of(key), class })
    }

    /// The time that an execution may take, and how many there may be at a time.
    fn limits(&self, key: &LaneKey) -> (Duration, usize) {
        match self.work.gateways.get(key.0.target.as_str()) {
            Some(gateway) if key.0.kind == OutboxKind::Call => {
                (gateway.settings.timeout, gateway.settings.max_concurrent_calls)
            }
            _ => (Duration::ZERO, self.work.shared.settings.max_concurrent_dispatches),
        }
    }

    fn closed(&self, room: &LaneCapacity, now: Duration) -> Option<BlockedGateway> {
        let (kind, target) = &room.window;
        let gateway = self.work.gateways.get(target.as_str());
        let most = match gateway.filter(|_| *kind == OutboxKind::Call) {
            Some(gateway) => gateway.settings.max_concurrent_calls,
            None => self.work.shared.settings.max_concurrent_dispatches,
        };
        if self.windows.get(&room.window).is_some_and(|window| window.busy >= most) {
            return Some(BlockedGateway::UntilOneEnds);
        }
        match room.class {
            Class::Suspect(of) if !self.quarantine.admits(of, &room.window) => {
                return Some(BlockedGateway::UntilOneEnds);
            }
            Class::BehindParked => return None,
            Class::Suspect(_) | Class::Plain => {}
        }
        let breaker = self.breakers.get(target).filter(|_| *kind == OutboxKind::Call)?;
        match breaker.check(now) {
            Ok(()) => None,
            Err(NotPermitted::Until(until)) => Some(BlockedGateway::Until(until)),
            Err(NotPermitted::Probing) => Some(BlockedGateway::UntilOneEnds),
        }
    }

    /// The time from which on a full window stands still, if others share its queue: what is for other
    /// topics must be read.
    fn stalls_at(&self, room: &LaneCapacity) -> Option<Duration> {
        let is_full = |window: &&ReadWindow| {
            window.busy >= self.work.shared.settings.max_concurrent_dispatches
        };
        let window = self.windows.get(&room.window).filter(is_full);
        let window = window.filter(|_| room.window.0 == OutboxKind::Send)?;
        Some(window.moved + STALL_THRESHOLD)
    }

    fn begin(&mut self, key: LaneKey, room: &LaneCapacity, now: Duration) {
        let (Some(reading), Some((serial, row))) =
            (self.queues.get(&key.0), self.lanes.first(&key))
        else {
            return;
        };
        let is_executed = !row.behind_parked;
        if is_to_instance(&key) && is_executed {
            if let Err(until) = self.work.shared.stuck.admit(&key.2, now) {
                return self.wait(key, &StartOutcome::Stuck(until), now);
            }
        }
        let mut call = None;
        if key.0.kind == OutboxKind::Call && is_executed {
            if let Some(breaker) = self.breakers.get_mut(&key.0.target) {
                match breaker.admit(now) {
                    Ok(admitted) => call = Some(admitted),
                    Err(_) => {
                        return self.wait(key, &StartOutcome::Later(MISSING_LEASE_PAUSE), now);
                    }
                }
            }
        }
        let suspicion = match room.class {
            Class::Suspect(suspicion) => Some(suspicion),
            Class::BehindParked | Class::Plain => None,
        };
        if let Some(suspicion) = suspicion {
            self.quarantine.begin(suspicion, &room.window);
        }
        // The lane keeps the row: it may have to wait again.
        let (held, row) = (Arc::clone(&reading.held), row.clone());
        let window = self.windows.entry(room.window.clone());
        window.or_insert(ReadWindow { busy: 0, moved: now }).busy += 1;
        self.executing.insert(key.clone());
        let (work, limit) = (Arc::clone(&self.work), self.limits(&key).0);
        self.running.spawn(async move {
            let (executed, is_recorded) = work.attempt(&held, &row, limit, suspicion).await;
            ExecutedRow { key, serial, row, held, suspicion, is_recorded, executed, call }
        });
    }
}
