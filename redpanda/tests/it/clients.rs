//! The clients of librdkafka that a bus has.

use std::time::Duration;

use composable_rust_core::{BusError, EventBus as _, Publisher as _, PublisherName};
use uuid::Uuid;

use crate::brokers::{brokers, builder};
use crate::fixtures::{at, messages, unique};

/// Set where a test is alone in its process.
const ALONE: &str = "COMPOSABLE_RUST_TEST_ALONE";

/// Runs a test alone in a process: the threads of others are not among those it counts.
fn alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let outcome = child.args(["--exact", test, "--nocapture"]).env(ALONE, "1").status().unwrap();
    assert!(outcome.success(), "{test} failed in its process");
    false
}

/// The clients of librdkafka in this process: each has one main thread.
fn clients() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == "rdk:main").count()
}

#[test]
fn publishers_are_few_clients_and_no_more_than_allowed() {
    if alone("clients::publishers_are_few_clients_and_no_more_than_allowed") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(counted());
    }
}

async fn counted() {
    let bus = builder(&brokers()).max_publishers(3).connect().await.unwrap();
    let (topic, log) = (unique("orders"), Uuid::new_v4());
    let open = async |partition| {
        let purpose = "relay/order-events/order".to_owned();
        let name = PublisherName { log, purpose, partition, partitions: 4 };
        let mut publisher = bus.publisher(&name).await?;
        publisher.resume_position().await.unwrap();
        publisher.publish_batch(messages(&topic, "k", 1), Some(at(1))).await.unwrap();
        Ok::<_, BusError>(publisher)
    };
    let mut publishers = Vec::new();
    for partition in 0..3 {
        publishers.push(open(partition).await.unwrap());
    }
    // One for single messages, one for each publisher; others end.
    let few = async {
        while clients() > 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let few = tokio::time::timeout(Duration::from_secs(60), few).await;
    assert!(few.is_ok(), "{} clients", clients());
    let error = open(3).await.expect_err("there are three");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.starts_with("3 publishers are open"), "{source}");
    publishers.pop();
    publishers.push(open(3).await.unwrap());
}
