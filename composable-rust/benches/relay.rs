//! The relay, side by side with a bare rdkafka producer that sends the same messages.
//!
//! Needs `DATABASE_URL` and `KAFKA_BROKERS`: `cargo xtask bench --bench relay` has both.
//! `BENCH_EVENTS` is the number of events.

#![allow(clippy::cast_precision_loss, reason = "rates are not exact")]

mod support;

use std::time::{Duration, Instant};

use composable_rust::EventId;
use composable_rust::bus::{BusMessage, Delivery as _, EventBus as _};
use composable_rust::codec::{Codecs, Format};
use composable_rust::event::NewEvent;
use composable_rust::postgres::PostgresEventStore;
use composable_rust::prelude::*;
use composable_rust::queue::Checkpoints as _;
use composable_rust::redpanda::RedpandaEventBus;
use composable_rust::store::{Append, EventStore as _, ExpectedVersion};
use futures_util::StreamExt as _;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use support::{Ticket, TicketEvent, median, report, section};
use uuid::Uuid;

const METADATA: &str = r#"{"correlation":"6b1f7c0e-1f0a-4c35-9d7e-0f0f2a2f7b11","causation":"6b1f7c0e-1f0a-4c35-9d7e-0f0f2a2f7b11"}"#;

#[tokio::main]
async fn main() {
    let (Ok(url), Ok(brokers)) = (std::env::var("DATABASE_URL"), std::env::var("KAFKA_BROKERS"))
    else {
        println!("relay: skipped; run `cargo xtask bench` to have a server and a broker");
        return;
    };
    let events = std::env::var("BENCH_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(200_000);
    section("Relay: PostgreSQL's log to Kafka, acks=all, transactions");
    let (mut relayed, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let prefix = format!("bench-{}.", Uuid::new_v4());
        let schema = format!("relay_{}", Uuid::new_v4().simple());
        relayed.push(relay(&url, &schema, &brokers, &prefix, events).await);
        let messages = read(&brokers, &prefix, events).await;
        let topic = topic(&brokers).await;
        bare.push(produce(&brokers, &topic, &messages));
    }
    let (relayed, bare) = (median(relayed), median(bare));
    report("relay, 8 log partitions", relayed, "bare rdkafka producer, idempotent", bare, "0.7");
}

/// Fills a log, then returns the events per second at which the relay publishes it.
async fn relay(url: &str, schema: &str, brokers: &str, prefix: &str, events: usize) -> f64 {
    let pool = sqlx::PgPool::connect(url).await.expect("a server");
    sqlx::query(&format!("create schema {schema}")).execute(&pool).await.expect("a schema");
    let url = format!(
        "{url}{}options=-csearch_path%3D{schema}",
        if url.contains('?') { "&" } else { "?" }
    );
    let store = PostgresEventStore::connect(&url).await.expect("a store");
    fill(&store, events).await;
    let bus = RedpandaEventBus::builder(brokers).topic_prefix(prefix).partitions(8);
    let bus = bus.connect().await.expect("a broker");
    let app = App::builder(store.clone())
        .aggregate::<Ticket>(())
        .publish::<Ticket>(Format::Binary)
        .event_bus(bus)
        .build()
        .expect("a correct app");
    app.start();
    let mut first = None;
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let done: u64 = store
            .load_checkpoints("relay/ticket-events/ticket")
            .await
            .expect("the checkpoints")
            .iter()
            .map(|checkpoint| checkpoint.offset)
            .sum();
        if done > 0 && first.is_none() {
            first = Some((Instant::now(), done));
        }
        if done >= events as u64 {
            break;
        }
    }
    // The measurement excludes acquiring leases and opening eight producers.
    let (start, before) = first.expect("something was relayed");
    let rate = (events as u64 - before) as f64 / start.elapsed().as_secs_f64();
    app.shutdown(Duration::from_secs(5)).await;
    drop(app);
    drop(store);
    sqlx::query(&format!("drop schema {schema} cascade")).execute(&pool).await.expect("dropped");
    rate
}

async fn fill(store: &PostgresEventStore, events: usize) {
    let codecs = Codecs::default();
    let log = store.log();
    let mut batches: Vec<Vec<Append>> = vec![Vec::new(); usize::from(log.partitions)];
    for n in 0..events / 10 {
        let stream = Ticket::id(n.to_string()).stream();
        let new = |i| NewEvent {
            id: EventId(Uuid::new_v4()),
            content: codecs
                .encode(
                    &stream,
                    &TicketEvent::Sold {
                        to: "somebody with a name of average length".into(),
                        cents: i,
                        at: Timestamp::EPOCH,
                    },
                )
                .expect("an event"),
            metadata: METADATA.to_owned(),
        };
        let append = Append::new(stream.clone(), ExpectedVersion::EMPTY)
            .with_events((0..10).map(new).collect());
        batches[usize::from(log.partition_of(&stream))].push(append);
    }
    for (partition, batch) in (0..).zip(batches) {
        for chunk in batch.chunks(100) {
            store.append_events(partition, chunk).await.expect("an append");
        }
    }
}

/// Reads the messages that the relay has published.
async fn read(brokers: &str, prefix: &str, events: usize) -> Vec<BusMessage> {
    let bus = RedpandaEventBus::builder(brokers).topic_prefix(prefix).partitions(8);
    let bus = bus.connect().await.expect("a broker");
    let topics = ["ticket-events".to_owned()];
    let mut deliveries = bus.subscribe("bench", &topics, &[]).await.expect("a subscription");
    let mut messages = Vec::with_capacity(events);
    while messages.len() < events {
        let delivery = deliveries.next().await.expect("a delivery").expect("a delivery");
        messages.push(delivery.message().clone());
        delivery.acknowledge().await.expect("acknowledged");
    }
    messages
}

/// Creates a topic for the bare producer. The bus creates each topic that it publishes to.
async fn topic(brokers: &str) -> String {
    let topic = format!("bare-{}", Uuid::new_v4());
    let bus = RedpandaEventBus::builder(brokers).partitions(8).connect().await.expect("a broker");
    let (key, headers, payload) = ("warm".to_owned(), Vec::new(), b"up".to_vec());
    let message = BusMessage { topic: topic.clone(), key, headers, payload };
    bus.publish(message).await.expect("a topic");
    topic
}

fn produce(brokers: &str, topic: &str, messages: &[BusMessage]) -> f64 {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("queue.buffering.max.messages", "500000")
        .create()
        .expect("a producer");
    let count = messages.len();
    let began = Instant::now();
    for message in messages {
        let headers = message.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        });
        let mut record =
            BaseRecord::to(topic).key(&message.key).payload(&message.payload).headers(headers);
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    producer.poll(Duration::from_millis(5));
                    record = back;
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(60)).expect("flushed");
    count as f64 / began.elapsed().as_secs_f64()
}
