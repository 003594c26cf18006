//! The adversarial test of the log's order: many writers that conflict, abandon and repeat appends,
//! others that roll back, hold transactions open and keep old snapshots, and readers that follow
//! the tail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use composable_rust_core::event::StoredEvent;
use composable_rust_core::store::{Append, AppendOutcome, subscribe};
use composable_rust_core::{EventId, Position, StreamId, Version};
use futures_util::StreamExt as _;
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::sync::watch;

use super::builders::{append, inbox_entry, stream};
use super::random::{self, joined};
use super::subject::{StoreUnderTest, committed};

const WRITERS: u64 = 8;
/// The minimum number of steps of each writer, which continues while the foreign transaction is
/// open.
const ROUNDS: usize = 60;
const HELD: Duration = Duration::from_secs(2);

pub(super) async fn readers_at_the_tail_miss_nothing(on: StoreUnderTest) {
    let ledger = Ledger::default();
    let (end, ended) = watch::channel(None::<Vec<Position>>);
    let there = on.another_process().await;
    let readers: Vec<_> = (0..on.partitions())
        .flat_map(|partition| [(on.clone(), partition), (there.clone(), partition)])
        .map(|(process, partition)| tokio::spawn(tail(process, partition, ended.clone())))
        .collect();

    let old = on.idle_snapshot().await;
    let (release, released) = watch::channel(false);
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| {
            let process = if n % 2 == 0 { on.clone() } else { there.clone() };
            let writer = Writer::new(process, n, ledger.clone());
            tokio::spawn(writer.run(released.clone()))
        })
        .collect();
    on.hold_foreign_transaction(HELD).await;
    release.send_replace(true);
    for writer in writers {
        joined(writer).await;
    }
    end.send_replace(Some(on.heads().await));

    let mut logs: BTreeMap<u16, Vec<StoredEvent>> = BTreeMap::new();
    for reader in readers {
        let (partition, seen) = joined(reader).await;
        let log = on.page(&[Position::new(partition, 0)], usize::from(u16::MAX)).await;
        assert_missed_nothing(partition, &seen, &log);
        logs.insert(partition, log);
    }
    drop(old);
    ledger.assert_is(logs.into_values().flatten());
}

/// Follows one partition until the announced end of the log. Positions must rise.
async fn tail(
    on: StoreUnderTest,
    partition: u16,
    mut ended: watch::Receiver<Option<Vec<Position>>>,
) -> (u16, Vec<StoredEvent>) {
    let mut events = std::pin::pin!(subscribe(&on.store, vec![Position::new(partition, 0)], 16));
    let mut last = Position::new(partition, 0);
    let mut seen: Vec<StoredEvent> = Vec::new();
    loop {
        let end = ended.borrow().as_ref().map(|heads| heads[usize::from(partition)]);
        if end.is_some_and(|end| end <= last) {
            return (partition, seen);
        }
        let event = tokio::select! {
            biased;
            event = events.next() => event,
            changed = ended.changed(), if end.is_none() => {
                changed.expect("the case announces the end");
                continue;
            }
        };
        let event = event.expect("a subscription does not end").expect("the log is followed");
        assert_eq!(event.position.partition, partition);
        assert!(event.position > last, "after {last} the reader saw {}", event.position);
        last = event.position;
        seen.push(event);
    }
}

/// Compares the events that a reader saw with the final log of its partition.
fn assert_missed_nothing(partition: u16, seen: &[StoredEvent], log: &[StoredEvent]) {
    let offsets: BTreeSet<u64> = seen.iter().map(|event| event.position.offset).collect();
    let missed = log.iter().filter(|event| !offsets.contains(&event.position.offset));
    let missed: Vec<String> = missed
        .map(|event| format!("{} (version {} of {})", event.position, event.version, event.stream))
        .collect();
    let (some, count) = (&missed[..missed.len().min(5)], missed.len());
    assert!(count == 0, "the reader of partition {partition} missed {count} events: {some:?} …");
    assert_eq!(seen, log, "what the reader saw at a position is what is there");

    let mut versions: BTreeMap<&StreamId, u64> = BTreeMap::new();
    for (event, offset) in log.iter().zip(1..) {
        let expected = Position::new(partition, offset);
        assert_eq!(event.position, expected, "offsets are 1, 2, 3 … without a gap");
        let version = versions.entry(&event.stream).or_default();
        *version += 1;
        assert_eq!(event.version.get(), *version, "the next version of {}", event.stream);
    }
}

/// The committed events, according to the outcomes returned to the writers.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<BTreeMap<EventId, Entry>>>);

struct Entry {
    stream: StreamId,
    version: Version,
    /// Known for the last event of an append only.
    position: Option<Position>,
}

impl Ledger {
    fn enter(&self, append: &Append, version: Version, position: Option<Position>) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = append.events.len() as u64;
        for (event, n) in append.events.iter().zip(1..) {
            let entry = Entry {
                stream: append.stream.clone(),
                version: Version::new(version.get() - count + n),
                position: position.filter(|_| n == count),
            };
            assert!(entries.insert(event.id, entry).is_none(), "{} is committed twice", event.id);
        }
    }

    /// Compares the outcomes with the whole log.
    fn assert_is(&self, log: impl Iterator<Item = StoredEvent>) {
        let mut entries =
            std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for event in log {
            let entry = entries.remove(&event.id);
            let entry = entry.unwrap_or_else(|| panic!("no outcome reported {event:?}"));
            assert_eq!((entry.stream, entry.version), (event.stream, event.version));
            assert!(entry.position.is_none_or(|told| told == event.position));
        }
        assert!(entries.is_empty(), "{} committed events are not in the log", entries.len());
    }
}

/// A writer, with streams of its own and some that all writers share.
struct Writer {
    on: StoreUnderTest,
    rng: StdRng,
    own: Vec<StreamId>,
    shared: Vec<StreamId>,
    /// The version of each stream as this writer last saw it.
    versions: BTreeMap<StreamId, u64>,
    ledger: Ledger,
}

impl Writer {
    fn new(on: StoreUnderTest, n: u64, ledger: Ledger) -> Self {
        Self {
            on,
            rng: random::rng("order", n),
            own: (0..4).map(|i| stream(&format!("own-{n}-{i}"))).collect(),
            shared: (0..4).map(|i| stream(&format!("shared-{i}"))).collect(),
            versions: BTreeMap::new(),
            ledger,
        }
    }

    async fn run(mut self, released: watch::Receiver<bool>) {
        let mut rounds = 0;
        while rounds < ROUNDS || !*released.borrow() {
            rounds += 1;
            match self.rng.random_range(0..12) {
                0..=3 => self.append_to_own().await,
                4..=6 => self.append_to_shared().await,
                7 => self.lose().await,
                8 | 9 => self.append_batch().await,
                10 => self.abandon_and_repeat().await,
                _ => self.on.foreign_rollback().await,
            }
            tokio::task::yield_now().await;
        }
    }

    fn at(&self, stream: &StreamId) -> u64 {
        self.versions.get(stream).copied().unwrap_or(0)
    }

    fn any_of_own(&mut self) -> StreamId {
        self.own[self.rng.random_range(0..self.own.len())].clone()
    }

    /// An append at the version that this writer last saw.
    fn next_append(&mut self, stream: &StreamId) -> Append {
        let count = self.rng.random_range(1..4);
        let next = append(stream, self.at(stream), count);
        if self.rng.random() { next.with_inbox(vec![inbox_entry(0, 1)]) } else { next }
    }

    fn enter(&mut self, append: &Append, outcome: &AppendOutcome) {
        let (version, position) = committed(outcome);
        self.versions.insert(append.stream.clone(), version.get());
        self.ledger.enter(append, version, position);
    }

    async fn append_to_own(&mut self) {
        let stream = self.any_of_own();
        let append = self.next_append(&stream);
        let outcome = self.on.append(&append).await;
        self.enter(&append, &outcome);
    }

    async fn append_to_shared(&mut self) {
        let stream = self.shared[self.rng.random_range(0..self.shared.len())].clone();
        let append = self.next_append(&stream);
        match self.on.append(&append).await {
            AppendOutcome::Conflict { actual } => {
                assert!(actual.get() > self.at(&stream), "a stream never goes back");
                self.versions.insert(stream, actual.get());
            }
            outcome => self.enter(&append, &outcome),
        }
    }

    async fn lose(&mut self) {
        let stream = self.any_of_own();
        let actual = Version::new(self.at(&stream));
        let losing = append(&stream, actual.get() + 1, 2).with_inbox(vec![inbox_entry(0, 2)]);
        assert_eq!(self.on.append(&losing).await, AppendOutcome::Conflict { actual });
    }

    /// Appends to all own streams of one partition, one of them at a wrong version.
    async fn append_batch(&mut self) {
        let log = self.on.log();
        let partition = log.partition_of(&self.any_of_own());
        let together: Vec<_> =
            self.own.iter().filter(|s| log.partition_of(s) == partition).cloned().collect();
        let mut batch: Vec<_> = together.iter().map(|s| self.next_append(s)).collect();
        let loser = self.rng.random_range(0..batch.len());
        let actual = Version::new(self.at(&together[loser]));
        batch[loser].expected = super::builders::exact(actual.get() + 7);
        let outcomes = self.on.batch(partition, &batch).await;
        for (n, (append, outcome)) in batch.iter().zip(&outcomes).enumerate() {
            if n == loser {
                assert_eq!(*outcome, AppendOutcome::Conflict { actual });
            } else {
                self.enter(append, outcome);
            }
        }
    }

    async fn abandon_and_repeat(&mut self) {
        let stream = self.any_of_own();
        let append = self.next_append(&stream);
        let task = {
            let (on, append) = (self.on.clone(), append.clone());
            tokio::spawn(async move { on.append(&append).await })
        };
        random::moment(&mut self.rng, Duration::from_millis(3)).await;
        task.abort();
        let outcome = self.on.append(&append).await;
        self.enter(&append, &outcome);
    }
}

pub(super) async fn foreign_transactions_do_not_block_readers(on: StoreUnderTest) {
    if on.waits_for_foreign_writers() {
        return;
    }
    let thing = stream("thing-1");
    let from = Position::new(on.log().partition_of(&thing), 0);
    let mut events = std::pin::pin!(subscribe(&on.store, vec![from], 16));
    let held = {
        let on = on.clone();
        tokio::spawn(async move { on.hold_foreign_transaction(Duration::from_secs(3)).await })
    };
    for version in 0..5 {
        on.commit(&append(&thing, version, 1)).await;
        let event = events.next().await.expect("a subscription does not end");
        assert_eq!(event.expect("the log is followed").version, Version::new(version + 1));
    }
    if held.is_finished() {
        assert!(!joined(held).await, "five events were read only after a foreign transaction");
    } else {
        held.abort();
    }
}

pub(super) async fn old_database_snapshots_do_not_slow_appends(on: StoreUnderTest) {
    const APPENDS: u64 = 300;
    let thing = stream("thing-1");
    on.commit(&append(&thing, 0, 1)).await;
    let old = on.idle_snapshot().await;
    let before = on.dead_rows().await;
    for n in 0..APPENDS {
        let next = append(&thing, n + 1, 1).with_inbox(vec![inbox_entry(0, 1)]);
        on.commit(&next).await;
        assert!(matches!(on.append(&append(&thing, n, 1)).await, AppendOutcome::Conflict { .. }));
    }
    let after = on.dead_rows().await;
    drop(old);
    if let (Some(before), Some(after)) = (before, after) {
        let left = after.saturating_sub(before);
        assert!(left * 20 < APPENDS, "{APPENDS} appends left {left} dead rows, which add up");
    }
}
