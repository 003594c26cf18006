//! The progress of a subscription in one partition.

use std::collections::{BTreeSet, VecDeque};

use rdkafka::topic_partition_list::Offset;

use crate::record::ReceivedRecord;

/// A topic partition that is assigned to this subscription.
#[derive(Debug)]
pub(crate) struct PartitionProgress {
    /// The topic's name on the wire.
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// Received from the broker, not yet delivered.
    waiting: VecDeque<ReceivedRecord>,
    waiting_bytes: usize,
    /// The offsets received from the broker and not acknowledged, delivered or not.
    unfinished: BTreeSet<i64>,
    /// The offset after the last received message, and after the ends of transactions that follow
    /// it.
    end: Option<i64>,
    /// The first offset that was requested.
    start: Offset,
    /// The first offset of a partition from whose beginning is read, once it is known.
    first: Option<i64>,
    /// The reason, if the broker no longer has the message at the position. Nothing more is
    /// received.
    pub(crate) lost: Option<String>,
    /// The offset of the last commit request.
    committed: Option<i64>,
    /// The number of deliveries that are neither acknowledged nor dropped.
    outstanding: usize,
    outstanding_bytes: usize,
    pub(crate) paused: bool,
    /// `true` while the partition is being revoked; nothing more is delivered.
    pub(crate) leaving: bool,
}

/// The maximum outstanding deliveries of a partition, as a number and in bytes of payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InFlightLimits {
    pub(crate) count: usize,
    pub(crate) bytes: usize,
}

impl PartitionProgress {
    pub(crate) fn new(topic: &str, partition: i32, start: Offset) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            unfinished: BTreeSet::new(),
            end: None,
            start,
            first: None,
            lost: None,
            committed: None,
            outstanding: 0,
            outstanding_bytes: 0,
            paused: false,
            leaving: false,
        }
    }

    pub(crate) fn receive(&mut self, record: ReceivedRecord) {
        let offset = record.at.offset;
        self.unfinished.insert(offset);
        self.lost = None;
        self.end = Some(offset + 1);
        self.waiting_bytes += record.message.payload.len();
        self.waiting.push_back(record);
    }

    /// Returns the offset that is read next; `None` if only librdkafka knows it.
    pub(crate) fn position(&self) -> Option<i64> {
        let start = match self.start {
            Offset::Offset(start) => Some(start),
            _ => self.first,
        };
        self.end.or(start)
    }

    /// Returns `true` if the partition is read from its beginning, and its first offset is not
    /// known.
    pub(crate) fn lacks_first_offset(&self) -> bool {
        self.start == Offset::Beginning && self.position().is_none()
    }

    /// Sets the first offset of a partition from whose beginning is read. It is committed, so that
    /// messages which are removed before any is received count as lost.
    pub(crate) fn begin(&mut self, first: i64) {
        self.first = Some(first);
    }

    /// Records that everything before an offset was received. While messages are unfinished, their
    /// offsets say more.
    ///
    /// What follows the last message may be the end of a transaction, which is no message. A
    /// position on it would count as lost once the broker has removed it with the messages before.
    pub(crate) fn pass(&mut self, offset: i64) {
        if self.unfinished.is_empty() && self.position().is_none_or(|known| known < offset) {
            self.end = Some(offset);
        }
    }

    /// Returns the error text for a lost position.
    pub(crate) fn lost_text(&self) -> Option<String> {
        let Self { topic, partition, .. } = self;
        let reason = self.lost.as_ref()?;
        Some(format!("topic {topic}, partition {partition}: {reason}"))
    }

    /// Takes the next message to deliver, unless the limits are reached.
    pub(crate) fn next(&mut self, limits: InFlightLimits) -> Option<ReceivedRecord> {
        if !self.is_ready(limits) {
            return None;
        }
        let record = self.waiting.pop_front()?;
        let bytes = record.message.payload.len();
        self.waiting_bytes -= bytes;
        self.outstanding += 1;
        self.outstanding_bytes += bytes;
        Some(record)
    }

    pub(crate) fn is_ready(&self, limits: InFlightLimits) -> bool {
        let next_bytes = self.waiting.front().map(|next| next.message.payload.len());
        let fits = |bytes| self.outstanding == 0 || self.outstanding_bytes + bytes <= limits.bytes;
        !self.leaving && self.outstanding < limits.count && next_bytes.is_some_and(fits)
    }

    /// Records that a delivery was acknowledged (`finished`) or dropped.
    pub(crate) fn settle(&mut self, offset: i64, bytes: usize, finished: bool) {
        self.outstanding -= 1;
        self.outstanding_bytes -= bytes;
        if finished {
            self.unfinished.remove(&offset);
        }
    }

    pub(crate) fn has_outstanding(&self) -> bool {
        self.outstanding > 0
    }

    /// Returns `true` if the partition should be paused.
    pub(crate) fn is_full(&self, limits: InFlightLimits) -> bool {
        self.outstanding + self.waiting.len() >= limits.count
            || self.outstanding_bytes + self.waiting_bytes >= limits.bytes
    }

    /// Returns `true` if a paused partition should be resumed: less than half of the limits is
    /// used.
    pub(crate) fn has_capacity(&self, limits: InFlightLimits) -> bool {
        self.outstanding + self.waiting.len() <= limits.count / 2
            && self.outstanding_bytes + self.waiting_bytes <= limits.bytes / 2
    }

    /// Takes the offset to commit, if it changed since the last commit.
    pub(crate) fn take_commit(&mut self) -> Option<i64> {
        let offset = self.unfinished.first().copied().or(self.end).or(self.first)?;
        (self.committed.replace(offset) != Some(offset)).then_some(offset)
    }

    /// Forgets the last commit, which failed or may have failed.
    pub(crate) fn forget_commit(&mut self) {
        self.committed = None;
    }
}

#[cfg(test)]
mod tests {
    use composable_rust_core::bus::{BusMessage, TopicOffset};

    use super::*;

    const LIMITS: InFlightLimits = InFlightLimits { count: 4, bytes: 100 };

    fn receive(progress: &mut PartitionProgress, offset: i64, bytes: usize) {
        let (topic, key) = (String::new(), String::new());
        let message = BusMessage { topic, key, headers: Vec::new(), payload: vec![0; bytes] };
        let at = TopicOffset { partition: 0, offset };
        progress.receive(ReceivedRecord::plain(at, message));
    }

    fn deliver(progress: &mut PartitionProgress) -> Vec<i64> {
        std::iter::from_fn(|| progress.next(LIMITS)).map(|record| record.at.offset).collect()
    }

    #[test]
    fn the_lowest_unfinished_offset_is_committed() {
        let mut progress = PartitionProgress::new("t", 0, Offset::Beginning);
        assert_eq!(progress.take_commit(), None);
        // Offsets have gaps where transactions ended.
        for offset in [10, 11, 13] {
            receive(&mut progress, offset, 1);
        }
        assert_eq!(deliver(&mut progress), [10, 11, 13]);
        assert_eq!(progress.take_commit(), Some(10));
        progress.settle(13, 1, true);
        assert_eq!(progress.take_commit(), None, "the lowest unfinished offset is the same");
        progress.settle(10, 1, true);
        assert_eq!(progress.take_commit(), Some(11));
        progress.settle(11, 1, true);
        assert_eq!(progress.take_commit(), Some(14));
        progress.forget_commit();
        assert_eq!(progress.take_commit(), Some(14));
    }

    #[test]
    fn the_first_offset_is_committed_until_a_message_is_received() {
        let mut progress = PartitionProgress::new("t", 0, Offset::Beginning);
        assert!(progress.lacks_first_offset());
        progress.begin(7);
        assert!(!progress.lacks_first_offset());
        assert_eq!((progress.position(), progress.take_commit()), (Some(7), Some(7)));
        progress.forget_commit();
        assert_eq!(progress.take_commit(), Some(7), "it is committed again");
        receive(&mut progress, 9, 1);
        assert_eq!(progress.take_commit(), Some(9));
        // librdkafka reads the committed offset itself.
        let unknown = PartitionProgress::new("t", 0, Offset::Invalid);
        assert!(!unknown.lacks_first_offset());
    }

    #[test]
    fn the_end_of_a_transaction_is_passed_once_its_messages_are_finished() {
        let mut progress = PartitionProgress::new("t", 0, Offset::Beginning);
        receive(&mut progress, 3, 1);
        progress.pass(5);
        assert_eq!((deliver(&mut progress), progress.take_commit()), (vec![3], Some(3)));
        progress.settle(3, 1, true);
        assert_eq!(progress.take_commit(), Some(4));
        progress.pass(5);
        assert_eq!((progress.position(), progress.take_commit()), (Some(5), Some(5)));
        progress.pass(2);
        assert_eq!(progress.position(), Some(5), "it does not go back");
    }

    #[test]
    fn undelivered_messages_count_as_unfinished() {
        let mut progress = PartitionProgress::new("t", 0, Offset::Beginning);
        (0..6).for_each(|offset| receive(&mut progress, offset, 1));
        assert_eq!(deliver(&mut progress), [0, 1, 2, 3]);
        (0..4).for_each(|offset| progress.settle(offset, 1, true));
        assert_eq!(progress.take_commit(), Some(4));
    }

    #[test]
    fn dropped_deliveries_free_capacity_and_stay_unfinished() {
        let mut progress = PartitionProgress::new("t", 0, Offset::Beginning);
        (0..5).for_each(|offset| receive(&mut progress, offset, 1));
        assert_eq!(deliver(&mut progress), [0, 1, 2, 3]);
        progress.settle(1, 1, false);
        assert_eq!(deliver(&mut progress), [4]);
        for offset in [0, 2, 3, 4] {
            progress.settle(offset, 1, true);
        }
        assert_eq!(progress.take_commit(), Some(1));
    }

    #[test]
    fn bytes_are_limited_but_a_single_delivery_may_exceed_them() {
        let mut progress = PartitionProgress::new("t", 0, Offset::Beginning);
        for (offset, bytes) in [(0, 500), (1, 60), (2, 60)] {
            receive(&mut progress, offset, bytes);
        }
        assert!(progress.is_full(LIMITS));
        assert_eq!(deliver(&mut progress), [0]);
        progress.settle(0, 500, true);
        assert_eq!(deliver(&mut progress), [1]);
        progress.settle(1, 60, true);
        assert_eq!(deliver(&mut progress), [2]);
        assert!(!progress.is_full(LIMITS) && !progress.has_capacity(LIMITS));
        progress.settle(2, 60, true);
        assert!(progress.has_capacity(LIMITS));
    }

    #[test]
    fn a_partition_that_is_being_revoked_delivers_nothing() {
        let mut progress = PartitionProgress::new("t", 0, Offset::Beginning);
        receive(&mut progress, 0, 1);
        progress.leaving = true;
        assert!(deliver(&mut progress).is_empty());
    }
}
