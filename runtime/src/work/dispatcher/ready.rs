//! Beginning what can begin: each lane has its turn once, then stands in line for its room.

use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{OutboxKind, OutboxRow};

use super::{Dispatcher, Finished, STALLED, Window, is_to_instance, window_of};
use crate::work::breaker::Refused;
use crate::work::lanes::{Class, LaneKey, Room};
use crate::work::quarantine::Suspicion;

/// The wait for a lease under which work may begin again.
const NO_LEASE: Duration = Duration::from_millis(100);

/// Why the line for a room stands still.
enum Closed {
    /// Until something of it ends.
    UntilOneEnds,
    /// Until this monotonic time.
    Until(Duration),
}

/// What a lane waits for.
enum Turn {
    InLine(Room),
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
                Turn::InLine(room) => self.lanes.stand_in_line(&key, room),
                turn => self.wait(key, &turn, now),
            }
        }
        for room in self.lanes.rooms() {
            while self.closed(&room, now).is_none() {
                let Some(key) = self.lanes.next_in_line(&room) else { break };
                match self.turn(&key, now) {
                    Turn::InLine(own) if own == room => self.begin(key, &room, now),
                    // It was a suspect's when it joined the line.
                    Turn::InLine(own) => self.lanes.stand_in_line(&key, own),
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
            Some(Closed::Until(until)) => Some(until.saturating_sub(now)),
            Some(Closed::UntilOneEnds) => {
                let stalls_at = self.stalls_at(room).filter(|at| *at > now);
                stalls_at.map(|at| at.saturating_sub(now))
            }
        });
        lines.chain(self.lanes.next_in(now)).min()
    }

    fn wait(&mut self, key: LaneKey, turn: &Turn, now: Duration) {
        match turn {
            Turn::InLine(_) => {}
            Turn::Unread => self.lanes.reread_first(key),
            Turn::Later(wait) => self.lanes.defer(key, now, *wait),
            Turn::Stuck(until) => {
                self.lanes.wait_for_instance(&key, now, until.saturating_sub(now));
            }
        }
    }

    fn turn(&self, key: &LaneKey, now: Duration) -> Turn {
        let Some(reading) = self.queues.get(&key.0) else { return Turn::Later(NO_LEASE) };
        if self.doubtful.contains_key(key) || self.executing.contains(key) {
            return Turn::Later(super::IN_DOUBT);
        }
        let row = self.lanes.first(key).map(|(_, row)| row);
        let is_executed = row.is_none_or(|row| !row.behind_parked);
        if is_to_instance(key) && is_executed {
            let next = self.work.shared.stuck.next_attempt(&key.2, now);
            if next > now {
                return Turn::Stuck(next);
            }
        }
        let Some(row) = row else { return Turn::Unread };
        if !reading.held.admits(self.work.clock(), self.limits(key).0) {
            return Turn::Later(NO_LEASE);
        }
        let class = match row {
            OutboxRow { behind_parked: true, .. } => Class::BehindParked,
            row => Suspicion::of(row, reading.waited_to.unwrap_or(row.place))
                .map_or(Class::Plain, Class::Suspect),
        };
        Turn::InLine(Room { window: window_of(key), class })
    }

    /// The time that an execution may take, and how many there may be at a time.
    fn limits(&self, key: &LaneKey) -> (Duration, usize) {
        match self.work.gateways.get(key.0.target.as_str()) {
            Some(gateway) if key.0.kind == OutboxKind::Call => {
                (gateway.settings.time_limit, gateway.settings.concurrency)
            }
            _ => (Duration::ZERO, self.work.shared.settings.dispatches),
        }
    }

    fn closed(&self, room: &Room, now: Duration) -> Option<Closed> {
        let (kind, target) = &room.window;
        let gateway = self.work.gateways.get(target.as_str());
        let most = match gateway.filter(|_| *kind == OutboxKind::Call) {
            Some(gateway) => gateway.settings.concurrency,
            None => self.work.shared.settings.dispatches,
        };
        if self.windows.get(&room.window).is_some_and(|window| window.busy >= most) {
            return Some(Closed::UntilOneEnds);
        }
        match room.class {
            Class::Suspect(of) if !self.quarantine.admits(of, &room.window) => {
                return Some(Closed::UntilOneEnds);
            }
            Class::BehindParked => return None,
            Class::Suspect(_) | Class::Plain => {}
        }
        let breaker = self.breakers.get(target).filter(|_| *kind == OutboxKind::Call)?;
        match breaker.check(now) {
            Ok(()) => None,
            Err(Refused::Until(until)) => Some(Closed::Until(until)),
            Err(Refused::Probing) => Some(Closed::UntilOneEnds),
        }
    }

    /// The time from which on a full window stands still, if others share its queue: what is for other
    /// topics must be read.
    fn stalls_at(&self, room: &Room) -> Option<Duration> {
        let is_full = |window: &&Window| window.busy >= self.work.shared.settings.dispatches;
        let window = self.windows.get(&room.window).filter(is_full);
        let window = window.filter(|_| room.window.0 == OutboxKind::Send)?;
        Some(window.moved + STALLED)
    }

    fn begin(&mut self, key: LaneKey, room: &Room, now: Duration) {
        let (Some(reading), Some((serial, row))) =
            (self.queues.get(&key.0), self.lanes.first(&key))
        else {
            return;
        };
        let is_executed = !row.behind_parked;
        if is_to_instance(&key) && is_executed {
            if let Err(until) = self.work.shared.stuck.admit(&key.2, now) {
                return self.wait(key, &Turn::Stuck(until), now);
            }
        }
        let mut call = None;
        if key.0.kind == OutboxKind::Call && is_executed {
            if let Some(breaker) = self.breakers.get_mut(&key.0.target) {
                match breaker.admit(now) {
                    Ok(admitted) => call = Some(admitted),
                    Err(_) => return self.wait(key, &Turn::Later(NO_LEASE), now),
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
        window.or_insert(Window { busy: 0, moved: now }).busy += 1;
        self.executing.insert(key.clone());
        let (work, limit) = (Arc::clone(&self.work), self.limits(&key).0);
        self.running.spawn(async move {
            let (executed, is_recorded) = work.attempt(&held, &row, limit, suspicion).await;
            Finished { key, serial, row, held, suspicion, is_recorded, executed, call }
        });
    }
}
