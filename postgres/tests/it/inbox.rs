//! The inbox and its pruning.

use std::time::Duration;

use composable_rust_core::queue::{Inbox as _, Outbox as _};
use sqlx::Executor as _;

use crate::database::Database;
use crate::work::{hold, parked, queued, read, settlement};

/// More pages than one step reads, of which other partitions fill a part.
#[tokio::test]
async fn a_large_inbox_is_pruned_in_steps() {
    let database = Database::create().await;
    let store = database.store(2).await;
    let lease = hold(&store).await;
    let fill = "insert into inbox select 0, null, now() - make_interval(days => 40 - n / 1000, hours => -1), \
        ('00000000-0000-0000-0000-' || lpad(to_hex(n), 12, '0'))::uuid, gen_random_uuid(), n % 2, \
        'a-' || n, '' from generate_series(1, 20000) n";
    database.pool().execute(fill).await.unwrap();
    let mut two = [queued(2), queued(4)];
    two[1].row.recipient = "payment-9".to_owned();
    store.enqueue(0, &two, None).await.unwrap();
    database
        .pool()
        .execute("update outbox set created_at = now() - interval '50 days'")
        .await
        .unwrap();
    let rows = read(&store).await;
    let park = settlement(&lease, &rows[1], parked(Some("no")));
    store.settle(0, &[park]).await.unwrap();
    let month = Duration::from_secs(30 * 24 * 3600);
    let mut counts = Vec::new();
    loop {
        let pruned = store.prune_inbox(0, month, 700).await.unwrap();
        if pruned == 0 {
            break;
        }
        counts.push(pruned);
    }
    // The even ones of the first 9,999, except two whose messages are queued.
    assert_eq!(counts.iter().sum::<u64>(), 4_999 - 2, "{counts:?}");
    assert!(counts[..counts.len() - 1].iter().all(|pruned| *pruned == 700), "{counts:?}");
    let left: Vec<(i16, i64)> =
        sqlx::query_as("select partition, count(*) from inbox group by 1 order by 1")
            .fetch_all(&database.pool())
            .await
            .unwrap();
    assert_eq!(left, [(0, 10_000 - 4_997), (1, 10_000)]);
    // Younger entries stay.
    assert_eq!(store.prune_inbox(1, Duration::from_secs(3600 * 24 * 365), 10).await.unwrap(), 0);
}

/// As when the offsets of a topic are set back: the entry is old, the queued row is not.
#[tokio::test]
async fn an_entry_of_a_queued_message_is_kept() {
    let database = Database::create().await;
    let store = database.store(2).await;
    let fill = "insert into inbox select 0, null, now() - interval '31 days', \
        ('00000000-0000-0000-0000-' || lpad(to_hex(n), 12, '0'))::uuid, gen_random_uuid(), 0, \
        'a-' || n, '' from generate_series(1, 3) n";
    database.pool().execute(fill).await.unwrap();
    store.enqueue(1, &[queued(2)], None).await.unwrap();
    let month = Duration::from_secs(30 * 24 * 3600);
    assert_eq!(store.prune_inbox(0, month, 10).await.unwrap(), 2);
    let left: Vec<String> = sqlx::query_scalar("select stream_id from inbox")
        .fetch_all(&database.pool())
        .await
        .unwrap();
    assert_eq!(left, ["a-2"]);
}
