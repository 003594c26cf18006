//! Three services over a broker.

use checkout_workflow::{Service, Shop, Stores};
use composable_rust::StoreUrl;
use composable_rust::bus::SharedEventBus;
use composable_rust::redpanda::RedpandaEventBus;
use composable_rust::testing::TestDatabase;

use crate::shop::{run_and_audit, shop, unique_prefix};

/// The environment variable that names the broker.
const VARIABLE: &str = "KAFKA_BROKERS";

/// Returns the address of the broker that `cargo xtask test` starts.
pub(crate) fn brokers() -> String {
    std::env::var(VARIABLE).ok().filter(|brokers| !brokers.is_empty()).unwrap_or_else(|| {
        panic!(
            "{VARIABLE} is not set: run `cargo xtask test`, which starts a broker, or set it to \
             one, for example localhost:9092"
        )
    })
}

async fn bus(shop: &Shop) -> SharedEventBus {
    let builder =
        RedpandaEventBus::builder(&brokers()).topic_prefix(&unique_prefix()).partitions(4);
    let builder = builder.transaction_timeout(shop.lease_ttl).session_timeout(shop.lease_ttl);
    SharedEventBus::new(builder.connect().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_on_three_databases_run_500_checkouts() {
    let databases = [(); 3].map(|()| TestDatabase::create());
    let databases = futures_util::future::join_all(databases).await;
    let urls = databases.iter().map(|database| database.url().parse::<StoreUrl>().unwrap());
    let stores = Stores::PerService(Service::ALL.into_iter().zip(urls).collect());
    let shop = shop();
    let apps = shop.open(&Service::ALL, &stores, Some(&bus(&shop).await)).await.unwrap();
    run_and_audit(&shop, &apps, 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_on_three_files_run_200_checkouts() {
    let folder = tempfile::tempdir().unwrap();
    let file = |service| StoreUrl::Sqlite(folder.path().join(format!("{service}.db")));
    let stores = Stores::PerService(Service::ALL.map(|service| (service, file(service))).into());
    let shop = shop();
    let apps = shop.open(&Service::ALL, &stores, Some(&bus(&shop).await)).await.unwrap();
    run_and_audit(&shop, &apps, 200).await;
}
