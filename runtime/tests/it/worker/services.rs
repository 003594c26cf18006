//! Two services, each with its own store, joined by a bus.

mod consumers;
mod erasure;
mod exchange;
mod forged_messages;
mod lag;
mod newer_releases;
mod pauses;
mod redelivery;
mod relays;
mod releases;
mod sending;
mod subscriptions;
mod unpublishable;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use composable_rust_core::Timestamp;
use composable_rust_core::bus::{
    BusError, BusMessage, EventBus, GroupOffset, GroupPartition, GroupTopic, PublishError,
    Publisher, PublisherName, ResumePosition, TopicOffset, TopicStatus,
};
use composable_rust_core::codec::Format;
use composable_rust_core::prelude::*;
use composable_rust_core::queue::Checkpoints as _;
use composable_rust_runtime::{App, AppBuilder};
use composable_rust_testing::{InMemoryEventBus, InMemoryPublisher, TokioClock};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::node::NodeProcess;
use super::world::{PATIENCE, World, eventually, millis, started};

/// The commands of a front or back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Errand {
    Note(u32),
    Refuse,
    AskFront(String, u32, Box<Errand>),
    AskBack(String, u32, Box<Errand>),
    TellBack(String, Box<Errand>),
    Later(u64, Box<Errand>),
    /// Fails until the test's thread is [`MENDED`].
    Fragile,
}

thread_local! {
    static MENDED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// The aggregates of both services have the same behaviour.
macro_rules! service {
    ($state:ident, $name:literal, $command:ident, $event:ident, $error:ident) => {
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        struct $state(Vec<String>);

        #[derive(Debug, Clone, PartialEq, Message)]
        enum $command {
            Do(Errand),
            #[message(internal)]
            Due(Errand),
            Front(u32, Reply<Front>),
            Back(u32, Reply<Back>),
        }

        #[derive(Debug, Clone, PartialEq, Message)]
        enum $event {
            Did(Errand),
            Heard(String),
        }

        #[derive(Debug, Clone, PartialEq, Message)]
        enum $error {
            Refused,
        }

        impl $event {
            fn text(&self) -> String {
                match self {
                    Self::Did(Errand::Note(n)) => format!("note {n}"),
                    Self::Did(Errand::Later(..)) => "later".to_owned(),
                    Self::Did(_) => "asks".to_owned(),
                    Self::Heard(text) => text.clone(),
                }
            }
        }

        impl Aggregate for $state {
            const NAME: &'static str = $name;
            type Command = $command;
            type Event = $event;
            type Rejection = $error;
            type Environment = ();

            fn decide(&self, command: $command, _: &Context<Self>) -> Decision<Self> {
                let (tag, text) = match command {
                    $command::Do(Errand::Refuse) => return reject($error::Refused),
                    $command::Do(Errand::Fragile) if !MENDED.get() => panic!("it is broken"),
                    $command::Do(errand) | $command::Due(errand) => {
                        return record($event::Did(errand));
                    }
                    $command::Front(tag, reply) => (tag, told(reply, FrontEvent::text)),
                    $command::Back(tag, reply) => (tag, told(reply, BackEvent::text)),
                };
                record($event::Heard(format!("{tag}: {text}")))
            }

            fn apply(&mut self, event: $event) {
                self.0.push(event.text());
            }

            fn react(&self, event: &$event, _: &Context<Self>) -> Reactions<$command> {
                let $event::Did(errand) = event else { return effects![] };
                match errand.clone() {
                    Errand::AskFront(to, tag, errand) => {
                        effects![dispatch(&Front::id(to), FrontCommand::Do(*errand)).tag(tag)]
                    }
                    Errand::AskBack(to, tag, errand) => {
                        effects![dispatch(&Back::id(to), BackCommand::Do(*errand)).tag(tag)]
                    }
                    Errand::TellBack(to, errand) => {
                        effects![tell(&Back::id(to), BackCommand::Do(*errand))]
                    }
                    Errand::Later(wait, errand) => {
                        effects![after(Duration::from_millis(wait), $command::Due(*errand))]
                    }
                    _ => effects![],
                }
            }
        }
    };
}

service!(Front, "front", FrontCommand, FrontEvent, FrontError);
service!(Back, "back", BackCommand, BackEvent, BackError);

fn told<T: Target>(reply: Reply<T>, text: impl Fn(&T::Event) -> String) -> String {
    match reply {
        Reply::Recorded(event) => text(&event),
        Reply::Rejected(_) => "rejected".to_owned(),
        Reply::Unchanged => "unchanged".to_owned(),
        Reply::Undelivered => "undelivered".to_owned(),
    }
}

/// A bus whose publishing can be made to fail.
#[derive(Clone)]
struct Line {
    bus: InMemoryEventBus,
    down: Arc<AtomicBool>,
    /// The largest payload; 0: no limit.
    most: Arc<AtomicUsize>,
    /// The largest batch of the broker, in bytes of payload; 0: no limit.
    broker_limit: Arc<AtomicUsize>,
    /// The rejected topic.
    refused: Arc<Mutex<String>>,
    /// The most messages in one batch; 0: no limit.
    largest_batch: Arc<AtomicUsize>,
    /// The open publishers of relays.
    relays: Arc<AtomicUsize>,
    /// The most publishers that were open at a time.
    peak: Arc<AtomicUsize>,
    /// The most publishers that may be open; 0: no limit.
    max_publishers: Arc<AtomicUsize>,
    /// A topic without a response.
    dead: Arc<Mutex<Option<String>>>,
    /// While `true`, publishing waits.
    frozen: watch::Sender<bool>,
}

impl Line {
    fn new() -> Self {
        Self {
            bus: InMemoryEventBus::new().with_clock(TokioClock::new()),
            down: Arc::default(),
            most: Arc::default(),
            broker_limit: Arc::default(),
            refused: Arc::default(),
            largest_batch: Arc::default(),
            relays: Arc::default(),
            peak: Arc::default(),
            max_publishers: Arc::default(),
            dead: Arc::default(),
            frozen: watch::Sender::new(false),
        }
    }

    fn refuse(&self, topic: &str) {
        topic.clone_into(&mut self.refused.lock().unwrap());
    }

    fn open_relays(&self) -> usize {
        self.relays.load(Ordering::SeqCst)
    }

    /// The same bus for another process, which freezes independently.
    fn of_another_process(&self) -> Self {
        Self { frozen: watch::Sender::new(false), ..self.clone() }
    }

    /// Waits until publishing is possible.
    async fn pass(&self, topic: &str) -> Result<(), BusError> {
        self.check()?;
        if self.dead.lock().unwrap().as_deref() == Some(topic) {
            std::future::pending::<()>().await;
        }
        let _ = self.frozen.subscribe().wait_for(|frozen| !frozen).await;
        Ok(())
    }

    fn check(&self) -> Result<(), BusError> {
        if self.down.load(Ordering::SeqCst) {
            Err(BusError::new("the line is down"))
        } else {
            Ok(())
        }
    }
}

struct LinePublisher(InMemoryPublisher, Line, bool);

impl Drop for LinePublisher {
    fn drop(&mut self) {
        self.1.relays.fetch_sub(self.2.into(), Ordering::SeqCst);
    }
}

impl Publisher for LinePublisher {
    async fn resume_position(&mut self) -> Result<Option<ResumePosition>, PublishError> {
        self.1.check()?;
        self.0.resume_position().await
    }

    async fn publish_batch(
        &mut self,
        messages: Vec<BusMessage>,
        position: Option<ResumePosition>,
    ) -> Result<(), PublishError> {
        self.1.check()?;
        let refused = self.1.refused.lock().unwrap().clone();
        if messages.iter().any(|message| message.topic == refused) {
            return Err(BusError::new("the topic is refused").into());
        }
        let largest = self.1.largest_batch.load(Ordering::SeqCst);
        if largest > 0 && messages.len() > largest {
            return Err(BusError::new("it takes too long").into());
        }
        let limit = self.1.broker_limit.load(Ordering::SeqCst);
        let bytes: usize = messages.iter().map(|message| message.payload.len()).sum();
        if limit > 0 && bytes > limit {
            return Err(PublishError::Invalid(format!("{bytes} bytes")));
        }
        self.0.publish_batch(messages, position).await
    }
}

impl EventBus for Line {
    type Delivery = <InMemoryEventBus as EventBus>::Delivery;
    type Deliveries = <InMemoryEventBus as EventBus>::Deliveries;
    type Publisher = LinePublisher;

    async fn publish(&self, message: BusMessage) -> Result<(), PublishError> {
        self.pass(&message.topic).await?;
        self.bus.publish(message).await
    }

    async fn publish_to_existing(&self, message: BusMessage) -> Result<(), PublishError> {
        self.pass(&message.topic).await?;
        self.bus.publish_to_existing(message).await
    }

    async fn subscribe(
        &self,
        group: &str,
        topics: &[String],
        known: &[GroupOffset],
    ) -> Result<Self::Deliveries, BusError> {
        self.check()?;
        self.bus.subscribe(group, topics, known).await
    }

    fn topic_status(&self, group: &str) -> Vec<TopicStatus> {
        self.bus.topic_status(group)
    }

    fn partition_count(&self, group: &str, topic: &str) -> Option<u16> {
        self.bus.partition_count(group, topic)
    }

    async fn group_partitions(
        &self,
        of: &GroupTopic,
        since: Option<Timestamp>,
    ) -> Result<Vec<GroupPartition>, BusError> {
        self.check()?;
        self.bus.group_partitions(of, since).await
    }

    async fn move_group(&self, of: &GroupTopic, to: &[TopicOffset]) -> Result<(), BusError> {
        self.check()?;
        self.bus.move_group(of, to).await
    }

    async fn publisher(&self, name: &PublisherName) -> Result<LinePublisher, BusError> {
        self.check()?;
        let publisher = self.bus.publisher(name).await?;
        let is_relay = name.purpose.starts_with("relay/");
        let open = self.relays.fetch_add(is_relay.into(), Ordering::SeqCst) + 1;
        self.peak.fetch_max(open, Ordering::SeqCst);
        Ok(LinePublisher(publisher, self.clone(), is_relay))
    }

    fn max_publishers(&self) -> Option<usize> {
        Some(self.max_publishers.load(Ordering::SeqCst)).filter(|most| *most > 0)
    }

    fn max_payload_bytes(&self) -> Option<usize> {
        Some(self.most.load(Ordering::SeqCst)).filter(|most| *most > 0)
    }
}

struct Services {
    front: App,
    back: App,
    line: Line,
    at_front: World,
    at_back: World,
}

/// Services are distinguished by their log ids.
fn world_of(id: u128) -> World {
    let world = World::new();
    let memory = world.memory.clone().with_log_id(uuid::Uuid::from_u128(id));
    World { memory, ..world }
}

fn services(line: Line, serves_front: bool) -> Services {
    let (at_front, at_back) = (world_of(1), world_of(2));
    let front = front(&at_front, at_front.memory.clone(), &line, serves_front);
    let back = started(back(&at_back, &line));
    Services { front, back, line, at_front, at_back }
}

fn back(world: &World, line: &Line) -> AppBuilder {
    back_on(world, world.memory.clone(), line)
}

fn back_on(
    world: &World,
    store: impl composable_rust_core::store::EventStore,
    line: &Line,
) -> AppBuilder {
    world
        .bare_builder(store)
        .event_bus(line.clone())
        .aggregate::<Back>(())
        .remote::<Front>()
        .serve::<Back>()
}

fn front(
    world: &World,
    store: impl composable_rust_core::store::EventStore,
    line: &Line,
    serves: bool,
) -> App {
    let front = world
        .bare_builder(store)
        .event_bus(line.clone())
        .aggregate::<Front>(())
        .remote::<Back>()
        .publish::<Front>(Format::Json);
    started(if serves { front.serve::<Front>() } else { front })
}

async fn send(app: &App, id: &str, errand: Errand) {
    app.handle(&Front::id(id)).send(FrontCommand::Do(errand)).await.unwrap();
}

async fn front_heard(app: &App, id: &str, text: &str) {
    let front = app.handle(&Front::id(id));
    let found = front.wait(|own| own.0.iter().any(|l| l == text).then_some(()), PATIENCE).await;
    let now = front.state(Clone::clone).await;
    assert!(found.is_ok(), "{id} never heard `{text}`, only {now:?}");
}

fn ask_back(to: &str, tag: u32, errand: Errand) -> Errand {
    Errand::AskBack(to.into(), tag, Box::new(errand))
}

fn ask_front(to: &str, tag: u32, errand: Errand) -> Errand {
    Errand::AskFront(to.into(), tag, Box::new(errand))
}

/// Waits for `count` events of instance 1 on the topic, each version once and in order.
async fn versions_rise(bus: &InMemoryEventBus, count: usize) {
    let versions = || -> Vec<u64> {
        let messages = bus.messages("front-events");
        let own = messages.iter().filter(|message| message.key == "front-1");
        own.map(|message| message.header("ce_streamversion").unwrap().parse().unwrap()).collect()
    };
    eventually("they are published", async || versions().len() >= count).await;
    assert_eq!(versions(), (1..=count as u64).collect::<Vec<_>>());
}
