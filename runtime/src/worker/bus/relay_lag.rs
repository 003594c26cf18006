//! The gauges of a relay's lag.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::Position;
use composable_rust_core::queue::Checkpoints as _;
use composable_rust_core::store::{EventStore as _, StoreError};

use crate::metrics::{RELAY_LAG_EVENTS, RELAY_LAG_SECONDS};
use crate::worker::bus::published_topic::PublishedTopic;
use crate::worker::context::WorkerContext;

/// Interval at which the gauges are set.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);

/// The events of a log partition that a relay has not passed.
#[derive(Debug, Clone, Copy, Default)]
struct Lag {
    events: u64,
    /// The age of the oldest of them; zero if there is none.
    age: Duration,
}

/// Sets the gauges of the partitions that this process relays, and of those that no process does,
/// as while the log is paused. The gauges of a partition that another process takes over become 0.
pub(crate) async fn report_lag(context: Arc<WorkerContext>, published: Arc<PublishedTopic>) {
    let worker = published.worker().to_string();
    let mut shown: BTreeSet<u16> = BTreeSet::new();
    loop {
        match lags(&context, &worker).await {
            Ok(lags) => {
                for gone in shown.iter().filter(|partition| !lags.contains_key(*partition)) {
                    set(&published, *gone, Lag::default());
                }
                for (partition, lag) in &lags {
                    set(&published, *partition, *lag);
                }
                shown = lags.into_keys().collect();
            }
            Err(error) => {
                tracing::debug!(worker, %error, "failed to read the lag of a relay; retrying");
            }
        }
        if !context.pause(MEASURE_INTERVAL).await {
            break;
        }
    }
    for partition in shown {
        set(&published, partition, Lag::default());
    }
}

async fn lags(context: &WorkerContext, worker: &str) -> Result<BTreeMap<u16, Lag>, StoreError> {
    let partitions = context.leases.not_elsewhere(worker).await?;
    let mut lags = BTreeMap::new();
    if partitions.is_empty() {
        return Ok(lags);
    }
    let done = context.store().load_checkpoints(worker).await?;
    let done: BTreeMap<_, _> = done.into_iter().map(|at| (at.partition, at.offset)).collect();
    for head in context.store().heads().await? {
        let Position { partition, offset } = head;
        if !partitions.contains(&partition) {
            continue;
        }
        let at = done.get(&partition).copied().unwrap_or(0);
        let events = offset.saturating_sub(at);
        let oldest = match events {
            0 => None,
            _ => context.store().read_log(&[Position::new(partition, at)], 1).await?.pop(),
        };
        let age = oldest.map(|event| context.clock().now().since(event.recorded_at));
        lags.insert(partition, Lag { events, age: age.unwrap_or_default() });
    }
    Ok(lags)
}

fn set(published: &PublishedTopic, partition: u16, Lag { events, age }: Lag) {
    let labels = [&*published.topic, published.category, &partition.to_string()];
    RELAY_LAG_EVENTS.set_count(labels, events);
    RELAY_LAG_SECONDS.set(labels, age.as_secs_f64());
}
