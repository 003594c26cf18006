//! Versions of a stream count from 1, and appended events round-trip.

use composable_rust_core::Version;
use composable_rust_core::event::StoredContent;
use composable_rust_core::store::{Append, AppendOutcome, EventStore as _, ExpectedVersion};

use super::builders::{append, exact, json, stream};
use super::subject::StoreUnderTest;

pub(super) async fn versions_count_from_one(on: StoreUnderTest) {
    let thing = stream("thing-1");
    for (before, count) in [(0, 1), (1, 3), (4, 1), (5, 2)] {
        let (version, _) = on.commit(&append(&thing, before, count)).await;
        assert_eq!(version, Version::new(before + count as u64));
    }
    let versions: Vec<u64> = on.events(&thing).await.iter().map(|e| e.version.get()).collect();
    assert_eq!(versions, [1, 2, 3, 4, 5, 6, 7]);
}

pub(super) async fn each_stream_has_its_own_versions(on: StoreUnderTest) {
    for n in 0..10 {
        let thing = stream(&format!("thing-{n}"));
        let (version, _) = on.commit(&append(&thing, 0, 2)).await;
        assert_eq!(version, Version::new(2));
    }
    for n in 0..10 {
        let versions: Vec<u64> = on
            .events(&stream(&format!("thing-{n}")))
            .await
            .iter()
            .map(|e| e.version.get())
            .collect();
        assert_eq!(versions, [1, 2]);
    }
}

pub(super) async fn events_round_trip(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let append = append(&thing, 0, 3);
    let earlier = on.store.now().await.expect("the clock is read");
    on.commit(&append).await;
    let later = on.store.now().await.expect("the clock is read");

    let stored = on.events(&thing).await;
    assert_eq!(stored.len(), 3);
    for (stored, appended) in stored.iter().zip(&append.events) {
        assert_eq!(stored.id, appended.id);
        assert_eq!(stored.stream, thing);
        assert_eq!(stored.content, StoredContent::Present(appended.content.clone()));
        assert_eq!(json(&stored.metadata), json(&appended.metadata));
        assert_eq!(stored.position.partition, on.log().partition_of(&thing));
        assert!(
            (earlier..=later).contains(&stored.recorded_at),
            "recorded at {}, between {earlier} and {later} by the store's clock",
            stored.recorded_at
        );
    }
    assert_eq!(on.partition(on.log().partition_of(&thing)).await, stored, "the log holds the same");
}

pub(super) async fn the_outcome_names_the_last_event(on: StoreUnderTest) {
    let thing = stream("thing-1");
    for (before, count) in [(0, 3), (3, 1)] {
        let (version, position) = on.commit(&append(&thing, before, count)).await;
        let last = on.events(&thing).await.pop().expect("events were appended");
        assert_eq!((version, position), (last.version, Some(last.position)));
    }
}

pub(super) async fn an_append_without_events_only_checks_the_version(on: StoreUnderTest) {
    let (thing, other) = (stream("thing-1"), stream("thing-2"));
    on.commit(&append(&thing, 0, 2)).await;
    let heads = on.heads().await;
    for (stream, expected, version) in [
        (&thing, exact(2), 2),
        (&thing, ExpectedVersion::Exists, 2),
        (&thing, ExpectedVersion::Any, 2),
        (&other, ExpectedVersion::EMPTY, 0),
        (&other, ExpectedVersion::Any, 0),
    ] {
        let outcome = on.append(&Append::new(stream.clone(), expected)).await;
        let version = Version::new(version);
        let wanted = AppendOutcome::Committed { version, position: None, actual: version };
        assert_eq!(outcome, wanted, "{stream} expected at {expected:?}");
    }
    assert_eq!(on.heads().await, heads);
}
