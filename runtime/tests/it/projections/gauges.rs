//! The gauges of projections.

use std::time::Duration;

use composable_rust_core::queue::Outbox as _;
use composable_rust_testing::{Fault, FaultyEventStore};

use crate::recorded::Recorded;

use super::{AddUp, Model, deposit, failure, handle, pass, process, settle, store};

const SECONDS: &str = "projection_lag_seconds{projection=totals}";
const EVENTS: &str = "projection_lag_events{projection=totals}";

impl Recorded {
    fn lag(&self) -> (f64, f64) {
        (self.get(SECONDS), self.get(EVENTS))
    }

    fn is(&self, state: &str) -> bool {
        let states = ["running", "rebuilding", "paused", "failed"].map(|state| {
            let gauge = format!("projection_state{{projection=totals,state={state}}}");
            (state, self.get(&gauge) > 0.0)
        });
        states.iter().all(|(name, is)| (*name == state) == *is)
    }
}

#[tokio::test(start_paused = true)]
async fn the_gauges_rise_while_the_projection_is_stuck() {
    let gauges = Recorded::default();
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
    let gauges = Recorded::default();
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
