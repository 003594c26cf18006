//! Builders of leases, rows and timers.

use std::time::Duration;

use composable_rust_core::MessageId;
use composable_rust_core::queue::{
    ArmedTimer, Lease, LeaseAction, LeaseRequest, Leases as _, Outbox as _, OutboxKind,
    OutboxMessage, OutboxRow, Queue, QueueChange, QueuePosition, Settlement, TimerQueue,
};
use composable_rust_core::store::{
    Append, Due, ExpectedVersion, NewOutboxRow, NewTimer, TimerArming, TimerChange,
};
use composable_rust_postgres::PostgresEventStore;
use uuid::Uuid;

use crate::fixtures::{append, content, mark, stream};

pub(crate) const WORKER: &str = "dispatch/payment";

pub(crate) fn queue() -> Queue {
    Queue { partition: 0, kind: OutboxKind::Dispatch, target: "payment".to_owned() }
}

pub(crate) fn timer_queue() -> TimerQueue {
    TimerQueue { partition: 0, category: "order".to_owned() }
}

pub(crate) fn row(n: u128) -> NewOutboxRow {
    NewOutboxRow {
        id: Uuid::from_u128(n),
        kind: OutboxKind::Dispatch,
        target: "payment".to_owned(),
        recipient: format!("payment-{}", n % 7),
        content: content("payment.charge", b"secret"),
        metadata: r#"{"user": "u"}"#.to_owned(),
    }
}

pub(crate) fn queued(n: u128) -> OutboxMessage {
    OutboxMessage { sender: stream("order-1"), row: row(n) }
}

pub(crate) fn round(
    holder: u128,
    ttl: Duration,
    changes: Vec<(Lease, LeaseAction)>,
) -> LeaseRequest {
    LeaseRequest {
        holder: Uuid::from_u128(holder),
        workers: vec![WORKER.to_owned()],
        ttl,
        min_epoch: 0,
        changes,
    }
}

pub(crate) fn lease(partition: u16, epoch: u64) -> Lease {
    Lease { worker: WORKER.to_owned(), partition, epoch }
}

/// Claims the lease of partition 0, which was never held.
pub(crate) async fn hold(store: &PostgresEventStore) -> Lease {
    let claim = vec![(lease(0, 0), LeaseAction::Claim)];
    let made = store.change_leases(&round(1, Duration::from_secs(60), claim)).await.unwrap();
    assert_eq!(made, [true]);
    lease(0, 1)
}

pub(crate) async fn read(store: &PostgresEventStore) -> Vec<OutboxRow> {
    store.read_outbox(&[(queue(), QueuePosition::default())], 1_000).await.unwrap()
}

pub(crate) fn settlement(lease: &Lease, row: &OutboxRow, change: QueueChange) -> Settlement {
    Settlement { lease: lease.clone(), queue: queue(), position: row.position, change }
}

pub(crate) fn done() -> QueueChange {
    QueueChange::Done(Vec::new())
}

pub(crate) fn parked(error: Option<&str>) -> QueueChange {
    QueueChange::Parked { attempts: 1, error: error.map(str::to_owned) }
}

pub(crate) fn arm(n: u128, due: Due) -> TimerChange {
    TimerChange::Arm(NewTimer {
        id: "t".to_owned(),
        arming: TimerArming { armed_by: MessageId(Uuid::from_u128(n)), effect_index: 0 },
        due,
        content: content("order.late", b""),
        metadata: String::new(),
    })
}

pub(crate) fn firing(n: u128) -> ArmedTimer {
    ArmedTimer {
        id: "t".to_owned(),
        arming: TimerArming { armed_by: MessageId(Uuid::from_u128(n)), effect_index: 0 },
    }
}

/// Another arming of the timer, by message `n`.
pub(crate) fn arming(n: u128) -> Append {
    let timers = vec![arm(n, Due::After(Duration::ZERO))];
    Append { timers, ..append("order-1", ExpectedVersion::Any, &[]) }
}

/// Fires arming `n`, as message `message`.
pub(crate) fn fires(n: u128, message: u128) -> Append {
    let marks = vec![mark(message, 0, 0)];
    Append {
        fired_timers: vec![firing(n)],
        inbox: marks,
        ..append("order-1", ExpectedVersion::Any, &[])
    }
}
