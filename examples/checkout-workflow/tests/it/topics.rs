//! What stands on the topics, compared with the logs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use checkout_workflow::{Apps, Checkout, Inventory, Order, Payment, Service, Shipping};
use composable_rust::prelude::*;
use composable_rust::{Delivery as _, EventBus as _, SharedEventBus};
use futures_util::{StreamExt as _, TryStreamExt as _};

const EVENTS: [&str; 5] =
    ["checkout-events", "order-events", "payment-events", "inventory-events", "shipping-events"];
const COMMANDS: [&str; 4] =
    ["checkout-commands", "payment-commands", "inventory-commands", "shipping-commands"];

/// How long nothing comes at the end of a topic.
const QUIET: Duration = Duration::from_secs(10);

/// Each stream of the logs with its last version.
pub(crate) async fn last_versions(apps: &Apps) -> BTreeMap<String, u64> {
    let [checkout, payments, warehouse] = Service::ALL.map(|service| apps.of(service));
    let mut versions = BTreeMap::new();
    versions.extend(of::<Checkout>(checkout).await);
    versions.extend(of::<Order>(checkout).await);
    versions.extend(of::<Payment>(payments).await);
    versions.extend(of::<Inventory>(warehouse).await);
    versions.extend(of::<Shipping>(warehouse).await);
    versions
}

async fn of<A: Aggregate>(app: &App) -> BTreeMap<String, u64> {
    let events = app.events::<A>(app.log().beginnings());
    let stands = events.map_ok(|event| (event.stream.to_string(), event.version.get()));
    stands.try_collect().await.unwrap()
}

/// Reads all events on the topics: none is missing, each key's are in the order of versions, and
/// what is there twice is a repetition. Gives how many of those there are.
pub(crate) async fn assert_complete(
    bus: &SharedEventBus,
    versions: BTreeMap<String, u64>,
) -> usize {
    let topics = EVENTS.map(str::to_owned);
    let mut deliveries = bus.subscribe("look-at-events", &topics, &[]).await.unwrap();
    let (mut seen, mut repeated) = (BTreeMap::<String, u64>::new(), 0);
    while seen != versions {
        let next = tokio::time::timeout(QUIET * 3, deliveries.next()).await;
        let Ok(Some(delivery)) = next else { break };
        let Ok(delivery) = delivery else { continue };
        let message = delivery.message();
        let version = header(&message.headers, "ce_streamversion");
        let version = version.and_then(|version| version.parse().ok()).expect("a version");
        let last = seen.entry(message.key.clone()).or_default();
        if version <= *last {
            repeated += 1;
        } else {
            assert_eq!(version, *last + 1, "{} {}", message.topic, message.key);
            *last = version;
        }
        delivery.acknowledge().await.ok();
    }
    let missing: Vec<_> =
        versions.iter().filter(|(key, version)| seen.get(*key) != Some(version)).collect();
    assert!(missing.is_empty(), "not on the topics: {missing:?}");
    repeated
}

/// How many commands and replies came twice over the bus: the inbox has absorbed them.
pub(crate) async fn redeliveries(bus: &SharedEventBus) -> (usize, usize) {
    let topics = COMMANDS.map(str::to_owned);
    let mut deliveries = bus.subscribe("look-at-commands", &topics, &[]).await.unwrap();
    let (mut ids, mut count) = (BTreeSet::new(), 0);
    while let Ok(Some(delivery)) = tokio::time::timeout(QUIET, deliveries.next()).await {
        let Ok(delivery) = delivery else { continue };
        count += 1;
        ids.insert(header(&delivery.message().headers, "ce_id").expect("an id").to_owned());
        delivery.acknowledge().await.ok();
    }
    (count, count - ids.len())
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
}
