//! The rules of the order.

use composable_rust::Version;
use composable_rust::prelude::*;
use composable_rust::store::EventStore as _;
use composable_rust::testing::fixtures::{append, new_event};
use composable_rust::testing::{EventsLock, InMemoryEventStore, given};
use order_processing::{Cents, Date, Details, Order, OrderCommand, OrderEvent, OrderRejection};

use OrderCommand::{Cancel, Place, Ship};
use OrderEvent::{Cancelled, Placed, Shipped};

fn details() -> Details {
    let placed_on = Date::new(1997, 1, 12).unwrap();
    Details { customer: "00002".to_owned(), placed_on, units: 3, amount: Cents(1_200) }
}

fn place() -> OrderCommand {
    let Details { customer, placed_on, units, amount } = details();
    Place { customer, placed_on: Some(placed_on), units, amount }
}

fn ship(units: Option<u32>) -> OrderCommand {
    Ship { tracking: "Z1".to_owned(), units }
}

fn shipped(units: u32) -> OrderEvent {
    Shipped { tracking: "Z1".to_owned(), units }
}

fn cancel() -> OrderCommand {
    Cancel { reason: "late".to_owned() }
}

fn cancelled() -> OrderEvent {
    Cancelled { reason: "late".to_owned() }
}

#[test]
fn an_order_is_placed() {
    given::<Order>([]).when(place()).then([Placed(details())]);
}

#[test]
fn an_order_without_a_date_gets_the_current_day() {
    let now: Timestamp = "1997-01-12T23:59:59Z".parse().unwrap();
    let Details { customer, units, amount, .. } = details();
    let command = Place { customer, placed_on: None, units, amount };
    given::<Order>([]).at(now).when(command.clone()).then([Placed(details())]);
    let tomorrow: Timestamp = "1997-01-13T00:00:01Z".parse().unwrap();
    given::<Order>([Placed(details())]).at(tomorrow).when(command).then_repeated(Placed(details()));
}

#[test]
fn an_order_is_placed_once() {
    given::<Order>([Placed(details())]).when(place()).then_repeated(Placed(details()));
    given::<Order>([Placed(details()), shipped(3)]).when(place()).then_repeated(Placed(details()));
    given::<Order>([Placed(details()), cancelled()]).when(place()).then_repeated(Placed(details()));
    let other = Details { units: 4, ..details() };
    given::<Order>([Placed(other)]).when(place()).then_rejected(OrderRejection::AlreadyPlaced);
}

#[test]
fn an_order_needs_a_customer_and_units() {
    let placed_on = None;
    let (customer, amount) = ("00002".to_owned(), Cents(0));
    let no_units = Place { customer, placed_on, units: 0, amount };
    given::<Order>([]).when(no_units).then_rejected(OrderRejection::NoUnits);
    let no_customer = Place { customer: " ".to_owned(), placed_on, units: 1, amount };
    given::<Order>([]).when(no_customer).then_rejected(OrderRejection::NoCustomer);
}

#[test]
fn an_order_is_shipped_in_parcels() {
    given::<Order>([Placed(details())])
        .when(ship(Some(1)))
        .then([shipped(1)])
        .when(ship(Some(3)))
        .then_rejected(OrderRejection::TooManyUnits { left: 2 })
        .when(ship(None))
        .then([shipped(2)])
        .then_state(Order::Placed { details: details(), shipped: 3 })
        .then_finished()
        .when(ship(None))
        .then_rejected(OrderRejection::AlreadyShipped);
}

#[test]
fn a_parcel_needs_units() {
    given::<Order>([Placed(details())]).when(ship(Some(0))).then_rejected(OrderRejection::NoUnits);
}

#[test]
fn an_order_is_cancelled_before_it_is_shipped() {
    given::<Order>([Placed(details())])
        .when(cancel())
        .then([cancelled()])
        .then_finished()
        .when(cancel())
        .then_rejected(OrderRejection::AlreadyCancelled)
        .when(ship(None))
        .then_rejected(OrderRejection::AlreadyCancelled);
    given::<Order>([Placed(details()), shipped(1)])
        .when(cancel())
        .then_rejected(OrderRejection::OnItsWay);
}

#[test]
fn an_order_that_is_not_placed_rejects_other_commands() {
    given::<Order>([]).when(ship(None)).then_rejected(OrderRejection::NotPlaced);
    given::<Order>([]).when(cancel()).then_rejected(OrderRejection::NotPlaced);
}

#[test]
fn stored_messages_can_still_be_read() {
    EventsLock::new().aggregate::<Order>().check("events.lock");
}

/// The bytes are those that releases with versions 1 and 2 of `order.placed` wrote.
#[tokio::test]
async fn events_of_earlier_versions_load() {
    let store = InMemoryEventStore::new();
    // Customer 2, 19970112 and 1200 in bincode: numbers above 250 take two or four bytes after a
    // marker.
    let v1 = [&[2][..], &[252, 64, 184, 48, 1], &[251, 176, 4]].concat();
    let v2 = [&[2][..], &[252, 64, 184, 48, 1], &[3], &[251, 176, 4]].concat();
    for (id, schema, bytes) in [("v1", 1, v1), ("v2", 2, v2)] {
        let stream = Order::id(id).stream();
        let event = new_event("order.placed", bytes).schema(schema).build();
        let append = append(stream.clone()).new_event(event).build();
        store.append_events(store.log().partition_of(&stream), &[append]).await.unwrap();
    }
    let app = App::builder(store).aggregate::<Order>(()).build().unwrap();
    for (id, units) in [("v1", 1), ("v2", 3)] {
        let order = app.handle(&Order::id(id));
        let state = order.state(Order::clone).await.unwrap();
        let details = Details { units, ..details() };
        assert_eq!(state, Order::Placed { details, shipped: 0 });
        // New commands work on them.
        let receipt = order.send(ship(None)).await.unwrap();
        assert_eq!(receipt.version, Version::new(2));
    }
}
