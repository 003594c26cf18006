//! A subscription that is renewed by card, with dunning.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use composable_rust_core::environment::Clock as _;
use composable_rust_core::prelude::*;
use composable_rust_core::{
    CallError, CallOutcome, Gateway, Projection, ProjectionError, Recorded, StreamId,
};
use composable_rust_testing::MockClock;
use serde::{Deserialize, Serialize};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The days between the attempts at a charge.
const DUNNING: [u32; 3] = [3, 5, 7];

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) enum Phase {
    #[default]
    New,
    Charging,
    Paid,
    Dunning,
    Cancelled,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Renewal {
    pub(crate) phase: Phase,
    pub(crate) refusals: u32,
    id: String,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum RenewalCommand {
    Start,
    Stop,
    #[message(internal)]
    Charge,
    Answered(CallOutcome<Cards>),
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum RenewalEvent {
    Due { customer: String },
    Charged,
    Refused { refusals: u32 },
    Cancelled,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum Never {}

impl Aggregate for Renewal {
    const NAME: &'static str = "renewal";
    type Command = RenewalCommand;
    type Event = RenewalEvent;
    type Rejection = Never;
    type Environment = ();

    fn decide(&self, command: RenewalCommand, ctx: &Context<Self>) -> Decision<Self> {
        match command {
            _ if self.phase == Phase::Cancelled => unchanged(),
            RenewalCommand::Start | RenewalCommand::Charge => {
                record(RenewalEvent::Due { customer: ctx.id().as_str().to_owned() })
            }
            RenewalCommand::Stop => record(RenewalEvent::Cancelled),
            RenewalCommand::Answered(CallOutcome::Done(_)) => record(RenewalEvent::Charged),
            RenewalCommand::Answered(_) => {
                let refusals = self.refusals + 1;
                match refusals {
                    4.. => record(RenewalEvent::Cancelled),
                    _ => record(RenewalEvent::Refused { refusals }),
                }
            }
        }
    }

    fn apply(&mut self, event: RenewalEvent) {
        match event {
            RenewalEvent::Due { customer } => (self.phase, self.id) = (Phase::Charging, customer),
            RenewalEvent::Charged => (self.phase, self.refusals) = (Phase::Paid, 0),
            RenewalEvent::Refused { refusals } => {
                (self.phase, self.refusals) = (Phase::Dunning, refusals);
            }
            RenewalEvent::Cancelled => self.phase = Phase::Cancelled,
        }
    }

    fn react(&self, event: &RenewalEvent, _: &Context<Self>) -> Reactions<RenewalCommand> {
        let later = |days: u32| after(days * DAY, RenewalCommand::Charge).with_id("charge");
        match event {
            RenewalEvent::Due { customer } => {
                effects![call::<Cards>(Charge::Card { customer: customer.clone() })]
            }
            RenewalEvent::Charged => effects![later(30)],
            RenewalEvent::Refused { refusals } => {
                effects![later(DUNNING[*refusals as usize - 1])]
            }
            RenewalEvent::Cancelled => effects![cancel("charge")],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum Charge {
    Card { customer: String },
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum Declined {
    Declined,
}

/// A card processor that remembers its charges. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Cards(Arc<Mutex<Data>>);

#[derive(Debug, Default)]
struct Data {
    clock: Option<MockClock>,
    takes: Duration,
    declined: BTreeMap<String, BTreeSet<u32>>,
    calls: BTreeMap<String, u32>,
    /// The numbers of the requests, by customer and key.
    keys: BTreeMap<(String, String), u32>,
}

impl Cards {
    pub(crate) fn declining(charges: impl IntoIterator<Item = u32>) -> Self {
        let declined = [(String::new(), charges.into_iter().collect())].into();
        Self(Arc::new(Mutex::new(Data { declined, ..Data::default() })))
    }

    pub(crate) fn use_clock(&self, clock: &MockClock) {
        self.0.lock().unwrap().clock = Some(clock.clone());
    }

    /// Declines these charges of a customer, counted from 1.
    pub(crate) fn decline(&self, customer: &str, charges: impl RangeBounds<u32>) {
        let charges = (1..100).filter(|n| charges.contains(n)).collect();
        self.0.lock().unwrap().declined.insert(customer.to_owned(), charges);
    }

    /// Sets the time that each call takes.
    pub(crate) fn take(&self, time: Duration) {
        self.0.lock().unwrap().takes = time;
    }

    pub(crate) fn calls(&self, customer: &str) -> u32 {
        self.0.lock().unwrap().calls.get(customer).copied().unwrap_or(0)
    }

    /// The number of different keys.
    pub(crate) fn charges(&self, customer: &str) -> usize {
        self.0.lock().unwrap().keys.keys().filter(|(of, _)| of == customer).count()
    }
}

impl Gateway for Cards {
    const NAME: &'static str = "cards";
    type Request = Charge;
    type Response = Charge;
    type Failure = Declined;

    async fn call(&self, request: Charge, key: &str) -> Result<Charge, CallError<Declined>> {
        let Charge::Card { customer } = &request;
        let (sleep, number) = {
            let mut data = self.0.lock().unwrap();
            *data.calls.entry(customer.clone()).or_default() += 1;
            let next = u32::try_from(data.keys.keys().filter(|(of, _)| of == customer).count());
            let key = (customer.clone(), key.to_owned());
            let number = *data.keys.entry(key).or_insert(next.unwrap() + 1);
            let clock = data.clock.clone().filter(|_| !data.takes.is_zero());
            (clock.map(|clock| clock.sleep(data.takes)), number)
        };
        if let Some(sleep) = sleep {
            sleep.await;
        }
        let data = self.0.lock().unwrap();
        let is_declined = data.declined.get(customer).is_some_and(|of| of.contains(&number));
        if is_declined { Err(CallError::Failed(Declined::Declined)) } else { Ok(request) }
    }
}

/// A customer's access.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Access {
    pub(crate) blocked: bool,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum AccessCommand {
    Block,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum AccessEvent {
    Blocked,
}

impl Aggregate for Access {
    const NAME: &'static str = "access";
    type Command = AccessCommand;
    type Event = AccessEvent;
    type Rejection = Never;
    type Environment = ();

    fn decide(&self, AccessCommand::Block: AccessCommand, _: &Context<Self>) -> Decision<Self> {
        record(AccessEvent::Blocked)
    }

    fn apply(&mut self, AccessEvent::Blocked: AccessEvent) {
        self.blocked = true;
    }
}

/// Players who throw a ball to each other without end.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Circle {
    throws: u64,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum CircleCommand {
    Throw { to: String },
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum CircleEvent {
    Thrown { from: String, to: String },
}

impl Aggregate for Circle {
    const NAME: &'static str = "circle";
    type Command = CircleCommand;
    type Event = CircleEvent;
    type Rejection = Never;
    type Environment = ();

    fn decide(&self, command: CircleCommand, ctx: &Context<Self>) -> Decision<Self> {
        let CircleCommand::Throw { to } = command;
        record(CircleEvent::Thrown { from: ctx.id().as_str().to_owned(), to })
    }

    fn apply(&mut self, CircleEvent::Thrown { .. }: CircleEvent) {
        self.throws += 1;
    }

    fn react(&self, event: &CircleEvent, _: &Context<Self>) -> Reactions<CircleCommand> {
        let CircleEvent::Thrown { from, to } = event;
        let back = CircleCommand::Throw { to: from.clone() };
        effects![tell(&Circle::id(to.as_str()), back)]
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Takings {
    pub(crate) charges: u32,
}

/// Counts the charges.
pub(crate) struct Ledger;

impl Projection for Ledger {
    const NAME: &'static str = "ledger";
    type Events = Renewal;
    type Connection = Takings;

    async fn project(
        &self,
        recorded: &Recorded<RenewalEvent>,
        takings: &mut Takings,
    ) -> Result<(), ProjectionError> {
        takings.charges += u32::from(recorded.event == RenewalEvent::Charged);
        Ok(())
    }

    async fn erase(&self, _: &StreamId, _: &mut Takings) -> Result<(), ProjectionError> {
        Ok(())
    }

    async fn clear(&self, takings: &mut Takings) -> Result<(), ProjectionError> {
        *takings = Takings::default();
        Ok(())
    }
}
