//! The in-memory event store passes the conformance suite.

use std::time::Duration;

use composable_rust_core::queue::{Lease, LeaseAction, LeaseRequest, Leases as _, Pause};
use composable_rust_core::store::EventStore as _;
use composable_rust_runtime::environment::SystemClock;
use composable_rust_testing::conformance::StoreBackend;
use composable_rust_testing::{InMemoryEventStore, MockClock, StoredOutboxRow, StoredTimer};
use futures_util::FutureExt as _;
use uuid::Uuid;

pub(crate) struct Memory(pub(crate) InMemoryEventStore);

impl StoreBackend for Memory {
    type Store = InMemoryEventStore;

    fn store(&self) -> InMemoryEventStore {
        self.0.clone()
    }

    async fn open_again(&self) -> InMemoryEventStore {
        self.0.clone()
    }

    async fn outbox(&self) -> Option<Vec<StoredOutboxRow>> {
        Some(self.0.outbox())
    }

    async fn timers(&self) -> Option<Vec<StoredTimer>> {
        Some(self.0.timers())
    }
}

async fn memory(partitions: u16) -> Memory {
    Memory(InMemoryEventStore::with_partitions(partitions).with_clock(SystemClock))
}

composable_rust_testing::conformance!(memory);

const TTL: Duration = Duration::from_secs(15);

fn request(holder: u128, epoch: u64, action: LeaseAction) -> LeaseRequest {
    let lease = Lease { worker: "work".into(), partition: 0, epoch };
    let (holder, workers) = (Uuid::from_u128(holder), vec!["work".to_owned()]);
    LeaseRequest { holder, workers, ttl: TTL, min_epoch: 0, changes: vec![(lease, action)] }
}

#[tokio::test]
async fn the_leases_of_a_process_expire_when_it_goes() {
    let clock = MockClock::new();
    let store = InMemoryEventStore::new().with_clock(clock.clone());
    let (one, other) = (1, 2);
    let presence = store.attend(Uuid::from_u128(one)).unwrap();
    assert_eq!(store.change_leases(&request(one, 0, LeaseAction::Claim)).await.unwrap(), [true]);
    clock.advance(100 * TTL);
    let claim = request(other, 1, LeaseAction::Claim);
    assert_eq!(store.change_leases(&claim).await.unwrap(), [false], "its holder is present");
    let leases = store.load_leases(&["work".to_owned()]).await.unwrap();
    assert!(!leases.leases[0].lapsed);
    let holders: Vec<_> = leases.members.iter().map(|(_, holder)| holder.as_u128()).collect();
    assert_eq!(holders, [one, other]);
    drop(presence);
    let leases = store.load_leases(&["work".to_owned()]).await.unwrap();
    assert!(leases.leases[0].lapsed && leases.leases[0].holder == Some(Uuid::from_u128(one)));
    assert_eq!(store.change_leases(&claim).await.unwrap(), [true]);
}

#[tokio::test]
async fn changes_of_leases_are_told() {
    let clock = MockClock::new();
    let store = InMemoryEventStore::new().with_clock(clock.clone());
    let presence = store.attend(Uuid::from_u128(1)).unwrap();
    let mut seen = presence.lease_changes(0).await;
    let mut has_news = async || {
        let next = presence.lease_changes(seen).now_or_never();
        seen = next.unwrap_or(seen);
        next.is_some()
    };
    assert!(!has_news().await);
    store.change_leases(&request(1, 0, LeaseAction::Claim)).await.unwrap();
    assert!(has_news().await && !has_news().await);
    store.change_leases(&request(1, 1, LeaseAction::Renew)).await.unwrap();
    assert!(!has_news().await, "a renewal is no news");
    store.pause(Pause::LOG, None).await.unwrap();
    assert!(has_news().await);
    // Another process without presence seizes the lease, and dies.
    store.change_leases(&request(2, 1, LeaseAction::Seize)).await.unwrap();
    assert!(has_news().await && !has_news().await);
    let expires = tokio::spawn(presence.lease_changes(seen));
    clock.elapse(TTL.checked_sub(Duration::from_secs(1)).unwrap()).await;
    assert!(!expires.is_finished());
    clock.elapse(Duration::from_secs(1)).await;
    expires.await.unwrap();
}
