//! Topics whose size limit is below that of the bus.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use composable_rust::bus::{Delivery as _, EventBus as _};
use composable_rust::codec::Format;
use composable_rust::prelude::*;
use composable_rust::queue::DeadLetter;
use composable_rust::redpanda::{Compression, RedpandaEventBus};
use composable_rust::settings::RetryPolicy;
use composable_rust::testing::{InMemoryEventStore, eventually};
use futures_util::{StreamExt as _, TryStreamExt as _};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Diary;

#[derive(Debug, Clone, PartialEq, Message)]
enum DiaryCommand {
    Write(String),
}

#[derive(Debug, Clone, PartialEq, Message)]
enum DiaryEvent {
    Written(String),
}

impl Aggregate for Diary {
    const NAME: &'static str = "diary";
    type Command = DiaryCommand;
    type Event = DiaryEvent;
    type Rejection = Infallible;
    type Environment = ();

    fn decide(&self, DiaryCommand::Write(text): DiaryCommand, _: &Context<Self>) -> Decision<Self> {
        record(DiaryEvent::Written(text))
    }

    fn apply(&mut self, _: DiaryEvent) {}

    fn react(
        &self,
        DiaryEvent::Written(text): &DiaryEvent,
        ctx: &Context<Self>,
    ) -> Reactions<DiaryCommand> {
        effects![tell(&Reader::id(ctx.id().as_str()), ReaderCommand::Read(text.clone()))]
    }
}

/// A target in another service.
struct Reader;

#[derive(Debug, Clone, PartialEq, Message)]
enum ReaderCommand {
    Read(String),
}

#[derive(Debug, Clone, PartialEq, Message)]
enum Nothing {
    Happened,
}

impl Target for Reader {
    const NAME: &'static str = "reader";
    type Command = ReaderCommand;
    type Event = Nothing;
    type Rejection = Nothing;
}

/// Timeout of each wait. 120 seconds.
const PATIENCE: Duration = Duration::from_secs(120);

async fn create(brokers: &str, topic: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "3000");
    admin.create_topics([&new], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
}

/// Returns the keys of the first messages of a topic, sorted.
async fn keys(bus: &RedpandaEventBus, topic: &str, count: usize) -> Vec<String> {
    let topics = [topic.to_owned()];
    let mut deliveries = bus.subscribe("audit", &topics, &[]).await.unwrap();
    let mut keys = Vec::new();
    let began = Instant::now();
    while keys.len() < count {
        assert!(began.elapsed() < PATIENCE, "{topic}: {keys:?}");
        let next = tokio::time::timeout(PATIENCE, deliveries.next()).await;
        let next = next.unwrap_or_else(|_| panic!("{topic} has {keys:?} only"));
        if let Some(Ok(delivery)) = next {
            keys.push(delivery.message().key.clone());
            let _ = delivery.acknowledge().await;
        }
    }
    keys.sort();
    keys
}

/// Waits for two dead letters, and returns them.
async fn dead_letters(app: &App) -> Vec<DeadLetter> {
    eventually("two dead letters", PATIENCE, async || {
        let letters: Vec<_> = app.dead_letters().all().try_collect().await.unwrap();
        (letters.len() == 2).then_some(letters)
    })
    .await
}

/// The broker rejects a message above the topic's limit, which only the broker knows, and all other
/// messages are published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_for_a_topic_is_parked_and_holds_up_nothing_else() {
    let brokers = std::env::var("KAFKA_BROKERS").expect("`cargo xtask test` starts a broker");
    let prefix = format!("{}.", Uuid::new_v4());
    for topic in ["diary-events", "reader-commands"] {
        create(&brokers, &format!("{prefix}{topic}")).await;
    }
    let settings = RedpandaEventBus::builder(&brokers).topic_prefix(&prefix).partitions(1);
    let bus = settings.compression(Compression::None).connect().await.unwrap();
    let app = App::builder(InMemoryEventStore::with_partitions(1))
        .aggregate::<Diary>(())
        .publish::<Diary>(Format::Json)
        .remote::<Reader>()
        .event_bus(bus.clone())
        .settings(|settings| {
            settings.retry =
                RetryPolicy { initial_backoff: Duration::from_millis(100), ..settings.retry };
        })
        .build()
        .unwrap();
    // One batch of events. Those within the limit are too large only together.
    for n in 0..12 {
        let text = "x".repeat(if n == 5 { 5_000 } else { 100 });
        app.handle(&Diary::id(n.to_string())).send(DiaryCommand::Write(text)).await.unwrap();
    }
    app.start();
    let expected = |target: &str| {
        let others = (0..12).filter(|n| *n != 5);
        let mut keys: Vec<_> = others.map(|n| format!("{target}-{n}")).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&bus, "diary-events", 11).await, expected("diary"));
    assert_eq!(keys(&bus, "reader-commands", 11).await, expected("reader"));
    let letters = dead_letters(&app).await;
    for letter in &letters {
        assert_eq!(letter.message.sender.as_str(), "diary-5");
        assert!(letter.error.as_ref().unwrap().contains("MessageSizeTooLarge"), "{letter:?}");
    }
    assert!(app.shutdown(PATIENCE).await);
}
