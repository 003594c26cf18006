//! Watching, pausing and resuming a gateway.

use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::queue::{Leases as _, Outbox as _, OutboxKind, Pause, Queue};
use composable_rust_core::store::StoreError;
use composable_rust_core::{StreamId, Timestamp};

use crate::app::context::AppContext;
use crate::app::queues::MAX_COUNTED;
use crate::worker::leases::Leases;
use crate::worker::outbox::gateway::RegisteredGateway;
use crate::worker::outcome::truncate_error;

/// A gateway of an app: see [`App::gateway`](crate::App::gateway).
///
/// # Example: no calls during maintenance
///
/// ```
/// # use composable_rust_core::prelude::*;
/// # use composable_rust_core::{CallError, Gateway};
/// # use composable_rust_runtime::App;
/// # use composable_rust_testing::InMemoryEventStore;
/// # struct Bank;
/// # #[derive(Debug, Clone, PartialEq, Message)]
/// # enum Nothing { Said }
/// # impl Gateway for Bank {
/// #     const NAME: &'static str = "bank";
/// #     type Request = Nothing;
/// #     type Response = Nothing;
/// #     type Failure = Nothing;
/// #     async fn call(&self, request: Nothing, _: &str) -> Result<Nothing, CallError<Nothing>> {
/// #         Ok(request)
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let app = App::builder(InMemoryEventStore::new()).gateway(Bank).build()?;
/// let bank = app.gateway::<Bank>();
/// bank.pause_as("ann").await?;
/// let pause = bank.status().await?.pause;
/// assert_eq!(pause.and_then(|pause| pause.by).as_deref(), Some("ann"));
/// bank.resume().await?;
/// assert!(bank.status().await?.pause.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct GatewayHandle {
    pub(super) name: &'static str,
    pub(super) shared: Arc<AppContext>,
    /// `None` if another process makes the calls.
    pub(super) registered: Option<RegisteredGateway>,
    /// The leases of this process, while its workers run.
    pub(super) leases: Option<Leases>,
}

/// The status of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatewayStatus {
    /// The pause of the gateway, if it is paused.
    pub pause: Option<Pause>,
    /// The calls that have no outcome yet, of all processes and with those in progress. Counting
    /// ends at 10,000 for each log partition.
    pub waiting: usize,
    /// The calls in progress in this process.
    pub in_progress: usize,
    /// The circuits of this process, in order of keys: that of the gateway or, with
    /// [`breaker_by`](crate::settings::GatewaySettings::breaker_by), those of the keys that were
    /// called.
    pub circuits: Vec<Circuit>,
}

/// A circuit of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Circuit {
    /// The key; `None` for the circuit of all calls of the gateway.
    pub key: Option<String>,
    /// The state.
    pub state: CircuitState,
}

/// The state of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CircuitState {
    /// Calls are made.
    Closed,
    /// No calls are made.
    Open {
        /// The time from which on single calls probe the gateway.
        until: Timestamp,
    },
    /// Single calls probe the gateway, and close the circuit when one succeeds.
    HalfOpen,
}

impl std::fmt::Debug for GatewayHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("GatewayHandle").field(&self.name).finish()
    }
}

impl GatewayHandle {
    /// Returns the name of the gateway.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the request of a call by `sender`, in a queue, as JSON text; `None` if another
    /// process makes the calls, or this one cannot decode it.
    pub fn decode(&self, sender: &StreamId, content: &EncodedMessage) -> Option<String> {
        let gateway = &self.registered.as_ref()?.gateway;
        gateway.decode(&self.shared.codecs, sender, content).ok()
    }

    /// Returns the [circuits](GatewayStatus::circuits) of this process.
    pub fn circuits(&self) -> Vec<Circuit> {
        let circuits = self.registered.as_ref().map(|gateway| gateway.limits().circuits());
        let circuits = circuits.unwrap_or_default().into_iter();
        circuits.map(|(key, open_until)| self.circuit(key, open_until)).collect()
    }

    /// Pauses the gateway in all processes: calls in progress end, and the others wait without
    /// spending attempts. A process with running workers notices its own pause at once and that of
    /// another within a third of [`Settings::lease_ttl`](crate::settings::Settings::lease_ttl). If
    /// the gateway is paused, the call changes nothing.
    ///
    /// # Errors
    ///
    /// The store is unavailable. Calling it again is safe.
    pub async fn pause(&self) -> Result<(), StoreError> {
        self.pause_by(None).await
    }

    /// Pauses the gateway as [`pause`](Self::pause) does, and keeps the name of the person or
    /// program that paused it.
    ///
    /// # Errors
    ///
    /// The store is unavailable. Calling it again is safe.
    pub async fn pause_as(&self, by: &str) -> Result<(), StoreError> {
        self.pause_by(Some(truncate_error(by.to_owned()))).await
    }

    async fn pause_by(&self, by: Option<String>) -> Result<(), StoreError> {
        self.shared.store.pause(&Pause::of_gateway(self.name), by.as_deref()).await?;
        self.look_now();
        Ok(())
    }

    /// Ends a pause, in all processes.
    ///
    /// # Errors
    ///
    /// The store is unavailable. Calling it again is safe.
    pub async fn resume(&self) -> Result<(), StoreError> {
        self.shared.store.resume(&Pause::of_gateway(self.name)).await?;
        self.look_now();
        Ok(())
    }

    /// Returns the status of the gateway.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the store cannot be read. Retry.
    pub async fn status(&self) -> Result<GatewayStatus, StoreError> {
        let pauses = self.shared.store.load_leases(&[]).await?;
        let (kind, name) = (OutboxKind::Call, self.name);
        let queue = |partition| Queue { partition, kind, target: name.to_owned() };
        let queues: Vec<_> = (0..self.shared.log.partitions).map(queue).collect();
        let counts = self.shared.store.count_waiting(&queues, MAX_COUNTED).await?;
        let in_progress = self.registered.as_ref().map(|gateway| gateway.limits().under_way());
        Ok(GatewayStatus {
            pause: pauses.pause(&Pause::of_gateway(name)).cloned(),
            waiting: counts.into_iter().sum(),
            in_progress: in_progress.unwrap_or(0),
            circuits: self.circuits(),
        })
    }

    fn circuit(&self, key: Option<String>, open_until: Option<Duration>) -> Circuit {
        let (clock, now) = (&self.shared.clock, self.shared.clock.monotonic());
        let state = match open_until {
            None => CircuitState::Closed,
            Some(until) if until <= now => CircuitState::HalfOpen,
            Some(until) => {
                CircuitState::Open { until: clock.now() + until.checked_sub(now).unwrap() }
            }
        };
        Circuit { key, state }
    }

    /// Has this process notice a change at once.
    fn look_now(&self) {
        if let Some(leases) = &self.leases {
            leases.look_now();
        }
    }
}
