//! The message about a world that does not come to rest.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use composable_rust_core::Position;
use composable_rust_core::queue::Outbox as _;
use composable_rust_core::store::{EventStore, SharedEventStore};
use composable_rust_runtime::App;

use super::World;

/// The number of events of each partition that count as the last ones.
const LAST_EVENTS: u64 = 30;
/// The number of lines of each list.
const MAX_LINES: usize = 8;
/// The number of rows of a queue that are counted.
const MAX_ROWS: usize = 10_000;

impl<S: EventStore + Clone> World<S> {
    /// Fails the test.
    pub(super) async fn fail(&self, reason: &str) -> ! {
        let mut text = format!("The world does not come to rest at {}: {reason}.\n", self.now());
        for (number, service) in self.services.iter().enumerate() {
            if self.services.len() > 1 {
                let _ = write!(text, "\nService {number}:\n");
            }
            describe(&mut text, &service.app).await;
        }
        panic!("{text}");
    }
}

async fn describe(text: &mut String, app: &App) {
    let store = app.store();
    text.push_str("\nWaiting in queues:\n");
    let queues = store.summarize_queues(MAX_ROWS).await.unwrap_or_default();
    let mut rows: BTreeMap<String, u64> = BTreeMap::new();
    for of in queues {
        let name = format!("{}/{}", of.queue.kind.as_str(), of.queue.target);
        *rows.entry(name).or_default() += of.rows;
    }
    list(text, rows, |name, count| format!("{name}: {count}"));
    text.push_str("\nThe last events:\n");
    list(text, last_events(store).await, |name, count| format!("{name}: {count} times"));
}

/// Returns the last events of all partitions, by stream and name, with their numbers.
async fn last_events(store: &SharedEventStore) -> BTreeMap<String, u64> {
    let heads = store.heads().await.unwrap_or_default();
    let before =
        |head: &Position| Position::new(head.partition, head.offset.saturating_sub(LAST_EVENTS));
    let after: Vec<Position> = heads.iter().map(before).collect();
    let limit = usize::try_from(LAST_EVENTS).unwrap_or(usize::MAX);
    let mut events: BTreeMap<String, u64> = BTreeMap::new();
    for event in store.read_log(&after, limit).await.unwrap_or_default() {
        *events.entry(format!("{} of {}", event.name(), event.stream)).or_default() += 1;
    }
    events
}

/// Writes the entries with the highest numbers.
fn list(text: &mut String, entries: BTreeMap<String, u64>, line: impl Fn(&str, u64) -> String) {
    let mut entries: Vec<_> = entries.into_iter().filter(|(_, count)| *count > 0).collect();
    entries.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    if entries.is_empty() {
        text.push_str("    nothing\n");
    }
    for (name, count) in entries.iter().take(MAX_LINES) {
        let _ = writeln!(text, "    {}", line(name, *count));
    }
    if entries.len() > MAX_LINES {
        let _ = writeln!(text, "    and {} more", entries.len() - MAX_LINES);
    }
}
