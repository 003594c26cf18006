//! Writing the appends that passed the checks, in few statements.

use std::collections::BTreeMap;

use composable_rust_core::event::NewEvent;
use composable_rust_core::store::{Append, Due, NewInboxEntry, NewTimer, TimerChange};
use composable_rust_core::{Timestamp, Version};
use uuid::Uuid;

use crate::connection::Transaction;
use crate::outbox::{self, PositionedRow};
use crate::sql::{CHUNK, int, padded};
use crate::statement_batch::{Statement, StatementBatch, add_content, commit_all};

/// The rows of a batch, in order.
#[derive(Debug)]
pub(crate) struct Rows<'b> {
    partition: u16,
    now: Timestamp,
    head: u64,
    sequence: i64,
    events: Vec<EventRow<'b>>,
    entries: Vec<InboxRow<'b>>,
    outbox: Vec<PositionedRow<'b>>,
    armed: Vec<(&'b Append, &'b NewTimer)>,
    cancelled: Vec<(&'b str, &'b str)>,
    cleared: Vec<&'b str>,
}

#[derive(Debug)]
struct EventRow<'b> {
    offset: u64,
    stream: &'b str,
    version: Version,
    event: &'b NewEvent,
}

#[derive(Debug)]
struct InboxRow<'b> {
    stream: &'b str,
    version: Version,
    offset: Option<u64>,
    entry: &'b NewInboxEntry,
}

impl<'b> Rows<'b> {
    /// Creates an empty set of rows, in a partition whose highest offset is `head` and whose last
    /// queue position is `sequence`.
    pub(crate) fn new(partition: u16, now: Timestamp, head: u64, sequence: i64) -> Self {
        Self {
            partition,
            now,
            head,
            sequence,
            events: Vec::new(),
            entries: Vec::new(),
            outbox: Vec::new(),
            armed: Vec::new(),
            cancelled: Vec::new(),
            cleared: Vec::new(),
        }
    }

    /// Adds the rows of an append to a stream at version `base`. Returns the offset of the last
    /// event.
    pub(crate) fn add(&mut self, append: &'b Append, base: Version) -> Option<u64> {
        let stream = append.stream.as_str();
        let before = self.head;
        for (event, version) in append.events.iter().zip(base.get() + 1..) {
            self.head += 1;
            let version = Version::new(version);
            self.events.push(EventRow { offset: self.head, stream, version, event });
        }
        self.entries.extend(append.inbox.iter().map(|entry| {
            let last = u64::from(entry.first_event) + u64::from(entry.event_count);
            let offset = (entry.event_count > 0).then_some(before + last);
            InboxRow { stream, version: base.plus(last), offset, entry }
        }));
        for row in &append.outbox {
            self.sequence += 1;
            self.outbox.push(PositionedRow { sequence: self.sequence, stream, row });
        }
        self.add_timers(append);
        (self.head > before).then_some(self.head)
    }

    fn add_timers(&mut self, append: &'b Append) {
        let stream = append.stream.as_str();
        if append.cancels_timers {
            self.cleared.push(stream);
        }
        // Only the last change of a timer has an effect; fired timers are deleted before all of
        // them.
        let fired = append.fired_timers.iter().map(|firing| (firing.id.as_str(), None));
        let mut last: BTreeMap<&str, Option<&NewTimer>> = fired.collect();
        for change in &append.timers {
            match change {
                TimerChange::Arm(timer) => last.insert(timer.id.as_str(), Some(timer)),
                TimerChange::Cancel { id } => last.insert(id.as_str(), None),
            };
        }
        for (id, timer) in last {
            match timer {
                Some(timer) => self.armed.push((append, timer)),
                None => self.cancelled.push((stream, id)),
            }
        }
    }

    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.outbox.is_empty() || !self.armed.is_empty()
    }

    /// Writes the rows and commits.
    pub(crate) async fn commit(&self, transaction: Transaction<'_>) -> Result<(), sqlx::Error> {
        commit_all(transaction, self.statements()).await
    }

    /// Returns the statements, each with the number of rows that it writes.
    fn statements(&self) -> Vec<(Statement<'_>, usize)> {
        let mut statements: Vec<(Statement<'_>, usize)> = Vec::new();
        for rows in self.events.chunks(CHUNK) {
            statements.push((Box::new(|s| self.insert_events(s, rows)), padded(rows.len())));
        }
        for rows in self.entries.chunks(CHUNK) {
            statements.push((Box::new(|s| self.insert_entries(s, rows)), padded(rows.len())));
        }
        for rows in self.outbox.chunks(CHUNK) {
            let insert = |s: &mut _| outbox::insert(s, self.partition, self.now, rows);
            statements.push((Box::new(insert), padded(rows.len())));
        }
        // A change of a timer also removes a parked timer of the same id.
        for rows in self.cleared.chunks(CHUNK) {
            statements.push((Box::new(|s| self.delete_cleared(s, rows)), padded(rows.len())));
            statements.push((Box::new(|s| self.delete_parked_of(s, rows)), padded(rows.len())));
        }
        for rows in self.cancelled.chunks(CHUNK) {
            statements.push((Box::new(|s| self.delete_cancelled(s, rows)), padded(rows.len())));
            let parked = |s: &mut _| self.delete_parked(s, rows.iter().copied());
            statements.push((Box::new(parked), padded(rows.len())));
        }
        for rows in self.armed.chunks(CHUNK) {
            statements.push((Box::new(|s| self.insert_timers(s, rows)), padded(rows.len())));
            let id = |row: &(&'b Append, &'b NewTimer)| (row.0.stream.as_str(), row.1.id.as_str());
            let parked = move |s: &mut _| self.delete_parked(s, rows.iter().map(id));
            statements.push((Box::new(parked), padded(rows.len())));
        }
        statements
    }

    fn insert_events<'s>(&self, script: &mut StatementBatch<'s>, rows: &'s [EventRow<'b>]) {
        script.values(
            (
                "insert into events (partition, created_at, log_offset, stream_id, version, \
              event_id, metadata, event_type, schema_version, codec, event_data) \
              select ?, ?, v.* from (values ",
                ") v where v.column1 is not null;",
            ),
            (9, rows.len()),
            |args| {
                args.add(i64::from(self.partition));
                args.add(self.now.as_micros());
            },
            |args| {
                for row in rows {
                    args.add(int(row.offset));
                    args.add(row.stream);
                    args.add(int(row.version.get()));
                    args.add(row.event.id.0);
                    args.add(row.event.metadata.as_str());
                    add_content(args, &row.event.content);
                }
            },
        );
    }

    fn insert_entries<'s>(&self, script: &mut StatementBatch<'s>, rows: &'s [InboxRow<'b>]) {
        script.values(
            (
                "insert into inbox (partition, created_at, stream_id, message_id, digest, version, \
              log_offset, outcome) \
              select ?, ?, v.* from (values ",
                ") v where v.column1 is not null;",
            ),
            (6, rows.len()),
            |args| {
                args.add(i64::from(self.partition));
                args.add(self.now.as_micros());
            },
            |args| {
                for row in rows {
                    args.add(row.stream);
                    args.add(row.entry.message_id.0);
                    args.add(Uuid::from_u128(row.entry.digest));
                    args.add(int(row.version.get()));
                    args.add(row.offset.map(int));
                    args.add(row.entry.outcome.as_slice());
                }
            },
        );
    }

    fn delete_cleared<'s>(&self, script: &mut StatementBatch<'s>, rows: &'s [&'b str]) {
        script.values(
            (
                "delete from timers where rowid in (select t.rowid from (select ? as partition) p \
              cross join (values ",
                ") v cross join timers t \
              on t.partition = p.partition and t.stream_id = v.column1);",
            ),
            (1, rows.len()),
            |args| args.add(i64::from(self.partition)),
            |args| rows.iter().for_each(|stream| args.add(*stream)),
        );
    }

    fn delete_cancelled<'s>(
        &self,
        script: &mut StatementBatch<'s>,
        rows: &'s [(&'b str, &'b str)],
    ) {
        script.values(
            (
                "delete from timers where rowid in (select t.rowid from (select ? as partition) p \
              cross join (values ",
                ") v cross join timers t on t.partition = p.partition \
              and t.stream_id = v.column1 and t.timer_id = v.column2);",
            ),
            (2, rows.len()),
            |args| args.add(i64::from(self.partition)),
            |args| {
                for (stream, id) in rows {
                    args.add(*stream);
                    args.add(*id);
                }
            },
        );
    }

    fn delete_parked_of<'s>(&self, script: &mut StatementBatch<'s>, rows: &'s [&'b str]) {
        script.values(
            (
                "delete from dead_letters where rowid in (select d.rowid from \
              (select ? as partition) p cross join (values ",
                ") v cross join dead_letters d on d.partition = p.partition and d.kind = 'timer' \
              and d.target = substr(v.column1, 1, instr(v.column1, '-') - 1) \
              and d.stream_id = v.column1);",
            ),
            (1, rows.len()),
            |args| args.add(i64::from(self.partition)),
            |args| rows.iter().for_each(|stream| args.add(*stream)),
        );
    }

    fn delete_parked<'s>(
        &self,
        script: &mut StatementBatch<'s>,
        rows: impl ExactSizeIterator<Item = (&'s str, &'s str)>,
    ) {
        script.values(
            (
                "delete from dead_letters where rowid in (select d.rowid from \
              (select ? as partition) p cross join (values ",
                ") v cross join dead_letters d on d.partition = p.partition and d.kind = 'timer' \
              and d.target = substr(v.column1, 1, instr(v.column1, '-') - 1) \
              and d.stream_id = v.column1 and d.recipient = v.column2);",
            ),
            (2, rows.len()),
            |args| args.add(i64::from(self.partition)),
            |args| {
                for (stream, id) in rows {
                    args.add(stream);
                    args.add(id);
                }
            },
        );
    }

    fn insert_timers<'s>(
        &self,
        script: &mut StatementBatch<'s>,
        rows: &'s [(&'b Append, &'b NewTimer)],
    ) {
        script.values(
            ("insert or replace into timers (partition, armed_at, category, stream_id, timer_id, \
              armed_by, armed_index, due, metadata, message_type, schema_version, codec, \
              message_data) \
              select ?, ?, v.* from (values ", ") v where v.column1 is not null;"),
            (11, rows.len()),
            |args| {
                args.add(i64::from(self.partition));
                args.add(self.now.as_micros());
            },
            |args| {
                for (append, timer) in rows {
                    args.add(append.stream.category());
                    args.add(append.stream.as_str());
                    args.add(timer.id.as_str());
                    args.add(timer.arming.armed_by.0);
                    args.add(i64::from(timer.arming.effect_index));
                    args.add(match timer.due {
                        Due::After(duration) => (self.now + duration).as_micros(),
                        Due::At(moment) => moment.as_micros(),
                    });
                    args.add(timer.metadata.as_str());
                    add_content(args, &timer.content);
                }
            },
        );
    }
}
