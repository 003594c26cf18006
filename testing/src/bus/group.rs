//! A consumer group: its members and its offset in each partition.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;

use composable_rust_core::bus::{GroupOffset, TopicOffset, TopicState, TopicStatus};

use super::assignment::spread;
use super::state::Topic;

pub(super) type MemberId = u64;

/// The members of a group, in the order in which they joined, and its progress.
#[derive(Debug, Default)]
pub(super) struct Group {
    members: BTreeMap<MemberId, Member>,
    joined: MemberId,
    topics: BTreeMap<String, Vec<PartitionProgress>>,
}

#[derive(Debug)]
struct Member {
    topics: BTreeSet<String>,
    /// The waker of the member while it waits for messages.
    waker: Option<Waker>,
    /// The partition polled last. The next poll starts after it, so that no partition starves the
    /// others.
    last: Option<(String, i32)>,
}

/// The progress of a group in one partition.
#[derive(Debug, Default)]
struct PartitionProgress {
    owner: Option<MemberId>,
    /// Incremented whenever the partition changes its owner or is rewound.
    term: u64,
    /// The committed offset: all messages below it are finished.
    stored: i64,
    /// The next offset to deliver.
    next: i64,
    /// The finished offsets above `stored`. Cleared when a new term begins.
    finished: BTreeSet<i64>,
    /// The number of outstanding deliveries.
    outstanding: usize,
}

/// The origin of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) topic: String,
    pub(super) place: TopicOffset,
    pub(super) term: u64,
}

impl Group {
    pub(super) fn join(
        &mut self,
        wanted: BTreeSet<String>,
        known: &[GroupOffset],
        topics: &BTreeMap<String, Topic>,
    ) -> MemberId {
        self.joined += 1;
        for (name, topic) in topics.iter().filter(|(name, _)| wanted.contains(*name)) {
            let begin = |partition| {
                let first = topic.first(partition);
                let is_done = |at: &&GroupOffset| {
                    let there = topic.message(at.at).map(|published| published.at);
                    let same = there.is_some_and(|there| {
                        there.zip(at.published_at).is_none_or(|(there, known)| there == known)
                    });
                    let is_removed = at.at.offset < first;
                    (same || is_removed) && at.topic == *name && at.at.partition == partition
                };
                known.iter().filter(is_done).map(|at| at.at.offset + 1).max().unwrap_or(first)
            };
            let new = || {
                (0..topic.partitions()).map(|p| PartitionProgress::beginning_at(begin(p))).collect()
            };
            self.topics.entry(name.clone()).or_insert_with(new);
        }
        self.members.insert(self.joined, Member { topics: wanted, waker: None, last: None });
        self.rebalance();
        self.joined
    }

    pub(super) fn leave(&mut self, member: MemberId) {
        self.members.remove(&member);
        self.rebalance();
    }

    /// Rewinds every partition to its beginning. Earlier deliveries can no longer be settled.
    pub(super) fn rewind(&mut self, topics: &BTreeMap<String, Topic>) {
        for (topic, partitions) in &mut self.topics {
            for (partition, progress) in (0..).zip(partitions) {
                progress.stored = topics.get(topic).map_or(0, |topic| topic.first(partition));
                progress.change_hands(progress.owner);
            }
        }
    }

    /// Returns the offset of the next message of a partition; `None` if the group never read the
    /// topic.
    pub(super) fn next_offset(&self, topic: &str, partition: i32) -> Option<i64> {
        let partition = usize::try_from(partition).ok()?;
        self.topics.get(topic)?.get(partition).map(|progress| progress.stored)
    }

    /// Moves the group, which has no members, in some of a topic's partitions.
    pub(super) fn move_to(&mut self, name: &str, topic: &Topic, to: &[TopicOffset]) {
        let new = || {
            let first = (0..topic.partitions()).map(|partition| topic.first(partition));
            first.map(PartitionProgress::beginning_at).collect()
        };
        let of_topic = self.topics.entry(name.to_owned()).or_insert_with(new);
        for at in to {
            let partition = usize::try_from(at.partition).ok();
            if let Some(progress) = partition.and_then(|partition| of_topic.get_mut(partition)) {
                progress.stored = at.offset;
                progress.change_hands(None);
            }
        }
    }

    /// Adds partitions to a topic.
    pub(super) fn raise(&mut self, topic: &str, count: usize) {
        if let Some(partitions) = self.topics.get_mut(topic) {
            partitions.resize_with(count.max(partitions.len()), PartitionProgress::default);
            self.rebalance();
        }
    }

    fn rebalance(&mut self) {
        let mut load = BTreeMap::new();
        for (topic, partitions) in &mut self.topics {
            let wants = |(id, m): (&MemberId, &Member)| m.topics.contains(topic).then_some(*id);
            let members: Vec<_> = self.members.iter().filter_map(wants).collect();
            let owners: Vec<_> = partitions.iter().map(|progress| progress.owner).collect();
            let spread = spread(&owners, &members, &mut load);
            for (progress, owner) in partitions.iter_mut().zip(spread) {
                if progress.owner != owner {
                    progress.change_hands(owner);
                }
            }
        }
    }

    /// Returns the next delivery for `member`, if there is one.
    pub(super) fn next(
        &mut self,
        member: MemberId,
        max_outstanding: usize,
        topics: &BTreeMap<String, Topic>,
    ) -> Option<Origin> {
        let last = self.members.get(&member)?.last.clone();
        let owned = self.topics.iter().flat_map(|(topic, partitions)| {
            let numbered = (0..).zip(partitions).filter(|(_, p)| p.owner == Some(member));
            numbered.map(move |(partition, progress)| (topic, partition, progress))
        });
        let ready = owned.filter(|(topic, partition, progress)| {
            let Some(topic) = topics.get(*topic) else { return false };
            let there = topic.first(*partition)..topic.end(*partition);
            there.contains(&progress.next) && progress.outstanding < max_outstanding
        });
        let ready: Vec<_> = ready.map(|(topic, partition, _)| (topic.clone(), partition)).collect();
        let behind = ready.iter().find(|at| last.as_ref().is_some_and(|last| *at > last));
        let (topic, partition) = behind.or(ready.first())?.clone();

        let progress = self.topics.get_mut(&topic)?.get_mut(usize::try_from(partition).ok()?)?;
        let place = TopicOffset { partition, offset: progress.next };
        progress.next += 1;
        progress.outstanding += 1;
        let term = progress.term;
        self.members.get_mut(&member)?.last = Some((topic.clone(), partition));
        Some(Origin { topic, place, term })
    }

    /// Registers a waker for new messages.
    pub(super) fn wait(&mut self, member: MemberId, waker: &Waker) {
        if let Some(member) = self.members.get_mut(&member) {
            member.waker = Some(waker.clone());
        }
    }

    pub(super) fn wakers(&mut self) -> impl Iterator<Item = Waker> {
        self.members.values_mut().filter_map(|member| member.waker.take())
    }

    /// Settles a delivery, finished or not. Returns `false`, without effect, if a new term has
    /// begun since the delivery.
    pub(super) fn settle(&mut self, origin: &Origin, finished: bool) -> bool {
        let Some(progress) = self.progress_mut(origin).filter(|p| p.term == origin.term) else {
            return false;
        };
        progress.outstanding -= 1;
        if finished {
            progress.finish(origin.place.offset);
        }
        true
    }

    fn progress_mut(&mut self, origin: &Origin) -> Option<&mut PartitionProgress> {
        let partition = usize::try_from(origin.place.partition).ok()?;
        self.topics.get_mut(&origin.topic)?.get_mut(partition)
    }

    /// Returns the committed offset of a partition: all messages below it are finished.
    pub(super) fn stored(&self, topic: &str, partition: usize) -> i64 {
        let progress = self.topics.get(topic).and_then(|partitions| partitions.get(partition));
        progress.map_or(0, |progress| progress.stored)
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = &String> {
        self.topics.keys()
    }

    /// Returns the status of the partitions that have an owner.
    pub(super) fn status(&self, topics: &BTreeMap<String, Topic>) -> Vec<TopicStatus> {
        let of_topic = |(topic, partitions): (&String, &Vec<PartitionProgress>)| {
            let read = (0..).zip(partitions).filter(|(_, progress)| progress.owner.is_some());
            let status = read.map(|(partition, progress)| {
                let first = topics.get(topic).map_or(0, |topic| topic.first(partition));
                let state = if progress.next < first {
                    let reason = format!("the message at its position {} is gone", progress.next);
                    TopicState::LostPosition { reason }
                } else {
                    TopicState::Reading
                };
                TopicStatus { topic: topic.clone(), partition: Some(partition), state }
            });
            status.collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of_topic).collect()
    }

    pub(super) fn members(&self) -> usize {
        self.members.len()
    }
}

impl PartitionProgress {
    fn beginning_at(stored: i64) -> Self {
        Self { stored, next: stored, ..Self::default() }
    }

    fn finish(&mut self, offset: i64) {
        self.finished.insert(offset);
        while self.finished.remove(&self.stored) {
            self.stored += 1;
        }
    }

    fn change_hands(&mut self, owner: Option<MemberId>) {
        self.owner = owner;
        self.term += 1;
        self.next = self.stored;
        self.finished.clear();
        self.outstanding = 0;
    }
}
