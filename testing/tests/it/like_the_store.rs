//! The test store runs effects as the runtime's store does: seeded trees of effects return the same
//! actions at the same time in both.

use std::time::Duration;

use composable_rust_core::environment::{Clock as _, Rng as _};
use composable_rust_core::prelude::*;
use composable_rust_runtime::Store;
use composable_rust_testing::{MockClock, SeededRng, TestStore};

/// Returns seeded trees of effects, and notes the returned actions with their times.
#[derive(Debug, Clone, Copy)]
struct Trees;

#[derive(Debug, Clone, PartialEq)]
enum Action {
    Grow { seed: u64 },
    Ripe(u32),
}

type Harvest = Vec<(Timestamp, u32)>;

impl Reducer for Trees {
    type State = Harvest;
    type Action = Action;
    type Environment = MockClock;

    fn reduce(&self, harvest: &mut Harvest, action: Action, clock: &MockClock) -> Effects<Action> {
        match action {
            Action::Grow { seed } => {
                let mut tree =
                    Tree { chance: SeededRng::new(seed), clock, grown: 0, inside: Vec::new() };
                (0..4).map(|_| tree.effect(3)).collect()
            }
            Action::Ripe(fruit) => {
                harvest.push((clock.now(), fruit));
                effects![]
            }
        }
    }
}

struct Tree<'a> {
    chance: SeededRng,
    clock: &'a MockClock,
    grown: u32,
    /// The ids around the growing effect.
    inside: Vec<&'static str>,
}

impl Tree<'_> {
    fn below(&mut self, limit: u64) -> u64 {
        self.chance.next_u64() % limit
    }

    /// An id that is not one of those around it: cancelling itself has no defined outcome.
    fn id(&mut self) -> &'static str {
        const IDS: [&str; 5] = ["a", "b", "c", "d", "e"];
        let first = usize::try_from(self.below(5)).unwrap_or_default();
        let mut ids = IDS.iter().cycle().skip(first).copied();
        ids.find(|id| !self.inside.contains(id)).expect("there are more ids than levels")
    }

    fn effect(&mut self, depth: u32) -> Effect<Action> {
        let kind = if depth == 0 { self.below(4) } else { self.below(8) };
        match kind {
            0..=1 => self.delay(),
            2 => self.delay().with_id(self.id()),
            3 => self.future(),
            4 => Effect::Cancel(self.id().into()),
            5 => sequential(self.effects(depth - 1)),
            6 => parallel(self.effects(depth - 1)),
            _ => {
                let id = self.id();
                self.inside.push(id);
                let effect = self.effect(depth - 1).with_id(id);
                self.inside.pop();
                effect
            }
        }
    }

    fn effects(&mut self, depth: u32) -> Effects<Action> {
        (0..self.below(4)).map(|_| self.effect(depth)).collect()
    }

    /// No two effects end at one moment, so that no order among equals is compared.
    fn fruit(&mut self) -> (Duration, Action) {
        self.grown += 1;
        (Duration::from_micros(self.below(5_000_000)), Action::Ripe(self.grown))
    }

    fn delay(&mut self) -> Effect<Action> {
        let (duration, fruit) = self.fruit();
        parallel(effects![after(duration, fruit)])
    }

    fn future(&mut self) -> Effect<Action> {
        let (duration, fruit) = self.fruit();
        let clock = self.clock.clone();
        future(async move {
            clock.sleep(duration).await;
            Some(fruit)
        })
    }
}

/// A second tree grows while the first runs.
const LATER: Duration = Duration::from_secs(2);
const LATEST: Duration = Duration::from_secs(100);

fn in_a_test(seed: u64) -> Harvest {
    let clock = MockClock::new();
    let mut store = TestStore::new(Trees, Harvest::new(), clock.clone()).clock(&clock);
    store = store.non_exhaustive();
    store.send(Action::Grow { seed }, |_| {});
    store.advance(LATER);
    store.send(Action::Grow { seed: seed + 1_000_000 }, |_| {});
    store.advance(LATEST);
    store.skip_received();
    store.state().clone()
}

async fn in_a_store(seed: u64) -> Harvest {
    let clock = MockClock::new();
    let store = Store::builder(Trees, Harvest::new(), clock.clone()).clock(clock.clone()).build();
    store.send(Action::Grow { seed }).await.unwrap();
    clock.elapse(LATER).await;
    store.send(Action::Grow { seed: seed + 1_000_000 }).await.unwrap();
    clock.elapse(LATEST).await;
    store.state(Harvest::clone)
}

#[tokio::test]
async fn effect_trees_return_the_same_actions_at_the_same_time() {
    let mut fruits = 0;
    for seed in 0..300 {
        let harvest = in_a_test(seed);
        assert_eq!(harvest, in_a_store(seed).await, "seed {seed}");
        fruits += harvest.len();
    }
    assert!(fruits > 1_000, "{fruits} are too few to compare");
}
