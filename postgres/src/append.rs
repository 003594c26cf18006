//! Appending a batch: one call of the function `append_events`.

use composable_rust_core::{
    Append, AppendOutcome, Due, NewEvent, Position, StoreError, TimerChange, Version,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::PostgresEventStore;
use crate::append::columns::{Columns, expected};
use crate::columns::metadata;
use crate::error::store_error;
use crate::inbox::ExistingEntries;
use crate::row::smallint;

mod columns;

/// A single event and nothing else.
const APPEND_EVENT: &str = "select append_event($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// Events and marks.
const APPEND_EVENTS: &str = "select append_events($1, $2, $3, $4, $5, \
     $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)";

/// Events and marks, outbox rows and timers.
const APPEND_ALL: &str = "select append_events($1, $2, $3, $4, $5, \
     $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, \
     $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, \
     $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, $45, $46, $47, $48, \
     $49, $50, $51, $52, $53)";

/// The function's answer: the highest offset before, each member's version before, and if any
/// member did not pass, verdicts, versions and offsets, and which firings are void.
type VerdictRow = Vec<Option<i64>>;

pub(crate) async fn append_events(
    store: &PostgresEventStore,
    partition: u16,
    batch: &[Append],
) -> Result<Vec<AppendOutcome>, StoreError> {
    composable_rust_core::validate_batch(store.log, partition, batch)?;
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let log = store.log.id;
    let send = async |writer: &mut PgConnection| send(writer, log, partition, batch).await;
    let answer = store.writers.append(send).await?;
    let verdicts = OutcomeReader { partition, batch, answer };
    store.tail.committed(Position::new(partition, verdicts.head_after()?));
    if verdicts.make_work() {
        if batch.iter().any(arms_at) {
            store.low_water.forget();
        }
        store.tail.has_work();
    }
    let marks = store.standing_marks(partition, &verdicts).await?;
    verdicts.read(marks)
}

impl PostgresEventStore {
    /// The marks of those members that are duplicates.
    async fn standing_marks(
        &self,
        partition: u16,
        verdicts: &OutcomeReader<'_>,
    ) -> Result<ExistingEntries, StoreError> {
        let duplicates: Vec<usize> = (0..verdicts.batch.len())
            .filter(|member| verdicts.code(*member) == DUPLICATE)
            .collect();
        if duplicates.is_empty() {
            return Ok(ExistingEntries::default());
        }
        ExistingEntries::load(self, partition, verdicts.batch, &duplicates).await
    }
}

async fn send(
    writer: &mut PgConnection,
    log: Uuid,
    partition: u16,
    batch: &[Append],
) -> Result<VerdictRow, sqlx::Error> {
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

/// Whether it arms a timer for a time that it names, which may have passed.
fn arms_at(append: &Append) -> bool {
    let is_at = |timer: &TimerChange| matches!(timer, TimerChange::Arm(timer) if matches!(timer.due, Due::At(_)));
    append.timers.iter().any(is_at)
}

fn only_event(append: &Append) -> Option<&NewEvent> {
    let Append {
        stream: _,
        expected: _,
        events,
        inbox: marks,
        outbox,
        fired_timers: fires,
        timers,
        cancels_timers: clears_timers,
    } = append;
    let is_bare = marks.is_empty() && outbox.is_empty() && fires.is_empty() && timers.is_empty();
    match events.as_slice() {
        [event] if is_bare && !clears_timers => Some(event),
        _ => None,
    }
}

const PASSED: i64 = 0;
const COMMITTED: i64 = 1;
const DUPLICATE: i64 = 2;
const CLOSED: i64 = 3;
const STALE_TIMERS: i64 = 5;

/// An answer beside its question.
struct OutcomeReader<'a> {
    partition: u16,
    batch: &'a [Append],
    answer: VerdictRow,
}

impl OutcomeReader<'_> {
    fn number(&self, index: usize) -> Option<u64> {
        self.answer.get(index).copied().flatten().and_then(|n| u64::try_from(n).ok())
    }

    /// The `group`-th array of the answer at `member`; the first holds the versions before.
    fn of(&self, group: usize, member: usize) -> Option<u64> {
        self.number(1 + group * self.batch.len() + member)
    }

    fn code(&self, member: usize) -> i64 {
        let index = 1 + self.batch.len() + member;
        self.answer.get(index).copied().flatten().unwrap_or(PASSED)
    }

    /// The highest offset after the append.
    fn head_after(&self) -> Result<u64, StoreError> {
        let before = self.number(0).ok_or_else(malformed)?;
        let events = self.batch.iter().enumerate().filter(|(m, _)| self.code(*m) == PASSED);
        Ok(before + events.map(|(_, append)| append.events.len() as u64).sum::<u64>())
    }

    /// Whether there is something for workers now.
    fn make_work(&self) -> bool {
        let mut members = self.batch.iter().enumerate();
        members.any(|(member, append)| {
            let is_there = matches!(self.code(member), PASSED | COMMITTED);
            is_there && !(append.outbox.is_empty() && append.timers.is_empty())
        })
    }

    /// Which timers that `member` fires are not armed so.
    fn void(&self, member: usize) -> Vec<usize> {
        let before: usize =
            self.batch[..member].iter().map(|append| append.fired_timers.len()).sum();
        let first = 1 + 4 * self.batch.len() + before;
        let fires = 0..self.batch[member].fired_timers.len();
        fires.filter(|firing| self.number(first + firing) == Some(1)).collect()
    }

    fn read(&self, mut marks: ExistingEntries) -> Result<Vec<AppendOutcome>, StoreError> {
        let mut offset = self.number(0).ok_or_else(malformed)?;
        let mut verdicts = Vec::with_capacity(self.batch.len());
        for (member, append) in self.batch.iter().enumerate() {
            let actual = Version::new(self.of(0, member).ok_or_else(malformed)?);
            verdicts.push(match self.code(member) {
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
                DUPLICATE => AppendOutcome::Duplicate(marks.take(member)?),
                CLOSED => AppendOutcome::Closed,
                STALE_TIMERS => AppendOutcome::StaleTimers(self.void(member)),
                _ => AppendOutcome::Conflict { actual },
            });
        }
        Ok(verdicts)
    }
}

fn malformed() -> StoreError {
    store_error(sqlx::Error::Protocol("append_events gave a malformed answer".to_owned()))
}
