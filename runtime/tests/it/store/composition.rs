//! Composed reducers in a store.

use std::collections::BTreeMap;

use composable_rust_core::{
    Effects, Reducer, after, cancel, combine_reducers, effects, for_each, if_let, scope_reducer,
};
use composable_rust_runtime::Store;
use composable_rust_testing::MockClock;

use super::scripted::SECOND;

/// Rings a second after it is set, unless it is stopped.
struct Alarm;

#[derive(Clone)]
enum AlarmAction {
    Set,
    Stop,
    Ring,
}

impl Reducer for Alarm {
    type State = u32;
    type Action = AlarmAction;
    type Environment = ();

    fn reduce(&self, rung: &mut u32, action: AlarmAction, (): &()) -> Effects<AlarmAction> {
        match action {
            AlarmAction::Set => effects![after(SECOND, AlarmAction::Ring).with_id("bell")],
            AlarmAction::Stop => effects![cancel("bell")],
            AlarmAction::Ring => {
                *rung += 1;
                effects![]
            }
        }
    }
}

#[derive(Clone, Default)]
struct House {
    kitchen: u32,
    guest: Option<u32>,
    rooms: BTreeMap<u8, u32>,
    actions: u32,
}

#[derive(Clone)]
enum HouseAction {
    Kitchen(AlarmAction),
    Guest(AlarmAction),
    Room(u8, AlarmAction),
    GuestLeaves,
}

/// Counts actions, and removes the guest.
struct Porter;

impl Reducer for Porter {
    type State = House;
    type Action = HouseAction;
    type Environment = ();

    fn reduce(&self, house: &mut House, action: HouseAction, (): &()) -> Effects<HouseAction> {
        house.actions += 1;
        if let HouseAction::GuestLeaves = action {
            house.guest = None;
        }
        effects![]
    }
}

fn house() -> (
    Store<
        impl Reducer<State = House, Action = HouseAction, Environment = ()> + Send + Sync + 'static,
    >,
    MockClock,
) {
    let kitchen = scope_reducer(
        "kitchen",
        Alarm,
        |house: &mut House| &mut house.kitchen,
        |action| if let HouseAction::Kitchen(action) = action { Some(action) } else { None },
        HouseAction::Kitchen,
    );
    let guest = if_let(
        "guest",
        Alarm,
        |house: &mut House| house.guest.as_mut(),
        |action| if let HouseAction::Guest(action) = action { Some(action) } else { None },
        HouseAction::Guest,
    );
    let rooms = for_each(
        "room",
        Alarm,
        |house: &mut House| &mut house.rooms,
        |action| {
            if let HouseAction::Room(room, action) = action { Some((room, action)) } else { None }
        },
        HouseAction::Room,
    );
    let reducer =
        combine_reducers(combine_reducers(kitchen, guest), combine_reducers(rooms, Porter));
    let state =
        House { guest: Some(0), rooms: BTreeMap::from([(1, 0), (2, 0)]), ..House::default() };
    let clock = MockClock::new();
    (Store::builder(reducer, state, ()).clock(clock.clone()).build(), clock)
}

#[tokio::test]
async fn children_cannot_cancel_or_replace_siblings_effects() {
    let (store, clock) = house();
    for action in [
        HouseAction::Kitchen(AlarmAction::Set),
        HouseAction::Guest(AlarmAction::Set),
        HouseAction::Room(1, AlarmAction::Set),
        HouseAction::Room(2, AlarmAction::Set),
        HouseAction::Room(2, AlarmAction::Set),
        HouseAction::Room(1, AlarmAction::Stop),
    ] {
        store.send(action).await.unwrap();
    }
    clock.elapse(SECOND).await;
    store.state(|house| {
        assert_eq!((house.kitchen, house.guest), (1, Some(1)));
        assert_eq!(house.rooms, BTreeMap::from([(1, 0), (2, 1)]));
        assert_eq!(house.actions, 6 + 3, "three alarms rang");
    });
}

#[tokio::test]
async fn actions_for_a_removed_child_are_ignored() {
    let (store, clock) = house();
    let sent = store.send(HouseAction::Guest(AlarmAction::Set)).await.unwrap();
    store.send(HouseAction::GuestLeaves).await.unwrap();
    clock.elapse(SECOND).await;
    sent.finished().await.unwrap();
    assert_eq!(store.state(|house| house.guest), None);
}
