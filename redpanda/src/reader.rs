//! The thread of a subscription.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use composable_rust_core::{BusError, Timestamp};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer as _, ConsumerContext, RebalanceProtocol,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};
use rdkafka::types::RDKafkaRespErr;

use crate::client::{ClientLog, positions, subscription};
use crate::delivery::RedpandaDeliveries;
use crate::error::{Failure, bus_error};
use crate::progress::InFlightLimits;
use crate::record::arrived;
use crate::resume::StoredGroupOffsets;
use crate::shared::Shared;
use crate::{LostPosition, RedpandaEventBusBuilder};

/// How many messages are taken before other things get their turn.
const MAX_RECORDS_PER_TURN: usize = 1_000;
/// How often in a row there has to be nothing: a poll that dealt with something else gives nothing
/// too.
const EMPTY_POLLS: usize = 3;

/// How often to look again at what cannot be read, and to commit again what was: librdkafka tells nobody
/// of commits that a broker refused, as it does those that cross a rebalance, since rdkafka asks for
/// them as events and librdkafka gives them to callbacks only.
const COMMIT_RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// Joins the group and starts to read these topics, by their names on the wire.
///
/// The thread is one of the runtime's, which waits when it is shut down until the group was left.
pub(crate) fn start(
    settings: &RedpandaEventBusBuilder,
    group: &str,
    prefix: &str,
    topics: Vec<String>,
    done: BTreeMap<(String, i32), (i64, Option<Timestamp>)>,
) -> Result<(RedpandaDeliveries, Arc<Shared>), BusError> {
    let bounds =
        InFlightLimits { count: settings.max_outstanding, bytes: settings.max_outstanding_bytes };
    let shared = Arc::new(Shared::new(bounds, prefix));
    let context = GroupContext {
        voice: ClientLog::default(),
        detail: Mutex::default(),
        shared: Arc::clone(&shared),
        known: StoredGroupOffsets {
            done,
            config: positions(settings, group),
            timeout: settings.connect_timeout,
        },
        lost_position: settings.lost_position,
        is_unsure: AtomicBool::new(false),
        timeout: settings.connect_timeout,
        drain_timeout: settings.drain_timeout,
    };
    let config = subscription(settings, group);
    let mut consumer: BaseConsumer<GroupContext> =
        config.create_with_context(context).map_err(bus_error)?;
    let bell = shared.bell().clone();
    consumer.set_nonempty_callback(move || bell.ring());
    let reader = Reader {
        consumer,
        topics,
        timeout: settings.connect_timeout,
        unexplained: Cell::new(false),
        unnamed: Cell::new(false),
        shared: Arc::clone(&shared),
        prefix: prefix.to_owned(),
        commit_interval: settings.commit_interval,
        leave_timeout: settings.drain_timeout.saturating_add(settings.connect_timeout),
    };
    let deliveries = RedpandaDeliveries::new(Arc::clone(&shared), group);
    tokio::task::spawn_blocking(move || reader.run());
    Ok((deliveries, shared))
}

struct Reader {
    consumer: BaseConsumer<GroupContext>,
    topics: Vec<String>,
    timeout: Duration,
    /// A position was lost, and the brokers have not yet said which.
    unexplained: Cell<bool>,
    /// A topic cannot be read, and the brokers have not yet said which.
    unnamed: Cell<bool>,
    shared: Arc<Shared>,
    prefix: String,
    commit_interval: Duration,
    leave_timeout: Duration,
}

impl Reader {
    fn run(self) {
        let topics: Vec<_> = self.topics.iter().map(String::as_str).collect();
        if let Err(error) = self.consumer.subscribe(&topics) {
            return self.shared.failed(bus_error(error), true);
        }
        self.read_until_the_end();
        self.leave();
    }

    fn read_until_the_end(&self) {
        let mut committed = Instant::now();
        let mut looked = Instant::now();
        while !self.shared.has_left() {
            let Some(more) = self.read() else { break };
            if looked.elapsed() >= COMMIT_RETRY_INTERVAL {
                looked = Instant::now();
                self.look_again();
                self.shared.commit_again();
            }
            self.resume();
            if committed.elapsed() >= self.commit_interval {
                committed = Instant::now();
                self.commit();
            }
            if !more {
                self.shared.bell().wait(self.commit_interval);
            }
        }
    }

    /// Leaves the group. Being dropped, the consumer gives its partitions back and waits for its
    /// commits; where the broker is gone, it does so on a thread that nobody waits for.
    fn leave(self) {
        let Self { consumer, leave_timeout, .. } = self;
        let (left, leaving) = mpsc::channel();
        let dropping = move || {
            drop(consumer);
            let _ = left.send(());
        };
        let name = "composable-rust-bus-leave".to_owned();
        if thread::Builder::new().name(name).spawn(dropping).is_ok()
            && leaving.recv_timeout(leave_timeout).is_err()
        {
            tracing::warn!("a group could not be left in order; its session has to lapse");
        }
    }

    /// Takes what is there, for a while. Whether there may be more; `None`: there never will.
    fn read(&self) -> Option<bool> {
        let mut empty = 0;
        for _ in 0..MAX_RECORDS_PER_TURN {
            match self.consumer.poll(Duration::ZERO) {
                Some(Ok(record)) => {
                    empty = 0;
                    let arrived = arrived(&record, &self.prefix);
                    if self.shared.arrived(record.topic(), arrived) {
                        self.pause(record.topic(), record.partition());
                    }
                }
                Some(Err(error)) => {
                    if self.failed(&error) {
                        return None;
                    }
                }
                None => empty += 1,
            }
            if empty == EMPTY_POLLS {
                return Some(false);
            }
        }
        Some(true)
    }

    /// Tells of an error. Returns `true` if only a new subscription can overcome it.
    ///
    /// rdkafka does not say which topic or partition an error is of, so the brokers are asked.
    fn failed(&self, error: &KafkaError) -> bool {
        use RDKafkaErrorCode::{
            AutoOffsetReset, TopicAuthorizationFailed, UnknownPartition, UnknownTopic,
            UnknownTopicOrPartition,
        };
        let detail = self.consumer.context().take_detail();
        let mut ends = matches!(error, KafkaError::MessageConsumptionFatal(_));
        let told = match error.rdkafka_error_code() {
            Some(AutoOffsetReset) => {
                self.unexplained.set(true);
                ends |= self.consumer.context().is_unsure.swap(false, Ordering::SeqCst);
                self.find_lost_positions() && self.shared.report()
            }
            Some(UnknownTopicOrPartition | UnknownTopic | UnknownPartition) => {
                self.unnamed.set(true);
                self.find_unavailable_topics();
                // If all are there by now, they were not known to all brokers yet.
                self.shared.report();
                true
            }
            Some(TopicAuthorizationFailed) => {
                self.find_unavailable_topics() && self.shared.report()
            }
            _ => false,
        };
        if ends || !told {
            let what = match error.rdkafka_error_code() {
                Some(code) => format!("topics {}: {code}", self.topics.join(", ")),
                None => format!("topics {}: {error}", self.topics.join(", ")),
            };
            self.shared.failed(Failure::new(what).with_detail(detail).into(), ends);
        }
        ends
    }

    /// Looks whether what could not be read can be read now, and tells again of what cannot.
    fn look_again(&self) {
        if self.unexplained.get() {
            self.find_lost_positions();
        }
        if self.unnamed.get() || self.shared.is_unavailable() {
            self.find_unavailable_topics();
        }
        self.shared.report();
    }

    /// Finds the partitions whose position the broker no longer has: librdkafka reads nothing more of
    /// them. Returns `false` if that cannot be found out now.
    fn find_lost_positions(&self) -> bool {
        let mut any = false;
        for (topic, partition, position) in self.shared.positions() {
            let Some(position) = position else { continue };
            match self.consumer.fetch_watermarks(&topic, partition, self.timeout) {
                Ok((low, high)) if position < low || position > high => {
                    any = true;
                    let found = format!(
                        "the group's position {position} is gone, the topic has {low} to {high}; \
                         nothing more is read of this partition until the group is stopped, its \
                         position set, and the group started again"
                    );
                    self.shared.lost(&topic, partition, found);
                }
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        self.unexplained.set(!any);
        any
    }

    /// Finds the topics that cannot be read. Returns `false` if there is none, as far as the brokers
    /// say.
    fn find_unavailable_topics(&self) -> bool {
        let mut unavailable = BTreeMap::new();
        for topic in &self.topics {
            let Ok(metadata) = self.consumer.fetch_metadata(Some(topic), self.timeout) else {
                return false;
            };
            let error = metadata.topics().iter().find_map(MetadataTopic::error);
            if let Some(error) = error {
                let code = RDKafkaErrorCode::from(error);
                let then = match code {
                    RDKafkaErrorCode::UnknownTopicOrPartition => "it is read once it exists",
                    _ => "it is read once that is mended",
                };
                unavailable.insert(topic.clone(), format!("{code}; {then}"));
            }
        }
        let any = !unavailable.is_empty();
        self.unnamed.set(false);
        self.shared.set_unavailable(unavailable);
        any
    }

    fn pause(&self, topic: &str, partition: i32) {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(topic, partition);
        match self.consumer.pause(&list) {
            Ok(()) => self.shared.set_paused(&list, true),
            Err(error) => {
                let then = "retrying with its next message";
                tracing::warn!(%error, topic, partition, "failed to pause a partition; {then}");
            }
        }
    }

    fn resume(&self) {
        let list = self.shared.to_resume();
        if list.count() > 0 {
            match self.consumer.resume(&list) {
                Ok(()) => self.shared.set_paused(&list, false),
                Err(error) => {
                    tracing::warn!(%error, ?list, "failed to resume partitions; retrying");
                }
            }
        }
    }

    fn commit(&self) {
        let list = self.shared.take_commits();
        if list.count() > 0 {
            if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
                tracing::debug!(%error, "offsets were not committed; they will be again");
                self.shared.not_committed(&list);
            }
        }
    }
}

/// What librdkafka calls back when partitions come and go.
pub(crate) struct GroupContext {
    voice: ClientLog,
    /// What librdkafka said of the error that is polled next.
    detail: Mutex<Option<String>>,
    shared: Arc<Shared>,
    known: StoredGroupOffsets,
    lost_position: LostPosition,
    /// Partitions were assigned without a position: librdkafka asks for those of the group itself, and
    /// reads nothing of a partition that has none.
    is_unsure: AtomicBool,
    timeout: Duration,
    drain_timeout: Duration,
}

impl GroupContext {
    fn take_detail(&self) -> Option<String> {
        self.detail.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A group of which the broker keeps no position begins behind what is known from elsewhere, or
    /// at the beginning, whatever is to be done about a position that is gone.
    ///
    /// # Errors
    ///
    /// The coordinator does not tell the group's positions.
    fn begin(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &mut TopicPartitionList,
    ) -> Result<(), KafkaError> {
        if self.lost_position == LostPosition::Beginning && self.known.done.is_empty() {
            return Ok(());
        }
        let stored = consumer.committed_offsets(list.clone(), self.timeout)?;
        for place in stored.elements() {
            let offset = match place.offset() {
                Offset::Invalid => self.known.begin(place.topic(), place.partition()),
                known => known,
            };
            let _ = list.set_partition_offset(place.topic(), place.partition(), offset);
        }
        Ok(())
    }

    /// Notes how many partitions the topics of these partitions have.
    fn count(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let elements = list.elements();
        let topics: BTreeSet<_> = elements.iter().map(TopicPartitionListElem::topic).collect();
        for topic in topics {
            let Ok(metadata) = consumer.fetch_metadata(Some(topic), self.timeout) else { return };
            for found in metadata.topics() {
                let count = u16::try_from(found.partitions().len()).unwrap_or(u16::MAX);
                self.shared.set_count(topic, count);
            }
        }
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) {
        match self.begin(consumer, list) {
            Ok(()) => {
                self.count(consumer, list);
                self.shared.assigned(list);
            }
            // They would be read from the beginning, past what is known.
            Err(error) if self.lost_position == LostPosition::Beginning => {
                let failure = Failure::new("failed to read the group's positions");
                self.shared.failed(failure.with_detail(Some(error.to_string())).into(), true);
            }
            Err(error) => {
                tracing::warn!(%error, "failed to read the group's positions; retrying");
                self.is_unsure.store(true, Ordering::SeqCst);
                self.count(consumer, list);
                self.shared.assigned(list);
            }
        }
        let assigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
            _ => consumer.assign(list),
        };
        if let Err(error) = assigned {
            return self.shared.failed(bus_error(error), false);
        }
        // librdkafka keeps a partition paused over a change of hands.
        if let Err(error) = consumer.resume(list) {
            tracing::warn!(%error, ?list, "failed to resume assigned partitions; retrying");
            self.shared.set_paused(list, true);
        }
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        // Those that somebody else has by now are not waited for, nor may their offsets be moved.
        if !consumer.assignment_lost() {
            let offsets = self.shared.drain(list, self.drain_timeout);
            // Not waited for, since a broker that is gone would be waited for without end. It reaches
            // the coordinator on the same connection as, and before, whatever tells it that we let go.
            if offsets.count() > 0 {
                if let Err(error) = consumer.commit(&offsets, CommitMode::Async) {
                    tracing::warn!(%error, "offsets were not committed: there will be redeliveries");
                }
            }
        }
        self.shared.revoked(list);
        let revoked = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            _ => consumer.unassign(),
        };
        if let Err(error) = revoked {
            self.shared.failed(bus_error(error), false);
        }
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.voice.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "{reason}");
        *self.detail.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, list),
            _ => self.revoke(consumer, list),
        }
        tracing::debug!(?what, ?list, "topic partitions changed hands");
    }
}

/// A consumer that reads nothing.
pub(crate) struct OffsetOnlyContext(ClientLog);

impl OffsetOnlyContext {
    pub(crate) fn new(voice: ClientLog) -> Self {
        Self(voice)
    }
}

impl ClientContext for OffsetOnlyContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ConsumerContext for OffsetOnlyContext {}
