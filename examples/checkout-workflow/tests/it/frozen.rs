//! A process that is frozen while its relay publishes, for longer than its lease. Another one takes
//! over. When the first wakes up, what it had in hand does not come onto the topics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use checkout_workflow::{Inventory, InventoryCommand, Order, Service, Shipping, ShippingCommand};
use composable_rust::StoreUrl;
use composable_rust::prelude::*;
use composable_rust::testing::TestDatabase;
use futures_util::TryStreamExt as _;
use sqlx::PgPool;
use tokio::task::JoinSet;

use crate::freezer::{Moment, Warehouse};
use crate::plain_consumer::{PlainConsumer, Standing};
use crate::services::brokers;
use crate::shop::{self, unique};

/// How long anything that is waited for may take.
const MOST: Duration = Duration::from_secs(180);

/// The load: so many senders, each with a send at a time and a pause between two.
const SENDERS: u32 = 12;
const PAUSE: Duration = Duration::from_millis(8);
const ARTICLES: u32 = 150;

/// Waits until there is something to be seen.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(began.elapsed() < MOST, "waited for too long: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Something of each log partition.
type Each<T> = BTreeMap<i16, T>;

/// What the store says of the relay of stocks, which passes over the other events of the log.
struct Relay(PgPool);

/// Its name among leases and checkpoints.
const NAME: &str = "relay/inventory-events/inventory";

impl Relay {
    /// Who holds each partition, and the epoch.
    async fn leases(&self) -> Each<(Option<String>, i64)> {
        let rows = "select partition, holder::text, epoch from leases where worker = $1";
        let rows: Vec<(i16, Option<String>, i64)> =
            sqlx::query_as(rows).bind(NAME).fetch_all(&self.0).await.unwrap();
        rows.into_iter().map(|(partition, holder, epoch)| (partition, (holder, epoch))).collect()
    }

    /// How far each partition is published, and in which epoch that was written.
    async fn checkpoints(&self) -> Each<(i64, i64)> {
        let rows = "select partition, log_offset, epoch from checkpoints where name = $1";
        let rows: Vec<(i16, i64, i64)> =
            sqlx::query_as(rows).bind(NAME).fetch_all(&self.0).await.unwrap();
        rows.into_iter().map(|(partition, offset, epoch)| (partition, (offset, epoch))).collect()
    }

    /// Where the last event of each partition is.
    async fn heads(&self) -> Each<i64> {
        let rows = "select partition, max(log_offset) from events group by partition";
        sqlx::query_as(rows).fetch_all(&self.0).await.unwrap().into_iter().collect()
    }

    /// How many events up to `heads` are not known to be published.
    async fn behind(&self, heads: &Each<i64>) -> i64 {
        let done = self.checkpoints().await;
        let done = |partition| done.get(partition).map_or(0, |(offset, _)| *offset);
        heads.iter().map(|(partition, head)| (head - done(partition)).max(0)).sum()
    }

    /// The one that holds everything, unless it is `other`, with its epochs.
    async fn sole_holder(&self, other: Option<&str>) -> Option<(String, Each<i64>)> {
        let leases = self.leases().await;
        let holder = leases.values().next()?.0.clone().filter(|one| Some(&**one) != other)?;
        let all = leases.len() == usize::from(self.partitions().await)
            && leases.values().all(|(one, _)| one.as_ref() == Some(&holder));
        let epochs = leases.into_iter().map(|(partition, (_, epoch))| (partition, epoch));
        all.then(|| (holder, epochs.collect()))
    }

    async fn partitions(&self) -> u16 {
        let count = sqlx::query_scalar::<_, i16>("select partition_count from log");
        u16::try_from(count.fetch_one(&self.0).await.unwrap()).unwrap()
    }

    async fn outbox_is_empty(&self) -> bool {
        let any = sqlx::query_scalar("select not exists (select from outbox)");
        any.fetch_one(&self.0).await.unwrap()
    }
}

/// Sends to the warehouse until it is told to stop: articles come in, and parcels are asked for that
/// the stock has nothing for.
fn load(app: &App, over: &Arc<AtomicBool>) -> JoinSet<u64> {
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let (app, over) = (app.clone(), Arc::clone(over));
        senders.spawn(async move {
            let mut sent = 0;
            while !over.load(Ordering::Relaxed) {
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

/// What the log has of a published type, stream by stream.
async fn recorded<A: Aggregate>(app: &App) -> BTreeMap<String, Vec<Standing>> {
    let mut events: Vec<_> =
        app.events::<A>(app.log().start_positions()).try_collect().await.unwrap();
    events.sort_by_key(|event| event.version);
    let mut streams = BTreeMap::<_, Vec<_>>::new();
    for event in events {
        let standing = (event.version.get(), event.id.to_string());
        streams.entry(event.stream.to_string()).or_default().push(standing);
    }
    streams
}

/// A topic has what the log has: each event once, in its place.
fn assert_same(log: &BTreeMap<String, Vec<Standing>>, topics: &BTreeMap<String, Vec<Standing>>) {
    let (mut wrong, mut first) = (0, None);
    for key in log.keys().chain(topics.keys().filter(|key| !log.contains_key(*key))) {
        let of = |all: &BTreeMap<String, Vec<Standing>>| all.get(key).cloned().unwrap_or_default();
        let (expected, found) = (of(log), of(topics));
        if expected != found {
            wrong += 1;
            first.get_or_insert_with(|| differences(key, &expected, &found));
        }
    }
    if let Some(first) = first {
        panic!("{wrong} of {} keys are not as in the log; {first}", log.len());
    }
}

fn differences(key: &str, expected: &[Standing], found: &[Standing]) -> String {
    let at = expected.iter().zip(found).take_while(|(one, other)| one == other).count();
    let missing = expected.iter().filter(|event| !found.contains(event)).count();
    let versions: Vec<_> = found.iter().skip(at).take(12).map(|(version, _)| version).collect();
    format!(
        "{key}: {} recorded, {} on the topic, {missing} missing; after {at} that are right come the \
         versions {versions:?}",
        expected.len(),
        found.len()
    )
}

/// The database and the topics.
struct Scene {
    store: String,
    prefix: String,
    relay: Relay,
    topics: PlainConsumer,
}

impl Scene {
    fn serve(&self) -> Warehouse {
        Warehouse::start(&self.store, &self.prefix)
    }

    /// Freezes `process` while it publishes. Gives where the log stood.
    async fn freeze(&self, process: &Warehouse, moment: Moment) -> Each<i64> {
        let length = self.topics.length();
        until("the topics grow", async || (self.topics.length() > length).then_some(())).await;
        until("it is frozen with work in hand", async || {
            let heads = self.relay.heads().await;
            process.freeze(moment).await;
            // The log has only grown since, and the relays stand still.
            let behind = self.relay.behind(&heads).await;
            let open = self.topics.is_open();
            if behind == 0 || (moment == Moment::InATransaction && !open) {
                process.wake();
                return None;
            }
            println!("frozen {moment:?}, {behind} events behind");
            Some(heads)
        })
        .await
    }

    /// Freezes `first` until another has done its work, and wakes it.
    async fn sleep_through_the_lease(&self, first: &Warehouse, moment: Moment) {
        let (relay, began) = (&self.relay, Instant::now());
        let (sleeper, before) =
            until("one holds everything", async || relay.sole_holder(None).await).await;
        let heads = self.freeze(first, moment).await;
        let mut second = self.serve();
        let (_, epochs) =
            until("the other takes over", async || relay.sole_holder(Some(&sleeper)).await).await;
        let risen = epochs.iter().all(|(partition, epoch)| *epoch > before[partition]);
        assert!(risen, "{epochs:?} after {before:?}");
        until("the other publishes what was in hand", async || {
            let done = relay.checkpoints().await;
            let past = |(partition, head): (&i16, &i64)| {
                let (offset, epoch) = done.get(partition).copied().unwrap_or_default();
                offset > *head && epoch >= epochs[partition]
            };
            heads.iter().all(past).then_some(())
        })
        .await;

        first.wake();
        // A partition's relay does one thing after the other: what it had in hand is behind it when
        // it publishes under a lease that it got after the other's.
        let anew = async || {
            let (leases, done) = (relay.leases().await, relay.checkpoints().await);
            let anew = |(partition, (holder, epoch)): &(&i16, &(Option<String>, i64))| {
                holder.as_ref() == Some(&sleeper)
                    && *epoch > epochs[partition]
                    && done.get(partition).is_some_and(|(_, under)| under == epoch)
            };
            leases.iter().filter(anew).count()
        };
        until("the first goes on with other work", async || (anew().await > 0).then_some(())).await;
        let heads = relay.heads().await;
        until("both publish", async || (relay.behind(&heads).await == 0).then_some(())).await;
        second.stop();
        let all = epochs.len();
        until("the first has all back", async || (anew().await == all).then_some(())).await;
        println!("it was all over after {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_slept_through_its_lease_puts_nothing_out_of_order() {
    shop::show_logs();
    let (database, prefix) = (TestDatabase::create().await, unique());
    let store = database.url().parse::<StoreUrl>().unwrap().connect().await.unwrap();
    let app = shop::shop().app(store, &[Service::Warehouse], None).build().unwrap();
    let topics = ["inventory-events", "shipping-events"].map(|topic| format!("{prefix}{topic}"));
    let relay = Relay(PgPool::connect(&database.url()).await.unwrap());
    let topics = PlainConsumer::new(&brokers(), topics.into());
    let scene = Scene { store: database.url(), prefix, relay, topics };

    let over = Arc::new(AtomicBool::new(false));
    let senders = load(&app, &over);
    let mut first = scene.serve();
    for moment in [Moment::BeforePublishing, Moment::AfterPublishing, Moment::InATransaction] {
        scene.sleep_through_the_lease(&first, moment).await;
    }
    over.store(true, Ordering::Relaxed);
    let sent: u64 = senders.join_all().await.into_iter().sum();

    let relay = &scene.relay;
    until("everything is done and published", async || {
        let idle = relay.outbox_is_empty().await;
        (idle && relay.behind(&relay.heads().await).await == 0).then_some(())
    })
    .await;
    first.stop();
    // That a transaction is committed may be known before it can be seen.
    until("everything is committed", async || (!scene.topics.is_open()).then_some(())).await;
    let (stock, parcels) = (recorded::<Inventory>(&app).await, recorded::<Shipping>(&app).await);
    assert!(!stock.is_empty() && !parcels.is_empty());
    let log: BTreeMap<_, _> = stock.into_iter().chain(parcels).collect();
    assert_same(&log, &scene.topics.read());
    let events: usize = log.values().map(Vec::len).sum();
    println!("{sent} sent; each of {events} events is on the topics once, in its place");
}
