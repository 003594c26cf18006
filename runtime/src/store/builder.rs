//! Configuring a store.

use std::fmt;
use std::sync::{Arc, Mutex};

use composable_rust_core::Reducer;
use composable_rust_core::bus::{EventBus, SharedEventBus};
use composable_rust_core::environment::Clock;
use composable_rust_core::store::{EventStore, SharedEventStore};
use tokio::sync::Notify;

use super::running::Running;
use super::shared::{CloneState, Core, StoreShared};
use super::subscription::Listeners;
use super::{Store, StoreReducer};
use crate::environment::SystemClock;

/// The configuration of a [`Store`]: the ports that its effects use, and its limits.
///
/// # Example: a store whose effects use an event store, and which admits 100 effects at a time
///
/// ```
/// # use composable_rust_core::prelude::*;
/// # use composable_rust_runtime::Store;
/// # use composable_rust_testing::InMemoryEventStore;
/// # struct Counter;
/// # impl Reducer for Counter { type State = i64; type Action = i64; type Environment = ();
/// #   fn reduce(&self, s: &mut i64, a: i64, _: &()) -> Effects<i64> { *s += a; Effects::none() } }
/// let store = Store::builder(Counter, 0, ())
///     .event_store(InMemoryEventStore::new())
///     .max_effects(100)
///     .build();
/// assert_eq!(store.state(|count| *count), 0);
/// ```
#[must_use = "`build` creates the store"]
pub struct StoreBuilder<R: Reducer> {
    reducer: R,
    state: R::State,
    env: R::Environment,
    copy: Option<CloneState<R::State>>,
    clock: Arc<dyn Clock>,
    event_store: Option<SharedEventStore>,
    bus: Option<SharedEventBus>,
    max_effects: usize,
    subscription_buffer: usize,
}

impl<R: StoreReducer> Store<R> {
    /// Creates a store that runs `reducer`, with the initial state `state`, the system's clock and
    /// no other ports.
    pub fn new(reducer: R, state: R::State, env: R::Environment) -> Self {
        Self::builder(reducer, state, env).build()
    }

    /// Starts the configuration of a store with other ports or limits.
    pub fn builder(reducer: R, state: R::State, env: R::Environment) -> StoreBuilder<R> {
        StoreBuilder::new(reducer, state, env)
    }
}

impl<R: StoreReducer> StoreBuilder<R> {
    fn new(reducer: R, state: R::State, env: R::Environment) -> Self {
        Self {
            reducer,
            state,
            env,
            copy: Some(Clone::clone),
            clock: Arc::new(SystemClock),
            event_store: None,
            bus: None,
            max_effects: 10_000,
            subscription_buffer: 1_024,
        }
    }

    /// Sets the clock of delays and of the deadline of a shutdown. Default: the system's.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the event store for `database` effects. Default: none; an action that returns such an
    /// effect fails.
    pub fn event_store(mut self, store: impl EventStore) -> Self {
        self.event_store = Some(SharedEventStore::new(store));
        self
    }

    /// Sets the bus for `publish` effects. Default: none; an action that returns such an effect
    /// fails.
    pub fn event_bus(mut self, bus: impl EventBus) -> Self {
        self.bus = Some(SharedEventBus::new(bus));
        self
    }

    /// Sets the maximum number of running effects: [`Store::send`] waits while there are as many.
    /// Default: 10,000. At least 1.
    ///
    /// All effects of an action start at once, and actions that effects bring back never wait, so
    /// the number of running effects can exceed the limit.
    pub fn max_effects(mut self, limit: usize) -> Self {
        self.max_effects = limit.max(1);
        self
    }

    /// Sets the number of items that a subscriber can fall behind before it loses the oldest.
    /// Default: 1,024. At least 1; rounded up to a power of two.
    pub fn subscription_buffer(mut self, items: usize) -> Self {
        self.subscription_buffer = items.max(1);
        self
    }

    /// Keeps no copy of the state while an action is reduced. If the reducer panics, or returns an
    /// effect that cannot be executed, the state is lost: every later action fails with
    /// [`ActionError::Poisoned`](super::ActionError::Poisoned).
    ///
    /// Use this for states that are too large to be cloned for every action. The alternative is to
    /// make the clone cheap, with persistent collections.
    pub fn poison_on_panic(mut self) -> Self {
        self.copy = None;
        self
    }

    /// Creates the store.
    #[must_use]
    pub fn build(self) -> Store<R> {
        let core = Core {
            state: self.state,
            poisoned: false,
            closed: false,
            running: Running::default(),
            actions: Listeners::none(),
            recorded: Listeners::none(),
            changed: None,
        };
        Store::from_shared(StoreShared {
            reducer: self.reducer,
            env: self.env,
            copy: self.copy,
            clock: self.clock,
            event_store: self.event_store,
            bus: self.bus,
            max_effects: self.max_effects,
            subscription_buffer: self.subscription_buffer,
            core: Mutex::new(core),
            room: Notify::new(),
            idle: Notify::new(),
        })
    }
}

impl<R: Reducer> fmt::Debug for StoreBuilder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreBuilder")
            .field("clock", &self.clock)
            .field("event_store", &self.event_store)
            .field("bus", &self.bus.is_some())
            .field("max_effects", &self.max_effects)
            .field("subscription_buffer", &self.subscription_buffer)
            .finish_non_exhaustive()
    }
}
