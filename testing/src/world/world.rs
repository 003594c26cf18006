//! The world: services, and the time that passes for them.

use std::future::Future;
use std::time::Duration;

use composable_rust_core::Timestamp;
use composable_rust_core::environment::Clock as _;
use composable_rust_core::store::EventStore;
use composable_rust_runtime::{App, AppBuilder};
use tokio::runtime::{Handle, RuntimeFlavor};
use uuid::Uuid;

use super::service::{Environment, Service};
use crate::{FaultPlan, InMemoryEventStore, MockClock};

/// The number of moments after which [`World::pass`] fails: something is due again and again.
const MAX_MOMENTS: u64 = 200_000;

/// The number of moments after which [`World::run`] fails: something is due again and again, and
/// the future does not complete.
const MAX_MOMENTS_OF_A_FUTURE: u64 = 1_000;

/// A whole app on virtual time: time passes only when the test lets it, and then at once.
///
/// [`pass`](Self::pass) moves the time from deadline to deadline (timers, retries, timeouts). At
/// each it waits until everything is at rest: rows of the outbox are executed, due timers have
/// fired, policies and projections have processed the log, and gateways have answered or wait for a
/// later deadline. Three months without events take some milliseconds.
///
/// The app has sequential ids and seeded random numbers. Its gateways must be fakes that wait, if
/// at all, by the world's clock; a projection may write to any read model.
///
/// A world needs tokio's current-thread runtime, which `#[tokio::test]` uses.
///
/// # Example: a reservation that expires
///
/// ```
/// # use composable_rust_core::prelude::*;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
/// # struct Seat { held: bool }
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum SeatCommand { Hold, #[message(internal)] Expire }
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum SeatEvent { Held, Released }
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum Never {}
/// # impl Aggregate for Seat {
/// #     const NAME: &'static str = "seat";
/// #     type Command = SeatCommand;
/// #     type Event = SeatEvent;
/// #     type Rejection = Never;
/// #     type Environment = ();
/// #     fn decide(&self, command: SeatCommand, _: &Context<Self>) -> Decision<Self> {
/// #         match command {
/// #             SeatCommand::Hold => record(SeatEvent::Held),
/// #             SeatCommand::Expire => record(SeatEvent::Released),
/// #         }
/// #     }
/// #     fn apply(&mut self, event: SeatEvent) { self.held = event == SeatEvent::Held; }
/// #     fn react(&self, event: &SeatEvent, _: &Context<Self>) -> Reactions<SeatCommand> {
/// #         match event {
/// #             SeatEvent::Held => effects![after(30 * DAY, SeatCommand::Expire)],
/// #             SeatEvent::Released => effects![],
/// #         }
/// #     }
/// # }
/// use std::time::Duration;
///
/// use composable_rust_testing::World;
///
/// const DAY: Duration = Duration::from_secs(24 * 3_600);
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let noon = "2025-03-01T12:00:00Z".parse().unwrap();
/// let mut world = World::at(noon, |app| app.aggregate::<Seat>(()));
/// let seat = Seat::id("14a");
/// world.app().handle(&seat).send(SeatCommand::Hold).await.unwrap();
///
/// world.pass(29 * DAY).await;
/// world.restart().await;
/// assert!(world.app().handle(&seat).state(|seat| seat.held).await.unwrap());
///
/// world.pass(DAY).await;
/// assert!(!world.app().handle(&seat).state(|seat| seat.held).await.unwrap());
/// # }
/// ```
#[derive(Debug)]
pub struct World<S = InMemoryEventStore> {
    pub(super) environment: Environment,
    pub(super) services: Vec<Service<S>>,
}

impl World {
    /// Starts an app on a store in memory, at the time `now`.
    ///
    /// `build` configures the app; [`restart`](Self::restart) calls it again.
    ///
    /// # Panics
    ///
    /// If the app cannot be built, or outside tokio's current-thread runtime.
    pub fn at(
        now: Timestamp,
        build: impl Fn(AppBuilder) -> AppBuilder + Send + Sync + 'static,
    ) -> Self {
        let store = |clock: &MockClock| InMemoryEventStore::new().with_clock(clock.clone());
        Self::over(now, store, build)
    }

    /// Adds a service with its own log. Services exchange messages over a bus: give each a clone of
    /// the same [`InMemoryEventBus`](crate::InMemoryEventBus).
    ///
    /// # Panics
    ///
    /// As [`World::at`].
    #[must_use]
    pub fn with_service(
        mut self,
        build: impl Fn(AppBuilder) -> AppBuilder + Send + Sync + 'static,
    ) -> Self {
        let log = Uuid::from_u128(self.services.len() as u128);
        let clock = self.environment.clock.clone();
        let store = InMemoryEventStore::new().with_log_id(log).with_clock(clock);
        self.services.push(Service::start(store, &self.environment, build));
        self
    }
}

impl<S: EventStore + Clone> World<S> {
    /// Starts an app on the store that `store` makes for the world's clock, as [`World::at`] does.
    ///
    /// The store is one in memory, or a wrapper of it. The workers of a database poll, so that each
    /// day that [`pass`](Self::pass)es would take minutes.
    ///
    /// # Panics
    ///
    /// As [`World::at`].
    pub fn over(
        now: Timestamp,
        store: impl FnOnce(&MockClock) -> S,
        build: impl Fn(AppBuilder) -> AppBuilder + Send + Sync + 'static,
    ) -> Self {
        let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor()).ok();
        assert!(
            flavor == Some(RuntimeFlavor::CurrentThread),
            "a world needs tokio's current-thread runtime: use `#[tokio::test]` without a flavor"
        );
        let environment = Environment::new(MockClock::at(now));
        let service = Service::start(store(&environment.clock), &environment, build);
        Self { environment, services: vec![service] }
    }

    /// Returns the app; of several services, the first.
    pub fn app(&self) -> &App {
        self.service(0)
    }

    /// Returns the app of the service that was added as number `index`, counted from 0.
    ///
    /// # Panics
    ///
    /// If there are fewer services.
    #[track_caller]
    pub fn service(&self, index: usize) -> &App {
        &self.services[index].app
    }

    /// Returns the store, for inspection; of several services, that of the first.
    pub fn store(&self) -> &S {
        self.services[0].store.inner().inner()
    }

    /// Returns the faults of the store: plan some to see the app recover. Faults that are planned
    /// stay planned when the app restarts.
    pub fn faults(&self) -> &FaultPlan {
        &self.services[0].store
    }

    /// Returns the clock of the apps and their stores.
    pub fn clock(&self) -> &MockClock {
        &self.environment.clock
    }

    /// Returns the time.
    pub fn now(&self) -> Timestamp {
        self.environment.clock.now()
    }

    /// Lets `duration` pass, from deadline to deadline: waits at each until everything is at rest.
    ///
    /// # Panics
    ///
    /// As [`World::settle`].
    ///
    /// # Cancel safety
    ///
    /// A dropped call leaves the time at the deadline it had reached.
    pub async fn pass(&self, duration: Duration) {
        let clock = &self.environment.clock;
        let until = clock.now() + duration;
        self.settle().await;
        let mut moments = 0;
        while let Some(next) = clock.next_deadline().filter(|deadline| *deadline <= until) {
            moments += 1;
            if moments > MAX_MOMENTS {
                let reason = format!("something was due {MAX_MOMENTS} times within {duration:?}");
                self.fail(&reason).await;
            }
            clock.set(next);
            self.settle().await;
        }
        clock.set(until);
        self.settle().await;
    }

    /// Waits until everything is at rest, while the time stands still.
    ///
    /// # Panics
    ///
    /// If nothing comes to rest, as when messages go in a circle. The message names what still
    /// moves.
    pub async fn settle(&self) {
        if let Err(reason) = self.rest().await {
            self.fail(&reason).await;
        }
    }

    /// Awaits `future`, and lets the time pass that it takes, from deadline to deadline. Use it for
    /// what waits for a later time, such as a command that is retried because of a fault.
    ///
    /// # Panics
    ///
    /// As [`World::settle`], if nothing is left that could complete the future, and if it has not
    /// completed after 1,000 deadlines: for more, call [`pass`](Self::pass) first.
    pub async fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let began = self.now();
        let driving = async {
            for _ in 0..MAX_MOMENTS_OF_A_FUTURE {
                self.settle().await;
                let Some(next) = self.environment.clock.next_deadline() else {
                    self.fail("the future waits for something that never happens").await
                };
                self.environment.clock.set(next);
            }
            let reason = format!(
                "the future was not complete after {MAX_MOMENTS_OF_A_FUTURE} deadlines, {:?} after \
                 it began: it waits for something that never happens, or for so long that \
                 World::pass has to be called first",
                self.now().since(began)
            );
            self.fail(&reason).await
        };
        tokio::select! {
            biased;
            value = future => value,
            never = driving => never,
        }
    }

    /// Crashes the apps, and starts them again: what is not durable is gone. Leases of the old
    /// processes expire at once, so the time stands still. Gateways that were called do not notice.
    ///
    /// # Panics
    ///
    /// As [`World::settle`].
    pub async fn restart(&mut self) {
        self.services.iter_mut().for_each(Service::crash);
        for service in &mut self.services {
            service.start_again(&self.environment);
        }
        self.settle().await;
    }
}
