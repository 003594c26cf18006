//! Effects that tests expect, and comparable copies of returned effects.

use composable_rust_core::effect::DatabaseEffect;
use composable_rust_core::message::AnyMessage;
use composable_rust_core::{Effect, Effects, Message, future};

/// Stands for any future among the effects that a test expects, because futures cannot be compared.
/// The action that a future returns shows what it did.
///
/// ```
/// use composable_rust_core::prelude::*;
/// use composable_rust_testing::{TestStore, any_future};
///
/// struct Weather;
/// #[derive(Debug, Clone, PartialEq)]
/// enum Action { Ask, Told(i32) }
///
/// impl Reducer for Weather {
///     type State = Option<i32>;
///     type Action = Action;
///     type Environment = ();
///
///     fn reduce(&self, degrees: &mut Option<i32>, action: Action, _: &()) -> Effects<Action> {
///         match action {
///             Action::Ask => return effects![future(async { Some(Action::Told(21)) })],
///             Action::Told(now) => *degrees = Some(now),
///         }
///         effects![]
///     }
/// }
///
/// let mut store = TestStore::new(Weather, None, ());
/// store.send(Action::Ask, |_| {});
/// store.effects(effects![any_future()]);
/// store.receive(Action::Told(21), |degrees| *degrees = Some(21));
/// store.finish();
/// ```
pub fn any_future<A: 'static>() -> Effect<A> {
    future(std::future::pending())
}

/// The effect by which an
/// [`AggregateReducer`](composable_rust_core::composition::AggregateReducer) records `event`.
pub fn recording<A>(event: impl Message) -> Effect<A> {
    Effect::Record(AnyMessage::new(event))
}

/// The effect by which an
/// [`AggregateReducer`](composable_rust_core::composition::AggregateReducer) rejects with
/// `rejection`.
pub fn rejecting<A>(rejection: impl Message) -> Effect<A> {
    Effect::Reject(AnyMessage::new(rejection))
}

/// A copy to compare and print, since running an effect consumes it.
pub(super) fn copies<A: Clone + 'static>(effects: &Effects<A>) -> Effects<A> {
    effects.iter().map(copy).collect()
}

fn copy<A: Clone + 'static>(effect: &Effect<A>) -> Effect<A> {
    match effect {
        Effect::PublishEvent(message) => Effect::PublishEvent(message.clone()),
        Effect::DispatchCommand(dispatch) => Effect::DispatchCommand(dispatch.clone()),
        Effect::CallGateway(call) => Effect::CallGateway(call.clone()),
        Effect::Reply(answer) => Effect::Reply(answer.clone()),
        Effect::Delay(delay) => Effect::Delay(delay.clone()),
        Effect::Cancel(id) => Effect::Cancel(id.clone()),
        Effect::Cancellable(id, effect) => Effect::Cancellable(id.clone(), Box::new(copy(effect))),
        Effect::Database(database) => Effect::Database(Box::new(DatabaseEffect {
            operation: database.operation.clone(),
            then: database.then.clone(),
        })),
        Effect::Parallel(effects) => Effect::Parallel(effects.iter().map(copy).collect()),
        Effect::Sequential(effects) => Effect::Sequential(effects.iter().map(copy).collect()),
        Effect::Future(_) => any_future(),
        Effect::Record(event) => Effect::Record(event.clone()),
        Effect::Reject(rejection) => Effect::Reject(rejection.clone()),
        _ => panic!(
            "this version of composable-rust-testing does not know an effect of composable-rust-core"
        ),
    }
}
