//! The state that a subscription's thread, its stream and its deliveries share.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use composable_rust_core::bus::{BusError, TopicState, TopicStatus};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::error::Failure;
use crate::group::progress::{InFlightLimits, PartitionProgress};
use crate::group::thread_waker::ThreadWaker;
use crate::record::ReceivedRecord;

/// Identifies one assignment of a partition to this member; a later assignment of the same
/// partition gets another id.
pub(crate) type AssignmentId = u64;

/// The partitions, outstanding deliveries and errors of a subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    limits: InFlightLimits,
    /// The prefix of topic names on the wire.
    prefix: String,
    state: Mutex<State>,
    settled: Condvar,
    thread: ThreadWaker,
}

#[derive(Debug, Default)]
struct State {
    partitions: BTreeMap<AssignmentId, PartitionProgress>,
    /// The current assignments, by topic and partition.
    assignments: BTreeMap<String, BTreeMap<i32, AssignmentId>>,
    last_assignment: AssignmentId,
    /// The assignment that the last delivery came from. The search for the next delivery starts
    /// after it, so that a busy partition does not starve the others.
    last_delivered: AssignmentId,
    errors: VecDeque<BusError>,
    /// The topics that cannot be read, with the reason.
    unavailable: BTreeMap<String, String>,
    /// The number of partitions of each topic.
    partition_counts: BTreeMap<String, u16>,
    /// `true` once the thread delivers nothing more.
    ended: bool,
    /// `true` once the stream was dropped.
    left: bool,
    waker: Option<Waker>,
}

/// A message with the assignment that it was received under.
pub(crate) type AssignedRecord = (AssignmentId, ReceivedRecord);

/// The maximum number of errors kept for a stream that is not polled; further errors are dropped.
const MAX_ERRORS: usize = 16;

impl Subscription {
    pub(crate) fn new(limits: InFlightLimits, prefix: &str) -> Self {
        let (state, settled, thread) = Default::default();
        Self { limits, prefix: prefix.to_owned(), state, settled, thread }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Polls the next delivery or error of the stream.
    pub(crate) fn poll(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<AssignedRecord, BusError>>> {
        let mut state = self.locked();
        if let Some(record) = state.next(self.limits) {
            return Poll::Ready(Some(Ok(record)));
        }
        if let Some(error) = state.errors.pop_front() {
            return Poll::Ready(Some(Err(error)));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Records that the stream was dropped; the thread then leaves the group.
    pub(crate) fn leave(&self) {
        self.locked().left = true;
        self.thread.wake();
    }

    pub(crate) fn has_left(&self) -> bool {
        self.locked().left
    }

    /// Records that a delivery was acknowledged (`finished`) or dropped. Returns `false` if the
    /// partition has been revoked since.
    pub(crate) fn settle(
        &self,
        assignment: AssignmentId,
        offset: i64,
        bytes: usize,
        finished: bool,
    ) -> bool {
        let mut state = self.locked();
        let Some(progress) = state.partitions.get_mut(&assignment) else { return false };
        progress.settle(offset, bytes, finished);
        let (resumes, leaving) =
            (progress.paused && progress.has_capacity(self.limits), progress.leaving);
        let waker = progress.is_ready(self.limits).then(|| state.waker.take()).flatten();
        drop(state);
        if resumes {
            self.thread.wake();
        }
        if leaving {
            self.settled.notify_all();
        }
        waker.into_iter().for_each(Waker::wake);
        true
    }

    /// Adds a received message. Returns `true` if its partition should be paused.
    pub(crate) fn receive(&self, topic: &str, record: ReceivedRecord) -> bool {
        let mut state = self.locked();
        let partition = record.at.partition;
        // A message of a partition revoked meanwhile is redelivered to another member.
        let Some(progress) = state.assigned_partition(topic, partition) else { return false };
        progress.receive(record);
        let pause = !progress.paused && progress.is_full(self.limits);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        pause
    }

    /// Adds an error to the stream. If it is `fatal`, the stream ends after it.
    pub(crate) fn fail(&self, error: BusError, fatal: bool) {
        let mut state = self.locked();
        if state.errors.len() < MAX_ERRORS || fatal {
            state.errors.push_back(error);
        }
        state.ended |= fatal;
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Returns the assigned partitions, each with the offset that is read next.
    pub(crate) fn positions(&self) -> Vec<(String, i32, Option<i64>)> {
        let state = self.locked();
        let partitions = state.partitions.values();
        partitions.map(|p| (p.topic.clone(), p.partition, p.position())).collect()
    }

    /// Returns the assigned partitions that are read from their beginnings, and whose first offsets
    /// are not known.
    pub(crate) fn without_first_offset(&self) -> Vec<(String, i32)> {
        let state = self.locked();
        let unknown = state.partitions.values().filter(|p| p.lacks_first_offset());
        unknown.map(|p| (p.topic.clone(), p.partition)).collect()
    }

    /// Sets the first offset of a partition from whose beginning is read.
    pub(crate) fn begin(&self, topic: &str, partition: i32, first: i64) {
        if let Some(progress) = self.locked().assigned_partition(topic, partition) {
            progress.begin(first);
        }
    }

    /// Records the offsets before which everything was received.
    pub(crate) fn pass(&self, positions: &TopicPartitionList) {
        let mut state = self.locked();
        for element in positions.elements() {
            let Offset::Offset(offset) = element.offset() else { continue };
            if let Some(progress) = state.assigned_partition(element.topic(), element.partition()) {
                progress.pass(offset);
            }
        }
    }

    /// Records that the broker no longer has the message at a partition's position.
    pub(crate) fn set_lost(&self, topic: &str, partition: i32, reason: String) {
        if let Some(progress) = self.locked().assigned_partition(topic, partition) {
            progress.lost = Some(reason);
        }
    }

    pub(crate) fn set_partition_count(&self, topic: &str, partitions: u16) {
        self.locked().partition_counts.insert(topic.to_owned(), partitions);
    }

    /// Returns the number of partitions of a topic, by its name without the prefix.
    pub(crate) fn partition_count(&self, topic: &str) -> Option<u16> {
        self.locked().partition_counts.get(&format!("{}{topic}", self.prefix)).copied()
    }

    /// Replaces the topics that cannot be read, with the reasons.
    pub(crate) fn set_unavailable(&self, topics: BTreeMap<String, String>) {
        self.locked().unavailable = topics;
    }

    pub(crate) fn has_unavailable_topics(&self) -> bool {
        !self.locked().unavailable.is_empty()
    }

    /// Adds an error for each partition and topic that cannot be read. Returns `true` if there is
    /// any.
    pub(crate) fn report(&self) -> bool {
        let (lost, unavailable) = {
            let state = self.locked();
            let lost = state
                .partitions
                .values()
                .filter_map(PartitionProgress::lost_text)
                .collect::<Vec<_>>();
            (lost, state.unavailable.clone())
        };
        let unavailable =
            unavailable.iter().map(|(topic, reason)| format!("topic {topic}: {reason}"));
        let errors: Vec<_> = lost.into_iter().chain(unavailable).collect();
        for text in &errors {
            self.fail(Failure::new(text).into(), false);
        }
        !errors.is_empty()
    }

    /// Returns the status of each assigned partition and each unavailable topic.
    pub(crate) fn status(&self) -> Vec<TopicStatus> {
        let state = self.locked();
        let name = |topic: &String| topic.strip_prefix(&self.prefix).unwrap_or(topic).to_owned();
        let partition = |progress: &PartitionProgress| TopicStatus {
            topic: name(&progress.topic),
            partition: Some(progress.partition),
            state: match &progress.lost {
                Some(reason) => TopicState::LostPosition { reason: reason.clone() },
                None => TopicState::Reading,
            },
        };
        let topic = |(topic, reason): (&String, &String)| TopicStatus {
            topic: name(topic),
            partition: None,
            state: TopicState::Unavailable { reason: reason.clone() },
        };
        let unavailable = state.unavailable.iter().map(topic);
        unavailable.chain(state.partitions.values().map(partition)).collect()
    }

    /// Returns the paused partitions that have capacity again.
    pub(crate) fn to_resume(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for progress in self.locked().partitions.values() {
            if progress.paused && progress.has_capacity(self.limits) {
                list.add_partition(&progress.topic, progress.partition);
            }
        }
        list
    }

    /// Records that librdkafka paused or resumed these partitions.
    pub(crate) fn set_paused(&self, list: &TopicPartitionList, paused: bool) {
        let mut state = self.locked();
        for assignment in state.assignments_of(list) {
            if let Some(progress) = state.partitions.get_mut(&assignment) {
                progress.paused = paused;
            }
        }
    }

    /// Takes the offsets to commit, and assumes that the commit will succeed.
    pub(crate) fn take_commits(&self) -> TopicPartitionList {
        self.locked().take_commits(|_| true)
    }

    /// Marks all offsets to be committed again, because earlier commits may have failed.
    pub(crate) fn commit_again(&self) {
        self.locked().partitions.values_mut().for_each(PartitionProgress::forget_commit);
    }

    /// Records that committing these offsets failed.
    pub(crate) fn commit_failed(&self, offsets: &TopicPartitionList) {
        let mut state = self.locked();
        for element in offsets.elements() {
            if let Some(progress) = state.assigned_partition(element.topic(), element.partition()) {
                progress.forget_commit();
            }
        }
    }

    /// Adds partitions that were assigned to this member.
    pub(crate) fn assign(&self, list: &TopicPartitionList) {
        let mut state = self.locked();
        for element in list.elements() {
            state.unavailable.remove(element.topic());
            state.last_assignment += 1;
            let (assignment, partition) = (state.last_assignment, element.partition());
            let progress = PartitionProgress::new(element.topic(), partition, element.offset());
            state.partitions.insert(assignment, progress);
            let of_topic = state.assignments.entry(element.topic().to_owned()).or_default();
            if let Some(previous) = of_topic.insert(partition, assignment) {
                state.partitions.remove(&previous);
            }
        }
    }

    /// Stops delivering from these partitions, waits at most `limit` for their outstanding
    /// deliveries, and returns the offsets to commit.
    pub(crate) fn drain(&self, list: &TopicPartitionList, limit: Duration) -> TopicPartitionList {
        let deadline = Instant::now() + limit;
        let mut state = self.locked();
        let assignments = state.assignments_of(list);
        for assignment in &assignments {
            if let Some(progress) = state.partitions.get_mut(assignment) {
                progress.leaving = true;
            }
        }
        let is_outstanding = |state: &State| {
            let mut partitions = assignments.iter().filter_map(|id| state.partitions.get(id));
            partitions.any(PartitionProgress::has_outstanding)
        };
        while is_outstanding(&state) && Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let waited = self.settled.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.take_commits(|assignment| assignments.contains(&assignment))
    }

    /// Removes partitions that were revoked from this member.
    pub(crate) fn revoke(&self, list: &TopicPartitionList) {
        let mut state = self.locked();
        for assignment in state.assignments_of(list) {
            let Some(progress) = state.partitions.remove(&assignment) else { continue };
            if let Some(of_topic) = state.assignments.get_mut(&progress.topic) {
                of_topic.remove(&progress.partition);
            }
        }
    }

    /// Returns the waker of the subscription's thread.
    pub(crate) fn thread(&self) -> &ThreadWaker {
        &self.thread
    }
}

impl State {
    /// Takes the next message that may be delivered, from the partitions in turn.
    fn next(&mut self, limits: InFlightLimits) -> Option<AssignedRecord> {
        let ready = |(assignment, progress): (&AssignmentId, &PartitionProgress)| {
            progress.is_ready(limits).then_some(*assignment)
        };
        let after_last = self.partitions.range(self.last_delivered + 1..).find_map(ready);
        let assignment = after_last.or_else(|| self.partitions.iter().find_map(ready))?;
        self.last_delivered = assignment;
        Some((assignment, self.partitions.get_mut(&assignment)?.next(limits)?))
    }

    fn take_commits(&mut self, filter: impl Fn(AssignmentId) -> bool) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (_, progress) in
            self.partitions.iter_mut().filter(|(assignment, _)| filter(**assignment))
        {
            if let Some(offset) = progress.take_commit() {
                // This fails for negative offsets only.
                let _ = list.add_partition_offset(
                    &progress.topic,
                    progress.partition,
                    Offset::Offset(offset),
                );
            }
        }
        list
    }

    fn assignments_of(&self, list: &TopicPartitionList) -> Vec<AssignmentId> {
        let elements = list.elements();
        elements.iter().filter_map(|e| self.assignment(e.topic(), e.partition())).collect()
    }

    fn assignment(&self, topic: &str, partition: i32) -> Option<AssignmentId> {
        self.assignments.get(topic)?.get(&partition).copied()
    }

    fn assigned_partition(
        &mut self,
        topic: &str,
        partition: i32,
    ) -> Option<&mut PartitionProgress> {
        let assignment = self.assignment(topic, partition)?;
        self.partitions.get_mut(&assignment)
    }
}
