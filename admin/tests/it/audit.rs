//! The operators' stream, page by page.

use std::time::Duration;

use composable_rust_admin::{Admin, AdminError, Intent, Operator};
use composable_rust_testing::{InMemoryEventStore, MockClock};

use crate::shop::noon;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn pages_of_the_audit_span_months_and_keep_results() {
    let clock = MockClock::at(noon());
    let store = InMemoryEventStore::new().with_clock(clock.clone());
    let ann = Operator::named("ann").because("T-1");
    let admin = Admin::of_store(store, ann).unwrap();
    for n in 0..25 {
        let result = if n % 5 == 0 {
            let failed = AdminError::NotAtHead;
            admin
                .audited(Intent::new("test", n.to_string()), async || Err::<((), _), _>(failed))
                .await
        } else {
            let done = async || Ok(((), format!("done {n}")));
            admin.audited(Intent::new("test", n.to_string()), done).await
        };
        assert_eq!(result.is_ok(), n % 5 != 0);
        clock.advance(DAY * 3);
    }
    for limit in [1, 4, 24, 25, 26] {
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let page = admin.audit(cursor, limit).await.unwrap();
            assert!(page.entries.len() <= limit);
            found.extend(page.entries);
            cursor = page.next.map(|next| next.to_string().parse().unwrap());
            if cursor.is_none() {
                break;
            }
        }
        let targets: Vec<_> = found.iter().map(|of| of.intent.target.clone()).collect();
        let expected: Vec<_> = (0..25).rev().map(|n| n.to_string()).collect();
        assert_eq!(targets, expected, "pages of {limit}");
        for of in &found {
            let n: u32 = of.intent.target.parse().unwrap();
            let result = of.result.as_deref().unwrap();
            assert_eq!(result.starts_with("failed: "), n % 5 == 0, "{result}");
            assert_eq!((&*of.operator, &*of.reason), ("ann", "T-1"));
        }
    }
}

/// An operation that is dropped has no result.
#[tokio::test]
async fn an_interrupted_operation_is_in_the_audit() {
    let admin = Admin::of_store(InMemoryEventStore::new(), Operator::named("ann")).unwrap();
    let endless = admin.audited(Intent::new("test", "endless"), async || {
        std::future::pending::<()>().await;
        Ok(((), String::new()))
    });
    tokio::time::timeout(Duration::from_millis(50), endless).await.unwrap_err();
    let page = admin.audit(None, 10).await.unwrap();
    assert_eq!((page.entries.len(), &page.entries[0].result), (1, &None));
}
