//! The store.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;

use composable_rust_core::{AnyMessage, Reducer};
use tokio::sync::watch;

use super::shared::StoreShared;
use super::subscription::Subscription;
use super::{ActionError, SendHandle, StoreBuilder, StoreClosed};

/// A reducer that a [`Store`] can run: its state and its actions are `Clone + Send + 'static`, it
/// and its environment `Send + Sync + 'static`. Implemented for every such reducer.
#[diagnostic::on_unimplemented(
    message = "a `Store` cannot run `{Self}`",
    note = "it runs any `Reducer` that is `Send + Sync + 'static` with state and actions that are \
            `Clone + Send + 'static` and an environment that is `Send + Sync + 'static`"
)]
pub trait ExecutableEffect:
    Reducer<
        State: Clone + Send + 'static,
        Action: Clone + Send + 'static,
        Environment: Send + Sync + 'static,
    > + Send
    + Sync
    + 'static
{
}

impl<R> ExecutableEffect for R
where
    R: Reducer + Send + Sync + 'static,
    R::State: Clone + Send + 'static,
    R::Action: Clone + Send + 'static,
    R::Environment: Send + Sync + 'static,
{
}

/// Runs a reducer in memory. Cheap to clone; clones share the state.
///
/// An action is reduced under a lock, one after the other, and starts the effects that it returns,
/// which run as tasks of the tokio runtime:
///
/// - Effects of one action, and those of a `parallel`, start in their order and run at once. None
///   suffers when another panics or fails.
/// - A step of a `sequential` starts when the one before is over: its own work is done and the
///   action that it brought back is reduced. What follows from that action is not waited for. A
///   step that was cancelled is over; after one that failed, the rest is left out.
/// - Under an effect id, what starts replaces what runs. Once an action that cancels is reduced,
///   nothing that it cancelled brings an action back. The effects of an action are not part of the
///   effect that brought it back: cancelling that one spares them.
/// - An action whose reducer panics, or returns an effect that this store cannot execute, has not
///   happened: the state is restored from a copy made before. So the state is cloned for each
///   action: keep large parts in persistent collections, or choose
///   [`poison_on_panic`](StoreBuilder::poison_on_panic).
/// - A failed effect is logged, and reported by [`SendHandle::finished`].
///
/// Nothing survives the process, and so durable effects (`dispatch`, `tell`, `call`) are refused:
/// run the aggregate by a `Handle`.
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

impl<R: ExecutableEffect> Store<R> {
    /// Runs `reducer` from `state` on, with the system's clock and without other ports.
    pub fn new(reducer: R, state: R::State, env: R::Environment) -> Self {
        Self::builder(reducer, state, env).build()
    }

    /// A store with other ports or limits.
    pub fn builder(reducer: R, state: R::State, env: R::Environment) -> StoreBuilder<R> {
        StoreBuilder::new(reducer, state, env)
    }

    pub(super) fn from_shared(shared: StoreShared<R>) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// Reduces `action` and starts its effects. Returns when it is reduced; wait for the effects
    /// with [`SendHandle::finished`].
    ///
    /// Waits while too many effects are running ([`StoreBuilder::max_effects`]). So an effect
    /// should not send from inside its future, where it holds the room it waits for, but bring its
    /// action back.
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
    /// While it waits, nothing has happened: a dropped call leaves no trace.
    ///
    /// # Example: a rejection, typed
    ///
    /// ```
    /// # use composable_rust_core::{AggregateReducer, prelude::*};
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
    /// let store = Store::new(AggregateReducer::<Door>::new("front".parse()?), Door::default(), ());
    /// store.send(DoorCommand::Open).await?;
    ///
    /// let refused = store.send(DoorCommand::Open).await.unwrap_err();
    /// assert_eq!(refused.rejection(), Some(&DoorError::AlreadyOpen));
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
                        // Others may wait beside this one, who was told alone.
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

    /// Looks at the state. The store stands still meanwhile, so `read` must be short and must not
    /// use the store.
    ///
    /// # Panics
    ///
    /// When the state was lost, which only
    /// [`poison_on_panic`](StoreBuilder::poison_on_panic) allows.
    pub fn state<T>(&self, read: impl FnOnce(&R::State) -> T) -> T {
        let core = self.shared.lock();
        assert!(!core.poisoned, "the store's state was lost in a panic of its reducer");
        read(&core.state)
    }

    /// Completes when `condition` holds of the state after some action, or holds already. As with
    /// [`state`](Self::state), the store stands still while it is asked.
    ///
    /// # Errors
    ///
    /// [`StoreClosed`] when the store is shut down, or its state lost, and the condition does not
    /// hold.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: call it again.
    ///
    /// # Example: waiting for somebody else's action
    ///
    /// ```
    /// # use composable_rust_core::prelude::*;
    /// # use composable_rust_runtime::Store;
    /// # struct Counter;
    /// # impl Reducer for Counter { type State = i64; type Action = i64; type Environment = ();
    /// #   fn reduce(&self, s: &mut i64, a: i64, _: &()) -> Effects<i64> { *s += a; Effects::none() } }
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

    /// The actions that are reduced from now on, in order, those that effects bring back included.
    ///
    /// A subscriber that falls too far behind ([`StoreBuilder::subscription_buffer`]) is told by
    /// [`Lagged`](super::Lagged) how many it lost; the store never waits for one.
    ///
    /// # Example: listening
    ///
    /// ```
    /// # use composable_rust_core::prelude::*;
    /// # use composable_rust_runtime::Store;
    /// # use tokio_stream::StreamExt as _;
    /// # struct Counter;
    /// # impl Reducer for Counter { type State = i64; type Action = i64; type Environment = ();
    /// #   fn reduce(&self, s: &mut i64, a: i64, _: &()) -> Effects<i64> { *s += a; Effects::none() } }
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

    /// The events that aggregates record from now on, in order, as an
    /// [`AggregateReducer`](composable_rust_core::AggregateReducer) reducer reports them; they are applied
    /// already. Otherwise as [`actions`](Self::actions).
    pub fn recorded(&self) -> Subscription<AnyMessage> {
        self.shared.lock().recorded.subscribe(self.shared.subscription_buffer)
    }

    /// How many effects are running.
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
