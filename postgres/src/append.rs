//! Appending a batch: one call of the SQL function `append_events`.

use composable_rust_core::event::NewEvent;
use composable_rust_core::store::{Append, AppendOutcome, Due, StoreError, TimerChange};
use composable_rust_core::{Position, Version};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::PostgresEventStore;
use crate::append::columns::{Columns, expected};
use crate::columns::metadata;
use crate::error::store_error;
use crate::inbox::ExistingEntries;
use crate::row::smallint;

mod columns;

/// Appends a single event and nothing else.
const APPEND_EVENT: &str = "select append_event($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// Appends events and inbox entries.
const APPEND_EVENTS: &str = "select append_events($1, $2, $3, $4, $5, \
     $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)";

/// Appends events, inbox entries, outbox rows and timers.
const APPEND_ALL: &str = "select append_events($1, $2, $3, $4, $5, \
     $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, \
     $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, \
     $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, $45, $46, $47, $48, \
     $49, $50, $51, $52, $53)";

/// The result of the SQL function. A member is one append of the batch.
///
/// The result holds the partition's highest offset before the call and each member's version before
/// the call. Unless all members passed, each member's code, version and offset follow, and for each
/// fired timer a 1 if the timer is stale.
type AppendResult = Vec<Option<i64>>;

pub(crate) async fn append_events(
    store: &PostgresEventStore,
    partition: u16,
    batch: &[Append],
) -> Result<Vec<AppendOutcome>, StoreError> {
    composable_rust_core::store::validate_batch(store.log, partition, batch)?;
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let log = store.log.id;
    let send = async |writer: &mut PgConnection| send(writer, log, partition, batch).await;
    let result = store.writers.append(send).await?;
    let reader = OutcomeReader { partition, batch, result };
    store.heads.committed(Position::new(partition, reader.head_after()?));
    if reader.creates_work() {
        if batch.iter().any(arms_at) {
            store.low_water.forget();
        }
        store.heads.has_work();
    }
    let entries = store.existing_entries(partition, &reader).await?;
    reader.read(entries)
}

impl PostgresEventStore {
    /// Reads the inbox entries of the members that are duplicates.
    async fn existing_entries(
        &self,
        partition: u16,
        reader: &OutcomeReader<'_>,
    ) -> Result<ExistingEntries, StoreError> {
        let duplicates: Vec<usize> =
            (0..reader.batch.len()).filter(|member| reader.code(*member) == DUPLICATE).collect();
        if duplicates.is_empty() {
            return Ok(ExistingEntries::default());
        }
        ExistingEntries::load(self, partition, reader.batch, &duplicates).await
    }
}

async fn send(
    writer: &mut PgConnection,
    log: Uuid,
    partition: u16,
    batch: &[Append],
) -> Result<AppendResult, sqlx::Error> {
    let partition = smallint(partition);
    if let [append] = batch {
        if let Some(event) = only_event(append) {
            return sqlx::query_scalar(APPEND_EVENT)
                .bind(partition)
                .bind(append.stream.as_str())
                .bind(expected(append.expected))
                .bind(event.id.0)
                .bind(&*event.content.name)
                .bind(i32::from(event.content.version))
                .bind(&*event.content.codec)
                .bind(&*event.content.bytes)
                .bind(metadata(&event.metadata))
                .fetch_one(writer)
                .await;
        }
    }
    let columns = Columns::new(log, batch);
    let statement = if columns.has_effects() { APPEND_ALL } else { APPEND_EVENTS };
    let query = sqlx::query_scalar(statement).bind(partition);
    columns.bind(query).fetch_one(writer).await
}

/// Returns `true` if the append arms a timer for a point in time, which may be in the past.
fn arms_at(append: &Append) -> bool {
    let is_at = |timer: &TimerChange| matches!(timer, TimerChange::Arm(timer) if matches!(timer.due, Due::At(_)));
    append.timers.iter().any(is_at)
}

fn only_event(append: &Append) -> Option<&NewEvent> {
    let Append {
        stream: _,
        expected: _,
        events,
        inbox,
        outbox,
        fired_timers,
        timers,
        cancels_timers,
    } = append;
    let is_bare =
        inbox.is_empty() && outbox.is_empty() && fired_timers.is_empty() && timers.is_empty();
    match events.as_slice() {
        [event] if is_bare && !cancels_timers => Some(event),
        _ => None,
    }
}

// The codes that `append_events` returns for the members of a batch.
const PASSED: i64 = 0;
const COMMITTED: i64 = 1;
const DUPLICATE: i64 = 2;
const CLOSED: i64 = 3;
const CONFLICT: i64 = 4;
const STALE_TIMERS: i64 = 5;

/// A decoder from the result of `append_events` to the outcomes of a batch.
struct OutcomeReader<'a> {
    partition: u16,
    batch: &'a [Append],
    result: AppendResult,
}

impl OutcomeReader<'_> {
    fn number(&self, index: usize) -> Option<u64> {
        self.result.get(index).copied().flatten().and_then(|n| u64::try_from(n).ok())
    }

    /// Returns the number of `member` in one of the result's arrays. Array 0 holds the versions
    /// before the call.
    fn of(&self, group: usize, member: usize) -> Option<u64> {
        self.number(1 + group * self.batch.len() + member)
    }

    fn code(&self, member: usize) -> i64 {
        let index = 1 + self.batch.len() + member;
        self.result.get(index).copied().flatten().unwrap_or(PASSED)
    }

    /// Returns the partition's highest offset after the call.
    fn head_after(&self) -> Result<u64, StoreError> {
        let before = self.number(0).ok_or_else(malformed)?;
        let events = self.batch.iter().enumerate().filter(|(m, _)| self.code(*m) == PASSED);
        Ok(before + events.map(|(_, append)| append.events.len() as u64).sum::<u64>())
    }

    /// Returns `true` if the batch stored outbox rows or timers, which waiting tasks must process.
    fn creates_work(&self) -> bool {
        let mut members = self.batch.iter().enumerate();
        members.any(|(member, append)| {
            let is_there = matches!(self.code(member), PASSED | COMMITTED);
            is_there && !(append.outbox.is_empty() && append.timers.is_empty())
        })
    }

    /// Returns the indexes of the fired timers of `member` that are not armed as it requires.
    fn stale_timers(&self, member: usize) -> Vec<usize> {
        let before: usize =
            self.batch[..member].iter().map(|append| append.fired_timers.len()).sum();
        let first = 1 + 4 * self.batch.len() + before;
        let fired = 0..self.batch[member].fired_timers.len();
        fired.filter(|index| self.number(first + index) == Some(1)).collect()
    }

    fn read(&self, mut entries: ExistingEntries) -> Result<Vec<AppendOutcome>, StoreError> {
        let mut offset = self.number(0).ok_or_else(malformed)?;
        let mut outcomes = Vec::with_capacity(self.batch.len());
        for (member, append) in self.batch.iter().enumerate() {
            let actual = Version::new(self.of(0, member).ok_or_else(malformed)?);
            outcomes.push(match self.code(member) {
                PASSED => {
                    let events = append.events.len() as u64;
                    offset += events;
                    let position = (events > 0).then(|| Position::new(self.partition, offset));
                    let version = actual.plus(events);
                    AppendOutcome::Committed { version, position, actual: version }
                }
                COMMITTED => AppendOutcome::Committed {
                    version: Version::new(self.of(2, member).ok_or_else(malformed)?),
                    position: self.of(3, member).map(|at| Position::new(self.partition, at)),
                    actual,
                },
                DUPLICATE => AppendOutcome::Duplicate(entries.take(member)?),
                CLOSED => AppendOutcome::Closed,
                STALE_TIMERS => AppendOutcome::StaleTimers(self.stale_timers(member)),
                CONFLICT => AppendOutcome::Conflict { actual },
                _ => return Err(malformed()),
            });
        }
        Ok(outcomes)
    }
}

fn malformed() -> StoreError {
    store_error(sqlx::Error::Protocol("append_events returned a malformed result".to_owned()))
}
