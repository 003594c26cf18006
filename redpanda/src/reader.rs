//! The thread of a subscription.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use composable_rust_core::{BusError, Timestamp};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer as _, ConsumerContext, RebalanceProtocol,
};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use crate::client::{Voice, positions, subscription};
use crate::delivery::RedpandaDeliveries;
use crate::error::bus_error;
use crate::progress::Bounds;
use crate::record::arrived;
use crate::resume::Known;
use crate::shared::Shared;
use crate::{LostPosition, RedpandaEventBusBuilder};

/// How many messages are taken before other things get their turn.
const TURN: usize = 1_000;
/// How often in a row there has to be nothing: a poll that dealt with something else gives nothing
/// too.
const EMPTY_POLLS: usize = 3;

/// Joins the group and starts to read these topics, by their names on the wire.
///
/// The thread is one of the runtime's, which waits when it is shut down until the group was left.
pub(crate) fn start(
    settings: &RedpandaEventBusBuilder,
    group: &str,
    topics: Vec<String>,
    done: BTreeMap<(String, i32), (i64, Option<Timestamp>)>,
) -> Result<RedpandaDeliveries, BusError> {
    let bounds = Bounds { count: settings.max_outstanding, bytes: settings.max_outstanding_bytes };
    let shared = Arc::new(Shared::new(bounds));
    let context = Member {
        voice: Voice::default(),
        shared: Arc::clone(&shared),
        known: Known {
            done,
            config: positions(settings, group),
            timeout: settings.connect_timeout,
        },
        lost_position: settings.lost_position,
        timeout: settings.connect_timeout,
        drain_timeout: settings.drain_timeout,
    };
    let config = subscription(settings, group);
    let mut consumer: BaseConsumer<Member> =
        config.create_with_context(context).map_err(bus_error)?;
    let bell = shared.bell().clone();
    consumer.set_nonempty_callback(move || bell.ring());
    let reader = Reader {
        consumer,
        shared: Arc::clone(&shared),
        prefix: settings.topic_prefix.clone(),
        commit_interval: settings.commit_interval,
        leave_timeout: settings.drain_timeout.saturating_add(settings.connect_timeout),
    };
    let deliveries = RedpandaDeliveries::new(shared, group);
    tokio::task::spawn_blocking(move || reader.run(&topics));
    Ok(deliveries)
}

struct Reader {
    consumer: BaseConsumer<Member>,
    shared: Arc<Shared>,
    prefix: String,
    commit_interval: Duration,
    leave_timeout: Duration,
}

impl Reader {
    fn run(self, topics: &[String]) {
        let topics: Vec<_> = topics.iter().map(String::as_str).collect();
        if let Err(error) = self.consumer.subscribe(&topics) {
            return self.shared.failed(bus_error(error), true);
        }
        self.read_until_the_end();
        self.leave();
    }

    fn read_until_the_end(&self) {
        let mut committed = Instant::now();
        while !self.shared.has_left() {
            let Some(more) = self.read() else { break };
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
        for _ in 0..TURN {
            match self.consumer.poll(Duration::ZERO) {
                Some(Ok(record)) => {
                    empty = 0;
                    let arrived = arrived(&record, &self.prefix);
                    if self.shared.arrived(record.topic(), arrived) {
                        self.pause(record.topic(), record.partition());
                    }
                }
                Some(Err(error)) => {
                    let ends = ends(&error);
                    self.shared.failed(bus_error(error), ends);
                    if ends {
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
                self.consumer.context().commit_callback(Err(error), &list);
            }
        }
    }
}

/// Whether only a new subscription can overcome it.
fn ends(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || code == Some(RDKafkaErrorCode::AutoOffsetReset)
}

/// What librdkafka calls back when partitions come and go.
pub(crate) struct Member {
    voice: Voice,
    shared: Arc<Shared>,
    known: Known,
    lost_position: LostPosition,
    timeout: Duration,
    drain_timeout: Duration,
}

impl Member {
    /// A group of which the broker keeps no position begins behind what is known from elsewhere, or
    /// at the beginning, whatever is to be done about a position that is gone.
    fn begin(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) {
        if self.lost_position == LostPosition::Beginning && self.known.done.is_empty() {
            return;
        }
        match consumer.committed_offsets(list.clone(), self.timeout) {
            Ok(stored) => {
                for place in stored.elements() {
                    let offset = match place.offset() {
                        Offset::Invalid => self.known.begin(place.topic(), place.partition()),
                        known => known,
                    };
                    let _ = list.set_partition_offset(place.topic(), place.partition(), offset);
                }
            }
            Err(error) => tracing::warn!(%error, "the positions of a group cannot be read"),
        }
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) {
        self.begin(consumer, list);
        self.shared.assigned(list);
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

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.voice.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.voice.error(error, reason);
    }
}

impl ConsumerContext for Member {
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

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        if let Err(error) = result {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::NoOffset) {
                tracing::debug!(%error, "offsets were not committed; they will be again");
                self.shared.not_committed(offsets);
            }
        }
    }
}

/// A consumer that reads nothing.
pub(crate) struct Quiet(Voice);

impl Quiet {
    pub(crate) fn new(voice: Voice) -> Self {
        Self(voice)
    }
}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ConsumerContext for Quiet {}
