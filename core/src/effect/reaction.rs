//! Durable effects: the follow-ups of an event, which survive a crash.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::effect_list::{EffectList, IntoEffect};
use super::idempotency_key::IdempotencyKey;
use super::tag::{OutcomeTag, ReplyTag};
use crate::gateway::{Gateway, ReceivesOutcome};
use crate::message::{AnyMessage, Receives, Tag};
use crate::store::Due;
use crate::{Effect, Id, Message, ReturnPath, StreamId, Target, Timestamp};

/// The durable follow-ups of an event: `effects![…]` of [`dispatch`], [`tell`], [`call`],
/// [`after`], [`at`], [`cancel`] and [`reply_to`].
pub type Reactions<C> = EffectList<Reaction<C>>;

/// A durable follow-up of an event.
///
/// The append's transaction stores it, and the process of the service that holds the lease executes
/// it after the commit.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Reaction<C> {
    /// Sends a command to another instance.
    DispatchCommand(Box<DispatchCommand>),
    /// Sends a request to a gateway.
    CallGateway(Box<CallGateway>),
    /// Sends a command to this instance later.
    Delay(Box<Delay<C>>),
    /// Cancels a delay.
    Cancel(EffectId),
    /// Replies to a caller whose return address was kept.
    Reply(Box<SendReply>),
}

/// The id of a delay or of a cancellable effect, by which it is cancelled or replaced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EffectId(Cow<'static, str>);

impl EffectId {
    /// Returns the text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Puts the id into the child `scope`.
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
    /// The recipient of the replies.
    pub replies: ReplyMode,
}

/// The recipient of the replies to a dispatch or call.
#[derive(Debug, Clone, PartialEq)]
pub enum ReplyMode {
    /// The sender, with this tag.
    Tagged(Tag),
    /// The sender, with this tag. The events that the sender records because of the replies are not
    /// sent up the chain of requests.
    Detached(Tag),
    /// No recipient: no replies are sent.
    Unwanted,
}

/// A request on its way to a gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct CallGateway {
    /// The gateway's name.
    pub gateway: &'static str,
    /// The request.
    pub request: AnyMessage,
    /// The recipient of the answer.
    pub replies: ReplyMode,
    /// The idempotency key that the caller chose; `None` for the default, which is derived from the
    /// id of the effect.
    pub idempotency_key: Option<IdempotencyKey>,
}

/// An action that comes back later.
#[derive(Debug, Clone, PartialEq)]
pub struct Delay<A> {
    /// The id, scoped to the instance or store. A delay replaces an armed delay of the same id.
    pub id: Option<EffectId>,
    /// The deadline.
    pub due: Due,
    /// The action.
    pub action: A,
    /// `true` if the events that are recorded because of the action are not sent up the chain of
    /// requests.
    pub detached: bool,
}

/// A reply to a caller whose return address was kept.
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
/// The command commits with the events of the deciding message. It is then delivered at least once,
/// in order with the other messages from this instance to the receiver, and applied exactly once:
/// the receiver's inbox recognises duplicates. Every event that the receiver records because of the
/// command comes back as [`Reply::Recorded`](crate::Reply), also events that it records later,
/// after a timer, a call or a dispatch of its own. A rejection comes back as well.
pub fn dispatch<T: Target>(to: &Id<T>, command: T::Command) -> Dispatch<T, ()> {
    Dispatch { recipient: to.stream(), command, tag: (), detached: false, target: PhantomData }
}

/// Sends `command` to the instance `to` of `T`, without replies.
///
/// The delivery guarantees are those of [`dispatch`]. Nothing comes back, not even a rejection.
pub fn tell<T: Target>(to: &Id<T>, command: T::Command) -> Tell<T> {
    Tell { recipient: to.stream(), command, target: PhantomData }
}

/// Sends `request` to the gateway `G`; the outcome comes back to the sender, whose command type
/// needs a variant for it.
///
/// The call is made at least once, after the commit, with the same idempotency key each time; its
/// outcome is applied exactly once. [`Gateway`] defines an attempt. A second `call` has another
/// idempotency key, unless both set the same [`Call::idempotency_key`].
pub fn call<G: Gateway>(request: G::Request) -> Call<G, ()> {
    Call { request, tag: (), detached: false, idempotency_key: None, gateway: PhantomData }
}

/// Sends `action` to this instance or store after `duration`.
///
/// A `Store` keeps the delay in memory. Among [`Reactions`] it is a timer, which commits with the
/// events of the deciding message and survives a restart. It fires once, unless it is cancelled or
/// replaced before.
///
/// A timer that is armed while a request is answered continues the request: what it makes the
/// instance record goes to the sender as one more reply. [`After::detached`] ends that.
pub fn after<A>(duration: Duration, action: A) -> After<A> {
    After(Delay { id: None, due: Due::After(duration), action, detached: false })
}

/// Sends `action` to this instance or store at `moment`; immediately if it has passed.
///
/// A `Store` keeps the delay in memory. Among [`Reactions`] it is a timer, which commits with the
/// events of the deciding message and survives a restart. It fires once, unless it is cancelled or
/// replaced before.
///
/// Which request it continues is said at [`after`].
pub fn at<A>(moment: Timestamp, action: A) -> After<A> {
    After(Delay { id: None, due: Due::At(moment), action, detached: false })
}

/// Cancels the delay or effect that runs under `id`; no effect if there is none.
pub fn cancel(id: impl Into<EffectId>) -> Cancel {
    Cancel(id.into())
}

/// Replies with an event of this aggregate to a caller whose
/// [`return_path`](crate::Context::return_path) was kept, as if the caller's own command had
/// recorded the event.
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
    /// Sets the tag, which comes back with every reply, as the reply variant declares it.
    pub fn tag<Tag>(self, tag: Tag) -> Dispatch<T, Tag> {
        let Self { recipient, command, detached, target, .. } = self;
        Dispatch { recipient, command, tag, detached, target }
    }
}

impl<T: Target> Dispatch<T, ()> {
    /// Returns the command without a recipient of its replies, and `true` if the dispatch is
    /// detached.
    pub(crate) fn untagged(self) -> (DispatchCommand, bool) {
        let command = AnyMessage::new(self.command);
        let (target, recipient, replies) = (T::NAME, self.recipient, ReplyMode::Unwanted);
        (DispatchCommand { target, recipient, command, replies }, self.detached)
    }
}

impl<T: Target, Tag> Dispatch<T, Tag> {
    /// Ends the chain of requests: the events that this instance records because of the replies are
    /// not sent to its own caller.
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
    idempotency_key: Option<IdempotencyKey>,
    gateway: PhantomData<fn() -> G>,
}

impl<G: Gateway> Call<G, ()> {
    /// Sets the tag, which comes back with the outcome, as the outcome variant declares it.
    pub fn tag<Tag>(self, tag: Tag) -> Call<G, Tag> {
        let Self { request, detached, idempotency_key, gateway, .. } = self;
        Call { request, tag, detached, idempotency_key, gateway }
    }
}

impl<G: Gateway> Call<G, ()> {
    /// Returns the request without a recipient of its answer, and `true` if the call is detached.
    pub(crate) fn untagged(self) -> (CallGateway, bool) {
        let Self { request, detached, idempotency_key, .. } = self;
        let (request, replies) = (AnyMessage::new(request), ReplyMode::Unwanted);
        (CallGateway { gateway: G::NAME, request, replies, idempotency_key }, detached)
    }
}

impl<G: Gateway, Tag> Call<G, Tag> {
    /// Sets the idempotency key, so that a second call after
    /// [`Exhausted`](crate::CallOutcome::Exhausted) does not act twice: the service recognises it
    /// by the key.
    ///
    /// `key` names the action among the calls of this instance to this gateway, such as `charge` or
    /// `refund-2`. Use it for one request only. The gateway receives a UUID that is derived from
    /// the log, the instance, the gateway and `key`, so that equal keys of two instances differ.
    /// The command that sets the effect in motion fails if `key` is empty, has more than 1,024
    /// bytes or contains NUL. Default: a UUID that is derived from the id of the effect.
    ///
    /// # Example: asking again
    ///
    /// ```
    /// # use composable_rust_core::{Gateway, call, effect::Call};
    /// # fn charge<Bank: Gateway>(request: Bank::Request) -> Call<Bank, ()> {
    /// call::<Bank>(request).idempotency_key("charge")
    /// # }
    /// ```
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(IdempotencyKey::Scoped(key.into()));
        self
    }

    /// Sets the idempotency key to exactly this text, as where the service or another program knows
    /// the key. Only the caller ensures that no other instance or log uses it for another request.
    /// The limits are those of [`idempotency_key`](Self::idempotency_key).
    pub fn exact_idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(IdempotencyKey::Exact(key.into()));
        self
    }

    /// Ends the chain of requests, as [`Dispatch::detached`] does.
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
    /// Sets the id, by which the delay can be cancelled. The delay replaces an armed delay of the
    /// same id.
    pub fn with_id(mut self, id: impl Into<EffectId>) -> Self {
        self.0.id = Some(id.into());
        self
    }

    /// Ends the chain of requests, as [`Dispatch::detached`] does.
    pub fn detached(mut self) -> Self {
        self.0.detached = true;
        self
    }
}

/// A cancellation, made by [`cancel`].
#[derive(Debug, Clone, PartialEq)]
#[must_use = "effects are values: they do nothing unless they are returned"]
pub struct Cancel(EffectId);

fn tagged(tag: Tag, detached: bool) -> ReplyMode {
    if detached { ReplyMode::Detached(tag) } else { ReplyMode::Tagged(tag) }
}

impl<T: Target, Of> Dispatch<T, Of> {
    fn erase<C: Receives<T>>(self) -> DispatchCommand
    where
        Of: ReplyTag<C::Tag, T>,
    {
        let command = AnyMessage::new(self.command);
        let replies = tagged(C::stored_tag(&self.tag.into_tag()), self.detached);
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
    fn erase<C: ReceivesOutcome<G>>(self) -> CallGateway
    where
        Of: OutcomeTag<C::Tag, G>,
    {
        let request = AnyMessage::new(self.request);
        let replies = tagged(C::stored_tag(&self.tag.into_tag()), self.detached);
        let idempotency_key = self.idempotency_key;
        CallGateway { gateway: G::NAME, request, replies, idempotency_key }
    }
}

impl<C> IntoEffect<Self> for Reaction<C> {
    fn into_effect(self) -> Self {
        self
    }
}

/// Implements [`IntoEffect`] of each list for the builders, which are both reactions and effects.
/// The compiler refuses a blanket implementation (E0119: downstream crates may implement it).
macro_rules! items {
    ($($list:ident),*) => { $(
        impl<C, T, Tag> IntoEffect<$list<C>> for Dispatch<T, Tag>
        where
            C: Receives<T>,
            T: Target,
            Tag: ReplyTag<C::Tag, T>,
        {
            fn into_effect(self) -> $list<C> {
                $list::DispatchCommand(Box::new(self.erase::<C>()))
            }
        }

        impl<C, T: Target> IntoEffect<$list<C>> for Tell<T> {
            fn into_effect(self) -> $list<C> {
                $list::DispatchCommand(Box::new(self.erase()))
            }
        }

        impl<C, G, Tag> IntoEffect<$list<C>> for Call<G, Tag>
        where
            C: ReceivesOutcome<G>,
            G: Gateway,
            Tag: OutcomeTag<C::Tag, G>,
        {
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
