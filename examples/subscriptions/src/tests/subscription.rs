//! The subscription by itself.

use composable_rust::codec::Format;
use composable_rust::prelude::*;
use composable_rust::testing::given;

use super::terms;
use crate::subscription::SubscriptionRejection;
use crate::{
    DAY, Money, Plan, Renewal, RenewalEvent, Subscription, SubscriptionCommand as Command,
    SubscriptionEvent as Event, Terms,
};

fn trial() -> Event {
    Event::TrialStarted {
        customer: "ann".into(),
        terms: terms("visa"),
        until: Timestamp::EPOCH + 14 * DAY,
    }
}

fn heard(event: RenewalEvent) -> Command {
    Command::Renewal(Heard::of(&Renewal::id("1"), event))
}

#[test]
fn a_trial_becomes_a_subscription() {
    let start =
        Command::StartTrial { customer: "ann".into(), plan: Plan::Pro, card: "visa".into() };
    given::<Subscription>([])
        .when(start.clone())
        .then([trial()])
        .reacts(effects![at(Timestamp::EPOCH + 14 * DAY, Command::TrialEnded)])
        .when(start)
        .then_rejected(SubscriptionRejection::AlreadyStarted)
        .when(Command::TrialEnded)
        .then([Event::Activated(terms("visa"))])
        .when(Command::Activate)
        .then_unchanged();
    given::<Subscription>([trial()])
        .when(Command::Activate)
        .then([Event::Activated(terms("visa"))])
        .when(Command::TrialEnded)
        .then_unchanged();
    given::<Subscription>([]).when(Command::Activate).then_rejected(SubscriptionRejection::Unknown);
}

#[test]
fn plan_and_card_change() {
    let changed = Terms { plan: Plan::Team, price: Money(9_900), card: "visa".into() };
    given::<Subscription>([trial(), Event::Activated(terms("visa"))])
        .when(Command::ChangePlan { plan: Plan::Team })
        .then([Event::PlanChanged(changed.clone())])
        .when(Command::ChangePlan { plan: Plan::Team })
        .then_unchanged()
        .when(Command::UpdateCard { card: "amex".into() })
        .then([Event::CardUpdated(Terms { card: "amex".into(), ..changed })])
        .when(Command::UpdateCard { card: "amex".into() })
        .then_unchanged();
}

#[test]
fn it_hears_its_renewal() {
    given::<Subscription>([trial(), Event::Activated(terms("visa"))])
        .when(heard(RenewalEvent::Declined { declines: 1 }))
        .then([Event::BecamePastDue])
        .when(heard(RenewalEvent::Declined { declines: 2 }))
        .then_unchanged()
        .when(heard(RenewalEvent::Paid))
        .then([Event::Recovered])
        .when(heard(RenewalEvent::GaveUp))
        .then([Event::Lapsed])
        .then_finished()
        .when(heard(RenewalEvent::Paid))
        .then_rejected(SubscriptionRejection::Ended);
}

#[test]
fn a_cancellation_without_win_back_is_read() {
    given::<Subscription>([trial()])
        .when(Command::Cancel { win_back: false })
        .then([Event::Cancelled { win_back: false }])
        .when(Command::Cancel { win_back: false })
        .then_rejected(SubscriptionRejection::Ended);
    let old = Event::decode("subscription.cancelled", 1, Format::Json, b"{}").unwrap();
    assert_eq!(old, Event::Cancelled { win_back: true });
    let old = Command::decode("subscription.cancel", 1, Format::Binary, b"").unwrap();
    assert_eq!(old, Command::Cancel { win_back: true });
}
