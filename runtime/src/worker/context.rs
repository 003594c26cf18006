//! What all workers of an app share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use composable_rust_core::{Clock, Metadata, Outbox as _, SharedEventBus, SharedEventStore};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::app::context::AppContext;
use crate::app::registry::Registry;
use crate::app::unknown_messages::{Encounter, NewerCode, SeenAt};
use crate::worker::bus::publishers::Publishers;
use crate::worker::bus::subscriptions::Subscriptions;
use crate::worker::leases::Leases;
use crate::worker::log_limit::LogLimit;
use crate::worker::outbox::gateway::{ErasedGateway, GatewaySettings};
use crate::worker::policy::policy::ErasedPolicy;
use crate::worker::projection::registered::ErasedProjection;
use crate::worker::queue_bounds::QueueBounds;

pub(crate) struct WorkerContext {
    pub(crate) shared: Arc<AppContext>,
    pub(crate) registry: Registry,
    pub(crate) gateways: BTreeMap<&'static str, RegisteredGateway>,
    pub(crate) policies: BTreeMap<String, Arc<dyn ErasedPolicy>>,
    pub(crate) projections: BTreeMap<&'static str, Arc<dyn ErasedProjection>>,
    pub(crate) bus: Option<SharedEventBus>,
    pub(crate) publishers: Publishers,
    pub(crate) subscriptions: Arc<Subscriptions>,
    /// Of what is logged for each message that comes over the bus.
    pub(crate) log_limit: Mutex<LogLimit>,
    pub(crate) queue_bounds: QueueBounds,
    /// Aggregates whose commands other services may send.
    pub(crate) served: BTreeSet<&'static str>,
    pub(crate) leases: Leases,
    /// Rises when there may be work in the queues.
    pub(crate) wake: watch::Receiver<u64>,
    pub(crate) stop: CancellationToken,
}

#[derive(Clone)]
pub(crate) struct RegisteredGateway {
    pub(crate) gateway: Arc<dyn ErasedGateway>,
    pub(crate) settings: GatewaySettings,
}

impl WorkerContext {
    pub(crate) fn store(&self) -> &SharedEventStore {
        &self.shared.store
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.shared.clock
    }

    pub(crate) fn now(&self) -> Duration {
        self.shared.clock.monotonic()
    }

    /// Returns `true` if something was not logged for this reason in the last minute.
    pub(crate) fn logs(&self, reason: &str) -> bool {
        let mut limit = self.log_limit.lock().unwrap_or_else(PoisonError::into_inner);
        limit.admits(self.now(), reason)
    }

    /// A worker has come upon something that this process does not know.
    pub(crate) fn meet(&self, worker: &str, newer: &NewerCode, place: &dyn Display) -> Encounter {
        let at = SeenAt {
            now: self.clock().now(),
            monotonic: self.now(),
            overdue_after: self.shared.settings.unknown_message_grace,
        };
        self.shared.unknowns.meet(worker, newer, place, at)
    }

    /// Returns `true` if something that a worker has come upon has waited for so long that no running
    /// process knows it.
    pub(crate) fn is_overdue(&self, worker: &str, place: &dyn Display) -> bool {
        let waited = self.shared.unknowns.waited(worker, place, self.now());
        waited.is_some_and(|waited| waited >= self.shared.settings.unknown_message_grace)
    }

    /// Waits, unless it is time to stop. Gives whether to go on.
    pub(crate) async fn pause(&self, duration: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            () = self.clock().sleep(duration) => true,
        }
    }
}

/// How often the workers look though the store says nothing.
const IDLE_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Wakes the workers when the store says that there may be work.
pub(crate) async fn wake(
    store: SharedEventStore,
    clock: Arc<dyn Clock>,
    wake: watch::Sender<u64>,
    stop: CancellationToken,
) {
    let (mut seen, mut rung) = (0, Duration::ZERO);
    loop {
        let woken = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            woken = store.wait_for_work(seen) => woken,
        };
        match woken {
            Ok(count) => {
                // Without news, a look now and then makes up for news that was lost.
                let now = clock.monotonic();
                if count != seen || now.saturating_sub(rung) >= IDLE_POLL_INTERVAL {
                    wake.send_modify(|n| *n += 1);
                    rung = now;
                }
                seen = count;
            }
            Err(error) => {
                tracing::debug!(%error, "cannot wait for work");
                wake.send_modify(|n| *n += 1);
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = clock.sleep(Duration::from_secs(1)) => {}
                }
            }
        }
    }
}

/// An error as every store keeps it: no NUL, and not without end.
pub(crate) fn kept(mut error: String) -> String {
    const MOST: usize = 4_096;
    if error.len() > MOST {
        let end = (0..=MOST).rev().find(|end| error.is_char_boundary(*end)).unwrap_or(0);
        error.truncate(end);
    }
    if error.contains('\0') { error.replace('\0', " ") } else { error }
}

/// What is stored beside a message; `None` if it was erased. What cannot be read, newer code wrote.
pub(crate) fn metadata(text: &str) -> Result<Option<Metadata>, NewerCode> {
    if text.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(text).map(Some).map_err(|error| NewerCode {
        what: "metadata".to_owned(),
        reason: format!("the metadata of a message cannot be read: {error}"),
    })
}
