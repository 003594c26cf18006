//! How far a subscription is in one partition.

use std::collections::{BTreeSet, VecDeque};

use crate::record::ReceivedRecord;

/// A topic partition in this subscription's hands.
#[derive(Debug)]
pub(crate) struct PartitionProgress {
    /// The topic's name on the wire.
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// Come from the broker and not given out.
    waiting: VecDeque<ReceivedRecord>,
    waiting_bytes: usize,
    /// Come from the broker and not acknowledged, whether given out or not.
    unfinished: BTreeSet<i64>,
    /// Behind the last that came.
    end: Option<i64>,
    /// The offset that was asked for first; `None` for the beginning.
    begin: Option<i64>,
    /// Nothing more comes: the message at the position is gone. Says what was found.
    pub(crate) lost: Option<String>,
    /// What the broker was last asked to keep.
    committed: Option<i64>,
    /// Given out, neither acknowledged nor dropped.
    in_hand: usize,
    in_hand_bytes: usize,
    pub(crate) paused: bool,
    /// It is being taken away: nothing more is given out.
    pub(crate) leaving: bool,
}

/// How much of a partition may be in hand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InFlightLimits {
    pub(crate) count: usize,
    pub(crate) bytes: usize,
}

impl PartitionProgress {
    pub(crate) fn new(topic: &str, partition: i32, begin: Option<i64>) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            unfinished: BTreeSet::new(),
            end: None,
            begin,
            lost: None,
            committed: None,
            in_hand: 0,
            in_hand_bytes: 0,
            paused: false,
            leaving: false,
        }
    }

    pub(crate) fn arrived(&mut self, arrived: ReceivedRecord) {
        let offset = arrived.place.offset;
        self.unfinished.insert(offset);
        self.lost = None;
        self.end = Some(offset + 1);
        self.waiting_bytes += arrived.message.payload.len();
        self.waiting.push_back(arrived);
    }

    /// The offset that is read next; `None` for the beginning.
    pub(crate) fn position(&self) -> Option<i64> {
        self.end.or(self.begin)
    }

    /// What is lost, in words.
    pub(crate) fn lost_text(&self) -> Option<String> {
        let Self { topic, partition, .. } = self;
        let found = self.lost.as_ref()?;
        Some(format!("topic {topic}, partition {partition}: {found}"))
    }

    /// The next delivery, unless too much is in hand.
    pub(crate) fn give(&mut self, bounds: InFlightLimits) -> Option<ReceivedRecord> {
        if !self.is_ready(bounds) {
            return None;
        }
        let given = self.waiting.pop_front()?;
        let bytes = given.message.payload.len();
        self.waiting_bytes -= bytes;
        self.in_hand += 1;
        self.in_hand_bytes += bytes;
        Some(given)
    }

    pub(crate) fn is_ready(&self, bounds: InFlightLimits) -> bool {
        let next = self.waiting.front().map(|next| next.message.payload.len());
        let fits = |next| self.in_hand == 0 || self.in_hand_bytes + next <= bounds.bytes;
        !self.leaving && self.in_hand < bounds.count && next.is_some_and(fits)
    }

    /// A delivery is out of its holder's hands.
    pub(crate) fn settle(&mut self, offset: i64, bytes: usize, finished: bool) {
        self.in_hand -= 1;
        self.in_hand_bytes -= bytes;
        if finished {
            self.unfinished.remove(&offset);
        }
    }

    pub(crate) fn is_in_hand(&self) -> bool {
        self.in_hand > 0
    }

    /// Enough came: the broker should be asked for no more.
    pub(crate) fn is_full(&self, bounds: InFlightLimits) -> bool {
        self.in_hand + self.waiting.len() >= bounds.count
            || self.in_hand_bytes + self.waiting_bytes >= bounds.bytes
    }

    /// Enough has gone that it is worth asking again.
    pub(crate) fn has_room(&self, bounds: InFlightLimits) -> bool {
        self.in_hand + self.waiting.len() <= bounds.count / 2
            && self.in_hand_bytes + self.waiting_bytes <= bounds.bytes / 2
    }

    /// Where the group should go on, if the broker does not know yet.
    pub(crate) fn take_commit(&mut self) -> Option<i64> {
        let stored = self.unfinished.first().copied().or(self.end)?;
        (self.committed.replace(stored) != Some(stored)).then_some(stored)
    }

    /// The broker did not keep it, or may not have.
    pub(crate) fn not_committed(&mut self) {
        self.committed = None;
    }
}

#[cfg(test)]
mod tests {
    use composable_rust_core::{BusMessage, TopicOffset};

    use super::*;

    const BOUNDS: InFlightLimits = InFlightLimits { count: 4, bytes: 100 };

    fn arrive(progress: &mut PartitionProgress, offset: i64, bytes: usize) {
        let (topic, key) = (String::new(), String::new());
        let message = BusMessage { topic, key, headers: Vec::new(), payload: vec![0; bytes] };
        let place = TopicOffset { partition: 0, offset };
        progress.arrived(ReceivedRecord::plain(place, message));
    }

    fn given(progress: &mut PartitionProgress) -> Vec<i64> {
        std::iter::from_fn(|| progress.give(BOUNDS)).map(|given| given.place.offset).collect()
    }

    #[test]
    fn the_lowest_unfinished_is_committed() {
        let mut progress = PartitionProgress::new("t", 0, None);
        assert_eq!(progress.take_commit(), None);
        // Offsets have gaps where transactions ended.
        for offset in [10, 11, 13] {
            arrive(&mut progress, offset, 1);
        }
        assert_eq!(given(&mut progress), [10, 11, 13]);
        assert_eq!(progress.take_commit(), Some(10));
        progress.settle(13, 1, true);
        assert_eq!(progress.take_commit(), None, "nothing moved");
        progress.settle(10, 1, true);
        assert_eq!(progress.take_commit(), Some(11));
        progress.settle(11, 1, true);
        assert_eq!(progress.take_commit(), Some(14));
        progress.not_committed();
        assert_eq!(progress.take_commit(), Some(14));
    }

    #[test]
    fn what_waits_is_unfinished_too() {
        let mut progress = PartitionProgress::new("t", 0, None);
        (0..6).for_each(|offset| arrive(&mut progress, offset, 1));
        assert_eq!(given(&mut progress), [0, 1, 2, 3]);
        (0..4).for_each(|offset| progress.settle(offset, 1, true));
        assert_eq!(progress.take_commit(), Some(4));
    }

    #[test]
    fn what_was_dropped_makes_room_and_stays_unfinished() {
        let mut progress = PartitionProgress::new("t", 0, None);
        (0..5).for_each(|offset| arrive(&mut progress, offset, 1));
        assert_eq!(given(&mut progress), [0, 1, 2, 3]);
        progress.settle(1, 1, false);
        assert_eq!(given(&mut progress), [4]);
        for offset in [0, 2, 3, 4] {
            progress.settle(offset, 1, true);
        }
        assert_eq!(progress.take_commit(), Some(1));
    }

    #[test]
    fn bytes_are_bounded_but_one_is_always_given() {
        let mut progress = PartitionProgress::new("t", 0, None);
        for (offset, bytes) in [(0, 500), (1, 60), (2, 60)] {
            arrive(&mut progress, offset, bytes);
        }
        assert!(progress.is_full(BOUNDS));
        assert_eq!(given(&mut progress), [0]);
        progress.settle(0, 500, true);
        assert_eq!(given(&mut progress), [1]);
        progress.settle(1, 60, true);
        assert_eq!(given(&mut progress), [2]);
        assert!(!progress.is_full(BOUNDS) && !progress.has_room(BOUNDS));
        progress.settle(2, 60, true);
        assert!(progress.has_room(BOUNDS));
    }

    #[test]
    fn nothing_is_given_out_while_it_leaves() {
        let mut progress = PartitionProgress::new("t", 0, None);
        arrive(&mut progress, 0, 1);
        progress.leaving = true;
        assert!(given(&mut progress).is_empty());
    }
}
