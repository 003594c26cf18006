//! Policies, projections and `App::events` over sets of several aggregates' events.

use std::convert::Infallible;

use composable_rust_core::codec::Format;
use composable_rust_core::prelude::*;
use composable_rust_core::{EventSet, Position, Projection, ProjectionError, Recorded};
use composable_rust_runtime::{App, AppBuilder};
use composable_rust_testing::{InMemoryEventBus, InMemoryReadModel};
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};

use super::world::{PATIENCE, World, eventually, from_start, started};

/// An aggregate that records each of its commands as an event.
macro_rules! recorder {
    ($state:ident, $name:literal, $command:ident, $event:ident, $decide:expr) => {
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        struct $state(Vec<String>);

        impl Aggregate for $state {
            const NAME: &'static str = $name;
            type Command = $command;
            type Event = $event;
            type Rejection = Infallible;
            type Environment = ();

            fn decide(&self, command: $command, _: &Context<Self>) -> Decision<Self> {
                let decide: fn($command) -> $event = $decide;
                record(decide(command))
            }

            fn apply(&mut self, event: $event) {
                self.0.push(format!("{event:?}"));
            }
        }
    };
}

#[derive(Debug, Clone, PartialEq, Message)]
enum ClubCommand {
    Join { name: String },
    Leave,
}

/// The events of an older binary.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(prefix = "club")]
enum OldClubEvent {
    Joined { name: String },
    Left,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum ClubEvent {
    #[message(version = 2, from(1 = JoinedV1))]
    Joined {
        names: Vec<String>,
    },
    Left,
}

#[derive(Deserialize)]
struct JoinedV1 {
    name: String,
}

impl From<JoinedV1> for ClubEvent {
    fn from(old: JoinedV1) -> Self {
        Self::Joined { names: vec![old.name] }
    }
}

#[derive(Debug, Clone, PartialEq, Message)]
enum InvoiceCommand {
    Write { to: String },
    Pay { cents: i64 },
}

#[derive(Debug, Clone, PartialEq, Message)]
enum InvoiceEvent {
    Written { to: String },
    Paid { cents: i64 },
}

recorder!(Club, "club", ClubCommand, ClubEvent, |command| match command {
    ClubCommand::Join { name } => ClubEvent::Joined { names: vec![name] },
    ClubCommand::Leave => ClubEvent::Left,
});
recorder!(OldClub, "club", ClubCommand, OldClubEvent, |command| match command {
    ClubCommand::Join { name } => OldClubEvent::Joined { name },
    ClubCommand::Leave => OldClubEvent::Left,
});
recorder!(Invoice, "invoice", InvoiceCommand, InvoiceEvent, |command| match command {
    InvoiceCommand::Write { to } => InvoiceEvent::Written { to },
    InvoiceCommand::Pay { cents } => InvoiceEvent::Paid { cents },
});

/// All events of both.
#[derive(Debug, Clone, PartialEq, EventSet)]
enum Billing {
    Club(ClubEvent),
    Invoice(InvoiceEvent),
}

/// Some events of both.
#[derive(Debug, Clone, PartialEq, Message, EventSet)]
#[event_set(Club, Invoice)]
enum Reminders {
    #[message(name = "invoice.paid")]
    Paid { cents: i64 },
    #[message(other)]
    Other,
}

/// Some events of one.
#[derive(Debug, Clone, PartialEq, Message, EventSet)]
#[event_set(Club)]
enum Leavings {
    #[message(name = "club.left")]
    Left,
    #[message(other)]
    Other,
}

type Invoices = Option<(Id<Invoice>, InvoiceCommand)>;

fn both(builder: AppBuilder) -> AppBuilder {
    builder.aggregate::<Club>(()).aggregate::<Invoice>(())
}

/// Sends a club and an invoice two commands each; the club joins by code of an older release.
async fn record_events(world: &World) -> Vec<Position> {
    let old = world.bare_builder(world.memory.clone()).aggregate::<OldClub>(()).build().unwrap();
    old.handle(&OldClub::id("7")).send(ClubCommand::Join { name: "Ann".into() }).await.unwrap();
    let new = both(world.bare_builder(world.memory.clone())).build().unwrap();
    let write = InvoiceCommand::Write { to: "Ann".into() };
    new.handle(&Invoice::id("1")).send(write).await.unwrap();
    let leave = new.handle(&Club::id("7")).send(ClubCommand::Leave).await.unwrap();
    let pay = new.handle(&Invoice::id("1")).send(InvoiceCommand::Pay { cents: 5 }).await.unwrap();
    [leave, pay].iter().filter_map(|receipt| receipt.position).collect()
}

async fn invoice(app: &App, id: &str) -> Vec<String> {
    app.handle(&Invoice::id(id)).state(|invoice| invoice.0.clone()).await.unwrap()
}

fn texts(recorded: &[Recorded<Billing>], id: &str) -> Vec<String> {
    let own = recorded.iter().filter(|recorded| recorded.stream.to_string() == id);
    own.map(|recorded| format!("{:?}", recorded.event)).collect()
}

const OF_CLUB: [&str; 2] = [r#"Club(Joined { names: ["Ann"] })"#, "Club(Left)"];
const OF_INVOICE: [&str; 2] = [r#"Invoice(Written { to: "Ann" })"#, "Invoice(Paid { cents: 5 })"];

#[tokio::test(start_paused = true)]
async fn an_app_returns_the_events_of_a_set_in_their_newest_version() {
    let world = World::new();
    record_events(&world).await;
    let app = both(world.builder(world.memory.clone())).build().unwrap();
    // Events of an aggregate that the set does not name.
    super::world::tell_to(&app, "a", super::actor::Act::Note(1)).await;
    let start = app.log().start_positions();
    let all: Vec<_> = app.events::<Billing>(start.clone()).try_collect().await.unwrap();
    assert_eq!((texts(&all, "club-7"), texts(&all, "invoice-1")), (own(OF_CLUB), own(OF_INVOICE)));
    assert_eq!(all.len(), 4);

    let some: Vec<_> = app.events::<Reminders>(start).try_collect().await.unwrap();
    let paid: Vec<_> = some
        .into_iter()
        .map(|recorded| recorded.event)
        .filter(|e| *e != Reminders::Other)
        .collect();
    assert_eq!(paid, [Reminders::Paid { cents: 5 }]);
}

fn own(texts: [&str; 2]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

#[tokio::test(start_paused = true)]
async fn a_policy_reads_a_set() {
    let world = World::new();
    record_events(&world).await;
    let builder = both(world.bare_builder(world.memory.clone()))
        .on_with::<Billing, Invoice, Invoices>("all", from_start, |recorded| {
            let id = Invoice::id(format!("all-{}", recorded.stream));
            match &recorded.event {
                Billing::Club(event) => {
                    Some((id, InvoiceCommand::Write { to: format!("{event:?}") }))
                }
                Billing::Invoice(InvoiceEvent::Paid { cents }) => {
                    Some((id, InvoiceCommand::Pay { cents: 2 * cents }))
                }
                Billing::Invoice(InvoiceEvent::Written { .. }) => None,
            }
            .filter(|_| !recorded.stream.id().starts_with("all-"))
        })
        .on_with::<Reminders, Invoice, Invoices>("some", from_start, |recorded| {
            let Reminders::Paid { cents } = recorded.event else { return None };
            let is_first = recorded.stream.id() == "1";
            is_first.then(|| (Invoice::id("some"), InvoiceCommand::Pay { cents }))
        });
    let app = started(builder);
    let written = |text: &str| format!("{:?}", InvoiceEvent::Written { to: text.to_owned() });
    eventually("all", async || invoice(&app, "all-club-7").await.len() == 2).await;
    let joined = r#"Joined { names: ["Ann"] }"#;
    assert_eq!(invoice(&app, "all-club-7").await, [written(joined), written("Left")]);
    eventually("paid", async || !invoice(&app, "all-invoice-1").await.is_empty()).await;
    assert_eq!(invoice(&app, "all-invoice-1").await, ["Paid { cents: 10 }"]);
    eventually("some", async || !invoice(&app, "some").await.is_empty()).await;
    assert_eq!(invoice(&app, "some").await, ["Paid { cents: 5 }"]);
    world.quiet().await;
    assert!(world.dead_letters().await.is_empty());
}

/// Notes all events of a set.
struct Notes;

impl Projection for Notes {
    const NAME: &'static str = "notes";
    type Events = Billing;
    type Connection = Vec<Recorded<Billing>>;

    async fn project(
        &self,
        recorded: &Recorded<Billing>,
        notes: &mut Self::Connection,
    ) -> Result<(), ProjectionError> {
        notes.push(recorded.clone());
        Ok(())
    }

    async fn clear(&self, notes: &mut Self::Connection) -> Result<(), ProjectionError> {
        notes.clear();
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_projection_reads_a_set() {
    let world = World::new();
    let positions = record_events(&world).await;
    let model = InMemoryReadModel::default();
    // A projection only reads: it needs no registered aggregate.
    let app = started(world.bare_builder(world.memory.clone()).projection(Notes, model.clone()));
    app.projection::<Notes>().wait_for(positions, PATIENCE).await.unwrap();
    let notes = model.get();
    assert_eq!(
        (texts(&notes, "club-7"), texts(&notes, "invoice-1")),
        (own(OF_CLUB), own(OF_INVOICE))
    );
    assert_eq!(notes.len(), 4);
}

/// The club is another service, whose events reach this one over the bus.
#[tokio::test(start_paused = true)]
async fn a_policy_reads_some_events_of_a_remote_aggregate() {
    let (front, back, bus) = (World::new(), World::new(), InMemoryEventBus::new());
    let builder = front.bare_builder(front.memory.clone()).aggregate::<Club>(());
    let club = started(builder.event_bus(bus.clone()).publish::<Club>(Format::Json));
    let builder = back.bare_builder(back.memory.clone()).aggregate::<Invoice>(()).remote::<Club>();
    let app = started(builder.event_bus(bus).on_with::<Leavings, Invoice, Invoices>(
        "left",
        from_start,
        |recorded| {
            let is_left = recorded.event == Leavings::Left;
            let id = Invoice::id(recorded.stream.id());
            is_left.then_some((id, InvoiceCommand::Write { to: "the one who left".into() }))
        },
    ));
    let seven = club.handle(&Club::id("7"));
    seven.send(ClubCommand::Join { name: "Ann".into() }).await.unwrap();
    seven.send(ClubCommand::Leave).await.unwrap();
    eventually("written", async || !invoice(&app, "7").await.is_empty()).await;
    assert_eq!(invoice(&app, "7").await, [r#"Written { to: "the one who left" }"#]);
    assert!(back.dead_letters().await.is_empty());
}

fn problems(builder: AppBuilder) -> Vec<String> {
    builder.build().map(|_| ()).unwrap_err().problems().to_vec()
}

fn reading<S: EventSet>(builder: AppBuilder) -> AppBuilder {
    builder.on::<S, Invoice, Invoices>("billing", |_| None)
}

#[test]
fn the_aggregates_of_a_set_must_be_in_this_service() {
    let builder = || {
        App::builder(composable_rust_testing::InMemoryEventStore::new()).aggregate::<Invoice>(())
    };
    assert_eq!(
        problems(reading::<Billing>(builder())),
        ["the policy `billing` reads events of several types, of which `club` is not registered: \
          register it with `.aggregate`; or, if it lives in another service, say `.remote` and \
          register a policy for `club` alone"]
    );
    let remote = || builder().event_bus(InMemoryEventBus::new()).remote::<Club>();
    let alone = ["the policy `billing` reads events of several types, of which `club` is remote: \
                  register a policy for `club` alone"];
    assert_eq!(problems(reading::<Billing>(remote())), alone);
    // A set of some events, and one of a single aggregate's.
    assert_eq!(problems(reading::<Reminders>(remote())), alone);
    assert_eq!(
        problems(reading::<Leavings>(builder())),
        ["the policy `billing` reads events of `club`: register it with `.aggregate`, or say \
          `.remote`"]
    );
    reading::<Leavings>(remote()).build().unwrap();
}

#[derive(Debug, Clone, PartialEq, Message)]
#[message(prefix = "club")]
enum PartOfClubEvent {
    Left,
    #[message(other)]
    Other,
}

recorder!(PartOfClub, "club", ClubCommand, PartOfClubEvent, |_| PartOfClubEvent::Left);

#[test]
fn an_aggregate_knows_all_of_its_own_events() {
    let store = composable_rust_testing::InMemoryEventStore::new();
    assert_eq!(
        problems(App::builder(store).aggregate::<PartOfClub>(())),
        ["the events of `club` have a variant `#[message(other)]`: an aggregate knows all of its \
          messages; remove the variant"]
    );
}
