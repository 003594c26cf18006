//! Durable effects: what may follow from an event, and survives a crash.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::effect_list::{EffectList, IntoEffect};
use crate::gateway::{Gateway, ReceivesOutcome};
use crate::message::{AnyMessage, Receives, Tag};
use crate::store::Due;
use crate::{Effect, Id, Message, ReturnPath, StreamId, Target, Timestamp};

/// The durable follow-ups of an event: `effects![…]` of [`dispatch`], [`tell`], [`call`],
/// [`after`], [`at`], [`cancel`] and [`reply_to`].
pub type Reactions<C> = EffectList<Reaction<C>>;

/// A durable follow-up of an event.
///
/// It is stored in the append's transaction, and executed after the commit by whichever process of
/// the service has the lease.
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
    /// Answers a caller whose address was kept.
    Reply(Box<SendReply>),
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
    pub replies: ReplyMode,
}

/// To whom the replies to a dispatch or call go.
#[derive(Debug, Clone, PartialEq)]
pub enum ReplyMode {
    /// To the sender, with this tag.
    Tagged(Tag),
    /// To the sender as well, but what the sender records because of them goes no further up the
    /// chain of requests.
    Detached(Tag),
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
    pub replies: ReplyMode,
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
    /// Whether what is recorded because of it goes no further up the chain of requests.
    pub detached: bool,
}

/// An answer to a caller whose address was kept.
#[derive(Debug, Clone, PartialEq)]
pub struct SendReply {
    /// The caller.
    pub to: ReturnPath,
    /// An event of the answering aggregate.
    pub event: AnyMessage,
}

/// Sends `command` to the instance `to` of `T`; the replies come back to the sender, whose command
/// type needs a variant for them.
///
/// It commits with what the deciding message records, and then is delivered at least once, in the
/// order of what this instance sends to that one, and applied exactly once: the receiver's inbox
/// knows it. Every event that the receiver records because of it comes back as
/// [`Reply::Recorded`](crate::Reply), also those that it records later, after a timer, a call or a
/// dispatch of its own; so does a refusal.
pub fn dispatch<T: Target>(to: &Id<T>, command: T::Command) -> Dispatch<T, ()> {
    Dispatch { recipient: to.stream(), command, tag: (), detached: false, target: PhantomData }
}

/// Sends `command` to the instance `to` of `T` and wants no reply.
///
/// Delivered as [`dispatch`] is. Nothing comes back, not even a refusal.
pub fn tell<T: Target>(to: &Id<T>, command: T::Command) -> Tell<T> {
    Tell { recipient: to.stream(), command, target: PhantomData }
}

/// Asks the gateway `G`; the answer comes back to the sender.
///
/// The call is made at least once, after the commit, with the same idempotency key each time; its
/// answer is applied exactly once. See [`Gateway`] for what counts as an attempt.
pub fn call<G: Gateway>(request: G::Request) -> Call<G, ()> {
    Call { request, tag: (), detached: false, gateway: PhantomData }
}

/// Sends `action` to this instance or store after `duration`.
///
/// A `Store` executes it in memory. Among [`Reactions`] it commits with what the deciding message
/// records and outlives the process; it fires once, unless it was cancelled or replaced before.
pub fn after<A>(duration: Duration, action: A) -> After<A> {
    After(Delay { id: None, due: Due::After(duration), action, detached: false })
}

/// Sends `action` to this instance or store at `moment`; at once if it has passed.
///
/// A `Store` executes it in memory. Among [`Reactions`] it commits with what the deciding message
/// records and outlives the process; it fires once, unless it was cancelled or replaced before.
pub fn at<A>(moment: Timestamp, action: A) -> After<A> {
    After(Delay { id: None, due: Due::At(moment), action, detached: false })
}

/// Cancels what runs under `id`; without effect if nothing does.
pub fn cancel(id: impl Into<EffectId>) -> Cancel {
    Cancel(id.into())
}

/// Answers a caller whose [`return_path`](crate::Context::return_path) was kept with an event of
/// this aggregate, as if the caller's own command had recorded it.
pub fn reply_to(to: &ReturnPath, event: impl Message) -> SendReply {
    SendReply { to: to.clone(), event: AnyMessage::new(event) }
}

/// A [`dispatch`] being built.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "effects are values: they do nothing unless they are returned"]
pub struct Dispatch<T: Target, Tag> {
    recipient: StreamId,
    command: T::Command,
    tag: Tag,
    detached: bool,
    target: PhantomData<fn() -> T>,
}

impl<T: Target> Dispatch<T, ()> {
    /// The same with a tag that comes back with every reply, as the reply variant declares it.
    pub fn tag<Tag>(self, tag: Tag) -> Dispatch<T, Tag> {
        let Self { recipient, command, detached, target, .. } = self;
        Dispatch { recipient, command, tag, detached, target }
    }
}

impl<T: Target, Tag> Dispatch<T, Tag> {
    /// The same, ending the chain of requests: what this instance records because of the replies is
    /// not told to whoever asked it.
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
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
    detached: bool,
    gateway: PhantomData<fn() -> G>,
}

impl<G: Gateway> Call<G, ()> {
    /// The same with a tag that comes back with the answer.
    pub fn tag<Tag>(self, tag: Tag) -> Call<G, Tag> {
        let Self { request, detached, gateway, .. } = self;
        Call { request, tag, detached, gateway }
    }
}

impl<G: Gateway, Tag> Call<G, Tag> {
    /// The same, ending the chain of requests, as [`Dispatch::detached`] does.
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
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

    /// The same, ending the chain of requests, as [`Dispatch::detached`] does.
    pub fn detached(mut self) -> Self {
        self.0.detached = true;
        self
    }
}

/// A [`cancel`].
#[derive(Debug, Clone, PartialEq)]
#[must_use = "effects are values: they do nothing unless they are returned"]
pub struct Cancel(EffectId);

fn tagged(tag: Tag, detached: bool) -> ReplyMode {
    if detached { ReplyMode::Detached(tag) } else { ReplyMode::Tagged(tag) }
}

impl<T: Target, Of> Dispatch<T, Of> {
    fn erase<C: Receives<T, Tag = Of>>(self) -> DispatchCommand {
        let command = AnyMessage::new(self.command);
        let replies = tagged(C::stored_tag(&self.tag), self.detached);
        DispatchCommand { target: T::NAME, recipient: self.recipient, command, replies }
    }
}

impl<T: Target> Tell<T> {
    fn erase(self) -> DispatchCommand {
        let command = AnyMessage::new(self.command);
        let (target, recipient) = (T::NAME, self.recipient);
        DispatchCommand { target, recipient, command, replies: ReplyMode::Unwanted }
    }
}

impl<G: Gateway, Of> Call<G, Of> {
    fn erase<C: ReceivesOutcome<G, Tag = Of>>(self) -> CallGateway {
        let request = AnyMessage::new(self.request);
        let replies = tagged(C::stored_tag(&self.tag), self.detached);
        CallGateway { gateway: G::NAME, request, replies }
    }
}

impl<C> IntoEffect<Self> for Reaction<C> {
    fn into_effect(self) -> Self {
        self
    }
}

/// The builders stand both among reactions and among effects. A blanket implementation of one by
/// the other is refused (E0119: downstream crates may implement it), so they are listed.
macro_rules! items {
    ($($list:ident),*) => { $(
        impl<C: Receives<T, Tag = Tag>, T: Target, Tag: Serialize> IntoEffect<$list<C>> for Dispatch<T, Tag> {
            fn into_effect(self) -> $list<C> {
                $list::DispatchCommand(Box::new(self.erase::<C>()))
            }
        }

        impl<C, T: Target> IntoEffect<$list<C>> for Tell<T> {
            fn into_effect(self) -> $list<C> {
                $list::DispatchCommand(Box::new(self.erase()))
            }
        }

        impl<C: ReceivesOutcome<G, Tag = Tag>, G: Gateway, Tag: Serialize> IntoEffect<$list<C>> for Call<G, Tag> {
            fn into_effect(self) -> $list<C> {
                $list::CallGateway(Box::new(self.erase::<C>()))
            }
        }

        impl<C> IntoEffect<$list<C>> for After<C> {
            fn into_effect(self) -> $list<C> {
                $list::Delay(Box::new(self.0))
            }
        }

        impl<C> IntoEffect<$list<C>> for SendReply {
            fn into_effect(self) -> $list<C> {
                $list::Reply(Box::new(self))
            }
        }

        impl<C> IntoEffect<$list<C>> for Cancel {
            fn into_effect(self) -> $list<C> {
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
            Reaction::Reply(reply) => Self::Reply(reply),
        }
    }
}
