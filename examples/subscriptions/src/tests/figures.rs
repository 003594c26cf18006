//! The read model, on both databases.

use composable_rust::SqlReadModel;
use composable_rust::prelude::*;
use composable_rust::testing::{TestDatabase, given_event};

use super::terms;
use crate::figures::{PlanRow, WaitingRow};
use crate::{
    Figures, Invoice, InvoiceEvent, Money, Plan, Renewal, RenewalEvent, Report, Subscription,
    SubscriptionEvent, Terms,
};

async fn is_right_on(model: SqlReadModel) {
    let (ann, bob, eve) =
        (Subscription::id("ann"), Subscription::id("bob"), Subscription::id("eve"));
    let activated = SubscriptionEvent::Activated(terms("visa"));
    let team = Terms { plan: Plan::Team, price: Money(9_900), card: String::new() };
    let issued = InvoiceEvent::Issued { subscription: "eve".into(), amount: Money(2_900) };
    given_event(&ann, activated.clone())
        .event(&bob, activated.clone())
        .event(&bob, SubscriptionEvent::PlanChanged(team))
        .event(&eve, activated)
        .event(&eve, SubscriptionEvent::Lapsed)
        .event(&Invoice::id("1"), issued.clone())
        .event(&Invoice::id("2"), issued)
        .event(&Invoice::id("2"), InvoiceEvent::Paid)
        .event(&Renewal::id("eve"), RenewalEvent::Declined { declines: 1 })
        .event(&Renewal::id("eve"), RenewalEvent::Unanswered)
        .event(&Renewal::id("ann"), RenewalEvent::Declined { declines: 1 })
        .event(&Renewal::id("ann"), RenewalEvent::Paid)
        .projection(&Figures, &model)
        .await;
    let plan = |plan: &str, mrr_cents| PlanRow { plan: plan.into(), subscriptions: 1, mrr_cents };
    let waiting = |stream: &str, what: &str| WaitingRow {
        stream: stream.into(),
        what: what.into(),
        since: Timestamp::EPOCH.to_string(),
    };
    let report = Report {
        plans: vec![plan("pro", 2_900), plan("team", 9_900)],
        open_invoices: vec![waiting("invoice-1", "29.00 of eve")],
        stuck_renewals: vec![waiting("renewal-eve", "renewal.unanswered")],
    };
    assert_eq!(Report::read(&model).await.unwrap(), report);
}

#[tokio::test]
async fn it_is_right_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("figures.db").display());
    is_right_on(Report::open(&url).await.unwrap()).await;
}

#[tokio::test]
async fn it_is_right_on_postgres() {
    let database = TestDatabase::create().await;
    is_right_on(Report::open(&database.url()).await.unwrap()).await;
}
