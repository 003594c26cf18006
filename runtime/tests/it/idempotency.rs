//! Idempotency keys.

use composable_rust_core::Version;
use composable_rust_core::prelude::*;
use composable_rust_core::store::EventStore as _;
use composable_rust_runtime::{App, Handle, SendError};
use composable_rust_testing::{InMemoryEventStore, assert_states_match_log};

use crate::account::{Account, AccountCommand as In, AccountError, Process, app};
use crate::till::{NewTill, NewTillCommand, NewTillError, OldTill, OldTillCommand};

#[tokio::test]
async fn a_repeated_key_returns_the_first_outcome() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    account.send(In::Deposit { cents: 1 }).await.unwrap();
    let first = account.send(In::Split(vec![1, 2])).key("a").await.unwrap();
    account.send(In::Deposit { cents: 1 }).await.unwrap();

    let again = account.send(In::Split(vec![1, 2])).key("a").await.unwrap();
    let elsewhere = app(&store).handle(&Account::id("1"));
    let third = elsewhere.send(In::Split(vec![1, 2])).key("a").await.unwrap();

    assert_eq!((first, first), (again, third));
    assert_eq!(account.state(|own| own.cents).await.unwrap(), 5);
}

#[tokio::test]
async fn a_repeated_key_returns_the_first_rejection() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    for deposit in [5, 100] {
        let refused = account.send(In::Withdraw { cents: 5 }).key("a").await.unwrap_err();
        assert_eq!(refused.rejection(), Some(&AccountError::Overdrawn { missing: 5 }));
        account.send(In::Deposit { cents: deposit }).await.unwrap();
    }
}

#[tokio::test]
async fn a_repeated_key_with_another_command_is_rejected() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    account.send(In::Deposit { cents: 5 }).key("a").await.unwrap();
    let reused = account.send(In::Deposit { cents: 6 }).key("a").await.unwrap_err();
    assert!(matches!(reused, SendError::KeyReused), "{reused:?}");
    // Keys are scoped to the instance.
    let other = app(&store).handle(&Account::id("2"));
    other.send(In::Deposit { cents: 6 }).key("a").await.unwrap();
}

#[tokio::test]
async fn duplicates_within_one_drain_are_decided_once() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    let (one, two, reused, other) = tokio::join!(
        account.send(In::Deposit { cents: 5 }).key("a"),
        account.send(In::Deposit { cents: 5 }).key("a"),
        account.send(In::Deposit { cents: 6 }).key("a"),
        account.send(In::Deposit { cents: 1 }),
    );
    assert_eq!(one.unwrap(), two.unwrap());
    assert!(matches!(reused, Err(SendError::KeyReused)), "{reused:?}");
    other.unwrap();
    assert_eq!(account.state(|own| own.cents).await.unwrap(), 6);
}

#[tokio::test]
async fn a_duplicate_in_a_drain_leaves_the_others_undecided() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    let first = account.send(In::Deposit { cents: 5 }).key("a").await.unwrap();
    let (before, again, after) = tokio::join!(
        account.send(In::Deposit { cents: 1 }),
        account.send(In::Deposit { cents: 5 }).key("a"),
        account.send(In::Deposit { cents: 1 }),
    );
    assert_eq!(again.unwrap(), first);
    assert_eq!((before.unwrap().version.get(), after.unwrap().version.get()), (2, 3));
    assert_eq!(account.state(|own| own.cents).await.unwrap(), 7);
}

#[tokio::test]
async fn the_key_is_checked_before_the_expected_version() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    let send = || account.send(In::Deposit { cents: 5 }).key("a").expecting(Version::ZERO);
    let first = send().await.unwrap();
    assert_eq!(send().await.unwrap(), first);

    let late = || account.send(In::Deposit { cents: 5 }).key("b").expecting(Version::ZERO);
    for _ in 0..2 {
        let refused = late().await.unwrap_err();
        assert!(matches!(refused, SendError::UnexpectedVersion { .. }), "{refused:?}");
    }
    let reused = account.send(In::Deposit { cents: 5 }).key("b").expecting(Version::new(1)).await;
    assert!(matches!(reused, Err(SendError::KeyReused)), "{reused:?}");
}

#[tokio::test]
async fn a_closed_stream_still_answers_earlier_keys() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    let first = account.send(In::Deposit { cents: 5 }).key("a").await.unwrap();
    let refused = account.send(In::Withdraw { cents: 9 }).key("b").await.unwrap_err();
    let end = composable_rust_core::EventId(uuid::Uuid::from_u128(7));
    store.close_stream(&account.id().stream(), Version::new(1), end).await.unwrap();

    for account in [account.clone(), app(&store).handle(&Account::id("1"))] {
        assert_eq!(account.send(In::Deposit { cents: 5 }).key("a").await.unwrap(), first);
        let again = account.send(In::Withdraw { cents: 9 }).key("b").await.unwrap_err();
        assert_eq!(again.rejection(), refused.rejection());
        let closed = account.send(In::Deposit { cents: 5 }).key("c").await;
        assert!(matches!(closed, Err(SendError::Closed)), "{closed:?}");
    }
}

#[tokio::test]
async fn an_erased_outcome_is_reported_as_erased() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    let first = account.send(In::Deposit { cents: 5 }).key("a").await.unwrap();
    account.send(In::Withdraw { cents: 9 }).key("b").await.unwrap_err();
    account.erase().await.unwrap();
    assert_eq!(account.send(In::Deposit { cents: 5 }).key("a").await.unwrap(), first);
    let erased = account.send(In::Withdraw { cents: 9 }).key("b").await;
    assert!(matches!(erased, Err(SendError::Erased)), "{erased:?}");
}

/// Each process has its own time and environment.
#[tokio::test]
async fn a_duplicate_in_another_process_leaves_the_state_correct() {
    let store = InMemoryEventStore::new();
    let apps = [app(&store), app(&store)];
    let [here, there] = [&apps[0], &apps[1]].map(|app| app.handle(&Account::id("1")));
    // The state is in memory, from before the first event.
    there.state(|_| ()).await.unwrap();
    let first = here.send(In::Deposit { cents: 1 }).key("k").by("first").await.unwrap();
    let again = there.send(In::Deposit { cents: 1 }).key("k").by("again").await.unwrap();

    assert_eq!(first, again);
    let recorded = here.state(|own| own.seen.clone()).await.unwrap();
    assert_eq!(there.state(|own| own.seen.clone()).await.unwrap(), recorded);
    for app in &apps {
        assert_states_match_log::<Account>(app, &store).await;
    }
    assert_eq!(store.all_events().len(), 1);
}

/// One process has an old state in memory, and another has moved it on since. Both decide `keyed`
/// with one key, with the same outcome.
async fn behind(store: &InMemoryEventStore, keyed: In) -> (Handle<Account>, Handle<Account>) {
    let [here, there] = [app(store), app(store)].map(|app| app.handle(&Account::id("1")));
    there.state(|_| ()).await.unwrap();
    let _ = here.send(keyed).key("k").await;
    (here, there)
}

#[tokio::test]
async fn an_old_duplicate_rejects_no_other_on_its_old_state() {
    // One decision with an event, and one that stores only an inbox entry.
    for (keyed, rest) in [(In::Count { units: 1 }, 1), (In::Withdraw { cents: 9 }, 0)] {
        let store = InMemoryEventStore::new();
        let (here, there) = behind(&store, keyed.clone()).await;
        here.send(In::Deposit { cents: 5 }).await.unwrap();
        let (again, beside, same) = tokio::join!(
            there.send(keyed.clone()).key("k"),
            there.send(In::Withdraw { cents: 5 }),
            there.send(keyed.clone()).key("k"),
        );
        assert_eq!(beside.unwrap().version.get(), rest + 2, "{keyed:?}");
        let told = |answer: Result<_, SendError<_>>| answer.map_err(|e| e.rejection().cloned());
        let first = told(here.send(keyed.clone()).key("k").await);
        assert_eq!([told(again), told(same)], [first.clone(), first], "{keyed:?}");
        assert_eq!(there.state(|own| own.cents).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn an_old_duplicate_rejects_no_later_command_on_its_state() {
    let store = InMemoryEventStore::new();
    let there = App::builder(store.clone()).aggregate::<Account>(Process::new());
    let there = there.settings(|settings| settings.max_commands_per_append = 1).build().unwrap();
    let there = there.handle(&Account::id("1"));
    there.state(|_| ()).await.unwrap();
    let here = app(&store).handle(&Account::id("1"));
    here.send(In::Count { units: 1 }).key("k").await.unwrap();
    here.send(In::Deposit { cents: 5 }).await.unwrap();
    let (again, behind) = tokio::join!(
        there.send(In::Count { units: 1 }).key("k"),
        there.send(In::Withdraw { cents: 5 }),
    );
    assert_eq!((again.unwrap().version.get(), behind.unwrap().version.get()), (1, 3));
}

#[tokio::test]
async fn a_key_from_before_an_erasure_restores_nothing() {
    let store = InMemoryEventStore::new();
    let keep = || In::Keep("a secret".to_owned());
    let (here, there) = behind(&store, keep()).await;
    here.erase().await.unwrap();
    assert_eq!(there.send(keep()).key("k").await.unwrap().version.get(), 1);
    assert_eq!(there.cached(|own| own.note.clone()).await.unwrap(), "");
}

/// Two releases of a till on one store.
fn releases() -> (App, App) {
    let store = InMemoryEventStore::new();
    let older = App::builder(store.clone()).aggregate::<OldTill>(()).build().unwrap();
    (older, App::builder(store).aggregate::<NewTill>(()).build().unwrap())
}

/// Either release may make the first attempt, and the other the next.
#[tokio::test]
async fn a_key_survives_a_new_version_of_its_command() {
    let (older, newer) = releases();
    let (older, newer) = (older.handle(&OldTill::id("1")), newer.handle(&NewTill::id("1")));
    let old = |cents| OldTillCommand::Add { cents };
    let new = |cents| NewTillCommand::Add { cents, note: "by hand".to_owned() };

    let first = older.send(old(5)).key("a").await.unwrap();
    assert_eq!(newer.send(new(5)).key("a").await.unwrap(), first);
    let first = newer.send(new(5)).key("b").await.unwrap();
    assert_eq!(older.send(old(5)).key("b").await.unwrap(), first);

    let reused = newer.send(new(6)).key("b").await.unwrap_err();
    assert!(matches!(reused, SendError::KeyReused), "{reused:?}");
    let other = older.send(old(5)).key("a").expecting(Version::new(2)).await.unwrap_err();
    assert!(matches!(other, SendError::KeyReused), "{other:?}");
}

#[tokio::test]
async fn a_rejection_of_newer_code_is_reported_as_such() {
    let (older, newer) = releases();
    let (older, newer) = (older.handle(&OldTill::id("1")), newer.handle(&NewTill::id("1")));
    let much = NewTillCommand::Add { cents: 2_000, note: String::new() };
    let refused = newer.send(much).key("a").await.unwrap_err();
    assert_eq!(refused.rejection(), Some(&NewTillError::TooMuch));
    let unknown = older.send(OldTillCommand::Add { cents: 2_000 }).key("a").await.unwrap_err();
    assert!(matches!(unknown, SendError::UnreadableOutcome { newer: true, .. }), "{unknown:?}");
    assert_eq!(unknown.code(), "unreadable_outcome");
}

#[tokio::test]
async fn a_send_in_progress_is_told_where_the_sender_asks() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    let other = app(&store).handle(&Account::id("2"));
    let deposit = || In::Deposit { cents: 5 };
    let (first, second, third, fourth, elsewhere) = tokio::join!(
        account.send(deposit()).key("a").unless_in_progress(),
        account.send(deposit()).key("a").unless_in_progress(),
        account.send(deposit()).key("b").unless_in_progress(),
        // Without asking, it waits for the first.
        account.send(deposit()).key("a"),
        other.send(deposit()).key("a").unless_in_progress(),
    );
    let first = first.unwrap();
    assert!(matches!(second, Err(SendError::InProgress)), "{second:?}");
    assert_eq!(second.unwrap_err().code(), "in_progress");
    third.unwrap();
    elsewhere.unwrap();
    assert_eq!(fourth.unwrap(), first);
    // It ends with the send, also when the command is rejected.
    for _ in 0..2 {
        let again = account.send(deposit()).key("a").unless_in_progress().await;
        assert_eq!(again.unwrap(), first);
        let refused = account.send(In::Withdraw { cents: 100 }).key("c").unless_in_progress();
        assert!(matches!(refused.await, Err(SendError::Rejected(_))));
    }
}
