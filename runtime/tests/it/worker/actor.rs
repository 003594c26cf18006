//! An actor: an aggregate that executes commands of the test, and a scripted gateway.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use composable_rust_core::prelude::*;
use composable_rust_core::{CallError, CallOutcome, Gateway, ReturnPath, reply_to};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use crate::account::Lossy;

/// The commands of an actor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Act {
    Note(u32),
    /// Executes several acts, with several events.
    Notes(Vec<u32>),
    Refuse,
    Nothing,
    Repeat(u32),
    /// Panics while the environment is broken, then notes.
    Fragile(u32),
    /// Panics as often as the environment says, or notes.
    Flaky(u32),
    Ask {
        to: String,
        tag: u32,
        act: Box<Act>,
    },
    /// Sends several requests from one event.
    AskAll(Vec<(String, u32, Act)>),
    AskDetached {
        to: String,
        tag: u32,
        act: Box<Act>,
    },
    /// Sends a request without recording an event.
    AskSilently {
        to: String,
        tag: u32,
        act: Box<Act>,
    },
    Tell {
        to: String,
        act: Box<Act>,
    },
    Call {
        tag: u32,
        text: String,
    },
    /// Calls under an idempotency key of its own.
    CallAs {
        tag: u32,
        text: String,
        key: String,
    },
    /// Executes it after this many milliseconds.
    Later {
        id: Option<String>,
        after: u64,
        act: Box<Act>,
    },
    Cancel(String),
    /// Keeps the return address of the request.
    Keep,
    /// Answers the kept return address.
    AnswerKept(u32),
    End,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Actor {
    /// The history of an actor, in words.
    pub(crate) log: Vec<String>,
    pub(crate) kept: Option<ReturnPath>,
    pub(crate) ended: bool,
    pub(crate) seen: Vec<Seen>,
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
pub(crate) enum ActorCommand {
    Do(Act),
    #[message(internal)]
    Due(Act),
    Heard(u32, Reply<Actor>),
    Answered(u32, CallOutcome<Outside>),
    /// Cannot be encoded.
    Lost(Lossy),
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum ActorEvent {
    Did(Act, Seen),
    Heard { tag: u32, text: String, seen: Seen },
    Kept(ReturnPath),
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum ActorError {
    Refused,
}

/// The faults of fragile and flaky acts, shared by several processes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Broken(Arc<AtomicBool>, Arc<Mutex<Option<(StdRng, f64)>>>);

/// The environment of an actor.
#[derive(Debug, Clone, Default)]
pub(crate) struct Around {
    pub(crate) broken: Broken,
    /// The number of the process.
    pub(crate) process: u32,
}

impl Broken {
    pub(crate) fn set(&self, broken: bool) {
        self.0.store(broken, Ordering::SeqCst);
    }

    /// The probability with which a flaky act panics.
    pub(crate) fn set_flaky(&self, seed: u64, part: f64) {
        *self.1.lock().unwrap() = Some((StdRng::seed_from_u64(seed), part));
    }

    fn is_broken(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn breaks(&self) -> bool {
        let mut chance = self.1.lock().unwrap();
        chance.as_mut().is_some_and(|(rng, part)| rng.random::<f64>() < *part)
    }
}

use ActorCommand as In;
use ActorEvent as Out;

impl Out {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Did(Act::Note(n), _) => format!("note {n}"),
            Self::Did(act, _) => {
                let text = format!("{act:?}");
                text.split([' ', '(']).next().unwrap_or_default().to_lowercase()
            }
            Self::Heard { tag, text, .. } => format!("{tag}: {text}"),
            Self::Kept(_) => "kept".to_owned(),
        }
    }
}

impl Aggregate for Actor {
    const NAME: &'static str = "actor";
    type Command = ActorCommand;
    type Event = ActorEvent;
    type Rejection = ActorError;
    type Environment = Around;

    fn decide(&self, command: In, ctx: &Context<Self>) -> Decision<Self> {
        let (tag, text) = match command {
            In::Do(act) | In::Due(act) => return self.act(act, ctx),
            In::Heard(tag, Reply::Recorded(event)) => (tag, event.text()),
            In::Heard(tag, Reply::Rejected(_)) => (tag, "rejected".to_owned()),
            In::Heard(tag, Reply::Unchanged) => (tag, "unchanged".to_owned()),
            In::Heard(tag, Reply::Undelivered) => (tag, "undelivered".to_owned()),
            In::Answered(tag, CallOutcome::Done(OutsideResponse::Said(text))) => (tag, text),
            In::Answered(tag, CallOutcome::Done(OutsideResponse::Lossy(_))) => {
                (tag, "lossy".to_owned())
            }
            In::Answered(tag, CallOutcome::Failed(_)) => (tag, "failed".to_owned()),
            In::Answered(tag, CallOutcome::Exhausted) => (tag, "exhausted".to_owned()),
            In::Answered(tag, CallOutcome::Unstorable(reason)) => {
                assert!(reason.contains("outside_response."), "{reason}");
                (tag, "unstorable".to_owned())
            }
            In::Lost(_) => return unchanged(),
        };
        record(Out::Heard { tag, text, seen: seen(ctx) })
    }

    fn apply(&mut self, event: Out) {
        self.log.push(event.text());
        match event {
            Out::Kept(address) => self.kept = Some(address),
            Out::Did(act, seen) => {
                self.ended |= act == Act::End;
                self.seen.push(seen);
            }
            Out::Heard { seen, .. } => self.seen.push(seen),
        }
    }

    fn react(&self, event: &Out, _: &Context<Self>) -> Reactions<In> {
        let Out::Did(act, _) = event else { return effects![] };
        match act.clone() {
            Act::Ask { to, tag, act } => effects![ask(&to, tag, *act)],
            Act::AskAll(all) => all.into_iter().fold(Reactions::none(), |all, (to, tag, act)| {
                all.merge(effects![ask(&to, tag, act)])
            }),
            Act::AskDetached { to, tag, act } => effects![ask(&to, tag, *act).detached()],
            Act::Tell { to, act } => effects![tell(&Actor::id(to), In::Do(*act))],
            Act::Call { tag, text } => {
                effects![call::<Outside>(OutsideRequest::Ask(text)).tag(tag)]
            }
            Act::CallAs { tag, text, key } => {
                effects![call::<Outside>(OutsideRequest::Ask(text)).idempotency_key(key).tag(tag)]
            }
            Act::Later { id, after: millis, act } => {
                let timer = after(Duration::from_millis(millis), In::Due(*act));
                match id {
                    Some(id) => effects![timer.with_id(id)],
                    None => effects![timer],
                }
            }
            Act::Cancel(id) => effects![cancel(id)],
            _ => effects![],
        }
    }

    fn is_finished(&self) -> bool {
        self.ended
    }
}

fn seen(ctx: &Context<Actor>) -> Seen {
    let by = ctx.user().map(str::to_owned);
    Seen { at: ctx.now(), by, process: ctx.env().process }
}

fn ask(to: &str, tag: u32, act: Act) -> composable_rust_core::effect::Dispatch<Actor, u32> {
    dispatch(&Actor::id(to), In::Do(act)).tag(tag)
}

impl Actor {
    fn act(&self, act: Act, ctx: &Context<Self>) -> Decision<Self> {
        let did = |act| Out::Did(act, seen(ctx));
        match act {
            Act::Refuse => reject(ActorError::Refused),
            Act::Nothing => unchanged(),
            Act::Repeat(n) => repeat(did(Act::Note(n))),
            Act::Notes(all) => record_all(all.into_iter().map(|n| did(Act::Note(n)))),
            Act::Fragile(n) => {
                assert!(!ctx.env().broken.is_broken(), "it is broken");
                record(did(Act::Note(n)))
            }
            Act::Flaky(n) => {
                let breaks = ctx.env().broken.breaks();
                assert!(!breaks, "it is flaky");
                record(did(Act::Note(n)))
            }
            Act::AskSilently { to, tag, act } => unchanged().with(effects![ask(&to, tag, *act)]),
            Act::Keep => record(Out::Kept(ctx.return_path())),
            Act::AnswerKept(n) => {
                let Some(kept) = &self.kept else { return unchanged() };
                unchanged().with(effects![reply_to(kept, did(Act::Note(n)))])
            }
            act => record(did(act)),
        }
    }
}

/// The behaviour of the gateway in one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Answers,
    /// Returns a response that does not decode again.
    AnswersLossily,
    /// Returns a response that is too large to store.
    AnswersAtLength,
    Fails,
    Retries,
    IsUnreachable,
    Hangs,
    Panics,
}

/// A request that can never be sent.
pub(crate) const NOWHERE: &str = "nowhere";

/// A gateway that answers unless a script says otherwise. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Outside {
    pub(crate) script: Arc<Mutex<VecDeque<Behaviour>>>,
    /// The received requests, with their keys.
    pub(crate) calls: Arc<Mutex<Vec<(String, String)>>>,
}

impl Outside {
    pub(crate) fn next(&self, script: impl IntoIterator<Item = Behaviour>) {
        self.script.lock().unwrap().extend(script);
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum OutsideRequest {
    Ask(String),
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum OutsideResponse {
    Said(String),
    Lossy(Lossy),
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum OutsideFailure {
    No,
}

impl Gateway for Outside {
    const NAME: &'static str = "outside";
    type Request = OutsideRequest;
    type Response = OutsideResponse;
    type Failure = OutsideFailure;

    async fn call(
        &self,
        request: OutsideRequest,
        key: &str,
    ) -> Result<OutsideResponse, CallError<OutsideFailure>> {
        let OutsideRequest::Ask(text) = request;
        self.calls.lock().unwrap().push((text.clone(), key.to_owned()));
        if text == NOWHERE {
            return Err(CallError::unreachable("there is no such place"));
        }
        let next = self.script.lock().unwrap().pop_front();
        match next.unwrap_or(Behaviour::Answers) {
            Behaviour::Answers => Ok(OutsideResponse::Said(text)),
            Behaviour::AnswersLossily => Ok(OutsideResponse::Lossy(Lossy::default())),
            Behaviour::AnswersAtLength => Ok(OutsideResponse::Said("x".repeat(5_000_000))),
            Behaviour::Fails => Err(CallError::Failed(OutsideFailure::No)),
            Behaviour::Retries => Err(CallError::retry("try again")),
            Behaviour::IsUnreachable => Err(CallError::unreachable("no route")),
            Behaviour::Hangs => std::future::pending().await,
            Behaviour::Panics => panic!("the gateway does not like this"),
        }
    }
}
