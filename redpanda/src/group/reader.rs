//! The thread of a subscription.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use composable_rust_core::bus::BusError;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::client::config::{positions, subscription};
use crate::client::settings::Settings;
use crate::error::{Failure, bus_error};
use crate::group::deliveries::RedpandaDeliveries;
use crate::group::group_context::GroupContext;
use crate::group::progress::InFlightLimits;
use crate::group::resume::{ProcessedUpTo, StoredGroupOffsets};
use crate::group::subscription::Subscription;
use crate::record::received;

/// The maximum number of messages received per turn, before commits and other duties.
const MAX_RECORDS_PER_TURN: usize = 1_000;
/// The number of empty polls after which a turn ends. One is not enough: a poll that handles an
/// event other than a message is empty too.
const EMPTY_POLLS: usize = 3;

/// The interval at which unreadable topics are checked again, first offsets are looked up, and
/// offsets are committed again.
///
/// Commits are repeated because their failures go unnoticed, for example during a rebalance:
/// rdkafka polls them as events, but librdkafka reports them to callbacks only.
const COMMIT_RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// Joins the group and starts to read these topics; their names are those on the wire.
///
/// The thread belongs to the tokio runtime, whose shutdown therefore waits until it has left the
/// group.
pub(crate) fn start(
    settings: &Settings,
    group: &str,
    prefix: &str,
    topics: Vec<String>,
    processed: BTreeMap<(String, i32), ProcessedUpTo>,
) -> Result<(RedpandaDeliveries, Arc<Subscription>), BusError> {
    let limits =
        InFlightLimits { count: settings.max_outstanding, bytes: settings.max_outstanding_bytes };
    let shared = Arc::new(Subscription::new(limits, prefix));
    let stored = StoredGroupOffsets {
        processed,
        config: positions(settings, group),
        timeout: settings.connect_timeout,
    };
    let context = GroupContext::new(Arc::clone(&shared), stored, settings);
    let config = subscription(settings, group);
    let mut consumer: BaseConsumer<GroupContext> =
        config.create_with_context(context).map_err(bus_error)?;
    let waker = shared.thread().clone();
    consumer.set_nonempty_callback(move || waker.wake());
    let reader = Reader {
        consumer,
        topics,
        timeout: settings.connect_timeout,
        seeks_lost_positions: Cell::new(false),
        seeks_unavailable_topics: Cell::new(false),
        first_offsets_failed: Cell::new(false),
        subscription: Arc::clone(&shared),
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
    /// `true` while a position is lost and the brokers have not yet told of which partition.
    seeks_lost_positions: Cell<bool>,
    /// `true` while a topic cannot be read and the brokers have not yet told which.
    seeks_unavailable_topics: Cell<bool>,
    /// `true` after a broker has not told a first offset, until the next check.
    first_offsets_failed: Cell<bool>,
    subscription: Arc<Subscription>,
    prefix: String,
    commit_interval: Duration,
    leave_timeout: Duration,
}

impl Reader {
    fn run(self) {
        let topics: Vec<_> = self.topics.iter().map(String::as_str).collect();
        if let Err(error) = self.consumer.subscribe(&topics) {
            return self.subscription.fail(bus_error(error), true);
        }
        self.run_until_left();
        self.leave();
    }

    fn run_until_left(&self) {
        let mut last_commit = Instant::now();
        let mut last_check = Instant::now();
        while !self.subscription.has_left() {
            let Some(more) = self.receive() else { break };
            if last_check.elapsed() >= COMMIT_RETRY_INTERVAL {
                last_check = Instant::now();
                self.check_unreadable();
                self.first_offsets_failed.set(false);
                self.pass_ends_of_transactions();
                self.subscription.commit_again();
            }
            self.resume();
            if last_commit.elapsed() >= self.commit_interval {
                last_commit = Instant::now();
                self.find_first_offsets();
                self.commit();
            }
            if !more {
                self.subscription.thread().wait(self.commit_interval);
            }
        }
    }

    /// Leaves the group. Dropping the consumer revokes its partitions and waits for its commits. If
    /// the broker does not respond in time, the drop continues on a background thread.
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
            tracing::warn!(
                "failed to leave a group in time; its partitions move when the session times out"
            );
        }
    }

    /// Receives messages for one turn. Returns `Some(true)` if there may be more, and `None` after
    /// a fatal error.
    fn receive(&self) -> Option<bool> {
        let mut empty = 0;
        for _ in 0..MAX_RECORDS_PER_TURN {
            match self.consumer.poll(Duration::ZERO) {
                Some(Ok(record)) => {
                    empty = 0;
                    let received = received(&record, &self.prefix);
                    if self.subscription.receive(record.topic(), received) {
                        self.pause(record.topic(), record.partition());
                    }
                }
                Some(Err(error)) => {
                    if self.handle_error(&error) {
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

    /// Reports an error to the stream. Returns `true` if it requires a new subscription.
    ///
    /// rdkafka does not tell which topic or partition an error concerns, so this asks the brokers.
    fn handle_error(&self, error: &KafkaError) -> bool {
        use RDKafkaErrorCode::{
            AutoOffsetReset, TopicAuthorizationFailed, UnknownPartition, UnknownTopic,
            UnknownTopicOrPartition,
        };
        let detail = self.consumer.context().take_detail();
        let mut is_fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        let reported = match error.rdkafka_error_code() {
            Some(AutoOffsetReset) => {
                self.seeks_lost_positions.set(true);
                is_fatal |= self.consumer.context().take_unknown_start();
                self.find_lost_positions() && self.subscription.report()
            }
            Some(UnknownTopicOrPartition | UnknownTopic | UnknownPartition) => {
                self.seeks_unavailable_topics.set(true);
                self.find_unavailable_topics();
                // If all topics exist by now, some broker did not know them yet.
                self.subscription.report();
                true
            }
            Some(TopicAuthorizationFailed) => {
                self.find_unavailable_topics() && self.subscription.report()
            }
            _ => false,
        };
        if is_fatal || !reported {
            let text = match error.rdkafka_error_code() {
                Some(code) => format!("topics {}: {code}", self.topics.join(", ")),
                None => format!("topics {}: {error}", self.topics.join(", ")),
            };
            self.subscription.fail(Failure::new(text).with_detail(detail).into(), is_fatal);
        }
        is_fatal
    }

    /// Checks whether unreadable topics and partitions can be read by now, and reports those that
    /// cannot.
    fn check_unreadable(&self) {
        if self.seeks_lost_positions.get() {
            self.find_lost_positions();
        }
        if self.seeks_unavailable_topics.get() || self.subscription.has_unavailable_topics() {
            self.find_unavailable_topics();
        }
        self.subscription.report();
    }

    /// Finds the partitions whose position the broker no longer has; librdkafka has stopped reading
    /// them. Returns `false` if there are none or a broker does not respond.
    fn find_lost_positions(&self) -> bool {
        let mut found = false;
        for (topic, partition, position) in self.subscription.positions() {
            let Some(position) = position else { continue };
            match self.consumer.fetch_watermarks(&topic, partition, self.timeout) {
                Ok((low, high)) if position < low || position > high => {
                    found = true;
                    let reason = format!(
                        "the group's position {position} is gone, the topic has {low} to {high}; \
                         nothing more is read of this partition until the group is stopped, its \
                         position set, and the group started again"
                    );
                    self.subscription.set_lost(&topic, partition, reason);
                }
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        self.seeks_lost_positions.set(!found);
        found
    }

    /// Finds the first offsets of partitions that are read from their beginnings and have no
    /// messages yet. If a broker does not respond, the next check asks again.
    fn find_first_offsets(&self) {
        if self.first_offsets_failed.get() {
            return;
        }
        for (topic, partition) in self.subscription.without_first_offset() {
            match self.consumer.fetch_watermarks(&topic, partition, self.timeout) {
                Ok((first, _)) => self.subscription.begin(&topic, partition, first),
                Err(error) => {
                    tracing::debug!(%error, topic, partition, "failed to read a first offset");
                    self.first_offsets_failed.set(true);
                    return;
                }
            }
        }
    }

    /// Moves the positions of finished partitions behind the ends of transactions, which librdkafka
    /// consumes itself.
    fn pass_ends_of_transactions(&self) {
        match self.consumer.position() {
            Ok(positions) => self.subscription.pass(&positions),
            Err(error) => tracing::debug!(%error, "failed to read the positions of a group"),
        }
    }

    /// Finds the topics that cannot be read. Returns `false` if there are none or a broker does not
    /// respond.
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
                    RDKafkaErrorCode::UnknownTopicOrPartition => "reading it once it exists",
                    _ => "reading it once that is corrected",
                };
                unavailable.insert(topic.clone(), format!("{code}; {then}"));
            }
        }
        let found = !unavailable.is_empty();
        self.seeks_unavailable_topics.set(false);
        self.subscription.set_unavailable(unavailable);
        found
    }

    fn pause(&self, topic: &str, partition: i32) {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(topic, partition);
        match self.consumer.pause(&list) {
            Ok(()) => self.subscription.set_paused(&list, true),
            Err(error) => {
                let then = "retrying with its next message";
                tracing::warn!(%error, topic, partition, "failed to pause a partition; {then}");
            }
        }
    }

    fn resume(&self) {
        let list = self.subscription.to_resume();
        if list.count() > 0 {
            match self.consumer.resume(&list) {
                Ok(()) => self.subscription.set_paused(&list, false),
                Err(error) => {
                    tracing::warn!(%error, ?list, "failed to resume partitions; retrying");
                }
            }
        }
    }

    fn commit(&self) {
        let list = self.subscription.take_commits();
        if list.count() > 0 {
            if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
                tracing::debug!(%error, "failed to commit offsets; retrying");
                self.subscription.commit_failed(&list);
            }
        }
    }
}
