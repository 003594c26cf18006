//! Failing stores: unknown outcomes, deadlines, reads during a commit.

use std::future::IntoFuture as _;
use std::time::Duration;

use composable_rust_core::Version;
use composable_rust_core::prelude::*;
use composable_rust_core::store::EventStore as _;
use composable_rust_runtime::{App, Handle, SendError};
use composable_rust_testing::{
    Chances, Fault, FaultyEventStore, InMemoryEventStore, assert_states_match_log,
};
use tokio::task::JoinHandle;

use crate::account::{Account, AccountCommand as In, Process, app};
use crate::worker::node::NodeProcess;

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_resolved_by_the_same_append_again() {
    for fault in [Fault::FailBefore, Fault::FailAfter] {
        let memory = InMemoryEventStore::new();
        let store = FaultyEventStore::new(memory.clone());
        let account = app(&store).handle(&Account::id("1"));
        account.send(In::Deposit { cents: 1 }).await.unwrap();

        store.next_appends([fault, fault, fault]);
        let receipt = account.send(In::Split(vec![1, 2])).await.unwrap();

        assert_eq!(receipt.version, Version::new(3));
        let events = memory.events(&account.id().stream());
        assert_eq!((events.len(), receipt.position), (3, Some(events[2].position)));
        assert_eq!(account.cached(|own| own.cents).await.unwrap(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_keyed_retry_after_a_lost_response_gets_its_receipt() {
    let memory = InMemoryEventStore::new();
    let store = FaultyEventStore::new(memory.clone());
    let account = app(&store).handle(&Account::id("1"));

    store.next_appends([Fault::FailAfter; 100]);
    let lost = account.send(In::Deposit { cents: 5 }).key("a").within(Duration::from_secs(1)).await;
    assert!(matches!(lost, Err(SendError::DeadlinePassed)), "{lost:?}");

    store.recover();
    let receipt = account.send(In::Deposit { cents: 5 }).key("a").await.unwrap();
    assert_eq!(receipt.version, Version::new(1));
    assert_eq!(memory.all_events().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn callers_of_a_hanging_store_time_out_at_their_deadline() {
    let store = FaultyEventStore::new(InMemoryEventStore::new());
    let account = app(&store).handle(&Account::id("1"));
    account.send(In::Deposit { cents: 1 }).await.unwrap();

    store.next_appends([Fault::Delay(Duration::from_secs(3_600))]);
    let late = account.send(In::Deposit { cents: 2 }).within(Duration::from_secs(1)).await;
    assert!(matches!(late, Err(SendError::DeadlinePassed)), "{late:?}");
    // The hanging append may still commit; the next command is decided on the actual outcome.
    let receipt =
        account.send(In::Deposit { cents: 4 }).within(Duration::from_secs(7_200)).await.unwrap();
    let cents = account.state(|own| own.cents).await.unwrap();
    assert!([(2, 5), (3, 7)].contains(&(receipt.version.get(), cents)), "{receipt:?} {cents}");
}

/// An account of one cent, and a deposit of two more whose append takes another four seconds.
async fn delayed_deposit() -> (Handle<Account>, JoinHandle<()>) {
    let store = FaultyEventStore::new(InMemoryEventStore::new());
    let account = app(&store).handle(&Account::id("1"));
    account.send(In::Deposit { cents: 1 }).await.unwrap();

    store.next_appends([Fault::Delay(Duration::from_secs(5))]);
    let sending = tokio::spawn({
        let account = account.clone();
        async move { _ = account.send(In::Deposit { cents: 2 }).await.unwrap() }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    (account, sending)
}

#[tokio::test(start_paused = true)]
async fn uncommitted_state_is_never_seen() {
    let (account, sending) = delayed_deposit().await;
    assert_eq!(account.cached(|own| own.cents).await.unwrap(), 1);
    assert_eq!(account.state(|own| own.cents).await.unwrap(), 1);
    sending.await.unwrap();
    assert_eq!(account.cached(|own| own.cents).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_costs_a_retry_and_nothing_else() {
    let store = FaultyEventStore::new(InMemoryEventStore::new());
    let account = app(&store).handle(&Account::id("1"));
    store.next_appends([Fault::Conflict, Fault::Conflict]);
    let receipt = account.send(In::Deposit { cents: 1 }).await.unwrap();
    assert_eq!(receipt.version, Version::new(1));
}

#[tokio::test(start_paused = true)]
async fn failed_loads_are_retried_for_senders_not_for_readers() {
    let store = FaultyEventStore::new(InMemoryEventStore::new());
    let account = app(&store).handle(&Account::id("1"));
    store.next_reads([Fault::FailBefore, Fault::FailBefore]);
    account.send(In::Deposit { cents: 1 }).await.unwrap();
    store.next_reads([Fault::FailBefore]);
    let failed = account.state(|_| ()).await.unwrap_err();
    assert!(failed.is_transient(), "{failed:?}");
    assert_eq!(account.state(|own| own.cents).await.unwrap(), 1);
}

/// Clients time out early and retry in another process with the same keys; every process's state
/// must match the log, whatever it decided itself.
#[tokio::test(start_paused = true)]
async fn duplicates_under_faults_leave_every_state_correct() {
    for seed in 0..20 {
        let memory = InMemoryEventStore::new();
        let chances = Chances {
            fail_after: 0.3,
            delay: 0.5,
            longest_delay: Duration::from_millis(200),
            ..Chances::default()
        };
        let stores = [0, 1]
            .map(|n| FaultyEventStore::new(memory.clone()).with_chances(seed * 2 + n, chances));
        let apps = [app(&stores[0]), app(&stores[1])];
        let clients = (0..30_u32).map(|n| {
            let id = Account::id((n % 3).to_string());
            let accounts = [0, 1].map(|app: usize| apps[app].handle(&id));
            tokio::spawn(async move {
                for round in n as usize.. {
                    let send = accounts[round % 2].send(In::Deposit { cents: 1 });
                    let send = send.key(n.to_string()).by(format!("{n}, round {round}"));
                    if send.within(Duration::from_millis(50)).await.is_ok() {
                        return;
                    }
                }
            })
        });
        futures_util::future::try_join_all(clients).await.unwrap();
        assert_eq!(memory.all_events().len(), 30, "seed {seed}");
        for app in &apps {
            assert_states_match_log::<Account>(app, &memory).await;
        }
    }
}

/// Under random faults every accepted command is recorded exactly once, in two processes.
#[tokio::test(start_paused = true)]
async fn no_event_is_lost_or_duplicated_under_faults() {
    for seed in 0..20 {
        let memory = InMemoryEventStore::new();
        let chances =
            Chances { fail_before: 0.2, fail_after: 0.2, conflict: 0.1, ..Chances::default() };
        let stores = [0, 1]
            .map(|n| FaultyEventStore::new(memory.clone()).with_chances(seed * 2 + n, chances));
        let apps = [app(&stores[0]), app(&stores[1])];
        let sends = (0..60_u32).map(|n| {
            let account = apps[n as usize % 2].handle(&Account::id((n % 3).to_string()));
            tokio::spawn(async move {
                let cents = 1 << (n % 20);
                let send = account.send(In::Deposit { cents }).key(n.to_string());
                send.within(Duration::from_secs(3_600)).await.map(|receipt| (n, receipt))
            })
        });
        let mut places = Vec::new();
        for sent in futures_util::future::try_join_all(sends).await.unwrap() {
            let (n, receipt) = sent.unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
            places.push((n % 3, receipt.version));
        }
        places.sort();
        places.dedup();
        assert_eq!(places.len(), 60, "seed {seed}: two commands in one place");
        assert_eq!(memory.all_events().len(), 60, "seed {seed}");
        let heads = memory.heads().await.unwrap();
        assert_eq!(heads.iter().map(|head| head.offset).sum::<u64>(), 60, "seed {seed}");
        for app in &apps {
            assert_states_match_log::<Account>(app, &memory).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_concurrent_commit_does_not_undo_an_erasure() {
    let (account, sending) = delayed_deposit().await;
    account.erase().await.unwrap();
    sending.await.unwrap();
    assert_eq!(account.cached(|own| own.cents).await.unwrap(), 2);
    assert_eq!(account.state(|own| own.cents).await.unwrap(), 2);
}

/// An instance with a damaged page, or whose statement takes too long.
#[tokio::test(start_paused = true)]
async fn an_append_that_always_fails_holds_up_no_other() {
    let node = NodeProcess::start(InMemoryEventStore::with_partitions(1));
    let app = app(&node);
    let poison = app.handle(&Account::id("poison"));
    node.fail_appends_of(Some(poison.id().stream()));
    let poison = tokio::spawn(async move {
        poison.send(In::Deposit { cents: 1 }).within(Duration::from_secs(60)).await
    });
    for round in 0..3 {
        let sends = (0..50).map(|n| {
            let account = app.handle(&Account::id(n.to_string()));
            async move { account.send(In::Deposit { cents: 1 }).await }
        });
        let sent = futures_util::future::try_join_all(sends);
        let sent = tokio::time::timeout(Duration::from_secs(1), sent).await;
        sent.unwrap_or_else(|_| panic!("round {round} is held up")).unwrap();
    }
    assert!(!poison.is_finished());
    node.fail_appends_of(None);
    assert_eq!(poison.await.unwrap().unwrap().version.get(), 1);
}

#[tokio::test]
async fn a_drain_takes_no_more_messages_than_a_batch_has_bytes() {
    let store = FaultyEventStore::new(InMemoryEventStore::new());
    let app = App::builder(store.clone()).aggregate::<Account>(Process::new());
    let app = app.settings(|settings| settings.max_bytes_per_batch = 10_000).build().unwrap();
    let account = app.handle(&Account::id("1"));
    let sends = (0..40).map(|_| account.send(In::Large(5_000)).into_future());
    let sent = futures_util::future::try_join_all(sends).await.unwrap();
    let versions: Vec<_> = sent.iter().map(|receipt| receipt.version.get()).collect();
    assert_eq!(versions, (1..=40).collect::<Vec<_>>());
    assert_eq!(store.counts().appends, 20);
}
