//! Several processes writing to one stream.

use std::time::Duration;

use composable_rust_core::prelude::*;
use composable_rust_runtime::WaitError;
use composable_rust_testing::{InMemoryEventStore, assert_states_match_log};

use crate::account::{Account, AccountCommand as In, app};

#[tokio::test]
async fn a_conflict_is_decided_again_and_reaches_no_caller() {
    let store = InMemoryEventStore::new();
    let apps = [app(&store), app(&store), app(&store)];
    let sends = (0..300).map(|n: usize| {
        let account = apps[n % 3].handle(&Account::id("1"));
        tokio::spawn(async move { account.send(In::Deposit { cents: 1 }).await.map(|r| r.version) })
    });
    let mut versions: Vec<_> = futures_util::future::try_join_all(sends)
        .await
        .unwrap()
        .into_iter()
        .map(|version| version.unwrap().get())
        .collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=300).collect::<Vec<_>>());
    for app in &apps {
        assert_states_match_log::<Account>(app, &store).await;
    }
}

#[tokio::test]
async fn no_command_is_rejected_on_a_state_older_than_itself() {
    let store = InMemoryEventStore::new();
    let here = app(&store).handle(&Account::id("1"));
    let there = app(&store).handle(&Account::id("1"));
    // Both have the state in memory.
    here.state(|_| ()).await.unwrap();
    there.state(|_| ()).await.unwrap();
    for _ in 0..20 {
        here.send(In::Deposit { cents: 5 }).await.unwrap();
        there.send(In::Withdraw { cents: 5 }).await.unwrap();
    }
    assert_eq!(there.cached(|own| own.cents).await.unwrap(), 0);
    assert_eq!(here.state(|own| own.cents).await.unwrap(), 0);
}

#[tokio::test]
async fn wait_sees_commits_of_another_process() {
    let store = InMemoryEventStore::new();
    let here = app(&store).handle(&Account::id("1"));
    let there = app(&store).handle(&Account::id("1"));
    let waiting = tokio::spawn(async move {
        here.wait(|own| (own.cents > 5).then_some(own.cents), Duration::from_secs(60)).await
    });
    tokio::task::yield_now().await;
    there.send(In::Deposit { cents: 5 }).await.unwrap();
    there.send(In::Deposit { cents: 5 }).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), 10);
}

#[tokio::test(start_paused = true)]
async fn wait_times_out_at_its_deadline() {
    let account = app(&InMemoryEventStore::new()).handle(&Account::id("1"));
    let waited = account.wait(|own| (own.cents > 5).then_some(()), Duration::from_secs(5)).await;
    assert!(matches!(waited, Err(WaitError::DeadlinePassed)), "{waited:?}");
}
