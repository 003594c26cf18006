//! Events that only newer code can decode.

use std::collections::BTreeMap;
use std::time::Duration;

use composable_rust_core::event::StoredContent;
use composable_rust_core::prelude::*;
use composable_rust_core::projection::ProjectionState;
use composable_rust_core::store::EventStore;
use composable_rust_runtime::App;

use crate::account::{Account, AccountCommand as In};

use super::{
    AddUp, Model, assert_exact, clock, deposit, failure, handle, pass, process, settle, state,
    store,
};

/// The code of an earlier release, with fewer events.
mod earlier {
    use composable_rust_core::prelude::*;
    use composable_rust_core::{Projection, ProjectionError, Recorded};

    use crate::account::Seen;
    use crate::projections::Totals;

    #[derive(Debug, Clone, PartialEq, Message)]
    pub(super) enum AccountEvent {
        Deposited { cents: i64, seen: Seen },
    }

    pub(super) enum Account {}

    impl Target for Account {
        const NAME: &'static str = "account";
        type Command = std::convert::Infallible;
        type Event = AccountEvent;
        type Rejection = std::convert::Infallible;
    }

    pub(super) struct AddUp;

    impl Projection for AddUp {
        const NAME: &'static str = "totals";
        type Events = Account;
        type Connection = Totals;

        async fn project(
            &self,
            recorded: &Recorded<AccountEvent>,
            totals: &mut Totals,
        ) -> Result<(), ProjectionError> {
            let AccountEvent::Deposited { cents, .. } = recorded.event;
            let id = recorded.stream.id().to_owned();
            *totals.cents.entry(id).or_default() += cents;
            totals.seen.push((recorded.stream.clone(), recorded.version.get()));
            Ok(())
        }

        async fn clear(&self, totals: &mut Totals) -> Result<(), ProjectionError> {
            *totals = Totals::default();
            Ok(())
        }
    }
}

#[tokio::test(start_paused = true)]
async fn events_of_newer_code_are_left_to_newer_code() {
    let (store, model) = (store(), Model::default());
    let old = App::builder(store.clone())
        .clock(clock())
        .projection(earlier::AddUp, model.clone())
        .build()
        .unwrap();
    old.start();
    let writer = crate::account::app(&store);
    deposit(&writer, "1", 1).await;
    pass(5).await;
    assert_eq!(model.get().cents["1"], 1);
    writer.handle(&Account::id("1")).send(In::Withdraw { cents: 1 }).await.unwrap();
    deposit(&writer, "1", 2).await;
    pass(120).await;
    assert_eq!(model.get().cents["1"], 1, "the projection stops before the unknown event");
    let state = old.projection::<earlier::AddUp>().status().await.unwrap().state;
    assert_eq!(state, waiting());
    let last = store.heads().await.unwrap().into_iter().max_by_key(|head| head.offset).unwrap();
    let waited = handle(&old).wait_for(last, Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(waited.to_string(), format!("the projection is not running: {:?}", waiting()));
    let new = process(&store, &AddUp::default(), &model);
    settle(&new).await;
    assert_exact(&store, &model);
    assert_eq!(handle(&new).status().await.unwrap().state, ProjectionState::Running);
    drop(old);
}

fn waiting() -> ProjectionState {
    ProjectionState::WaitingForNewerCode { name: "account.withdrawn".to_owned() }
}

/// A rebuild is still one when newer code has come.
#[tokio::test(start_paused = true)]
async fn a_rebuild_waits_for_newer_code_too() {
    let (store, model) = (store(), Model::default());
    let writer = crate::account::app(&store);
    deposit(&writer, "1", 1).await;
    writer.handle(&Account::id("1")).send(In::Withdraw { cents: 1 }).await.unwrap();
    let old = App::builder(store.clone())
        .clock(clock())
        .projection(earlier::AddUp, model.clone())
        .build()
        .unwrap();
    old.projection::<earlier::AddUp>().rebuild().await.unwrap();
    old.start();
    pass(5).await;
    assert_eq!(state(&old).await, waiting());
    handle(&old).pause().await.unwrap();
    handle(&old).resume().await.unwrap();
    assert_eq!(state(&old).await, ProjectionState::Rebuilding);
    pass(5).await;
    assert_eq!(state(&old).await, waiting());
    drop(old);
    let new = process(&store, &AddUp::default(), &model);
    pass(60).await;
    assert_eq!(state(&new).await, ProjectionState::Running);
    assert_exact(&store, &model);
}

/// Code without a variant stops only at an event of that variant, and fails when no newer process
/// comes.
#[tokio::test(start_paused = true)]
async fn an_event_that_no_process_knows_fails_the_projection() {
    let (store, model) = (store(), Model::default());
    let old = App::builder(store.clone())
        .clock(clock())
        .settings(|settings| settings.unknown_message_grace = Duration::from_secs(60))
        .projection(earlier::AddUp, model.clone())
        .build()
        .unwrap();
    old.start();
    let writer = crate::account::app(&store);
    deposit(&writer, "1", 1).await;
    let account = writer.handle(&Account::id("1"));
    let withdrawn = account.send(In::Withdraw { cents: 1 }).await.unwrap();
    let (version, at) = (withdrawn.version, withdrawn.position.unwrap());
    deposit(&writer, "1", 2).await;
    let other = (2..100)
        .map(|n| n.to_string())
        .find(|id| store.log().partition_of(&Account::id(id).stream()) != at.partition);
    let other = other.unwrap();
    pass(5).await;
    for cents in 1..=3 {
        let position = deposit(&writer, &other, cents).await;
        handle(&old).wait_for(position, Duration::from_secs(5)).await.unwrap();
    }
    assert_eq!(model.get().cents, BTreeMap::from([("1".into(), 1), (other, 6)]));
    assert_eq!(state(&old).await, waiting());
    let unknown = old.unknown_messages();
    let shown = |of: &composable_rust_runtime::operations::UnknownMessage| {
        (of.what.clone(), of.worker.clone(), of.waiting, of.example.clone(), of.is_overdue)
    };
    let worker = "project/totals".to_owned();
    let expected = ("`account.withdrawn`".to_owned(), worker, 1, at.to_string(), false);
    assert_eq!(unknown.iter().map(shown).collect::<Vec<_>>(), [expected]);

    let reason = failure(&old).await;
    assert!(reason.contains("no running code knows `account.withdrawn`"), "{reason}");
    assert!(reason.contains(&at.to_string()), "{reason}");
    assert!(old.unknown_messages()[0].is_overdue);
    // It is resumed in vain, and fails at once.
    handle(&old).resume().await.unwrap();
    pass(5).await;
    assert!(matches!(state(&old).await, ProjectionState::Failed { .. }));

    let stream = Account::id("1").stream();
    let first = store.all_events().into_iter().find(|event| event.stream == stream).unwrap();
    let StoredContent::Present(deposit) = first.content else { panic!("the event has content") };
    store.override_event(&stream, version, &deposit).await.unwrap();
    handle(&old).resume().await.unwrap();
    settle(&old).await;
    assert_eq!(model.get().cents["1"], 4);
    assert_eq!(old.unknown_messages(), []);
}
