//! The store: state, actions, subscriptions.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;

use composable_rust_core::Reducer;
use composable_rust_core::message::AnyMessage;
use tokio::sync::watch;

use super::shared::StoreShared;
use super::subscription::Subscription;
use super::{ActionError, SendHandle, StoreClosed, StoreReducer};

/// Runs a reducer in memory. Cheap to clone; clones share the state.
///
/// Actions are reduced one at a time, under a lock. The effects that an action returns run as tasks
/// of the tokio runtime:
///
/// - The effects of one action, and those of a `parallel`, start in order and run concurrently. A
///   panic or failure of one does not affect the others.
/// - A step of a `sequential` starts when the previous step has ended: its work is done and the
///   action that it brought back is reduced. The effects of that action are not waited for. A
///   cancelled step has ended; after a step that failed, the rest is skipped.
/// - An effect with an id replaces the running effect of the same id. Once an action that cancels
///   an effect is reduced, the effect brings no action back. The effects of an action are not part
///   of the effect that brought the action back: cancelling that effect does not cancel them.
/// - If the reducer panics, or returns an effect that this store cannot execute, the action has no
///   effect: the state is restored from a copy. So the state is cloned for each action: keep large
///   parts in persistent collections, or choose
///   [`poison_on_panic`](super::StoreBuilder::poison_on_panic).
/// - A failed effect is logged, and reported by [`SendHandle::finished`].
///
/// Nothing survives the process, so durable effects (`dispatch`, `tell`, `call`) are rejected: run
/// the aggregate with a `Handle`.
///
/// # Example: a counter that also counts later
///
/// ```
/// use std::time::Duration;
///
/// use composable_rust_core::{effects, prelude::*};
/// use composable_rust_runtime::Store;
///
/// struct Counter;
///
/// #[derive(Clone)]
/// enum Action { Increment, IncrementLater }
///
/// impl Reducer for Counter {
///     type State = i64;
///     type Action = Action;
///     type Environment = ();
///
///     fn reduce(&self, count: &mut i64, action: Action, _: &()) -> Effects<Action> {
///         match action {
///             Action::Increment => {
///                 *count += 1;
///                 effects![]
///             }
///             Action::IncrementLater => {
///                 effects![after(Duration::from_millis(1), Action::Increment)]
///             }
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Store::new(Counter, 0, ());
/// store.send(Action::Increment).await?;
/// store.send(Action::IncrementLater).await?.finished().await?;
/// assert_eq!(store.state(|count| *count), 2);
/// # Ok(())
/// # }
/// ```
pub struct Store<R: Reducer> {
    pub(super) shared: Arc<StoreShared<R>>,
}

impl<R: StoreReducer> Store<R> {
    pub(super) fn from_shared(shared: StoreShared<R>) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// Reduces `action` and starts its effects. Returns when the action is reduced; wait for the
    /// effects with [`SendHandle::finished`].
    ///
    /// Waits while too many effects are running
    /// ([`max_effects`](super::StoreBuilder::max_effects)). So an effect should bring its action
    /// back instead of sending it: while it waits in its future, it counts as running.
    ///
    /// # Errors
    ///
    /// [`ActionError`]; each variant says what to do.
    ///
    /// # Panics
    ///
    /// When there are effects to start and it is called outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Safe: a call that is dropped while it waits changes nothing.
    ///
    /// # Example: a rejection, typed
    ///
    /// ```
    /// # use composable_rust_core::composition::AggregateReducer;
    /// # use composable_rust_core::prelude::*;
    /// # use composable_rust_runtime::Store;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
    /// # struct Door { open: bool }
    /// # #[derive(Debug, Clone, PartialEq, Message)]
    /// # enum DoorCommand { Open }
    /// # #[derive(Debug, Clone, PartialEq, Message)]
    /// # enum DoorEvent { Opened }
    /// # #[derive(Debug, Clone, PartialEq, Message)]
    /// # enum DoorError { AlreadyOpen }
    /// # impl Aggregate for Door {
    /// #     const NAME: &'static str = "door";
    /// #     type Command = DoorCommand; type Event = DoorEvent; type Rejection = DoorError;
    /// #     type Environment = ();
    /// #     fn decide(&self, _: DoorCommand, _: &Context<Self>) -> Decision<Self> {
    /// #         if self.open { reject(DoorError::AlreadyOpen) } else { record(DoorEvent::Opened) }
    /// #     }
    /// #     fn apply(&mut self, _: DoorEvent) { self.open = true; }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let reducer = AggregateReducer::<Door>::new("front".parse()?);
    /// let store = Store::new(reducer, Door::default(), ());
    /// store.send(DoorCommand::Open).await?;
    ///
    /// let rejected = store.send(DoorCommand::Open).await.unwrap_err();
    /// assert_eq!(rejected.rejection(), Some(&DoorError::AlreadyOpen));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send(&self, action: R::Action) -> Result<SendHandle, ActionError> {
        let mut waited = false;
        loop {
            {
                let core = self.shared.lock();
                if core.closed {
                    return Err(ActionError::Closed);
                }
                if core.running.len() < self.shared.max_effects {
                    let result = self.shared.accept(core, action);
                    if waited {
                        // Only this call was notified, and others may wait too.
                        self.shared.room.notify_one();
                    }
                    return result;
                }
            }
            self.wait_for_room().await;
            waited = true;
        }
    }

    async fn wait_for_room(&self) {
        let mut room = pin!(self.shared.room.notified());
        room.as_mut().enable();
        let has_room = {
            let core = self.shared.lock();
            core.closed || core.running.len() < self.shared.max_effects
        };
        if !has_room {
            room.await;
        }
    }

    /// Reads the state. The store is locked meanwhile, so `read` must be short and must not use the
    /// store.
    ///
    /// # Panics
    ///
    /// If the state was lost, which only
    /// [`poison_on_panic`](super::StoreBuilder::poison_on_panic) allows.
    pub fn state<T>(&self, read: impl FnOnce(&R::State) -> T) -> T {
        let core = self.shared.lock();
        assert!(!core.poisoned, "the store's state was lost in a panic of its reducer");
        read(&core.state)
    }

    /// Waits until the state satisfies `condition`, now or after some action. As with
    /// [`state`](Self::state), the store is locked while `condition` runs.
    ///
    /// # Errors
    ///
    /// [`StoreClosed`]: the store was shut down, or its state was lost, and the condition is not
    /// satisfied.
    ///
    /// # Cancel safety
    ///
    /// Safe: call it again.
    ///
    /// # Example: waiting for an action of another task
    ///
    /// ```
    /// # use composable_rust_core::prelude::*;
    /// # use composable_rust_runtime::Store;
    /// # struct Counter;
    /// # impl Reducer for Counter { type State = i64; type Action = i64; type Environment = ();
    /// #   fn reduce(&self, count: &mut i64, action: i64, _: &()) -> Effects<i64> {
    /// #     *count += action; Effects::none() } }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::new(Counter, 0, ());
    /// let other = store.clone();
    /// tokio::spawn(async move { other.send(2).await });
    /// store.wait(|count| *count == 2).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait(
        &self,
        mut condition: impl FnMut(&R::State) -> bool,
    ) -> Result<(), StoreClosed> {
        let mut changes = {
            let mut core = self.shared.lock();
            core.changed.get_or_insert_with(|| watch::channel(()).0).subscribe()
        };
        loop {
            let over = {
                let core = self.shared.lock();
                if !core.poisoned && condition(&core.state) {
                    return Ok(());
                }
                core.poisoned || core.closed && core.running.len() == 0
            };
            if over || changes.changed().await.is_err() {
                return Err(StoreClosed);
            }
        }
    }

    /// Subscribes to the actions that are reduced from now on, in order, those that effects bring
    /// back included.
    ///
    /// A subscriber that falls too far behind
    /// ([`subscription_buffer`](super::StoreBuilder::subscription_buffer)) receives
    /// [`Lagged`](super::Lagged) with the number of lost items; the store never waits for
    /// subscribers.
    ///
    /// # Example: listening
    ///
    /// ```
    /// # use composable_rust_core::prelude::*;
    /// # use composable_rust_runtime::Store;
    /// # use tokio_stream::StreamExt as _;
    /// # struct Counter;
    /// # impl Reducer for Counter { type State = i64; type Action = i64; type Environment = ();
    /// #   fn reduce(&self, count: &mut i64, action: i64, _: &()) -> Effects<i64> {
    /// #     *count += action; Effects::none() } }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::new(Counter, 0, ());
    /// let mut actions = store.actions();
    /// store.send(7).await?;
    /// assert_eq!(actions.next().await, Some(Ok(7)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn actions(&self) -> Subscription<R::Action> {
        self.shared.lock().actions.subscribe(self.shared.subscription_buffer)
    }

    /// Subscribes to the events that aggregates record from now on, in order, as an
    /// [`AggregateReducer`](composable_rust_core::composition::AggregateReducer) reports them. They
    /// are already applied to the state. Otherwise as [`actions`](Self::actions).
    pub fn recorded(&self) -> Subscription<AnyMessage> {
        self.shared.lock().recorded.subscribe(self.shared.subscription_buffer)
    }

    /// Returns the number of running effects.
    pub fn running(&self) -> usize {
        self.shared.lock().running.len()
    }
}

impl<R: Reducer> Clone for Store<R> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<R: Reducer> fmt::Debug for Store<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = self.shared.lock();
        f.debug_struct("Store")
            .field("running", &core.running.len())
            .field("closed", &core.closed)
            .finish_non_exhaustive()
    }
}
