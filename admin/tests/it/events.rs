//! Searches of the log, page by page.

use std::collections::BTreeSet;

use composable_rust_admin::{Admin, EventQuery, Operator};
use composable_rust_core::TargetExt as _;
use composable_rust_testing::InMemoryEventStore;

use crate::shop::{Order, OrderCommand, shop};

/// On a clock that stands still, all events have the same time.
#[tokio::test]
async fn pages_of_events_with_equal_times_miss_and_repeat_none() {
    let app = shop(InMemoryEventStore::new());
    for n in 0..60 {
        let order = app.handle(&Order::id((n % 13).to_string()));
        order.send(OrderCommand::Note).await.unwrap();
    }
    let admin = Admin::new(&app, Operator::named("ann"));
    for limit in [1, 2, 7, 59, 60, 61] {
        let mut query =
            EventQuery { category: Some("order".to_owned()), limit, ..EventQuery::default() };
        let (mut found, mut pages) = (Vec::new(), 0);
        loop {
            let page = admin.events(&query).await.unwrap();
            assert!(page.entries.len() <= limit);
            found.extend(page.entries.iter().map(|of| (of.recorded_at, of.position)));
            pages += 1;
            // As a text, as an operator passes it on.
            query.cursor = page.next.map(|next| next.to_string().parse().unwrap());
            if query.cursor.is_none() {
                break;
            }
            assert!(pages <= 61, "the cursor does not move");
        }
        let distinct: BTreeSet<_> = found.iter().copied().collect();
        assert_eq!((distinct.len(), found.len()), (60, 60), "pages of {limit}");
        assert!(found.is_sorted_by(|one, other| one > other), "pages of {limit}: {found:?}");
    }
}

#[tokio::test]
async fn a_page_ends_where_nothing_older_matches() {
    let app = shop(InMemoryEventStore::new());
    app.handle(&Order::id("1")).send(OrderCommand::Note).await.unwrap();
    let admin = Admin::new(&app, Operator::named("ann"));
    let query = |names: &[&str]| EventQuery {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        limit: 5,
        ..EventQuery::default()
    };
    let page = admin.events(&query(&["order.noted"])).await.unwrap();
    assert_eq!((page.entries.len(), page.next), (1, None));
    let page = admin.events(&query(&["order.placed"])).await.unwrap();
    assert_eq!((page.entries.len(), page.next), (0, None));
}
