//! The gauges of projections.

use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{EventStore as _, Position, ProjectionState, StoreError};

use crate::worker::context::WorkerContext;
use crate::worker::projection::registered::{ErasedProjection, projection_worker};

/// How often the gauges are set.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long the read model and the log may take to answer.
const TIME_LIMIT: Duration = Duration::from_secs(5);

const LAG_SECONDS: &str = "composable_rust_projection_lag_seconds";
const LAG_EVENTS: &str = "composable_rust_projection_lag_events";
const STATE: &str = "composable_rust_projection_state";
const STATES: [&str; 4] = ["running", "rebuilding", "paused", "failed"];

/// Sets the gauges of a projection for as long as this process has its lease or nobody does, also
/// while it is stuck.
pub(crate) async fn measure(projection: Arc<dyn ErasedProjection>, work: Arc<WorkerContext>) {
    let (name, worker) = (projection.name(), projection_worker(projection.name()));
    let mut changes = work.leases.changes();
    // Since when it was not done, as far as is known.
    let mut behind_since = None;
    let mut is_elsewhere = true;
    loop {
        changes.mark_unchanged();
        let partitions = tokio::select! {
            biased;
            partitions = work.leases.not_elsewhere(&worker) => partitions.ok(),
            () = work.clock().sleep(TIME_LIMIT) => None,
        };
        if let Some(partitions) = partitions {
            is_elsewhere = partitions.is_empty();
        }
        if is_elsewhere {
            if behind_since.take().is_some() {
                clear(name);
            }
        } else {
            let measured = tokio::select! {
                biased;
                measured = measured(&*projection, &work) => measured.ok(),
                () = work.clock().sleep(TIME_LIMIT) => None,
            };
            if let Some(lag) = &measured {
                metrics::gauge!(LAG_EVENTS, "projection" => name).set(to_float(lag.events));
                set_state(name, label(&lag.state));
                behind_since = Some(work.now().saturating_sub(lag.age));
            }
            // Without an answer it may be behind since it was last known not to be.
            let since = *behind_since.get_or_insert_with(|| work.now());
            let age = work.now().saturating_sub(since);
            metrics::gauge!(LAG_SECONDS, "projection" => name).set(age.as_secs_f64());
        }
        tokio::select! {
            biased;
            () = work.stop.cancelled() => break,
            _ = changes.changed() => {}
            () = work.clock().sleep(INTERVAL) => {}
        }
    }
    if behind_since.is_some() {
        clear(name);
    }
}

struct Lag {
    state: ProjectionState,
    /// Events of the log that are not done.
    events: u64,
    /// The age of the first of them; zero if there is none.
    age: Duration,
}

async fn measured(
    projection: &dyn ErasedProjection,
    work: &WorkerContext,
) -> Result<Lag, StoreError> {
    let (store, log) = (work.store(), work.shared.log);
    let record = projection.load(log.id).await?;
    let mut after = log.start_positions();
    for at in &record.checkpoints {
        if let Some(position) = after.get_mut(usize::from(at.partition)) {
            position.offset = at.offset;
        }
    }
    let heads = store.heads().await?;
    let is_behind = |at: &Position| events_after(&heads, *at) > 0;
    let events = after.iter().map(|at| events_after(&heads, *at)).sum();
    after.retain(is_behind);
    let first = if after.is_empty() { Vec::new() } else { store.read_log(&after, 1).await? };
    let oldest = first.iter().map(|event| event.recorded_at).min();
    let age = oldest.map_or(Duration::ZERO, |at| work.shared.clock.now().since(at));
    Ok(Lag { state: record.state, events, age })
}

fn events_after(heads: &[Position], at: Position) -> u64 {
    let head = heads.iter().find(|head| head.partition == at.partition);
    head.map_or(0, |head| head.offset.saturating_sub(at.offset))
}

fn label(state: &ProjectionState) -> &'static str {
    match state {
        ProjectionState::Running => "running",
        ProjectionState::Rebuilding => "rebuilding",
        ProjectionState::Paused => "paused",
        ProjectionState::Failed { .. } => "failed",
    }
}

/// One gauge for each state: 1 for that which it is in.
fn set_state(name: &'static str, current: &str) {
    for state in STATES {
        let value = if state == current { 1.0 } else { 0.0 };
        metrics::gauge!(STATE, "projection" => name, "state" => state).set(value);
    }
}

fn clear(name: &'static str) {
    for lag in [LAG_SECONDS, LAG_EVENTS] {
        metrics::gauge!(lag, "projection" => name).set(0.0);
    }
    set_state(name, "");
}

#[allow(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 events are enough")]
fn to_float(count: u64) -> f64 {
    count as f64
}
