//! Drills: something breaks, and an operator finds it, sees why, repairs it, and finds the repair
//! in the audit, by links and buttons alone.

use std::panic::Location;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use composable_rust_admin::{Admin, DeadLetterFilter, Operator};
use composable_rust_console::Payloads;
use composable_rust_core::codec::Codecs;
use composable_rust_core::event::NewEvent;
use composable_rust_core::store::{Append, EventStore as _, ExpectedVersion};
use composable_rust_core::{EventId, Metadata, TargetExt as _, Version};
use composable_rust_runtime::App;
use composable_rust_testing::fixtures::metadata;
use composable_rust_testing::{InMemoryEventBus, InMemoryEventStore, TokioClock};
use uuid::Uuid;

use crate::operator::Visitor;
use crate::workshop::{Faults, Order, OrderCommand, OrderEvent, Parcel, orders, parcels, workshop};
use crate::world::{console, nested};

fn router_of(app: &App) -> Router {
    let admin = Admin::new(app, Operator::named("console"));
    nested(console(&admin).allow_changes().payloads(Payloads::Shown))
}

async fn place(app: &App, id: &str, cents: u64, kilos: u32) {
    app.handle(&Order::id(id)).send(OrderCommand::Place { cents, kilos }).await.unwrap();
}

/// Appends an event as an older build did.
async fn append(app: &App, id: &str, after: u64, event: &OrderEvent) {
    let stream = Order::id(id).stream();
    let content = Codecs::default().encode(&stream, event).unwrap();
    let metadata = Metadata { user: Some("zoe".to_owned()), ..metadata() };
    let metadata = serde_json::to_string(&metadata).unwrap();
    let partition = app.log().partition_of(&stream);
    let event = NewEvent { id: EventId(Uuid::new_v4()), content, metadata };
    let append = Append::new(stream, ExpectedVersion::Exact(Version::new(after)));
    app.store().append_events(partition, &[append.with_events(vec![event])]).await.unwrap();
}

async fn status(app: &App, id: &str) -> Option<String> {
    app.handle(&Order::id(id)).state(|order| order.status.clone()).await.ok()
}

#[track_caller]
fn until(mut is_so: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let from = Location::caller();
    async move {
        for _ in 0..2_000 {
            if is_so().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("what {from} waits for does not happen");
    }
}

#[tokio::test(start_paused = true)]
async fn a_saga_stuck_by_an_event_that_cannot_be_applied() {
    let faults = Faults::default();
    let (app, _) = workshop(&faults);
    let admin = Admin::new(&app, Operator::named("test"));
    admin.pause_gateway("bank").await.unwrap();
    place(&app, "7", 500, 3).await;
    append(&app, "7", 1, &OrderEvent::Noted { note: "x".repeat(200) }).await;
    admin.resume_gateway("bank").await.unwrap();
    until(async || !app.stuck_instances().is_empty()).await;

    let mut ann = Visitor::start(&router_of(&app)).await;
    ann.sees("cannot be loaded");
    ann.follows("order-7").await;
    ann.sees("a note of 200 bytes");
    ann.follows("The event at fault").await;
    ann.sees("There is no state");
    ann.follows("Replace its content…").await;
    ann.presses("Rehearse", &[("json", r#"{"note":"short"}"#)]).await;
    ann.sees("Replace the content of event 2 of order-7?");
    ann.sees("short");
    ann.presses("Replace", &[("reason", "ticket 17")]).await;
    ann.sees("Event 2 is replaced.");
    until(async || status(&app, "7").await.as_deref() == Some("paid")).await;
    ann.waits_for("paid").await;
    assert_eq!(ann.clicks, 5);
    ann.follows("Audit").await;
    ann.sees("override");
    ann.sees("ticket 17");
    ann.follows("Overview").await;
    ann.waits_for("Nothing. The doctor").await;
}

#[tokio::test(start_paused = true)]
async fn a_replacement_that_does_not_decode_is_refused() {
    let (app, _) = workshop(&Faults::default());
    place(&app, "7", 0, 3).await;
    let router = router_of(&app);
    let fields = |json: &'static str| [("version", "1"), ("json", json), ("confirmed", "yes")];
    for json in ["no json", r#"{"other":1}"#] {
        let post = crate::world::post("/ops/streams/order-7/replace", &fields(json));
        let reply = post.token(crate::world::TOKEN).of(&router).await;
        assert!([400, 422].contains(&reply.status), "{json}: {} {}", reply.status, reply.text);
    }
    assert_eq!(status(&app, "7").await.as_deref(), Some("placed"));
}

#[tokio::test]
async fn five_thousand_dead_letters_of_one_bug() {
    const LETTERS: usize = 5_000;
    let faults = Faults::default();
    faults.parcels.store(true, Ordering::SeqCst);
    let (app, _) = workshop(&faults);
    for chunk in (1..=LETTERS).collect::<Vec<_>>().chunks(500) {
        let placed = chunk.iter().map(|id| async {
            place(&app, &id.to_string(), 0, 0).await;
        });
        futures_util::future::join_all(placed).await;
    }
    let admin = Admin::new(&app, Operator::named("test"));
    let letters = async || {
        let groups = admin.dead_letter_groups(&DeadLetterFilter::default()).await.unwrap().entries;
        groups.iter().map(|group| group.count).sum::<u64>()
    };
    until(async || letters().await == LETTERS as u64).await;
    faults.parcels.store(false, Ordering::SeqCst);

    let began = Instant::now();
    let mut ann = Visitor::start(&router_of(&app)).await;
    ann.follows("dead letters: 5000").await;
    ann.sees("has no weight");
    ann.follows("Rehearse").await;
    ann.waits_for("<strong class=\"good\">4990</strong>").await;
    ann.sees("cannot be estimated");
    println!("rehearsed after {:.1?}", began.elapsed());
    ann.presses("Redrive the group", &[]).await;
    ann.waits_for("5000 redriven.").await;
    println!("decided after {:.1?}", began.elapsed());
    assert_eq!(ann.clicks, 3);
    until(async || letters().await == 10).await;
    println!("handled after {:.1?}", began.elapsed());
    ann.follows("Dead letters").await;
    ann.sees("cannot be estimated");
    ann.follows("Audit").await;
    ann.sees("5000 decided, 0 behind others");
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_projection() {
    let faults = Faults::default();
    faults.weights.store(true, Ordering::SeqCst);
    let (app, model) = workshop(&faults);
    place(&app, "7", 0, 66).await;
    place(&app, "8", 0, 5).await;
    let mut ann = Visitor::start(&router_of(&app)).await;
    ann.waits_for("failed projections: 1").await;
    ann.follows("failed projections: 1").await;
    ann.sees("66 is not a weight");
    ann.follows("parcel-7 at 1").await;
    ann.sees("parcel.prepared");
    ann.follows("Projections").await;
    // The mended build is deployed.
    faults.weights.store(false, Ordering::SeqCst);
    ann.presses("Resume", &[]).await;
    ann.waits_for("running").await;
    until(async || model.get().len() == 2).await;
    ann.follows("Audit").await;
    ann.sees("projections resume");
    assert_eq!(ann.clicks, 5);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_down_for_an_hour() {
    let faults = Faults::default();
    faults.bank.store(true, Ordering::SeqCst);
    let (app, _) = workshop(&faults);
    for id in ["7", "8", "9"] {
        place(&app, id, 500, 3).await;
    }
    let mut ann = Visitor::start(&router_of(&app)).await;
    ann.follows("Gateways").await;
    ann.waits_for("open until").await;
    ann.sees("503 Service Unavailable");
    ann.presses("Pause", &[]).await;
    ann.sees("by ann");
    let admin = Admin::new(&app, Operator::named("test"));
    let attempts = async || {
        let waiting = admin.waiting(composable_rust_core::queue::OutboxKind::Call, "bank", 10);
        waiting.await.unwrap().iter().map(|of| of.attempts).collect::<Vec<_>>()
    };
    // Until every process has noticed.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = attempts().await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(attempts().await, before, "they wait without spending attempts");
    ann.follows("bank").await;
    ann.sees("bank_message.charge");
    ann.sees("500");
    faults.bank.store(false, Ordering::SeqCst);
    ann.follows("Gateways").await;
    ann.presses("Resume", &[]).await;
    ann.waits_for(">closed<").await;
    for id in ["7", "8", "9"] {
        until(async || status(&app, id).await.as_deref() == Some("paid")).await;
    }
    ann.follows("Audit").await;
    ann.sees("gateways pause");
    ann.sees("gateways resume");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_lost_its_position() {
    const TOPIC: &str = "parcel-commands";
    let clock = TokioClock::at(SystemTime::now().into());
    let bus = InMemoryEventBus::new().with_partitions(1);
    let store = InMemoryEventStore::new().with_log_id(Uuid::from_u128(2)).with_clock(clock);
    let orders = orders(&bus, clock);
    let kilos = async |app: &App, id: &str| {
        app.handle(&Parcel::id(id)).state(|parcel| parcel.kilos).await.unwrap()
    };
    let app = parcels(&bus, clock, &store);
    place(&orders, "1", 0, 11).await;
    until(async || kilos(&app, "1").await == 11).await;
    // The service is away for longer than the broker keeps messages.
    assert!(app.shutdown(Duration::from_secs(10)).await);
    for id in ["2", "3"] {
        place(&orders, id, 0, 5).await;
    }
    until(async || bus.messages(TOPIC).len() == 3).await;
    bus.remove_messages(TOPIC);
    let app = parcels(&bus, clock, &store);
    place(&orders, "4", 0, 7).await;
    until(async || bus.messages(TOPIC).len() == 1).await;

    let mut ann = Visitor::start(&router_of(&app)).await;
    ann.follows("Doctor").await;
    ann.waits_for("2 messages of `parcel-commands` were removed").await;
    assert_eq!(kilos(&app, "4").await, 0, "nothing is skipped without being asked");
    ann.follows("Bus").await;
    ann.sees("not reading");
    ann.follows("Positions at the bus").await;
    ann.sees("<span class=\"bad\">2</span>");
    ann.presses("Leave out what is lost…", &[]).await;
    ann.sees("partition 0: from 1 to 3, which leaves out 2");
    ann.follows("Bus").await;
    ann.follows("Positions at the bus").await;
    ann.presses("Pause all work…", &[]).await;
    ann.presses("Pause", &[("reason", "INC-7")]).await;
    ann.sees("All work is paused.");
    until(async || bus.members(&app.subscriptions()[0].group) == 0).await;
    ann.presses("Leave out what is lost…", &[]).await;
    ann.presses("Move", &[("reason", "INC-7")]).await;
    ann.sees("commands is moved in parcel-commands.");
    ann.presses("Resume all work", &[("reason", "INC-7")]).await;
    until(async || kilos(&app, "4").await == 7).await;
    ann.follows("Doctor").await;
    assert!(!ann.has("were removed"));
    ann.follows("Audit").await;
    ann.sees("0: 1 to 3");
}
