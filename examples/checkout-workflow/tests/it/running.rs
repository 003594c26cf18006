//! Many checkouts on the runtime, on every store: in one app and as services.

use checkout_workflow::{Apps, Service, Shop, Stores};
use composable_rust::StoreUrl;
use composable_rust::bus::SharedEventBus;
use composable_rust::testing::{InMemoryEventBus, TestDatabase};

use crate::shop::{run_and_audit, shop};

async fn open(shop: &Shop, stores: &Stores, bus: Option<InMemoryEventBus>) -> Apps {
    let bus = bus.map(SharedEventBus::new);
    shop.open(&Service::ALL, stores, bus.as_ref()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_in_memory_runs_1000_checkouts() {
    let shop = shop();
    let apps = open(&shop, &Stores::Shared(StoreUrl::Memory), None).await;
    run_and_audit(&shop, &apps, 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_on_a_file_runs_1000_checkouts() {
    let folder = tempfile::tempdir().unwrap();
    let store = StoreUrl::Sqlite(folder.path().join("checkout.db"));
    let shop = shop();
    let apps = open(&shop, &Stores::Shared(store), None).await;
    run_and_audit(&shop, &apps, 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_on_postgres_runs_1000_checkouts() {
    let database = TestDatabase::create().await;
    let shop = shop();
    let apps = open(&shop, &Stores::Shared(database.url().parse().unwrap()), None).await;
    run_and_audit(&shop, &apps, 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_on_a_bus_in_memory_run_300_checkouts() {
    let shop = shop();
    let stores = Service::ALL.map(|service| (service, StoreUrl::Memory)).into();
    let bus = InMemoryEventBus::new();
    let apps = open(&shop, &Stores::PerService(stores), Some(bus)).await;
    run_and_audit(&shop, &apps, 300).await;
}

/// Each app has some of the aggregates, and all share the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_on_a_shared_store_run_300_checkouts() {
    let folder = tempfile::tempdir().unwrap();
    let store = Stores::Shared(StoreUrl::Sqlite(folder.path().join("checkout.db")));
    let shop = shop();
    let checkout = shop.open(&[Service::Checkout], &store, None).await.unwrap();
    let payments = shop.open(&[Service::Payments], &store, None).await.unwrap();
    let warehouse = shop.open(&[Service::Warehouse], &store, None).await.unwrap();
    run_and_audit(&shop, &checkout.merge(payments).merge(warehouse), 300).await;
}
