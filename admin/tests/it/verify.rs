//! Verification of logs that are broken on purpose.

use composable_rust_admin::{Admin, Interrupt, Operator, Verification};
use composable_rust_core::TargetExt as _;
use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::store::EventStore;
use composable_rust_testing::{InMemoryEventStore, Intercept, Intercepted};

use crate::shop::{Order, OrderCommand, shop};

/// A store whose pages of the log are changed.
struct Broken(fn(&mut Vec<StoredEvent>));

impl<S: EventStore> Intercept<S> for Broken {
    fn after_read_log(&self, mut page: Vec<StoredEvent>) -> Vec<StoredEvent> {
        (self.0)(&mut page);
        page
    }
}

async fn verified(change: fn(&mut Vec<StoredEvent>)) -> Verification {
    let memory = InMemoryEventStore::new();
    let app = shop(memory.clone());
    for id in ["1", "2"] {
        for _ in 0..5 {
            app.handle(&Order::id(id)).send(OrderCommand::Note).await.unwrap();
        }
    }
    let store = Intercepted::layered(memory, Broken(change));
    let app = shop(store);
    Admin::new(&app, Operator::named("ann")).verify(|_| ()).await.unwrap()
}

/// Returns the event of a stream and version, if it is in the page.
fn event<'a>(
    page: &'a mut [StoredEvent],
    stream: &str,
    version: u64,
) -> Option<&'a mut StoredEvent> {
    page.iter_mut().find(|of| of.stream.as_str() == stream && of.version.get() == version)
}

fn assert_names(found: &Verification, parts: &[&str]) {
    assert!(found.problems > 0, "{found:?}");
    for part in parts {
        assert!(found.listed.iter().any(|of| of.contains(part)), "`{part}`: {:#?}", found.listed);
    }
}

#[tokio::test]
async fn a_whole_log_has_no_problems() {
    let found = verified(|_| ()).await;
    let expected = Verification { events: 10, streams: 2, decoded: 10, ..Verification::default() };
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_missing_event_is_named_by_offset_and_version() {
    let found = verified(|page| {
        page.retain(|of| of.stream.as_str() != "order-1" || of.version.get() != 3);
    })
    .await;
    assert_names(&found, &["is missing before", "version 4 of order-1 follows version 2"]);
}

#[tokio::test]
async fn an_event_that_cannot_be_decoded_is_named() {
    let found = verified(|page| {
        if let Some(of) = event(page, "order-2", 2) {
            let content = of.content.present().unwrap();
            let bytes = vec![255; 9];
            of.content = StoredContent::Present(EncodedMessage { bytes, ..content.clone() });
        }
    })
    .await;
    assert_names(&found, &["event 2 of \"order-2\""]);
    assert_eq!((found.problems, found.decoded), (1, 9));
}

#[tokio::test]
async fn an_event_in_the_partition_of_another_stream_is_named() {
    let found = verified(|page| {
        if let Some(of) = event(page, "order-1", 5) {
            let there = of.position.partition;
            let log = InMemoryEventStore::new().log();
            let mut names = (0..100).map(|n| Order::id(format!("other-{n}")).stream());
            of.stream = names.find(|name| log.partition_of(name) != there).unwrap();
        }
    })
    .await;
    assert_names(&found, &["but belongs to partition", "version 5 of order-other-"]);
}

#[tokio::test]
async fn an_event_of_an_earlier_time_is_named() {
    let found = verified(|page| {
        if let Some(of) = event(page, "order-1", 4) {
            of.recorded_at = "2001-01-01T00:00:00Z".parse().unwrap();
        }
    })
    .await;
    assert_names(&found, &["of 2001-01-01T00:00:00Z is before"]);
    assert_eq!(found.problems, 1);
}

#[tokio::test]
async fn a_log_that_ends_before_its_head_is_found() {
    let found = verified(|page| page.retain(|of| of.position.offset < 4)).await;
    assert_names(&found, &["the log ends at", "before its head"]);
}

#[tokio::test]
async fn an_interrupted_verification_says_so() {
    let app = shop(InMemoryEventStore::new());
    app.handle(&Order::id("1")).send(OrderCommand::Note).await.unwrap();
    let interrupt = Interrupt::default();
    let admin = Admin::new(&app, Operator::named("ann")).until(&interrupt);
    assert!(!admin.verify(|_| ()).await.unwrap().interrupted);
    interrupt.interrupt();
    let found = admin.verify(|_| ()).await.unwrap();
    assert_eq!((found.interrupted, found.events), (true, 0));
}
