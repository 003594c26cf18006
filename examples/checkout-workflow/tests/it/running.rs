//! Whole checkouts on the real runtime, in memory.

use std::time::Duration;

use checkout_workflow::{
    Audit, Books, Cart, Checkout, CheckoutCommand, Histories, Inventory, InventoryCommand, Ledger,
    Order, Payment, PaymentProvider, Rates, Shipping,
};
use composable_rust::App;
use composable_rust::prelude::*;
use composable_rust::testing::InMemoryEventStore;
use futures_util::TryStreamExt as _;

const MINUTE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_checkouts_add_up() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .try_init();
    let ledger = Ledger::in_memory();
    let rates = Rates { declines: 10, hangs: 5, failures: 5, refund_refusals: 0 };
    let provider = PaymentProvider { ledger: ledger.clone(), rates, seed: 1 };
    let app = App::builder(InMemoryEventStore::new().with_clock(composable_rust::SystemClock))
        .aggregate::<Checkout>(Duration::from_secs(2))
        .aggregate::<Order>(())
        .aggregate::<Inventory>(())
        .aggregate::<Payment>(())
        .aggregate::<Shipping>(())
        .gateway_with(provider, |gateway| {
            gateway.time_limit = Duration::from_millis(200);
            gateway.attempts.most = 2;
            gateway.breaker.calls = 100;
            gateway.attempts.first_wait = Duration::from_millis(100);
        })
        .build()
        .unwrap();
    app.start();
    for n in 0..10 {
        let stock = app.handle(&Inventory::id(format!("sku-{n}")));
        stock.send(InventoryCommand::Restock { units: 1_000 }).await.unwrap();
    }
    let ids: Vec<_> = (0..1_000).map(|n| Checkout::id(format!("{n}"))).collect();
    let started = std::time::Instant::now();
    for (n, id) in (0..).zip(&ids) {
        let cart = Cart { sku: Inventory::id(format!("sku-{}", n % 10)), units: 1, cents: 100 + n };
        app.handle(id).send(CheckoutCommand::Start(cart)).await.unwrap();
    }
    for id in &ids {
        let ended = app.handle(id).wait(|c| c.is_finished().then_some(()), MINUTE).await;
        assert!(ended.is_ok(), "{id}: {:?}", app.handle(id).state(Clone::clone).await);
    }
    println!("{} checkouts in {:?}", ids.len(), started.elapsed());
    let books = books(&app, &ledger).await;
    let audit = Audit::of(&books);
    assert!(audit.problems.is_empty(), "{audit}");
    println!("{audit}");
    assert!(app.shutdown(Duration::from_secs(10)).await);
}

async fn histories<A: Aggregate>(app: &App) -> Histories<A> {
    let events = app.events::<A>(app.log().beginnings());
    let events: Vec<_> = events
        .map_ok(|recorded| (Id::of_stream(&recorded.stream).unwrap(), recorded.event))
        .try_collect()
        .await
        .unwrap();
    let mut histories = Histories::default();
    histories.extend(events);
    histories
}

async fn books(app: &App, ledger: &Ledger) -> Books {
    Books {
        checkouts: histories(app).await,
        orders: histories(app).await,
        stocks: histories(app).await,
        payments: histories(app).await,
        parcels: histories(app).await,
        ledger: ledger.entries().unwrap(),
    }
}
