//! The lag of a relay, as gauges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{Checkpoints as _, EventStore as _, Position, StoreError};

use crate::worker::bus::published_topic::PublishedTopic;
use crate::worker::context::WorkerContext;

/// The time between two looks.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);

/// The events of a log partition that a relay has not passed, and the age of the oldest in seconds.
type Lag = (f64, f64);

/// Sets the gauges of the partitions that this process relays, and of those that nobody does, as
/// while the log is paused. Those of a partition that another process takes over become 0.
pub(crate) async fn report_lag(work: Arc<WorkerContext>, published: Arc<PublishedTopic>) {
    let worker = published.worker();
    let mut shown: BTreeSet<u16> = BTreeSet::new();
    loop {
        match lags(&work, &worker).await {
            Ok(lags) => {
                for gone in shown.iter().filter(|partition| !lags.contains_key(*partition)) {
                    set(&published, *gone, (0.0, 0.0));
                }
                for (partition, lag) in &lags {
                    set(&published, *partition, *lag);
                }
                shown = lags.into_keys().collect();
            }
            Err(error) => tracing::debug!(worker, %error, "failed to read the lag; retrying"),
        }
        if !work.pause(MEASURE_INTERVAL).await {
            break;
        }
    }
    for partition in shown {
        set(&published, partition, (0.0, 0.0));
    }
}

async fn lags(work: &WorkerContext, worker: &str) -> Result<BTreeMap<u16, Lag>, StoreError> {
    let partitions = work.leases.not_elsewhere(worker).await?;
    let mut lags = BTreeMap::new();
    if partitions.is_empty() {
        return Ok(lags);
    }
    let done = work.store().load_checkpoints(worker).await?;
    let done: BTreeMap<_, _> = done.into_iter().map(|at| (at.partition, at.offset)).collect();
    for head in work.store().heads().await? {
        let Position { partition, offset } = head;
        if !partitions.contains(&partition) {
            continue;
        }
        let at = done.get(&partition).copied().unwrap_or(0);
        let behind = offset.saturating_sub(at);
        let oldest = match behind {
            0 => None,
            _ => work.store().read_log(&[Position::new(partition, at)], 1).await?.pop(),
        };
        let age = oldest.map(|event| work.clock().now().since(event.recorded_at).as_secs_f64());
        #[allow(clippy::cast_precision_loss, reason = "a gauge need not be exact")]
        lags.insert(partition, (behind as f64, age.unwrap_or(0.0)));
    }
    Ok(lags)
}

fn set(published: &PublishedTopic, partition: u16, (events, seconds): Lag) {
    let labels = [
        ("topic", published.topic.clone()),
        ("aggregate", published.category.to_owned()),
        ("partition", partition.to_string()),
    ];
    metrics::gauge!("composable_rust_relay_lag_events", &labels).set(events);
    metrics::gauge!("composable_rust_relay_lag_seconds", &labels).set(seconds);
}
