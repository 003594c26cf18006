//! An aggregate with every fault that given/when/then finds by itself.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use composable_rust_core::prelude::*;
use serde::{Deserialize, Serialize};

use crate::given::Order;

/// State outside the aggregate, which decisions must not read.
static GLOBAL: AtomicU32 = AtomicU32::new(0);

fn next() -> u32 {
    GLOBAL.fetch_add(1, Ordering::Relaxed) % 2
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Faulty {
    total: u32,
    #[serde(skip)]
    forgotten: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Message)]
pub(crate) enum FaultyCommand {
    /// Records an event that the default codec cannot decode.
    Skip,
    /// Records an event that JSON cannot encode.
    Map,
    /// Records an event that loses a field.
    Round,
    /// Decides by the global.
    Decide,
    /// Returns an effect that depends on the global.
    React,
    /// Applies the global.
    Apply,
    /// Changes a field that snapshots omit.
    Forget,
    /// Is rejected with a value that the default codec cannot decode.
    Refuse,
    /// Arms a timer with a command that is not internal.
    Arm,
    /// Dispatches an internal command.
    Forge,
    Lost(Part),
    /// Dispatches a command that the default codec cannot decode.
    Pass,
    /// Records a value that does not equal itself.
    Weigh,
}

/// Is encoded without its note, and cannot be decoded without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<u32>,
    more: u32,
}

pub(crate) const PART: Part = Part { note: None, more: 7 };

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum FaultyEvent {
    Skipped(Part),
    Mapped {
        pairs: std::collections::BTreeMap<Vec<u32>, u32>,
    },
    Rounded {
        #[serde(skip)]
        cents: u32,
    },
    Decided {
        n: u32,
    },
    Reacted,
    Applied,
    Forgotten,
    Weighed {
        kg: f64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Message)]
pub(crate) enum FaultyError {
    Skipped(Part),
}

use {FaultyCommand as In, FaultyError as No, FaultyEvent as Out};

impl Aggregate for Faulty {
    const NAME: &'static str = "faulty";
    type Command = FaultyCommand;
    type Event = FaultyEvent;
    type Rejection = FaultyError;
    type Environment = ();

    fn decide(&self, command: In, _: &Context<Self>) -> Decision<Self> {
        match command {
            In::Skip => record(Out::Skipped(PART)),
            In::Map => record(Out::Mapped { pairs: [(vec![1, 2], 3)].into() }),
            In::Round => record(Out::Rounded { cents: 99 }),
            In::Decide => record(Out::Decided { n: next() }),
            In::React => record(Out::Reacted),
            In::Apply => record(Out::Applied),
            In::Forget => record(Out::Forgotten),
            In::Refuse => reject(No::Skipped(PART)),
            In::Arm => unchanged().with(effects![after(Duration::from_secs(1), In::Apply)]),
            In::Forge => {
                let expire = crate::given::OrderCommand::Expire;
                unchanged().with(effects![tell(&Order::id("1"), expire)])
            }
            In::Lost(_) => unchanged(),
            In::Pass => unchanged().with(effects![tell(&Self::id("2"), In::Lost(PART))]),
            In::Weigh => record(Out::Weighed { kg: f64::NAN }),
        }
    }

    fn apply(&mut self, event: Out) {
        match event {
            Out::Applied => self.total += next(),
            Out::Forgotten => self.forgotten += 1,
            _ => {}
        }
    }

    fn react(&self, event: &Out, _: &Context<Self>) -> Reactions<In> {
        match event {
            Out::Reacted => effects![cancel(format!("timer-{}", next()))],
            _ => effects![],
        }
    }
}
