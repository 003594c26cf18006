//! The assertions of given/when/then.

use std::time::Duration;

use composable_rust_core::prelude::*;
use composable_rust_testing::given;
use serde::{Deserialize, Serialize};

pub(crate) const PATIENCE: Duration = Duration::from_secs(1_800);

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Order {
    #[default]
    New,
    Placed {
        items: u32,
        by: Option<String>,
    },
    Shipped,
    Expired,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum OrderCommand {
    Place {
        items: u32,
    },
    Ship {
        tracking: String,
    },
    Look,
    #[message(internal)]
    Expire,
    Picked(Reply<Warehouse>),
}

#[derive(Debug, Clone, PartialEq, Eq, Message)]
pub(crate) enum OrderEvent {
    Placed { items: u32, by: Option<String>, at: Timestamp },
    Counted { left: u32 },
    Shipped { tracking: String },
    Expired,
}

#[derive(Debug, Clone, PartialEq, Eq, Message)]
pub(crate) enum OrderError {
    NoItems,
    TooMany { limit: u32 },
    NotAllowed,
}

/// Has a default, so a test may omit it.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) items: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { items: 10 }
    }
}

/// An aggregate of another service.
pub(crate) struct Warehouse;

#[derive(Debug, Clone, PartialEq, Eq, Message)]
pub(crate) enum WarehouseCommand {
    Pick { items: u32 },
    Forget,
}

#[derive(Debug, Clone, PartialEq, Eq, Message)]
pub(crate) enum WarehouseEvent {
    Picked,
}

#[derive(Debug, Clone, PartialEq, Eq, Message)]
pub(crate) enum WarehouseError {
    Empty,
}

impl composable_rust_core::Target for Warehouse {
    const NAME: &'static str = "warehouse";
    type Command = WarehouseCommand;
    type Event = WarehouseEvent;
    type Rejection = WarehouseError;
}

use {OrderCommand as In, OrderError as No, OrderEvent as Out};

impl Aggregate for Order {
    const NAME: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = OrderError;
    type Environment = Limits;

    fn decide(&self, command: In, ctx: &Context<Self>) -> Decision<Self> {
        let limit = ctx.env().items;
        match (self, command) {
            (Self::New, In::Place { items: 0 }) => reject(No::NoItems),
            (Self::New, In::Place { items }) if items > limit => reject(No::TooMany { limit }),
            (Self::New, In::Place { items }) => {
                let by = ctx.user().map(str::to_owned);
                record_all([
                    Out::Placed { items, by, at: ctx.now() },
                    Out::Counted { left: limit - items },
                ])
            }
            (Self::Placed { items, .. }, In::Look) => repeat(Out::Counted { left: *items }),
            (Self::Placed { .. }, In::Ship { tracking }) => record(Out::Shipped { tracking })
                .with(effects![tell(&warehouse(), WarehouseCommand::Forget)]),
            (Self::Placed { .. }, In::Expire) => record(Out::Expired),
            (_, In::Expire | In::Picked(_)) => unchanged(),
            _ => reject(No::NotAllowed),
        }
    }

    fn apply(&mut self, event: Out) {
        match event {
            Out::Placed { items, by, .. } => *self = Self::Placed { items, by },
            Out::Counted { .. } => {}
            Out::Shipped { .. } => *self = Self::Shipped,
            Out::Expired => *self = Self::Expired,
        }
    }

    fn react(&self, event: &Out, _: &Context<Self>) -> Reactions<In> {
        match event {
            Out::Placed { items, .. } => effects![
                dispatch(&warehouse(), WarehouseCommand::Pick { items: *items }),
                after(PATIENCE, In::Expire).with_id("patience"),
            ],
            Out::Shipped { .. } => effects![cancel("patience")],
            Out::Counted { .. } | Out::Expired => effects![],
        }
    }

    fn is_finished(&self) -> bool {
        *self == Self::Shipped
    }
}

pub(crate) fn warehouse() -> Id<Warehouse> {
    Warehouse::id("north")
}

pub(crate) fn placed() -> OrderEvent {
    Out::Placed { items: 2, by: None, at: Timestamp::EPOCH }
}

pub(crate) fn ship() -> OrderCommand {
    In::Ship { tracking: "T1".to_owned() }
}

#[test]
fn a_command_records_events_and_causes_effects() {
    let noon: Timestamp = "2025-03-01T12:00:00Z".parse().unwrap();
    given::<Order>([])
        .at(noon)
        .by("ann")
        .env(Limits { items: 3 })
        .id(Order::id("7"))
        .when(In::Place { items: 2 })
        .then([
            Out::Placed { items: 2, by: Some("ann".to_owned()), at: noon },
            Out::Counted { left: 1 },
        ])
        .reacts(effects![
            dispatch(&warehouse(), WarehouseCommand::Pick { items: 2 }),
            after(PATIENCE, In::Expire).with_id("patience"),
        ])
        .then_state(Order::Placed { items: 2, by: Some("ann".to_owned()) })
        .when(In::Place { items: 2 })
        .then_rejected(No::NotAllowed);
}

#[test]
fn reactions_come_before_what_the_decision_attaches() {
    given::<Order>([placed()])
        .when(ship())
        .then([Out::Shipped { tracking: "T1".to_owned() }])
        .reacts(effects![cancel("patience"), tell(&warehouse(), WarehouseCommand::Forget)])
        .then_finished();
}

#[test]
fn a_decision_may_be_a_repeat_or_unchanged() {
    given::<Order>([placed()]).when(In::Look).then_repeated(Out::Counted { left: 2 });
    given::<Order>([]).when(In::Expire).then_unchanged();
    let reply = Reply::Recorded(WarehouseEvent::Picked);
    given::<Order>([placed()]).when(In::Picked(reply)).then_unchanged();
    let refusal = Reply::Rejected(WarehouseError::Empty);
    given::<Order>([placed()]).when(In::Picked(refusal)).then([]);
}

#[test]
fn time_user_and_environment_change_between_commands() {
    let later = Timestamp::EPOCH + Duration::from_secs(60);
    given::<Order>([])
        .when(In::Place { items: 11 })
        .then_rejected(No::TooMany { limit: 10 })
        .env(Limits { items: 11 })
        .when(In::Place { items: 0 })
        .then_rejected(No::NoItems)
        .at(later)
        .by("bob")
        .when(In::Place { items: 11 })
        .then_matching(|events| matches!(events, [Out::Placed { at, .. }, _] if *at == later))
        .state(|order| assert!(matches!(order, Order::Placed { by: Some(by), .. } if by == "bob")))
        .reacts(effects![
            dispatch(&warehouse(), WarehouseCommand::Pick { items: 11 }),
            after(PATIENCE, In::Expire).with_id("patience"),
        ]);
}

#[test]
fn failures_show_the_line_of_the_test() {
    let mut line = 0;
    let said = crate::failing::said(|| {
        line = line!() + 1;
        given::<Order>([]).when(In::Expire).then([Out::Expired]);
    });
    assert_eq!((said.line, said.file.ends_with("given.rs")), (line, true));
}
