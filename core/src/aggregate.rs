//! Aggregates: a reducer split into three pure functions.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Context, Decision, Message, Reactions};

/// A state that changes only by events, and the rules that turn commands into events. `Self` is the
/// state; its default is the state before the first event.
///
/// - [`decide`](Aggregate::decide) turns a command into events, based on the state. It cannot
///   change the state and does no I/O.
/// - [`apply`](Aggregate::apply) changes the state, and is the only function that does. Replay
///   calls `apply` alone. It cannot fail, and reads no clock and draws no ids.
/// - [`react`](Aggregate::react) returns the durable effects of an event. The runtime calls it when
///   the event is recorded, and never during replay.
///
/// The events and all their effects commit together or not at all.
///
/// # Example: a two-command aggregate
///
/// ```
/// use composable_rust_core::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
/// enum Door {
///     #[default]
///     Closed,
///     Open,
/// }
///
/// #[derive(Debug, Clone, PartialEq, Message)]
/// enum DoorCommand { Open, Close }
///
/// #[derive(Debug, Clone, PartialEq, Message)]
/// enum DoorEvent { Opened, Closed }
///
/// #[derive(Debug, Clone, PartialEq, Message)]
/// enum DoorError { AlreadyThere }
///
/// impl Aggregate for Door {
///     const NAME: &'static str = "door";
///     type Command = DoorCommand;
///     type Event = DoorEvent;
///     type Rejection = DoorError;
///     type Environment = ();
///
///     fn decide(&self, command: DoorCommand, _: &Context<Self>) -> Decision<Self> {
///         match (self, command) {
///             (Door::Closed, DoorCommand::Open) => record(DoorEvent::Opened),
///             (Door::Open, DoorCommand::Close) => record(DoorEvent::Closed),
///             _ => reject(DoorError::AlreadyThere),
///         }
///     }
///
///     fn apply(&mut self, event: DoorEvent) {
///         *self = match event {
///             DoorEvent::Opened => Door::Open,
///             DoorEvent::Closed => Door::Closed,
///         };
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an aggregate",
    label = "neither an `Aggregate` nor another service's `Target`",
    note = "implement `Aggregate` for `{Self}`; or `Target`, if its instances live in another service"
)]
pub trait Aggregate:
    Default + Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The category of the instances' streams: `[a-z][a-z0-9_]*`, at most 64 bytes. It is part of
    /// the stored streams' names, so it must not change.
    const NAME: &'static str;
    /// The commands it handles.
    type Command: Message;
    /// The events it records.
    type Event: Message;
    /// The reasons for which it rejects a command.
    type Rejection: Message;
    /// The data that `decide` and `react` may use besides state and message, such as prices or
    /// limits; `()` if none. All instances share it.
    type Environment: Send + Sync + 'static;

    /// The snapshot version. Increment it when `apply` leads to another state than before;
    /// snapshots of other versions are ignored. Default: 1.
    const SNAPSHOT_VERSION: u32 = 1;

    /// Decides the events that `command` leads to, or rejects it.
    fn decide(&self, command: Self::Command, ctx: &Context<Self>) -> Decision<Self>;

    /// Applies `event` to the state.
    fn apply(&mut self, event: Self::Event);

    /// Returns the durable effects of `event`. `self` is the state just after the event.
    #[expect(unused_variables, reason = "the default reacts to nothing")]
    fn react(&self, event: &Self::Event, ctx: &Context<Self>) -> Reactions<Self::Command> {
        Reactions::none()
    }

    /// Returns `true` if the instance has no work left. The append after which it returns `true`
    /// also deletes the instance's timers. Default: `false`.
    fn is_finished(&self) -> bool {
        false
    }
}
