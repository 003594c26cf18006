//! Checkouts to their ends, on every store and across services, side by side with plain sends.
//!
//! `cargo bench -p checkout-workflow` measures memory and SQLite; with `DATABASE_URL` PostgreSQL too,
//! and with `KAFKA_BROKERS` three services (`cargo xtask bench -p checkout-workflow` has both).
//! `BENCH_CHECKOUTS` is how many.

use std::time::{Duration, Instant};

use checkout_workflow::{
    Apps, Audit, Books, Inventory, InventoryCommand, Ledger, PaymentProvider, Plan, Rates, Service,
    Shop, Stores, play,
};
use composable_rust::prelude::*;
use composable_rust::testing::InMemoryEventStore;
use composable_rust::{SharedEventBus, StoreUrl, SystemClock};
use composable_rust_redpanda::RedpandaEventBus;

/// Steps of one checkout that goes well: what its saga records.
const STEPS: f64 = 6.0;
const IN_FLIGHT: usize = 500;

fn main() {
    let checkouts = std::env::var("BENCH_CHECKOUTS").ok().and_then(|text| text.parse().ok());
    let checkouts: u32 = checkouts.unwrap_or(5_000);
    work(checkouts.min(2_000));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(stores(checkouts));
}

fn shop() -> Shop {
    let provider =
        PaymentProvider { ledger: Ledger::in_memory(), rates: Rates::default(), seed: 1 };
    Shop { patience: Duration::from_secs(60), ..Shop::new(provider) }
}

fn plan(checkouts: u32) -> Plan {
    Plan { name: "bench".to_owned(), checkouts }
}

/// What a checkout costs where nothing has to be waited for: one thread, memory.
fn work(checkouts: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let shop = shop();
        let store = InMemoryEventStore::new().with_clock(SystemClock);
        let app = shop.app(store, &Service::ALL, None).build().expect("a correct app");
        let apps = Apps::together(&app);
        let took = run(&shop, &apps, checkouts).await;
        let each = took / checkouts;
        println!("checkout saga, all in memory, one thread {each:>27.0?} each   aim under 5 ms");
    });
}

async fn stores(checkouts: u32) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| StoreUrl::Sqlite(folder.path().join(name));
    together("SQLite", file("all.db"), checkouts).await;
    let Ok(url) = std::env::var("DATABASE_URL") else {
        println!("PostgreSQL: skipped; run `cargo xtask bench` to have a server");
        return;
    };
    let schema = |name: &str| StoreUrl::Postgres {
        url: url.clone(),
        schema: Some(format!("{name}_{}", std::process::id())),
    };
    together("PostgreSQL", schema("all"), checkouts).await;
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
    measured("three services, PostgreSQL and Kafka", &shop, &apps, checkouts).await;
}

async fn together(name: &str, url: StoreUrl, checkouts: u32) {
    let shop = shop();
    let apps = shop.open(&Service::ALL, &Stores::Shared(url), None).await.expect("the app");
    measured(name, &shop, &apps, checkouts).await;
}

async fn measured(name: &str, shop: &Shop, apps: &Apps, checkouts: u32) {
    let sends = sends(apps.of(Service::Warehouse)).await;
    let took = run(shop, apps, checkouts).await;
    let rate = f64::from(checkouts) / took.as_secs_f64();
    println!(
        "{name:<36} {rate:>7.0} checkouts/s {:>8.0} saga steps/s   plain sends, 256 callers \
         {sends:>8.0}/s   ratio {:>5.2}",
        rate * STEPS,
        rate * STEPS / sends
    );
}

/// Commands per second, nothing following from them.
async fn sends(app: &App) -> f64 {
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
    while let Some(of_one) = callers.join_next().await {
        sent += of_one.expect("a benchmark does not panic");
    }
    f64::from(sent) / began.elapsed().as_secs_f64()
}

async fn run(shop: &Shop, apps: &Apps, checkouts: u32) -> Duration {
    apps.start();
    let plan = plan(checkouts);
    play::restock(apps.of(Service::Warehouse), &plan).await.expect("stock");
    let began = Instant::now();
    let app = apps.of(Service::Checkout);
    play::play(app, &plan, IN_FLIGHT, true, |_, _| {}).await.expect("checkouts");
    let took = began.elapsed();
    let books = Books::read(apps, &shop.provider.ledger).await.expect("the books");
    let audit = Audit::of(&books);
    assert_eq!(audit.completed, u64::from(checkouts), "{audit}");
    apps.shutdown(Duration::from_secs(10)).await;
    took
}
