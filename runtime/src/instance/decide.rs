//! Deciding what waits for an instance, on a copy of its state. Pure: no I/O.

use std::collections::BTreeSet;
use std::sync::Arc;

use composable_rust_core::__private::encode_value;
use composable_rust_core::{
    Aggregate, AnyMessage, Append, ArmedTimer, CallGateway, Context, Delay, DispatchCommand,
    EncodedMessage, ExpectedVersion, Format, Id, InReplyTo, Incoming, Message, Metadata, NewEvent,
    NewInboxEntry, NewOutboxRow, NewTimer, OutboxKind, Outcome, Reaction, ReplyMode, ReplyOutcome,
    ReplySource, ReturnAddress, StreamId, TimerChange, Version,
};
use uuid::Uuid;

use crate::error::SendError;
use crate::instance::encode::{Storage, unstorable};
use crate::instance::inbox::StoredOutcome;
use crate::instance::load::LoadedState;
use crate::panic::guarded;
use crate::worker::bus::published_topic::PublishedTopic;

/// How deep a chain of dispatches may be nested.
pub(crate) const MAX_RETURN_ADDRESSES: usize = 16;

/// What deciding needs to know besides state and message.
pub(crate) struct DecideContext<'a, A: Aggregate> {
    pub(crate) log: Uuid,
    pub(crate) id: &'a Id<A>,
    pub(crate) stream: &'a StreamId,
    pub(crate) env: &'a A::Environment,
    pub(crate) storage: Storage<'a>,
    /// Bytes after which an append takes no further message.
    pub(crate) max_bytes: usize,
    /// Targets that live in another service.
    pub(crate) remote: &'a BTreeSet<&'static str>,
    /// Targets and gateways of this service.
    pub(crate) known: &'a BTreeSet<ReplySource>,
    /// The publications of all types.
    pub(crate) published: &'a [Arc<PublishedTopic>],
}

impl<A: Aggregate> DecideContext<'_, A> {
    /// A message of the instance as it is stored.
    pub(crate) fn encoded<M: Message>(
        &self,
        message: &M,
    ) -> Result<EncodedMessage, SendError<A::Rejection>> {
        self.storage.encoded(self.stream, message).map_err(SendError::Unstorable)
    }

    /// Checks that an event can be published to every topic that this process publishes it to.
    fn check_publication(&self, event: &A::Event) -> Result<(), SendError<A::Rejection>> {
        let mut published = self.published.iter().filter(|of| of.category == A::NAME);
        let checked = published.try_for_each(|of| of.check(event, self.storage.verify_encoding));
        checked.map_err(SendError::Unstorable)
    }
}

/// A message that waits to be decided.
#[derive(Debug, Clone)]
pub(crate) struct PendingCommand<C> {
    pub(crate) command: C,
    pub(crate) incoming: Incoming,
    /// Of the command, if the message can come again and its outcome is to be kept.
    pub(crate) digest: Option<u128>,
    pub(crate) expecting: Option<Version>,
    /// The timer whose message it is.
    pub(crate) fires: Option<ArmedTimer>,
}

/// What one message leads to, if the append commits.
#[derive(Debug)]
pub(crate) enum CommandOutcome<A: Aggregate> {
    /// It caused `count` events, the first being number `first` of the append.
    Accepted { first: u32, count: u32 },
    /// Nothing of it is in the append. It is true of the state that the append checks.
    Refused(SendError<A::Rejection>),
    /// It is message number `.0` of the drain once more.
    Same(usize),
    /// Its timer was cancelled or replaced by an earlier message of the drain.
    Void,
}

impl<A: Aggregate> CommandOutcome<A> {
    /// `true` if the message caused events.
    pub(crate) fn has_events(&self) -> bool {
        matches!(self, Self::Accepted { count: 1.., .. })
    }

    /// Whether the message fails for reasons other than the domain's, so that no mark is made.
    pub(crate) fn is_failure(&self) -> bool {
        let Self::Refused(error) = self else { return false };
        !matches!(
            error,
            SendError::Rejected(_) | SendError::UnexpectedVersion { .. } | SendError::KeyReused
        )
    }
}

/// One append for everything that waits, and what each message is told once it commits.
pub(crate) struct Plan<A: Aggregate> {
    pub(crate) append: Append,
    pub(crate) after: LoadedState<A>,
    pub(crate) rulings: Vec<CommandOutcome<A>>,
}

impl<A: Aggregate> Plan<A> {
    /// Whether the append would only check the version.
    pub(crate) fn stores_nothing(&self) -> bool {
        let Append { events, inbox: marks, outbox, timers, fired_timers: fires, .. } = &self.append;
        let effects = outbox.is_empty() && timers.is_empty() && fires.is_empty();
        events.is_empty() && marks.is_empty() && effects
    }
}

/// Decides the questions in turn, each on the state that the one before left, until the append is
/// large: there are as many rulings as questions were decided.
pub(crate) fn plan<A: Aggregate>(
    rules: &DecideContext<'_, A>,
    base: &LoadedState<A>,
    questions: &[&PendingCommand<A::Command>],
) -> Plan<A> {
    let mut failed: Vec<Option<SendError<A::Rejection>>> = questions.iter().map(|_| None).collect();
    // A command that fails half-way leaves a half-changed state: start again without it.
    'again: loop {
        let append = Append::new(rules.stream.clone(), ExpectedVersion::Exact(base.version));
        let mut draft =
            AppendBuilder { rules, append, state: base.state.clone(), version: base.version };
        let mut rulings = Vec::with_capacity(questions.len());
        for (index, question) in questions.iter().enumerate() {
            let ruling = if let Some(error) = &failed[index] {
                CommandOutcome::Refused(error.clone())
            } else if let Some(first) = same_message(&questions[..index], question) {
                if questions[first].digest == question.digest {
                    CommandOutcome::Same(first)
                } else {
                    CommandOutcome::Refused(SendError::KeyReused)
                }
            } else {
                match draft.guarded_answer(question) {
                    Ok(ruling) => ruling,
                    Err(error) => {
                        failed[index] = Some(error);
                        continue 'again;
                    }
                }
            };
            rulings.push(ruling);
            if draft.append.size() >= rules.max_bytes {
                break;
            }
        }
        let AppendBuilder { append, state, version, .. } = draft;
        let LoadedState { snapshot, closed, generation, .. } = *base;
        let has_content = base.has_content || version > base.version;
        let last = append.events.last().map(|event| event.id).or(base.last);
        let after = LoadedState { state, version, last, snapshot, closed, has_content, generation };
        return Plan { append, after, rulings };
    }
}

fn same_message<C>(earlier: &[&PendingCommand<C>], question: &PendingCommand<C>) -> Option<usize> {
    question.digest?;
    let id = question.incoming.message_id;
    earlier.iter().position(|other| other.incoming.message_id == id)
}

struct AppendBuilder<'a, A: Aggregate> {
    rules: &'a DecideContext<'a, A>,
    append: Append,
    state: A,
    version: Version,
}

impl<A: Aggregate> AppendBuilder<'_, A> {
    /// [`Draft::answer`], where a panic of the aggregate is an error too.
    fn guarded_answer(
        &mut self,
        question: &PendingCommand<A::Command>,
    ) -> Result<CommandOutcome<A>, SendError<A::Rejection>> {
        guarded(|| self.answer(question)).unwrap_or_else(|panic| {
            let (stream, id) = (&self.rules.stream, question.incoming.message_id);
            tracing::error!(?stream, message = %id, panic, "an aggregate panicked; its command fails");
            Err(SendError::Panicked(panic))
        })
    }

    /// Decides one message. An error means that it fails for reasons other than the domain's, and
    /// that the draft is spoilt.
    fn answer(
        &mut self,
        question: &PendingCommand<A::Command>,
    ) -> Result<CommandOutcome<A>, SendError<A::Rejection>> {
        if let Some(firing) = &question.fires {
            if self.has_changed_timer(&firing.id) {
                return Ok(CommandOutcome::Void);
            }
            self.append.fired_timers.push(firing.clone());
        }
        let unexpected = question.expecting.filter(|expected| *expected != self.version);
        if let Some(expected) = unexpected {
            let actual = self.version;
            let first = self.append.events.len();
            self.mark(question, first, &StoredOutcome::UnexpectedVersion { expected, actual })?;
            return Ok(CommandOutcome::Refused(SendError::UnexpectedVersion { expected, actual }));
        }
        let rules = self.rules;
        let ctx = Context::new(rules.log, rules.id, self.version, &question.incoming, rules.env);
        let effects_before = (self.append.outbox.len(), self.append.timers.len());
        let decided = self.state.decide(question.command.clone(), &ctx);
        let first = self.append.events.len();
        let asked = question.is_request();
        let mut effects = EffectCounter { number: 0, metadata: ctx.metadata() };
        let (ruling, answer) = match decided {
            Ok(outcome) => {
                let silent = outcome.events.is_empty() && asked;
                self.accept(outcome, &ctx, &mut effects)?;
                if silent {
                    let (unchanged, cause) = (ReplyOutcome::Unchanged, ctx.message_id().0);
                    self.reply(unchanged, None, cause, &ctx, &mut effects)?;
                }
                let count = self.append.events.len() - first;
                // Its timers go with these events, whatever a later message of the drain does.
                if count > 0 && self.state.is_finished() {
                    self.append.cancels_timers = true;
                    self.append.timers.clear();
                }
                let ruling = CommandOutcome::Accepted { first: index(first), count: index(count) };
                (ruling, StoredOutcome::Accepted)
            }
            Err(rejection) => {
                // Of a timer's or a reply's message, nobody is told.
                if asked {
                    let (told, cause) = (AnyMessage::new(rejection.clone()), ctx.message_id().0);
                    self.reply(ReplyOutcome::Rejected, Some(told), cause, &ctx, &mut effects)?;
                }
                let answer = match question.digest {
                    Some(_) => StoredOutcome::rejected(rules, &rejection)?,
                    None => StoredOutcome::Accepted,
                };
                (CommandOutcome::Refused(SendError::Rejected(rejection)), answer)
            }
        };
        self.mark(question, first, &answer)?;
        // Effects without an event have nothing to be recognised by if the append is sent again.
        let (outbox, timers) = (self.append.outbox.len(), self.append.timers.len());
        if question.digest.is_none()
            && self.append.events.len() == first
            && (outbox, timers) != effects_before
        {
            self.push_mark(question, first, 0, &answer)?;
        }
        Ok(ruling)
    }

    /// Keeps the outcome of a message that can come again.
    fn mark(
        &mut self,
        question: &PendingCommand<A::Command>,
        first: usize,
        answer: &StoredOutcome,
    ) -> Result<(), SendError<A::Rejection>> {
        match question.digest {
            Some(digest) => self.push_mark(question, first, digest, answer),
            None => Ok(()),
        }
    }

    fn push_mark(
        &mut self,
        question: &PendingCommand<A::Command>,
        first: usize,
        digest: u128,
        answer: &StoredOutcome,
    ) -> Result<(), SendError<A::Rejection>> {
        self.append.inbox.push(NewInboxEntry {
            message_id: question.incoming.message_id,
            digest,
            first_event: index(first),
            event_count: index(self.append.events.len() - first),
            outcome: encode_value(Format::Binary, answer).map_err(unstorable)?,
        });
        Ok(())
    }

    /// Whether an earlier message of the drain has armed or cancelled the timer, or finished the
    /// instance, which cancels all.
    fn has_changed_timer(&self, timer: &str) -> bool {
        let changed = self.append.timers.iter().any(|change| match change {
            TimerChange::Arm(armed) => armed.id == timer,
            TimerChange::Cancel { id } => id == timer,
        });
        changed
            || self.append.cancels_timers
            || self.append.fired_timers.iter().any(|f| f.id == timer)
    }

    fn accept(
        &mut self,
        outcome: Outcome<A>,
        ctx: &Context<'_, A>,
        effects: &mut EffectCounter<'_>,
    ) -> Result<(), SendError<A::Rejection>> {
        if outcome.repeated {
            for event in &outcome.events {
                let event = AnyMessage::new(event.clone());
                let cause = ctx.message_id().0;
                self.reply(ReplyOutcome::Recorded, Some(event), cause, ctx, effects)?;
            }
        } else if !outcome.events.is_empty() {
            let metadata = event_metadata(ctx);
            for (n, event) in outcome.events.into_iter().enumerate() {
                let content = self.rules.encoded(&event)?;
                self.rules.check_publication(&event)?;
                let id = ctx.event_id(index(n));
                self.append.events.push(NewEvent { id, content, metadata: metadata.clone() });
                self.state.apply(event.clone());
                let reactions = self.state.react(&event, ctx);
                self.version = self.version.next();
                for reaction in reactions {
                    self.follow_up(reaction, ctx, id.0, effects)?;
                }
                let event = AnyMessage::new(event);
                self.reply(ReplyOutcome::Recorded, Some(event), id.0, ctx, effects)?;
            }
        }
        for reaction in outcome.effects {
            self.follow_up(reaction, ctx, ctx.message_id().0, effects)?;
        }
        Ok(())
    }

    /// Tells whoever asked for the message being handled, if anybody did.
    fn reply(
        &mut self,
        outcome: ReplyOutcome,
        content: Option<AnyMessage>,
        cause: Uuid,
        ctx: &Context<'_, A>,
        effects: &mut EffectCounter<'_>,
    ) -> Result<(), SendError<A::Rejection>> {
        let of = effects.metadata;
        let Some(asker) = of.return_addresses.last() else { return Ok(()) };
        let content = content.map(|content| self.encoded_any(&asker.stream, &content));
        let metadata = Metadata { causation_id: cause, ..of.clone() };
        let id = ctx.effect_id(effects.next());
        let row = reply_row(id, A::NAME, outcome, content.transpose()?, metadata);
        self.append.outbox.extend(row);
        Ok(())
    }

    fn follow_up(
        &mut self,
        reaction: Reaction<A::Command>,
        ctx: &Context<'_, A>,
        cause: Uuid,
        effects: &mut EffectCounter<'_>,
    ) -> Result<(), SendError<A::Rejection>> {
        let number = effects.next();
        let id = ctx.effect_id(number);
        match reaction {
            Reaction::DispatchCommand(dispatch) => {
                let DispatchCommand { target, recipient, command, replies } = *dispatch;
                if command.kind().internal {
                    return Err(SendError::Internal(command.kind().name));
                }
                let remote = self.rules.remote.contains(target);
                if !remote && !self.rules.known.contains(&ReplySource::Target(target)) {
                    return Err(unknown(
                        target,
                        "target",
                        "`.aggregate`, `.remote` or `.elsewhere`",
                    ));
                }
                let asks = Some((target, replies));
                let metadata = self.caused_by(effects.metadata, cause, asks)?;
                let content = self.encoded_any(&recipient, &command)?;
                let (kind, target) = addressed(target, remote);
                self.append.outbox.push(NewOutboxRow {
                    id,
                    kind,
                    target: target.to_owned(),
                    recipient: recipient.to_string(),
                    content,
                    metadata,
                });
            }
            Reaction::CallGateway(call) => {
                let CallGateway { gateway, request, replies } = *call;
                if !self.rules.known.contains(&ReplySource::Gateway(gateway)) {
                    return Err(unknown(gateway, "gateway", "`.gateway` or `.gateway_elsewhere`"));
                }
                let asks = Some((gateway, replies));
                let metadata = self.caused_by(effects.metadata, cause, asks)?;
                let content = self.encoded_any(self.rules.stream, &request)?;
                self.append.outbox.push(NewOutboxRow {
                    id,
                    kind: OutboxKind::Call,
                    target: gateway.to_owned(),
                    recipient: String::new(),
                    content,
                    metadata,
                });
            }
            Reaction::Delay(delay) => {
                let Delay { id: timer, due, action, detached } = *delay;
                let kind = action.kind();
                if !kind.internal {
                    return Err(SendError::Unstorable(format!(
                        "`{}` is armed as a timer, so nobody else may send it: mark its variant \
                         with #[message(internal)]",
                        kind.name
                    )));
                }
                let content = self.rules.encoded(&action)?;
                self.append.timers.push(TimerChange::Arm(NewTimer {
                    id: timer.map_or_else(|| id.to_string(), |timer| timer.as_str().to_owned()),
                    arming: (ctx.message_id(), number),
                    due,
                    content,
                    metadata: {
                        let mut of = effects.metadata.clone();
                        if detached {
                            of.return_addresses.clear();
                        }
                        self.caused_by(&of, cause, None)?
                    },
                }));
            }
            Reaction::Cancel(timer) => {
                self.append.timers.push(TimerChange::Cancel { id: timer.as_str().to_owned() });
            }
            Reaction::Reply(answer) => {
                if answer.event.downcast_ref::<A::Event>().is_none() {
                    return Err(SendError::Unstorable(format!(
                        "an answer must be an event of `{}`, which {:?} is not",
                        A::NAME,
                        answer.event
                    )));
                }
                let Some(asker) = answer.to.stack().last() else { return Ok(()) };
                let content = self.encoded_any(&asker.stream, &answer.event)?;
                let mut metadata = Metadata { causation_id: cause, ..effects.metadata.clone() };
                metadata.return_addresses = answer.to.stack().to_vec();
                let outcome = ReplyOutcome::Recorded;
                self.append.outbox.extend(reply_row(id, A::NAME, outcome, Some(content), metadata));
            }
            other => {
                return Err(SendError::Unstorable(format!("this runtime cannot store {other:?}")));
            }
        }
        Ok(())
    }

    fn encoded_any(
        &self,
        stream: &StreamId,
        message: &AnyMessage,
    ) -> Result<EncodedMessage, SendError<A::Rejection>> {
        self.rules.storage.encoded_any(stream, message).map_err(SendError::Unstorable)
    }

    /// The metadata of a follow-up: a timer keeps the return addresses, a request that wants
    /// replies adds one, one that does not has none.
    fn caused_by(
        &self,
        of: &Metadata,
        cause: Uuid,
        request: Option<(&'static str, ReplyMode)>,
    ) -> Result<String, SendError<A::Rejection>> {
        let mut metadata = Metadata { causation_id: cause, reply: None, ..of.clone() };
        if let Some((_, ReplyMode::Unwanted | ReplyMode::Detached(_))) = &request {
            metadata.return_addresses.clear();
        }
        match request {
            None | Some((_, ReplyMode::Unwanted)) => {}
            Some((target, ReplyMode::Tagged(tag) | ReplyMode::Detached(tag))) => {
                if metadata.return_addresses.len() == MAX_RETURN_ADDRESSES {
                    return Err(SendError::Unstorable(format!(
                        "a dispatch to `{target}` would be the {}th in a chain of requests; use \
                         `tell` where no answer is needed",
                        MAX_RETURN_ADDRESSES + 1
                    )));
                }
                let stream = self.rules.stream.clone();
                let target = target.to_owned();
                metadata.return_addresses.push(ReturnAddress {
                    stream,
                    target,
                    tag,
                    service: None,
                    seal: None,
                });
            }
        }
        Ok(json(&metadata))
    }
}

/// Numbers the durable effects of one message.
struct EffectCounter<'a> {
    number: u32,
    metadata: &'a Metadata,
}

impl EffectCounter<'_> {
    fn next(&mut self) -> u32 {
        self.number += 1;
        self.number - 1
    }
}

/// Nobody would ever execute it, so it is not stored.
fn unknown<R: Message>(name: &str, what: &str, how: &str) -> SendError<R> {
    SendError::Unstorable(format!("the {what} `{name}` is not known to the app: add {how}"))
}

/// What executes what goes to a target: its type here, or the bus.
fn addressed(target: &str, remote: bool) -> (OutboxKind, &str) {
    if remote { (OutboxKind::Send, BUS_TARGET) } else { (OutboxKind::Dispatch, target) }
}

/// The target of everything that goes over the bus.
pub(crate) const BUS_TARGET: &str = "bus";

/// The reply to the nearest of the return addresses, if there is one.
pub(crate) fn reply_row(
    id: Uuid,
    from: &str,
    outcome: ReplyOutcome,
    content: Option<EncodedMessage>,
    mut metadata: Metadata,
) -> Option<NewOutboxRow> {
    let ReturnAddress { stream, tag, service, seal, .. } = metadata.return_addresses.pop()?;
    metadata.reply = Some(InReplyTo { from: from.to_owned(), outcome, tag, seal });
    let (kind, target) = addressed(stream.category(), service.is_some());
    Some(NewOutboxRow {
        id,
        kind,
        target: target.to_owned(),
        recipient: stream.to_string(),
        content: content.unwrap_or_else(nothing),
        metadata: json(&metadata),
    })
}

/// Names the content of a reply that has none.
pub(crate) const NO_TARGET: &str = "nothing";

fn nothing() -> EncodedMessage {
    EncodedMessage { name: NO_TARGET.into(), version: 1, codec: "json".into(), bytes: Vec::new() }
}

pub(crate) fn json(metadata: &Metadata) -> String {
    serde_json::to_string(metadata).unwrap_or_else(|_| unreachable!("texts and ids are JSON"))
}

impl<C> PendingCommand<C> {
    /// Whether it is somebody's command: not a reply, not a timer.
    fn is_request(&self) -> bool {
        self.fires.is_none() && self.incoming.metadata.reply.is_none()
    }
}

fn event_metadata<A: Aggregate>(ctx: &Context<'_, A>) -> String {
    let metadata = Metadata {
        causation_id: ctx.message_id().0,
        return_addresses: Vec::new(),
        reply: None,
        ..ctx.metadata().clone()
    };
    json(&metadata)
}

fn index(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
