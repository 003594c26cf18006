//! Comparing the topics with the logs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use checkout_workflow::{Apps, Checkout, Inventory, Order, Payment, Service, Shipping};
use composable_rust::bus::{Delivery as _, EventBus as _, SharedEventBus};
use composable_rust::prelude::*;
use futures_util::{StreamExt as _, TryStreamExt as _};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::groups::GroupInfo;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

const EVENTS: [&str; 5] =
    ["checkout-events", "order-events", "payment-events", "inventory-events", "shipping-events"];
const COMMANDS: [&str; 4] =
    ["checkout-commands", "payment-commands", "inventory-commands", "shipping-commands"];

/// The silence that marks the end of the topics.
const END_OF_TOPICS: Duration = Duration::from_secs(10);
/// The timeout of a request to the broker.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The time limit for the services to read the topics.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Returns the last version of each stream in the logs.
pub(crate) async fn last_versions(apps: &Apps) -> BTreeMap<String, u64> {
    let [checkout, payments, warehouse] = Service::ALL.map(|service| apps.app(service));
    let mut versions = BTreeMap::new();
    versions.extend(last_versions_of::<Checkout>(checkout).await);
    versions.extend(last_versions_of::<Order>(checkout).await);
    versions.extend(last_versions_of::<Payment>(payments).await);
    versions.extend(last_versions_of::<Inventory>(warehouse).await);
    versions.extend(last_versions_of::<Shipping>(warehouse).await);
    versions
}

async fn last_versions_of<A: Aggregate>(app: &App) -> BTreeMap<String, u64> {
    let events = app.events::<A>(app.log().start_positions());
    let versions = events.map_ok(|event| (event.stream.to_string(), event.version.get()));
    versions.try_collect().await.unwrap()
}

/// Reads all events on the topics, and asserts that none is missing and that the versions of each
/// key are in order. Returns the number of duplicates.
pub(crate) async fn assert_complete(
    bus: &SharedEventBus,
    versions: BTreeMap<String, u64>,
) -> usize {
    let topics = EVENTS.map(str::to_owned);
    let mut deliveries = bus.subscribe("event-reader", &topics, &[]).await.unwrap();
    let (mut seen, mut duplicates) = (BTreeMap::<String, u64>::new(), 0);
    while seen != versions {
        let next = tokio::time::timeout(END_OF_TOPICS * 3, deliveries.next()).await;
        let Ok(Some(delivery)) = next else { break };
        let Ok(delivery) = delivery else { continue };
        let message = delivery.message();
        let version = header(&message.headers, "ce_streamversion");
        let version = version.and_then(|version| version.parse().ok()).expect("a version");
        let last = seen.entry(message.key.clone()).or_default();
        if version <= *last {
            duplicates += 1;
        } else {
            assert_eq!(version, *last + 1, "{} {}", message.topic, message.key);
            *last = version;
        }
        delivery.acknowledge().await.ok();
    }
    let missing: Vec<_> =
        versions.iter().filter(|(key, version)| seen.get(*key) != Some(version)).collect();
    assert!(missing.is_empty(), "missing on the topics: {missing:?}");
    duplicates
}

/// Returns the number of commands and replies on the topics, and the number of duplicates among
/// them.
pub(crate) async fn duplicates(bus: &SharedEventBus) -> (usize, usize) {
    let topics = COMMANDS.map(str::to_owned);
    let mut deliveries = bus.subscribe("command-reader", &topics, &[]).await.unwrap();
    let (mut ids, mut count) = (BTreeSet::new(), 0);
    while let Ok(Some(delivery)) = tokio::time::timeout(END_OF_TOPICS, deliveries.next()).await {
        let Ok(delivery) = delivery else { continue };
        count += 1;
        ids.insert(header(&delivery.message().headers, "ce_id").expect("an id").to_owned());
        delivery.acknowledge().await.ok();
    }
    (count, count - ids.len())
}

/// Waits until each service has read all partitions of its command topics to the end. Returns the
/// number of partitions.
pub(crate) async fn assert_everything_is_read(brokers: &str, prefix: &str, apps: &Apps) -> usize {
    let mut partitions = 0;
    for service in Service::ALL {
        let log = apps.app(service).log().id.to_string();
        let (brokers, prefix) = (brokers.to_owned(), prefix.to_owned());
        let read = move || wait_until_read(&brokers, &prefix, &log, command_topics(service));
        partitions += tokio::task::spawn_blocking(read).await.unwrap();
    }
    partitions
}

fn command_topics(service: Service) -> &'static [&'static str] {
    match service {
        Service::Checkout => &COMMANDS[..1],
        Service::Payments => &COMMANDS[1..2],
        Service::Warehouse => &COMMANDS[2..],
    }
}

fn wait_until_read(brokers: &str, prefix: &str, log: &str, topics: &[&str]) -> usize {
    let consumer = |group: &str| -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("group.id", group);
        config.create().expect("librdkafka takes the settings")
    };
    let groups = consumer("group-reader").fetch_group_list(None, REQUEST_TIMEOUT).expect("a list");
    let of_service = |name: &&str| name.contains(log) && name.ends_with("-commands");
    let names: Vec<_> = groups.groups().iter().map(GroupInfo::name).collect();
    let group =
        names.iter().copied().find(of_service).unwrap_or_else(|| panic!("{log}: {names:?}"));
    let consumer = consumer(group);
    let (began, mut partitions) = (Instant::now(), 0);
    for topic in topics {
        let topic = format!("{prefix}{topic}");
        let metadata =
            consumer.fetch_metadata(Some(&topic), REQUEST_TIMEOUT).expect("the broker answers");
        for partition in metadata.topics()[0].partitions() {
            partitions += 1;
            let mut list = TopicPartitionList::new();
            list.add_partition(&topic, partition.id());
            loop {
                let (_, end) =
                    consumer.fetch_watermarks(&topic, partition.id(), REQUEST_TIMEOUT).unwrap();
                let committed = consumer.committed_offsets(list.clone(), REQUEST_TIMEOUT).unwrap();
                let committed = committed.elements()[0].offset();
                if end == 0 || committed == Offset::Offset(end) {
                    break;
                }
                let partition = format!("{topic} {}", partition.id());
                assert!(
                    began.elapsed() < TIME_LIMIT,
                    "{partition} is read to {committed:?} of {end}"
                );
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
    partitions
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
}
