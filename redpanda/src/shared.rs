//! What a subscription's thread, its stream and its deliveries share.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use composable_rust_core::{BusError, TopicState, TopicStatus};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::error::Failure;
use crate::progress::{InFlightLimits, PartitionProgress};
use crate::record::ReceivedRecord;

/// Tells one time of having a partition from the next.
pub(crate) type AssignmentId = u64;

/// A subscription: what it has in hand, and who waits for what.
#[derive(Debug)]
pub(crate) struct Shared {
    bounds: InFlightLimits,
    /// What the names of topics begin with on the wire.
    prefix: String,
    state: Mutex<State>,
    settled: Condvar,
    bell: ThreadWaker,
}

#[derive(Debug, Default)]
struct State {
    partitions: BTreeMap<AssignmentId, PartitionProgress>,
    /// By topic and number.
    terms: BTreeMap<String, BTreeMap<i32, AssignmentId>>,
    last_term: AssignmentId,
    /// Whose delivery was given out last: the next is looked for behind it, so that no partition
    /// keeps the others waiting.
    last_given: AssignmentId,
    errors: VecDeque<BusError>,
    /// Topics that cannot be read, and why.
    unavailable: BTreeMap<String, String>,
    /// How many partitions each topic has.
    counts: BTreeMap<String, u16>,
    /// No more will come.
    ended: bool,
    /// The stream is gone.
    left: bool,
    waker: Option<Waker>,
}

/// A message that is given out.
pub(crate) type AssignedRecord = (AssignmentId, ReceivedRecord);

/// More errors than this are not kept for a stream that is not polled.
const MAX_ERRORS: usize = 16;

impl Shared {
    pub(crate) fn new(bounds: InFlightLimits, prefix: &str) -> Self {
        let (state, settled, bell) = Default::default();
        Self { bounds, prefix: prefix.to_owned(), state, settled, bell }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next of the stream.
    pub(crate) fn poll(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<AssignedRecord, BusError>>> {
        let mut state = self.locked();
        if let Some(given) = state.give(self.bounds) {
            return Poll::Ready(Some(Ok(given)));
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

    /// The stream is gone: the thread should leave the group.
    pub(crate) fn leave(&self) {
        self.locked().left = true;
        self.bell.ring();
    }

    pub(crate) fn has_left(&self) -> bool {
        self.locked().left
    }

    /// A delivery is out of its holder's hands. Whether that still counts.
    pub(crate) fn settle(
        &self,
        term: AssignmentId,
        offset: i64,
        bytes: usize,
        finished: bool,
    ) -> bool {
        let mut state = self.locked();
        let Some(progress) = state.partitions.get_mut(&term) else { return false };
        progress.settle(offset, bytes, finished);
        let (resumes, leaving) =
            (progress.paused && progress.has_room(self.bounds), progress.leaving);
        let waker = progress.is_ready(self.bounds).then(|| state.waker.take()).flatten();
        drop(state);
        if resumes {
            self.bell.ring();
        }
        if leaving {
            self.settled.notify_all();
        }
        waker.into_iter().for_each(Waker::wake);
        true
    }

    /// Takes a message that came. Returns `true` if its partition is to be paused.
    pub(crate) fn arrived(&self, topic: &str, arrived: ReceivedRecord) -> bool {
        let mut state = self.locked();
        let partition = arrived.place.partition;
        let term = state.terms.get(topic).and_then(|of| of.get(&partition)).copied();
        let progress = term.and_then(|term| state.partitions.get_mut(&term));
        // What came too late for its partition comes again, elsewhere.
        let Some(progress) = progress else { return false };
        progress.arrived(arrived);
        let pause = !progress.paused && progress.is_full(self.bounds);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        pause
    }

    pub(crate) fn failed(&self, error: BusError, is_the_end: bool) {
        let mut state = self.locked();
        if state.errors.len() < MAX_ERRORS || is_the_end {
            state.errors.push_back(error);
        }
        state.ended |= is_the_end;
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// The partitions, each with the offset that is read next.
    pub(crate) fn positions(&self) -> Vec<(String, i32, Option<i64>)> {
        let state = self.locked();
        let partitions = state.partitions.values();
        partitions.map(|p| (p.topic.clone(), p.partition, p.position())).collect()
    }

    /// The message at a partition's position is gone.
    pub(crate) fn lost(&self, topic: &str, partition: i32, found: String) {
        let mut state = self.locked();
        let term = state.terms.get(topic).and_then(|of| of.get(&partition)).copied();
        if let Some(progress) = term.and_then(|term| state.partitions.get_mut(&term)) {
            progress.lost = Some(found);
        }
    }

    pub(crate) fn set_count(&self, topic: &str, partitions: u16) {
        self.locked().counts.insert(topic.to_owned(), partitions);
    }

    /// How many partitions a topic has, by its name without the prefix.
    pub(crate) fn count(&self, topic: &str) -> Option<u16> {
        self.locked().counts.get(&format!("{}{topic}", self.prefix)).copied()
    }

    /// Notes why these topics cannot be read.
    pub(crate) fn set_unavailable(&self, topics: BTreeMap<String, String>) {
        self.locked().unavailable = topics;
    }

    pub(crate) fn is_unavailable(&self) -> bool {
        !self.locked().unavailable.is_empty()
    }

    /// Tells of everything that cannot be read. Returns `true` if there is anything.
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
            self.failed(Failure::new(text).into(), false);
        }
        !errors.is_empty()
    }

    /// What is read and what cannot be.
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

    /// The paused partitions that have room again.
    pub(crate) fn to_resume(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for progress in self.locked().partitions.values() {
            if progress.paused && progress.has_room(self.bounds) {
                list.add_partition(&progress.topic, progress.partition);
            }
        }
        list
    }

    /// Notes whether librdkafka has paused these partitions.
    pub(crate) fn set_paused(&self, list: &TopicPartitionList, paused: bool) {
        let mut state = self.locked();
        for term in state.terms_of(list) {
            if let Some(progress) = state.partitions.get_mut(&term) {
                progress.paused = paused;
            }
        }
    }

    /// What the broker should be asked to keep, which it is taken to be.
    pub(crate) fn take_commits(&self) -> TopicPartitionList {
        self.locked().take_commits(|_| true)
    }

    /// The broker may not have kept what it was asked to.
    pub(crate) fn commit_again(&self) {
        self.locked().partitions.values_mut().for_each(PartitionProgress::not_committed);
    }

    /// The broker did not keep it.
    pub(crate) fn not_committed(&self, offsets: &TopicPartitionList) {
        let mut state = self.locked();
        for element in offsets.elements() {
            let of_topic = state.terms.get(element.topic());
            let term = of_topic.and_then(|of| of.get(&element.partition())).copied();
            if let Some(progress) = term.and_then(|term| state.partitions.get_mut(&term)) {
                progress.not_committed();
            }
        }
    }

    /// These partitions are ours now.
    pub(crate) fn assigned(&self, list: &TopicPartitionList) {
        let mut state = self.locked();
        for element in list.elements() {
            state.unavailable.remove(element.topic());
            state.last_term += 1;
            let (term, partition) = (state.last_term, element.partition());
            let begin = match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            let progress = PartitionProgress::new(element.topic(), partition, begin);
            state.partitions.insert(term, progress);
            let of_topic = state.terms.entry(element.topic().to_owned()).or_default();
            if let Some(before) = of_topic.insert(partition, term) {
                state.partitions.remove(&before);
            }
        }
    }

    /// Gives out nothing more of these partitions, waits for what is in hand of them, and gives what
    /// is then to be committed.
    pub(crate) fn drain(&self, list: &TopicPartitionList, limit: Duration) -> TopicPartitionList {
        let deadline = Instant::now() + limit;
        let mut state = self.locked();
        let terms = state.terms_of(list);
        for term in &terms {
            if let Some(progress) = state.partitions.get_mut(term) {
                progress.leaving = true;
            }
        }
        let in_hand = |state: &State| {
            let of = |term| state.partitions.get(term).is_some_and(PartitionProgress::is_in_hand);
            terms.iter().any(of)
        };
        while in_hand(&state) && Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let waited = self.settled.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.take_commits(|term| terms.contains(&term))
    }

    /// These partitions are no longer ours.
    pub(crate) fn revoked(&self, list: &TopicPartitionList) {
        let mut state = self.locked();
        for term in state.terms_of(list) {
            if let Some(PartitionProgress { topic, partition, .. }) = state.partitions.remove(&term)
            {
                state.terms.get_mut(&topic).and_then(|of_topic| of_topic.remove(&partition));
            }
        }
    }

    /// What wakes the thread.
    pub(crate) fn bell(&self) -> &ThreadWaker {
        &self.bell
    }
}

impl State {
    fn give(&mut self, bounds: InFlightLimits) -> Option<AssignedRecord> {
        let ready = |(term, progress): (&AssignmentId, &PartitionProgress)| {
            progress.is_ready(bounds).then_some(*term)
        };
        let behind = self.partitions.range(self.last_given + 1..).find_map(ready);
        let term = behind.or_else(|| self.partitions.iter().find_map(ready))?;
        self.last_given = term;
        Some((term, self.partitions.get_mut(&term)?.give(bounds)?))
    }

    fn take_commits(&mut self, of: impl Fn(AssignmentId) -> bool) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (_, progress) in self.partitions.iter_mut().filter(|(term, _)| of(**term)) {
            if let Some(offset) = progress.take_commit() {
                // Only an offset below zero would be refused.
                let _ = list.add_partition_offset(
                    &progress.topic,
                    progress.partition,
                    Offset::Offset(offset),
                );
            }
        }
        list
    }

    fn terms_of(&self, list: &TopicPartitionList) -> Vec<AssignmentId> {
        let term = |topic: &str, partition| self.terms.get(topic)?.get(&partition).copied();
        let elements = list.elements();
        elements.iter().filter_map(|e| term(e.topic(), e.partition())).collect()
    }
}

/// Wakes a thread that waits, or is about to.
#[derive(Debug, Default, Clone)]
pub(crate) struct ThreadWaker(Arc<(Mutex<bool>, Condvar)>);

impl ThreadWaker {
    pub(crate) fn ring(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_one();
    }

    /// Waits for a ring since the last time, at most for `limit`.
    pub(crate) fn wait(&self, limit: Duration) {
        let rung = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(rung, limit, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}
