//! Sharing of leases between processes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use composable_rust_core::Timestamp;
use composable_rust_core::environment::Clock;
use composable_rust_core::queue::{Lease, LeaseAction, LeaseRequest, Leases as _};
use composable_rust_core::store::Inspection as _;
use composable_rust_testing::{InMemoryEventStore, TokioClock};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::actor::{Act, Behaviour};
use super::node::{Mishap, NodeProcess};
use super::world::{World, eventually, heard, log, millis, started, tell_to};

const WORKERS: [&str; 3] = ["dispatch/actor", "call/outside", "timer/actor"];

/// The number of leases of a worker that each process holds.
async fn shares(world: &World, worker: &str) -> Vec<usize> {
    let table = world.memory.load_leases(&[worker.to_owned()]).await.unwrap();
    let mut shares: BTreeMap<Uuid, usize> = BTreeMap::new();
    for standing in table.leases.iter().filter(|standing| !standing.lapsed) {
        if let Some(holder) = standing.holder {
            *shares.entry(holder).or_default() += 1;
        }
    }
    let mut shares: Vec<_> = shares.into_values().collect();
    shares.sort_unstable();
    shares
}

async fn all_shares(world: &World) -> Vec<Vec<usize>> {
    let mut all = Vec::new();
    for worker in WORKERS {
        all.push(shares(world, worker).await);
    }
    all
}

async fn shared_as(world: &World, wanted: &[usize], within: u64) {
    let started = tokio::time::Instant::now();
    eventually(&format!("shares of {wanted:?}"), async || {
        all_shares(world).await.iter().all(|shares| shares == wanted)
    })
    .await;
    let took = started.elapsed();
    assert!(took <= millis(within), "{wanted:?} took {took:?}");
}

/// The memory store has three partitions.
#[tokio::test(start_paused = true)]
async fn processes_that_come_and_go_share_the_work() {
    let world = World::new();
    let first = world.app();
    shared_as(&world, &[3], 100).await;
    let second = world.app();
    // A round of the first process, which releases, and one of the second, which acquires.
    shared_as(&world, &[1, 2], 11_000).await;
    let third = world.app();
    shared_as(&world, &[1, 1, 1], 11_000).await;
    assert!(third.shutdown(millis(10_000)).await);
    shared_as(&world, &[1, 2], 6_000).await;
    assert!(first.shutdown(millis(10_000)).await);
    shared_as(&world, &[3], 6_000).await;
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_starts_while_the_store_is_away_is_known_afterwards() {
    let world = World::new();
    let node = NodeProcess::start(world.memory.clone());
    node.next("introduce", [Mishap::FailsBefore; 3]);
    let _app = world.start(node.clone());
    eventually("the process is known", async || {
        world.memory.all_processes().await.unwrap().len() == 1
    })
    .await;
    tokio::time::sleep(millis(600_000)).await;
    assert_eq!(node.counts()["introduce"], 4, "it is told once");
}

#[tokio::test(start_paused = true)]
async fn leases_of_a_crashed_process_are_taken_over_on_expiry() {
    let world = World::new();
    let (node, first) = world.node();
    shared_as(&world, &[3], 100).await;
    node.crash();
    let second = world.app();
    shared_as(&world, &[3], 21_000).await;
    tell_to(&second, "a", Act::Ask { to: "b".into(), tag: 1, act: Box::new(Act::Note(1)) }).await;
    heard(&second, "a", "1: note 1").await;
    drop(first);
}

/// A lost response to a round costs none of the leases it acquired.
#[tokio::test(start_paused = true)]
async fn leases_acquired_despite_a_lost_response_are_soon_used() {
    let world = World::new();
    let node = NodeProcess::start(world.memory.clone());
    node.next("change_leases", [Mishap::FailsAfter]);
    let app = world.start(node.clone());
    let started = tokio::time::Instant::now();
    tell_to(&app, "a", Act::Ask { to: "b".into(), tag: 1, act: Box::new(Act::Note(1)) }).await;
    heard(&app, "a", "1: note 1").await;
    let took = started.elapsed();
    assert!(took <= millis(11_000), "{took:?}");
}

/// A round fails after six seconds, like one that waits for a connection. It is repeated before the
/// leases expire, so that no other process takes them.
#[tokio::test(start_paused = true)]
async fn a_short_outage_costs_no_lease() {
    let world = World::new();
    let nodes =
        [NodeProcess::start(world.memory.clone()), NodeProcess::start(world.memory.clone())];
    let apps = nodes.clone().map(|node| world.start(node));
    shared_as(&world, &[1, 2], 11_000).await;
    let workers = WORKERS.map(str::to_owned);
    let epochs = async || {
        let table = world.memory.load_leases(&workers).await.unwrap();
        table.leases.into_iter().map(|standing| standing.lease.epoch).collect::<Vec<_>>()
    };
    let before = epochs().await;
    for node in &nodes {
        node.next("load_leases", [Mishap::FailsIn(6_000)]);
        tokio::time::sleep(millis(60_000)).await;
    }
    assert_eq!(epochs().await, before);
    drop(apps);
}

/// A wall clock set by the test.
#[derive(Debug, Clone)]
struct Wall {
    time: TokioClock,
    set_back: Arc<AtomicU64>,
}

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let micros = i64::try_from(self.set_back.load(Ordering::SeqCst)).unwrap();
        Timestamp::from_micros(self.time.now().as_micros() - micros)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.time.sleep(duration)
    }
}

/// The store's clock is set back by two hours just after a process died: its leases and its
/// membership last one more time-to-live, not two hours.
#[tokio::test(start_paused = true)]
async fn leases_from_before_a_clock_rollback_expire() {
    let mut world = World::new();
    let wall = Wall { time: world.clock, set_back: Arc::default() };
    // A day has passed, so that the clock can be set back.
    tokio::time::sleep(millis(86_400_000)).await;
    world.memory = InMemoryEventStore::new().with_clock(wall.clone());
    let (node, first) = world.node();
    shared_as(&world, &[3], 100).await;
    node.crash();
    wall.set_back.store(7_200_000_000, Ordering::SeqCst);
    let second = world.app();
    shared_as(&world, &[3], 21_000).await;
    tell_to(&second, "a", Act::Ask { to: "b".into(), tag: 1, act: Box::new(Act::Note(1)) }).await;
    heard(&second, "a", "1: note 1").await;
    let members = world.memory.load_leases(&[WORKERS[0].to_owned()]).await.unwrap().members;
    assert_eq!(members.len(), 1, "the dead process is no member any more");
    drop(first);
}

/// A process that slept through its lease settles no row, and makes no call.
#[tokio::test(start_paused = true)]
async fn a_frozen_holder_writes_nothing_when_it_wakes() {
    let world = World::new();
    let (node, frozen) = world.node();
    world.outside.next([Behaviour::Retries]);
    tell_to(&frozen, "a", Act::Call { tag: 1, text: "x".into() }).await;
    eventually("a call", async || world.outside.calls() == 1).await;
    node.freeze();
    let other = world.app();
    heard(&other, "a", "1: x").await;
    assert_eq!(world.outside.calls(), 2);
    tell_to(&other, "a", Act::Call { tag: 2, text: "y".into() }).await;
    heard(&other, "a", "2: y").await;
    node.wake();
    tokio::time::sleep(millis(60_000)).await;
    assert_eq!(world.outside.calls(), 3);
    assert_eq!(log(&other, "a").await, ["call", "1: x", "call", "2: y"]);
    drop(frozen);
}

/// The store rejects settlements under a lease that another process has acquired since.
#[tokio::test(start_paused = true)]
async fn a_settlement_under_a_lost_lease_is_fenced() {
    let world = World::new();
    let app = world.app();
    world.outside.next([Behaviour::Hangs]);
    tell_to(&app, "a", Act::Call { tag: 1, text: "x".into() }).await;
    eventually("a call", async || world.outside.calls() == 1).await;
    take_all(&world, "call/outside").await;
    // The first attempt ends, but this process may no longer settle it.
    tokio::time::sleep(millis(10_000)).await;
    assert_eq!(log(&app, "a").await, ["call"]);
    heard(&app, "a", "1: x").await;
    assert_eq!(world.outside.calls(), 2);
}

/// Takes all leases of a worker for 45 seconds, as if they had expired.
async fn take_all(world: &World, worker: &str) {
    let table = world.memory.load_leases(&[worker.to_owned()]).await.unwrap();
    let holder = table.leases[0].holder.unwrap();
    let leases: Vec<Lease> = table.leases.into_iter().map(|standing| standing.lease).collect();
    let of = |holder, action, leases: &[Lease]| LeaseRequest {
        holder,
        workers: vec![worker.to_owned()],
        ttl: millis(45_000),
        min_epoch: 0,
        changes: leases.iter().map(|lease| (lease.clone(), action)).collect(),
    };
    world.memory.change_leases(&of(holder, LeaseAction::Release, &leases)).await.unwrap();
    let claims = of(Uuid::from_u128(99), LeaseAction::Claim, &leases);
    world.memory.change_leases(&claims).await.unwrap();
}

/// While nothing happens, the store gets a few calls a second at most.
#[tokio::test(start_paused = true)]
async fn an_idle_app_does_not_spin() {
    let world = World::new();
    let node = NodeProcess::start(world.memory.clone());
    let app = started(
        world
            .builder(node.clone())
            .on::<super::actor::Actor, super::actor::Actor, Vec<_>>("nothing", |_| Vec::new()),
    );
    tell_to(&app, "a", Act::Ask { to: "b".into(), tag: 1, act: Box::new(Act::Note(1)) }).await;
    tell_to(&app, "a", Act::Later { id: None, after: 3_600_000, act: Box::new(Act::Note(1)) })
        .await;
    heard(&app, "a", "1: note 1").await;
    tokio::time::sleep(millis(1_000)).await;
    let before = node.counts();
    tokio::time::sleep(millis(100_000)).await;
    let after = node.counts();
    let calls: BTreeMap<_, _> =
        after.iter().map(|(name, n)| (*name, n - before.get(name).unwrap_or(&0))).collect();
    let sum: u64 = calls.values().sum();
    assert!(sum <= 300, "{sum} calls in 100 seconds: {calls:?}");
}

/// The same holds while the store's wakeups fail.
#[tokio::test(start_paused = true)]
async fn an_app_whose_wakeups_fail_does_not_spin() {
    let world = World::new();
    let node = NodeProcess::start(world.memory.clone());
    let app = started(
        world
            .builder(node.clone())
            .on::<super::actor::Actor, super::actor::Actor, Vec<_>>("nothing", |_| Vec::new()),
    );
    tokio::time::sleep(millis(1_000)).await;
    node.next("wait_for_events", vec![Mishap::FailsBefore; 1_000_000]);
    node.next("wait_for_work", vec![Mishap::FailsBefore; 1_000_000]);
    tell_to(&app, "a", Act::Note(1)).await;
    tokio::time::sleep(millis(1_000)).await;
    let before: u64 = node.counts().values().sum();
    tokio::time::sleep(millis(10_000)).await;
    let calls = node.counts().values().sum::<u64>() - before;
    assert!(calls <= 500, "{calls} calls in 10 seconds: {:?}", node.counts());
}
