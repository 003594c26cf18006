//! Turning the effects of a command into outbox rows and timers. Pure: no I/O.

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::effect::{
    CallGateway, Delay, DispatchCommand, Reaction, ReplyMode, SendReply,
};
use composable_rust_core::message::{
    AnyMessage, InReplyTo, ReplyOutcome, ReplySource, ReturnAddress,
};
use composable_rust_core::queue::OutboxKind;
use composable_rust_core::store::{Append, NewOutboxRow, NewTimer, TimerArming, TimerChange};
use composable_rust_core::{Aggregate, Context, Message, Metadata};
use uuid::Uuid;

use crate::error::SendError;
use crate::instance::decide_context::DecideContext;
use crate::worker::queued_message::CallMetadata;

/// The maximum length of a chain of requests that wait for replies.
pub(crate) const MAX_RETURN_ADDRESSES: usize = 16;

/// The target of everything that is sent over the bus.
pub(crate) const BUS_TARGET: &str = "bus";

/// The name of a reply's content if the reply has no content.
pub(crate) const NO_CONTENT: &str = "nothing";

type EffectResult<A, T> = Result<T, SendError<<A as Aggregate>::Rejection>>;

/// The durable effects of one command, in order.
///
/// An effect's id is derived from the command's message id and the effect's index, so that deciding
/// the command again gives the same ids.
pub(crate) struct EffectRows<'a, A: Aggregate> {
    context: &'a DecideContext<'a, A>,
    ctx: &'a Context<'a, A>,
    next_index: u32,
    outbox: Vec<NewOutboxRow>,
    timers: Vec<TimerChange>,
}

impl<'a, A: Aggregate> EffectRows<'a, A> {
    pub(crate) fn new(context: &'a DecideContext<'a, A>, ctx: &'a Context<'a, A>) -> Self {
        Self { context, ctx, next_index: 0, outbox: Vec::new(), timers: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.outbox.is_empty() && self.timers.is_empty()
    }

    pub(crate) fn add_to(self, append: &mut Append) {
        append.outbox.extend(self.outbox);
        append.timers.extend(self.timers);
    }

    /// Adds a reply to the sender of the command, if the sender waits for one. `cause` is the event
    /// or message that the reply follows from.
    pub(crate) fn reply(
        &mut self,
        outcome: ReplyOutcome,
        content: Option<AnyMessage>,
        cause: Uuid,
    ) -> EffectResult<A, ()> {
        let metadata = self.ctx.metadata();
        let Some(sender) = metadata.return_addresses.last() else { return Ok(()) };
        let content = content.map(|content| self.context.encoded_any(&sender.stream, &content));
        let metadata = Metadata { causation_id: cause, ..metadata.clone() };
        let (_, id) = self.next_id();
        self.outbox.extend(reply_row(id, A::NAME, outcome, content.transpose()?, metadata));
        Ok(())
    }

    /// Adds what a reaction asks for. `cause` is the event or message that the reaction follows
    /// from.
    pub(crate) fn react(
        &mut self,
        reaction: Reaction<A::Command>,
        cause: Uuid,
    ) -> EffectResult<A, ()> {
        let (index, id) = self.next_id();
        match reaction {
            Reaction::DispatchCommand(dispatch) => {
                self.outbox.push(self.dispatch(id, *dispatch, cause)?);
            }
            Reaction::CallGateway(call) => self.outbox.push(self.call(id, *call, cause)?),
            Reaction::Delay(delay) => {
                self.timers.push(TimerChange::Arm(self.arm((index, id), *delay, cause)?));
            }
            Reaction::Cancel(timer) => {
                self.timers.push(TimerChange::Cancel { id: timer.as_str().to_owned() });
            }
            Reaction::Reply(reply) => self.outbox.extend(self.reply_to(id, &reply, cause)?),
            other => {
                return Err(SendError::Unstorable(format!("this runtime cannot store {other:?}")));
            }
        }
        Ok(())
    }

    fn next_id(&mut self) -> (u32, Uuid) {
        let index = self.next_index;
        self.next_index += 1;
        (index, self.ctx.effect_id(index))
    }

    fn dispatch(
        &self,
        id: Uuid,
        dispatch: DispatchCommand,
        cause: Uuid,
    ) -> EffectResult<A, NewOutboxRow> {
        let DispatchCommand { target, recipient, command, replies } = dispatch;
        if command.kind().internal {
            return Err(SendError::Internal(command.kind().name));
        }
        let is_remote = self.context.remote.contains(target);
        if !is_remote && !self.context.known.contains(&ReplySource::Target(target)) {
            return Err(unknown(target, "target", "`.aggregate`, `.remote` or `.elsewhere`"));
        }
        let metadata = metadata_json(&self.request_metadata(target, replies, cause)?);
        let content = self.context.encoded_any(&recipient, &command)?;
        let (kind, target) = route(target, is_remote);
        let (target, recipient) = (target.to_owned(), recipient.to_string());
        Ok(NewOutboxRow { id, kind, target, recipient, content, metadata })
    }

    fn call(&self, id: Uuid, call: CallGateway, cause: Uuid) -> EffectResult<A, NewOutboxRow> {
        let CallGateway { gateway, request, replies, idempotency_key } = call;
        if !self.context.known.contains(&ReplySource::Gateway(gateway)) {
            return Err(unknown(gateway, "gateway", "`.gateway` or `.gateway_elsewhere`"));
        }
        let idempotency_key = idempotency_key
            .map(|key| key.resolve(self.context.log, self.context.stream, gateway))
            .transpose()
            .map_err(|error| {
                SendError::Unstorable(format!(
                    "the idempotency key of a call to `{gateway}` is invalid: {error}"
                ))
            })?;
        let metadata = self.request_metadata(gateway, replies, cause)?;
        let metadata = CallMetadata { metadata, idempotency_key }.json();
        let content = self.context.encoded_any(self.context.stream, &request)?;
        let (kind, target, recipient) = (OutboxKind::Call, gateway.to_owned(), String::new());
        Ok(NewOutboxRow { id, kind, target, recipient, content, metadata })
    }

    fn arm(
        &self,
        (index, id): (u32, Uuid),
        delay: Delay<A::Command>,
        cause: Uuid,
    ) -> EffectResult<A, NewTimer> {
        let Delay { id: timer, due, action, detached } = delay;
        let kind = action.kind();
        if !kind.internal {
            return Err(SendError::Unstorable(format!(
                "`{}` is armed as a timer, so nobody else may send it: mark its variant with \
                 #[message(internal)]",
                kind.name
            )));
        }
        let content = self.context.encoded(&action)?;
        let mut metadata = self.follow_up_metadata(cause);
        if detached {
            metadata.return_addresses.clear();
        }
        Ok(NewTimer {
            id: timer.map_or_else(|| id.to_string(), |timer| timer.as_str().to_owned()),
            arming: TimerArming { armed_by: self.ctx.message_id(), effect_index: index },
            due,
            content,
            metadata: metadata_json(&metadata),
        })
    }

    /// The reply to an earlier request; `None` if the request wants none.
    fn reply_to(
        &self,
        id: Uuid,
        reply: &SendReply,
        cause: Uuid,
    ) -> EffectResult<A, Option<NewOutboxRow>> {
        if reply.event.downcast_ref::<A::Event>().is_none() {
            return Err(SendError::Unstorable(format!(
                "a reply must be an event of `{}`, which {:?} is not",
                A::NAME,
                reply.event
            )));
        }
        let Some(sender) = reply.to.stack().last() else { return Ok(None) };
        let content = self.context.encoded_any(&sender.stream, &reply.event)?;
        let mut metadata = Metadata { causation_id: cause, ..self.ctx.metadata().clone() };
        metadata.return_addresses = reply.to.stack().to_vec();
        Ok(reply_row(id, A::NAME, ReplyOutcome::Recorded, Some(content), metadata))
    }

    /// The metadata of a dispatch or call: it has a further return address if the instance wants a
    /// reply, and none at all if not.
    fn request_metadata(
        &self,
        target: &str,
        replies: ReplyMode,
        cause: Uuid,
    ) -> EffectResult<A, Metadata> {
        let mut metadata = self.follow_up_metadata(cause);
        if matches!(replies, ReplyMode::Unwanted | ReplyMode::Detached(_)) {
            metadata.return_addresses.clear();
        }
        if let ReplyMode::Tagged(tag) | ReplyMode::Detached(tag) = replies {
            if metadata.return_addresses.len() == MAX_RETURN_ADDRESSES {
                return Err(SendError::Unstorable(format!(
                    "a dispatch to `{target}` would be the {}th in a chain of requests; use `tell` \
                     where no reply is needed",
                    MAX_RETURN_ADDRESSES + 1
                )));
            }
            let (stream, target) = (self.context.stream.clone(), target.to_owned());
            let address = ReturnAddress { stream, target, tag, service: None, seal: None };
            metadata.return_addresses.push(address);
        }
        Ok(metadata)
    }

    fn follow_up_metadata(&self, cause: Uuid) -> Metadata {
        Metadata { causation_id: cause, reply: None, follower: None, ..self.ctx.metadata().clone() }
    }
}

/// The error of an effect that no registered component could execute.
fn unknown<R: Message>(name: &str, what: &str, how: &str) -> SendError<R> {
    SendError::Unstorable(format!("the {what} `{name}` is not known to the app: add {how}"))
}

/// The queue of a message to a target: that of its aggregate type, or that of the bus.
fn route(target: &str, is_remote: bool) -> (OutboxKind, &str) {
    if is_remote { (OutboxKind::Send, BUS_TARGET) } else { (OutboxKind::Dispatch, target) }
}

/// The reply to the last of the return addresses; `None` if there is none.
pub(crate) fn reply_row(
    id: Uuid,
    from: &str,
    outcome: ReplyOutcome,
    content: Option<EncodedMessage>,
    mut metadata: Metadata,
) -> Option<NewOutboxRow> {
    let ReturnAddress { stream, tag, service, seal, .. } = metadata.return_addresses.pop()?;
    metadata.reply = Some(InReplyTo { from: from.to_owned(), outcome, tag, seal });
    let (kind, target) = route(stream.category(), service.is_some());
    Some(NewOutboxRow {
        id,
        kind,
        target: target.to_owned(),
        recipient: stream.to_string(),
        content: content.unwrap_or_else(no_content),
        metadata: metadata_json(&metadata),
    })
}

fn no_content() -> EncodedMessage {
    EncodedMessage { name: NO_CONTENT.into(), version: 1, codec: "json".into(), bytes: Vec::new() }
}

pub(crate) fn metadata_json(metadata: &Metadata) -> String {
    serde_json::to_string(metadata).unwrap_or_else(|_| unreachable!("texts and ids are JSON"))
}
