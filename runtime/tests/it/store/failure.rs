//! Panics, rejections, and unsupported effects.

use composable_rust_core::bus::BusMessage;
use composable_rust_core::composition::AggregateReducer;
use composable_rust_core::effect::{DbOperation, DispatchCommand, ReplyMode};
use composable_rust_core::message::AnyMessage;
use composable_rust_core::{
    Effect, Message, StreamId, Version, after, database, effects, future, parallel, prelude,
    publish, sequential,
};
use composable_rust_runtime::Store;
use composable_rust_runtime::reducer_store::{ActionError, EffectError, UnsupportedEffect};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};

use super::scripted::{Action, Note, Panic, SECOND, Script, notes, run, store};

#[tokio::test]
async fn a_panic_in_the_reducer_leaves_the_state_as_it_was() {
    let (store, _) = store();
    store.send(Note("a")).await.unwrap();
    let error = store.send(Panic).await.unwrap_err();
    assert!(
        matches!(&error, ActionError::Panicked { message } if message == "the reducer is broken")
    );
    assert_eq!(error.to_string(), "the reducer panicked: the reducer is broken");
    store.send(Note("b")).await.unwrap();
    assert_eq!(notes(&store), ["a", "b"]);
}

#[tokio::test]
async fn a_panic_on_a_returned_action_is_reported() {
    let (store, _) = store();
    let sent = store
        .send(run(|| effects![future(async { Some(Panic) }), future(async { Some(Note("b")) })]))
        .await
        .unwrap();
    let error = sent.finished().await.unwrap_err();
    assert!(matches!(error, EffectError::Action(ActionError::Panicked { .. })));
    assert_eq!(notes(&store), ["b"]);
}

#[tokio::test]
async fn a_panicking_effect_stops_no_other() {
    let (store, clock) = store();
    let action = run(|| {
        effects![
            parallel(effects![
                future(async { panic!("the effect is {}", "broken") }),
                after(SECOND, Note("beside it"))
            ]),
            after(SECOND * 2, Note("elsewhere")),
        ]
    });
    let sent = store.send(action).await.unwrap();
    clock.elapse(SECOND * 2).await;
    let error = sent.finished().await.unwrap_err();
    assert!(
        matches!(&error, EffectError::Panicked { message } if message == "the effect is broken")
    );
    assert_eq!(notes(&store), ["beside it", "elsewhere"]);
    assert_eq!(store.running(), 0);
}

#[tokio::test]
async fn a_failed_step_ends_its_sequence() {
    let (store, clock) = store();
    let action = run(|| {
        effects![
            sequential(effects![
                after(SECOND, Note("done")),
                sequential(effects![
                    parallel(effects![
                        future(async { panic!("broken") }),
                        after(SECOND, Note("beside it")),
                    ]),
                    after(SECOND, Note("inner rest")),
                ]),
                after(SECOND, Note("outer rest")),
            ]),
            sequential(effects![
                after(SECOND * 2, Note("another")),
                after(SECOND, Note("sequence"))
            ]),
        ]
    });
    let sent = store.send(action).await.unwrap();
    clock.elapse(SECOND * 9).await;
    sent.finished().await.unwrap_err();
    assert_eq!(notes(&store), ["done", "another", "beside it", "sequence"]);
}

#[tokio::test]
async fn a_future_that_panics_on_drop_still_counts_as_finished() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let (store, _) = store();
    let action = run(|| {
        let bomb = Bomb;
        let work = async move {
            let _bomb = bomb;
            std::future::pending().await
        };
        effects![future(work).with_id("bomb")]
    });
    let sent = store.send(action).await.unwrap();
    store.send(run(|| effects![prelude::cancel("bomb")])).await.unwrap();
    assert!(matches!(sent.finished().await, Err(EffectError::Panicked { .. })));
    assert_eq!(store.running(), 0);
}

#[tokio::test]
async fn a_poisoned_store_rejects_every_call() {
    let store = Store::builder(Script, Vec::new(), ()).poison_on_panic().build();
    store.send(Note("a")).await.unwrap();
    assert_eq!(notes(&store), ["a"]);
    assert!(matches!(store.send(Panic).await, Err(ActionError::Panicked { .. })));
    assert!(matches!(store.send(Note("b")).await, Err(ActionError::Poisoned)));
    store.wait(|_| true).await.unwrap_err();
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| notes(&store)));
    assert!(read.is_err(), "a half-applied state is never shown");
}

/// A rejected action changes nothing, even if the rejection is nested deep in its effects.
async fn refuses(effect: fn() -> Effect<Action>) -> UnsupportedEffect {
    let (store, _) = store();
    store.send(Note("a")).await.unwrap();
    let action = super::scripted::note_and("b", move || {
        effects![
            future(async { Some(Note("c")) }),
            parallel(effects![sequential(effects![effect()])]).with_id("x")
        ]
    });
    match store.send(action.clone()).await {
        Err(ActionError::Unsupported(unsupported)) => {
            let brought = run(move || {
                let action = action.clone();
                effects![future(async move { Some(action) })]
            });
            let error = store.send(brought).await.unwrap().finished().await.unwrap_err();
            assert!(
                matches!(&error, EffectError::Action(ActionError::Unsupported(same)) if *same == unsupported)
            );
            assert_eq!(notes(&store), ["a"]);
            assert_eq!(store.running(), 0);
            unsupported
        }
        other => panic!("not rejected: {other:?}"),
    }
}

#[tokio::test]
async fn durable_effects_name_the_handle() {
    let tell = || {
        Effect::DispatchCommand(Box::new(DispatchCommand {
            target: "door",
            recipient: StreamId::new("door", "2").unwrap(),
            command: AnyMessage::new(DoorCommand::Open),
            replies: ReplyMode::Unwanted,
        }))
    };
    let unsupported = refuses(tell).await;
    assert_eq!(unsupported, UnsupportedEffect::Dispatch { target: "door" });
    let text = unsupported.to_string();
    assert!(text.contains("`Handle`") && text.contains("`door`"), "{text}");
}

#[tokio::test]
async fn ports_that_are_missing_are_named() {
    let load = || {
        let stream = StreamId::new("door", "1").unwrap();
        database(DbOperation::LoadEvents { stream, after: Version::ZERO }, |_| Note("loaded"))
    };
    assert!(refuses(load).await.to_string().contains("StoreBuilder::event_store"));
    let publish = || {
        publish(BusMessage {
            topic: "doors".into(),
            key: "door-1".into(),
            headers: Vec::new(),
            payload: Vec::new(),
        })
    };
    assert!(refuses(publish).await.to_string().contains("StoreBuilder::event_bus"));
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Door {
    open: bool,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum DoorCommand {
    Open,
    OpenForAMoment,
    #[message(internal)]
    Close,
    AskNeighbour,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum DoorEvent {
    Opened,
    OpenedForAMoment,
    Closed,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum DoorError {
    AlreadyThere,
}

impl prelude::Aggregate for Door {
    const NAME: &'static str = "door";
    type Command = DoorCommand;
    type Event = DoorEvent;
    type Rejection = DoorError;
    type Environment = ();

    fn decide(&self, command: DoorCommand, _: &prelude::Context<Self>) -> prelude::Decision<Self> {
        use prelude::DecisionExt as _;
        use prelude::{record, reject, tell, unchanged};
        match (self.open, command) {
            (false, DoorCommand::Open) => record(DoorEvent::Opened),
            (false, DoorCommand::OpenForAMoment) => record(DoorEvent::OpenedForAMoment),
            (true, DoorCommand::Close) => record(DoorEvent::Closed),
            (_, DoorCommand::AskNeighbour) => unchanged().with(effects![tell(
                &prelude::Id::<Door>::parse("2").expect("an id"),
                DoorCommand::Open
            )]),
            _ => reject(DoorError::AlreadyThere),
        }
    }

    fn apply(&mut self, event: DoorEvent) {
        self.open = event != DoorEvent::Closed;
    }

    fn react(
        &self,
        event: &DoorEvent,
        _: &prelude::Context<Self>,
    ) -> prelude::Reactions<DoorCommand> {
        match event {
            DoorEvent::OpenedForAMoment => effects![after(SECOND, DoorCommand::Close)],
            _ => effects![],
        }
    }
}

fn door() -> (Store<AggregateReducer<Door>>, composable_rust_testing::MockClock) {
    let clock = composable_rust_testing::MockClock::new();
    let reducer = AggregateReducer::<Door>::new("1".parse().unwrap());
    (Store::builder(reducer, Door::default(), ()).clock(clock.clone()).build(), clock)
}

#[tokio::test]
async fn an_aggregate_runs_in_a_store() {
    let (store, clock) = door();
    let mut recorded = store.recorded();
    store.send(DoorCommand::OpenForAMoment).await.unwrap();
    assert!(store.state(|door| door.open));
    clock.elapse(SECOND).await;
    assert!(!store.state(|door| door.open));
    store.shutdown(SECOND).await;
    let mut events = Vec::new();
    while let Some(event) = recorded.next().await {
        events.push(event.unwrap().downcast_ref::<DoorEvent>().cloned().unwrap());
    }
    assert_eq!(events, [DoorEvent::OpenedForAMoment, DoorEvent::Closed]);
}

#[tokio::test]
async fn a_rejection_reaches_the_sender() {
    let (store, _) = door();
    store.send(DoorCommand::Open).await.unwrap();
    let error = store.send(DoorCommand::Open).await.unwrap_err();
    assert_eq!(error.rejection(), Some(&DoorError::AlreadyThere));
    assert_eq!(error.rejection::<DoorCommand>(), None);
    let ActionError::Rejected(rejected) = error else { panic!("another error") };
    assert_eq!(rejected.code(), "door.already_there");
    assert_eq!(rejected.to_string(), "rejected: door.already_there");
    assert_eq!(rejected.downcast_ref(), Some(&DoorError::AlreadyThere));
    let rejected = rejected.downcast::<DoorCommand>().unwrap_err();
    assert_eq!(rejected.clone().downcast(), Ok(DoorError::AlreadyThere));
    assert_eq!(rejected.into_message(), AnyMessage::new(DoorError::AlreadyThere));
}

#[tokio::test]
async fn a_rejection_of_a_returned_action_is_no_failure() {
    let (store, clock) = door();
    let sent = store.send(DoorCommand::OpenForAMoment).await.unwrap();
    store.send(DoorCommand::Close).await.unwrap();
    clock.elapse(SECOND).await;
    sent.finished().await.unwrap();
}

#[tokio::test]
async fn an_aggregate_with_durable_effects_needs_a_handle() {
    let (store, _) = door();
    let error = store.send(DoorCommand::AskNeighbour).await.unwrap_err();
    assert!(matches!(
        error,
        ActionError::Unsupported(UnsupportedEffect::Dispatch { target: "door" })
    ));
}
