//! The renewal saga: an invoice and a charge each month, and dunning if the charge is declined.

use std::convert::Infallible;

use composable_rust::prelude::*;
use composable_rust::{CallOutcome, CallOutcome::Done};
use serde::{Deserialize, Serialize};

use crate::{CardRequest, Cards, DAY, Invoice, InvoiceCommand, Money};
use crate::{Subscription, SubscriptionEvent, Terms};

/// The days before each repetition of a declined charge.
pub(crate) const DUNNING: [u32; 3] = [1, 3, 7];

/// The renewal of the subscription with the same id.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Renewal {
    pub(crate) phase: Phase,
    /// `true` if the subscription has ended.
    pub(crate) is_stopped: bool,
    terms: Terms,
    /// The month, counted from 1, its price and its end.
    month: u32,
    amount: Money,
    renews_at: Option<Timestamp>,
    /// The number of the last charge, counted from 1, and its card.
    charge: u32,
    card: String,
    /// The number of declined charges of this month.
    declines: usize,
}

/// The phase of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Waits for the next month.
    #[default]
    Idle,
    /// Waits for the outcome of a charge.
    Charging,
    /// Waits until a declined charge is repeated.
    Dunning,
    /// Waits for the invoice to take the payment.
    Paying,
    /// Waits for the outcome of a refund.
    Refunding,
}

/// The commands of a renewal. None comes from outside.
#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum RenewalCommand {
    Subscription(Heard<Subscription>),
    /// It is time for the next month, for the next charge, or to ask again for an outcome.
    #[message(internal)]
    Due,
    Cards(CallOutcome<Cards>),
    Invoice(Reply<Invoice>),
}

/// The events of a renewal. A charge whose outcome is unknown is requested again under its number.
#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum RenewalEvent {
    Began { month: u32, terms: Terms, renews_at: Timestamp },
    TermsChanged(Terms),
    ChargeRequested { charge: u32, card: String },
    Unanswered,
    Charged,
    Declined { declines: usize },
    // The last repetition was declined.
    GaveUp,
    Paid,
    RefundRequested,
    Refunded,
    Stopped,
}

use {RenewalCommand as Command, RenewalEvent as Event, SubscriptionEvent as Sub};

impl Renewal {
    fn begin(&self, terms: Terms, ctx: &Context<Self>) -> Decision<Self> {
        let renews_at = self.renews_at.unwrap_or(ctx.now()) + 30 * DAY;
        let charge = self.charge(&terms);
        record_all([Event::Began { month: self.month + 1, terms, renews_at }, charge])
    }

    fn charge(&self, terms: &Terms) -> Event {
        Event::ChargeRequested { charge: self.charge + 1, card: terms.card.clone() }
    }

    fn hear(&self, event: SubscriptionEvent, ctx: &Context<Self>) -> Decision<Self> {
        match event {
            Sub::Activated(terms) => self.begin(terms, ctx),
            Sub::CardUpdated(terms) if self.phase == Phase::Dunning => {
                let charge = self.charge(&terms);
                record_all([Event::TermsChanged(terms), charge])
            }
            Sub::CardUpdated(terms) | Sub::PlanChanged(terms) => record(Event::TermsChanged(terms)),
            Sub::Cancelled { .. } | Sub::Lapsed => record(Event::Stopped),
            _ => unchanged(),
        }
    }
}

impl Aggregate for Renewal {
    const NAME: &'static str = "renewal";
    type Command = Command;
    type Event = Event;
    type Rejection = Infallible;
    type Environment = ();

    fn decide(&self, command: Command, ctx: &Context<Self>) -> Decision<Self> {
        match (self.phase, command) {
            (_, Command::Subscription(heard)) => self.hear(heard.event, ctx),
            (Phase::Idle, Command::Due) => self.begin(self.terms.clone(), ctx),
            (Phase::Dunning, Command::Due) => record(self.charge(&self.terms)),
            // Too late: the subscription has ended. A refund also settles what is unknown.
            (Phase::Charging, Command::Due | Command::Cards(Done(_))) if self.is_stopped => {
                record(Event::RefundRequested)
            }
            // Asks again with the same key, so the outcome is that of the first request.
            (Phase::Charging, Command::Due) => {
                record(Event::ChargeRequested { charge: self.charge, card: self.card.clone() })
            }
            (Phase::Charging, Command::Cards(Done(_))) => record(Event::Charged),
            (Phase::Charging, Command::Cards(CallOutcome::Failed(_))) => match self.declines + 1 {
                declines if declines > DUNNING.len() || self.is_stopped => record(Event::GaveUp),
                declines => record(Event::Declined { declines }),
            },
            (Phase::Refunding, Command::Cards(Done(_))) => record(Event::Refunded),
            (Phase::Charging | Phase::Refunding, Command::Cards(_)) => record(Event::Unanswered),
            (Phase::Paying, Command::Invoice(Reply::Recorded(_))) => record(Event::Paid),
            // Asks again, or comes too late: the invoice is void.
            (Phase::Refunding, Command::Due) | (Phase::Paying, Command::Invoice(_)) => {
                record(Event::RefundRequested)
            }
            _ => unchanged(),
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Began { month, terms, renews_at } => {
                (self.month, self.amount, self.declines) = (month, terms.price, 0);
                (self.terms, self.renews_at) = (terms, Some(renews_at));
            }
            Event::TermsChanged(terms) => self.terms = terms,
            Event::ChargeRequested { charge, card } => {
                (self.phase, self.charge, self.card) = (Phase::Charging, charge, card);
            }
            Event::Charged => self.phase = Phase::Paying,
            Event::Declined { declines } => {
                (self.phase, self.declines) = (Phase::Dunning, declines);
            }
            Event::RefundRequested => self.phase = Phase::Refunding,
            Event::GaveUp | Event::Paid | Event::Refunded => self.phase = Phase::Idle,
            Event::Stopped => self.is_stopped = true,
            Event::Unanswered => {}
        }
    }

    fn react(&self, event: &Event, ctx: &Context<Self>) -> Reactions<Command> {
        let (number, amount) = (self.charge, self.amount);
        let subscription = ctx.id().to_string();
        let invoice = Invoice::id_from(&format!("{subscription}/{}", self.month));
        let due = |days: u32| after(days * DAY, Command::Due).with_id("due");
        match event {
            Event::Began { .. } => {
                effects![tell(&invoice, InvoiceCommand::Issue { subscription, amount })]
            }
            Event::ChargeRequested { card, .. } => {
                let card = card.clone();
                let charge = CardRequest::Charge { subscription, number, card, amount };
                let charge = call::<Cards>(charge).idempotency_key(format!("charge-{number}"));
                effects![cancel("due"), charge]
            }
            Event::Charged => effects![dispatch(&invoice, InvoiceCommand::Pay)],
            Event::Declined { declines } => effects![due(DUNNING[declines - 1])],
            Event::Unanswered => effects![due(1)],
            Event::RefundRequested => {
                let refund = call::<Cards>(CardRequest::Refund { subscription, number });
                effects![cancel("due"), refund.idempotency_key(format!("refund-{number}"))]
            }
            Event::Paid | Event::Refunded if !self.is_stopped => {
                let next = |moment| effects![at(moment, Command::Due).with_id("due")];
                self.renews_at.map(next).unwrap_or_default()
            }
            Event::Stopped => effects![tell(&invoice, InvoiceCommand::Void)],
            _ => effects![],
        }
    }

    // Its timers end with it.
    fn is_finished(&self) -> bool {
        self.is_stopped && matches!(self.phase, Phase::Idle | Phase::Dunning)
    }
}
