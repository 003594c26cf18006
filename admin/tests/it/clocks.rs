//! Pages and trails across the moves of a clock.

use std::collections::BTreeSet;
use std::time::Duration;

use composable_rust_admin::{Admin, EventQuery, Intent, Operator};
use composable_rust_core::store::EventStore as _;
use composable_rust_core::{StreamId, Timestamp};
use composable_rust_testing::InMemoryEventStore;
use composable_rust_testing::fixtures::{append, new_event};

fn moment(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn admin(store: &InMemoryEventStore) -> Admin {
    Admin::of_store(store.clone(), Operator::named("ann")).unwrap()
}

#[tokio::test]
async fn pages_have_each_event_once_although_the_clock_went_back() {
    let store = InMemoryEventStore::with_partitions(3);
    let mut now = moment("2026-03-01T12:00:00Z");
    for n in 1..=40 {
        now = if n == 20 { moment("2026-03-01T11:00:00Z") } else { now + Duration::from_secs(1) };
        store.set_now(now);
        let stream: StreamId = format!("order-{n}").parse().unwrap();
        let event = new_event("order.placed", b"").id(n).build();
        let of = append(stream.clone()).new_event(event).build();
        store.append_events(store.log().partition_of(&stream), &[of]).await.unwrap();
    }
    let mut query = EventQuery { limit: 2, ..EventQuery::default() };
    let (mut seen, mut count) = (BTreeSet::new(), 0);
    for _ in 0..=40 {
        let page = admin(&store).events(&query).await.unwrap();
        count += page.entries.len();
        seen.extend(page.entries.into_iter().map(|event| event.id.0));
        query.cursor = page.next;
        if query.cursor.is_none() {
            break;
        }
    }
    assert_eq!((query.cursor, seen.len(), count), (None, 40, 40));
}

#[tokio::test]
async fn an_operation_across_the_end_of_a_month_has_its_result() {
    let store = InMemoryEventStore::new();
    store.set_now(moment("2026-03-31T23:59:59Z"));
    let admin = admin(&store);
    let operation = async || {
        store.set_now(moment("2026-04-01T00:00:01Z"));
        Ok(((), "done".to_owned()))
    };
    admin.audited(Intent::new("rebuild", "sales"), operation).await.unwrap();
    let entries = admin.audit(None, 10).await.unwrap().entries;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].result.as_deref(), Some("done"));
}
