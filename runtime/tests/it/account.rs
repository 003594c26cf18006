//! An account: the aggregate of most tests, which can be made to fail.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use composable_rust_core::Reply;
use composable_rust_core::prelude::*;
use composable_rust_core::store::EventStore;
use composable_rust_runtime::App;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) cents: i64,
    pub(crate) ended: bool,
    pub(crate) seen: Option<Seen>,
    pub(crate) units: u128,
    pub(crate) note: String,
}

/// Everything that a decision depends on besides state and command, so that a repeated decision
/// differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) at: Timestamp,
    pub(crate) by: Option<String>,
    pub(crate) process: u32,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum AccountCommand {
    Deposit {
        cents: i64,
    },
    Withdraw {
        cents: i64,
    },
    /// Records several events at once.
    Split(Vec<i64>),
    Touch,
    Ask,
    PayFrom {
        other: String,
        cents: i64,
    },
    /// Tells another account something, and records nothing.
    Nudge {
        other: String,
    },
    Remind,
    Forget,
    End,
    /// Leads to a state whose `is_finished` panics.
    PanicFinishing,
    PanicDeciding,
    PanicApplying,
    /// Records an event that does not survive the bincode format.
    Lossy,
    /// Tells another account something that does not survive the bincode format.
    TellLossy(String),
    TakeLossy(Lossy),
    Count {
        units: u128,
    },
    /// Stores a note in the state.
    Keep(String),
    /// Records an event that holds a NaN.
    Weigh,
    /// Records an event of this many bytes.
    Large(u32),
    #[message(internal)]
    Reminded,
    Paid(String, Reply<Account>),
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum AccountEvent {
    Deposited { cents: i64, seen: Seen },
    Withdrawn { cents: i64, seen: Seen },
    Asked { other: String, cents: i64 },
    ReminderSet,
    ReminderDropped,
    Ended,
    Poison,
    Lossy(Lossy),
    Counted { units: u128 },
    Kept(String),
    Weighed(f64),
    Large(String),
}

/// Bincode omits `note` when it encodes, and misses it when it decodes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Lossy {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    cents: i64,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum AccountError {
    Overdrawn { missing: i64 },
    Ended,
}

/// The number of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    /// A process with a number that no other app of the tests has.
    pub(crate) fn new() -> Self {
        static PROCESSES: AtomicU32 = AtomicU32::new(0);
        Self(PROCESSES.fetch_add(1, Ordering::Relaxed))
    }
}

use AccountCommand as In;
use AccountEvent as Out;

impl Aggregate for Account {
    const NAME: &'static str = "account";
    type Command = AccountCommand;
    type Event = AccountEvent;
    type Rejection = AccountError;
    type Environment = Process;

    fn decide(&self, command: AccountCommand, ctx: &Context<Self>) -> Decision<Self> {
        let by = ctx.user().map(str::to_owned);
        let seen = Seen { at: ctx.now(), by, process: ctx.env().0 };
        let deposited = |cents| Out::Deposited { cents, seen: seen.clone() };
        match command {
            _ if self.ended => reject(AccountError::Ended),
            In::Deposit { cents } => record(deposited(cents)),
            In::Withdraw { cents } if cents > self.cents => {
                reject(AccountError::Overdrawn { missing: cents - self.cents })
            }
            In::Withdraw { cents } => record(Out::Withdrawn { cents, seen }),
            In::Split(parts) => record_all(parts.into_iter().map(deposited)),
            In::Touch | In::Paid(..) | In::Reminded | In::TakeLossy(_) => unchanged(),
            In::Ask => repeat(deposited(self.cents)),
            In::PayFrom { other, cents } => record(Out::Asked { other, cents }),
            In::Nudge { other } => unchanged().with(effects![tell(&Account::id(other), In::Touch)]),
            In::Remind => record(Out::ReminderSet),
            In::Forget => record(Out::ReminderDropped),
            In::End => record(Out::Ended),
            In::PanicFinishing => record(deposited(i64::from(i32::MIN))),
            In::PanicDeciding => panic!("decide does not like this"),
            In::PanicApplying => record(Out::Poison),
            In::Lossy => record(Out::Lossy(Lossy { note: None, cents: 12_345 })),
            In::TellLossy(other) => {
                let lossy = In::TakeLossy(Lossy::default());
                unchanged().with(effects![tell(&Account::id(other), lossy)])
            }
            In::Count { units } => record(Out::Counted { units }),
            In::Keep(note) => record(Out::Kept(note)),
            In::Weigh => record(Out::Weighed(f64::NAN)),
            In::Large(bytes) => record(Out::Large("x".repeat(bytes as usize))),
        }
    }

    fn apply(&mut self, event: AccountEvent) {
        match event {
            Out::Deposited { cents, seen } => {
                self.cents += cents;
                self.seen = Some(seen);
            }
            Out::Withdrawn { cents, seen } => {
                self.cents -= cents;
                self.seen = Some(seen);
            }
            Out::Counted { units } => self.units += units,
            Out::Kept(note) => self.note = note,
            Out::Ended => self.ended = true,
            Out::Poison => {
                self.cents = -1_000_000;
                panic!("apply does not like this");
            }
            _ => {}
        }
    }

    fn react(&self, event: &AccountEvent, _: &Context<Self>) -> Reactions<AccountCommand> {
        match event {
            Out::Asked { other, cents } => effects![
                dispatch(&Account::id(other), In::Withdraw { cents: *cents })
                    .tag("rent".to_owned())
            ],
            Out::ReminderSet => {
                effects![after(Duration::from_secs(60), In::Reminded).with_id("reminder")]
            }
            Out::ReminderDropped => effects![cancel("reminder")],
            _ => Reactions::none(),
        }
    }

    fn is_finished(&self) -> bool {
        assert!(self.cents > -1_000_000, "is_finished does not like this");
        self.ended
    }
}

pub(crate) fn app(store: &(impl EventStore + Clone)) -> App {
    App::builder(store.clone()).aggregate::<Account>(Process::new()).build().expect("a correct app")
}
