//! A batch as the arrays that `append_events` takes.

use std::collections::HashMap;

use composable_rust_core::StreamId;
use composable_rust_core::queue::ArmedTimer;
use composable_rust_core::store::{Append, Due, ExpectedVersion, NewTimer, TimerChange};
use uuid::Uuid;

use super::AppendResult;
use crate::columns::{Content, OutboxRows, Owner, Query, count};
use crate::row::{MAX_DUE_MICROS, micros};

/// The maximum expected version. No stream is ever longer, so a higher expected version has the
/// same outcome; and the server may add the number of events to it.
const MAX_VERSION: i64 = i64::MAX / 2;

/// The members of a batch, by column. Members are counted from 1.
#[derive(Default)]
pub(super) struct Columns<'a> {
    stream: Vec<&'a str>,
    expected: Vec<i64>,
    first: Vec<i32>,
    count: Vec<i32>,
    events: EventColumns<'a>,
    entries: InboxColumns<'a>,
    outbox: OutboxRows<'a>,
    timers: TimerColumns<'a>,
    cancelled: CancelledColumns<'a>,
    fired: FiredColumns<'a>,
}

#[derive(Default)]
struct EventColumns<'a> {
    owner: Owner<'a>,
    index: Vec<i32>,
    id: Vec<Uuid>,
    content: Content<'a>,
}

#[derive(Default)]
struct InboxColumns<'a> {
    owner: Owner<'a>,
    id: Vec<Uuid>,
    digest: Vec<Uuid>,
    last: Vec<i32>,
    count: Vec<i32>,
    outcome: Vec<&'a [u8]>,
}

#[derive(Default)]
struct TimerColumns<'a> {
    owner: Owner<'a>,
    id: Vec<&'a str>,
    message: Vec<Uuid>,
    armed_by: Vec<Uuid>,
    armed_index: Vec<i64>,
    relative: Vec<bool>,
    due: Vec<i64>,
    content: Content<'a>,
}

#[derive(Default)]
struct CancelledColumns<'a> {
    owner: Owner<'a>,
    id: Vec<Option<&'a str>>,
}

#[derive(Default)]
struct FiredColumns<'a> {
    owner: Owner<'a>,
    id: Vec<&'a str>,
    armed_by: Vec<Uuid>,
    armed_index: Vec<i64>,
}

impl<'a> Columns<'a> {
    pub(super) fn new(log: Uuid, batch: &'a [Append]) -> Self {
        let mut columns = Self::default();
        for (index, append) in batch.iter().enumerate() {
            columns.push(log, count(index + 1), append);
        }
        columns
    }

    /// Returns `true` if the batch has outbox rows or timer changes.
    pub(super) fn has_effects(&self) -> bool {
        let timers = [&self.timers.owner, &self.cancelled.owner, &self.fired.owner];
        !self.outbox.is_empty() || timers.iter().any(|owner| !owner.is_empty())
    }

    fn push(&mut self, log: Uuid, member: i32, append: &'a Append) {
        let stream = append.stream.as_str();
        self.stream.push(stream);
        self.expected.push(expected(append.expected));
        self.first.push(count(self.events.id.len()));
        self.count.push(count(append.events.len()));
        for (index, event) in append.events.iter().enumerate() {
            self.events.owner.push(member, stream);
            self.events.index.push(count(index + 1));
            self.events.id.push(event.id.0);
            self.events.content.push(&event.content, &event.metadata);
        }
        for entry in &append.inbox {
            self.entries.owner.push(member, stream);
            self.entries.id.push(entry.message_id.0);
            self.entries.digest.push(Uuid::from_u128(entry.digest));
            self.entries.last.push(count(entry.first_event + entry.event_count));
            self.entries.count.push(count(entry.event_count));
            self.entries.outcome.push(&entry.outcome);
        }
        for row in &append.outbox {
            self.outbox.push(member, stream, row);
        }
        for firing in &append.fired_timers {
            self.fired.push(member, stream, firing);
        }
        self.push_timers(log, member, append);
    }

    /// Adds the timer changes of a member. Only the last change of each timer has an effect.
    /// Cancellations precede armings.
    fn push_timers(&mut self, log: Uuid, member: i32, append: &'a Append) {
        let stream = append.stream.as_str();
        if append.cancels_timers {
            self.cancelled.owner.push(member, stream);
            self.cancelled.id.push(None);
        }
        let id = |change: &'a TimerChange| match change {
            TimerChange::Arm(timer) => timer.id.as_str(),
            TimerChange::Cancel { id } => id,
        };
        let last: HashMap<&str, usize> =
            append.timers.iter().enumerate().map(|(index, change)| (id(change), index)).collect();
        for (index, change) in append.timers.iter().enumerate() {
            if last.get(id(change)) != Some(&index) {
                continue;
            }
            match change {
                TimerChange::Arm(timer) => self.timers.push(log, member, &append.stream, timer),
                TimerChange::Cancel { id } => {
                    self.cancelled.owner.push(member, stream);
                    self.cancelled.id.push(Some(id));
                }
            }
        }
    }

    pub(super) fn bind(self, query: Query<'a, AppendResult>) -> Query<'a, AppendResult> {
        let effects = self.has_effects();
        let Self { stream, expected, first, count, events, entries, .. } = self;
        let query = query.bind(stream).bind(expected).bind(first).bind(count);
        let query = events.owner.bind(query).bind(events.index).bind(events.id);
        let query = events.content.bind(query);
        let query = entries.owner.bind(query).bind(entries.id).bind(entries.digest);
        let query = query.bind(entries.last).bind(entries.count).bind(entries.outcome);
        if !effects {
            return query;
        }
        let Self { outbox, timers, cancelled, fired, .. } = self;
        let query = timers.owner.bind(outbox.bind(query)).bind(timers.id).bind(timers.message);
        let query = query.bind(timers.armed_by).bind(timers.armed_index);
        let query = timers.content.bind(query.bind(timers.relative).bind(timers.due));
        let query = cancelled.owner.bind(query).bind(cancelled.id);
        let query = fired.owner.bind(query).bind(fired.id);
        query.bind(fired.armed_by).bind(fired.armed_index)
    }
}

impl<'a> TimerColumns<'a> {
    fn push(&mut self, log: Uuid, member: i32, stream: &'a StreamId, timer: &'a NewTimer) {
        self.owner.push(member, stream.as_str());
        self.id.push(&timer.id);
        let firing = ArmedTimer { id: timer.id.clone(), arming: timer.arming };
        self.message.push(firing.message_id(log, stream).0);
        self.armed_by.push(timer.arming.armed_by.0);
        self.armed_index.push(i64::from(timer.arming.effect_index));
        let (relative, due) = match timer.due {
            Due::After(delay) => (true, micros(delay)),
            Due::At(moment) => (false, moment.as_micros()),
        };
        self.relative.push(relative);
        self.due.push(due.clamp(-MAX_DUE_MICROS / 10, MAX_DUE_MICROS));
        self.content.push(&timer.content, &timer.metadata);
    }
}

impl<'a> FiredColumns<'a> {
    fn push(&mut self, member: i32, stream: &'a str, firing: &'a ArmedTimer) {
        self.owner.push(member, stream);
        self.id.push(&firing.id);
        self.armed_by.push(firing.arming.armed_by.0);
        self.armed_index.push(i64::from(firing.arming.effect_index));
    }
}

/// Returns the expected version; -1 for any, -2 for at least 1.
pub(super) fn expected(expected: ExpectedVersion) -> i64 {
    match expected {
        ExpectedVersion::Any => -1,
        ExpectedVersion::Exists => -2,
        ExpectedVersion::Exact(version) => {
            i64::try_from(version.get()).map_or(MAX_VERSION, |version| version.min(MAX_VERSION))
        }
    }
}
