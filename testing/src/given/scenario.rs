use std::fmt;
use std::sync::Arc;

use composable_rust_core::message::Incoming;
use composable_rust_core::{
    Aggregate, CorrelationId, Id, MessageId, Metadata, TargetExt as _, Timestamp,
};

use super::check;
use super::environment::{DefaultEnvironment, EnvironmentSource, ProvidedEnvironment};
use super::when::When;
use crate::SequentialIds;

/// An instance of `A` with the history `events`; the start of an aggregate's test.
///
/// ```text
/// given::<Order>([events]).when(command).then([events])
/// ```
///
/// Calls between `given` and `when` are optional: [`at`](Given::at), [`by`](Given::by),
/// [`id`](Given::id), [`env`](Given::env). After `when`, assert the outcome ([`then`](When::then),
/// [`then_rejected`](When::then_rejected), [`then_unchanged`](When::then_unchanged),
/// [`then_repeated`](When::then_repeated)), the durable effects ([`reacts`](When::reacts)) and,
/// where it matters, the state ([`then_state`](When::then_state)). The test fails if it does not
/// assert the outcome and the effects. Another `when` may follow.
///
/// # Checks of every `when`
///
/// - Every event, the command and the rejection survive encoding in the default codec and in JSON,
///   and the state survives a snapshot.
/// - Deciding twice gives the same outcome, and folding twice the same state.
/// - An app accepts the durable effects: commands sent by `after` and `at` are
///   `#[message(internal)]`, those sent by `dispatch` and `tell` are not.
///
/// # Example: a door
///
/// ```
/// use composable_rust_core::prelude::*;
/// use composable_rust_testing::given;
/// use serde::{Deserialize, Serialize};
/// use std::time::Duration;
///
/// #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
/// enum Door {
///     #[default]
///     Closed,
///     Open { since: Option<Timestamp> },
/// }
///
/// #[derive(Debug, Clone, PartialEq, Message)]
/// enum DoorCommand { Open, #[message(internal)] CloseItself }
///
/// #[derive(Debug, Clone, PartialEq, Message)]
/// enum DoorEvent { Opened { at: Timestamp }, Closed }
///
/// #[derive(Debug, Clone, PartialEq, Message)]
/// enum DoorError { AlreadyOpen }
///
/// use {DoorCommand::*, DoorError::*, DoorEvent::*};
///
/// impl Aggregate for Door {
///     const NAME: &'static str = "door";
///     type Command = DoorCommand;
///     type Event = DoorEvent;
///     type Rejection = DoorError;
///     type Environment = ();
///
///     fn decide(&self, command: DoorCommand, ctx: &Context<Self>) -> Decision<Self> {
///         match (self, command) {
///             (Door::Closed, Open) => record(Opened { at: ctx.now() }),
///             (Door::Open { .. }, Open) => reject(AlreadyOpen),
///             (Door::Open { .. }, CloseItself) => record(Closed),
///             (Door::Closed, CloseItself) => unchanged(),
///         }
///     }
///
///     fn apply(&mut self, event: DoorEvent) {
///         *self = match event {
///             Opened { at } => Door::Open { since: Some(at) },
///             Closed => Door::Closed,
///         };
///     }
///
///     fn react(&self, event: &DoorEvent, _: &Context<Self>) -> Reactions<DoorCommand> {
///         match event {
///             Opened { .. } => effects![after(Duration::from_secs(30), CloseItself)],
///             Closed => effects![],
///         }
///     }
/// }
///
/// let noon: Timestamp = "2025-03-01T12:00:00Z".parse().unwrap();
///
/// given::<Door>([])
///     .at(noon)
///     .when(Open)
///     .then([Opened { at: noon }])
///     .reacts(effects![after(Duration::from_secs(30), CloseItself)])
///     .when(Open)
///     .then_rejected(AlreadyOpen);
///
/// given::<Door>([Opened { at: noon }]).when(CloseItself).then([Closed]).then_state(Door::Closed);
/// given::<Door>([]).when(CloseItself).then_unchanged();
/// ```
#[track_caller]
pub fn given<A: Aggregate>(events: impl IntoIterator<Item = A::Event>) -> Given<A> {
    let mut scenario = Scenario {
        id: A::id("1"),
        now: Timestamp::EPOCH,
        user: None,
        commands: 0,
        history: Vec::new(),
        state: A::default(),
    };
    for event in events {
        if let Some(failure) = check::event("The given event", &event) {
            failure.raise();
        }
        scenario.happen(event);
    }
    if let Some(failure) = check::fold(&scenario) {
        failure.raise();
    }
    Given { scenario, env: DefaultEnvironment(()) }
}

/// An instance and its history, before a command; see [`given`].
#[must_use = "nothing is tested before `.when(…)`"]
pub struct Given<A: Aggregate, E = DefaultEnvironment> {
    pub(super) scenario: Scenario<A>,
    pub(super) env: E,
}

/// The history so far.
#[derive(Debug)]
pub(super) struct Scenario<A: Aggregate> {
    pub(super) id: Id<A>,
    pub(super) now: Timestamp,
    user: Option<String>,
    /// The number of commands so far.
    commands: u64,
    pub(super) history: Vec<A::Event>,
    pub(super) state: A,
}

impl<A: Aggregate> Scenario<A> {
    pub(super) fn happen(&mut self, event: A::Event) {
        self.history.push(event.clone());
        self.state.apply(event);
    }

    /// The next command with its surroundings.
    pub(super) fn next_incoming(&mut self) -> Incoming {
        self.commands += 1;
        let message = SequentialIds::nth(self.commands);
        Incoming {
            message_id: MessageId(message),
            metadata: Metadata {
                correlation_id: CorrelationId(message),
                causation_id: message,
                user: self.user.clone(),
                user_from: None,
                traceparent: None,
                return_addresses: Vec::new(),
                reply: None,
                follower: None,
            },
            now: self.now,
        }
    }
}

impl<A: Aggregate, E> Given<A, E> {
    /// Sets the arrival time of the next commands. Default: [`Timestamp::EPOCH`].
    pub fn at(mut self, now: Timestamp) -> Self {
        self.scenario.now = now;
        self
    }

    /// Sets the user who sends the next commands. Default: none.
    pub fn by(mut self, user: impl Into<String>) -> Self {
        self.scenario.user = Some(user.into());
        self
    }

    /// Sets the id of the instance. Default: `1`.
    pub fn id(mut self, id: Id<A>) -> Self {
        self.scenario.id = id;
        self
    }

    /// Sets the environment. Default: the environment's own default. For an environment without
    /// one, omitting this call does not compile:
    ///
    /// ```compile_fail
    /// # use composable_rust_core::prelude::*;
    /// # use composable_rust_testing::given;
    /// # #[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
    /// # struct Shop;
    /// # #[derive(Debug, Clone, PartialEq, Message)] enum ShopCommand { Sell }
    /// # #[derive(Debug, Clone, PartialEq, Message)] enum ShopEvent { Sold }
    /// # #[derive(Debug, Clone, PartialEq, Message)] enum ShopError { Closed }
    /// # struct Prices;
    /// # impl Aggregate for Shop {
    /// #     const NAME: &'static str = "shop";
    /// #     type Command = ShopCommand; type Event = ShopEvent; type Rejection = ShopError;
    /// #     type Environment = Prices;
    /// #     fn decide(&self, _: ShopCommand, _: &Context<Self>) -> Decision<Self> {
    /// #         record(ShopEvent::Sold)
    /// #     }
    /// #     fn apply(&mut self, _: ShopEvent) {}
    /// # }
    /// // struct Prices; without a default
    /// given::<Shop>([]).when(ShopCommand::Sell).then([ShopEvent::Sold]);
    /// ```
    pub fn env(self, env: A::Environment) -> Given<A, ProvidedEnvironment<A>> {
        Given { scenario: self.scenario, env: ProvidedEnvironment(Arc::new(env)) }
    }

    /// Sends `command`, and runs the checks that [`given`] lists.
    ///
    /// # Panics
    ///
    /// Panics if a check fails.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "a test writes it where it sends it")]
    pub fn when(self, command: A::Command) -> When<A>
    where
        E: EnvironmentSource<A>,
    {
        When::decide(self.scenario, self.env.environment(), &command)
    }
}

impl<A: Aggregate, E> fmt::Debug for Given<A, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").field("scenario", &self.scenario).finish_non_exhaustive()
    }
}
