//! The subscription: a trial, a plan, a card, and an end.

use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{DAY, Plan, Renewal, RenewalEvent, Terms};

/// A subscription of one customer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Subscription {
    pub(crate) status: Status,
    pub(crate) terms: Terms,
}

/// The status of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    #[default]
    New,
    Trial,
    Active,
    PastDue,
    Ended,
}

/// The commands of a subscription.
#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum SubscriptionCommand {
    /// Starts the trial.
    StartTrial {
        customer: String,
        plan: Plan,
        card: String,
    },
    /// Ends the trial early.
    Activate,
    /// Changes the plan; the price changes with the next month.
    ChangePlan {
        plan: Plan,
    },
    /// Replaces the card; an overdue month is charged at once.
    UpdateCard {
        card: String,
    },
    /// Cancels the subscription. With `win_back`, the customer may get an offer.
    #[message(version = 2)]
    Cancel {
        #[message(since = 2, default = true)]
        win_back: bool,
    },
    #[message(internal)]
    TrialEnded,
    Renewal(Heard<Renewal>),
}

/// The events of a subscription.
#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum SubscriptionEvent {
    TrialStarted {
        customer: String,
        terms: Terms,
        until: Timestamp,
    },
    Activated(Terms),
    PlanChanged(Terms),
    CardUpdated(Terms),
    BecamePastDue,
    Recovered,
    // The renewal gave up.
    Lapsed,
    #[message(version = 2)]
    Cancelled {
        #[message(since = 2, default = true)]
        win_back: bool,
    },
}

/// The reasons for which a subscription rejects a command.
#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum SubscriptionRejection {
    /// There is no such subscription.
    #[message(status = 404)]
    Unknown,
    /// The subscription was started before.
    AlreadyStarted,
    /// The subscription has ended.
    Ended,
}

use {SubscriptionCommand as Command, SubscriptionEvent as Event};

impl Aggregate for Subscription {
    const NAME: &'static str = "subscription";
    type Command = Command;
    type Event = Event;
    type Rejection = SubscriptionRejection;
    type Environment = ();

    fn decide(&self, command: Command, ctx: &Context<Self>) -> Decision<Self> {
        let terms = self.terms.clone();
        match (self.status, command) {
            (Status::New, Command::StartTrial { customer, plan, card }) => {
                let (price, until) = (plan.price(), ctx.now() + 14 * DAY);
                let terms = Terms { plan, price, card };
                record(Event::TrialStarted { customer, terms, until })
            }
            (Status::New, _) => reject(SubscriptionRejection::Unknown),
            (_, Command::StartTrial { .. }) => reject(SubscriptionRejection::AlreadyStarted),
            (Status::Ended, _) => reject(SubscriptionRejection::Ended),
            (Status::Trial, Command::Activate | Command::TrialEnded) => {
                record(Event::Activated(terms))
            }
            (_, Command::ChangePlan { plan }) if plan != terms.plan => {
                record(Event::PlanChanged(Terms { plan, price: plan.price(), ..terms }))
            }
            (_, Command::UpdateCard { card }) if card != terms.card => {
                record(Event::CardUpdated(Terms { card, ..terms }))
            }
            (_, Command::Cancel { win_back }) => record(Event::Cancelled { win_back }),
            (status, Command::Renewal(heard)) => match (status, heard.event) {
                (Status::Active, RenewalEvent::Declined { .. }) => record(Event::BecamePastDue),
                (Status::PastDue, RenewalEvent::Paid) => record(Event::Recovered),
                (_, RenewalEvent::GaveUp) => record(Event::Lapsed),
                _ => unchanged(),
            },
            _ => unchanged(),
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::TrialStarted { terms, .. } => (self.status, self.terms) = (Status::Trial, terms),
            Event::PlanChanged(terms) | Event::CardUpdated(terms) => self.terms = terms,
            Event::Activated(_) | Event::Recovered => self.status = Status::Active,
            Event::BecamePastDue => self.status = Status::PastDue,
            Event::Cancelled { .. } | Event::Lapsed => self.status = Status::Ended,
        }
    }

    fn react(&self, event: &Event, _: &Context<Self>) -> Reactions<Command> {
        match event {
            Event::TrialStarted { until, .. } => effects![at(*until, Command::TrialEnded)],
            _ => effects![],
        }
    }

    fn is_finished(&self) -> bool {
        self.status == Status::Ended
    }
}
