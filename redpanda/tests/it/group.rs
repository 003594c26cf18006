//! Groups whose members come and go while messages flow.

use std::collections::BTreeSet;
use std::time::Duration;

use composable_rust_core::Delivery as _;
use futures_util::StreamExt as _;

use crate::brokers::{brokers, builder};
use crate::fixtures::{assert_complete, by_key, message, publish, subscribe, unique};

const KEYS: usize = 12;
const EACH: usize = 150;

/// Members work through a topic, each message acknowledged after a moment, while others join and
/// leave. Nothing is missing, and each key is in order, but for what comes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_members_come_and_go() {
    let bus = builder(&brokers()).max_outstanding(50).connect().await.unwrap();
    let (topic, group) = (unique("orders"), unique("billing"));
    let writer = {
        let (bus, topic) = (bus.clone(), topic.clone());
        tokio::spawn(async move {
            for n in 0..EACH {
                let round = (0..KEYS).map(|key| message(&topic, &format!("k{key}"), n));
                publish(&bus, round.collect()).await;
            }
        })
    };
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    // Of the stays of members in the group, some begin and end in the middle of the others.
    for (begins, lasts) in [(0, 60_000), (1_000, 3_000), (2_500, 60_000), (5_000, 2_000)] {
        let (bus, topic, group, tell) = (bus.clone(), topic.clone(), group.clone(), tell.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(begins)).await;
            let mut deliveries = subscribe(&bus, &group, &topic).await;
            let stay = async {
                while let Some(delivery) = deliveries.next().await {
                    let Ok(delivery) = delivery else { continue };
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    let _ = tell.send(delivery.message().clone());
                    let _ = delivery.acknowledge().await;
                }
            };
            let _ = tokio::time::timeout(Duration::from_millis(lasts), stay).await;
        });
    }
    drop(tell);
    let mut seen = Vec::new();
    let mut missing: BTreeSet<_> =
        (0..KEYS).flat_map(|key| (0..EACH).map(move |n| (format!("k{key}"), n))).collect();
    while !missing.is_empty() {
        let next = tokio::time::timeout(Duration::from_secs(60), told.recv()).await;
        let message = next.expect("nothing is lost").expect("some stay");
        missing.remove(&(message.key.clone(), crate::fixtures::number(&message)));
        seen.push(message);
    }
    writer.await.unwrap();
    for (_, numbers) in by_key(&seen) {
        assert_complete(&numbers, EACH);
    }
}
