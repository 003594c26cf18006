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
/// Interval at which the gauges of a relay without events are set.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);

/// The events of a log partition that a relay has not passed.
#[derive(Debug, Clone, Copy, Default)]
struct Lag {
    events: u64,
    /// The age of the oldest of them; zero if there is none.
    age: Duration,
    /// The head of the partition.
    head: u64,
}

/// Sets the gauges of the partitions that this process relays, and of those that no process does,
/// as while the log is paused. The gauges of a partition that another process takes over become 0.
pub(crate) async fn report_lag(context: Arc<WorkerContext>, published: Arc<PublishedTopic>) {
    let worker = published.worker().to_string();
    let mut shown: BTreeSet<u16> = BTreeSet::new();
    loop {
        let mut idle_at = None;
        match lags(&context, &worker).await {
            Ok(lags) => {
                for gone in shown.iter().filter(|partition| !lags.contains_key(*partition)) {
                    set(&published, *gone, Lag::default());
                }
                for (partition, lag) in &lags {
                    set(&published, *partition, *lag);
                }
                let is_idle = lags.values().all(|lag| lag.events == 0);
                let head = |(partition, lag): (&u16, &Lag)| Position::new(*partition, lag.head);
                idle_at = is_idle.then(|| lags.iter().map(head).collect());
                shown = lags.into_keys().collect();
            }
            Err(error) => {
                tracing::debug!(worker, %error, "failed to read the lag of a relay; retrying");
            }
        }
        if let Some(heads) = idle_at {
            until_news(&context, heads).await;
        }
        if !context.pause(MEASURE_INTERVAL).await {
            break;
        }
    }
    for partition in shown {
        set(&published, partition, Lag::default());
    }
}

/// Waits until the log has events after these heads, the leases change, or the workers stop.
async fn until_news(context: &WorkerContext, heads: Vec<Position>) {
    let mut leases = context.leases.changes();
    tokio::select! {
        biased;
        () = context.stop.cancelled() => {}
        _ = leases.changed() => {}
        _ = context.store().wait_for_events(&heads), if !heads.is_empty() => {}
        () = context.sleep(context.poll_interval(IDLE_INTERVAL)) => {}
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
        lags.insert(partition, Lag { events, age: age.unwrap_or_default(), head: offset });
    }
    Ok(lags)
}

fn set(published: &PublishedTopic, partition: u16, Lag { events, age, .. }: Lag) {
    let labels = [&*published.topic, published.category, &partition.to_string()];
    RELAY_LAG_EVENTS.set_count(labels, events);
    RELAY_LAG_SECONDS.set(labels, age.as_secs_f64());
}
