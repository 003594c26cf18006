//! The gauges of the relay's lag.

use metrics::{Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Recorder, SharedString, Unit};

use super::*;

/// Records the last value of each gauge.
#[derive(Default)]
struct Gauges(Mutex<Vec<(Key, Arc<Last>)>>);

#[derive(Default)]
struct Last(Mutex<f64>);

impl GaugeFn for Last {
    fn increment(&self, by: f64) {
        *self.0.lock().unwrap() += by;
    }

    fn decrement(&self, by: f64) {
        *self.0.lock().unwrap() -= by;
    }

    fn set(&self, value: f64) {
        *self.0.lock().unwrap() = value;
    }
}

impl Recorder for Gauges {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &metrics::Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &metrics::Metadata<'_>) -> Gauge {
        let mut gauges = self.0.lock().unwrap();
        let known = gauges.iter().find(|(known, _)| known == key).map(|(_, last)| Arc::clone(last));
        let last = known.unwrap_or_else(|| {
            let last = Arc::new(Last::default());
            gauges.push((key.clone(), Arc::clone(&last)));
            last
        });
        Gauge::from_arc(last)
    }

    fn register_histogram(&self, _: &Key, _: &metrics::Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

impl Gauges {
    /// The sum of a gauge of `front-events` over the log's partitions.
    fn sum(&self, name: &str) -> f64 {
        let gauges = self.0.lock().unwrap();
        let of_front = |key: &Key| {
            let mut labels = key.labels().map(|label| (label.key(), label.value()));
            key.name() == name && labels.any(|label| label == ("topic", "front-events"))
        };
        gauges
            .iter()
            .filter(|(key, _)| of_front(key))
            .map(|(_, last)| *last.0.lock().unwrap())
            .sum()
    }

    fn events(&self) -> f64 {
        self.sum("composable_rust_relay_lag_events")
    }
}

/// An alert needs the gauge most while nothing is published.
#[tokio::test(start_paused = true)]
async fn the_lag_rises_with_a_stuck_relay_and_ends_with_the_lease() {
    let gauges = Gauges::default();
    let _recording = metrics::set_default_local_recorder(&gauges);
    let (line, world) = (Line::new(), world_of(1));
    let app = front(&world, world.memory.clone(), &line, false);
    send(&app, "1", Errand::Note(0)).await;
    versions_rise(&line.bus, 1).await;
    line.refuse("front-events");
    for n in 1..4 {
        send(&app, "1", Errand::Note(n)).await;
    }
    eventually("three events", async || (gauges.events() - 3.0).abs() < 0.5).await;
    let seconds = || gauges.sum("composable_rust_relay_lag_seconds");
    eventually("its age rises", async || seconds() > 60.0).await;
    line.refuse("nothing");
    eventually("it is done", async || gauges.events() < 0.5 && seconds() < 0.5).await;
    line.refuse("front-events");
    send(&app, "1", Errand::Note(4)).await;
    eventually("one event", async || gauges.events() > 0.5).await;
    assert!(app.shutdown(PATIENCE).await);
    assert!(gauges.events() < 0.5 && seconds() < 0.5, "another process will say");
}

/// A pause lasts until an operator ends it.
#[tokio::test(start_paused = true)]
async fn the_lag_rises_while_the_log_is_paused() {
    let gauges = Gauges::default();
    let _recording = metrics::set_default_local_recorder(&gauges);
    let (line, world) = (Line::new(), world_of(1));
    let app = front(&world, world.memory.clone(), &line, false);
    send(&app, "1", Errand::Note(0)).await;
    versions_rise(&line.bus, 1).await;
    app.pause().await.unwrap();
    tokio::time::sleep(millis(30_000)).await;
    for n in 1..4 {
        send(&app, "1", Errand::Note(n)).await;
    }
    let seconds = || gauges.sum("composable_rust_relay_lag_seconds");
    eventually("three events", async || (gauges.events() - 3.0).abs() < 0.5).await;
    eventually("their age rises", async || seconds() > 60.0).await;
    app.resume().await.unwrap();
    eventually("it is done", async || gauges.events() < 0.5 && seconds() < 0.5).await;
}
