//! The gauges of the store's server and of this process's connections to it.

use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::store::{EventStore as _, PoolStatus, StoreVitals};

use crate::metrics::{
    STORE_CLOCK_SKEW, STORE_CONNECTIONS_IN_USE, STORE_CONNECTIONS_MAX, STORE_OLDEST_SNAPSHOT,
};
use crate::worker::context::WorkerContext;

/// Interval at which the connections are counted.
const INTERVAL: Duration = Duration::from_secs(15);
/// Intervals after which the server is measured, which is a statement.
const INTERVALS_PER_MEASUREMENT: u32 = 4;

/// Sets the gauges of a store that has a server. A store that notifies this process of all changes
/// has none.
pub(crate) async fn report_store(context: Arc<WorkerContext>) {
    if context.is_notified() {
        return context.stop.cancelled().await;
    }
    let mut intervals = 0;
    loop {
        for PoolStatus { name, max, in_use } in context.store().pools() {
            STORE_CONNECTIONS_IN_USE.set_count([name], in_use as u64);
            STORE_CONNECTIONS_MAX.set_count([name], max as u64);
        }
        if intervals % INTERVALS_PER_MEASUREMENT == 0 {
            measure(&context).await;
        }
        intervals += 1;
        if !context.pause(INTERVAL).await {
            return;
        }
    }
}

async fn measure(context: &WorkerContext) {
    let before = context.now();
    match context.store().vitals().await {
        Ok(StoreVitals { now, oldest_snapshot }) => {
            // The server has read its clock in the middle of the call, as far as is known.
            let half = context.now().saturating_sub(before) / 2;
            let skew = now.as_micros() - context.clock().now().as_micros();
            let skew =
                Duration::from_micros(skew.unsigned_abs()).as_secs_f64().copysign(sign(skew));
            STORE_CLOCK_SKEW.set([], skew + half.as_secs_f64());
            let age = oldest_snapshot.unwrap_or_default();
            STORE_OLDEST_SNAPSHOT.set([], age.as_secs_f64());
        }
        Err(error) => tracing::debug!(%error, "failed to measure the store; retrying"),
    }
}

fn sign(difference: i64) -> f64 {
    if difference < 0 { -1.0 } else { 1.0 }
}
