//! Orders through the three services.

use std::time::Duration;

use composable_rust::prelude::*;
use composable_rust_testing::eventually;
use production_ready::config::Config;
use production_ready::order::{
    Cart, Fulfilment, Order, OrderCommand, OrderRejection, OrderStatus, Step,
};
use production_ready::overview::of_customer;
use production_ready::payment::Payment;
use production_ready::shipping::Parcel;
use production_ready::shop::Shop;

const LIMIT: Duration = Duration::from_secs(30);

fn config(variables: &[(&str, &str)]) -> Config {
    let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_variables(owned).unwrap()
}

fn cart(units: u32) -> Cart {
    let (customer, sku) = ("ann".to_owned(), "lamp".to_owned());
    Cart { customer, sku, units, cents: 1_000 }
}

/// Places an order and waits for its end.
async fn order(shop: &Shop, id: &str, units: u32) -> OrderStatus {
    let app = shop.orders().unwrap();
    let order = app.handle(&Order::id(id));
    order.send(OrderCommand::Place(cart(units))).await.unwrap();
    let ended = |order: &Order| (order.status != OrderStatus::Placed).then_some(order.status);
    order.wait(ended, LIMIT).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_services_fulfil_an_order_or_undo_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&[("SHOP_PROVIDER_DECLINES", "0"), ("SHOP_PROVIDER_MILLIS", "1")]);
    let shop = Shop::open_demo(&config, folder.path()).await.unwrap();
    shop.start();

    assert_eq!(order(&shop, "1", 2).await, OrderStatus::Fulfilled);
    // Too many units for a parcel: the payment is given back.
    assert_eq!(order(&shop, "2", 101).await, OrderStatus::Cancelled);
    let app = |name: &str| &shop.apps.iter().find(|(of, _)| *of == name).unwrap().1;
    let payment = app("payments").handle(&Payment::id("2")).state(|of| *of).await.unwrap();
    assert_eq!(payment, Payment::Cancelled);
    let parcel = app("shipping").handle(&Parcel::id("1")).state(|of| *of).await.unwrap();
    assert_eq!(parcel, Parcel::Shipped);

    let overview = shop.overview.as_ref().unwrap();
    eventually("the read model", LIMIT, async || {
        let rows = of_customer(overview, "ann").await.unwrap();
        let statuses: Vec<_> = rows.iter().map(|row| &*row.status).collect();
        statuses == ["fulfilled", "cancelled"]
    })
    .await;
    let fulfilment = app("orders").handle(&Fulfilment::id("1"));
    let status = fulfilment.state(|saga| saga.status().to_string()).await.unwrap();
    assert_eq!(status, "completed");
    assert!(shop.shutdown(Duration::from_secs(10)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_on_one_store_declines_and_compensates() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("shop.db").display());
    let config = config(&[
        ("SHOP_STORE", &store),
        ("SHOP_PROVIDER_DECLINES", "100"),
        ("SHOP_PROVIDER_MILLIS", "1"),
    ]);
    let shop = Shop::open(&config).await.unwrap();
    shop.start();
    assert_eq!(order(&shop, "1", 1).await, OrderStatus::Cancelled);
    let app = shop.orders().unwrap();
    let parcel = app.handle(&Parcel::id("1")).state(|of| *of).await.unwrap();
    assert_eq!(parcel, Parcel::New, "nothing is shipped that is not paid");
    shop.shutdown(Duration::from_secs(10)).await;
}

#[test]
fn an_order_is_placed_once() {
    use composable_rust::testing::given;

    let placed = production_ready::order::OrderEvent::Placed(cart(1));
    let again = given::<Order>([placed.clone()]).when(OrderCommand::Place(cart(1)));
    again.then_repeated(placed.clone());
    let other = given::<Order>([placed]).when(OrderCommand::Place(cart(2)));
    other.then_rejected(OrderRejection::OtherCart);
    given::<Order>([]).when(OrderCommand::Place(cart(0))).then_rejected(OrderRejection::Empty);
}

#[test]
fn the_steps_are_in_the_order_of_their_declaration() {
    assert_eq!(Step::STEPS, [Step::Accept, Step::Charge, Step::Ship, Step::Confirm]);
}
