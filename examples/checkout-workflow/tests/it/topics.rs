//! What stands on the topics, compared with the logs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use checkout_workflow::{Apps, Checkout, Inventory, Order, Payment, Service, Shipping};
use composable_rust::prelude::*;
use composable_rust::{Delivery as _, EventBus as _, SharedEventBus};
use futures_util::{StreamExt as _, TryStreamExt as _};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::groups::GroupInfo;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

const EVENTS: [&str; 5] =
    ["checkout-events", "order-events", "payment-events", "inventory-events", "shipping-events"];
const COMMANDS: [&str; 4] =
    ["checkout-commands", "payment-commands", "inventory-commands", "shipping-commands"];

/// How long nothing comes at the end of a topic.
const QUIET: Duration = Duration::from_secs(10);
/// How long the broker may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How long everything may take to be read.
const MOST: Duration = Duration::from_secs(120);

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
    let events = app.events::<A>(app.log().start_positions());
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

/// Waits until each service has read the topics of its commands to their ends: none of their
/// partitions is left alone. Gives how many partitions there are.
pub(crate) async fn assert_everything_is_read(brokers: &str, prefix: &str, apps: &Apps) -> usize {
    let mut partitions = 0;
    for service in Service::ALL {
        let log = apps.of(service).log().id.to_string();
        let (brokers, prefix) = (brokers.to_owned(), prefix.to_owned());
        let read = move || read_to_the_end(&brokers, &prefix, &log, topics_of(service));
        partitions += tokio::task::spawn_blocking(read).await.unwrap();
    }
    partitions
}

fn topics_of(service: Service) -> &'static [&'static str] {
    match service {
        Service::Checkout => &COMMANDS[..1],
        Service::Payments => &COMMANDS[1..2],
        Service::Warehouse => &COMMANDS[2..],
    }
}

fn read_to_the_end(brokers: &str, prefix: &str, log: &str, topics: &[&str]) -> usize {
    let consumer = |group: &str| -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("group.id", group);
        config.create().expect("librdkafka takes the settings")
    };
    let groups = consumer("look-at-groups").fetch_group_list(None, ANSWER).expect("a list");
    let ours = |name: &&str| name.contains(log) && name.ends_with("-commands");
    let names: Vec<_> = groups.groups().iter().map(GroupInfo::name).collect();
    let group = names.iter().copied().find(ours).unwrap_or_else(|| panic!("{log}: {names:?}"));
    let consumer = consumer(group);
    let (began, mut partitions) = (Instant::now(), 0);
    for topic in topics {
        let topic = format!("{prefix}{topic}");
        let metadata = consumer.fetch_metadata(Some(&topic), ANSWER).expect("it answers");
        for partition in metadata.topics()[0].partitions() {
            partitions += 1;
            let mut list = TopicPartitionList::new();
            list.add_partition(&topic, partition.id());
            loop {
                let (_, end) = consumer.fetch_watermarks(&topic, partition.id(), ANSWER).unwrap();
                let committed = consumer.committed_offsets(list.clone(), ANSWER).unwrap();
                let committed = committed.elements()[0].offset();
                if end == 0 || committed == Offset::Offset(end) {
                    break;
                }
                let place = format!("{topic} {}", partition.id());
                assert!(began.elapsed() < MOST, "{place} is read to {committed:?} of {end}");
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
    partitions
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
}
