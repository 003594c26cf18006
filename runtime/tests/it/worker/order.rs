//! Messages of one sender to one target are handled in order and once, despite faults.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use composable_rust_core::prelude::*;
use composable_rust_core::queue::DeadLetterDecision;
use composable_rust_runtime::App;
use composable_rust_testing::{Chances, FaultyEventStore, InMemoryEventStore};
use proptest::prelude::{ProptestConfig, proptest};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::actor::{Act, Actor, ActorCommand as In};
use super::node::{Node, NodeProcess};
use super::world::{World, eventually, log, millis, started};

const SENDERS: u32 = 4;
const TARGETS: u32 = 3;
const MESSAGES: u32 = 12;
const PROCESSES: usize = 3;

type Store = FaultyEventStore<InMemoryEventStore>;

struct Process {
    node: Node<Store>,
    faults: Store,
    app: App,
}

fn process(world: &World, seed: u64, chances: Chances) -> Process {
    let faults = FaultyEventStore::new(world.memory.clone()).with_chances(seed, chances);
    let node = NodeProcess::start(faults.clone());
    let builder = world
        .bare_builder(node.clone())
        .aggregate::<Actor>(world.around())
        .gateway_with(world.outside.clone(), |gateway| gateway.timeout = millis(300))
        .settings(|settings| {
            settings.lease_ttl = millis(1_500);
            settings.retry.max_attempts = 2;
            settings.retry.initial_backoff = millis(100);
        });
    Process { node, faults, app: started(builder) }
}

async fn send_all(sender: u32, processes: Arc<Mutex<Vec<Process>>>, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut next: BTreeMap<u32, u32> = BTreeMap::new();
    for key in 0..TARGETS * MESSAGES {
        let target = (0..TARGETS).cycle().skip(rng.random_range(0..TARGETS) as usize);
        let free = |target: &u32| next.get(target).copied().unwrap_or(0) < MESSAGES;
        let target = target.take(TARGETS as usize).find(free).unwrap();
        let n = next.entry(target).or_default();
        let act = Act::Flaky(sender * 1_000 + *n);
        *n += 1;
        let act = Act::Tell { to: format!("t{target}"), act: Box::new(act) };
        loop {
            let app = {
                let processes = processes.lock().unwrap();
                processes[rng.random_range(0..processes.len())].app.clone()
            };
            let instance = app.handle(&Actor::id(format!("s{sender}")));
            let sent = instance.send(In::Do(act.clone())).key(format!("{sender}-{key}"));
            if sent.within(millis(2_000)).await.is_ok() {
                break;
            }
        }
        tokio::time::sleep(millis(rng.random_range(0..100))).await;
    }
}

/// Redrives the first dead letter of every pair.
async fn redrive(world: &World) {
    for letter in world.dead_letters().await {
        let _ = world.decide(&letter, DeadLetterDecision::Redrive).await;
    }
}

async fn chaos(world: &World, processes: &Mutex<Vec<Process>>, rng: &mut StdRng, chances: Chances) {
    for round in 0..25 {
        tokio::time::sleep(millis(rng.random_range(50..600))).await;
        let one = rng.random_range(0..PROCESSES);
        match rng.random_range(0..4) {
            0 => {
                let fresh = process(world, rng.random(), chances);
                let old = std::mem::replace(&mut processes.lock().unwrap()[one], fresh);
                old.node.crash();
            }
            1 => {
                let fresh = process(world, rng.random(), chances);
                let old = std::mem::replace(&mut processes.lock().unwrap()[one], fresh);
                // Either without faults, or at once.
                if round % 2 == 0 {
                    let _ = old.app.shutdown(millis(5_000)).await;
                }
            }
            2 => {
                let node = processes.lock().unwrap()[one].node.clone();
                node.freeze();
                let wait = millis(rng.random_range(0..4_000));
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    node.wake();
                });
            }
            _ => redrive(world).await,
        }
    }
}

async fn run(seed: u64) {
    let world = World::new();
    let mut rng = StdRng::seed_from_u64(seed);
    let chances = Chances {
        fail_before: 0.03,
        fail_after: 0.03,
        conflict: 0.02,
        delay: 0.1,
        longest_delay: millis(400),
    };
    world.broken.set_flaky(rng.random(), 0.3);
    let first: Vec<_> = (0..PROCESSES).map(|_| process(&world, rng.random(), chances)).collect();
    let processes = Arc::new(Mutex::new(first));
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| tokio::spawn(send_all(sender, Arc::clone(&processes), rng.random())))
        .collect();
    chaos(&world, &processes, &mut rng, chances).await;
    for sender in senders {
        sender.await.unwrap();
    }
    // The faults end.
    world.broken.set_flaky(0, 0.0);
    for process in processes.lock().unwrap().iter() {
        process.faults.recover();
        process.node.wake();
    }
    eventually("everything is handled", async || {
        redrive(&world).await;
        world.memory.outbox().is_empty() && world.dead_letters().await.is_empty()
    })
    .await;
    let reader = world.builder(world.memory.clone()).build().unwrap();
    for target in 0..TARGETS {
        let notes = log(&reader, &format!("t{target}")).await;
        for sender in 0..SENDERS {
            let own = |note: &&String| {
                let n: u32 = note.trim_start_matches("note ").parse().unwrap();
                n / 1_000 == sender
            };
            let own: Vec<_> = notes.iter().filter(own).cloned().collect();
            let all: Vec<_> =
                (0..MESSAGES).map(|n| format!("note {}", sender * 1_000 + n)).collect();
            assert_eq!(own, all, "seed {seed}: from {sender} to {target}");
        }
    }
    let apps: Vec<_> =
        processes.lock().unwrap().iter().map(|process| process.app.clone()).collect();
    world.assert_states_match_log(&apps.iter().chain([&reader]).collect::<Vec<_>>()).await;
}

#[test]
#[ignore = "runs the seed in the environment variable SEED"]
fn pairs_keep_their_order_for_a_given_seed() {
    virtually(run(std::env::var("SEED").unwrap().parse().unwrap()));
}

fn virtually(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true).build().unwrap().block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_pair_keeps_its_order_and_each_message_is_handled_once(seed: u64) {
        virtually(run(seed));
    }
}
