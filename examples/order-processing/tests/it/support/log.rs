//! Reading the log outside the program.

use std::collections::BTreeMap;

use composable_rust::event::StoredEvent;
use composable_rust::store::EventStore as _;
use composable_rust::{Position, connect};

/// Returns all events, partition by partition, each in order.
pub(crate) async fn events(store: &str) -> Vec<StoredEvent> {
    let store = connect(store).await.expect("the store opens");
    let mut events = Vec::new();
    for mut after in Position::start_positions(store.log().partitions) {
        loop {
            let page = store.read_log(&[after], 1_000).await.expect("the log can be read");
            let Some(last) = page.last() else { break };
            after = last.position;
            events.extend(page);
        }
    }
    events
}

/// Returns the number of events in the log of `app`.
pub(crate) async fn event_count(app: &composable_rust::App) -> u64 {
    let heads = app.store().heads().await.expect("the log can be read");
    heads.iter().map(|head| head.offset).sum()
}

/// Asserts that the versions of every stream and the offsets of every partition are 1, 2, 3 ….
#[track_caller]
pub(crate) fn assert_no_gaps(events: &[StoredEvent]) {
    let mut versions = BTreeMap::new();
    let mut offsets = BTreeMap::new();
    for event in events {
        let version = versions.entry(&event.stream).or_insert(0_u64);
        *version += 1;
        assert_eq!(event.version.get(), *version, "versions of {}", event.stream);
        let offset = offsets.entry(event.position.partition).or_insert(0_u64);
        *offset += 1;
        assert_eq!(event.position.offset, *offset, "offsets of {}", event.position.partition);
    }
}
