//! Given/then of policies, followers and projections.

use std::collections::BTreeMap;
use std::convert::Infallible;

use composable_rust_core::prelude::*;
use composable_rust_core::{EventSet, Projection, ProjectionError, Recorded, StreamId};
use composable_rust_testing::{InMemoryReadModel, given_event};

macro_rules! target {
    ($target:ident, $name:literal, $command:ident, $event:ident) => {
        pub(crate) enum $target {}

        impl Target for $target {
            const NAME: &'static str = $name;
            type Command = $command;
            type Event = $event;
            type Rejection = Infallible;
        }
    };
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum ClubCommand {
    Join,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum ClubEvent {
    Joined { name: String },
    Left,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum InvoiceCommand {
    Write {
        name: String,
    },
    Void,
    #[message(internal)]
    Overdue,
    Heard(Heard<Club>),
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum InvoiceEvent {
    Paid { cents: i64 },
}

target!(Club, "club", ClubCommand, ClubEvent);
target!(Invoice, "invoice", InvoiceCommand, InvoiceEvent);

#[derive(Debug, Clone, PartialEq, EventSet)]
pub(crate) enum Billing {
    Club(ClubEvent),
    Invoice(InvoiceEvent),
}

pub(crate) fn joined() -> ClubEvent {
    ClubEvent::Joined { name: "Ann".to_owned() }
}

pub(crate) fn member() -> Id<Club> {
    Club::id("7")
}

/// Writes an invoice for each new member.
pub(crate) fn bill(recorded: &Recorded<ClubEvent>) -> Option<(Id<Invoice>, InvoiceCommand)> {
    let id = Invoice::id(format!("{}-{}", recorded.stream.id(), recorded.version));
    match &recorded.event {
        ClubEvent::Joined { name } => Some((id, InvoiceCommand::Write { name: name.clone() })),
        ClubEvent::Left => None,
    }
}

pub(crate) fn invoice_of(recorded: &Recorded<ClubEvent>) -> Option<Id<Invoice>> {
    (recorded.event == ClubEvent::Left).then(|| Invoice::id(recorded.stream.id()))
}

#[test]
fn a_policy_is_called_with_what_is_given() {
    let write = InvoiceCommand::Write { name: "Ann".to_owned() };
    given_event(&member(), joined())
        .policy(bill)
        .then([(Invoice::id("7-1"), write.clone())])
        .follower(invoice_of)
        .then([]);
    given_event(&member(), joined())
        .event(&member(), ClubEvent::Left)
        .event(&member(), joined())
        .event(&Club::id("8"), joined())
        .policy(bill)
        .then(["7-1", "7-3", "8-1"].map(|id| (Invoice::id(id), write.clone())));
}

#[test]
fn the_time_and_the_user_are_those_given() {
    let noon: Timestamp = "2025-03-01T12:00:00Z".parse().unwrap();
    given_event(&member(), joined())
        .at(noon)
        .by("ann")
        .policy(|recorded| {
            assert_eq!((recorded.recorded_at, recorded.position.offset), (noon, 1));
            let user = recorded.metadata.clone().and_then(|metadata| metadata.user);
            user.map(|name| (Invoice::id("1"), InvoiceCommand::Write { name }))
        })
        .then([(Invoice::id("1"), InvoiceCommand::Write { name: "ann".to_owned() })]);
    given_event(&member(), joined()).erased().policy(bill).then([]);
}

#[test]
fn a_policy_may_read_a_set() {
    let void = |recorded: &Recorded<Billing>| match &recorded.event {
        Billing::Club(ClubEvent::Left) => Some((Invoice::id("1"), InvoiceCommand::Void)),
        Billing::Club(ClubEvent::Joined { .. }) | Billing::Invoice(_) => None,
    };
    given_event(&member(), ClubEvent::Left)
        .event(&Invoice::id("1"), InvoiceEvent::Paid { cents: 5 })
        .read_as::<Billing>()
        .policy(void)
        .then([(Invoice::id("1"), InvoiceCommand::Void)]);
}

#[test]
fn a_follower_names_recipients() {
    given_event(&member(), ClubEvent::Left).follower(invoice_of).then([Invoice::id("7")]);
    given_event(&member(), ClubEvent::Left)
        .follower(|_| ["a", "b"].map(Invoice::id))
        .then([Invoice::id("a"), Invoice::id("b")]);
}

/// The sum of each stream.
#[derive(Default)]
pub(crate) struct Sums {
    pub(crate) keeps_all: bool,
}

pub(crate) type Cents = BTreeMap<String, i64>;

impl Projection for Sums {
    const NAME: &'static str = "sums";
    type Events = Billing;
    type Connection = Cents;

    async fn project(
        &self,
        recorded: &Recorded<Billing>,
        sums: &mut Cents,
    ) -> Result<(), ProjectionError> {
        let key = recorded.stream.to_string();
        match &recorded.event {
            Billing::Club(ClubEvent::Joined { .. }) => {
                if sums.insert(key, 0).is_some() {
                    return Err("has joined before".into());
                }
            }
            Billing::Club(ClubEvent::Left) => return Err("nobody leaves".into()),
            Billing::Invoice(InvoiceEvent::Paid { cents }) => {
                *sums.entry(key).or_default() += cents;
            }
        }
        Ok(())
    }

    async fn clear(&self, sums: &mut Cents) -> Result<(), ProjectionError> {
        if !self.keeps_all {
            sums.clear();
        }
        Ok(())
    }

    async fn erase(&self, stream: &StreamId, sums: &mut Cents) -> Result<(), ProjectionError> {
        sums.remove(stream.as_str());
        Ok(())
    }
}

#[tokio::test]
async fn a_projection_reads_its_own_set() {
    let model = InMemoryReadModel::default();
    let sums = [("club-7", 0), ("invoice-1", 12)].map(|(key, cents)| (key.to_owned(), cents));
    given_event(&member(), joined())
        .event(&Invoice::id("1"), InvoiceEvent::Paid { cents: 5 })
        .event(&Invoice::id("1"), InvoiceEvent::Paid { cents: 7 })
        .projection(&Sums::default(), &model)
        .await
        .then(sums.clone().into());
    // The read model remains for the next events.
    given_event(&member(), joined())
        .erased()
        .projection(&Sums::default(), &model)
        .await
        .then(sums.into_iter().skip(1).collect());
}
