//! Loading states from snapshots and the log.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use composable_rust_core::codec::{Codec, CodecError, Format};
use composable_rust_core::event::StoredEvent;
use composable_rust_core::prelude::*;
use composable_rust_core::store::{EventStore as _, Snapshot, StreamRow};
use composable_rust_core::{StreamId, Version};
use composable_rust_runtime::{App, LoadError};
use composable_rust_testing::InMemoryEventStore;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::account::{Account, AccountCommand as In, app};
use crate::worker::node::{Mishap, Node, NodeProcess};

fn event(row: &mut StreamRow) -> &mut StoredEvent {
    match row {
        StreamRow::Event(event) => event,
        StreamRow::Snapshot(_) => panic!("a snapshot"),
    }
}

/// A stream of three deposits of one cent, and a store with an empty cache.
async fn three_deposits() -> (InMemoryEventStore, Node<InMemoryEventStore>) {
    let store = InMemoryEventStore::new();
    app(&store).handle(&Account::id("1")).send(In::Split(vec![1; 3])).await.unwrap();
    let node = NodeProcess::start(store.clone());
    (store, node)
}

/// One load holds only its share of the pool: two loads that each wanted a second connection would
/// starve each other.
#[tokio::test]
async fn a_load_releases_its_rows_before_the_next_read() {
    let (store, node) = three_deposits().await;
    let first = App::builder(store.clone()).aggregate::<Account>(crate::account::Process::new());
    let first = first.settings(|settings| settings.snapshot_every = 1).build().unwrap();
    let account = first.handle(&Account::id("1"));
    account.send(In::Deposit { cents: 1 }).await.unwrap();
    assert!(first.shutdown(Duration::from_secs(60)).await);
    let (_, snapshot) = store.snapshots(&account.id().stream())[0].clone();
    node.next_load(move |mut rows| {
        rows[0] = StreamRow::Snapshot(Snapshot { bytes: vec![255; 3], ..snapshot });
        rows
    });
    let cents = app(&node).handle(&Account::id("1")).state(|own| own.cents).await.unwrap();
    assert_eq!((cents, node.counts()["load_events"], node.most_open()), (4, 1, 1));
}

#[tokio::test]
async fn a_stream_erased_during_a_load_is_read_again() {
    let (store, node) = three_deposits().await;
    let account = app(&node).handle(&Account::id("1"));
    store.erase_stream(&account.id().stream()).await.unwrap();
    // A store that reads in pages returns old content, then new content.
    let was = InMemoryEventStore::new();
    app(&was).handle(&Account::id("1")).send(In::Split(vec![1; 3])).await.unwrap();
    let was = was.all_events();
    node.next_load(move |mut rows| {
        event(&mut rows[0]).content = was[0].content.clone();
        rows
    });
    assert_eq!(account.state_with_version(|own, v| (own.cents, v.get())).await.unwrap(), (0, 4));
}

#[tokio::test]
async fn a_missing_event_is_named_in_the_error() {
    let (_, node) = three_deposits().await;
    let missing = |error: LoadError| match error {
        LoadError::Missing { version, .. } => version.get(),
        other => panic!("{other:?}"),
    };
    let account = app(&node).handle(&Account::id("1"));
    // An id from outside cannot add a line to the log.
    let forged = LoadError::Missing {
        stream: Account::id("1\nERROR all is lost").stream(),
        version: Version::new(1),
    };
    assert!(!forged.to_string().contains('\n'), "{forged}");
    for gap in [0, 1] {
        node.next_load(move |mut rows| {
            rows.remove(gap);
            rows
        });
        let error = account.state(|_| ()).await.unwrap_err();
        assert_eq!(missing(error), gap as u64 + 1, "cold");
    }

    account.state(|_| ()).await.unwrap();
    let there = app(node.inner()).handle(&Account::id("1"));
    there.send(In::Split(vec![1; 2])).await.unwrap();
    node.next_load(|mut rows| {
        rows.remove(0);
        rows
    });
    assert_eq!(missing(account.state(|_| ()).await.unwrap_err()), 4, "catching up");
    assert_eq!(account.state(|own| own.cents).await.unwrap(), 5, "the state is loaded again");
}

#[tokio::test]
async fn a_snapshot_above_the_log_is_deleted() {
    let (_, node) = three_deposits().await;
    let account = app(&node).handle(&Account::id("1"));
    // As after a failover that lost the end of the log.
    node.next_load(|mut rows| {
        let last = event(&mut rows[2]).clone();
        (4..=10).for_each(|version| {
            let version = Version::new(version);
            rows.push(StreamRow::Event(StoredEvent { version, ..last.clone() }));
        });
        rows
    });
    let receipt = account.send(In::Deposit { cents: 1 }).await.unwrap();
    assert_eq!(receipt.version.get(), 4);
    assert_eq!(node.counts().get("delete_snapshots"), Some(&1));
    assert_eq!(account.state(|own| own.cents).await.unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_cached_state_is_read_without_a_load() {
    let node = NodeProcess::start(InMemoryEventStore::new());
    let app = App::builder(node.clone()).aggregate::<Account>(crate::account::Process::new());
    let app = app.settings(|settings| settings.max_concurrent_loads = 1).build().unwrap();
    let [warm, cold] = ["1", "2"].map(|id| app.handle(&Account::id(id)));
    warm.state(|_| ()).await.unwrap();
    node.next("load_with_snapshot", [Mishap::Held]);
    let loading = tokio::spawn(async move { cold.state(|_| ()).await });
    while !node.holds() {
        tokio::task::yield_now().await;
    }
    assert_eq!(warm.send(In::Deposit { cents: 1 }).await.unwrap().version.get(), 1);
    node.release();
    loading.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_state_between_two_events_of_an_append_is_not_cached() {
    let node = NodeProcess::start(InMemoryEventStore::new());
    let account = app(&node).handle(&Account::id("1"));
    account.state(|_| ()).await.unwrap();
    node.next("append_events", [Mishap::Held]);
    let splitting = tokio::spawn({
        let account = account.clone();
        async move { account.send(In::Split(vec![1; 1_500])).await }
    });
    while !node.holds() {
        tokio::task::yield_now().await;
    }
    // One page is read, and the next is not.
    node.next("load_events", [Mishap::None, Mishap::FailsBefore]);
    account.state(|_| ()).await.unwrap_err();
    let page = account.cached(|own| own.cents).await.unwrap();
    assert!((1..1_500).contains(&page), "{page}");
    node.release();
    splitting.await.unwrap().unwrap();
    assert_eq!(account.cached(|own| own.cents).await.unwrap(), 1_500);
}

/// A door that is open or closed. A decision reports that it started, and waits.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Door {
    is_open: bool,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum DoorCommand {
    Open,
    Enter,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum DoorEvent {
    Opened,
    Entered,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum DoorError {
    Shut,
}

#[derive(Debug, Default)]
struct Gate(Option<(mpsc::UnboundedSender<()>, Mutex<std::sync::mpsc::Receiver<()>>)>);

impl Aggregate for Door {
    const NAME: &'static str = "door";
    type Command = DoorCommand;
    type Event = DoorEvent;
    type Rejection = DoorError;
    type Environment = Gate;

    fn decide(&self, command: DoorCommand, ctx: &Context<Self>) -> Decision<Self> {
        if let Gate(Some((deciding, go_on))) = ctx.env() {
            let _ = deciding.send(());
            let _ = go_on.lock().unwrap().recv();
        }
        match command {
            DoorCommand::Open => record(DoorEvent::Opened),
            DoorCommand::Enter if self.is_open => record(DoorEvent::Entered),
            DoorCommand::Enter => reject(DoorError::Shut),
        }
    }

    fn apply(&mut self, event: DoorEvent) {
        self.is_open |= event == DoorEvent::Opened;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_concurrent_read_does_not_confirm_a_rejection() {
    let store = InMemoryEventStore::new();
    let with = |gate| App::builder(store.clone()).aggregate::<Door>(gate).build().unwrap();
    let (deciding, mut decides) = mpsc::unbounded_channel();
    let (go_on, goes_on) = std::sync::mpsc::channel();
    let here = with(Gate(Some((deciding, Mutex::new(goes_on))))).handle(&Door::id("1"));
    let there = with(Gate(None)).handle(&Door::id("1"));
    here.state(|_| ()).await.unwrap();
    there.send(DoorCommand::Open).await.unwrap();

    let entering = tokio::spawn({
        let here = here.clone();
        async move { here.send(DoorCommand::Enter).await }
    });
    decides.recv().await.unwrap();
    assert!(here.state(|door| door.is_open).await.unwrap());
    drop(go_on);
    assert_eq!(entering.await.unwrap().unwrap().version.get(), 2);
}

/// Serde omits `few` where it is zero; bincode then decodes the list as `few`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Skipping {
    #[serde(default, skip_serializing_if = "is_zero")]
    few: u8,
    list: Vec<u8>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(few: &u8) -> bool {
    *few == 0
}

#[derive(Debug, Clone, PartialEq, Message)]
enum ListCommand {
    Push(u8),
}

#[derive(Debug, Clone, PartialEq, Message)]
enum ListEvent {
    Pushed(u8),
}

#[derive(Debug, Clone, PartialEq, Message)]
enum ListError {}

impl Aggregate for Skipping {
    const NAME: &'static str = "skipping";
    type Command = ListCommand;
    type Event = ListEvent;
    type Rejection = ListError;
    type Environment = ();

    fn decide(&self, command: ListCommand, _: &Context<Self>) -> Decision<Self> {
        let ListCommand::Push(item) = command;
        record(ListEvent::Pushed(item))
    }

    fn apply(&mut self, event: ListEvent) {
        let ListEvent::Pushed(item) = event;
        self.list.push(item);
    }
}

#[tokio::test]
async fn a_snapshot_that_decodes_differently_is_not_saved() {
    let store = InMemoryEventStore::new();
    let app = || {
        let app = App::builder(store.clone()).aggregate::<Skipping>(());
        app.settings(|settings| settings.snapshot_every = 1).build().unwrap()
    };
    let first = app();
    let list = first.handle(&Skipping::id("1"));
    for item in [1, 9] {
        list.send(ListCommand::Push(item)).await.unwrap();
    }
    assert!(first.shutdown(Duration::from_secs(60)).await);
    let fresh = app().handle(&Skipping::id("1"));
    assert_eq!(fresh.state(|own| own.list.clone()).await.unwrap(), [1, 9]);
    assert_eq!(store.snapshots(&list.id().stream()), []);
}

/// Counts the attempts to encode a snapshot.
#[derive(Default, Clone)]
struct Counting(Arc<AtomicUsize>);

impl Codec for Counting {
    fn name(&self) -> Cow<'static, str> {
        "counting".into()
    }

    fn format(&self) -> Format {
        Format::Binary
    }

    fn seal(&self, _: &StreamId, name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, CodecError> {
        self.0.fetch_add(usize::from(name == "$snapshot"), Ordering::Relaxed);
        Ok(bytes)
    }
}

#[tokio::test]
async fn an_unserializable_state_is_snapshotted_ever_more_rarely() {
    let tried = Counting::default();
    let app = App::builder(InMemoryEventStore::new()).aggregate::<Skipping>(());
    let app = app.codec(tried.clone()).settings(|settings| settings.snapshot_every = 1);
    let app = app.build().unwrap();
    let list = app.handle(&Skipping::id("1"));
    for _ in 0..64 {
        list.send(ListCommand::Push(9)).await.unwrap();
        // The attempt is made in parallel with the next command.
        tokio::task::yield_now().await;
    }
    let tried = tried.0.load(Ordering::Relaxed);
    assert!((4..=7).contains(&tried), "{tried} tries in 64 events");
}
