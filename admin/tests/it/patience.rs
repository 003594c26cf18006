//! Searches that end in time, and are continued.

use std::time::Duration;

use composable_rust_admin::{Admin, EventQuery, Operator, StreamQuery, TraceRange};
use composable_rust_core::event::NewEvent;
use composable_rust_core::store::{Append, EventStore as _, ExpectedVersion};
use composable_rust_core::{CorrelationId, EventId, Metadata, StreamId, Timestamp};
use composable_rust_testing::fixtures::{metadata, new_event};
use composable_rust_testing::{InMemoryEventStore, MockClock};
use uuid::Uuid;

const SECOND: Duration = Duration::from_secs(1);

fn correlation(n: u64) -> CorrelationId {
    CorrelationId(Uuid::from_u64_pair(7, n))
}

/// Returns the operations of a log with an event each second, each of a stream and a workflow of
/// its own, and the time of the first.
async fn a_log_of(seconds: u64) -> (Admin, Timestamp) {
    let clock = MockClock::new();
    let store = InMemoryEventStore::new().with_clock(clock.clone());
    let begin = composable_rust_core::environment::Clock::now(&clock);
    for n in 0..seconds {
        let metadata = Metadata { correlation_id: correlation(n), ..metadata() };
        let event = NewEvent {
            id: EventId(Uuid::from_u64_pair(8, n)),
            metadata: serde_json::to_string(&metadata).unwrap(),
            ..new_event("parcel.sent", b"").build()
        };
        let stream = StreamId::new("parcel", &format!("{n:06}")).unwrap();
        let partition = store.log().partition_of(&stream);
        let append = Append::new(stream, ExpectedVersion::EMPTY).with_events(vec![event]);
        store.append_events(partition, &[append]).await.unwrap();
        clock.advance(SECOND);
    }
    (Admin::of_store(store, Operator::named("test")).unwrap(), begin)
}

#[tokio::test]
async fn an_impatient_search_finds_the_same_in_more_pages() {
    let (admin, _) = a_log_of(60_000).await;
    for (admin, is_patient) in [(admin.clone(), true), (admin.within(Duration::ZERO), false)] {
        let mut query =
            EventQuery { correlation: Some(correlation(3)), limit: 10, ..EventQuery::default() };
        let (mut found, mut pages) = (Vec::new(), 0);
        loop {
            let page = admin.events(&query).await.unwrap();
            found.extend(page.entries.into_iter().map(|event| event.stream.to_string()));
            pages += 1;
            query.cursor = page.next;
            let Some(cursor) = &query.cursor else { break };
            assert!(cursor.events_before() < 60_000, "it examines something");
        }
        assert_eq!(found, ["parcel-000003"]);
        assert_eq!(pages == 1, is_patient, "{pages} pages");
    }
}

#[tokio::test]
async fn an_impatient_search_of_streams_goes_on_where_it_ended() {
    let (admin, _) = a_log_of(20_000).await;
    let impatient = admin.within(Duration::ZERO);
    let mut query = StreamQuery {
        prefix: "parcel-".to_owned(),
        contains: "19999".to_owned(),
        limit: 10,
        ..StreamQuery::default()
    };
    let (mut found, mut pages) = (0, 0);
    loop {
        let page = impatient.streams(&query).await.unwrap();
        (found, pages) = (found + page.entries.len(), pages + 1);
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert!(found == 1 && pages > 1, "{found} in {pages} pages");
}

#[tokio::test]
async fn the_surroundings_of_a_moment_are_searched_first() {
    let (admin, begin) = a_log_of(60_000).await;
    let impatient = admin.within(Duration::ZERO);
    let at = begin + SECOND * 30_003;
    let hours = SECOND * 20_000;
    let range = TraceRange { since: Some(at - hours), until: Some(at + hours) };
    let trace = impatient.trace(correlation(30_003), range, &[]).await.unwrap();
    assert!(trace.is_cut);
    assert_eq!(trace.roots[0].stream.as_str(), "parcel-030003");
    // What was not searched may hold it.
    let elsewhere = impatient.trace(correlation(15_000), range, &[]).await.unwrap();
    assert!(elsewhere.is_cut && elsewhere.roots.is_empty());
    let found = admin.trace(correlation(15_000), range, &[]).await.unwrap();
    assert!(!found.is_cut && found.roots.len() == 1);
    assert!(admin.trace(correlation(99_999), range, &[]).await.is_err());
}
