//! The whole workflow on the runtime, in memory and on virtual time: one checkout for each outcome.

use std::time::{Duration, Instant};

use checkout_workflow::{
    Apps, Audit, AuditInput, Cart, Checkout, CheckoutCommand, Inventory, InventoryCommand, Rates,
    Service, Shop,
};
use composable_rust::prelude::*;
use composable_rust::testing::{InMemoryEventStore, MockClock};

use crate::saga;
use crate::shop::provider;

/// The circumstances of a checkout.
struct Scenario {
    rates: Rates,
    step_timeout: Duration,
    /// The units in stock, and the units in the cart.
    units: (u32, u32),
}

impl Scenario {
    /// Creates a scenario in which the checkout completes.
    fn new() -> Self {
        Self { rates: Rates::default(), step_timeout: Duration::from_secs(30), units: (2_000, 2) }
    }

    /// Runs a checkout until it is finished.
    async fn run(self, id: &str) -> Checkout {
        let clock = MockClock::new();
        let shop = Shop { step_timeout: self.step_timeout, ..Shop::new(provider(self.rates)) };
        let store = InMemoryEventStore::new().with_clock(clock.clone());
        let app = shop.app(store, &Service::ALL, None).clock(clock.clone()).build().unwrap();
        app.start();
        let (in_stock, units) = self.units;
        let stock = app.handle(&Inventory::id("sku"));
        stock.send(InventoryCommand::Restock { units: in_stock }).await.unwrap();
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
        let input = AuditInput::read(&Apps::single(&app), &shop.provider.ledger).await.unwrap();
        let audit = Audit::of(&input);
        assert!(audit.balances(), "{audit}");
        state
    }
}

/// Runs a checkout, and asserts the beginning of its final status.
async fn assert_ends(scenario: Scenario, id: &str, status: &str) {
    let ended = scenario.run(id).await.status().to_string();
    assert!(ended.starts_with(status), "{id}: {ended}");
}

async fn the_checkout_completes() {
    assert_ends(Scenario::new(), "1", "completed").await;
}

async fn the_cart_is_empty() {
    let scenario = Scenario { units: (2_000, 0), ..Scenario::new() };
    assert_ends(scenario, "1", "compensated after ").await;
}

async fn the_article_is_sold_out() {
    let scenario = Scenario { units: (1, 2), ..Scenario::new() };
    assert_ends(scenario, "1", "compensated after ").await;
}

async fn the_card_is_declined() {
    let scenario =
        Scenario { rates: Rates { declines: 100, ..Rates::default() }, ..Scenario::new() };
    assert_ends(scenario, "1", "compensated after Charge: Declined").await;
}

/// Checkout ids: the provider takes the money of some of them.
const IDS: [&str; 4] = ["1", "2", "3", "4"];

async fn the_provider_hangs() {
    for id in IDS {
        let rates = Rates { hangs: 100, ..Rates::default() };
        assert_ends(Scenario { rates, ..Scenario::new() }, id, "compensated after ").await;
    }
}

async fn the_provider_fails() {
    for id in IDS {
        let rates = Rates { failures: 100, ..Rates::default() };
        assert_ends(Scenario { rates, ..Scenario::new() }, id, "compensated after ").await;
    }
}

async fn the_provider_is_slower_than_the_timeout() {
    for id in IDS {
        let rates = Rates { hangs: 100, ..Rates::default() };
        let scenario =
            Scenario { rates, step_timeout: Duration::from_millis(150), ..Scenario::new() };
        assert_ends(scenario, id, "compensated after ").await;
    }
}

async fn the_parcel_is_too_large() {
    let scenario = Scenario { units: (2_000, 1_001), ..Scenario::new() };
    assert_ends(scenario, "1", "compensated after ").await;
}

async fn the_refund_is_refused() {
    let rates = Rates { refund_refusals: 100, ..Rates::default() };
    let scenario = Scenario { rates, units: (2_000, 1_001), ..Scenario::new() };
    assert_ends(scenario, "1", "stuck after Ship: TooMany; not undone: Charge: NotRefunded").await;
}

#[tokio::test]
async fn a_checkout_reaches_every_outcome() {
    let began = Instant::now();
    saga::every_path();
    let paths = began.elapsed();
    let began = Instant::now();
    the_checkout_completes().await;
    the_cart_is_empty().await;
    the_article_is_sold_out().await;
    the_card_is_declined().await;
    the_provider_hangs().await;
    the_provider_fails().await;
    the_provider_is_slower_than_the_timeout().await;
    the_parcel_is_too_large().await;
    the_refund_is_refused().await;
    println!("given, when, then: {paths:?}; on the runtime, virtual time: {:?}", began.elapsed());
}
