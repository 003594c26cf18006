//! Fencing: opening a publisher excludes earlier holders.

use std::time::{Duration, Instant};

use composable_rust_core::bus::{EventBus as _, PublishError, Publisher as _};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use uuid::Uuid;

use crate::brokers::{brokers, builder};
use crate::fixtures::{at, messages, number, relay, subscribe, take, unique};

/// Returns the producer of a process that froze in the middle of a batch: its transaction is open.
fn frozen_producer(transactional_id: &str, topic: &str) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers())
        .set("transactional.id", transactional_id)
        .set("transaction.timeout.ms", "60000")
        .create()
        .unwrap();
    producer.init_transactions(Duration::from_secs(10)).unwrap();
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::to(topic).key("k").payload("of the frozen holder")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while producer.in_flight_count() > 0 && Instant::now() < deadline {
        producer.poll(Duration::from_millis(10));
    }
    producer
}

/// The open transaction of a frozen holder, which would time out only after a minute, ends when its
/// successor opens the publisher. When the frozen holder resumes, its commit fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_holder_blocks_no_readers_and_publishes_nothing() {
    let bus = builder(&brokers()).connect().await.unwrap();
    let (topic, log) = (unique("orders"), Uuid::new_v4());
    let mut first = bus.publisher(&relay(log)).await.unwrap();
    first.publish_batch(messages(&topic, "k", 1), Some(at(1))).await.unwrap();
    let frozen = frozen_producer(&format!("{log}-relay-order-events-order-0"), &topic);
    assert!(matches!(
        first.publish_batch(messages(&topic, "k", 1), Some(at(9))).await,
        Err(PublishError::Fenced)
    ));

    let mut next = bus.publisher(&relay(log)).await.unwrap();
    assert_eq!(next.resume_position().await.unwrap(), Some(at(1)));
    let started = Instant::now();
    next.publish_batch(messages(&topic, "k", 2)[1..].to_vec(), Some(at(2))).await.unwrap();
    let mut reader = subscribe(&bus, &unique("billing"), &topic).await;
    let taken = take(&mut reader, 2).await;
    assert_eq!(taken.iter().map(number).collect::<Vec<_>>(), [0, 1]);
    assert!(started.elapsed() < Duration::from_secs(30), "took {:?}", started.elapsed());

    let resumed = tokio::task::spawn_blocking(move || {
        frozen.commit_transaction(Duration::from_secs(10)).unwrap_err()
    });
    resumed.await.unwrap();
    next.publish_batch(messages(&topic, "k", 3)[2..].to_vec(), Some(at(3))).await.unwrap();
    assert_eq!(number(&take(&mut reader, 1).await[0]), 2, "not the message of the frozen holder");
}
