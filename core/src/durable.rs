//! Durable effects: what may follow from an event, and survives a crash.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::gateway::{Gateway, ReceivesAnswer};
use crate::list::{Item, List};
use crate::{AnyMessage, Due, Effect, Id, Receives, StreamId, Target, Timestamp};

/// The durable follow-ups of an event: `effects![…]` of [`dispatch`], [`tell`], [`call`],
/// [`after`], [`at`] and [`cancel`].
pub type Reactions<C> = List<Reaction<C>>;

/// A durable follow-up of an event.
///
/// **It is stored in the append's transaction; this version of the runtime stores it and warns once,
/// and does not execute it.** A public command that looks at
/// [`Context::now`](crate::Context::now), sent by the program itself, does what is due.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Reaction<C> {
    /// Sends a command to another instance.
    DispatchCommand(Box<DispatchCommand>),
    /// Asks a gateway.
    CallGateway(Box<CallGateway>),
    /// Sends a command to this instance later.
    Delay(Box<Delay<C>>),
    /// Cancels a delay.
    Cancel(EffectId),
}

/// Names a delay or a cancellable effect, to cancel or replace it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EffectId(Cow<'static, str>);

impl EffectId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same id inside a child called `scope`.
    pub(crate) fn scoped(self, scope: &str) -> Self {
        Self(format!("{scope}/{}", self.0).into())
    }
}

impl From<&'static str> for EffectId {
    fn from(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<String> for EffectId {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A command on its way to another instance.
#[derive(Debug, Clone, PartialEq)]
pub struct DispatchCommand {
    /// The target's name.
    pub target: &'static str,
    /// The addressed instance's stream.
    pub recipient: StreamId,
    /// The command.
    pub command: AnyMessage,
    /// To whom replies go.
    pub replies: Replies,
}

/// To whom the replies to a dispatch or call go.
#[derive(Debug, Clone, PartialEq)]
pub enum Replies {
    /// To the sender, with this tag as JSON text.
    Tagged(String),
    /// To nobody.
    Unwanted,
}

/// A request on its way to a gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct CallGateway {
    /// The gateway's name.
    pub gateway: &'static str,
    /// The request.
    pub request: AnyMessage,
    /// To whom the answer goes.
    pub replies: Replies,
}

/// An action that comes back later.
#[derive(Debug, Clone, PartialEq)]
pub struct Delay<A> {
    /// Scoped to the instance or store; arming under an id in use replaces.
    pub id: Option<EffectId>,
    /// When.
    pub due: Due,
    /// What comes back.
    pub action: A,
}

/// Sends `command` to the instance `to` of `T`; the replies come back to the sender, whose command
/// type needs a variant for them.
///
/// **It is stored in the append's transaction; this version of the runtime stores it and warns once,
/// and does not execute it.**
pub fn dispatch<T: Target>(to: &Id<T>, command: T::Command) -> Dispatch<T, ()> {
    Dispatch { recipient: to.stream(), command, tag: (), target: PhantomData }
}

/// Sends `command` to the instance `to` of `T` and wants no reply.
///
/// **It is stored in the append's transaction; this version of the runtime stores it and warns once,
/// and does not execute it.**
pub fn tell<T: Target>(to: &Id<T>, command: T::Command) -> Tell<T> {
    Tell { recipient: to.stream(), command, target: PhantomData }
}

/// Asks the gateway `G`; the answer comes back to the sender.
///
/// **It is stored in the append's transaction; this version of the runtime stores it and warns once,
/// and does not execute it.**
pub fn call<G: Gateway>(request: G::Request) -> Call<G, ()> {
    Call { request, tag: (), gateway: PhantomData }
}

/// Sends `action` to this instance or store after `duration`.
///
/// A `Store` executes it in memory. **Among [`Reactions`] it is stored in the append's transaction;
/// this version of the runtime stores it and warns once, and does not execute it.**
pub fn after<A>(duration: Duration, action: A) -> After<A> {
    After(Delay { id: None, due: Due::After(duration), action })
}

/// Sends `action` to this instance or store at `moment`; at once if it has passed.
///
/// A `Store` executes it in memory. **Among [`Reactions`] it is stored in the append's transaction;
/// this version of the runtime stores it and warns once, and does not execute it.**
pub fn at<A>(moment: Timestamp, action: A) -> After<A> {
    After(Delay { id: None, due: Due::At(moment), action })
}

/// Cancels what runs under `id`; without effect if nothing does.
pub fn cancel(id: impl Into<EffectId>) -> Cancel {
    Cancel(id.into())
}

/// A [`dispatch`] being built.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "effects are values: they do nothing unless they are returned"]
pub struct Dispatch<T: Target, Tag> {
    recipient: StreamId,
    command: T::Command,
    tag: Tag,
    target: PhantomData<fn() -> T>,
}

impl<T: Target> Dispatch<T, ()> {
    /// The same with a tag that comes back with every reply, as the reply variant declares it.
    pub fn tag<Tag>(self, tag: Tag) -> Dispatch<T, Tag> {
        Dispatch { recipient: self.recipient, command: self.command, tag, target: PhantomData }
    }
}

/// A [`tell`] being built.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "effects are values: they do nothing unless they are returned"]
pub struct Tell<T: Target> {
    recipient: StreamId,
    command: T::Command,
    target: PhantomData<fn() -> T>,
}

/// A [`call`] being built.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "effects are values: they do nothing unless they are returned"]
pub struct Call<G: Gateway, Tag> {
    request: G::Request,
    tag: Tag,
    gateway: PhantomData<fn() -> G>,
}

impl<G: Gateway> Call<G, ()> {
    /// The same with a tag that comes back with the answer.
    pub fn tag<Tag>(self, tag: Tag) -> Call<G, Tag> {
        Call { request: self.request, tag, gateway: PhantomData }
    }
}

/// An [`after`] or [`at`] being built.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "effects are values: they do nothing unless they are returned"]
pub struct After<A>(Delay<A>);

impl<A> After<A> {
    /// The same under an id, by which it can be cancelled; one that is armed under it is replaced.
    pub fn with_id(mut self, id: impl Into<EffectId>) -> Self {
        self.0.id = Some(id.into());
        self
    }
}

/// A [`cancel`].
#[derive(Debug, Clone, PartialEq)]
#[must_use = "effects are values: they do nothing unless they are returned"]
pub struct Cancel(EffectId);

fn tagged(tag: &impl Serialize) -> Replies {
    match serde_json::to_string(tag) {
        Ok(text) => Replies::Tagged(text),
        Err(error) => panic!("a tag must be representable in JSON: {error}"),
    }
}

impl<T: Target, Tag: Serialize> Dispatch<T, Tag> {
    fn erase(self) -> DispatchCommand {
        let command = AnyMessage::new(self.command);
        let replies = tagged(&self.tag);
        DispatchCommand { target: T::NAME, recipient: self.recipient, command, replies }
    }
}

impl<T: Target> Tell<T> {
    fn erase(self) -> DispatchCommand {
        let command = AnyMessage::new(self.command);
        let (target, recipient) = (T::NAME, self.recipient);
        DispatchCommand { target, recipient, command, replies: Replies::Unwanted }
    }
}

impl<G: Gateway, Tag: Serialize> Call<G, Tag> {
    fn erase(self) -> CallGateway {
        let request = AnyMessage::new(self.request);
        CallGateway { gateway: G::NAME, request, replies: tagged(&self.tag) }
    }
}

impl<C> Item<Self> for Reaction<C> {
    fn item(self) -> Self {
        self
    }
}

/// The builders stand both among reactions and among effects. A blanket implementation of one by
/// the other is refused (E0119: downstream crates may implement it), so they are listed.
macro_rules! items {
    ($($list:ident),*) => { $(
        impl<C: Receives<T, Tag = Tag>, T: Target, Tag: Serialize> Item<$list<C>> for Dispatch<T, Tag> {
            fn item(self) -> $list<C> {
                $list::DispatchCommand(Box::new(self.erase()))
            }
        }

        impl<C, T: Target> Item<$list<C>> for Tell<T> {
            fn item(self) -> $list<C> {
                $list::DispatchCommand(Box::new(self.erase()))
            }
        }

        impl<C: ReceivesAnswer<G, Tag = Tag>, G: Gateway, Tag: Serialize> Item<$list<C>> for Call<G, Tag> {
            fn item(self) -> $list<C> {
                $list::CallGateway(Box::new(self.erase()))
            }
        }

        impl<C> Item<$list<C>> for After<C> {
            fn item(self) -> $list<C> {
                $list::Delay(Box::new(self.0))
            }
        }

        impl<C> Item<$list<C>> for Cancel {
            fn item(self) -> $list<C> {
                $list::Cancel(self.0)
            }
        }
    )* };
}

items!(Reaction, Effect);

impl<C> From<Reaction<C>> for Effect<C> {
    fn from(reaction: Reaction<C>) -> Self {
        match reaction {
            Reaction::DispatchCommand(dispatch) => Self::DispatchCommand(dispatch),
            Reaction::CallGateway(call) => Self::CallGateway(call),
            Reaction::Delay(delay) => Self::Delay(delay),
            Reaction::Cancel(id) => Self::Cancel(id),
        }
    }
}
