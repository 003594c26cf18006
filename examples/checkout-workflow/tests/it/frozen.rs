//! A process that is frozen while its relay publishes, for longer than its lease.
//!
//! Another process takes stop. When the first one wakes up, the events that it was about to publish
//! do not reach the topics a second time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use checkout_workflow::{Inventory, InventoryCommand, Order, Service, Shipping, ShippingCommand};
use composable_rust::StoreUrl;
use composable_rust::prelude::*;
use composable_rust::testing::{TestDatabase, eventually};
use futures_util::TryStreamExt as _;
use sqlx::PgPool;
use tokio::task::JoinSet;

use crate::freezer::{FreezePoint, Warehouse};
use crate::plain_consumer::{EventKey, PlainConsumer};
use crate::services::brokers;
use crate::shop::{self, unique_prefix};

/// The time limit of each wait.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(180);

/// The number of senders. Each sends one command at a time, with a pause between two.
const SENDERS: u32 = 12;
const PAUSE: Duration = Duration::from_millis(8);
const ARTICLES: u32 = 150;

/// A value for each log partition.
type PerPartition<T> = BTreeMap<i16, T>;

/// Queries about the relay of stock events, which skips the other events of the log.
struct Relay(PgPool);

/// The name of its leases and checkpoints.
const RELAY_NAME: &str = "relay/inventory-events/inventory";

impl Relay {
    /// Returns the holder and the epoch of each lease.
    async fn leases(&self) -> PerPartition<(Option<String>, i64)> {
        let rows = "select partition, holder::text, epoch from leases where worker = $1";
        let rows: Vec<(i16, Option<String>, i64)> =
            sqlx::query_as(rows).bind(RELAY_NAME).fetch_all(&self.0).await.unwrap();
        rows.into_iter().map(|(partition, holder, epoch)| (partition, (holder, epoch))).collect()
    }

    /// Returns the offset and the epoch of each checkpoint.
    async fn checkpoints(&self) -> PerPartition<(i64, i64)> {
        let rows = "select partition, log_offset, epoch from checkpoints where name = $1";
        let rows: Vec<(i16, i64, i64)> =
            sqlx::query_as(rows).bind(RELAY_NAME).fetch_all(&self.0).await.unwrap();
        rows.into_iter().map(|(partition, offset, epoch)| (partition, (offset, epoch))).collect()
    }

    /// Returns the offset of the last event of each partition.
    async fn heads(&self) -> PerPartition<i64> {
        let rows = "select partition, max(log_offset) from events group by partition";
        sqlx::query_as(rows).fetch_all(&self.0).await.unwrap().into_iter().collect()
    }

    /// Returns the number of events up to `heads` that are after the checkpoints.
    async fn behind(&self, heads: &PerPartition<i64>) -> i64 {
        let done = self.checkpoints().await;
        let done = |partition| done.get(partition).map_or(0, |(offset, _)| *offset);
        heads.iter().map(|(partition, head)| (head - done(partition)).max(0)).sum()
    }

    /// Returns the process that holds all leases, unless that is `other`, with the epochs.
    async fn sole_holder(&self, other: Option<&str>) -> Option<(String, PerPartition<i64>)> {
        let leases = self.leases().await;
        let holder = leases.values().next()?.0.clone().filter(|holder| Some(&**holder) != other)?;
        let all = leases.len() == usize::from(self.partitions().await)
            && leases.values().all(|(other, _)| other.as_ref() == Some(&holder));
        let epochs = leases.into_iter().map(|(partition, (_, epoch))| (partition, epoch));
        all.then(|| (holder, epochs.collect()))
    }

    async fn partitions(&self) -> u16 {
        let count = sqlx::query_scalar::<_, i16>("select partition_count from log");
        u16::try_from(count.fetch_one(&self.0).await.unwrap()).unwrap()
    }

    async fn outbox_is_empty(&self) -> bool {
        let query = sqlx::query_scalar("select not exists (select from outbox)");
        query.fetch_one(&self.0).await.unwrap()
    }
}

/// Starts senders that restock articles, and request parcels of units that the stock does not have,
/// until `stop` is set. Each returns the number of its sends.
fn start_senders(app: &App, stop: &Arc<AtomicBool>) -> JoinSet<u64> {
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let (app, stop) = (app.clone(), Arc::clone(stop));
        senders.spawn(async move {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let n = u32::try_from(sent).unwrap() * SENDERS + sender;
                let sku = Inventory::id((n % ARTICLES).to_string());
                if n % 10 == 0 {
                    let ship = ShippingCommand::Ship { sku, units: 1 };
                    let order: Id<Order> = Order::id(n.to_string());
                    app.handle(&Shipping::id(order.as_str())).send(ship).await.unwrap();
                } else {
                    let restock = InventoryCommand::Restock { units: 1 };
                    app.handle(&sku).send(restock).await.unwrap();
                }
                sent += 1;
                tokio::time::sleep(PAUSE).await;
            }
            sent
        });
    }
    senders
}

/// Returns the events of an aggregate in the log, by stream.
async fn logged_events<A: Aggregate>(app: &App) -> BTreeMap<String, Vec<EventKey>> {
    let mut events: Vec<_> =
        app.events::<A>(app.log().start_positions()).try_collect().await.unwrap();
    events.sort_by_key(|event| event.version);
    let mut streams = BTreeMap::<_, Vec<_>>::new();
    for event in events {
        let key = (event.version.get(), event.id.to_string());
        streams.entry(event.stream.to_string()).or_default().push(key);
    }
    streams
}

/// Asserts that the topics have the events of the log: each once, in the same order.
fn assert_same(log: &BTreeMap<String, Vec<EventKey>>, topics: &BTreeMap<String, Vec<EventKey>>) {
    let (mut count, mut first) = (0, None);
    for key in log.keys().chain(topics.keys().filter(|key| !log.contains_key(*key))) {
        let events =
            |all: &BTreeMap<String, Vec<EventKey>>| all.get(key).cloned().unwrap_or_default();
        let (expected, found) = (events(log), events(topics));
        if expected != found {
            count += 1;
            first.get_or_insert_with(|| differences(key, &expected, &found));
        }
    }
    if let Some(first) = first {
        panic!("{count} of {} keys differ from the log; {first}", log.len());
    }
}

/// Describes how the events of one key differ from the log.
fn differences(key: &str, expected: &[EventKey], found: &[EventKey]) -> String {
    let at = expected.iter().zip(found).take_while(|(expected, found)| expected == found).count();
    let missing = expected.iter().filter(|event| !found.contains(event)).count();
    let versions: Vec<_> = found.iter().skip(at).take(12).map(|(version, _)| version).collect();
    format!(
        "{key}: {} recorded, {} on the topic, {missing} missing; the first {at} are correct, and the \
         versions {versions:?} follow",
        expected.len(),
        found.len()
    )
}

/// The store and the topics of the test.
struct Environment {
    store: String,
    prefix: String,
    relay: Relay,
    topics: PlainConsumer,
}

impl Environment {
    fn start_warehouse(&self) -> Warehouse {
        Warehouse::start(&self.store, &self.prefix)
    }

    /// Freezes `process` while it publishes. Returns the heads of the log before the freeze.
    async fn freeze(&self, process: &Warehouse, point: FreezePoint) -> PerPartition<i64> {
        let length = self.topics.length();
        eventually("growing topics", TIME_LIMIT, async || self.topics.length() > length).await;
        eventually("a process that is frozen with events to publish", TIME_LIMIT, async || {
            let heads = self.relay.heads().await;
            process.freeze(point).await;
            // The log has only grown since, and the relays are frozen.
            let behind = self.relay.behind(&heads).await;
            let open = self.topics.has_open_transaction();
            if behind == 0 || (point == FreezePoint::InATransaction && !open) {
                process.wake();
                return None;
            }
            println!("frozen {point:?}, {behind} events behind");
            Some(heads)
        })
        .await
    }

    /// Freezes `first` until another process has taken over its work, then wakes it.
    async fn freeze_past_the_lease(&self, first: &Warehouse, point: FreezePoint) {
        let (relay, began) = (&self.relay, Instant::now());
        let (frozen, before) = eventually("one holder of all leases", TIME_LIMIT, async || {
            relay.sole_holder(None).await
        })
        .await;
        let heads = self.freeze(first, point).await;
        let mut second = self.start_warehouse();
        let (_, epochs) =
            eventually("the takeover of the second process", TIME_LIMIT, async || {
                relay.sole_holder(Some(&frozen)).await
            })
            .await;
        let risen = epochs.iter().all(|(partition, epoch)| *epoch > before[partition]);
        assert!(risen, "{epochs:?} after {before:?}");
        eventually(
            "the events of the first process, published by the second",
            TIME_LIMIT,
            async || {
                let done = relay.checkpoints().await;
                let past = |(partition, head): (&i16, &i64)| {
                    let (offset, epoch) = done.get(partition).copied().unwrap_or_default();
                    offset > *head && epoch >= epochs[partition]
                };
                heads.iter().all(past)
            },
        )
        .await;

        first.wake();
        // The relay of a partition does one thing after the other. So when it publishes under a
        // lease that is newer than the second process's, its old events are behind it.
        let renewed = async || {
            let (leases, done) = (relay.leases().await, relay.checkpoints().await);
            let renewed = |(partition, (holder, epoch)): &(&i16, &(Option<String>, i64))| {
                holder.as_ref() == Some(&frozen)
                    && *epoch > epochs[partition]
                    && done.get(partition).is_some_and(|(_, written_in)| written_in == epoch)
            };
            leases.iter().filter(renewed).count()
        };
        eventually("leases of the first process", TIME_LIMIT, async || renewed().await > 0).await;
        let heads = relay.heads().await;
        eventually("publication by both processes", TIME_LIMIT, async || {
            relay.behind(&heads).await == 0
        })
        .await;
        second.stop();
        let all = epochs.len();
        eventually("all leases at the first process", TIME_LIMIT, async || renewed().await == all)
            .await;
        println!("the takeover took {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_frozen_past_its_lease_publishes_each_event_once() {
    shop::show_logs();
    let (database, prefix) = (TestDatabase::create().await, unique_prefix());
    let store = database.url().parse::<StoreUrl>().unwrap().connect().await.unwrap();
    let app = shop::shop().app(store, &[Service::Warehouse], None).build().unwrap();
    let topics = ["inventory-events", "shipping-events"].map(|topic| format!("{prefix}{topic}"));
    let relay = Relay(PgPool::connect(&database.url()).await.unwrap());
    let topics = PlainConsumer::new(&brokers(), topics.into());
    let environment = Environment { store: database.url(), prefix, relay, topics };

    let stop = Arc::new(AtomicBool::new(false));
    let senders = start_senders(&app, &stop);
    let mut first = environment.start_warehouse();
    for point in
        [FreezePoint::BeforePublishing, FreezePoint::AfterPublishing, FreezePoint::InATransaction]
    {
        environment.freeze_past_the_lease(&first, point).await;
    }
    stop.store(true, Ordering::Relaxed);
    let sent: u64 = senders.join_all().await.into_iter().sum();

    let relay = &environment.relay;
    eventually("the end of all work", TIME_LIMIT, async || {
        let idle = relay.outbox_is_empty().await;
        idle && relay.behind(&relay.heads().await).await == 0
    })
    .await;
    first.stop();
    // A commit may be confirmed before consumers can read its messages.
    eventually("the end of all transactions", TIME_LIMIT, async || {
        !environment.topics.has_open_transaction()
    })
    .await;
    let (stock, parcels) =
        (logged_events::<Inventory>(&app).await, logged_events::<Shipping>(&app).await);
    assert!(!stock.is_empty() && !parcels.is_empty());
    let log: BTreeMap<_, _> = stock.into_iter().chain(parcels).collect();
    assert_same(&log, &environment.topics.read());
    let events: usize = log.values().map(Vec::len).sum();
    println!("{sent} sends; each of {events} events is on the topics once, in order");
}
