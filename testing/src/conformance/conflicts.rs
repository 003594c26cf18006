//! Conflicts: an append that expects the wrong version is refused, and leaves nothing behind.

use composable_rust_core::store::{Append, AppendOutcome, ExpectedVersion};
use composable_rust_core::{StreamId, Version};

use super::builders::{append, events, exact, inbox_entry, stream};
use super::subject::{StoreUnderTest, committed};

fn conflict(actual: u64) -> AppendOutcome {
    AppendOutcome::Conflict { actual: Version::new(actual) }
}

fn one_event(stream: &StreamId, expected: ExpectedVersion) -> Append {
    Append::new(stream.clone(), expected).with_events(events(1))
}

pub(super) async fn exact_accepts_only_that_version(on: StoreUnderTest) {
    let thing = stream("thing-1");
    assert_eq!(on.append(&one_event(&thing, exact(1))).await, conflict(0));
    on.commit(&append(&thing, 0, 3)).await;
    for wrong in [1, 2, 4, 5, u64::from(u32::MAX), i64::MAX as u64] {
        assert_eq!(on.append(&one_event(&thing, exact(wrong))).await, conflict(3), "{wrong}");
    }
    on.commit(&one_event(&thing, exact(3))).await;
}

pub(super) async fn empty_accepts_only_the_first_append(on: StoreUnderTest) {
    let thing = stream("thing-1");
    on.commit(&one_event(&thing, ExpectedVersion::EMPTY)).await;
    assert_eq!(on.append(&one_event(&thing, ExpectedVersion::EMPTY)).await, conflict(1));
}

pub(super) async fn exists_accepts_all_but_the_first_append(on: StoreUnderTest) {
    let thing = stream("thing-1");
    assert_eq!(on.append(&one_event(&thing, ExpectedVersion::Exists)).await, conflict(0));
    on.commit(&append(&thing, 0, 2)).await;
    let (version, _) = on.commit(&one_event(&thing, ExpectedVersion::Exists)).await;
    assert_eq!(version, Version::new(3));
}

pub(super) async fn any_accepts_every_append(on: StoreUnderTest) {
    let thing = stream("thing-1");
    for n in 1..=3 {
        let (version, _) = on.commit(&one_event(&thing, ExpectedVersion::Any)).await;
        assert_eq!(version, Version::new(n));
    }
}

pub(super) async fn appends_without_events_conflict_too(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let check = |expected| Append::new(thing.clone(), expected);
    assert_eq!(on.append(&check(ExpectedVersion::Exists)).await, conflict(0));
    assert_eq!(on.append(&check(exact(1))).await, conflict(0));
    on.commit(&append(&thing, 0, 2)).await;
    assert_eq!(on.append(&check(ExpectedVersion::EMPTY)).await, conflict(2));
    assert_eq!(on.append(&check(exact(1))).await, conflict(2));
}

pub(super) async fn conflicts_leave_nothing_behind(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let (_, first) = on.commit(&append(&thing, 0, 1)).await;
    let entry = inbox_entry(0, 2);
    let losing = append(&thing, 0, 2).with_inbox(vec![entry.clone()]);
    for _ in 0..5 {
        assert_eq!(on.append(&losing).await, conflict(1));
    }
    assert_eq!(on.inbox_entry(&thing, entry.message_id).await, None);
    let (version, next) = on.commit(&append(&thing, 1, 1)).await;
    assert_eq!(version, Version::new(2));
    let offsets = [first, next].map(|position| position.expect("the append has events").offset);
    assert_eq!(offsets, [1, 2], "a losing append takes no offset");
    assert_eq!(on.events(&thing).await.len(), 2);
}

pub(super) async fn one_of_many_writers_wins(on: StoreUnderTest) {
    let thing = stream("thing-1");
    for round in 0..5 {
        let writers = (0..8).map(|_| {
            let (on, append) = (on.clone(), append(&thing, round * 2, 2));
            tokio::spawn(async move { on.append(&append).await })
        });
        let mut winners = 0;
        for writer in writers.collect::<Vec<_>>() {
            match writer.await.expect("the writer does not panic") {
                AppendOutcome::Committed { version, .. } => {
                    assert_eq!(version, Version::new(round * 2 + 2));
                    winners += 1;
                }
                other => assert_eq!(other, conflict(round * 2 + 2)),
            }
        }
        assert_eq!(winners, 1);
    }
    assert_eq!(on.events(&thing).await.len(), 10);
}

pub(super) async fn writers_that_retry_all_succeed(on: StoreUnderTest) {
    let thing = stream("thing-1");
    let there = on.another_process().await;
    let writers = [&on, &there, &on, &there, &on, &there, &on, &there].map(|process| {
        let (process, thing) = (process.clone(), thing.clone());
        tokio::spawn(async move {
            let mut at = 0;
            for _ in 0..10 {
                loop {
                    match process.append(&append(&thing, at, 1)).await {
                        AppendOutcome::Committed { version, .. } => break at = version.get(),
                        AppendOutcome::Conflict { actual } => at = actual.get(),
                        other => panic!("neither committed nor a conflict: {other:?}"),
                    }
                }
            }
        })
    });
    for writer in writers {
        writer.await.expect("the writer does not panic");
    }
    let versions: Vec<u64> = on.events(&thing).await.iter().map(|e| e.version.get()).collect();
    assert_eq!(versions, (1..=80).collect::<Vec<_>>());
    assert_eq!(on.whole_log().await.len(), 80);
}

pub(super) async fn writers_on_different_streams_do_not_conflict(on: StoreUnderTest) {
    let writers = (0..8).map(|n| {
        let on = on.clone();
        tokio::spawn(async move {
            let thing = stream(&format!("thing-{n}"));
            for version in 0..10 {
                committed(&on.append(&append(&thing, version, 1)).await);
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("a writer of its own stream never loses");
    }
    for n in 0..8 {
        let events = on.events(&stream(&format!("thing-{n}"))).await;
        let versions: Vec<u64> = events.iter().map(|e| e.version.get()).collect();
        assert_eq!(versions, (1..=10).collect::<Vec<_>>());
    }
    assert_eq!(on.whole_log().await.len(), 80);
}
