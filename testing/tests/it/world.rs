//! Whole apps on virtual time.

mod renewal;

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use composable_rust_core::environment::Clock as _;
use composable_rust_core::prelude::*;
use composable_rust_core::{CorrelationId, Timestamp};
use composable_rust_runtime::{AppBuilder, SettleError};
use composable_rust_testing::{
    Fault, InMemoryEventBus, InMemoryEventStore, InMemoryReadModel, World,
};
use futures_util::FutureExt as _;
use uuid::Uuid;

use self::renewal::{
    Access, AccessCommand, Cards, Circle, CircleCommand, Ledger, Phase, Renewal, RenewalCommand,
    RenewalEvent, Takings,
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3_600);

fn noon() -> Timestamp {
    "2025-03-01T12:00:00Z".parse().unwrap()
}

/// The app with everything: aggregates, a gateway, a policy and a projection.
fn app(app: AppBuilder, cards: &Cards, takings: &InMemoryReadModel<Takings>) -> AppBuilder {
    app.aggregate::<Renewal>(())
        .aggregate::<Access>(())
        .aggregate::<Circle>(())
        .gateway(cards.clone())
        .projection(Ledger, takings.clone())
        .on::<Renewal, Access, _>("block", |recorded| {
            let id: Id<Access> = Access::id(Id::<Renewal>::of_stream(&recorded.stream)?.as_str());
            (recorded.event == RenewalEvent::Cancelled).then_some((id, AccessCommand::Block))
        })
}

/// A world whose card is declined the given numbers of the charges.
fn world(declined: impl IntoIterator<Item = u32>) -> (World, Cards, InMemoryReadModel<Takings>) {
    let cards = Cards::declining(declined);
    let takings = InMemoryReadModel::default();
    let of = (cards.clone(), takings.clone());
    let world = World::at(noon(), move |builder| app(builder, &of.0, &of.1));
    cards.use_clock(world.clock());
    (world, cards, takings)
}

async fn start(world: &World, id: &str) {
    world.app().handle(&Renewal::id(id)).send(RenewalCommand::Start).await.unwrap();
}

async fn phase(world: &World, id: &str) -> Phase {
    world.app().handle(&Renewal::id(id)).state(|renewal| renewal.phase).await.unwrap()
}

async fn is_blocked(world: &World, id: &str) -> bool {
    world.app().handle(&Access::id(id)).state(|access| access.blocked).await.unwrap()
}

#[tokio::test]
async fn ninety_five_idle_days_are_cheap() {
    let (world, _, _) = world([]);
    start(&world, "1").await;
    world.app().handle(&Renewal::id("1")).send(RenewalCommand::Stop).await.unwrap();
    world.settle().await;
    let (calls, began) = (world.faults().counts(), Instant::now());
    world.pass(95 * DAY).await;
    let (took, after) = (began.elapsed(), world.faults().counts());
    println!("95 idle days: {took:?}, calls {calls:?} to {after:?}");
    assert_eq!(world.now(), noon() + 95 * DAY);
    let reads = after.reads - calls.reads;
    assert!(reads < 100, "{reads} reads of the store");
    assert!(after.writes - calls.writes < 500, "prunes the inbox once a day: {after:?}");
}

#[tokio::test]
async fn three_months_of_dunning() {
    let began = Instant::now();
    // The second charge and its repetitions fail for one customer, all but the last for another.
    let (world, cards, takings) = world([]);
    cards.decline("bad", 2..);
    cards.decline("late", 2..4);
    for id in ["good", "bad", "late"] {
        start(&world, id).await;
    }
    world.settle().await;
    assert_eq!(takings.get().charges, 3);
    world.pass(31 * DAY).await;
    assert_eq!(
        (phase(&world, "bad").await, is_blocked(&world, "bad").await),
        (Phase::Dunning, false)
    );
    world.pass(64 * DAY).await;
    println!("three months of dunning: {:?}", began.elapsed());
    assert_eq!(phase(&world, "good").await, Phase::Paid);
    assert_eq!(phase(&world, "bad").await, Phase::Cancelled);
    assert_eq!(phase(&world, "late").await, Phase::Paid);
    assert!(is_blocked(&world, "bad").await && !is_blocked(&world, "late").await);
    assert_eq!(takings.get().charges, 4 + 1 + 3, "{:?}", takings.get());
}

#[tokio::test]
async fn settling_takes_no_time() {
    let (world, cards, takings) = world([]);
    start(&world, "1").await;
    world.settle().await;
    assert_eq!((world.now(), takings.get().charges), (noon(), 1));
    cards.take(2 * SECOND);
    start(&world, "2").await;
    world.settle().await;
    assert_eq!(takings.get().charges, 1, "the call lasts");
    world.pass(SECOND).await;
    assert_eq!(takings.get().charges, 1);
    world.pass(SECOND).await;
    assert_eq!(takings.get().charges, 2);
}

#[tokio::test]
async fn a_restart_keeps_what_is_durable() {
    let (mut world, cards, takings) = world([]);
    start(&world, "1").await;
    world.settle().await;
    let (app, now) = (world.app().clone(), world.now());
    world.restart().await;
    assert_eq!(world.now(), now);
    assert_eq!(world.app().live_instances::<Renewal>(), 0);
    // The old process does nothing any more, even if a test still holds it.
    let old = app.handle(&Renewal::id("1"));
    let old = tokio::spawn(async move { old.send(RenewalCommand::Stop).await });
    world.pass(30 * DAY).await;
    assert!(!old.is_finished(), "a process that has crashed sends no reply");
    assert_eq!(takings.get().charges, 2);

    // A call that was under way is made again, with the same key.
    cards.take(5 * SECOND);
    start(&world, "2").await;
    world.settle().await;
    world.restart().await;
    world.pass(DAY).await;
    assert_eq!((cards.calls("2"), cards.charges("2")), (2, 1));
    assert_eq!(phase(&world, "2").await, Phase::Paid);
}

#[tokio::test]
async fn the_app_recovers_from_faults() {
    let (world, _, takings) = world([]);
    start(&world, "1").await;
    world.faults().next_appends([Fault::FailAfter, Fault::FailBefore]);
    world.faults().next_reads([Fault::FailBefore; 5]);
    world.faults().next_writes([Fault::FailAfter; 5]);
    world.pass(31 * DAY).await;
    assert_eq!(takings.get().charges, 2);
    // The append is repeated after a pause.
    world.faults().next_appends([Fault::FailBefore]);
    let renewal = world.app().handle(&Renewal::id("2"));
    world.run(renewal.send(RenewalCommand::Start).into_future()).await.unwrap();
}

#[tokio::test]
async fn a_projection_is_rebuilt_and_paused_without_time() {
    let (world, _, takings) = world([]);
    start(&world, "1").await;
    world.settle().await;
    let ledger = world.app().projection::<Ledger>();
    ledger.rebuild().await.unwrap();
    assert_eq!(takings.get().charges, 0);
    world.pass(SECOND).await;
    assert_eq!(takings.get().charges, 1);
    ledger.pause().await.unwrap();
    world.pass(30 * DAY).await;
    assert_eq!(takings.get().charges, 1);
    ledger.resume().await.unwrap();
    world.settle().await;
    assert_eq!((takings.get().charges, world.now()), (2, noon() + 30 * DAY + SECOND));
}

#[tokio::test]
async fn services_exchange_messages() {
    let bus = InMemoryEventBus::new();
    let cards = Cards::declining([]);
    let (shop, access) = (bus.clone(), bus.clone());
    let of = cards.clone();
    let world = World::at(noon(), move |app| {
        app.aggregate::<Renewal>(())
            .gateway(of.clone())
            .event_bus(shop.clone())
            .publish::<Renewal>(composable_rust_core::codec::Format::Json)
    });
    let mut world = world.with_service(move |app| {
        app.aggregate::<Access>(())
            .event_bus(access.clone())
            .remote::<Renewal>()
            .on::<Renewal, Access, _>("block", |recorded| {
                let id = Access::id(Id::<Renewal>::of_stream(&recorded.stream)?.as_str());
                (recorded.event == RenewalEvent::Cancelled).then_some((id, AccessCommand::Block))
            })
    });
    cards.decline("1", 1..);
    start(&world, "1").await;
    world.pass(10 * DAY).await;
    world.restart().await;
    world.pass(80 * DAY).await;
    let access = world.service(1).handle(&Access::id("1"));
    assert!(access.state(|access| access.blocked).await.unwrap());
}

#[tokio::test]
async fn a_workflow_settles() {
    let (world, cards, takings) = world([]);
    cards.take(2 * SECOND);
    let (workflow, other) = (CorrelationId(Uuid::from_u128(7)), CorrelationId(Uuid::from_u128(8)));
    let renewal = world.app().handle(&Renewal::id("1"));
    renewal.send(RenewalCommand::Start).correlated(workflow).await.unwrap();
    let late = world.run(world.app().settled(workflow, SECOND)).await.unwrap_err();
    let SettleError::DeadlinePassed { waiting } = &late else { panic!("{late}") };
    assert_eq!(waiting, "`charge.card` from renewal-1 is in call/cards");
    world.app().settled(other, SECOND).await.unwrap();
    let positions = world.run(world.app().settled(workflow, 5 * SECOND)).await.unwrap();
    assert!(world.now() < noon() + 4 * SECOND, "the timer of the next month is not waited for");
    let ledger = world.app().projection::<Ledger>();
    world.run(ledger.wait_for(positions, SECOND)).await.unwrap();
    assert_eq!(takings.get().charges, 1);
    // The policy and its command belong to the workflow too.
    renewal.send(RenewalCommand::Stop).correlated(other).await.unwrap();
    world.run(world.app().settled(other, SECOND)).await.unwrap();
    assert!(is_blocked(&world, "1").await);
}

#[tokio::test]
async fn a_circle_of_messages_is_reported() {
    let (world, _, _) = world([]);
    world
        .app()
        .handle(&Circle::id("a"))
        .send(CircleCommand::Throw { to: "b".into() })
        .await
        .unwrap();
    let failed = AssertUnwindSafe(world.settle()).catch_unwind().await.unwrap_err();
    let message = failed.downcast_ref::<String>().unwrap();
    println!("{message}");
    for part in
        ["does not come to rest at 2025-03-01T12:00:00Z", "dispatch/circle", "circle.thrown"]
    {
        assert!(message.contains(part), "`{part}` is missing in: {message}");
    }
}

#[tokio::test]
async fn a_future_that_never_completes_is_reported() {
    let world = World::over(
        noon(),
        |clock| InMemoryEventStore::with_partitions(1).with_clock(clock.clone()),
        |app| app.aggregate::<Access>(()),
    );
    let waiting = AssertUnwindSafe(world.run(std::future::pending::<()>())).catch_unwind();
    let failed = waiting.await.unwrap_err();
    assert!(failed.downcast_ref::<String>().unwrap().contains("never happens"));
}

#[tokio::test]
async fn a_future_with_too_many_deadlines_is_reported() {
    let (world, _, _) = world([]);
    let clock = world.clock().clone();
    let sleeps = async |times: u32| {
        for _ in 0..times {
            clock.sleep(SECOND).await;
        }
    };
    world.run(sleeps(999)).await;
    let waiting = AssertUnwindSafe(world.run(sleeps(2_000))).catch_unwind();
    let failed = waiting.await.unwrap_err();
    let message = failed.downcast_ref::<String>().unwrap();
    println!("{message}");
    for part in ["after 1000 deadlines", "World::pass has to be called first"] {
        assert!(message.contains(part), "`{part}` is missing in: {message}");
    }
}

#[tokio::test]
async fn a_delayed_commit_costs_no_real_time() {
    let (world, _, takings) = world([]);
    let takings = takings.with_clock(world.clock().clone());
    takings.next_commits([Fault::Delay(3 * SECOND)]);
    let began = Instant::now();
    start(&world, "1").await;
    world.settle().await;
    world.pass(2 * SECOND).await;
    assert_eq!(takings.get().charges, 0, "the commit is delayed");
    world.pass(SECOND).await;
    assert_eq!(takings.get().charges, 1);
    assert!(began.elapsed() < 4 * SECOND, "{:?}", began.elapsed());
}
