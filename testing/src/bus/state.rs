//! The data of a bus: topics, groups and publishers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;

use composable_rust_core::Timestamp;
use composable_rust_core::bus::{
    BusMessage, BusRecord, PublishError, PublisherName, ResumePosition, TopicOffset,
};
use composable_rust_core::environment::Clock;

use super::group::Group;

/// All data of the bus, guarded by its lock.
pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) clock: Option<Arc<dyn Clock>>,
    pub(super) topics: BTreeMap<String, Topic>,
    pub(super) groups: BTreeMap<String, Group>,
    /// Topics to which publishing is rejected.
    pub(super) denied: BTreeSet<String>,
    publishers: BTreeMap<(u128, String, u16), Holder>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) partitions: i32,
    pub(super) max_outstanding: usize,
    pub(super) max_payload_bytes: Option<usize>,
    pub(super) create_topics: bool,
}

#[derive(Debug)]
pub(super) struct Topic {
    partitions: i32,
    /// In the order in which they were published.
    messages: Vec<(TopicOffset, Arc<StoredRecord>)>,
    /// The indexes of each partition's messages, by offset.
    offsets: Vec<Vec<usize>>,
    /// The offset of each partition's oldest message that was not removed; 0 if it is missing.
    first: Vec<i64>,
}

/// A message with its publication time, if the bus has a clock.
#[derive(Debug)]
pub(super) struct StoredRecord {
    pub(super) message: BusMessage,
    /// The raw record, if another client published it.
    pub(super) record: Option<BusRecord>,
    pub(super) at: Option<Timestamp>,
}

/// The current holder of a publisher, and the position of the last batch.
#[derive(Debug, Default)]
struct Holder {
    epoch: u64,
    position: Option<ResumePosition>,
}

impl State {
    pub(super) fn new(settings: Settings) -> Self {
        let (topics, groups, denied, publishers) = Default::default();
        Self { settings, clock: None, topics, groups, denied, publishers }
    }

    /// Returns the topic, and creates it if it is missing.
    pub(super) fn topic(&mut self, name: &str) -> &mut Topic {
        let partitions = self.settings.partitions;
        self.topics.entry(name.to_owned()).or_insert_with(|| Topic::new(partitions))
    }

    pub(super) fn append(&mut self, message: BusMessage) {
        self.append_record(message, None);
    }

    pub(super) fn append_record(&mut self, message: BusMessage, record: Option<BusRecord>) {
        let name = message.topic.clone();
        let at = self.clock.as_ref().map(|clock| clock.now());
        self.topic(&name).append(StoredRecord { message, record, at });
    }

    /// Opens a publisher under a new epoch, which fences earlier holders.
    pub(super) fn open(&mut self, name: &PublisherName) -> u64 {
        let holder = self.publishers.entry(key(name)).or_default();
        holder.epoch += 1;
        holder.epoch
    }

    /// The position of the last batch, for the current holder of the publisher.
    pub(super) fn position(
        &self,
        name: &PublisherName,
        epoch: u64,
    ) -> Result<Option<ResumePosition>, PublishError> {
        let holder = self.publishers.get(&key(name)).filter(|holder| holder.epoch == epoch);
        holder.map(|holder| holder.position).ok_or(PublishError::Fenced)
    }

    /// Stores the position of a batch.
    pub(super) fn set_position(&mut self, name: &PublisherName, position: ResumePosition) {
        self.publishers.entry(key(name)).or_default().position = Some(position);
    }

    /// The wakers of all waiting members.
    pub(super) fn wakers(&mut self) -> Vec<Waker> {
        self.groups.values_mut().flat_map(Group::wakers).collect()
    }
}

/// The identity of a publisher, which does not include the number of partitions.
fn key(name: &PublisherName) -> (u128, String, u16) {
    (name.log.as_u128(), name.purpose.clone(), name.partition)
}

impl Topic {
    fn new(partitions: i32) -> Self {
        let offsets = (0..partitions).map(|_| Vec::new()).collect();
        Self { partitions, messages: Vec::new(), offsets, first: Vec::new() }
    }

    fn append(&mut self, published: StoredRecord) {
        let partition = partition_of(&published.message.key, self.partitions);
        let Some(offsets) = self.offsets.get_mut(index(partition)) else { return };
        let offset = i64::try_from(offsets.len()).unwrap_or(i64::MAX);
        offsets.push(self.messages.len());
        self.messages.push((TopicOffset { partition, offset }, Arc::new(published)));
    }

    pub(super) fn raise(&mut self, partitions: i32) {
        self.partitions = self.partitions.max(partitions);
        self.offsets.resize_with(index(self.partitions), Vec::new);
    }

    pub(super) fn partitions(&self) -> i32 {
        self.partitions
    }

    /// Removes all messages. Their offsets are not used again.
    pub(super) fn remove_all(&mut self) {
        self.first = (0..self.partitions).map(|partition| self.end(partition)).collect();
    }

    /// The offset of the oldest message of a partition; its end if there is none.
    pub(super) fn first(&self, partition: i32) -> i64 {
        self.first.get(index(partition)).copied().unwrap_or_default()
    }

    /// The messages that were not removed.
    pub(super) fn messages(&self) -> impl Iterator<Item = &(TopicOffset, Arc<StoredRecord>)> {
        self.messages.iter().filter(|(place, _)| place.offset >= self.first(place.partition))
    }

    pub(super) fn message(&self, place: TopicOffset) -> Option<&Arc<StoredRecord>> {
        if place.offset < self.first(place.partition) {
            return None;
        }
        let offset = usize::try_from(place.offset).ok()?;
        let at = *self.offsets.get(index(place.partition))?.get(offset)?;
        Some(&self.messages.get(at)?.1)
    }

    /// The offset of the first message of a partition that was published at a time or later; the
    /// end if there is none.
    pub(super) fn first_since(&self, partition: i32, time: Timestamp) -> i64 {
        let mut offsets = self.first(partition)..self.end(partition);
        let is_since = |offset: &i64| {
            let message = self.message(TopicOffset { partition, offset: *offset });
            message.and_then(|message| message.at).is_some_and(|at| at >= time)
        };
        offsets.find(is_since).unwrap_or(self.end(partition))
    }

    /// The offset of the next message of a partition.
    pub(super) fn end(&self, partition: i32) -> i64 {
        let count = self.offsets.get(index(partition)).map_or(0, Vec::len);
        i64::try_from(count).unwrap_or(i64::MAX)
    }
}

fn index(partition: i32) -> usize {
    usize::try_from(partition).unwrap_or(usize::MAX)
}

/// FNV-1a, modulo the count: a key stays in its partition, and keys spread.
fn partition_of(key: &str, partitions: i32) -> i32 {
    let hash = key
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    i32::try_from(i64::from(hash) % i64::from(partitions)).unwrap_or_default()
}
