//! Environments that fail the test on unexpected use.

use composable_rust_core::environment::{Clock, IdGenerator, Rng};
use composable_rust_core::prelude::*;
use composable_rust_testing::{
    MockClock, SeededRng, SequentialIds, TestStore, unimplemented_clock, unimplemented_dependency,
    unimplemented_fn, unimplemented_ids, unimplemented_rng,
};
use uuid::Uuid;

use crate::failing::assert_says;

/// The dependencies of the reducer below.
struct Environment {
    clock: Box<dyn Clock>,
    ids: Box<dyn IdGenerator>,
    chance: Box<dyn Rng>,
    price: Box<dyn Fn(&'static str) -> u32>,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            clock: Box::new(unimplemented_clock()),
            ids: Box::new(unimplemented_ids()),
            chance: Box::new(unimplemented_rng()),
            price: Box::new(unimplemented_fn("Environment::price")),
        }
    }
}

struct Shop;

#[derive(Debug, Clone, PartialEq)]
enum Action {
    Open,
    Wait,
    Number,
    Draw,
    Sell(&'static str),
}

#[derive(Debug, Clone, PartialEq, Default)]
struct State {
    open: Option<Timestamp>,
    number: Option<Uuid>,
    lucky: bool,
    cents: u32,
}

impl Reducer for Shop {
    type State = State;
    type Action = Action;
    type Environment = Environment;

    fn reduce(&self, state: &mut State, action: Action, env: &Environment) -> Effects<Action> {
        match action {
            Action::Open => state.open = Some(env.clock.now()),
            Action::Wait => {
                let sleep = env.clock.sleep(crate::test_store::SECOND);
                return effects![future(async {
                    sleep.await;
                    None
                })];
            }
            Action::Number => state.number = Some(env.ids.new_id()),
            Action::Draw => state.lucky = env.chance.next_u64() % 2 == 1,
            Action::Sell(what) => state.cents += (env.price)(what),
        }
        effects![]
    }
}

#[test]
fn a_test_gives_what_its_code_uses() {
    let env = Environment {
        clock: Box::new(MockClock::at(Timestamp::from_micros(5))),
        ids: Box::new(SequentialIds::new()),
        chance: Box::new(SeededRng::new(1_234_567)),
        price: Box::new(|what| if what == "pen" { 150 } else { unimplemented_dependency(what) }),
    };
    let mut store = TestStore::new(Shop, State::default(), env);
    store.send(Action::Open, |state| state.open = Some(Timestamp::from_micros(5)));
    store.send(Action::Number, |state| state.number = Some(SequentialIds::nth(1)));
    store.send(Action::Draw, |state| state.lucky = true);
    store.send(Action::Sell("pen"), |state| state.cents = 150);
    store.finish();
}

#[test]
fn an_undeclared_dependency_fails_the_test() {
    let send = |action| {
        TestStore::new(Shop, State::default(), Environment::default()).send(action, |_| {});
    };
    assert_says!("environment_now", || send(Action::Open));
    assert_says!("environment_sleep", || send(Action::Wait));
    assert_says!("environment_id", || send(Action::Number));
    assert_says!("environment_chance", || send(Action::Draw));
    assert_says!("environment_of_the_user", || send(Action::Sell("pen")));
}
