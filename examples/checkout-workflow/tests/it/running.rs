//! Many checkouts on the real runtime: together and as services, on every store.

use checkout_workflow::{Apps, Service, Shop, Stores};
use composable_rust::SharedEventBus;
use composable_rust::StoreUrl;
use composable_rust::testing::{InMemoryEventBus, TestDatabase};

use crate::shop::{all_adds_up, shop};

async fn opened(shop: &Shop, stores: &Stores, bus: Option<InMemoryEventBus>) -> Apps {
    let bus = bus.map(SharedEventBus::new);
    shop.open(&Service::ALL, stores, bus.as_ref()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_checkouts_in_memory() {
    let shop = shop();
    let apps = opened(&shop, &Stores::Shared(StoreUrl::Memory), None).await;
    all_adds_up(&shop, &apps, 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_checkouts_on_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = StoreUrl::Sqlite(folder.path().join("checkout.db"));
    let shop = shop();
    let apps = opened(&shop, &Stores::Shared(store), None).await;
    all_adds_up(&shop, &apps, 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_checkouts_on_postgres() {
    let database = TestDatabase::create().await;
    let shop = shop();
    let apps = opened(&shop, &Stores::Shared(database.url().parse().unwrap()), None).await;
    all_adds_up(&shop, &apps, 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_services_in_memory() {
    let shop = shop();
    let stores = Service::ALL.map(|service| (service, StoreUrl::Memory)).into();
    let bus = InMemoryEventBus::new();
    let apps = opened(&shop, &Stores::PerService(stores), Some(bus)).await;
    all_adds_up(&shop, &apps, 300).await;
}

/// Each process has some of the aggregates; what they share is the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_share_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = Stores::Shared(StoreUrl::Sqlite(folder.path().join("checkout.db")));
    let shop = shop();
    let checkout = shop.open(&[Service::Checkout], &store, None).await.unwrap();
    let payments = shop.open(&[Service::Payments], &store, None).await.unwrap();
    let warehouse = shop.open(&[Service::Warehouse], &store, None).await.unwrap();
    all_adds_up(&shop, &checkout.and(payments).and(warehouse), 300).await;
}
