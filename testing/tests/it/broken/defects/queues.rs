//! Rows, timers, dead letters and marks that are lost, doubled or out of order.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use composable_rust_core::{
    DeadLetter, DeadLetterDecision, DeadLetters as _, DueTimers, EventStore as _, Inbox as _,
    InboxEntry, Lease, Outbox as _, OutboxMessage, OutboxRow, QueueChange, QueuePosition,
    QueueSummary, Settlement, StoreError, StreamId, TimerQueue, TimerSettlement, Timers as _,
};
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
    /// Queues nothing instead of what is done.
    ForgetsReplacements,
    |change| if let QueueChange::Done(rows) = change {
        rows.clear();
    }
);

settling!(
    /// Tries again at once.
    RetriesAtOnce,
    |change| if let QueueChange::Failed { retry_after, .. } = change {
        *retry_after = Duration::ZERO;
    }
);

settling!(
    /// Does not know an attempt that has begun from one that has failed.
    TakesBegunForFailed,
    |change| if let QueueChange::Begun { attempts } = *change {
        let error = "none".to_owned();
        *change = QueueChange::Failed { attempts, retry_after: Duration::ZERO, error };
    }
);

settling!(
    /// Deletes what it should park.
    DropsParked,
    |change| if let QueueChange::Parked { .. } = change {
        *change = QueueChange::Done(Vec::new());
    }
);

/// Shows only queues that have rows or timers, and nothing of their errors.
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

/// Counts to two, whatever the limit is.
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

/// Queues what comes instead of a row even if that has gone already.
pub(crate) struct AnswersTwice;

impl Defect for AnswersTwice {
    fn settle(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        settlements: &[Settlement],
    ) -> Result<Vec<bool>, StoreError> {
        for Settlement { change, queue, position: place, .. } in settlements {
            let all = [(queue.clone(), composable_rust_core::QueuePosition::default())];
            let waiting = poll(store.read_outbox(&all, 1_000))?;
            let is_gone = !waiting.iter().any(|row| row.position == *place);
            if let (QueueChange::Done(rows), true) = (change, is_gone) {
                poll(store.enqueue(partition, rows, None))?;
            }
        }
        poll(store.settle(partition, settlements))
    }
}

/// Gives rows in another order.
pub(crate) struct ReversesRows;

impl Defect for ReversesRows {
    fn rows(&self, mut rows: Vec<OutboxRow>, _: usize) -> Vec<OutboxRow> {
        rows.reverse();
        rows
    }
}

/// Reads so many rows in all, not of each queue.
pub(crate) struct LimitsAllQueues;

impl Defect for LimitsAllQueues {
    fn rows(&self, mut rows: Vec<OutboxRow>, limit: usize) -> Vec<OutboxRow> {
        rows.truncate(limit);
        rows
    }
}

/// Places are drawn before the commit: some rows appear when later ones have long been read.
#[derive(Default)]
pub(crate) struct RowsAppearLate(Mutex<BTreeMap<Uuid, u32>>);

impl Defect for RowsAppearLate {
    fn rows(&self, mut rows: Vec<OutboxRow>, _: usize) -> Vec<OutboxRow> {
        let mut asked = self.0.lock().expect("not poisoned");
        rows.retain(|row| {
            let times = asked.entry(row.message.row.id).or_default();
            *times += 1;
            *times > 1 || row.queue.target == "source" || row.position.sequence % 5 != 0
        });
        rows
    }
}

/// Does not say what stands behind parked rows.
pub(crate) struct PassesParked;

impl Defect for PassesParked {
    fn rows(&self, mut rows: Vec<OutboxRow>, _: usize) -> Vec<OutboxRow> {
        for row in &mut rows {
            row.behind_parked = false;
        }
        rows
    }
}

/// Lists a sender for each of its rows.
pub(crate) struct ListsTwice;

impl Defect for ListsTwice {
    fn senders(&self, mut streams: Vec<StreamId>) -> Vec<StreamId> {
        streams.extend_from_within(..);
        streams.sort();
        streams
    }
}

/// Gives the last places of the queues in another order.
pub(crate) struct MixesLastPlaces;

impl Defect for MixesLastPlaces {
    fn last_places(&self, mut places: Vec<QueuePosition>) -> Vec<QueuePosition> {
        places.reverse();
        places
    }
}

/// Gives timers in another order, and of other armings.
pub(crate) struct MixesTimers;

impl Defect for MixesTimers {
    fn due(&self, store: &InMemoryEventStore, queues: &[TimerQueue], limit: usize) -> DueTimers {
        let mut due = poll(store.due_timers(queues, limit)).expect("memory is available");
        due.timers.reverse();
        due.timers.iter_mut().for_each(|timer| timer.timer.arming.effect_index = 0);
        due
    }
}

/// Gives timers the time of the look as their deadline.
pub(crate) struct DatesTimersNow;

impl Defect for DatesTimersNow {
    fn due(&self, store: &InMemoryEventStore, queues: &[TimerQueue], limit: usize) -> DueTimers {
        let mut due = poll(store.due_timers(queues, limit)).expect("memory is available");
        let now = poll(store.now()).expect("the clock is read");
        due.timers.iter_mut().for_each(|timer| timer.due = now);
        due
    }
}

/// Gives the timers of all categories.
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

/// Keeps no errors.
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

/// Shows nothing behind the first page.
pub(crate) struct EndsAfterAPage;

impl Defect for EndsAfterAPage {
    fn letters(&self, mut letters: Vec<DeadLetter>, after: Option<u16>) -> Vec<DeadLetter> {
        letters.retain(|_| after.is_none());
        letters
    }
}

/// Shows every dead letter as one that can be decided about.
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

/// Takes every decision.
pub(crate) struct DecidesAnything;

impl Defect for DecidesAnything {
    fn decided(&self, _: DeadLetterDecision, _: bool) -> bool {
        true
    }
}

/// Puts what is tried again at the end of its queue.
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

/// Tries again whatever stands behind, for whatever reason.
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

/// Says of a row that one behind it is parked before it.
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

/// Refuses without a word.
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

/// Prunes as many as there are, young ones too, in all partitions.
pub(crate) struct PrunesAll;

impl Defect for PrunesAll {
    fn prune(&self, store: &InMemoryEventStore, partition: u16, _: Duration, _: usize) -> u64 {
        let all = 0..store.log().partitions;
        let pruned = all.map(|p| (p, poll(store.prune_inbox(p, Duration::ZERO, usize::MAX))));
        let pruned: BTreeMap<_, _> = pruned.collect();
        pruned[&partition].clone().expect("memory is available")
    }
}

/// Prunes marks under which a message may still come.
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
