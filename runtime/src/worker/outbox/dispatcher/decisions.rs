//! Carrying out operators' decisions about dead letters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::queue::{Queue, QueuePosition};
use composable_rust_core::store::StoreError;

use crate::panic::guarded_future;
use crate::worker::dead_letters::{carry_out, decided, decision_interval};
use crate::worker::outbox::dispatcher::Dispatcher;
use crate::worker::outbox::execution::RowExecutor;
use crate::worker::outbox::lanes::LaneKey;
use crate::worker::throttle::Throttle;

/// Interval at which decisions are read while some may have been carried out.
pub(super) const UNCONFIRMED_DECISION_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The result of carrying out decisions.
#[derive(Default)]
pub(super) struct CarriedOut {
    /// `true` if the outcomes of all are known.
    is_confirmed: bool,
    has_more: bool,
}

impl<E: RowExecutor> Dispatcher<E> {
    /// Returns the time until decisions are to be read; `None` if there can be none.
    pub(super) fn until_decisions(&self, now: Duration) -> Option<Duration> {
        if !self.deciding.is_empty() {
            return None;
        }
        if !self.unconfirmed.is_empty() {
            return Some(self.decisions.until_due(now, UNCONFIRMED_DECISION_POLL_INTERVAL));
        }
        let wait = self.decisions.until_due(now, decision_interval(&self.context));
        self.may_have_decisions.then_some(wait)
    }

    /// Begins to carry out decisions. The lanes of their dead letters wait until it is confirmed.
    pub(super) async fn look_for_decisions(&mut self) -> Result<(), StoreError> {
        let now = self.context.now();
        if self.until_decisions(now).is_none_or(|wait| !wait.is_zero()) {
            return Ok(());
        }
        self.decisions = Throttle::starting(now);
        // A row that is being parked may be behind a dead letter that was decided about.
        let is_parking = |queue: &Queue| self.partitions_parking.contains(&queue.partition);
        let queues = self.queues.iter().filter(|(queue, _)| !is_parking(queue));
        let held: BTreeMap<_, _> =
            queues.map(|(queue, of)| (queue.clone(), Arc::clone(&of.held))).collect();
        let (letters, has_more) = decided(&self.context, &held).await?;
        self.may_have_decisions = held.len() < self.queues.len();
        if letters.is_empty() && self.unconfirmed.is_empty() {
            return Ok(());
        }
        for letter in &letters {
            let lane = LaneKey {
                queue: letter.queue.clone(),
                sender: letter.message.sender.clone(),
                recipient: letter.message.row.recipient.clone(),
            };
            let first = self.unconfirmed.entry(lane).or_insert(letter.position);
            *first = letter.position.min(*first);
        }
        let context = Arc::clone(&self.context);
        self.deciding.spawn(async move {
            let carried_out = guarded_future(carry_out(&context, &held, letters)).await;
            CarriedOut { is_confirmed: matches!(carried_out, Ok(Ok(()))), has_more }
        });
        Ok(())
    }

    /// Reads the lanes whose dead letters were redriven.
    pub(super) fn confirm_decisions(&mut self, carried_out: &CarriedOut) {
        if !carried_out.is_confirmed {
            return;
        }
        if carried_out.has_more {
            self.may_have_decisions = true;
            self.decisions.reset();
        }
        for (lane, mut position) in std::mem::take(&mut self.unconfirmed) {
            // Redriven rows precede those already read, so the cursor is rewound.
            if let Some(first) = self.lanes.remove(&lane).first() {
                position = position.min(first.position);
            }
            if let Some(cursor) = self.queues.get_mut(&lane.queue) {
                let before = QueuePosition {
                    sequence: position.sequence.saturating_sub(1),
                    index: u32::MAX,
                };
                (cursor.after, cursor.has_more) = (cursor.after.min(before), true);
            }
        }
    }
}
