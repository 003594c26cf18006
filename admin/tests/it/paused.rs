//! A diagnosis while the log is paused.

use composable_rust_admin::{Admin, Operator, QueueView};
use composable_rust_core::queue::{Outbox as _, OutboxKind};
use composable_rust_core::store::EventStore as _;
use composable_rust_testing::InMemoryEventStore;
use composable_rust_testing::fixtures::stream;

use crate::letters::message;

#[tokio::test]
async fn a_pause_is_no_lack_of_workers() {
    let store = InMemoryEventStore::new();
    let partition = store.log().partition_of(&stream());
    store.enqueue(partition, &[message(1, OutboxKind::Dispatch)], None).await.unwrap();
    let admin = Admin::of_store(store, Operator::named("ann")).unwrap();
    let checks = async || {
        let found = admin.doctor().await.unwrap();
        let faults = found.0.iter().filter(|of| !of.remedy.is_empty() && of.check != "durability");
        faults.map(|of| of.check).collect::<Vec<_>>()
    };
    assert_eq!(checks().await, ["missing-worker"]);
    admin.pause_log().await.unwrap();
    assert_eq!(checks().await, ["pause"]);
    let queues = QueueView::merged(&admin.queues().await.unwrap());
    assert_eq!(queues[0].has_worker, None);
    let text = serde_json::to_string(&admin.doctor().await.unwrap()).unwrap();
    assert!(text.contains("while the log is paused"), "{text}");
}
