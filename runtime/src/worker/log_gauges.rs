//! The gauges of a log: its queues, timers, dead letters and policies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::Position;
use composable_rust_core::queue::{Checkpoints as _, Outbox as _, OutboxKind, Pause, QueueSummary};
use composable_rust_core::store::{EventStore as _, StoreError};

use crate::app::queues::MAX_COUNTED;
use crate::metrics::{
    DEAD_LETTERS, Gauge, POLICY_LAG_EVENTS, POLICY_LAG_SECONDS, QUEUE_DEPTH, QUEUE_OLDEST_AGE,
    TIMERS_DUE, TIMERS_OVERDUE,
};
use crate::worker::context::WorkerContext;
use crate::worker::deliveries::queue_label;
use crate::worker::worker_id::WorkerId;

/// Interval at which the gauges are set.
const INTERVAL: Duration = Duration::from_secs(15);
/// Interval at which the gauges of an idle log are set.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum interval on a store that notifies this process of changes: between them, only ages rise.
const MAX_INTERVAL: Duration = Duration::from_secs(24 * 3_600);

/// The values of a log's gauges, by label.
#[derive(Debug, Default)]
struct LogValues {
    /// The depth of each queue, and the age of its first message.
    queues: BTreeMap<String, (u64, Duration)>,
    /// The timers of each aggregate type that are due, and the time since the first was.
    timers: BTreeMap<String, (u64, Duration)>,
    dead_letters: BTreeMap<String, u64>,
    /// The events that each policy has not processed, and the age of the first.
    policies: BTreeMap<String, (u64, Duration)>,
    heads: Vec<Position>,
}

/// Sets the gauges of the whole log, in one process: the one that holds the first lease of the
/// inbox pruner, a worker that all processes run. While the log is paused, all processes set them.
///
/// The gauges of a process that stops being the one become 0. Those of ages and lags rise while the
/// store does not respond.
pub(crate) async fn report_log(context: Arc<WorkerContext>, policies: Vec<String>) {
    let worker = WorkerId::InboxPruner.to_string();
    let mut shown = LogValues::default();
    let (mut measured_at, mut interval) = (context.now(), INTERVAL);
    loop {
        let mut is_idle = true;
        let leases = context.leases.of(&worker);
        let is_reporter = leases.iter().any(|held| held.lease.partition == 0)
            || context.leases.is_paused(Pause::LOG);
        if is_reporter {
            match measure(&context, &policies).await {
                Ok(values) => {
                    is_idle = values.is_idle();
                    measured_at = context.now();
                    shown = values.show(&shown);
                }
                Err(error) => {
                    tracing::debug!(%error, "failed to measure the queues; retrying");
                    shown.show_aged(context.now().saturating_sub(measured_at));
                    is_idle = false;
                }
            }
        } else {
            shown = LogValues::default().show(&shown);
        }
        if is_idle || context.is_notified() {
            let idle = context.poll_interval(IDLE_INTERVAL);
            let has_news = tokio::select! {
                biased;
                () = context.stop.cancelled() => break,
                () = news(&context, &shown.heads) => true,
                () = context.sleep(if is_idle { idle } else { interval }) => false,
            };
            interval = if has_news { INTERVAL } else { (interval * 2).min(MAX_INTERVAL) };
        }
        if !context.pause(INTERVAL).await {
            break;
        }
    }
    LogValues::default().show(&shown);
}

/// Waits until the log, the queues or the leases may have changed.
async fn news(context: &WorkerContext, heads: &[Position]) {
    let (mut wake, mut leases) = (context.wake.clone(), context.leases.changes());
    wake.mark_unchanged();
    tokio::select! {
        biased;
        _ = wake.changed() => {}
        _ = leases.changed() => {}
        _ = context.store().wait_for_events(heads), if !heads.is_empty() => {}
    }
}

async fn measure(context: &WorkerContext, policies: &[String]) -> Result<LogValues, StoreError> {
    let mut values = LogValues::default();
    for of in context.store().summarize_queues(MAX_COUNTED).await? {
        values.add_queue(of);
    }
    if policies.is_empty() {
        return Ok(values);
    }
    values.heads = context.store().heads().await?;
    for policy in policies {
        let lag = lag_of(context, policy, &values.heads).await?;
        values.policies.insert(policy.clone(), lag);
    }
    Ok(values)
}

/// Returns the number of events that a policy has not processed, and the age of the oldest. A
/// partition without a checkpoint counts as processed: no process has taken it over yet.
async fn lag_of(
    context: &WorkerContext,
    policy: &str,
    heads: &[Position],
) -> Result<(u64, Duration), StoreError> {
    let worker = WorkerId::Policy(policy.to_owned()).to_string();
    let (mut events, mut behind) = (0, Vec::new());
    for at in context.store().load_checkpoints(&worker).await? {
        let head = heads.iter().find(|head| head.partition == at.partition);
        let lag = head.map_or(0, |head| head.offset.saturating_sub(at.offset));
        if lag > 0 {
            events += lag;
            behind.push(Position::new(at.partition, at.offset));
        }
    }
    if behind.is_empty() {
        return Ok((0, Duration::ZERO));
    }
    let first = context.store().read_log(&behind, 1).await?;
    let oldest = first.iter().map(|event| event.recorded_at).min();
    Ok((events, oldest.map_or(Duration::ZERO, |at| context.clock().now().since(at))))
}

impl LogValues {
    fn add_queue(&mut self, of: QueueSummary) {
        let QueueSummary { queue, rows, oldest, dead_letters, .. } = of;
        let label = queue_label(queue.kind, &queue.target);
        *self.dead_letters.entry(label.clone()).or_default() += dead_letters;
        let (count, age) = match queue.kind {
            OutboxKind::Timer => self.timers.entry(queue.target).or_default(),
            _ => self.queues.entry(label).or_default(),
        };
        *count += rows;
        *age = oldest.max(*age);
    }

    /// Returns `true` if the values only change when the log or its queues do.
    fn is_idle(&self) -> bool {
        let maps = [&self.queues, &self.timers, &self.policies];
        maps.into_iter().flat_map(BTreeMap::values).all(|(count, _)| *count == 0)
    }

    /// Sets the gauges, to 0 where only `before` has a value. Returns the values, with these zeros
    /// left out.
    fn show(self, before: &Self) -> Self {
        show(&self.queues, &before.queues, (&QUEUE_DEPTH, &QUEUE_OLDEST_AGE));
        show(&self.timers, &before.timers, (&TIMERS_DUE, &TIMERS_OVERDUE));
        show(&self.policies, &before.policies, (&POLICY_LAG_EVENTS, &POLICY_LAG_SECONDS));
        for label in missing(&self.dead_letters, &before.dead_letters) {
            DEAD_LETTERS.set_count([label], 0);
        }
        for (label, count) in &self.dead_letters {
            DEAD_LETTERS.set_count([label], *count);
        }
        self
    }

    /// Sets the gauges of ages to these values, measured a while ago.
    fn show_aged(&self, since: Duration) {
        let show = |values: &BTreeMap<String, (u64, Duration)>, gauge: &Gauge<1>| {
            for (label, (count, age)) in values {
                if *count > 0 {
                    gauge.set([label], (*age + since).as_secs_f64());
                }
            }
        };
        show(&self.queues, &QUEUE_OLDEST_AGE);
        show(&self.timers, &TIMERS_OVERDUE);
        show(&self.policies, &POLICY_LAG_SECONDS);
    }
}

fn show(
    values: &BTreeMap<String, (u64, Duration)>,
    before: &BTreeMap<String, (u64, Duration)>,
    (count_gauge, age_gauge): (&Gauge<1>, &Gauge<1>),
) {
    for label in missing(values, before) {
        count_gauge.set_count([label], 0);
        age_gauge.set([label], 0.0);
    }
    for (label, (count, age)) in values {
        count_gauge.set_count([label], *count);
        age_gauge.set([label], age.as_secs_f64());
    }
}

/// Returns the labels that only `before` has.
fn missing<'a, T>(
    values: &BTreeMap<String, T>,
    before: &'a BTreeMap<String, T>,
) -> BTreeSet<&'a str> {
    before.keys().filter(|label| !values.contains_key(*label)).map(String::as_str).collect()
}
