//! The whole workflow on the real runtime, in memory, on virtual time: one checkout for each way
//! that it can end.

use std::time::{Duration, Instant};

use checkout_workflow::{
    Apps, Audit, Books, Cart, Checkout, CheckoutCommand, Inventory, InventoryCommand, Rates,
    Service, Shop, Status, Step,
};
use composable_rust::prelude::*;
use composable_rust::testing::{InMemoryEventStore, MockClock};

use crate::saga;
use crate::shop::provider;

/// What a checkout meets.
struct World {
    rates: Rates,
    patience: Duration,
    /// Pieces that are there, and pieces that are asked for.
    units: (u32, u32),
}

impl World {
    /// Everything goes well.
    fn new() -> Self {
        Self { rates: Rates::default(), patience: Duration::from_secs(30), units: (2_000, 2) }
    }

    /// One checkout in it, to its end.
    async fn checkout(self, id: &str) -> Checkout {
        let clock = MockClock::new();
        let shop = Shop { patience: self.patience, ..Shop::new(provider(self.rates)) };
        let store = InMemoryEventStore::new().with_clock(clock.clone());
        let app = shop.app(store, &Service::ALL, None).clock(clock.clone()).build().unwrap();
        app.start();
        let (here, units) = self.units;
        let stock = app.handle(&Inventory::id("sku"));
        stock.send(InventoryCommand::Restock { units: here }).await.unwrap();
        let cart = Cart { sku: Inventory::id("sku"), units, cents: 1_998 };
        let checkout = app.handle(&Checkout::id(id));
        checkout.send(CheckoutCommand::Start(cart)).await.unwrap();
        let mut state = checkout.state(Clone::clone).await.unwrap();
        for _ in 0..1_000 {
            if state.is_finished() {
                break;
            }
            clock.elapse(Duration::from_millis(100)).await;
            state = checkout.state(Clone::clone).await.unwrap();
        }
        let books = Books::read(&Apps::together(&app), &shop.provider.ledger).await.unwrap();
        let audit = Audit::of(&books);
        assert!(audit.balances(), "{audit}");
        state
    }
}

async fn ends(world: World, id: &str, status: Status, kept: &[Step]) {
    let checkout = world.checkout(id).await;
    assert_eq!((checkout.status, &*checkout.kept), (status, kept), "{id}");
}

async fn it_completes() {
    ends(World::new(), "1", Status::Completed, &[]).await;
}

async fn a_cart_of_nothing_is_refused() {
    let world = World { units: (2_000, 0), ..World::new() };
    ends(world, "1", Status::Compensated, &[]).await;
}

async fn it_is_sold_out() {
    let world = World { units: (1, 2), ..World::new() };
    ends(world, "1", Status::Compensated, &[]).await;
}

async fn the_card_is_declined() {
    let world = World { rates: Rates { declines: 100, ..Rates::default() }, ..World::new() };
    ends(world, "1", Status::Compensated, &[]).await;
}

/// Of these ids the provider takes the money of some and not of others.
const SOME: [&str; 4] = ["1", "2", "3", "4"];

async fn the_provider_hangs() {
    for id in SOME {
        let rates = Rates { hangs: 100, ..Rates::default() };
        ends(World { rates, ..World::new() }, id, Status::Compensated, &[]).await;
    }
}

async fn the_provider_fails() {
    for id in SOME {
        let rates = Rates { failures: 100, ..Rates::default() };
        ends(World { rates, ..World::new() }, id, Status::Compensated, &[]).await;
    }
}

async fn the_provider_takes_longer_than_the_checkout_waits() {
    for id in SOME {
        let rates = Rates { hangs: 100, ..Rates::default() };
        let world = World { rates, patience: Duration::from_millis(150), ..World::new() };
        ends(world, id, Status::Compensated, &[]).await;
    }
}

async fn the_parcel_is_too_large() {
    let world = World { units: (2_000, 1_001), ..World::new() };
    ends(world, "1", Status::Compensated, &[]).await;
}

async fn the_money_is_not_given_back() {
    let rates = Rates { refund_refusals: 100, ..Rates::default() };
    let world = World { rates, units: (2_000, 1_001), ..World::new() };
    ends(world, "1", Status::Stuck, &[Step::Charge]).await;
}

#[tokio::test]
async fn every_way_that_a_checkout_ends() {
    let began = Instant::now();
    saga::every_path();
    let paths = began.elapsed();
    let began = Instant::now();
    it_completes().await;
    a_cart_of_nothing_is_refused().await;
    it_is_sold_out().await;
    the_card_is_declined().await;
    the_provider_hangs().await;
    the_provider_fails().await;
    the_provider_takes_longer_than_the_checkout_waits().await;
    the_parcel_is_too_large().await;
    the_money_is_not_given_back().await;
    println!("given, when, then: {paths:?}; on the runtime, virtual time: {:?}", began.elapsed());
}
