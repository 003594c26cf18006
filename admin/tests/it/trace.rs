//! A workflow through two services.

use composable_rust_admin::{Admin, Operator, TraceNode, Via};
use composable_rust_core::{CorrelationId, TargetExt as _};
use composable_rust_testing::{InMemoryEventBus, World};
use uuid::Uuid;

use crate::shop::{Order, OrderCommand, Parcel, noon};

/// The stream, the connection and the events of a node and of those below it, indented.
fn outline(node: &TraceNode, depth: usize, found: &mut Vec<String>) {
    let names: Vec<_> = node.events.iter().map(|event| event.name.clone()).collect();
    let indent = "  ".repeat(depth);
    found.push(format!("{indent}{} {:?} {}", node.stream, node.via, names.join(" ")));
    for child in &node.children {
        outline(child, depth + 1, found);
    }
}

#[tokio::test]
async fn a_workflow_is_one_tree_across_services() {
    let bus = InMemoryEventBus::new();
    let (shop, warehouse) = (bus.clone(), bus.clone());
    let world = World::at(noon(), move |app| {
        app.aggregate::<Order>(()).event_bus(shop.clone()).remote::<Parcel>()
    });
    let world = world.with_service(move |app| {
        app.aggregate::<Parcel>(()).event_bus(warehouse.clone()).serve::<Parcel>()
    });
    let workflow = CorrelationId(Uuid::from_u128(7));
    let order = world.app().handle(&Order::id("1"));
    order.send(OrderCommand::Place { count: 3 }).correlated(workflow).await.unwrap();
    order.send(OrderCommand::Note).correlated(CorrelationId(Uuid::from_u128(8))).await.unwrap();
    world.settle().await;

    let operator = || Operator::named("ann");
    let (here, there) =
        (Admin::new(world.app(), operator()), Admin::new(world.service(1), operator()));
    let trace = here.trace(workflow, None, std::slice::from_ref(&there)).await.unwrap();
    let [root] = &*trace.roots else { panic!("{:#?}", trace.roots) };
    let mut found = Vec::new();
    outline(root, 0, &mut found);
    let expected = [
        "order-1 Command order.placed",
        "  parcel-1 Effect parcel.packed",
        "    order-1 Effect order.packed",
    ];
    assert_eq!(found, expected);
    assert_eq!(trace.waiting, []);
    assert_eq!(root.via, Via::Command);

    // Without the other service, what it did is left out, and its part hangs on the stream.
    let trace = here.trace(workflow, None, &[]).await.unwrap();
    let mut found = Vec::new();
    trace.roots.iter().for_each(|root| outline(root, 0, &mut found));
    assert_eq!(found, ["order-1 Command order.placed", "  order-1 Later order.packed"]);

    let found = here.workflow_of(&Order::id("1").stream()).await.unwrap();
    assert_eq!(found.0, workflow);
    let nothing = here.trace(CorrelationId(Uuid::from_u128(9)), None, &[]).await;
    assert!(matches!(nothing, Err(composable_rust_admin::AdminError::NotFound { .. })));
}
