//! Drills: something breaks, and an operator finds it, sees why, repairs it, and finds the repair
//! in the audit, by links and buttons alone.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Router;
use composable_rust_admin::{Admin, DeadLetterFilter, Operator};
use composable_rust_console::Payloads;
use composable_rust_core::codec::Codecs;
use composable_rust_core::event::NewEvent;
use composable_rust_core::store::{Append, EventStore as _, ExpectedVersion};
use composable_rust_core::{EventId, Metadata, TargetExt as _, Version};
use composable_rust_runtime::App;
use composable_rust_testing::fixtures::metadata;
use uuid::Uuid;

use crate::operator::Visitor;
use crate::workshop::{Faults, Order, OrderCommand, OrderEvent, workshop};
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

async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..2_000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it does not become so");
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
