//! Every metric of the runtime: its name, unit, labels and description.
//!
//! A new metric is an entry of the table below. The names of its labels are part of the entry, so
//! that each use gives exactly their values.

mod kinds;

pub(crate) use self::kinds::{Counter, Gauge, Histogram, as_f64};
pub use self::kinds::{MetricDescription, MetricKind};

/// Buckets of a time that callers wait for, as OpenTelemetry advises for databases.
const DURATION: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Buckets of a time for which messages wait.
const WAIT: &[f64] =
    &[0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0];
/// Buckets of a count.
const COUNT: &[f64] = &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];

/// Declares the metrics as constants, and the list of all of them.
macro_rules! metrics {
    ($($kind:ident $constant:ident($name:literal, $unit:literal, [$($label:literal),*]
        $(, $buckets:ident)?) = $description:literal;)*) => {
        $(
            #[doc = concat!($description, ".")]
            pub(crate) const $constant: metrics!(@type $kind [$($label),*]) =
                <metrics!(@type $kind [$($label),*])>::new($name, [$($label),*]);
        )*

        const METRICS: &[MetricDescription] = &[$(MetricDescription {
            name: $name,
            kind: MetricKind::$kind,
            unit: $unit,
            labels: &[$($label),*],
            description: $description,
            buckets: metrics!(@buckets $($buckets)?),
        }),*];
    };
    (@type $kind:ident [$($label:literal),*]) => { $kind<{ metrics!(@count $($label),*) }> };
    (@count $($label:literal),*) => { <[&str]>::len(&[$($label),*]) };
    (@buckets) => { &[] };
    (@buckets $buckets:ident) => { $buckets };
}

metrics! {
    Histogram COMMAND_DURATION("composable_rust_command_duration_seconds", "seconds",
        ["aggregate", "command", "outcome"], DURATION) =
        "Time from the arrival of a command at its instance to its outcome: `committed`, \
         `unchanged`, `rejected`, `conflict` (another version than expected, or a key used again), \
         `duplicate`, `expired` (the deadline has passed) or `failed`";
    Histogram APPEND_DURATION("composable_rust_append_duration_seconds", "seconds",
        ["outcome"], DURATION) =
        "Time that the store takes for a batch of appends; the outcome is `committed` if the store \
         has answered, `invalid` or `unknown` otherwise";
    Histogram APPEND_BATCH_APPENDS("composable_rust_append_batch_appends", "appends",
        [], COUNT) =
        "Appends of one batch, which share a transaction";
    Histogram APPEND_BATCH_EVENTS("composable_rust_append_batch_events", "events",
        [], COUNT) =
        "Events of one batch";
    Counter APPEND_CONFLICTS("composable_rust_append_conflicts_total", "appends",
        ["aggregate"]) =
        "Appends that conflict with another writer's; their commands are decided again";
    Counter DUPLICATES_IGNORED("composable_rust_duplicates_ignored_total", "messages",
        ["aggregate"]) =
        "Duplicate messages to instances, answered with the first outcome";
    Gauge LIVE_INSTANCES("composable_rust_live_instances", "instances", ["aggregate"]) =
        "Instances in memory";
    Gauge LIVE_INSTANCE_BYTES("composable_rust_live_instance_bytes", "bytes", ["aggregate"]) =
        "Approximate size of the instances in memory";
    Gauge STUCK_INSTANCES("composable_rust_stuck_instances", "instances", ["aggregate"]) =
        "Instances that cannot be loaded and are retried";
    Counter SNAPSHOT_FAILURES("composable_rust_snapshot_failures_total", "snapshots",
        ["aggregate", "reason"]) =
        "Snapshots that were not saved, because the store was `unavailable` or they are `unfit`: \
         they cannot be stored or read back";

    Gauge QUEUE_DEPTH("composable_rust_queue_depth", "messages", ["queue"]) =
        "Messages that wait in the queue, up to 10,000 for each log partition";
    Gauge QUEUE_OLDEST_AGE("composable_rust_queue_oldest_age_seconds", "seconds", ["queue"]) =
        "Age of the first message of the queue";
    Gauge QUEUE_WITHOUT_WORKER("composable_rust_queue_without_worker", "messages", ["queue"]) =
        "Messages and dead letters of a queue that no running process works";
    Counter DELIVERY_ATTEMPTS("composable_rust_delivery_attempts_total", "attempts",
        ["queue", "outcome"]) =
        "Attempts to handle a message of the queue, or to fire a timer: `handled`, `failed`, \
         `unavailable` (a dependency), `stuck` (the instance cannot be loaded), `poison` (no retry \
         can succeed), `crashed`, `unknown` (needs newer code) or `fenced` (another process has \
         the lease)";
    Histogram DELIVERY_DURATION("composable_rust_delivery_duration_seconds", "seconds",
        ["queue"], WAIT) =
        "Time from the queueing of a message to the end of the attempt that handled it";
    Gauge TIMERS_DUE("composable_rust_timers_due", "timers", ["aggregate"]) =
        "Timers that are due and have not fired, up to 10,000 for each log partition";
    Gauge TIMERS_OVERDUE("composable_rust_timers_overdue_seconds", "seconds", ["aggregate"]) =
        "Time since the first of these timers was due";
    Histogram TIMER_LATENESS("composable_rust_timer_lateness_seconds", "seconds",
        ["aggregate"], WAIT) =
        "Time from the deadline of a timer to the first attempt to fire it";
    Gauge DEAD_LETTERS("composable_rust_dead_letters", "messages", ["queue"]) =
        "Dead letters of the queue, up to 10,000 for each log partition";
    Counter MESSAGES_PARKED("composable_rust_messages_parked_total", "messages", ["queue"]) =
        "Messages that this process has parked among the dead letters, without those behind them";
    Gauge UNKNOWN("composable_rust_unknown_messages", "messages", ["worker", "what"]) =
        "Messages that this process cannot decode and that wait for a newer version of the program";

    Histogram GATEWAY_CALL_DURATION("composable_rust_gateway_call_duration_seconds", "seconds",
        ["gateway", "outcome"], DURATION) =
        "Time of one call: `done`, `failed` (a failure of the domain), `unreachable`, `timeout`, \
         `error` (it is retried) or `undecodable` (it was not made)";
    Gauge OPEN_CIRCUITS("composable_rust_gateway_open_circuits", "circuits", ["gateway"]) =
        "Circuits of the gateway that are open in this process";
    Gauge GATEWAY_PAUSED("composable_rust_gateway_paused", "0 or 1", ["gateway"]) =
        "1 while the gateway is paused, 0 otherwise";

    Gauge PROJECTION_LAG_EVENTS("composable_rust_projection_lag_events", "events", ["projection"]) =
        "Events of the log that the projection has not processed";
    Gauge PROJECTION_LAG_SECONDS("composable_rust_projection_lag_seconds", "seconds",
        ["projection"]) =
        "Age of the oldest event that the projection has not processed; rises also while the log \
         or the read model does not respond";
    Gauge PROJECTION_STATE("composable_rust_projection_state", "0 or 1", ["projection", "state"]) =
        "1 for the state of the projection (`running`, `waiting` for newer code, `rebuilding`, \
         `paused` or `failed`), 0 for the other states";
    Gauge POLICY_LAG_EVENTS("composable_rust_policy_lag_events", "events", ["policy"]) =
        "Events of the log that the policy has not processed";
    Gauge POLICY_LAG_SECONDS("composable_rust_policy_lag_seconds", "seconds", ["policy"]) =
        "Age of the oldest event that the policy has not processed";
    Gauge RELAY_LAG_EVENTS("composable_rust_relay_lag_events", "events",
        ["topic", "aggregate", "partition"]) =
        "Events of the aggregate in this log partition that are not published to the topic yet";
    Gauge RELAY_LAG_SECONDS("composable_rust_relay_lag_seconds", "seconds",
        ["topic", "aggregate", "partition"]) =
        "Age of the oldest event of the log partition that the relay has not passed";
    Gauge CONSUMER_LAG_SECONDS("composable_rust_consumer_lag_seconds", "seconds",
        ["consumer", "topic"]) =
        "Age of the oldest message that this process has received from the topic and not queued, \
         and 0 while it has received all";

    Gauge LEASES_HELD("composable_rust_leases_held", "leases", []) =
        "Leases that this process holds";
    Gauge LEASES_MISSING("composable_rust_leases_missing", "leases", []) =
        "Leases of this process's fair share that other processes hold";
    Gauge STORE_CONNECTIONS_IN_USE("composable_rust_store_connections_in_use", "connections",
        ["pool"]) =
        "Connections of the store's pool that are in use";
    Gauge STORE_CONNECTIONS_MAX("composable_rust_store_connections_max", "connections", ["pool"]) =
        "Maximum connections of the store's pool";
    Gauge STORE_CLOCK_SKEW("composable_rust_store_clock_skew_seconds", "seconds", []) =
        "Time by which the store's clock is ahead of this process's clock; negative if it is behind";
    Gauge STORE_OLDEST_SNAPSHOT("composable_rust_store_oldest_snapshot_seconds", "seconds", []) =
        "Age of the oldest snapshot that a transaction of the server holds, so that rows deleted \
         since cannot be vacuumed";
}

/// Returns the descriptions of all metrics.
pub fn descriptions() -> &'static [MetricDescription] {
    METRICS
}

/// Describes all metrics to the installed recorder.
pub(crate) fn describe() {
    METRICS.iter().for_each(MetricDescription::describe);
}

#[cfg(test)]
mod tests;
