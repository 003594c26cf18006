//! The reducer cut into three pure functions.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Context, Decision, Message, Reactions};

/// A state that changes only by events, and the rules by which commands become events. `Self` is
/// the state; its default is the state before the first event.
///
/// - [`decide`](Aggregate::decide) looks at the state and a command and says what happens. It
///   cannot change the state and does no I/O.
/// - [`apply`](Aggregate::apply) is the only place where the state changes. Replay calls only this,
///   so it must not refuse and has neither a clock nor ids.
/// - [`react`](Aggregate::react) says what follows durably from an event. It is called when the
///   event is recorded and never in a replay.
///
/// The events and all that follows from them commit together or not at all.
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
    /// The stream category, `[a-z][a-z0-9_]*`, at most 64 bytes. It is stored: it must not change.
    const NAME: &'static str;
    /// What it is asked.
    type Command: Message;
    /// What happened to it.
    type Event: Message;
    /// Why it refuses.
    type Rejection: Message;
    /// What `decide` and `react` may look at besides state and message, such as prices or limits;
    /// `()` if nothing. The same for all instances.
    type Environment: Send + Sync + 'static;

    /// Raised when `apply` changes its meaning: snapshots of older folds lapse.
    const SNAPSHOT_VERSION: u32 = 1;

    /// What happens when `command` arrives.
    fn decide(&self, command: Self::Command, ctx: &Context<Self>) -> Decision<Self>;

    /// Changes the state as `event` says.
    fn apply(&mut self, event: Self::Event);

    /// What follows durably from `event`; the state is the one just after it.
    #[expect(unused_variables, reason = "the default reacts to nothing")]
    fn react(&self, event: &Self::Event, ctx: &Context<Self>) -> Reactions<Self::Command> {
        Reactions::none()
    }

    /// Whether nothing more will happen to the instance. The append that makes it true also
    /// deletes the instance's timers.
    fn is_finished(&self) -> bool {
        false
    }
}
