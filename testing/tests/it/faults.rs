//! The store with scripted and random faults.

use std::time::Duration;

use composable_rust_core::event::NewEvent;
use composable_rust_core::queue::{
    LeaseRequest, Leases as _, Outbox as _, OutboxKind, OutboxMessage, Queue, QueuePosition,
};
use composable_rust_core::store::{
    Append, AppendOutcome, EventStore, ExpectedVersion, NewOutboxRow, StoreError,
};
use composable_rust_core::{StreamId, Timestamp, Version};
use composable_rust_runtime::environment::SystemClock;
use composable_rust_testing::conformance::{CASES, StoreBackend, run};
use composable_rust_testing::{
    Chances, Fault, FaultCounts, FaultyEventStore, InMemoryEventStore, MockClock,
};
use futures_util::TryStreamExt as _;

type Faulty = FaultyEventStore<InMemoryEventStore>;

fn faulty() -> Faulty {
    FaultyEventStore::new(InMemoryEventStore::new())
}

fn stream() -> StreamId {
    "thing-1".parse().unwrap()
}

fn event(n: u128) -> NewEvent {
    NewEvent {
        id: composable_rust_core::EventId(uuid::Uuid::from_u128(n)),
        content: composable_rust_core::codec::EncodedMessage {
            name: "thing.happened".into(),
            version: 1,
            codec: "raw".into(),
            bytes: Vec::new(),
        },
        metadata: String::new(),
    }
}

async fn append(store: &Faulty, version: u64) -> Result<AppendOutcome, StoreError> {
    let append = Append::new(stream(), ExpectedVersion::Exact(Version::new(version)))
        .with_events(vec![event(u128::from(version))]);
    let partition = store.log().partition_of(&stream());
    Ok(store.append_events(partition, &[append]).await?.remove(0))
}

async fn load(store: &Faulty) -> (usize, Option<StoreError>) {
    let (stream, mut count) = (stream(), 0);
    let loaded = store.load_events(&stream, Version::ZERO).try_for_each(|_| {
        count += 1;
        std::future::ready(Ok(()))
    });
    let error = loaded.await.err();
    (count, error)
}

#[tokio::test]
async fn a_script_is_followed_call_by_call() {
    let store = faulty();
    let delay = Fault::Delay(Duration::from_micros(1));
    store.next_appends([Fault::FailBefore, Fault::None, Fault::FailAfter]);
    store.next_appends([Fault::Conflict, delay]);

    assert!(append(&store, 0).await.unwrap_err().is_transient());
    assert_eq!(store.inner().events(&stream()).len(), 0, "failed before");
    assert!(matches!(append(&store, 0).await, Ok(AppendOutcome::Committed { .. })));
    assert!(append(&store, 1).await.unwrap_err().is_transient());
    assert_eq!(store.inner().events(&stream()).len(), 2, "failed after");
    let conflict = AppendOutcome::Conflict { actual: Version::new(2) };
    assert_eq!(append(&store, 2).await.unwrap(), conflict);
    assert!(matches!(append(&store, 2).await, Ok(AppendOutcome::Committed { .. })));
    assert!(matches!(append(&store, 3).await, Ok(AppendOutcome::Committed { .. })));

    let counts = FaultCounts {
        appends: 6,
        failed_before: 1,
        failed_after: 1,
        conflicts: 1,
        delayed: 1,
        ..FaultCounts::default()
    };
    assert_eq!(store.counts(), counts);
}

#[tokio::test]
async fn reads_fail_before_or_after_their_rows() {
    let store = faulty();
    for version in 0..3 {
        append(&store, version).await.unwrap();
    }
    store.next_reads([Fault::FailBefore, Fault::FailAfter, Fault::Conflict, Fault::FailAfter]);
    assert!(matches!(load(&store).await, (0, Some(StoreError::Unavailable(_)))));
    assert!(matches!(load(&store).await, (3, Some(StoreError::Unavailable(_)))));
    assert!(matches!(load(&store).await, (3, None)));
    assert!(store.heads().await.unwrap_err().is_transient());
    assert!(store.heads().await.is_ok());
    assert_eq!(store.counts().reads, 5);
}

#[tokio::test]
async fn writes_fail_before_or_after_they_are_done() {
    let store = faulty();
    let queued = OutboxMessage {
        sender: stream(),
        row: NewOutboxRow {
            id: uuid::Uuid::from_u128(1),
            kind: OutboxKind::Dispatch,
            target: "other".to_owned(),
            recipient: "other-1".to_owned(),
            content: event(1).content,
            metadata: String::new(),
        },
    };
    let queue = Queue { partition: 0, kind: OutboxKind::Dispatch, target: "other".to_owned() };
    let all = [(queue, QueuePosition::default())];
    let rows = [queued];
    let enqueue = async || store.enqueue(0, &rows, None).await.map_err(|e| e.is_transient());
    let waiting = async || store.inner().read_outbox(&all, 9).await.unwrap().len();
    store.next_writes([Fault::FailBefore, Fault::FailAfter, Fault::Conflict]);
    assert_eq!((enqueue().await, waiting().await), (Err(true), 0));
    assert_eq!((enqueue().await, waiting().await), (Err(true), 1));
    assert_eq!((enqueue().await, waiting().await), (Ok(true), 2));

    let round = LeaseRequest {
        holder: uuid::Uuid::from_u128(2),
        workers: vec!["work".to_owned()],
        ttl: Duration::from_secs(60),
        min_epoch: 0,
        changes: Vec::new(),
    };
    store.next_writes([Fault::FailAfter]);
    store.next_reads([Fault::FailBefore]);
    assert!(store.change_leases(&round).await.unwrap_err().is_transient());
    assert!(store.load_leases(&round.workers).await.unwrap_err().is_transient());
    assert_eq!(store.load_leases(&round.workers).await.unwrap().members.len(), 1);
    let counts = store.counts();
    assert_eq!((counts.writes, counts.reads, counts.appends), (4, 2, 0));
}

#[tokio::test]
async fn random_faults_repeat_with_their_seed() {
    let course = async |seed| {
        let chances =
            Chances { fail_before: 0.2, fail_after: 0.2, conflict: 0.2, ..Chances::default() };
        let store = faulty().with_chances(seed, chances);
        let mut course = Vec::new();
        for _ in 0..100 {
            let version = store.inner().events(&stream()).len() as u64;
            course.push(append(&store, version).await.ok());
        }
        let counts = store.counts();
        assert!(counts.failed_before > 5 && counts.failed_after > 5 && counts.conflicts > 5);
        store.recover();
        let version = store.inner().events(&stream()).len() as u64;
        assert!(append(&store, version).await.is_ok());
        course
    };
    assert_eq!(course(1).await, course(1).await);
    assert_ne!(course(1).await, course(2).await);
}

#[tokio::test]
async fn delays_run_on_the_given_clock() {
    let clock = MockClock::new();
    let store = faulty().with_clock(clock.clone());
    store.next_appends([Fault::Delay(Duration::from_secs(3_600))]);
    let appending = tokio::spawn({
        let store = store.clone();
        async move { append(&store, 0).await }
    });
    clock.elapse(Duration::from_secs(3_599)).await;
    assert_eq!(store.inner().events(&stream()).len(), 0);
    clock.elapse(Duration::from_secs(1)).await;
    assert!(matches!(appending.await.unwrap(), Ok(AppendOutcome::Committed { .. })));
}

#[tokio::test]
async fn a_store_in_memory_follows_its_clock() {
    let clock = MockClock::new();
    let store = FaultyEventStore::new(InMemoryEventStore::new().with_clock(clock.clone()));
    clock.elapse(Duration::from_secs(5)).await;
    append(&store, 0).await.unwrap();
    assert_eq!(store.now().await.unwrap(), Timestamp::EPOCH + Duration::from_secs(5));
    let recorded_at = store.inner().events(&stream())[0].recorded_at;
    assert_eq!(recorded_at, Timestamp::EPOCH + Duration::from_secs(5));
}

struct Backend(Faulty);

impl StoreBackend for Backend {
    type Store = Faulty;

    fn store(&self) -> Faulty {
        self.0.clone()
    }

    async fn open_again(&self) -> Faulty {
        self.0.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_store_forwards_every_call_by_default() {
    for case in CASES {
        let store = FaultyEventStore::new(InMemoryEventStore::new().with_clock(SystemClock));
        assert_eq!(run(*case, Backend(store)).await, Ok(()), "{case:?}");
    }
}
