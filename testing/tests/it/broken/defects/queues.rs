//! Rows, timers, dead letters and inbox entries that are lost, duplicated or out of order.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use composable_rust_core::StreamId;
use composable_rust_core::queue::{
    DeadLetter, DeadLetterDecision, DeadLetters as _, DueTimers, Inbox as _, InboxEntry, Lease,
    Outbox as _, OutboxMessage, OutboxRow, QueueChange, QueuePosition, QueueSummary, Settlement,
    TimerQueue, TimerSettlement, Timers as _,
};
use composable_rust_core::store::{EventStore as _, StoreError};
use composable_rust_testing::InMemoryEventStore;
use uuid::Uuid;

use super::super::store::{Defect, poll};

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

        impl Defect for $name {
            fn settle(
                &self,
                store: &InMemoryEventStore,
                partition: u16,
                settlements: &[Settlement],
            ) -> Result<Vec<bool>, StoreError> {
                let mut settlements = settlements.to_vec();
                for settlement in &mut settlements {
                    self.change(&mut settlement.change);
                }
                poll(store.settle(partition, &settlements))
            }

            fn settle_timers(
                &self,
                store: &InMemoryEventStore,
                partition: u16,
                settlements: &[TimerSettlement],
            ) -> Result<(), StoreError> {
                let mut settlements = settlements.to_vec();
                for settlement in &mut settlements {
                    self.change(&mut settlement.change);
                }
                poll(store.settle_timers(partition, &settlements))
            }
        }
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

impl Defect for HidesQueues {
    fn summaries(&self, mut summaries: Vec<QueueSummary>) -> Vec<QueueSummary> {
        summaries.retain(|of| of.rows > 0);
        for of in &mut summaries {
            of.last_error = None;
        }
        summaries
    }
}

/// Counts to two, whatever the limit.
pub(crate) struct CountsToTwo;

impl Defect for CountsToTwo {
    fn summaries(&self, mut summaries: Vec<QueueSummary>) -> Vec<QueueSummary> {
        for of in &mut summaries {
            of.rows = of.rows.min(2);
        }
        summaries
    }

    fn counts(&self, counts: Vec<usize>) -> Vec<usize> {
        counts.into_iter().map(|count| count.min(2)).collect()
    }
}

/// Queues the follow-up rows of a row that is already gone.
pub(crate) struct AnswersTwice;

impl Defect for AnswersTwice {
    fn settle(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        settlements: &[Settlement],
    ) -> Result<Vec<bool>, StoreError> {
        for Settlement { change, queue, position: place, .. } in settlements {
            let all = [(queue.clone(), composable_rust_core::queue::QueuePosition::default())];
            let waiting = poll(store.read_outbox(&all, 1_000))?;
            let is_gone = !waiting.iter().any(|row| row.position == *place);
            if let (QueueChange::Done(rows), true) = (change, is_gone) {
                poll(store.enqueue(partition, rows, None))?;
            }
        }
        poll(store.settle(partition, settlements))
    }
}

/// Returns rows in another order.
pub(crate) struct ReversesRows;

impl Defect for ReversesRows {
    fn rows(&self, mut rows: Vec<OutboxRow>, _: usize) -> Vec<OutboxRow> {
        rows.reverse();
        rows
    }
}

/// Applies the limit to all queues together.
pub(crate) struct LimitsAllQueues;

impl Defect for LimitsAllQueues {
    fn rows(&self, mut rows: Vec<OutboxRow>, limit: usize) -> Vec<OutboxRow> {
        rows.truncate(limit);
        rows
    }
}

/// Draws sequences before the commit: rows appear behind a reader's position.
#[derive(Default)]
pub(crate) struct RowsAppearLate(Mutex<BTreeMap<Uuid, u32>>);

impl Defect for RowsAppearLate {
    fn rows(&self, mut rows: Vec<OutboxRow>, _: usize) -> Vec<OutboxRow> {
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

impl Defect for PassesParked {
    fn rows(&self, mut rows: Vec<OutboxRow>, _: usize) -> Vec<OutboxRow> {
        for row in &mut rows {
            row.behind_parked = false;
        }
        rows
    }
}

/// Lists a sender once for each of its rows.
pub(crate) struct ListsTwice;

impl Defect for ListsTwice {
    fn senders(&self, mut streams: Vec<StreamId>) -> Vec<StreamId> {
        streams.extend_from_within(..);
        streams.sort();
        streams
    }
}

/// Returns the last positions of the queues in another order.
pub(crate) struct MixesLastPositions;

impl Defect for MixesLastPositions {
    fn last_places(&self, mut places: Vec<QueuePosition>) -> Vec<QueuePosition> {
        places.reverse();
        places
    }
}

/// Returns timers in another order, with other armings.
pub(crate) struct MixesTimers;

impl Defect for MixesTimers {
    fn due(&self, store: &InMemoryEventStore, queues: &[TimerQueue], limit: usize) -> DueTimers {
        let mut due = poll(store.due_timers(queues, limit)).expect("memory is available");
        due.timers.reverse();
        due.timers.iter_mut().for_each(|timer| timer.timer.arming.effect_index = 0);
        due
    }
}

/// Returns the current time as the deadline of timers.
pub(crate) struct DatesTimersNow;

impl Defect for DatesTimersNow {
    fn due(&self, store: &InMemoryEventStore, queues: &[TimerQueue], limit: usize) -> DueTimers {
        let mut due = poll(store.due_timers(queues, limit)).expect("memory is available");
        let now = poll(store.now()).expect("the clock is read");
        due.timers.iter_mut().for_each(|timer| timer.due = now);
        due
    }
}

/// Returns the timers of all categories.
pub(crate) struct IgnoresCategories;

impl Defect for IgnoresCategories {
    fn due(&self, store: &InMemoryEventStore, queues: &[TimerQueue], limit: usize) -> DueTimers {
        let all = |queue: &TimerQueue| {
            let partition = queue.partition;
            ["one", "two", "one_more", "thing"]
                .map(|category| TimerQueue { partition, category: category.to_owned() })
        };
        let queues: Vec<_> = queues.iter().flat_map(all).collect();
        poll(store.due_timers(&queues, limit)).expect("memory is available")
    }
}

/// Stores no errors.
pub(crate) struct ForgetsErrors;

impl Defect for ForgetsErrors {
    fn letters(&self, mut letters: Vec<DeadLetter>, _: Option<u16>) -> Vec<DeadLetter> {
        for letter in &mut letters {
            letter.error = None;
        }
        letters
    }
}

/// Stops at the end of a partition.
pub(crate) struct EndsWithPartition;

impl Defect for EndsWithPartition {
    fn letters(&self, mut letters: Vec<DeadLetter>, after: Option<u16>) -> Vec<DeadLetter> {
        letters.retain(|letter| letter.queue.partition == after.unwrap_or(0));
        letters
    }
}

/// Returns nothing after the first page.
pub(crate) struct EndsAfterAPage;

impl Defect for EndsAfterAPage {
    fn letters(&self, mut letters: Vec<DeadLetter>, after: Option<u16>) -> Vec<DeadLetter> {
        letters.retain(|_| after.is_none());
        letters
    }
}

/// Reports every dead letter as the first of its pair.
pub(crate) struct ShowsAllAsHeads;

impl Defect for ShowsAllAsHeads {
    fn letters(&self, mut letters: Vec<DeadLetter>, _: Option<u16>) -> Vec<DeadLetter> {
        for letter in &mut letters {
            letter.is_head = true;
        }
        letters
    }
}

/// Loses dead letters whose names are too long for an index.
pub(crate) struct LosesLongNames;

impl Defect for LosesLongNames {
    fn letters(&self, mut letters: Vec<DeadLetter>, _: Option<u16>) -> Vec<DeadLetter> {
        letters.retain(|letter| letter.message.row.recipient.len() < 1_000);
        letters
    }
}

/// Accepts every decision.
pub(crate) struct DecidesAnything;

impl Defect for DecidesAnything {
    fn decided(&self, _: DeadLetterDecision, _: bool) -> bool {
        true
    }
}

/// Moves redriven rows to the end of their queue.
pub(crate) struct RedrivesToTheEnd;

impl Defect for RedrivesToTheEnd {
    fn resolve(
        &self,
        store: &InMemoryEventStore,
        lease: &Lease,
        letter: &DeadLetter,
        answers: &[OutboxMessage],
    ) -> bool {
        let (mut letter, mut answers) = (letter.clone(), answers.to_vec());
        if letter.decision == Some(DeadLetterDecision::Redrive) {
            let (partition, refuse) = (lease.partition, DeadLetterDecision::Discard);
            let _ = poll(store.decide_dead_letter(partition, letter.message.row.id, refuse));
            letter.decision = Some(refuse);
            answers.push(letter.message.clone());
        }
        poll(store.resolve_dead_letter(lease, &letter, &answers)).unwrap_or(true)
    }
}

/// Redrives all rows of a pair, whatever their errors.
pub(crate) struct RedrivesAll;

impl Defect for RedrivesAll {
    fn resolve(
        &self,
        store: &InMemoryEventStore,
        lease: &Lease,
        letter: &DeadLetter,
        answers: &[OutboxMessage],
    ) -> bool {
        let done = poll(store.resolve_dead_letter(lease, letter, answers)).unwrap_or(true);
        let behind = poll(store.dead_letters(None, usize::MAX)).expect("memory is available");
        for mut next in behind.into_iter().filter(|next| next.queue == letter.queue) {
            let (partition, redrive) = (lease.partition, DeadLetterDecision::Redrive);
            let decided = poll(store.decide_dead_letter(partition, next.message.row.id, redrive));
            if decided.unwrap_or(false) {
                next.decision = Some(redrive);
                let _ = poll(store.resolve_dead_letter(lease, &next, &[]));
            }
        }
        done
    }
}

/// Reports a row as blocked by one behind it.
pub(crate) struct HoldsUpEarlierOnes;

impl Defect for HoldsUpEarlierOnes {
    fn rows(&self, mut rows: Vec<OutboxRow>, _: usize) -> Vec<OutboxRow> {
        let any = rows.iter().any(|row| row.behind_parked);
        for row in &mut rows {
            row.behind_parked = any;
        }
        rows
    }
}

/// Discards without an answer.
pub(crate) struct AnswersNobody;

impl Defect for AnswersNobody {
    fn resolve(
        &self,
        store: &InMemoryEventStore,
        lease: &Lease,
        letter: &DeadLetter,
        _: &[OutboxMessage],
    ) -> bool {
        poll(store.resolve_dead_letter(lease, letter, &[])).expect("memory is available")
    }
}

/// Prunes everything, recent entries and other partitions included.
pub(crate) struct PrunesAll;

impl Defect for PrunesAll {
    fn prune(&self, store: &InMemoryEventStore, partition: u16, _: Duration, _: usize) -> u64 {
        let all = 0..store.log().partitions;
        let pruned = all.map(|p| (p, poll(store.prune_inbox(p, Duration::ZERO, usize::MAX))));
        let pruned: BTreeMap<_, _> = pruned.collect();
        pruned[&partition].clone().expect("memory is available")
    }
}

/// Prunes the entries of messages that may be redelivered.
#[derive(Default)]
pub(crate) struct PrunesWhatWaits(AtomicBool);

impl Defect for PrunesWhatWaits {
    fn prune(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        age: Duration,
        limit: usize,
    ) -> u64 {
        self.0.store(true, Ordering::Relaxed);
        poll(store.prune_inbox(partition, age, limit)).expect("memory is available")
    }

    fn mark(&self, mark: Option<InboxEntry>) -> Option<InboxEntry> {
        mark.filter(|_| !self.0.load(Ordering::Relaxed))
    }
}
