//! Sending commands, and reading states and history.

use std::time::Duration;

use composable_rust_core::event::StoredContent;
use composable_rust_core::prelude::*;
use composable_rust_core::store::EventStore as _;
use composable_rust_core::{Position, Version};
use composable_rust_runtime::{LoadError, NamedCommand, SendError};
use composable_rust_testing::{FaultyEventStore, InMemoryEventStore};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};

use crate::account::{Account, AccountCommand as In, AccountError, AccountEvent as Out, app};

#[tokio::test]
async fn an_accepted_command_returns_its_position() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    let stream = account.id().stream();

    let first = account.send(In::Deposit { cents: 5 }).by("ann").await.unwrap();
    let both = account.send(In::Split(vec![1, 2])).await.unwrap();

    assert_eq!((first.version, both.version), (Version::new(1), Version::new(3)));
    let events = store.events(&stream);
    assert_eq!(first.position, Some(events[0].position));
    assert_eq!(both.position, Some(events[2].position));
    assert_eq!(events[0].metadata().unwrap().user.as_deref(), Some("ann"));
    assert_eq!(
        account.state_with_version(|own, version| (own.cents, version.get())).await.unwrap(),
        (8, 3)
    );
}

#[tokio::test]
async fn a_rejection_reaches_the_caller_typed_and_records_nothing() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));

    let refused = account.send(In::Withdraw { cents: 5 }).await.unwrap_err();

    assert_eq!(refused.rejection(), Some(&AccountError::Overdrawn { missing: 5 }));
    assert_eq!(refused.code(), "account.overdrawn");
    assert_eq!(store.all_events(), []);
}

#[tokio::test]
async fn unchanged_and_repeat_return_the_version() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    account.send(In::Deposit { cents: 5 }).await.unwrap();

    for command in [In::Touch, In::Ask, In::Split(vec![])] {
        let receipt = account.send(command).await.unwrap();
        assert_eq!((receipt.version, receipt.position), (Version::new(1), None));
    }
    assert_eq!(store.all_events().len(), 1);
}

#[tokio::test]
async fn an_expected_version_must_match() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    account.send(In::Deposit { cents: 5 }).expecting(Version::ZERO).await.unwrap();

    let late = account.send(In::Deposit { cents: 5 }).expecting(Version::ZERO).await.unwrap_err();

    assert!(matches!(
        late,
        SendError::UnexpectedVersion { expected: Version::ZERO, actual } if actual == Version::new(1)
    ));
}

#[tokio::test]
async fn internal_commands_are_rejected_from_callers() {
    let account = app(&InMemoryEventStore::new()).handle(&Account::id("1"));
    let refused = account.send(In::Reminded).await.unwrap_err();
    assert!(matches!(refused, SendError::Internal("account.reminded")), "{refused:?}");
}

#[tokio::test]
async fn many_callers_of_one_instance_share_few_appends() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    let sends = (1..=1_000).map(|cents| {
        let account = account.clone();
        tokio::spawn(async move { account.send(In::Deposit { cents }).await.unwrap().version })
    });
    let mut versions = futures_util::future::try_join_all(sends).await.unwrap();
    versions.sort();

    assert_eq!(versions, (1..=1_000).map(Version::new).collect::<Vec<_>>());
    assert_eq!(account.state(|own| own.cents).await.unwrap(), 500_500);
}

#[tokio::test]
async fn a_panic_fails_its_own_command_and_nothing_else() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    let (first, deciding, applying, finishing, last) = tokio::join!(
        account.send(In::Deposit { cents: 1 }),
        account.send(In::PanicDeciding),
        account.send(In::PanicApplying),
        account.send(In::PanicFinishing),
        account.send(In::Deposit { cents: 2 }),
    );

    assert_eq!((first.unwrap().version, last.unwrap().version), (Version::new(1), Version::new(2)));
    for panicked in [deciding, applying, finishing] {
        assert!(matches!(panicked, Err(SendError::Panicked(text)) if text.ends_with("like this")));
    }
    assert_eq!(account.state(|own| own.cents).await.unwrap(), 3);
}

#[tokio::test]
async fn values_that_do_not_decode_again_are_not_stored() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    let (lossy, told, nan, fine, large) = tokio::join!(
        account.send(In::Lossy),
        account.send(In::TellLossy("2".into())),
        account.send(In::Weigh),
        account.send(In::Deposit { cents: 2 }),
        account.send(In::Large(5_000_000)),
    );

    let reason = |sent| match sent {
        Err(SendError::Unstorable(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let lossy = reason(lossy);
    assert!(!lossy.contains("12345") && lossy.contains("account.lossy"), "{lossy}");
    let told = reason(told);
    assert!(told.contains("account.take_lossy"), "{told}");
    assert_eq!(store.outbox(), []);
    let nan = reason(nan);
    assert!(nan.contains("does it hold a NaN?"), "{nan}");
    reason(large);
    assert_eq!(fine.unwrap().version, Version::new(1));
}

#[tokio::test]
async fn a_handle_reads_history_and_past_states() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    account.send(In::Split(vec![1, 10, 100])).await.unwrap();

    let (past, version) = account.state_at(Version::new(2)).await.unwrap();
    assert_eq!((past.cents, version), (11, Version::new(2)));
    let (newest, version) = account.state_at(Version::new(9)).await.unwrap();
    assert_eq!((newest.cents, version), (111, Version::new(3)));

    let history: Vec<_> = account.history().try_collect().await.unwrap();
    assert!(matches!(history[1].event, Some(Out::Deposited { cents: 10, .. })));
    assert_eq!(history[2].version, Version::new(3));
}

#[tokio::test]
async fn history_is_read_as_it_is_consumed() {
    let store = FaultyEventStore::new(InMemoryEventStore::new());
    let account = app(&store).handle(&Account::id("1"));
    account.send(In::Split(vec![1; 2_500])).await.unwrap();
    let reads = store.counts().reads;
    let mut history = std::pin::pin!(account.history());
    assert_eq!(history.try_next().await.unwrap().unwrap().version, Version::new(1));
    assert_eq!(store.counts().reads, reads + 1);
    let rest: Vec<_> = history.map_ok(|event| event.version.get()).try_collect().await.unwrap();
    assert_eq!(rest, (2..=2_500).collect::<Vec<_>>());
    assert_eq!(store.counts().reads, reads + 3);
    // Events recorded by another process are read too.
    let there = app(&store).handle(&Account::id("1"));
    there.send(In::Split(vec![1; 2_500])).await.unwrap();
    assert_eq!(account.state(|own| own.cents).await.unwrap(), 5_000);
}

/// Every event of a waiter's partition wakes it.
#[tokio::test(start_paused = true)]
async fn a_waiter_ignores_events_of_other_instances() {
    let store = FaultyEventStore::new(InMemoryEventStore::with_partitions(1));
    let (here, there) = (app(&store), app(&store));
    let busy = there.handle(&Account::id("busy"));
    busy.send(In::Deposit { cents: 1 }).await.unwrap();
    let waits = here.handle(&Account::id("waits"));
    let reads = store.counts().reads;
    let waiting = tokio::spawn(async move {
        let rich = |own: &Account| (own.cents > 0).then_some(());
        waits.wait(rich, Duration::from_secs(600)).await
    });
    for _ in 0..200 {
        busy.send(In::Deposit { cents: 1 }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let looks = store.counts().reads - reads;
    assert!(looks < 60, "{looks} reads in 200 ms");
    there.handle(&Account::id("waits")).send(In::Deposit { cents: 1 }).await.unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_log_is_read_by_type() {
    let store = InMemoryEventStore::with_partitions(40);
    let app = app(&store);
    let all: Vec<_> = (10..90).map(|id| Account::id(id.to_string())).collect();
    for id in &all {
        app.handle(id).send(In::Split(vec![1, 2])).await.unwrap();
    }

    let mut ids: Vec<_> = app.ids::<Account>().try_collect().await.unwrap();
    ids.sort();
    assert_eq!(ids, all);
    let beginnings = Position::start_positions(store.log().partitions);
    let events: Vec<_> = app.events::<Account>(beginnings).try_collect().await.unwrap();
    assert_eq!(events.len(), 160);
}

#[tokio::test]
async fn erased_events_are_skipped_and_closed_streams_reject() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    account.send(In::Split(vec![1, 2])).await.unwrap();
    let stream = account.id().stream();
    assert_eq!(account.erase().await.unwrap(), 2);
    account.send(In::Deposit { cents: 4 }).await.unwrap();

    // This process and a new one read only the remaining content.
    for account in [account.clone(), app(&store).handle(&Account::id("1"))] {
        assert_eq!(
            account.state_with_version(|own, v| (own.cents, v.get())).await.unwrap(),
            (4, 4)
        );
    }

    assert_eq!(store.events(&stream)[2].content, StoredContent::Erased, "tells of the others");
    let end = composable_rust_core::EventId(uuid::Uuid::from_u128(7));
    store.close_stream(&stream, Version::new(4), end).await.unwrap();
    for account in [account, app(&store).handle(&Account::id("1"))] {
        let refused = account.send(In::Deposit { cents: 1 }).await.unwrap_err();
        assert!(matches!(refused, SendError::Closed), "{refused:?}");
    }
    assert_eq!(store.events(&stream)[4].content, StoredContent::Closed);
}

#[tokio::test]
async fn poison_is_named_by_position_and_fixed_by_an_override() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    account.send(In::Split(vec![1, 2])).await.unwrap();
    let stream = account.id().stream();
    let StoredContent::Present(mut content) = store.events(&stream)[1].content.clone() else {
        panic!("the event exists")
    };
    let good = content.clone();
    content.bytes.clear();
    store.override_event(&stream, Version::new(2), &content).await.unwrap();

    let fresh = app(&store).handle(&Account::id("1"));
    let broken = fresh.state(|_| ()).await.unwrap_err();
    assert!(
        matches!(&broken, LoadError::Undecodable { version, .. } if *version == Version::new(2)),
        "{broken:?}"
    );
    let refused = fresh.send(In::Deposit { cents: 1 }).await.unwrap_err();
    assert!(matches!(refused, SendError::Load(LoadError::Undecodable { .. })), "{refused:?}");

    store.override_event(&stream, Version::new(2), &good).await.unwrap();
    assert_eq!(fresh.state(|own| own.cents).await.unwrap(), 3);

    let newer = composable_rust_core::codec::EncodedMessage { version: 9, ..good };
    store.override_event(&stream, Version::new(2), &newer).await.unwrap();
    let unknown = app(&store).handle(&Account::id("1")).state(|_| ()).await.unwrap_err();
    assert!(matches!(unknown, LoadError::NewerSchema { .. }), "{unknown:?}");
}

#[tokio::test]
async fn a_handle_by_name_can_do_everything() {
    let store = InMemoryEventStore::new();
    let app = app(&store);
    let stream = Account::id("1").stream();
    let content = r#"{ "cents": 5 }"#;

    app.registry().send(&stream, NamedCommand::new("account.deposit", content)).await.unwrap();

    let (state, version) = app.registry().state(&stream, None).await.unwrap();
    assert!(state.starts_with(r#"{"cents":5,"ended":false,"#), "{state}");
    assert_eq!(version.get(), 1);
    let event = app.registry().decode(&store.events(&stream)[0]).unwrap();
    assert!(event.unwrap().starts_with(r#"{"cents":5,"#));
    let wrong = app.registry().send(&stream, NamedCommand::new("account.deposit", "{}")).await;
    assert!(wrong.unwrap_err().to_string().contains("account.deposit"));
    let unknown = "cart-1".parse().unwrap();
    let unknown =
        app.registry().send(&unknown, NamedCommand::new("cart.add", content)).await.unwrap_err();
    assert_eq!(unknown.to_string(), "no aggregate is called `cart`; registered are: account");
}

/// A number beyond the range of `u64` and the precision of a float.
#[tokio::test]
async fn a_handle_by_name_keeps_numbers_exact() {
    let store = InMemoryEventStore::new();
    let app = app(&store);
    let stream = Account::id("1").stream();
    let content = r#"{"units":170141183460469231731687303715884105727}"#;
    app.registry().send(&stream, NamedCommand::new("account.count", content)).await.unwrap();
    let event = app.registry().decode(&store.events(&stream)[0]).unwrap();
    assert_eq!(event.as_deref(), Some(content));
    let (state, _) = app.registry().state(&stream, None).await.unwrap();
    assert!(state.contains(r#""units":170141183460469231731687303715884105727"#), "{state}");
}

#[tokio::test]
async fn an_erasure_in_another_process_clears_the_cache() {
    let store = InMemoryEventStore::new();
    let [eraser, looker, sender] = [0, 1, 2].map(|_| app(&store).handle(&Account::id("1")));
    eraser.send(In::Split(vec![1, 2])).await.unwrap();
    for account in [&looker, &sender] {
        assert_eq!(account.state(|own| own.cents).await.unwrap(), 3);
    }
    eraser.erase().await.unwrap();
    assert_eq!(looker.state(|own| own.cents).await.unwrap(), 0);
    // The decision is based on the remaining content.
    let refused = sender.send(In::Withdraw { cents: 3 }).await.unwrap_err();
    assert!(matches!(refused, SendError::Rejected(_)), "{refused:?}");
    sender.send(In::Deposit { cents: 4 }).await.unwrap();
    assert_eq!(sender.state_with_version(|own, v| (own.cents, v.get())).await.unwrap(), (4, 4));
}

#[tokio::test]
async fn a_follower_gets_stored_events_and_then_new_ones() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    account.send(In::Split(vec![1, 2, 3])).await.unwrap();
    let history: Vec<_> = account.history_after(Version::new(1)).try_collect().await.unwrap();
    let versions = |events: &[composable_rust_core::Recorded<_>]| {
        events.iter().map(|event| event.version.get()).collect::<Vec<_>>()
    };
    assert_eq!(versions(&history), [2, 3]);

    let mut follower = std::pin::pin!(account.follow(Version::new(2)));
    let third = follower.try_next().await.unwrap().unwrap();
    assert_eq!(third.version, Version::new(3));
    assert!(follower.next().now_or_never().is_none(), "the stream waits");
    // Events of other streams, and of other processes.
    app(&store).handle(&Account::id("2")).send(In::Deposit { cents: 9 }).await.unwrap();
    app(&store).handle(&Account::id("1")).send(In::Split(vec![4, 5])).await.unwrap();
    let mut new = Vec::new();
    for _ in 0..2 {
        new.push(follower.try_next().await.unwrap().unwrap());
    }
    assert_eq!(versions(&new), [4, 5]);
    assert!(matches!(new[1].event, Some(Out::Deposited { cents: 5, .. })));
}
