//! The suite of event buses: the in-memory bus passes it, broken ones do not.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use composable_rust_core::Timestamp;
use composable_rust_core::bus::{
    BusError, BusMessage, BusRecord, Delivery, EventBus, GroupOffset, PublishError, Publisher,
    PublisherName, ResumePosition, TopicOffset, TopicStatus,
};
use composable_rust_runtime::environment::SystemClock;
use composable_rust_testing::bus_conformance::{BusBackend, CASES, Failure, run};
use composable_rust_testing::{
    InMemoryDeliveries, InMemoryDelivery, InMemoryEventBus, InMemoryPublisher,
};
use futures_util::stream::{Stream, StreamExt as _};

struct Memory(InMemoryEventBus);

impl BusBackend for Memory {
    type Bus = InMemoryEventBus;

    async fn open(&self) -> InMemoryEventBus {
        self.0.clone()
    }

    fn max_outstanding(&self) -> usize {
        20
    }
}

async fn memory() -> Memory {
    Memory(
        InMemoryEventBus::new()
            .with_clock(SystemClock)
            .with_max_outstanding(20)
            .with_max_payload_bytes(100_000),
    )
}

composable_rust_testing::bus_conformance!(memory);

/// The defect of a bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    LosesHeaders,
    SpreadsKeys,
    AcknowledgesOnDelivery,
    AcknowledgesNothing,
    HasNoBound,
    FencesNobody,
    TearsBatches,
    ForgetsPositions,
    CountsPositionsOfEachHolder,
    IgnoresWhatIsKnown,
    LosesTime,
    ForgetsEvents,
    BelievesWhatIsKnown,
    AllIsUnavailable,
    CreatesTopics,
    MiscountsPartitions,
    TellsOfOtherTopics,
    KeepsErased,
}

use Defect::{
    AcknowledgesNothing, AcknowledgesOnDelivery, AllIsUnavailable, BelievesWhatIsKnown,
    CountsPositionsOfEachHolder, CreatesTopics, FencesNobody, ForgetsEvents, ForgetsPositions,
    HasNoBound, IgnoresWhatIsKnown, KeepsErased, LosesHeaders, LosesTime, MiscountsPartitions,
    SpreadsKeys, TearsBatches, TellsOfOtherTopics,
};

#[derive(Clone)]
struct Wrong {
    bus: InMemoryEventBus,
    defect: Defect,
    published: Arc<AtomicU64>,
}

impl Wrong {
    fn new(defect: Defect) -> Self {
        let bound = if defect == HasNoBound { 1_000 } else { 20 };
        let bus = InMemoryEventBus::new().with_clock(SystemClock).with_max_outstanding(bound);
        let bus = bus.with_max_payload_bytes(100_000);
        Self { bus, defect, published: Arc::default() }
    }

    fn altered(&self, mut message: BusMessage) -> BusMessage {
        match self.defect {
            LosesHeaders => message.headers.clear(),
            SpreadsKeys => {
                let n = self.published.fetch_add(1, Ordering::Relaxed);
                message.key = format!("{n}|{}", message.key);
            }
            _ => {}
        }
        message
    }
}

impl BusBackend for Wrong {
    type Bus = Wrong;

    async fn open(&self) -> Wrong {
        self.clone()
    }

    fn max_outstanding(&self) -> usize {
        20
    }
}

impl EventBus for Wrong {
    type Delivery = WrongDelivery;
    type Deliveries = WrongDeliveries;
    type Publisher = WrongPublisher;

    async fn publish(&self, message: BusMessage) -> Result<(), PublishError> {
        let published = self.bus.publish(self.altered(message)).await;
        match self.defect {
            AllIsUnavailable => published.map_err(|error| BusError::from(error).into()),
            _ => published,
        }
    }

    async fn publish_to_existing(&self, message: BusMessage) -> Result<(), PublishError> {
        match self.defect {
            CreatesTopics => self.publish(message).await,
            _ => self.bus.publish_to_existing(self.altered(message)).await,
        }
    }

    async fn subscribe(
        &self,
        group: &str,
        topics: &[String],
        known: &[GroupOffset],
    ) -> Result<WrongDeliveries, BusError> {
        let mut known = known.to_vec();
        match self.defect {
            IgnoresWhatIsKnown => known.clear(),
            BelievesWhatIsKnown => known.iter_mut().for_each(|known| known.published_at = None),
            _ => {}
        }
        Ok(WrongDeliveries(self.bus.subscribe(group, topics, &known).await?, self.defect))
    }

    fn topic_status(&self, group: &str) -> Vec<TopicStatus> {
        let mut status = self.bus.topic_status(group);
        if self.defect == TellsOfOtherTopics {
            for status in &mut status {
                status.topic.push_str("-other");
            }
        }
        status
    }

    fn partition_count(&self, group: &str, topic: &str) -> Option<u16> {
        let count = self.bus.partition_count(group, topic);
        if self.defect == MiscountsPartitions { Some(0) } else { count }
    }

    async fn publisher(&self, name: &PublisherName) -> Result<WrongPublisher, BusError> {
        let mut name = name.clone();
        if self.defect == CountsPositionsOfEachHolder {
            let n = self.published.fetch_add(1, Ordering::Relaxed);
            name.purpose.push_str(&n.to_string());
        }
        let publisher = self.bus.publisher(&name).await?;
        Ok(WrongPublisher { publisher, on: self.clone(), name })
    }

    fn max_payload_bytes(&self) -> Option<usize> {
        self.bus.max_payload_bytes()
    }
}

struct WrongDeliveries(InMemoryDeliveries, Defect);

impl Stream for WrongDeliveries {
    type Item = Result<WrongDelivery, BusError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let defect = self.1;
        self.0.poll_next_unpin(context).map(|next| {
            next.map(|delivery| {
                let delivery = delivery?;
                let published_at = delivery.published_at();
                let (place, mut message) = (delivery.offset(), delivery.message().clone());
                if let Some((_, key)) = message.key.split_once('|') {
                    message.key = key.to_owned();
                }
                let delivery = if defect == AcknowledgesOnDelivery {
                    // An in-memory acknowledgement takes effect when it is first polled.
                    let _ = futures_util::FutureExt::now_or_never(delivery.acknowledge());
                    None
                } else {
                    Some(delivery)
                };
                Ok(WrongDelivery { delivery, place, published_at, message, defect })
            })
        })
    }
}

struct WrongDelivery {
    delivery: Option<InMemoryDelivery>,
    place: TopicOffset,
    published_at: Option<Timestamp>,
    message: BusMessage,
    defect: Defect,
}

impl Delivery for WrongDelivery {
    fn message(&self) -> &BusMessage {
        &self.message
    }

    fn record(&self) -> BusRecord {
        let record = BusRecord::from(&self.message);
        match self.defect {
            KeepsErased => BusRecord { payload: Some(self.message.payload.clone()), ..record },
            _ => record,
        }
    }

    fn offset(&self) -> TopicOffset {
        self.place
    }

    fn published_at(&self) -> Option<Timestamp> {
        if self.defect == LosesTime { Some(Timestamp::EPOCH) } else { self.published_at }
    }

    async fn acknowledge(self) -> Result<(), BusError> {
        match self.delivery {
            Some(delivery) if self.defect != AcknowledgesNothing => delivery.acknowledge().await,
            _ => Ok(()),
        }
    }
}

struct WrongPublisher {
    publisher: InMemoryPublisher,
    on: Wrong,
    name: PublisherName,
}

impl Publisher for WrongPublisher {
    async fn resume_position(&mut self) -> Result<Option<ResumePosition>, PublishError> {
        let position = self.publisher.resume_position().await?;
        Ok(match self.on.defect {
            ForgetsEvents => position.map(|at| ResumePosition { event_id: None, ..at }),
            _ => position,
        })
    }

    async fn publish_batch(
        &mut self,
        messages: Vec<BusMessage>,
        position: Option<ResumePosition>,
    ) -> Result<(), PublishError> {
        let messages: Vec<_> = messages.into_iter().map(|m| self.on.altered(m)).collect();
        match self.on.defect {
            FencesNobody => {
                if self.publisher.resume_position().await.is_err() {
                    self.publisher = self.on.bus.publisher(&self.name).await?;
                }
                self.publisher.publish_batch(messages, position).await
            }
            TearsBatches => {
                for message in messages {
                    self.publisher.publish_batch(vec![message], position).await?;
                }
                self.publisher.publish_batch(Vec::new(), position).await
            }
            ForgetsPositions if position.is_none() && !messages.is_empty() => {
                self.publisher.publish_batch(messages, Some(at(0))).await
            }
            _ => self.publisher.publish_batch(messages, position).await,
        }
    }
}

fn at(offset: u64) -> ResumePosition {
    ResumePosition { offset, event_id: None }
}

/// The failure of a case on a broken bus.
async fn found(case: &str, defect: Defect) -> String {
    let case = CASES.iter().find(|c| c.name == case).expect("there is such a case");
    match run(*case, Wrong::new(defect)).await {
        Err(Failure(found)) => found,
        Ok(()) => panic!("{case:?} passes on a bus that {defect:?}"),
    }
}

/// A test that cannot fail proves nothing.
#[tokio::test]
async fn every_broken_bus_fails_its_case() {
    for (defect, case, says) in [
        (LosesHeaders, "messages_round_trip", "ce_type"),
        (SpreadsKeys, "a_group_receives_each_key_in_order", "the messages of"),
        (SpreadsKeys, "the_offsets_of_a_partition_rise", ""),
        (SpreadsKeys, "members_share_the_keys_of_a_topic", ""),
        (AcknowledgesNothing, "acknowledged_messages_are_not_redelivered", ""),
        (AcknowledgesNothing, "redelivery_starts_at_the_lowest_unacknowledged", "2 is not"),
        (HasNoBound, "outstanding_deliveries_are_bounded", "outstanding"),
        (AcknowledgesOnDelivery, "outstanding_deliveries_are_bounded", "outstanding"),
        (IgnoresWhatIsKnown, "a_new_group_starts_after_the_known_offsets", ""),
        (ForgetsEvents, "a_publisher_resumes_at_the_last_position", "event_id: None"),
        (AllIsUnavailable, "payloads_beyond_the_limit_are_rejected", "Unavailable"),
        (AllIsUnavailable, "impossible_topic_names_are_invalid", "Unavailable"),
        (CreatesTopics, "missing_topics_are_rejected_unless_created", "Ok(())"),
        (TellsOfOtherTopics, "a_group_reports_the_status_of_its_topics", "is not told"),
        (MiscountsPartitions, "a_group_reports_the_status_of_its_topics", "of Some(0)"),
        (KeepsErased, "an_erasure_is_a_tombstone", "it has no payload"),
        (LosesTime, "deliveries_carry_the_publication_time", "1970"),
        (FencesNobody, "a_new_publisher_fences_the_earlier_one", "Ok(())"),
        (TearsBatches, "a_batch_is_published_whole_or_not_at_all", "offset: 4"),
        (ForgetsPositions, "a_batch_without_a_position_keeps_the_last", "offset: 0"),
        (CountsPositionsOfEachHolder, "a_publisher_resumes_at_the_last_position", "None"),
    ] {
        let found = found(case, defect).await;
        assert!(found.contains(says), "{defect:?}, {case}: {found}");
    }
}

/// A group with the offsets of another topic waits in vain for messages that it skipped.
#[tokio::test(start_paused = true)]
async fn trusting_offsets_of_another_topic_loses_messages() {
    let case = "known_offsets_of_a_recreated_topic_are_ignored";
    let found = found(case, BelievesWhatIsKnown).await;
    assert!(found.contains("no delivery came"), "{found}");
}

/// A message acknowledged too early is lost, and the case waits for it in vain.
#[tokio::test(start_paused = true)]
async fn acknowledging_on_delivery_loses_messages() {
    let cases =
        ["redelivery_starts_at_the_lowest_unacknowledged", "dropped_deliveries_are_redelivered"];
    for case in cases {
        let found = found(case, AcknowledgesOnDelivery).await;
        assert!(found.contains("no delivery came"), "{case}: {found}");
    }
}
