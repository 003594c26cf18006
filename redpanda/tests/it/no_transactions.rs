//! Publishers without transactions.

use composable_rust_core::bus::{EventBus as _, Publisher as _};
use uuid::Uuid;

use crate::brokers::{brokers, builder};
use crate::fixtures::{at, messages, relay, subscribe, take, unique};

#[tokio::test]
async fn publishers_without_transactions_publish_batches_and_positions() {
    let bus = builder(&brokers()).transactions(false).connect().await.unwrap();
    let (topic, log) = (unique("orders"), Uuid::new_v4());
    let mut publisher = bus.publisher(&relay(log)).await.unwrap();
    assert_eq!(publisher.resume_position().await.unwrap(), None);
    publisher.publish_batch(messages(&topic, "k", 2_000), Some(at(2_000))).await.unwrap();

    let mut next = bus.publisher(&relay(log)).await.unwrap();
    assert_eq!(next.resume_position().await.unwrap(), Some(at(2_000)));
    // Without fencing, the earlier holder still publishes, as the docs of `transactions` say.
    publisher.publish_batch(messages(&topic, "k", 1), Some(at(1))).await.unwrap();
    assert_eq!(next.resume_position().await.unwrap(), Some(at(1)));

    let taken = take(&mut subscribe(&bus, &unique("billing"), &topic).await, 2_001).await;
    assert_eq!(taken[..2_000], messages(&topic, "k", 2_000));
}
