//! What a store is made of.

use std::fmt;
use std::sync::{Arc, Mutex};

use composable_rust_core::{
    Clock, EventBus, EventStore, Reducer, SharedEventBus, SharedEventStore,
};
use tokio::sync::Notify;

use super::running::Running;
use super::shared::{CloneState, Core, StoreShared};
use super::subscription::Listeners;
use super::{ExecutableEffect, Store};
use crate::SystemClock;

/// A [`Store`] being built, with the ports that its effects go through.
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
#[must_use = "`build` makes the store"]
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

impl<R: ExecutableEffect> StoreBuilder<R> {
    pub(super) fn new(reducer: R, state: R::State, env: R::Environment) -> Self {
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

    /// The clock that delays and the deadline of a shutdown go by; the system's unless set.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Where `database` effects go. Without it they are refused.
    pub fn event_store(mut self, store: impl EventStore) -> Self {
        self.event_store = Some(SharedEventStore::new(store));
        self
    }

    /// Where `publish` effects go. Without it they are refused.
    pub fn event_bus(mut self, bus: impl EventBus) -> Self {
        self.bus = Some(SharedEventBus::new(bus));
        self
    }

    /// How many effects may be running when an action from outside is let in: 10,000 unless set,
    /// at least 1. While there are more, [`Store::send`] waits.
    ///
    /// What one action returns starts as a whole, and actions that effects bring back never wait,
    /// so the number can exceed the limit by what these add.
    pub fn max_effects(mut self, limit: usize) -> Self {
        self.max_effects = limit.max(1);
        self
    }

    /// How many items a subscriber may be behind before it loses the oldest: 1,024 unless set, at
    /// least 1, rounded up to a power of two.
    pub fn subscription_buffer(mut self, items: usize) -> Self {
        self.subscription_buffer = items.max(1);
        self
    }

    /// Keeps no copy of the state while an action is reduced. A reducer that panics, or returns an
    /// effect that cannot be executed, then takes the state with it: every later action is
    /// refused with [`ActionError::Poisoned`](super::ActionError::Poisoned).
    ///
    /// For states that are too large to be cloned for every action. The other way is to make the
    /// clone cheap, with persistent collections.
    pub fn poison_on_panic(mut self) -> Self {
        self.copy = None;
        self
    }

    /// The store.
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
