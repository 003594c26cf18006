//! Two services, each with its own store, joined by a bus.

mod comes_again;
mod enemy;
mod erased;
mod lag;
mod paused;
mod releases;
mod sending;
mod subscriptions;
mod topics_of_events;
mod unpublishable;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use composable_rust_core::prelude::*;
use composable_rust_core::{
    BusError, BusMessage, Checkpoints as _, DeadLetter, EventBus, Format, GroupOffset, Metadata,
    PublishError, Publisher, PublisherName, ResumePosition, TopicStatus,
};
use composable_rust_runtime::{App, AppBuilder};
use composable_rust_testing::{InMemoryEventBus, InMemoryEventStore, InMemoryPublisher};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::node::Node;
use super::world::{PATIENCE, Virtual, World, eventually, millis, started};

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
            bus: InMemoryEventBus::new().with_clock(Virtual::new()),
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

fn back_on(world: &World, store: impl composable_rust_core::EventStore, line: &Line) -> AppBuilder {
    world
        .bare_builder(store)
        .event_bus(line.clone())
        .aggregate::<Back>(())
        .remote::<Front>()
        .serve::<Back>()
}

fn front(
    world: &World,
    store: impl composable_rust_core::EventStore,
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

#[tokio::test(start_paused = true)]
async fn a_command_to_another_service_is_answered() {
    let services = services(Line::new(), false);
    send(&services.front, "1", ask_back("1", 1, Errand::Note(5))).await;
    front_heard(&services.front, "1", "1: note 5").await;
    send(&services.front, "1", ask_back("1", 2, Errand::Refuse)).await;
    front_heard(&services.front, "1", "2: rejected").await;
    let later = Errand::Later(60_000, Box::new(Errand::Note(6)));
    send(&services.front, "1", ask_back("1", 3, later)).await;
    front_heard(&services.front, "1", "3: note 6").await;
}

/// The chain goes through the other service and back, and the replies take the same way home.
#[tokio::test(start_paused = true)]
async fn replies_find_their_way_through_both_services() {
    let services = services(Line::new(), true);
    let front = &services.front;
    send(front, "outer", ask_front("inner", 1, ask_back("1", 2, Errand::Note(5)))).await;
    front_heard(front, "outer", "1: 2: note 5").await;

    let errand = ask_back("1", 4, ask_front("leaf", 5, Errand::Note(6)));
    send(front, "outer", ask_front("inner", 3, errand)).await;
    front_heard(front, "leaf", "note 6").await;
    front_heard(front, "outer", "3: 4: 5: note 6").await;

    // From beyond the other service, and from there to itself.
    let errand = ask_back("1", 7, ask_back("2", 8, ask_front("leaf", 9, Errand::Note(7))));
    send(front, "outer", ask_front("inner", 6, errand)).await;
    front_heard(front, "outer", "6: 7: 8: 9: note 7").await;
    assert!(services.at_front.dead_letters().await.is_empty());
    assert!(services.at_back.dead_letters().await.is_empty());
}

/// Its topic is read for replies, but commands on it are rejected.
#[tokio::test(start_paused = true)]
async fn commands_for_an_unserved_type_are_undelivered() {
    let services = services(Line::new(), false);
    let errand = ask_back("1", 1, ask_front("leaf", 2, Errand::Note(6)));
    send(&services.front, "outer", errand).await;
    front_heard(&services.front, "outer", "1: 2: undelivered").await;
    let leaf = services.front.handle(&Front::id("leaf"));
    assert_eq!(leaf.state(|own| own.0.len()).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn external_internal_commands_are_rejected_and_garbage_parked() {
    let services = services(Line::new(), true);
    send(&services.front, "1", ask_back("1", 1, Errand::Note(5))).await;
    front_heard(&services.front, "1", "1: note 5").await;
    let good = services.line.bus.messages("back-commands").remove(0);
    let with = |name: &str, value: &str| {
        let mut message = good.clone();
        message.headers.retain(|(header, _)| header != name);
        message.headers.push((name.to_owned(), value.to_owned()));
        message
    };
    let long = "x".repeat(100_000);
    let rubbish = [
        with("ce_id", "no id"),
        with("ce_type", ""),
        with("ce_type", "a\0b"),
        with("ce_subject", "front-1"),
        with("ce_metadata", "{"),
        with("ce_metadata", &format!("{{\"{long}\":1}}")),
        with("ce_sender", "-"),
        with("ce_codec", "\0"),
        with("ce_type", &"x".repeat(256)),
        with("ce_codec", &"x".repeat(256)),
    ];
    let count = rubbish.len();
    for message in rubbish {
        services.line.bus.publish(message).await.unwrap();
    }
    let parked = async || services.at_back.dead_letters().await.len() == count;
    eventually("rubbish is parked", parked).await;
    let mut internal = with("ce_type", "back.due");
    internal.headers.retain(|(header, _)| header != "ce_id");
    internal.headers.push(("ce_id".into(), uuid::Uuid::from_u128(5).to_string()));
    for (name, value) in &mut internal.headers {
        if name == "ce_metadata" {
            let mut metadata: Metadata = serde_json::from_str(value).unwrap();
            metadata.return_addresses.clear();
            *value = serde_json::to_string(&metadata).unwrap();
        }
    }
    services.line.bus.publish(internal).await.unwrap();
    let parked = async || services.at_back.dead_letters().await.len() > count;
    eventually("the internal command is parked", parked).await;
    let letters = services.at_back.dead_letters().await;
    let is_internal = |letter: &&DeadLetter| letter.error.as_ref().unwrap().contains("internal");
    assert_eq!(letters.iter().filter(is_internal).count(), 1);
    // A later message of another sender is accepted.
    send(&services.front, "2", ask_back("1", 2, Errand::Note(6))).await;
    front_heard(&services.front, "2", "2: note 6").await;
    let back = services.back.handle(&Back::id("1"));
    assert_eq!(back.state(|own| own.0.clone()).await.unwrap(), ["note 5", "note 6"]);
}

#[tokio::test(start_paused = true)]
async fn events_of_a_bus_outage_arrive_later_in_order() {
    let services = services(Line::new(), false);
    send(&services.front, "1", ask_back("1", 1, Errand::Note(1))).await;
    front_heard(&services.front, "1", "1: note 1").await;
    services.line.down.store(true, Ordering::SeqCst);
    for n in 2..50 {
        send(&services.front, "1", Errand::TellBack("1".into(), Box::new(Errand::Note(n)))).await;
    }
    tokio::time::sleep(millis(300_000)).await;
    services.line.down.store(false, Ordering::SeqCst);
    let back = services.back.handle(&Back::id("1"));
    let all: Vec<_> = (1..50).map(|n| format!("note {n}")).collect();
    let found = back.wait(|own| (own.0.len() == 49).then(|| own.0.clone()), PATIENCE).await;
    assert_eq!(found.unwrap(), all);
    assert!(services.at_front.dead_letters().await.is_empty());
    versions_rise(&services.line.bus, 1 + 1 + 48).await;
}

/// The limit of the bus was lowered: a too large message is parked with its successors.
#[tokio::test(start_paused = true)]
async fn undeliverable_messages_are_parked_and_discards_reported() {
    use composable_rust_core::DeadLetterDecision::{Discard, Redrive};
    let services = services(Line::new(), false);
    services.line.most.store(1, Ordering::SeqCst);
    for n in 1..=3 {
        send(&services.front, "1", ask_back("1", n, Errand::Note(n))).await;
    }
    let world = &services.at_front;
    eventually("all are parked", async || world.dead_letters().await.len() == 3).await;
    let letters = world.dead_letters().await;
    assert!(letters[0].error.as_ref().unwrap().contains("that the bus takes"));
    assert!(world.decide(&letters[0], Discard).await);
    front_heard(&services.front, "1", "1: undelivered").await;
    services.line.most.store(0, Ordering::SeqCst);
    assert!(world.decide(&letters[1], Redrive).await);
    front_heard(&services.front, "1", "3: note 3").await;
    let back = services.back.handle(&Back::id("1"));
    assert_eq!(back.state(|own| own.0.clone()).await.unwrap(), ["note 2", "note 3"]);
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

/// A log restored from a backup holds other events at published positions, whatever its length: an
/// operator must decide.
#[tokio::test(start_paused = true)]
async fn a_rewound_and_regrown_log_is_not_relayed() {
    let (line, world) = (Line::new(), world_of(1));
    let before = front(&world, world.memory.clone(), &line, false);
    for n in 0..5 {
        send(&before, "1", Errand::Note(n)).await;
    }
    versions_rise(&line.bus, 5).await;
    assert!(before.shutdown(PATIENCE).await);
    let restored = InMemoryEventStore::new().with_clock(world.clock);
    let restored = restored.with_log_id(uuid::Uuid::from_u128(1));
    let writer = world.bare_builder(restored.clone()).aggregate::<Front>(()).aggregate::<Back>(());
    let writer = writer.build().unwrap();
    for n in 0..9 {
        send(&writer, "1", Errand::Note(n)).await;
    }
    let _after = front(&world, restored.clone(), &line, false);
    tokio::time::sleep(millis(200_000)).await;
    versions_rise(&line.bus, 5).await;
    let checkpoints = restored.load_checkpoints("relay/front-events/front").await.unwrap();
    assert!(checkpoints.iter().all(|at| at.offset == 0));
}

/// A process crashes or freezes between publishing and storing its checkpoint; its successor
/// resumes at the broker's position.
#[tokio::test(start_paused = true)]
async fn the_relay_resumes_without_loss_and_a_fenced_relay_stops() {
    use super::node::Mishap;
    for (frozen, mishap) in [(false, Mishap::FailsBefore), (true, Mishap::FailsAfter)] {
        let line = Line::new();
        let world = world_of(1);
        let node = Node::new(world.memory.clone());
        let first = front(&world, node.clone(), &line, false);
        for n in 0..5 {
            send(&first, "1", Errand::Note(n)).await;
        }
        versions_rise(&line.bus, 5).await;
        node.next("enqueue", [mishap; 3]);
        let writer =
            world.bare_builder(world.memory.clone()).aggregate::<Front>(()).aggregate::<Back>(());
        let writer = writer.build().unwrap();
        for n in 5..10 {
            send(&writer, "1", Errand::Note(n)).await;
        }
        tokio::time::sleep(millis(20)).await;
        if frozen {
            node.freeze();
        } else {
            node.crash();
        }
        let second = front(&world, world.memory.clone(), &line, false);
        for n in 10..20 {
            send(&writer, "1", Errand::Note(n)).await;
        }
        versions_rise(&line.bus, 20).await;
        node.wake();
        for n in 20..30 {
            send(&writer, "1", Errand::Note(n)).await;
        }
        tokio::time::sleep(millis(60_000)).await;
        versions_rise(&line.bus, 30).await;
        drop((first, second));
    }
}

#[tokio::test(start_paused = true)]
async fn events_are_published_as_mapped_by_a_function() {
    let bus = InMemoryEventBus::new();
    let world = world_of(1);
    let app = world
        .bare_builder(world.memory.clone())
        .event_bus(bus.clone())
        .aggregate::<Front>(())
        .aggregate::<Back>(())
        .publish::<Front>(Format::Binary)
        .publish_as::<Front, BackEvent>("mapped", Format::Json, |recorded| match recorded.event {
            FrontEvent::Did(Errand::Note(n)) if n % 2 == 0 => {
                Some(BackEvent::Heard(format!("even {n}")))
            }
            _ => None,
        });
    let app = started(app);
    for n in 0..6 {
        send(&app, "1", Errand::Note(n)).await;
    }
    versions_rise(&bus, 6).await;
    eventually("mapped", async || bus.messages("mapped").len() == 3).await;
    let texts: Vec<_> = bus
        .messages("mapped")
        .iter()
        .map(|message| String::from_utf8(message.payload.clone()).unwrap())
        .collect();
    assert!((0..3).all(|n| texts[n].contains(&format!("even {}", 2 * n))), "{texts:?}");
}
