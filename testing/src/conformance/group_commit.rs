//! The store behind the runtime's group commit, as an app drives it.

use std::time::Duration;

use composable_rust_core::Version;
use composable_rust_core::store::{
    Append, AppendOutcome, MAX_PAYLOAD_BYTES, SharedEventStore, StoreError,
};
use composable_rust_runtime::GroupCommit;
use futures_util::future::join_all;
use rand::Rng as _;

use super::builders::{append, content, inbox_entry, stream};
use super::random::{self, joined};
use super::subject::{StoreUnderTest, committed, duplicates};
use crate::{Fault, FaultyEventStore};

async fn appended(writers: &GroupCommit, append: &Append) -> AppendOutcome {
    writers.append(append.clone()).await.expect("the append is valid and the store available")
}

/// Group-commit writers over a store with scripted faults.
fn over_faults(on: &StoreUnderTest) -> (GroupCommit, FaultyEventStore<SharedEventStore>) {
    let faulty = FaultyEventStore::new(on.store.clone());
    (GroupCommit::new(SharedEventStore::new(faulty.clone())), faulty)
}

pub(super) async fn waiting_appends_are_committed_together(on: StoreUnderTest) {
    let (writers, faulty) = over_faults(&on);
    // While the first batch of a partition takes its time, the other appends gather.
    faulty.next_appends([Fault::Delay(Duration::from_millis(50)); 3]);
    let appends: Vec<_> =
        (0..60).map(|n| append(&stream(&format!("thing-{n}")), 0, 1 + n % 3)).collect();
    let outcomes = join_all(appends.iter().map(|append| appended(&writers, append))).await;
    for (append, outcome) in appends.iter().zip(&outcomes) {
        let (version, position) = committed(outcome);
        assert_eq!(version, Version::new(append.events.len() as u64));
        let stored = on.events(&append.stream).await;
        assert_eq!(stored.last().map(|event| event.position), position);
    }
    assert_eq!(on.whole_log().await.len(), 120);
    let batches = faulty.counts().appends;
    assert!(batches < 60, "60 appends went in {batches} batches");
}

pub(super) async fn appends_to_one_stream_keep_their_order(on: StoreUnderTest) {
    let writers = GroupCommit::new(on.store.clone());
    let thing = stream("thing-1");
    let appends: Vec<_> = (0..20).map(|version| append(&thing, version, 1)).collect();
    let outcomes = join_all(appends.iter().map(|append| appended(&writers, append))).await;
    for (outcome, version) in outcomes.iter().zip(1..) {
        assert_eq!(committed(outcome).0, Version::new(version));
    }
    assert_eq!(on.events(&thing).await.len(), 20);
}

pub(super) async fn a_conflict_in_a_group_leaves_the_others_alone(on: StoreUnderTest) {
    let (writers, faulty) = over_faults(&on);
    let streams = on.streams_of(0, "thing", 12);
    let handled = inbox_entry(0, 1);
    for stream in &streams[..4] {
        on.commit(&append(stream, 0, 1).with_inbox(vec![handled.clone()])).await;
    }
    let first = on.streams_of(0, "first", 1).remove(0);
    faulty.next_appends([Fault::Delay(Duration::from_millis(20))]);
    let mut appends = vec![append(&first, 0, 1)];
    appends.extend(streams[..2].iter().map(|stream| append(stream, 0, 1)));
    let again = |stream| append(stream, 1, 1).with_inbox(vec![handled.clone()]);
    appends.extend(streams[2..4].iter().map(again));
    appends.extend(streams[4..].iter().map(|stream| append(stream, 0, 1)));
    let outcomes = join_all(appends.iter().map(|append| appended(&writers, append))).await;
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match n {
            1 | 2 => assert_eq!(outcome, AppendOutcome::Conflict { actual: Version::new(1) }),
            3 | 4 => assert_eq!(duplicates(outcome)[0].message_id, handled.message_id),
            _ => assert_eq!(committed(&outcome).0, Version::new(1)),
        }
    }
    assert_eq!(on.partition(0).await.len(), 4 + 1 + 8);
}

pub(super) async fn a_faulty_append_of_a_group_fails_alone(on: StoreUnderTest) {
    let writers = GroupCommit::new(on.store.clone());
    let streams = on.streams_of(0, "thing", 6);
    let mut appends: Vec<_> = streams.iter().map(|stream| append(stream, 0, 1)).collect();
    appends[2].events[0].content = content(vec![0; MAX_PAYLOAD_BYTES + 1]);
    "{\"user\":\"\\u0000\"}".clone_into(&mut appends[4].events[0].metadata);
    let sent = appends.iter().map(|append| writers.append(append.clone()));
    for (n, outcome) in join_all(sent).await.into_iter().enumerate() {
        match (n, outcome) {
            (2 | 4, Err(StoreError::Invalid(_))) => {}
            (0 | 1 | 3 | 5, Ok(outcome)) => assert_eq!(committed(&outcome).0, Version::new(1)),
            (n, other) => panic!("append {n} is answered {other:?}"),
        }
    }
    assert_eq!(on.whole_log().await.len(), 4);
}

pub(super) async fn group_commits_of_two_processes_all_succeed(on: StoreUnderTest) {
    let there = on.another_process().await;
    let processes = [on.store.clone(), there.store.clone()].map(GroupCommit::new);
    let writers: Vec<_> = (0..8)
        .map(|n| {
            let writers = processes[n % 2].clone();
            tokio::spawn(async move {
                let (own, shared) = (stream(&format!("own-{n}")), stream("shared-1"));
                let mut at = 0;
                for version in 0..6 {
                    committed(&appended(&writers, &append(&own, version, 1)).await);
                    loop {
                        match appended(&writers, &append(&shared, at, 1)).await {
                            AppendOutcome::Conflict { actual } => at = actual.get(),
                            outcome => break at = committed(&outcome).0.get(),
                        }
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        joined(writer).await;
    }
    assert_eq!(on.events(&stream("shared-1")).await.len(), 48);
    assert_eq!(on.whole_log().await.len(), 96);
}

pub(super) async fn appends_with_lost_responses_are_repeated(on: StoreUnderTest) {
    let (writers, faulty) = over_faults(&on);
    faulty.next_appends([
        Fault::FailAfter,
        Fault::None,
        Fault::FailBefore,
        Fault::FailAfter,
        Fault::None,
        Fault::FailAfter,
    ]);
    for n in 0..4 {
        let marked =
            |n| append(&stream(&format!("thing-{n}")), 0, 2).with_inbox(vec![inbox_entry(0, 2)]);
        let appends: Vec<_> = (n * 4..n * 4 + 4).map(marked).collect();
        let outcomes = join_all(appends.iter().map(|append| appended(&writers, append))).await;
        for (append, outcome) in appends.iter().zip(&outcomes) {
            assert_eq!(committed(outcome).0, Version::new(2));
            assert_eq!(on.events(&append.stream).await.len(), 2);
        }
    }
    assert_eq!(faulty.counts().failed_after, 3, "answers were lost");
    assert_eq!(on.whole_log().await.len(), 32);
}

pub(super) async fn a_dropped_append_of_a_group_is_resolved(on: StoreUnderTest) {
    let mut rng = random::rng("group_commit::a_dropped_append_is_resolved", 0);
    let writers = GroupCommit::new(on.store.clone());
    let thing = stream("thing-1");
    for round in 0..25 {
        let next = append(&thing, round * 2, 2);
        let next = if rng.random() { next.with_inbox(vec![inbox_entry(0, 2)]) } else { next };
        let task = {
            let (writers, next) = (writers.clone(), next.clone());
            tokio::spawn(async move { writers.append(next).await })
        };
        random::moment(&mut rng, Duration::from_millis(4)).await;
        task.abort();
        let (version, _) = committed(&appended(&writers, &next).await);
        assert_eq!(version, Version::new(round * 2 + 2));
    }
    assert_eq!(on.events(&thing).await.len(), 50);
}
