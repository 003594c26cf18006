//! The gauges of projections.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use composable_rust_core::queue::Outbox as _;
use composable_rust_testing::{Fault, FaultyEventStore};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Recorder, SharedString, Unit};

use super::{AddUp, Model, deposit, failure, handle, pass, process, settle, store};

/// The last value of each gauge.
#[derive(Default)]
struct Gauges(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Gauges {
    fn get(&self, name: &str) -> f64 {
        let gauges = self.0.lock().unwrap();
        let bits = gauges.get(name).unwrap_or_else(|| panic!("no {name}: {:?}", gauges.keys()));
        f64::from_bits(bits.load(Ordering::SeqCst))
    }

    fn lag(&self) -> (f64, f64) {
        let seconds = self.get("composable_rust_projection_lag_seconds projection=totals");
        (seconds, self.get("composable_rust_projection_lag_events projection=totals"))
    }

    fn is(&self, state: &str) -> bool {
        let states = ["running", "rebuilding", "paused", "failed"].map(|state| {
            let gauge = "composable_rust_projection_state projection=totals,state=";
            (state, self.get(&format!("{gauge}{state}")) > 0.0)
        });
        states.iter().all(|(name, is)| (*name == state) == *is)
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
        let labels: Vec<_> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{} {}", key.name(), labels.join(","));
        Gauge::from_arc(Arc::clone(self.0.lock().unwrap().entry(name).or_default()))
    }

    fn register_histogram(&self, _: &Key, _: &metrics::Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn the_gauges_rise_while_the_projection_is_stuck() {
    let gauges = Gauges::default();
    let _recording = metrics::set_default_local_recorder(&gauges);
    let (memory, model, add_up) = (store(), Model::default(), AddUp::default());
    let store = FaultyEventStore::new(memory.clone());
    let app = process(&store, &add_up, &model);
    deposit(&app, "1", 1).await;
    settle(&app).await;
    pass(10).await;
    assert!(gauges.lag() == (0.0, 0.0) && gauges.is("running"), "{:?}", gauges.lag());

    add_up.poison(&["bad"]);
    deposit(&app, "bad", 1).await;
    failure(&app).await;
    for seconds in [100.0, 1_000.0] {
        pass(1_000).await;
        let lag = gauges.lag();
        assert!(lag.0 >= seconds && lag.1 >= 1.0 && gauges.is("failed"), "{lag:?}");
    }
    add_up.poison(&[]);
    handle(&app).resume().await.unwrap();
    settle(&app).await;
    pass(10).await;
    assert!(gauges.lag() == (0.0, 0.0) && gauges.is("running"), "{:?}", gauges.lag());

    handle(&app).pause().await.unwrap();
    pass(10).await;
    deposit(&app, "1", 1).await;
    pass(100).await;
    assert!(gauges.lag().0 >= 90.0 && gauges.lag().1 >= 1.0 && gauges.is("paused"));
    handle(&app).resume().await.unwrap();
    pass(10).await;
    assert_eq!(gauges.lag(), (0.0, 0.0));

    // The state of the log is unknown, so the projection may be behind.
    store.next_reads(std::iter::repeat_n(Fault::FailBefore, 10_000));
    // An idle projection on this store is measured when the store wakes its workers.
    memory.wake_workers().await.unwrap();
    pass(100).await;
    assert!(gauges.lag().0 >= 90.0, "{:?}", gauges.lag());
    store.recover();
    pass(10).await;
    assert_eq!(gauges.lag(), (0.0, 0.0));

    add_up.poison(&["bad"]);
    deposit(&app, "bad", 1).await;
    pass(10).await;
    assert!(gauges.lag().0 > 0.0);
    assert!(app.shutdown(Duration::from_secs(20)).await);
    assert!(gauges.lag() == (0.0, 0.0) && gauges.is(""), "another process tells");
}

#[tokio::test(start_paused = true)]
async fn a_change_during_a_measurement_is_seen() {
    let gauges = Gauges::default();
    let _recording = metrics::set_default_local_recorder(&gauges);
    let (memory, model, add_up) = (store(), Model::default(), AddUp::default());
    let store = FaultyEventStore::new(memory.clone());
    let app = process(&store, &add_up, &model);
    deposit(&app, "1", 1).await;
    settle(&app).await;
    pass(100).await;
    assert!(gauges.is("running"));
    // The gauges are measured five seconds later, and read the log for three more.
    memory.wake_workers().await.unwrap();
    pass(4).await;
    store.next_reads(std::iter::repeat_n(Fault::Delay(Duration::from_secs(3)), 10_000));
    pass(2).await;
    store.recover();
    handle(&app).pause().await.unwrap();
    pass(100).await;
    assert!(gauges.is("paused"));
}
