//! Durable effects are stored with the events that cause them.

use std::future::IntoFuture as _;
use std::time::Duration;

use composable_rust_core::Metadata;
use composable_rust_core::prelude::*;
use composable_rust_core::queue::OutboxKind;
use composable_rust_runtime::App;
use composable_rust_testing::{Fault, FaultyEventStore, InMemoryEventStore};
use serde::{Deserialize, Serialize};

use crate::account::{Account, AccountCommand as In, app};

#[tokio::test]
async fn a_dispatch_is_stored_with_its_return_address() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    account.send(In::PayFrom { other: "2".into(), cents: 7 }).await.unwrap();

    let outbox = store.outbox();
    assert_eq!(outbox.len(), 1);
    let row = &outbox[0].row;
    assert_eq!(
        (row.kind, &*row.target, &*row.recipient),
        (OutboxKind::Dispatch, "account", "account-2")
    );
    assert_eq!(row.content.name, "account.withdraw");
    let metadata: Metadata = serde_json::from_str(&row.metadata).unwrap();
    assert_eq!(metadata.return_addresses[0].stream, account.id().stream());
    assert_eq!(metadata.return_addresses[0].tag.value, "\"rent\"");
    let event = &store.events(&account.id().stream())[0];
    assert_eq!(metadata.causation_id, event.id.0);
}

#[tokio::test]
async fn timers_are_armed_replaced_cancelled_and_dropped_at_the_end() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    account.send(In::Remind).await.unwrap();
    let first = store.timers();
    account.send(In::Remind).await.unwrap();
    let second = store.timers();
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!((&*first[0].id, &*second[0].id), ("reminder", "reminder"));
    assert_ne!(first[0].arming, second[0].arming);

    account.send(In::Forget).await.unwrap();
    assert!(store.timers().is_empty());

    account.send(In::Remind).await.unwrap();
    account.send(In::End).await.unwrap();
    assert!(store.timers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_repeated_append_stores_effects_without_events_once() {
    let memory = InMemoryEventStore::new();
    let store = FaultyEventStore::new(memory.clone());
    let account = app(&store).handle(&Account::id("1"));
    store.next_appends([Fault::FailAfter, Fault::FailAfter]);
    account.send(In::Nudge { other: "2".into() }).await.unwrap();
    assert_eq!(memory.all_events(), []);
    assert_eq!(memory.outbox().len(), 1);
}

/// A shift that can restart after its end.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Shift {
    is_over: bool,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum ShiftCommand {
    Begin {
        reminder: String,
    },
    End,
    #[message(internal)]
    Remind,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum ShiftEvent {
    Begun { reminder: String },
    Ended,
}

impl Aggregate for Shift {
    const NAME: &'static str = "shift";
    type Command = ShiftCommand;
    type Event = ShiftEvent;
    type Rejection = std::convert::Infallible;
    type Environment = ();

    fn decide(&self, command: ShiftCommand, _: &Context<Self>) -> Decision<Self> {
        match command {
            ShiftCommand::Begin { reminder } => record(ShiftEvent::Begun { reminder }),
            ShiftCommand::End => record(ShiftEvent::Ended),
            ShiftCommand::Remind => unchanged(),
        }
    }

    fn apply(&mut self, event: ShiftEvent) {
        self.is_over = event == ShiftEvent::Ended;
    }

    fn react(&self, event: &ShiftEvent, _: &Context<Self>) -> Reactions<ShiftCommand> {
        match event {
            ShiftEvent::Begun { reminder } => {
                let soon = Duration::from_secs(60);
                effects![after(soon, ShiftCommand::Remind).with_id(reminder.clone())]
            }
            ShiftEvent::Ended => effects![],
        }
    }

    fn is_finished(&self) -> bool {
        self.is_over
    }
}

/// Commands that share a drain with it do not matter.
#[tokio::test]
async fn finishing_cancels_timers_though_the_instance_restarts() {
    let store = InMemoryEventStore::new();
    let app = App::builder(store.clone()).aggregate::<Shift>(()).build().unwrap();
    let shift = app.handle(&Shift::id("1"));
    let begin = |reminder: &str| shift.send(ShiftCommand::Begin { reminder: reminder.into() });
    begin("first").await.unwrap();
    let (second, end, third) = tokio::join!(
        begin("second").into_future(),
        shift.send(ShiftCommand::End).into_future(),
        begin("third").into_future(),
    );
    assert_eq!(second.unwrap().version.get(), 2);
    assert_eq!((end.unwrap().version.get(), third.unwrap().version.get()), (3, 4));
    let timers = store.timers();
    assert_eq!(timers.iter().map(|timer| &*timer.id).collect::<Vec<_>>(), ["third"]);
}
