//! What a bus holds: topics, groups and publishers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;

use composable_rust_core::{
    BusMessage, BusRecord, Clock, PublishError, PublisherName, ResumePosition, Timestamp,
    TopicOffset,
};

use super::group::Group;

/// Everything on the bus; whoever looks at it holds its lock.
pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) clock: Option<Arc<dyn Clock>>,
    pub(super) topics: BTreeMap<String, Topic>,
    pub(super) groups: BTreeMap<String, Group>,
    /// Topics to which nothing may be published.
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
    /// Of each partition, the indexes of its messages by offset.
    offsets: Vec<Vec<usize>>,
}

/// A message, and when it was published if a clock says so.
#[derive(Debug)]
pub(super) struct StoredRecord {
    pub(super) message: BusMessage,
    /// What another client has written, if it was one.
    pub(super) record: Option<BusRecord>,
    pub(super) at: Option<Timestamp>,
}

/// Who holds a publisher, and what came with the last batch.
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

    /// The topic, made if it is not there.
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

    /// Opens a publisher; the epoch tells its holders apart.
    pub(super) fn open(&mut self, name: &PublisherName) -> u64 {
        let holder = self.publishers.entry(key(name)).or_default();
        holder.epoch += 1;
        holder.epoch
    }

    /// The position that came with the last batch, for whoever still holds the publisher.
    pub(super) fn position(
        &self,
        name: &PublisherName,
        epoch: u64,
    ) -> Result<Option<ResumePosition>, PublishError> {
        let holder = self.publishers.get(&key(name)).filter(|holder| holder.epoch == epoch);
        holder.map(|holder| holder.position).ok_or(PublishError::Fenced)
    }

    /// Notes the position that comes with a batch.
    pub(super) fn set_position(&mut self, name: &PublisherName, position: ResumePosition) {
        self.publishers.entry(key(name)).or_default().position = Some(position);
    }

    /// The wakers of all who wait for messages.
    pub(super) fn wakers(&mut self) -> Vec<Waker> {
        self.groups.values_mut().flat_map(Group::wakers).collect()
    }
}

/// One holder for each log partition, however many the log is said to have.
fn key(name: &PublisherName) -> (u128, String, u16) {
    (name.log.as_u128(), name.purpose.clone(), name.partition)
}

impl Topic {
    fn new(partitions: i32) -> Self {
        let offsets = (0..partitions).map(|_| Vec::new()).collect();
        Self { partitions, messages: Vec::new(), offsets }
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

    pub(super) fn messages(&self) -> &[(TopicOffset, Arc<StoredRecord>)] {
        &self.messages
    }

    pub(super) fn message(&self, place: TopicOffset) -> Option<&Arc<StoredRecord>> {
        let offset = usize::try_from(place.offset).ok()?;
        let at = *self.offsets.get(index(place.partition))?.get(offset)?;
        Some(&self.messages.get(at)?.1)
    }

    /// The offset that the next message of a partition gets.
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
