//! The trail of the operators, as those may find it who are on it.

use std::sync::atomic::{AtomicUsize, Ordering};

use composable_rust_admin::{Admin, AdminError, Operator, Replacement};
use composable_rust_core::prelude::*;
use composable_rust_core::store::EventStore;
use composable_rust_core::{StreamId, Version};
use composable_rust_runtime::App;
use composable_rust_testing::{InMemoryEventStore, Intercept, Intercepted, StoreCall, StreamRows};
use serde::{Deserialize, Serialize};

/// A store that a page does not load without end.
#[derive(Default)]
struct FewLoads(AtomicUsize);

impl<S: EventStore> Intercept<S> for FewLoads {
    fn load<'a>(&'a self, _: StoreCall, rows: StreamRows<'a>) -> StreamRows<'a> {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) < 100, "loads without end");
        rows
    }
}

/// Returns the operations on a store in which an operator has paused the log three times.
async fn paused() -> (Admin, StreamId) {
    let store = Intercepted::layered(InMemoryEventStore::new(), FewLoads::default());
    let admin = Admin::of_store(store, Operator::named("ann")).unwrap();
    for _ in 0..3 {
        admin.pause_log().await.unwrap();
    }
    let query = composable_rust_admin::StreamQuery { limit: 1, ..Default::default() };
    let stream = admin.streams(&query).await.unwrap().entries.remove(0).stream;
    (admin, stream)
}

#[tokio::test]
async fn the_trail_is_neither_erased_nor_overridden() {
    let (admin, stream) = paused().await;
    let erased = admin.erase(&stream).await;
    assert!(matches!(erased, Err(AdminError::OperatorsStream(_))), "{erased:?}");
    let replacement = Replacement {
        stream,
        version: Version::new(1),
        json: "{}".to_owned(),
        name: None,
        schema_version: None,
        is_unchecked: true,
    };
    let overridden = admin.override_event(&replacement).await;
    assert!(matches!(overridden, Err(AdminError::OperatorsStream(_))), "{overridden:?}");
    assert!(admin.audit(None, 10).await.unwrap().entries.iter().all(|of| of.operator == "ann"));
}

/// Also from a cursor that no page has returned.
#[tokio::test]
async fn a_page_of_the_trail_begins_at_its_end_at_the_latest() {
    let (admin, stream) = paused().await;
    let cursor = format!("{stream}@{}", u64::MAX).parse().unwrap();
    let page = admin.audit(Some(cursor), 10).await.unwrap();
    assert_eq!(page, admin.audit(None, 10).await.unwrap());
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Operators;

#[derive(Debug, Clone, PartialEq, Message)]
enum Note {
    Noted,
}

impl Aggregate for Operators {
    const NAME: &'static str = "operators";
    type Command = Note;
    type Event = Note;
    type Rejection = std::convert::Infallible;
    type Environment = ();

    fn decide(&self, note: Note, _: &Context<Self>) -> Decision<Self> {
        record(note)
    }

    fn apply(&mut self, Note::Noted: Note) {}
}

#[test]
fn no_aggregate_shares_the_streams_of_the_trail() {
    let built = App::builder(InMemoryEventStore::new()).aggregate::<Operators>(()).build();
    let problems = built.unwrap_err().problems().to_vec();
    assert!(problems[0].ends_with("as are the streams that record what operators change"));
}
