//! Commands to an aggregate: sent, and rehearsed.

use std::sync::atomic::{AtomicBool, Ordering};

use composable_rust_admin::{Admin, AdminError, DeadLetterFilter, Operator};
use composable_rust_core::prelude::*;
use composable_rust_core::queue::{Outbox as _, OutboxKind};
use composable_rust_core::store::{Append, AppendOutcome, EventStore, StoreError};
use composable_rust_core::{EventId, Version};
use composable_rust_runtime::App;
use composable_rust_testing::{InMemoryEventStore, Intercept, Intercepted};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::letters::message;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Order;

#[derive(Debug, Clone, PartialEq, Message)]
enum OrderCommand {
    Place,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum OrderEvent {
    Placed,
}

impl Aggregate for Order {
    const NAME: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = std::convert::Infallible;
    type Environment = ();

    fn decide(&self, OrderCommand::Place: OrderCommand, _: &Context<Self>) -> Decision<Self> {
        record(OrderEvent::Placed)
    }

    fn apply(&mut self, OrderEvent::Placed: OrderEvent) {}
}

/// A store that commits appends to orders and loses the answers, while it is so.
struct Lossy(AtomicBool);

impl<S: EventStore> Intercept<S> for Lossy {
    async fn append_events(
        &self,
        store: &S,
        partition: u16,
        batch: &[Append],
    ) -> Result<Vec<AppendOutcome>, StoreError> {
        let outcomes = store.append_events(partition, batch).await?;
        let has_order = batch.iter().any(|append| append.stream.category() == "order");
        if has_order && self.0.load(Ordering::Relaxed) {
            return Err(StoreError::unavailable("the answer is lost"));
        }
        Ok(outcomes)
    }
}

fn admin(store: impl EventStore) -> Admin {
    let app = App::builder(store).aggregate::<Order>(()).build().unwrap();
    Admin::new(&app, Operator::named("ann"))
}

#[tokio::test(start_paused = true)]
async fn a_command_whose_outcome_is_unknown_is_sent_again_with_its_key() {
    let memory = InMemoryEventStore::new();
    let store = Intercepted::layered(memory.clone(), Lossy(AtomicBool::new(true)));
    let admin = admin(store.clone());
    let stream = Order::id("1").stream();
    let error = admin.send(&stream, "order.place", "{}", None).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    let AdminError::OutcomeUnknown { key, .. } = error else { panic!("{error}") };
    let entries = admin.audit(None, 1).await.unwrap().entries;
    assert_eq!(entries[0].id.to_string(), key, "the operation's id");
    store.0.store(false, Ordering::Relaxed);
    let sent = admin.send(&stream, "order.place", "{}", Some(&key)).await.unwrap();
    let events = memory.events(&stream);
    assert_eq!((sent.version, events.len()), (Version::new(1), 1));
    assert_eq!(events[0].metadata().unwrap().user.as_deref(), Some("ann"));
    admin.send(&stream, "order.place", "{}", None).await.unwrap();
    assert_eq!(memory.events(&stream).len(), 2, "another command");
}

#[tokio::test]
async fn a_rehearsal_says_that_a_stream_is_closed() {
    let store = InMemoryEventStore::new();
    let admin = admin(store.clone());
    let letters: Vec<_> = (1..=2).map(|n| message(n, OutboxKind::Dispatch)).collect();
    let partition = store.log().partition_of(&letters[0].sender);
    store.park(partition, &letters, "there was a bug").await.unwrap();
    let closed = Order::id("2").stream();
    admin.send(&closed, "order.place", "{}", None).await.unwrap();
    let event = EventId(Uuid::from_u128(9));
    store.close_stream(&closed, Version::new(1), event).await.unwrap();
    let run = admin.rehearse_dead_letters(&DeadLetterFilter::default(), |_| ()).await.unwrap();
    assert_eq!(run.would_pass, 1, "{run:?}");
    let errors: Vec<_> = run.would_fail.keys().collect();
    assert_eq!(errors, ["the recipient's stream is closed"]);
}
