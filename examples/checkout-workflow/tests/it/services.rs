//! Three services over a real broker.

use checkout_workflow::{Service, Shop, Stores};
use composable_rust::SharedEventBus;
use composable_rust::StoreUrl;
use composable_rust::testing::TestDatabase;
use composable_rust_redpanda::RedpandaEventBus;

use crate::shop::{all_adds_up, shop, unique};

/// Opens every message about the broker.
const VARIABLE: &str = "KAFKA_BROKERS";

/// Where the broker is that `cargo xtask test` starts.
pub(crate) fn brokers() -> String {
    std::env::var(VARIABLE).ok().filter(|brokers| !brokers.is_empty()).unwrap_or_else(|| {
        panic!(
            "{VARIABLE} is not set: run `cargo xtask test`, which starts a broker, or set it to \
             one, for example localhost:9092"
        )
    })
}

async fn bus(shop: &Shop) -> SharedEventBus {
    let builder = RedpandaEventBus::builder(&brokers()).topic_prefix(&unique()).partitions(4);
    let builder = builder.transaction_timeout(shop.lease).session_timeout(shop.lease);
    SharedEventBus::new(builder.connect().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_checkouts_on_three_databases() {
    let databases = [(); 3].map(|()| TestDatabase::create());
    let databases = futures_util::future::join_all(databases).await;
    let urls = databases.iter().map(|database| database.url().parse::<StoreUrl>().unwrap());
    let stores = Stores::PerService(Service::ALL.into_iter().zip(urls).collect());
    let shop = shop();
    let apps = shop.open(&Service::ALL, &stores, Some(&bus(&shop).await)).await.unwrap();
    all_adds_up(&shop, &apps, 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_checkouts_on_three_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = |service| StoreUrl::Sqlite(folder.path().join(format!("{service}.db")));
    let stores = Stores::PerService(Service::ALL.map(|service| (service, file(service))).into());
    let shop = shop();
    let apps = shop.open(&Service::ALL, &stores, Some(&bus(&shop).await)).await.unwrap();
    all_adds_up(&shop, &apps, 200).await;
}
