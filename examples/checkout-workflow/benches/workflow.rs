//! Measures whole checkouts on every store and across services, beside plain sends.
//!
//! `cargo bench -p checkout-workflow` measures memory and SQLite. With `DATABASE_URL` it also
//! measures PostgreSQL, and with `KAFKA_BROKERS` three services; `cargo xtask bench -p
//! checkout-workflow` sets both. `BENCH_CHECKOUTS` is the number of checkouts. Default: 5,000.

use std::time::{Duration, Instant};

use checkout_workflow::{
    Apps, Audit, AuditInput, Inventory, InventoryCommand, Ledger, PaymentProvider, Plan, Rates,
    Service, Shop, Stores, simulation,
};
use composable_rust::StoreUrl;
use composable_rust::bus::SharedEventBus;
use composable_rust::environment::SystemClock;
use composable_rust::prelude::*;
use composable_rust::redpanda::RedpandaEventBus;
use composable_rust::testing::InMemoryEventStore;

/// The events that the saga records in a completed checkout.
const EVENTS: f64 = 6.0;
const IN_FLIGHT: usize = 500;

fn main() {
    let checkouts = std::env::var("BENCH_CHECKOUTS").ok().and_then(|text| text.parse().ok());
    let checkouts: u32 = checkouts.unwrap_or(5_000);
    in_memory(checkouts.min(2_000));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(stores(checkouts));
}

fn shop() -> Shop {
    let provider =
        PaymentProvider { ledger: Ledger::in_memory(), rates: Rates::default(), seed: 1 };
    Shop { step_timeout: Duration::from_secs(60), ..Shop::new(provider) }
}

fn plan(checkouts: u32) -> Plan {
    Plan { name: "bench".to_owned(), checkouts }
}

/// Measures the processing time of a checkout without I/O: one thread, in memory.
fn in_memory(checkouts: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let shop = shop();
        let store = InMemoryEventStore::new().with_clock(SystemClock);
        let app = shop.app(store, &Service::ALL, None).build().expect("a valid app");
        let apps = Apps::single(&app);
        let duration = run(&shop, &apps, checkouts).await;
        let each = duration / checkouts;
        println!("checkout saga, all in memory, one thread {each:>27.0?} each   aim under 5 ms");
    });
}

async fn stores(checkouts: u32) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| StoreUrl::Sqlite(folder.path().join(name));
    one_app("SQLite", file("all.db"), checkouts).await;
    let Ok(url) = std::env::var("DATABASE_URL") else {
        println!("PostgreSQL: skipped; run `cargo xtask bench` to have a server");
        return;
    };
    let schema = |name: &str| StoreUrl::Postgres {
        url: url.clone(),
        schema: Some(format!("{name}_{}", std::process::id())),
    };
    one_app("PostgreSQL", schema("all"), checkouts).await;
    let Ok(brokers) = std::env::var("KAFKA_BROKERS") else {
        println!("three services: skipped; run `cargo xtask bench` to have a broker");
        return;
    };
    let bus = RedpandaEventBus::builder(&brokers);
    let bus = bus.topic_prefix(&format!("bench-{}.", std::process::id())).partitions(8);
    let bus = SharedEventBus::new(bus.connect().await.expect("a broker"));
    let urls = Service::ALL.map(|service| (service, schema(service.name())));
    let (shop, stores) = (shop(), Stores::PerService(urls.into()));
    let apps = shop.open(&Service::ALL, &stores, Some(&bus)).await.expect("the apps");
    measure("three services, PostgreSQL and Kafka", &shop, &apps, checkouts).await;
}

async fn one_app(name: &str, url: StoreUrl, checkouts: u32) {
    let shop = shop();
    let apps = shop.open(&Service::ALL, &Stores::Shared(url), None).await.expect("the app");
    measure(name, &shop, &apps, checkouts).await;
}

async fn measure(name: &str, shop: &Shop, apps: &Apps, checkouts: u32) {
    let sends = plain_sends(apps.app(Service::Warehouse)).await;
    let duration = run(shop, apps, checkouts).await;
    let rate = f64::from(checkouts) / duration.as_secs_f64();
    println!(
        "{name:<36} {rate:>7.0} checkouts/s {:>8.0} saga steps/s   plain sends, 256 callers \
         {sends:>8.0}/s   ratio {:>5.2}",
        rate * EVENTS,
        rate * EVENTS / sends
    );
}

/// Measures commands per second, for commands without reactions.
async fn plain_sends(app: &App) -> f64 {
    let began = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..256 {
        let stock = app.handle(&Inventory::id(format!("plain-{caller}")));
        callers.spawn(async move {
            let mut sent = 0_u32;
            while began.elapsed() < Duration::from_secs(2) {
                stock.send(InventoryCommand::Restock { units: 1 }).await.expect("a send");
                sent += 1;
            }
            sent
        });
    }
    let mut sent = 0;
    while let Some(count) = callers.join_next().await {
        sent += count.expect("a benchmark does not panic");
    }
    f64::from(sent) / began.elapsed().as_secs_f64()
}

async fn run(shop: &Shop, apps: &Apps, checkouts: u32) -> Duration {
    apps.start();
    let plan = plan(checkouts);
    simulation::restock(apps.app(Service::Warehouse), &plan).await.expect("stock");
    let began = Instant::now();
    let app = apps.app(Service::Checkout);
    simulation::run(app, &plan, IN_FLIGHT, true, |_, _| {}).await.expect("checkouts");
    let duration = began.elapsed();
    let input = AuditInput::read(apps, &shop.provider.ledger).await.expect("the input");
    let audit = Audit::of(&input);
    assert_eq!(audit.completed, u64::from(checkouts), "{audit}");
    apps.shutdown(Duration::from_secs(10)).await;
    duration
}
