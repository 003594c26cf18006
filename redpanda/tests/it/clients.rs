//! The number of librdkafka clients of a bus.

use std::time::Duration;

use composable_rust_core::bus::{BusError, EventBus as _, Publisher as _, PublisherName};
use uuid::Uuid;

use crate::brokers::{brokers, builder};
use crate::fixtures::{at, messages, unique};

/// Runs an ignored test in a process of its own, so that it counts no threads of other tests.
fn run_in_child_process(test: &str) {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let status = child.args(["--ignored", "--exact", test, "--nocapture"]).status().unwrap();
    assert!(status.success(), "{test} failed in its process");
}

/// Returns the number of librdkafka clients in this process. Each has one main thread.
fn client_count() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == "rdk:main").count()
}

#[test]
fn an_open_publisher_has_one_client_and_publishers_are_limited() {
    run_in_child_process("clients::child_process_opens_publishers_and_counts_clients");
}

#[tokio::test]
#[ignore = "child process of an_open_publisher_has_one_client_and_publishers_are_limited"]
async fn child_process_opens_publishers_and_counts_clients() {
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
    // One for single messages and one for each publisher; temporary clients are closed.
    let only_needed = async {
        while client_count() > 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let only_needed = tokio::time::timeout(Duration::from_secs(60), only_needed).await;
    assert!(only_needed.is_ok(), "{} clients", client_count());
    let error = open(3).await.expect_err("three publishers are open");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.starts_with("3 publishers are open"), "{source}");
    publishers.pop();
    publishers.push(open(3).await.unwrap());
}
