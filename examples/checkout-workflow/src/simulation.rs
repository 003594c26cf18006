//! Starting checkouts and waiting for them to finish.

use std::collections::HashMap;
use std::time::Duration;

use composable_rust::prelude::*;
use composable_rust::{LoadError, Position};
use futures_util::stream::{self, StreamExt as _};
use futures_util::{TryStreamExt as _, pin_mut};

use crate::{Cart, Checkout, CheckoutCommand, InventoryCommand, Plan};

/// The interval between reads of the log.
const POLL_INTERVAL: Duration = Duration::from_millis(25);
/// The pause before a retry if the store cannot be reached.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// The maximum number of concurrent sends. Concurrent sends share commits.
const MAX_CONCURRENT_SENDS: usize = 256;

/// The states of all checkouts, read from the log.
#[derive(Debug)]
pub struct CheckoutTracker {
    positions: Vec<Position>,
    checkouts: HashMap<Id<Checkout>, Checkout>,
    finished: usize,
}

impl CheckoutTracker {
    /// Creates a tracker that reads from the start of the log.
    pub fn new(app: &App) -> Self {
        Self { positions: app.log().start_positions(), checkouts: HashMap::new(), finished: 0 }
    }

    /// Reads the events that were appended since the last call.
    ///
    /// # Errors
    ///
    /// When the log cannot be read. If the error is transient, repeat the call.
    pub async fn catch_up(&mut self, app: &App) -> Result<(), LoadError> {
        let events = app.events::<Checkout>(self.positions.clone());
        pin_mut!(events);
        while let Some(recorded) = events.try_next().await? {
            let Position { partition, offset } = recorded.position;
            self.positions[usize::from(partition)].offset = offset;
            let Some(id) = Id::of_stream(&recorded.stream) else { continue };
            let checkout = self.checkouts.entry(id).or_default();
            let was_finished = checkout.is_finished();
            checkout.apply(recorded.event);
            self.finished += usize::from(checkout.is_finished() && !was_finished);
        }
        Ok(())
    }

    /// Returns the number of checkouts that were started.
    pub fn started(&self) -> usize {
        self.checkouts.len()
    }

    /// Returns the number of checkouts that are finished.
    pub fn finished(&self) -> usize {
        self.finished
    }

    /// Returns the number of checkouts in progress.
    pub fn in_progress(&self) -> usize {
        self.checkouts.len() - self.finished
    }

    /// `true` if the checkout was started.
    pub fn contains(&self, id: &Id<Checkout>) -> bool {
        self.checkouts.contains_key(id)
    }
}

/// Restocks the articles that the checkouts of `plan` need. Repeating the call changes nothing.
///
/// # Errors
///
/// When a command is not recorded.
pub async fn restock(warehouse: &App, plan: &Plan) -> anyhow::Result<()> {
    // Every run of a plan sends the same key, so only the first run restocks.
    let key = format!("{} {}", plan.name, plan.checkouts);
    let demand = stream::iter(plan.demand()).map(Ok);
    demand
        .try_for_each_concurrent(MAX_CONCURRENT_SENDS, |(sku, units)| {
            let key = &key;
            async move {
                let stock = warehouse.handle(&sku);
                stock.send(InventoryCommand::Restock { units }).key(key).await?;
                Ok(())
            }
        })
        .await
}

/// Starts the checkouts of `plan` that have not been started, with at most `in_flight` in progress.
///
/// If `wait` is `true`, waits until all checkouts are finished. Calls `progress` with the numbers
/// of started and finished checkouts. Retries while the store cannot be reached.
///
/// # Errors
///
/// When starting a checkout or reading the log fails for any other reason.
pub async fn run(
    app: &App,
    plan: &Plan,
    in_flight: usize,
    wait: bool,
    mut progress: impl FnMut(usize, usize),
) -> anyhow::Result<()> {
    let mut tracker = CheckoutTracker::new(app);
    catch_up(&mut tracker, app).await?;
    let total = plan.checkouts().count();
    let mut remaining: Vec<_> = plan.checkouts().filter(|(id, _)| !tracker.contains(id)).collect();
    remaining.reverse();
    loop {
        let in_progress = if wait { tracker.in_progress() } else { 0 };
        let free = in_flight.saturating_sub(in_progress).min(remaining.len());
        let batch = remaining.split_off(remaining.len() - free);
        remaining.extend(start(app, batch).await?);
        progress(total - remaining.len(), tracker.finished());
        if remaining.is_empty() && (!wait || (tracker.in_progress() == 0 && free == 0)) {
            return Ok(());
        }
        if wait {
            tokio::time::sleep(POLL_INTERVAL).await;
            catch_up(&mut tracker, app).await?;
        }
    }
}

/// Starts checkouts. Returns those whose outcome is unknown, which the caller must start again.
///
/// A checkout that is started twice ignores the second command.
async fn start(
    app: &App,
    batch: Vec<(Id<Checkout>, Cart)>,
) -> anyhow::Result<Vec<(Id<Checkout>, Cart)>> {
    let sends = batch.into_iter().map(|(id, cart)| async move {
        let sent = app.handle(&id).send(CheckoutCommand::Start(cart.clone())).await;
        match sent {
            Ok(_) => Ok(None),
            Err(SendError::Load(error)) if !error.is_transient() => Err(error.into()),
            Err(SendError::DeadlinePassed | SendError::OutcomeUnknown | SendError::Load(_)) => {
                tokio::time::sleep(RETRY_PAUSE).await;
                Ok(Some((id, cart)))
            }
            Err(error) => Err(anyhow::Error::new(error).context(format!("checkout {id}"))),
        }
    });
    let unknown: Vec<_> =
        stream::iter(sends).buffer_unordered(MAX_CONCURRENT_SENDS).try_collect().await?;
    Ok(unknown.into_iter().flatten().collect())
}

/// Reads the log, and retries transient errors.
async fn catch_up(tracker: &mut CheckoutTracker, app: &App) -> Result<(), LoadError> {
    while let Err(error) = tracker.catch_up(app).await {
        if !error.is_transient() {
            return Err(error);
        }
        tracing::warn!(%error, "failed to read the log; retrying");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    Ok(())
}
