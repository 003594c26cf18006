//! The whole app, on virtual time.

use std::time::{Duration, Instant};

use composable_rust::SqlReadModel;
use composable_rust::prelude::*;
use composable_rust::testing::{FakeAnswer, FakeGateway, World};
use tempfile::TempDir;

use crate::cards::{CardFailure, CardResponse};
use crate::renewal::Phase;
use crate::subscription::Status;
use crate::{
    CardRequest, Cards, DAY, Invoice, Plan, Renewal, Report, Subscription,
    SubscriptionCommand as Command, billing, demo,
};

const SECOND: Duration = Duration::from_secs(1);

pub(super) struct Service {
    pub(super) world: World,
    pub(super) model: SqlReadModel,
    _folder: TempDir,
}

impl Service {
    pub(super) async fn start(cards: &FakeGateway<Cards>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("figures.db").display());
        let model = Report::open(&url).await.unwrap();
        let (cards, figures) = (cards.clone(), model.clone());
        let noon = "2025-01-01T12:00:00Z".parse().unwrap();
        let world = World::at(noon, move |app| billing(app, cards.clone(), figures.clone()));
        Self { world, model, _folder: folder }
    }

    async fn send(&self, id: &str, command: Command) {
        self.world.app().handle(&Subscription::id(id)).send(command).await.unwrap();
        self.world.settle().await;
    }

    /// Starts a subscription and ends its trial.
    async fn subscribe(&self, id: &str) {
        let (customer, card) = (id.to_owned(), id.to_owned());
        let start = Command::StartTrial { customer, plan: Plan::Pro, card };
        self.world.app().handle(&Subscription::id(id)).send(start).await.unwrap();
        self.send(id, Command::Activate).await;
    }

    async fn status(&self, id: &str) -> Status {
        let subscription = self.world.app().handle(&Subscription::id(id));
        subscription.state(|subscription| subscription.status).await.unwrap()
    }

    async fn invoice(&self, id: &str, month: u32) -> Invoice {
        let id = Invoice::id_from(&format!("{id}/{month}"));
        self.world.app().handle(&id).state(Invoice::clone).await.unwrap()
    }

    async fn renewal(&self, id: &str) -> Renewal {
        self.world.app().handle(&Renewal::id(id)).state(Renewal::clone).await.unwrap()
    }

    async fn report(&self) -> Report {
        Report::read(&self.model).await.unwrap()
    }
}

fn done() -> FakeAnswer<Cards> {
    FakeAnswer::done(CardResponse::Done)
}

/// A processor that declines the charges of these cards with these numbers.
fn declining(declined: &'static [(&str, u32)]) -> FakeGateway<Cards> {
    FakeGateway::new().answers_with(move |request| match request {
        CardRequest::Charge { card, number, .. }
            if declined.contains(&(card.as_str(), *number)) =>
        {
            FakeAnswer::decline(CardFailure::Declined)
        }
        _ => done(),
    })
}

#[tokio::test]
async fn three_months_of_dunning() {
    let began = Instant::now();
    let cards =
        declining(&[("bad", 2), ("bad", 3), ("bad", 4), ("bad", 5), ("late", 2), ("late", 3)]);
    let service = Service::start(&cards).await;
    for id in ["good", "bad", "late"] {
        service.subscribe(id).await;
    }
    assert_eq!(service.report().await.plans[0].subscriptions, 3);
    // One and three days after the second month began, the charges are repeated.
    service.world.pass(31 * DAY).await;
    assert_eq!(service.status("good").await, Status::Active);
    assert_eq!(service.status("bad").await, Status::PastDue);
    assert_eq!(service.report().await.open_invoices.len(), 2);
    assert_eq!(service.report().await.stuck_renewals[0].what, "renewal.declined");
    service.world.pass(64 * DAY).await;
    println!("three months of dunning: {:?}", began.elapsed());
    assert_eq!(service.status("good").await, Status::Active);
    assert_eq!(service.status("late").await, Status::Active);
    assert_eq!(service.status("bad").await, Status::Ended);
    assert_eq!(service.invoice("bad", 1).await, Invoice::Paid);
    assert_eq!(service.invoice("bad", 2).await, Invoice::Void);
    let Report { plans, open_invoices, stuck_renewals } = service.report().await;
    assert_eq!((plans.len(), plans[0].subscriptions, plans[0].mrr_cents), (1, 2, 5_800));
    assert_eq!((open_invoices, stuck_renewals), (vec![], vec![]));
    // Four months each; one charge of `bad` succeeded, and two of `late` did not.
    assert_eq!(cards.calls().len(), 4 + (1 + 4) + (4 + 2));
    cards.finish();
}

#[tokio::test]
async fn an_unknown_outcome_is_asked_for_again() {
    let cards =
        FakeGateway::new().answers((0..5).map(|_| FakeAnswer::fail("503"))).answers([done()]);
    let service = Service::start(&cards).await;
    service.subscribe("ann").await;
    service.world.pass(DAY / 2).await;
    assert_eq!(service.invoice("ann", 1).await, Invoice::Open);
    assert_eq!(service.report().await.stuck_renewals[0].what, "renewal.unanswered");
    service.world.pass(DAY).await;
    assert_eq!(service.invoice("ann", 1).await, Invoice::Paid);
    assert_eq!(service.report().await.stuck_renewals, vec![]);
    let keys: Vec<_> = cards.calls().iter().map(|call| call.idempotency_key.clone()).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    cards.finish();
}

#[tokio::test]
async fn a_charge_that_comes_too_late_is_refunded() {
    let cards = FakeGateway::new().answers([done().after(3 * SECOND), done()]);
    let service = Service::start(&cards).await;
    service.subscribe("ann").await;
    service.send("ann", Command::Cancel { win_back: true }).await;
    assert_eq!(service.invoice("ann", 1).await, Invoice::Void);
    service.world.pass(3 * SECOND).await;
    assert_eq!(cards.requests()[1], CardRequest::Refund { subscription: "ann".into(), number: 1 });
    assert!(service.renewal("ann").await.is_finished());
    service.world.pass(95 * DAY).await;
    cards.finish();
}

#[tokio::test]
async fn what_is_unknown_at_the_end_is_refunded() {
    let cards =
        FakeGateway::new().answers((0..5).map(|_| FakeAnswer::fail("503"))).answers([done()]);
    let service = Service::start(&cards).await;
    service.subscribe("ann").await;
    service.world.pass(DAY / 2).await;
    service.send("ann", Command::Cancel { win_back: true }).await;
    assert_eq!(service.renewal("ann").await.phase, Phase::Charging);
    service.world.pass(DAY).await;
    assert!(matches!(cards.requests()[5], CardRequest::Refund { .. }));
    assert!(service.renewal("ann").await.is_finished());
    assert_eq!(service.report().await.stuck_renewals, vec![]);
    cards.finish();
}

#[tokio::test]
async fn a_new_card_ends_the_dunning() {
    let cards = declining(&[("ann", 1)]);
    let service = Service::start(&cards).await;
    service.subscribe("ann").await;
    assert_eq!(service.status("ann").await, Status::PastDue);
    service.send("ann", Command::UpdateCard { card: "amex".into() }).await;
    assert_eq!(service.status("ann").await, Status::Active);
    service.send("ann", Command::ChangePlan { plan: Plan::Team }).await;
    assert_eq!(service.report().await.plans[0].mrr_cents, 9_900);
    service.world.pass(31 * DAY).await;
    let CardRequest::Charge { amount, card, .. } = cards.requests()[2].clone() else { panic!() };
    assert_eq!((amount.0, card.as_str()), (9_900, "amex"));
    cards.finish();
}

#[tokio::test]
async fn a_crash_during_the_dunning_changes_nothing() {
    let cards = declining(&[("ann", 1), ("ann", 2), ("ann", 3)]);
    let mut service = Service::start(&cards).await;
    service.subscribe("ann").await;
    for _ in 0..12 {
        service.world.pass(DAY).await;
        service.world.restart().await;
    }
    assert_eq!(service.status("ann").await, Status::Active);
    assert_eq!(cards.calls().len(), 4);
    cards.finish();
}

#[tokio::test]
async fn a_cancelled_trial_costs_nothing() {
    let cards = FakeGateway::<Cards>::new();
    let service = Service::start(&cards).await;
    let start =
        Command::StartTrial { customer: "ann".into(), plan: Plan::Pro, card: "visa".into() };
    service.send("ann", start).await;
    service.world.pass(13 * DAY).await;
    service.send("ann", Command::Cancel { win_back: false }).await;
    service.world.pass(95 * DAY).await;
    assert_eq!(service.report().await.plans, vec![]);
    cards.finish();
}

#[tokio::test]
async fn the_demo_runs() {
    demo::run().await.unwrap();
}
