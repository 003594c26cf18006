//! Rows, timers, dead letters and inbox entries that are lost, duplicated or out of order.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use composable_rust_core::StreamId;
use composable_rust_core::queue::{
    DeadLetter, DeadLetterDecision, DeadLetters as _, DueTimers, Inbox as _, InboxEntry, Lease,
    Outbox as _, OutboxMessage, OutboxRow, Queue, QueueChange, QueuePosition, QueueSummary,
    Settlement, TimerQueue, TimerSettlement, Timers as _,
};
use composable_rust_core::store::{EventStore as _, StoreError};
use composable_rust_testing::{InMemoryEventStore, Intercept};
use uuid::Uuid;

use super::super::store::{Backing, poll};

/// Changes every settlement, of rows and of timers, before it is made.
macro_rules! settling {
    ($(#[$doc:meta])* $name:ident, |$change:ident| $body:expr) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl $name {
            fn change(&self, $change: &mut QueueChange) {
                $body
            }
        }

        impl Intercept<InMemoryEventStore> for $name {
            async fn settle(
                &self,
                store: &InMemoryEventStore,
                partition: u16,
                settlements: &[Settlement],
            ) -> Result<Vec<bool>, StoreError> {
                let mut settlements = settlements.to_vec();
                for settlement in &mut settlements {
                    self.change(&mut settlement.change);
                }
                store.settle(partition, &settlements).await
            }

            async fn settle_timers(
                &self,
                store: &InMemoryEventStore,
                partition: u16,
                settlements: &[TimerSettlement],
            ) -> Result<(), StoreError> {
                let mut settlements = settlements.to_vec();
                for settlement in &mut settlements {
                    self.change(&mut settlement.change);
                }
                store.settle_timers(partition, &settlements).await
            }
        }

        backed_by_memory!($name);
    };
}

settling!(
    /// Queues nothing for handled rows.
    ForgetsReplacements,
    |change| if let QueueChange::Done(rows) = change {
        rows.clear();
    }
);

settling!(
    /// Retries at once.
    RetriesAtOnce,
    |change| if let QueueChange::Failed { retry_after, .. } = change {
        *retry_after = Duration::ZERO;
    }
);

settling!(
    /// Does not distinguish a started attempt from a failed one.
    TakesBegunForFailed,
    |change| if let QueueChange::Begun { attempts } = *change {
        let error = "none".to_owned();
        *change = QueueChange::Failed { attempts, retry_after: Duration::ZERO, error };
    }
);

settling!(
    /// Deletes rows instead of parking them.
    DropsParked,
    |change| if let QueueChange::Parked { .. } = change {
        *change = QueueChange::Done(Vec::new());
    }
);

/// Lists only queues with rows or timers, and omits their errors.
pub(crate) struct HidesQueues;

impl Intercept<InMemoryEventStore> for HidesQueues {
    fn after_summarize_queues(&self, mut summaries: Vec<QueueSummary>) -> Vec<QueueSummary> {
        summaries.retain(|of| of.rows > 0);
        for of in &mut summaries {
            of.last_error = None;
        }
        summaries
    }
}

/// Counts to two, whatever the limit.
pub(crate) struct CountsToTwo;

impl Intercept<InMemoryEventStore> for CountsToTwo {
    fn after_summarize_queues(&self, mut summaries: Vec<QueueSummary>) -> Vec<QueueSummary> {
        for of in &mut summaries {
            of.rows = of.rows.min(2);
        }
        summaries
    }

    fn after_count_waiting(&self, counts: Vec<usize>) -> Vec<usize> {
        counts.into_iter().map(|count| count.min(2)).collect()
    }
}

/// Queues the follow-up rows of a row that is already gone.
pub(crate) struct AnswersTwice;

impl Intercept<InMemoryEventStore> for AnswersTwice {
    async fn settle(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        settlements: &[Settlement],
    ) -> Result<Vec<bool>, StoreError> {
        for Settlement { change, queue, position: place, .. } in settlements {
            let all = [(queue.clone(), QueuePosition::default())];
            let waiting = store.read_outbox(&all, 1_000).await?;
            let is_gone = !waiting.iter().any(|row| row.position == *place);
            if let (QueueChange::Done(rows), true) = (change, is_gone) {
                store.enqueue(partition, rows, None).await?;
            }
        }
        store.settle(partition, settlements).await
    }
}

/// Returns rows in another order.
pub(crate) struct ReversesRows;

impl Intercept<InMemoryEventStore> for ReversesRows {
    fn after_read_outbox(&self, mut rows: Vec<OutboxRow>) -> Vec<OutboxRow> {
        rows.reverse();
        rows
    }
}

/// Applies the limit to all queues together.
pub(crate) struct LimitsAllQueues;

impl Intercept<InMemoryEventStore> for LimitsAllQueues {
    async fn read_outbox(
        &self,
        store: &InMemoryEventStore,
        after: &[(Queue, QueuePosition)],
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let mut rows = store.read_outbox(after, limit).await?;
        rows.truncate(limit);
        Ok(rows)
    }
}

/// Draws sequences before the commit: rows appear behind a reader's position.
#[derive(Default)]
pub(crate) struct RowsAppearLate(Mutex<BTreeMap<Uuid, u32>>);

impl Intercept<InMemoryEventStore> for RowsAppearLate {
    fn after_read_outbox(&self, mut rows: Vec<OutboxRow>) -> Vec<OutboxRow> {
        let mut asked = self.0.lock().expect("no other task panicked");
        rows.retain(|row| {
            let times = asked.entry(row.message.row.id).or_default();
            *times += 1;
            *times > 1 || row.queue.target == "source" || row.position.sequence % 5 != 0
        });
        rows
    }
}

/// Does not report rows as blocked by parked ones.
pub(crate) struct PassesParked;

impl Intercept<InMemoryEventStore> for PassesParked {
    fn after_read_outbox(&self, mut rows: Vec<OutboxRow>) -> Vec<OutboxRow> {
        for row in &mut rows {
            row.behind_parked = false;
        }
        rows
    }
}

/// Lists a sender once for each of its rows.
pub(crate) struct ListsTwice;

impl Intercept<InMemoryEventStore> for ListsTwice {
    fn after_queued_streams(&self, mut streams: Vec<StreamId>) -> Vec<StreamId> {
        streams.extend_from_within(..);
        streams.sort();
        streams
    }
}

/// Returns the last positions of the queues in another order.
pub(crate) struct MixesLastPositions;

impl Intercept<InMemoryEventStore> for MixesLastPositions {
    fn after_last_positions(&self, mut places: Vec<QueuePosition>) -> Vec<QueuePosition> {
        places.reverse();
        places
    }
}

/// Returns timers in another order, with other armings.
pub(crate) struct MixesTimers;

impl Intercept<InMemoryEventStore> for MixesTimers {
    fn after_due_timers(&self, mut due: DueTimers) -> DueTimers {
        due.timers.reverse();
        due.timers.iter_mut().for_each(|timer| timer.timer.arming.effect_index = 0);
        due
    }
}

/// Returns the current time as the deadline of timers.
pub(crate) struct DatesTimersNow;

impl Intercept<InMemoryEventStore> for DatesTimersNow {
    async fn due_timers(
        &self,
        store: &InMemoryEventStore,
        queues: &[TimerQueue],
        limit: usize,
    ) -> Result<DueTimers, StoreError> {
        let mut due = store.due_timers(queues, limit).await?;
        let now = store.now().await?;
        due.timers.iter_mut().for_each(|timer| timer.due = now);
        Ok(due)
    }
}

/// Returns the timers of all categories.
pub(crate) struct IgnoresCategories;

impl Intercept<InMemoryEventStore> for IgnoresCategories {
    async fn due_timers(
        &self,
        store: &InMemoryEventStore,
        queues: &[TimerQueue],
        limit: usize,
    ) -> Result<DueTimers, StoreError> {
        let all = |queue: &TimerQueue| {
            let partition = queue.partition;
            ["one", "two", "one_more", "thing"]
                .map(|category| TimerQueue { partition, category: category.to_owned() })
        };
        let queues: Vec<_> = queues.iter().flat_map(all).collect();
        store.due_timers(&queues, limit).await
    }
}

/// Stores no errors.
pub(crate) struct ForgetsErrors;

impl Intercept<InMemoryEventStore> for ForgetsErrors {
    fn after_dead_letters(&self, mut letters: Vec<DeadLetter>) -> Vec<DeadLetter> {
        for letter in &mut letters {
            letter.error = None;
        }
        letters
    }
}

/// Stops at the end of a partition.
pub(crate) struct EndsWithPartition;

impl Intercept<InMemoryEventStore> for EndsWithPartition {
    async fn dead_letters(
        &self,
        store: &InMemoryEventStore,
        after: Option<(Queue, QueuePosition)>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let partition = after.as_ref().map_or(0, |(queue, _)| queue.partition);
        let mut letters = store.dead_letters(after, limit).await?;
        letters.retain(|letter| letter.queue.partition == partition);
        Ok(letters)
    }
}

/// Returns nothing after the first page.
pub(crate) struct EndsAfterAPage;

impl Intercept<InMemoryEventStore> for EndsAfterAPage {
    async fn dead_letters(
        &self,
        store: &InMemoryEventStore,
        after: Option<(Queue, QueuePosition)>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        if after.is_some() {
            return Ok(Vec::new());
        }
        store.dead_letters(after, limit).await
    }
}

/// Reports every dead letter as the first of its pair.
pub(crate) struct ShowsAllAsHeads;

impl Intercept<InMemoryEventStore> for ShowsAllAsHeads {
    fn after_dead_letters(&self, mut letters: Vec<DeadLetter>) -> Vec<DeadLetter> {
        for letter in &mut letters {
            letter.is_head = true;
        }
        letters
    }
}

/// Loses dead letters whose names are too long for an index.
pub(crate) struct LosesLongNames;

impl Intercept<InMemoryEventStore> for LosesLongNames {
    fn after_dead_letters(&self, mut letters: Vec<DeadLetter>) -> Vec<DeadLetter> {
        letters.retain(|letter| letter.message.row.recipient.len() < 1_000);
        letters
    }
}

/// Accepts every decision.
pub(crate) struct DecidesAnything;

impl Intercept<InMemoryEventStore> for DecidesAnything {
    async fn decide_dead_letter(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        id: Uuid,
        decision: DeadLetterDecision,
    ) -> Result<bool, StoreError> {
        store.decide_dead_letter(partition, id, decision).await.map(|_| true)
    }
}

/// Moves redriven rows to the end of their queue.
pub(crate) struct RedrivesToTheEnd;

impl Intercept<InMemoryEventStore> for RedrivesToTheEnd {
    async fn resolve_dead_letter(
        &self,
        store: &InMemoryEventStore,
        lease: &Lease,
        letter: &DeadLetter,
        answers: &[OutboxMessage],
    ) -> Result<bool, StoreError> {
        let (mut letter, mut answers) = (letter.clone(), answers.to_vec());
        if letter.decision == Some(DeadLetterDecision::Redrive) {
            let (partition, refuse) = (lease.partition, DeadLetterDecision::Discard);
            let _ = poll(store.decide_dead_letter(partition, letter.message.row.id, refuse));
            letter.decision = Some(refuse);
            answers.push(letter.message.clone());
        }
        Ok(store.resolve_dead_letter(lease, &letter, &answers).await.unwrap_or(true))
    }
}

/// Redrives all rows of a pair, whatever their errors.
pub(crate) struct RedrivesAll;

impl Intercept<InMemoryEventStore> for RedrivesAll {
    async fn resolve_dead_letter(
        &self,
        store: &InMemoryEventStore,
        lease: &Lease,
        letter: &DeadLetter,
        answers: &[OutboxMessage],
    ) -> Result<bool, StoreError> {
        let done = store.resolve_dead_letter(lease, letter, answers).await.unwrap_or(true);
        let behind = store.dead_letters(None, usize::MAX).await?;
        for mut next in behind.into_iter().filter(|next| next.queue == letter.queue) {
            let (partition, redrive) = (lease.partition, DeadLetterDecision::Redrive);
            let decided = poll(store.decide_dead_letter(partition, next.message.row.id, redrive));
            if decided.unwrap_or(false) {
                next.decision = Some(redrive);
                let _ = poll(store.resolve_dead_letter(lease, &next, &[]));
            }
        }
        Ok(done)
    }
}

/// Reports a row as blocked by one behind it.
pub(crate) struct HoldsUpEarlierOnes;

impl Intercept<InMemoryEventStore> for HoldsUpEarlierOnes {
    fn after_read_outbox(&self, mut rows: Vec<OutboxRow>) -> Vec<OutboxRow> {
        let any = rows.iter().any(|row| row.behind_parked);
        for row in &mut rows {
            row.behind_parked = any;
        }
        rows
    }
}

/// Discards without an answer.
pub(crate) struct AnswersNobody;

impl Intercept<InMemoryEventStore> for AnswersNobody {
    async fn resolve_dead_letter(
        &self,
        store: &InMemoryEventStore,
        lease: &Lease,
        letter: &DeadLetter,
        _: &[OutboxMessage],
    ) -> Result<bool, StoreError> {
        store.resolve_dead_letter(lease, letter, &[]).await
    }
}

/// Prunes everything, recent entries and other partitions included.
pub(crate) struct PrunesAll;

impl Intercept<InMemoryEventStore> for PrunesAll {
    async fn prune_inbox(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        _: Duration,
        _: usize,
    ) -> Result<u64, StoreError> {
        let all = 0..store.log().partitions;
        let pruned = all.map(|p| (p, poll(store.prune_inbox(p, Duration::ZERO, usize::MAX))));
        let pruned: BTreeMap<_, _> = pruned.collect();
        pruned[&partition].clone()
    }
}

/// Prunes the entries of messages that may be redelivered.
#[derive(Default)]
pub(crate) struct PrunesWhatWaits(AtomicBool);

impl Intercept<InMemoryEventStore> for PrunesWhatWaits {
    async fn prune_inbox(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        age: Duration,
        limit: usize,
    ) -> Result<u64, StoreError> {
        self.0.store(true, Ordering::Relaxed);
        store.prune_inbox(partition, age, limit).await
    }

    fn after_load_inbox_entry(&self, mark: Option<InboxEntry>) -> Option<InboxEntry> {
        mark.filter(|_| !self.0.load(Ordering::Relaxed))
    }
}

backed_by_memory!(
    HidesQueues,
    CountsToTwo,
    AnswersTwice,
    ReversesRows,
    LimitsAllQueues,
    RowsAppearLate,
    PassesParked,
    ListsTwice,
    MixesLastPositions,
    MixesTimers,
    DatesTimersNow,
    IgnoresCategories,
    ForgetsErrors,
    EndsWithPartition,
    EndsAfterAPage,
    ShowsAllAsHeads,
    LosesLongNames,
    DecidesAnything,
    RedrivesToTheEnd,
    RedrivesAll,
    HoldsUpEarlierOnes,
    AnswersNobody,
    PrunesAll,
    PrunesWhatWaits
);
