//! Each kind of effect, in a store.

use std::sync::{Arc, Mutex};

use composable_rust_core::bus::{
    BusError, BusMessage, Delivery, EventBus, GroupOffset, PublishError, Publisher, PublisherName,
    ResumePosition, TopicOffset,
};
use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::effect::{DbOperation, DbOutcome};
use composable_rust_core::environment::Clock as _;
use composable_rust_core::event::NewEvent;
use composable_rust_core::store::{
    Append, AppendOutcome, ExpectedVersion, Fingerprint, Snapshot, StoreError,
};
use composable_rust_core::{
    EventId, StreamId, Timestamp, Version, after, at, database, effects, future, parallel, publish,
};
use composable_rust_runtime::Store;
use composable_rust_runtime::reducer_store::EffectError;
use composable_rust_testing::InMemoryEventStore;

use super::scripted::{Action, Note, SECOND, Script, note_and, notes, run, settle, slow, store};

#[tokio::test]
async fn a_send_without_effects_finishes_at_once() {
    let (store, _) = store();
    let sent = store.send(Note("a")).await.unwrap();
    assert_eq!(notes(&store), ["a"]);
    sent.finished().await.unwrap();
}

#[tokio::test]
async fn a_future_returns_its_action() {
    let (store, _) = store();
    let sent = store
        .send(run(|| effects![future(async { Some(Note("back")) }), future(async { None })]))
        .await
        .unwrap();
    assert_eq!(notes(&store), [""; 0], "`send` returns after the reduction");
    sent.finished().await.unwrap();
    assert_eq!(notes(&store), ["back"]);
}

#[tokio::test]
async fn finished_waits_for_effects_of_returned_actions_too() {
    let (store, clock) = store();
    let last = clock.clone();
    let action = run(move || {
        let last = last.clone();
        let second = note_and("second", move || effects![slow(&last, 5, "third")]);
        effects![after(SECOND, second)]
    });
    let sent = store.send(action).await.unwrap();
    let finished = tokio::spawn(async move { sent.finished().await });
    clock.elapse(SECOND * 4).await;
    assert_eq!(notes(&store), ["second"]);
    assert!(!finished.is_finished());
    clock.elapse(SECOND * 2).await;
    assert_eq!(notes(&store), ["second", "third"]);
    assert!(finished.is_finished());
    finished.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_dropped_wait_can_be_repeated() {
    let (store, clock) = store();
    let sent = store.send(run(|| effects![after(SECOND, Note("late"))])).await.unwrap();
    {
        let mut first = std::pin::pin!(sent.finished());
        assert!(futures_util::poll!(first.as_mut()).is_pending());
    }
    clock.elapse(SECOND).await;
    sent.finished().await.unwrap();
    assert_eq!(notes(&store), ["late"]);
}

#[tokio::test]
async fn delays_run_on_the_clock_from_the_moment_of_the_send() {
    let (store, clock) = store();
    let moment = clock.now() + SECOND * 2;
    let action = run(move || {
        effects![
            after(SECOND * 3, Note("3")),
            at(moment, Note("2")),
            after(SECOND, Note("1")),
            at(Timestamp::EPOCH, Note("passed")),
        ]
    });
    store.send(action).await.unwrap();
    // No task has run since, but the clock has moved.
    clock.advance(SECOND);
    settle().await;
    assert_eq!(notes(&store), ["1", "passed"]);
    clock.elapse(SECOND * 2).await;
    assert_eq!(notes(&store), ["1", "passed", "2", "3"]);
}

#[tokio::test]
async fn effects_of_one_action_run_concurrently() {
    let (store, clock) = store();
    let c = clock.clone();
    let action = run(move || {
        effects![
            parallel(effects![slow(&c, 1, "1"), slow(&c, 2, "2")]),
            parallel(effects![parallel(effects![slow(&c, 1, "1'")])]),
        ]
    });
    store.send(action).await.unwrap();
    assert_eq!(store.running(), 3);
    clock.elapse(SECOND * 2).await;
    assert_eq!(notes(&store), ["1", "1'", "2"]);
}

fn note(text: &'static str) -> Action {
    Note(text)
}

fn stream() -> StreamId {
    StreamId::new("door", "1").unwrap()
}

fn opened() -> NewEvent {
    let content = EncodedMessage {
        name: "door.opened".into(),
        version: 1,
        codec: "json".into(),
        bytes: b"{}".to_vec(),
    };
    NewEvent { id: EventId(uuid::Uuid::from_u128(1)), content, metadata: String::new() }
}

#[tokio::test]
async fn database_effects_go_through_the_event_store() {
    let log = InMemoryEventStore::new();
    let store = Store::builder(Script, Vec::new(), ()).event_store(log.clone()).build();
    let say = |operation: fn() -> DbOperation,
               then: fn(Result<DbOutcome, StoreError>) -> Action| {
        let store = store.clone();
        async move {
            let action = run(move || effects![database(operation(), then)]);
            store.send(action).await.unwrap().finished().await.unwrap();
        }
    };
    let append = || {
        let append = Append::new(stream(), ExpectedVersion::EMPTY).with_events(vec![opened()]);
        DbOperation::AppendEvents(Box::new(append))
    };
    say(append, |result| match result {
        Ok(DbOutcome::Appended(AppendOutcome::Committed { .. })) => note("appended"),
        _ => note("not appended"),
    })
    .await;
    let load = || DbOperation::LoadEvents { stream: stream(), after: Version::ZERO };
    say(load, |result| match result {
        Ok(DbOutcome::Events(events)) if events.len() == 1 => note("loaded"),
        _ => note("not loaded"),
    })
    .await;
    let save = || {
        let snapshot = Snapshot {
            version: Version::ZERO.next(),
            fingerprint: Fingerprint(7),
            codec: "json".into(),
            bytes: b"{}".to_vec(),
        };
        DbOperation::SaveSnapshot { stream: stream(), snapshot, last: opened().id }
    };
    say(save, |result| match result {
        Ok(DbOutcome::Saved) => note("saved"),
        _ => note("not saved"),
    })
    .await;
    let restore = || DbOperation::LoadSnapshot { stream: stream(), fingerprint: Fingerprint(7) };
    say(restore, |result| match result {
        Ok(DbOutcome::Snapshot(Some(_))) => note("restored"),
        _ => note("not restored"),
    })
    .await;
    assert_eq!(notes(&store), ["appended", "loaded", "saved", "restored"]);
    assert_eq!(log.events(&stream()).len(), 1);
}

/// Collects published messages, and rejects the topic `down`.
#[derive(Clone, Default)]
struct Recording(Arc<Mutex<Vec<BusMessage>>>);

struct Never;

impl Delivery for Never {
    fn message(&self) -> &BusMessage {
        unreachable!("nothing is delivered")
    }

    fn offset(&self) -> TopicOffset {
        unreachable!("nothing is delivered")
    }

    fn published_at(&self) -> Option<Timestamp> {
        unreachable!("nothing is delivered")
    }

    async fn acknowledge(self) -> Result<(), BusError> {
        Ok(())
    }
}

impl Publisher for Never {
    async fn resume_position(&mut self) -> Result<Option<ResumePosition>, PublishError> {
        unreachable!("no publisher is opened")
    }

    async fn publish_batch(
        &mut self,
        _: Vec<BusMessage>,
        _: Option<ResumePosition>,
    ) -> Result<(), PublishError> {
        unreachable!("no publisher is opened")
    }
}

impl EventBus for Recording {
    type Delivery = Never;
    type Deliveries = futures_util::stream::Empty<Result<Never, BusError>>;
    type Publisher = Never;

    async fn publish(&self, message: BusMessage) -> Result<(), PublishError> {
        if message.topic == "down" {
            return Err(BusError::new("no broker").into());
        }
        self.0.lock().unwrap().push(message);
        Ok(())
    }

    async fn publish_to_existing(&self, message: BusMessage) -> Result<(), PublishError> {
        self.publish(message).await
    }

    async fn subscribe(
        &self,
        _: &str,
        _: &[String],
        _: &[GroupOffset],
    ) -> Result<Self::Deliveries, BusError> {
        Ok(futures_util::stream::empty())
    }

    async fn publisher(&self, _: &PublisherName) -> Result<Never, BusError> {
        Err(BusError::new("nothing is published in batches"))
    }

    fn max_payload_bytes(&self) -> Option<usize> {
        None
    }
}

fn message(topic: &str) -> BusMessage {
    let (topic, payload) = (topic.to_owned(), b"hello".to_vec());
    BusMessage { topic, key: "door-1".into(), headers: Vec::new(), payload }
}

#[tokio::test]
async fn publish_effects_go_through_the_bus() {
    let bus = Recording::default();
    let store = Store::builder(Script, Vec::new(), ()).event_bus(bus.clone()).build();
    let action = run(|| effects![publish(message("doors"))]);
    store.send(action).await.unwrap().finished().await.unwrap();
    assert_eq!(*bus.0.lock().unwrap(), [message("doors")]);
}

#[tokio::test]
async fn a_rejection_by_the_bus_is_reported() {
    let store = Store::builder(Script, Vec::new(), ()).event_bus(Recording::default()).build();
    let action = run(|| effects![publish(message("down")), publish(message("doors"))]);
    let error = store.send(action).await.unwrap().finished().await.unwrap_err();
    assert!(matches!(&error, EffectError::Publish { topic, .. } if topic == "down"));
    assert_eq!(error.to_string(), "failed to publish a message to `down`");
    assert!(std::error::Error::source(&error).is_some());
}
