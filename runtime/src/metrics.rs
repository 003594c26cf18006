//! Every metric of the runtime: its name, unit, description and labels.
//!
//! A new metric is a constant here and a line in [`describe`]; the names of its labels are part
//! of the constant, so that each use gives exactly their values.

use ::metrics::{Label, Unit, counter, describe_counter, describe_gauge, gauge};

/// A value that rises and falls.
pub(crate) struct Gauge<const LABELS: usize> {
    name: &'static str,
    unit: Unit,
    description: &'static str,
    labels: [&'static str; LABELS],
}

/// A number that only rises.
pub(crate) struct Counter<const LABELS: usize> {
    name: &'static str,
    description: &'static str,
    labels: [&'static str; LABELS],
}

/// The events of the log that a projection has not processed.
pub(crate) const PROJECTION_LAG_EVENTS: Gauge<1> = Gauge {
    name: "composable_rust_projection_lag_events",
    unit: Unit::Count,
    description: "Events of the log that the projection has not processed",
    labels: ["projection"],
};

/// The age of the oldest event that a projection has not processed.
pub(crate) const PROJECTION_LAG_SECONDS: Gauge<1> = Gauge {
    name: "composable_rust_projection_lag_seconds",
    unit: Unit::Seconds,
    description: "Age of the oldest event that the projection has not processed; rises also while \
                  the log or the read model does not respond",
    labels: ["projection"],
};

/// One gauge for each state that a projection can be in.
pub(crate) const PROJECTION_STATE: Gauge<2> = Gauge {
    name: "composable_rust_projection_state",
    unit: Unit::Count,
    description: "1 for the state of the projection (running, rebuilding, paused or failed), 0 for \
                  the other states",
    labels: ["projection", "state"],
};

/// The events that the relay has not published yet.
pub(crate) const RELAY_LAG_EVENTS: Gauge<3> = Gauge {
    name: "composable_rust_relay_lag_events",
    unit: Unit::Count,
    description: "Events of the aggregate in this log partition that are not published to the topic \
                  yet",
    labels: ["topic", "aggregate", "partition"],
};

/// The age of the oldest event that the relay has not published yet.
pub(crate) const RELAY_LAG_SECONDS: Gauge<3> = Gauge {
    name: "composable_rust_relay_lag_seconds",
    unit: Unit::Seconds,
    description: "Age of the oldest event of the log partition that the relay has not passed",
    labels: ["topic", "aggregate", "partition"],
};

/// The rows of a queue that no running process works.
pub(crate) const QUEUE_WITHOUT_WORKER: Gauge<1> = Gauge {
    name: "composable_rust_queue_without_worker",
    unit: Unit::Count,
    description: "Rows and dead letters of a queue that no running process works",
    labels: ["queue"],
};

/// The open circuits of a gateway.
pub(crate) const OPEN_CIRCUITS: Gauge<1> = Gauge {
    name: "composable_rust_gateway_open_circuits",
    unit: Unit::Count,
    description: "Circuits of the gateway that are open in this process",
    labels: ["gateway"],
};

/// The pause of a gateway.
pub(crate) const GATEWAY_PAUSED: Gauge<1> = Gauge {
    name: "composable_rust_gateway_paused",
    unit: Unit::Count,
    description: "1 while the gateway is paused, 0 otherwise",
    labels: ["gateway"],
};

/// The instances that cannot be loaded.
pub(crate) const STUCK_INSTANCES: Gauge<1> = Gauge {
    name: "composable_rust_stuck_instances",
    unit: Unit::Count,
    description: "Instances that cannot be loaded and are retried",
    labels: ["aggregate"],
};

/// The messages that wait for newer code.
pub(crate) const UNKNOWN: Gauge<2> = Gauge {
    name: "composable_rust_unknown_messages",
    unit: Unit::Count,
    description: "Messages that this process cannot decode and that wait for a newer version of the \
                  program",
    labels: ["worker", "what"],
};

/// The duplicates that changed nothing.
pub(crate) const DUPLICATES_IGNORED: Counter<1> = Counter {
    name: "composable_rust_duplicates_ignored_total",
    description: "Duplicate messages to instances, answered with the first outcome",
    labels: ["aggregate"],
};

/// The snapshots that were not saved because they cannot be read back.
pub(crate) const UNFIT_SNAPSHOTS: Counter<1> = Counter {
    name: "composable_rust_unfit_snapshots_total",
    description: "Snapshots that were not saved because they cannot be stored or read back",
    labels: ["aggregate"],
};

/// Describes all metrics to the installed recorder.
pub(crate) fn describe() {
    PROJECTION_LAG_EVENTS.describe();
    PROJECTION_LAG_SECONDS.describe();
    PROJECTION_STATE.describe();
    RELAY_LAG_EVENTS.describe();
    RELAY_LAG_SECONDS.describe();
    QUEUE_WITHOUT_WORKER.describe();
    OPEN_CIRCUITS.describe();
    GATEWAY_PAUSED.describe();
    STUCK_INSTANCES.describe();
    UNKNOWN.describe();
    DUPLICATES_IGNORED.describe();
    UNFIT_SNAPSHOTS.describe();
}

impl<const LABELS: usize> Gauge<LABELS> {
    fn describe(&self) {
        describe_gauge!(self.name, self.unit, self.description);
    }

    /// Sets the gauge of these label values.
    pub(crate) fn set(&self, values: [&str; LABELS], value: f64) {
        gauge!(self.name, labels(self.labels, values)).set(value);
    }

    /// Sets the gauge of these label values to a count.
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and a gauge need not be")]
    pub(crate) fn set_count(&self, values: [&str; LABELS], count: u64) {
        self.set(values, count as f64);
    }
}

impl<const LABELS: usize> Counter<LABELS> {
    fn describe(&self) {
        describe_counter!(self.name, Unit::Count, self.description);
    }

    /// Adds one to the counter of these label values.
    pub(crate) fn increment(&self, values: [&str; LABELS]) {
        counter!(self.name, labels(self.labels, values)).increment(1);
    }
}

fn labels<const N: usize>(names: [&'static str; N], values: [&str; N]) -> Vec<Label> {
    let pairs = names.into_iter().zip(values);
    pairs.map(|(name, value)| Label::new(name, value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use ::metrics::{
        Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };

    use super::describe;

    /// The names of the described metrics.
    #[derive(Debug, Default)]
    struct Described(Mutex<Vec<String>>);

    impl Described {
        fn add(&self, name: &KeyName) {
            self.0.lock().unwrap().push(name.as_str().to_owned());
        }
    }

    impl Recorder for Described {
        fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
            self.add(&name);
        }

        fn describe_gauge(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
            self.add(&name);
        }

        fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
            self.add(&name);
        }

        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::noop()
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn every_metric_is_described() {
        let recorder = Described::default();
        ::metrics::with_local_recorder(&recorder, describe);
        let name = |line: &'static str| line.trim().strip_prefix("name: \"")?.strip_suffix("\",");
        let declared: Vec<_> = include_str!("metrics.rs").lines().filter_map(name).collect();
        assert_eq!(*recorder.0.lock().unwrap(), declared);
    }
}
