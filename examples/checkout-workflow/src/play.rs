//! Starting checkouts and following them to their ends.

use std::collections::HashMap;
use std::time::Duration;

use composable_rust::prelude::*;
use composable_rust::{LoadError, Position};
use futures_util::stream::{self, StreamExt as _};
use futures_util::{TryStreamExt as _, pin_mut};

use crate::{Cart, Checkout, CheckoutCommand, InventoryCommand, Plan};

/// How often the log is looked at.
const LOOK: Duration = Duration::from_millis(25);
/// How long to wait before a store that cannot be reached is asked again.
const UNREACHABLE: Duration = Duration::from_millis(500);
/// How many sends share commits.
const SENDS: usize = 256;

/// What the log says of the checkouts.
#[derive(Debug)]
pub struct Watch {
    after: Vec<Position>,
    checkouts: HashMap<Id<Checkout>, Checkout>,
    finished: usize,
}

impl Watch {
    /// From the beginning of the log.
    pub fn new(app: &App) -> Self {
        Self { after: app.log().start_positions(), checkouts: HashMap::new(), finished: 0 }
    }

    /// Reads on, up to where the log stands now.
    ///
    /// # Errors
    ///
    /// When the log cannot be read; it may be tried again.
    pub async fn catch_up(&mut self, app: &App) -> Result<(), LoadError> {
        let events = app.events::<Checkout>(self.after.clone());
        pin_mut!(events);
        while let Some(recorded) = events.try_next().await? {
            let Position { partition, offset } = recorded.position;
            self.after[usize::from(partition)].offset = offset;
            let Some(id) = Id::of_stream(&recorded.stream) else { continue };
            let checkout = self.checkouts.entry(id).or_default();
            let before = checkout.is_finished();
            checkout.apply(recorded.event);
            self.finished += usize::from(checkout.is_finished() && !before);
        }
        Ok(())
    }

    /// How many have ended.
    pub fn finished(&self) -> usize {
        self.finished
    }

    /// How many are under way.
    pub fn open(&self) -> usize {
        self.checkouts.len() - self.finished
    }

    fn knows(&self, id: &Id<Checkout>) -> bool {
        self.checkouts.contains_key(id)
    }
}

/// Takes in what the checkouts of `plan` need, once.
///
/// # Errors
///
/// When it is not recorded.
pub async fn restock(warehouse: &App, plan: &Plan) -> anyhow::Result<()> {
    // The key makes it safe to run the plan again.
    let key = format!("{} {}", plan.name, plan.checkouts);
    let demand = stream::iter(plan.demand()).map(Ok);
    demand
        .try_for_each_concurrent(SENDS, |(sku, units)| {
            let key = &key;
            async move {
                let stock = warehouse.handle(&sku);
                stock.send(InventoryCommand::Restock { units }).key(key).await?;
                Ok(())
            }
        })
        .await
}

/// Starts the checkouts of `plan` that are not there yet, at most `in_flight` under way at a time.
/// With `to_the_end`, waits until all are finished. Tells `progress` how many are started and
/// finished. A store that cannot be reached is waited for.
///
/// # Errors
///
/// When a checkout cannot be started or the log cannot be read, for another reason.
pub async fn play(
    app: &App,
    plan: &Plan,
    in_flight: usize,
    to_the_end: bool,
    mut progress: impl FnMut(usize, usize),
) -> anyhow::Result<()> {
    let mut watch = Watch::new(app);
    catch_up(&mut watch, app).await?;
    let total = plan.checkouts().count();
    let mut waiting: Vec<_> = plan.checkouts().filter(|(id, _)| !watch.knows(id)).collect();
    waiting.reverse();
    loop {
        let open = if to_the_end { watch.open() } else { 0 };
        let free = in_flight.saturating_sub(open).min(waiting.len());
        let batch = waiting.split_off(waiting.len() - free);
        waiting.extend(start(app, batch).await?);
        progress(total - waiting.len(), watch.finished());
        if waiting.is_empty() && (!to_the_end || (watch.open() == 0 && free == 0)) {
            return Ok(());
        }
        if to_the_end {
            tokio::time::sleep(LOOK).await;
            catch_up(&mut watch, app).await?;
        }
    }
}

/// Starts checkouts, and gives back those of which it is not known whether they were started.
/// Starting one twice changes nothing.
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
                tokio::time::sleep(UNREACHABLE).await;
                Ok(Some((id, cart)))
            }
            Err(error) => Err(anyhow::Error::new(error).context(format!("checkout {id}"))),
        }
    });
    let again: Vec<_> = stream::iter(sends).buffer_unordered(SENDS).try_collect().await?;
    Ok(again.into_iter().flatten().collect())
}

async fn catch_up(watch: &mut Watch, app: &App) -> Result<(), LoadError> {
    while let Err(error) = watch.catch_up(app).await {
        if !error.is_transient() {
            return Err(error);
        }
        tracing::warn!(%error, "the log cannot be read now");
        tokio::time::sleep(UNREACHABLE).await;
    }
    Ok(())
}
