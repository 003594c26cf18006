//! An app that starts before its broker.

use std::time::Duration;

use composable_rust::bus::{Delivery as _, EventBus as _};
use composable_rust::codec::Format;
use composable_rust::operations::SubscriptionStatus;
use composable_rust::prelude::*;
use composable_rust::redpanda::RedpandaEventBus;
use composable_rust::testing::{InMemoryEventStore, TestBroker, eventually};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};

const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Parcel {
    scans: u32,
    told: bool,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum ParcelCommand {
    Scan,
    Tell,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum ParcelEvent {
    Scanned,
    Told,
}

impl Aggregate for Parcel {
    const NAME: &'static str = "parcel";
    type Command = ParcelCommand;
    type Event = ParcelEvent;
    type Rejection = std::convert::Infallible;
    type Environment = ();

    fn decide(&self, command: ParcelCommand, _: &Context<Self>) -> Decision<Self> {
        record(match command {
            ParcelCommand::Scan => ParcelEvent::Scanned,
            ParcelCommand::Tell => ParcelEvent::Told,
        })
    }

    fn apply(&mut self, event: ParcelEvent) {
        match event {
            ParcelEvent::Scanned => self.scans += 1,
            ParcelEvent::Told => self.told = true,
        }
    }
}

/// The app is built and works while the broker is down; publishing and reading begin when the
/// broker starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_starts_before_its_broker() {
    let mut broker = TestBroker::start().await;
    broker.kill().await;
    let settings = RedpandaEventBus::builder(&broker.brokers())
        .partitions(1)
        .connect_timeout(Duration::from_secs(2));
    let bus = settings.connect().await.unwrap();
    let app = App::builder(InMemoryEventStore::new())
        .event_bus(bus.clone())
        .aggregate::<Parcel>(())
        .publish::<Parcel>(Format::Json)
        .on_topic::<Parcel, _>("scanners", "scan", |record| {
            let id = record.key_text().and_then(|key| Parcel::parse_id(key).ok());
            id.map(|id| (id, ParcelCommand::Tell))
        })
        .build()
        .unwrap();
    app.start();
    let parcel = app.handle(&Parcel::id("1"));
    parcel.send(ParcelCommand::Scan).await.unwrap();
    assert_eq!(parcel.state(|parcel| parcel.scans).await.unwrap(), 1);
    let failing = async || app.subscriptions().iter().any(|read| read.last_error.is_some());
    eventually("the error of a subscription", PATIENCE, failing).await;

    broker.start_again().await;
    let topics = ["parcel-events".to_owned()];
    let subscribing = async || bus.subscribe("audit", &topics, &[]).await.ok();
    let mut published = eventually("a subscription", PATIENCE, subscribing).await;
    let published = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(Ok(delivery)) = published.next().await {
                return delivery.message().header("ce_type").map(str::to_owned);
            }
        }
    });
    assert_eq!(published.await.unwrap().as_deref(), Some("parcel.scanned"));
    let scan = composable_rust::bus::BusMessage {
        topic: "scanners".to_owned(),
        key: "1".to_owned(),
        headers: Vec::new(),
        payload: Vec::new(),
    };
    bus.publish(scan).await.unwrap();
    parcel.wait(|parcel| parcel.told.then_some(()), PATIENCE).await.unwrap();
    let reading = app.subscriptions().iter().all(SubscriptionStatus::is_reading);
    assert!(reading, "{:?}", app.subscriptions());
    assert!(app.shutdown(PATIENCE).await);
    broker.stop().await;
}
