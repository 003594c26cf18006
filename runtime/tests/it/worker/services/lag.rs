//! The gauges of the relay's lag.

use crate::recorded::Recorded;

use super::*;

impl Recorded {
    /// The events of `front-events` that are not published, in all partitions.
    fn events(&self) -> f64 {
        self.sum("relay_lag_events", "topic=front-events")
    }

    /// The sum of their ages over the partitions.
    fn seconds(&self) -> f64 {
        self.sum("relay_lag_seconds", "topic=front-events")
    }
}

/// An alert needs the gauge most while nothing is published.
#[tokio::test(start_paused = true)]
async fn the_lag_rises_with_a_stuck_relay_and_ends_with_the_lease() {
    let gauges = Recorded::default();
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
    eventually("its age rises", async || gauges.seconds() > 60.0).await;
    line.refuse("nothing");
    eventually("it is done", async || gauges.events() < 0.5 && gauges.seconds() < 0.5).await;
    line.refuse("front-events");
    send(&app, "1", Errand::Note(4)).await;
    eventually("one event", async || gauges.events() > 0.5).await;
    assert!(app.shutdown(PATIENCE).await);
    assert!(gauges.events() < 0.5 && gauges.seconds() < 0.5, "another process will say");
}

/// A pause lasts until an operator ends it.
#[tokio::test(start_paused = true)]
async fn the_lag_rises_while_the_log_is_paused() {
    let gauges = Recorded::default();
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
    eventually("three events", async || (gauges.events() - 3.0).abs() < 0.5).await;
    eventually("their age rises", async || gauges.seconds() > 60.0).await;
    app.resume().await.unwrap();
    eventually("it is done", async || gauges.events() < 0.5 && gauges.seconds() < 0.5).await;
}
