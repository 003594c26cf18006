//! The gauges of projections.

use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::Position;
use composable_rust_core::projection::ProjectionState;
use composable_rust_core::store::{EventStore as _, StoreError};
use tokio::sync::watch;

use crate::metrics::{PROJECTION_LAG_EVENTS, PROJECTION_LAG_SECONDS, PROJECTION_STATE};
use crate::worker::context::WorkerContext;
use crate::worker::projection::registered::{ErasedProjection, projection_worker};

/// Interval at which the gauges are set.
const INTERVAL: Duration = Duration::from_secs(5);
/// Interval at which the gauges of a projection without events are set.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);
/// Timeout of the read model and the log.
const TIMEOUT: Duration = Duration::from_secs(5);

const STATES: [&str; 5] = ["running", "waiting", "rebuilding", "paused", "failed"];

/// Sets the gauges of a projection while this process has its lease, or no process has it. They are
/// set even if the projection is stuck.
pub(crate) async fn measure(projection: Arc<dyn ErasedProjection>, context: Arc<WorkerContext>) {
    let (name, worker) = (projection.name(), projection_worker(projection.name()));
    let mut changes = context.leases.changes();
    // The time since which the projection is known to be behind.
    let mut behind_since = None;
    let mut is_elsewhere = true;
    loop {
        changes.mark_unchanged();
        // Before the measurement, so that no news of the time between is lost.
        let news = News::subscribe(&*projection, &context);
        let mut idle_at = None;
        let partitions = tokio::select! {
            biased;
            partitions = context.leases.not_elsewhere(&worker) => partitions.ok(),
            () = context.clock().sleep(TIMEOUT) => None,
        };
        if let Some(partitions) = partitions {
            is_elsewhere = partitions.is_empty();
        }
        if is_elsewhere {
            idle_at = Some(Vec::new());
            if behind_since.take().is_some() {
                clear(name);
            }
        } else {
            let measured = tokio::select! {
                biased;
                measured = measured(&*projection, &context) => measured.ok(),
                () = context.clock().sleep(TIMEOUT) => None,
            };
            if let Some(lag) = &measured {
                idle_at = (lag.events == 0).then(|| lag.heads.clone());
                PROJECTION_LAG_EVENTS.set_count([name], lag.events);
                set_state(name, lag.state.as_str());
                behind_since = Some(context.now().saturating_sub(lag.age));
            }
            // Without a response, the projection may be behind since it was last known not to be.
            let since = *behind_since.get_or_insert_with(|| context.now());
            let age = context.now().saturating_sub(since);
            PROJECTION_LAG_SECONDS.set([name], age.as_secs_f64());
        }
        tokio::select! {
            biased;
            () = context.stop.cancelled() => break,
            _ = changes.changed() => {}
            () = until_next(news, &context, idle_at) => {}
        }
    }
    if behind_since.is_some() {
        clear(name);
    }
}

/// News since a measurement began.
struct News {
    /// Changes of the projection's state and progress.
    moved: watch::Receiver<u64>,
    /// Changes of the store.
    wake: watch::Receiver<u64>,
}

impl News {
    fn subscribe(projection: &dyn ErasedProjection, context: &WorkerContext) -> Self {
        let (moved, mut wake) = (projection.moved(), context.wake.clone());
        wake.mark_unchanged();
        Self { moved, wake }
    }
}

/// Waits until the gauges are to be set again. A projection that has nothing to do, `idle_at` these
/// heads of the log, is rarely measured until there are events or its state changes.
async fn until_next(
    News { mut moved, mut wake }: News,
    context: &WorkerContext,
    idle_at: Option<Vec<Position>>,
) {
    if let Some(heads) = idle_at {
        tokio::select! {
            biased;
            _ = moved.changed() => {}
            _ = wake.changed(), if context.is_notified() => {}
            _ = context.store().wait_for_events(&heads), if !heads.is_empty() => {}
            () = context.sleep(context.poll_interval(IDLE_INTERVAL)) => {}
        }
    }
    context.clock().sleep(INTERVAL).await;
}

/// The events of the log that a projection has not processed.
struct Lag {
    state: ProjectionState,
    events: u64,
    /// The age of the oldest of them; zero if there is none.
    age: Duration,
    /// The heads of the log.
    heads: Vec<Position>,
}

async fn measured(
    projection: &dyn ErasedProjection,
    context: &WorkerContext,
) -> Result<Lag, StoreError> {
    let (store, log) = (context.store(), context.shared.log);
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
    let age = oldest.map_or(Duration::ZERO, |at| context.shared.clock.now().since(at));
    Ok(Lag { state: record.state, events, age, heads })
}

fn events_after(heads: &[Position], at: Position) -> u64 {
    let head = heads.iter().find(|head| head.partition == at.partition);
    head.map_or(0, |head| head.offset.saturating_sub(at.offset))
}

/// Sets the gauge of each state: 1 for the current one, 0 for the others.
fn set_state(name: &'static str, current: &str) {
    for state in STATES {
        let value = if state == current { 1.0 } else { 0.0 };
        PROJECTION_STATE.set([name, state], value);
    }
}

fn clear(name: &'static str) {
    PROJECTION_LAG_SECONDS.set([name], 0.0);
    PROJECTION_LAG_EVENTS.set([name], 0.0);
    set_state(name, "");
}
