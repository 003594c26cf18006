//! Deciding a batch of commands on a copy of the instance's state. Pure: no I/O.

use composable_rust_core::codec::Format;
use composable_rust_core::codec::encode_value;
use composable_rust_core::event::NewEvent;
use composable_rust_core::message::{AnyMessage, ReplyOutcome};
use composable_rust_core::store::{Append, ExpectedVersion, NewInboxEntry, TimerChange};
use composable_rust_core::{Aggregate, Context, Metadata, Outcome, Version};

use crate::error::SendError;
use crate::instance::decide_context::DecideContext;
use crate::instance::effects::{EffectRows, metadata_json};
use crate::instance::encode::unstorable;
use crate::instance::inbox::StoredOutcome;
use crate::instance::load::LoadedState;
use crate::instance::message::{CommandOutcome, PendingCommand};
use crate::panic::guarded;

/// The append for a batch of commands, with the state and the outcomes that hold once the append
/// commits.
pub(crate) struct DecidedBatch<A: Aggregate> {
    pub(crate) append: Append,
    pub(crate) after: LoadedState<A>,
    /// The outcomes of the decided commands, in order.
    pub(crate) outcomes: Vec<CommandOutcome<A>>,
}

impl<A: Aggregate> DecidedBatch<A> {
    /// Returns `true` if the append would only check the version.
    pub(crate) fn stores_nothing(&self) -> bool {
        let Append { events, inbox, outbox, timers, fired_timers, .. } = &self.append;
        let no_effects = outbox.is_empty() && timers.is_empty() && fired_timers.is_empty();
        events.is_empty() && inbox.is_empty() && no_effects
    }
}

/// Decides the commands in turn, each on the state that the previous command left.
///
/// Stops when the append reaches the maximum size. Then there are fewer outcomes than commands.
pub(crate) fn decide<A: Aggregate>(
    context: &DecideContext<'_, A>,
    base: &LoadedState<A>,
    commands: &[&PendingCommand<A::Command>],
) -> DecidedBatch<A> {
    let mut failures: Vec<_> = commands.iter().map(|_| None).collect();
    // A command that fails half-way leaves a half-changed state. Starts again without the command.
    loop {
        if let Some(batch) = try_decide(context, base, commands, &mut failures) {
            return batch;
        }
    }
}

/// Decides the commands, except those that have an error in `failures`. If another command fails,
/// adds its error to `failures` and returns `None`.
fn try_decide<A: Aggregate>(
    context: &DecideContext<'_, A>,
    base: &LoadedState<A>,
    commands: &[&PendingCommand<A::Command>],
    failures: &mut [Option<SendError<A::Rejection>>],
) -> Option<DecidedBatch<A>> {
    let mut builder = AppendBuilder::new(context, base);
    let mut outcomes = Vec::with_capacity(commands.len());
    for (index, pending) in commands.iter().enumerate() {
        let outcome = if let Some(error) = &failures[index] {
            CommandOutcome::Failed(error.clone())
        } else if let Some(first) = same_message(&commands[..index], pending) {
            if commands[first].digest == pending.digest {
                CommandOutcome::DuplicateOf(first)
            } else {
                CommandOutcome::Failed(SendError::KeyReused)
            }
        } else {
            match builder.guarded_decide(pending) {
                Ok(outcome) => outcome,
                Err(error) => {
                    failures[index] = Some(error);
                    return None;
                }
            }
        };
        outcomes.push(outcome);
        if builder.append.size() >= context.max_bytes {
            break;
        }
    }
    Some(builder.finish(base, outcomes))
}

fn same_message<C>(earlier: &[&PendingCommand<C>], pending: &PendingCommand<C>) -> Option<usize> {
    pending.digest?;
    earlier.iter().position(|other| other.message_id() == pending.message_id())
}

struct AppendBuilder<'a, A: Aggregate> {
    context: &'a DecideContext<'a, A>,
    append: Append,
    state: A,
    version: Version,
}

impl<'a, A: Aggregate> AppendBuilder<'a, A> {
    fn new(context: &'a DecideContext<'a, A>, base: &LoadedState<A>) -> Self {
        let append = Append::new(context.stream.clone(), ExpectedVersion::Exact(base.version));
        Self { context, append, state: base.state.clone(), version: base.version }
    }

    fn finish(self, base: &LoadedState<A>, outcomes: Vec<CommandOutcome<A>>) -> DecidedBatch<A> {
        let Self { append, state, version, .. } = self;
        let LoadedState { snapshot, closed, generation, .. } = *base;
        let has_content = base.has_content || version > base.version;
        let last = append.events.last().map(|event| event.id).or(base.last);
        let after = LoadedState { state, version, last, snapshot, closed, has_content, generation };
        DecidedBatch { append, after, outcomes }
    }

    /// Calls [`AppendBuilder::decide`], and converts a panic of the aggregate into an error.
    fn guarded_decide(
        &mut self,
        pending: &PendingCommand<A::Command>,
    ) -> Result<CommandOutcome<A>, SendError<A::Rejection>> {
        guarded(|| self.decide(pending)).unwrap_or_else(|panic| {
            let (stream, id) = (&self.context.stream, pending.message_id());
            tracing::error!(?stream, message = %id, panic, "an aggregate panicked; its command fails");
            Err(SendError::Panicked(panic))
        })
    }

    /// Decides one command.
    ///
    /// An error means that the command fails for a reason outside the domain, and that the builder
    /// must be discarded.
    fn decide(
        &mut self,
        pending: &PendingCommand<A::Command>,
    ) -> Result<CommandOutcome<A>, SendError<A::Rejection>> {
        if let Some(timer) = &pending.fired_timer {
            if self.has_changed_timer(&timer.id) {
                return Ok(CommandOutcome::StaleTimer);
            }
            self.append.fired_timers.push(timer.clone());
        }
        let first = self.append.events.len();
        let unexpected = pending.expected.filter(|expected| *expected != self.version);
        if let Some(expected) = unexpected {
            let actual = self.version;
            self.store_outcome(
                pending,
                first,
                &StoredOutcome::UnexpectedVersion { expected, actual },
            )?;
            return Ok(CommandOutcome::Failed(SendError::UnexpectedVersion { expected, actual }));
        }
        let context = self.context;
        let (log, id) = (context.log, context.id);
        let ctx = Context::new(log, id, self.version, &pending.incoming, context.env);
        let mut effects = EffectRows::new(context, &ctx);
        let (outcome, stored) = match self.state.decide(pending.command.clone(), &ctx) {
            Ok(outcome) => {
                let count = self.accept(outcome, pending, &ctx, &mut effects)?;
                let outcome = CommandOutcome::Accepted { first: index(first), count: index(count) };
                (outcome, StoredOutcome::Accepted)
            }
            Err(rejection) => {
                let stored = self.reject(&rejection, pending, &mut effects)?;
                (CommandOutcome::Failed(SendError::Rejected(rejection)), stored)
            }
        };
        let has_effects = !effects.is_empty();
        effects.add_to(&mut self.append);
        let has_events = self.append.events.len() > first;
        if has_events && self.state.is_finished() {
            // These events finish the instance and so cancel its timers, whatever a later command
            // of the batch does.
            self.append.cancels_timers = true;
            self.append.timers.clear();
        }
        self.store_outcome(pending, first, &stored)?;
        // If the append is sent again, only events or an inbox entry show that the effects are
        // already stored.
        if pending.digest.is_none() && has_effects && !has_events {
            self.push_inbox_entry(pending, first, 0, &stored)?;
        }
        Ok(outcome)
    }

    /// Adds the events and effects of an accepted command. Returns the number of events.
    fn accept(
        &mut self,
        outcome: Outcome<A>,
        pending: &PendingCommand<A::Command>,
        ctx: &Context<'_, A>,
        effects: &mut EffectRows<'_, A>,
    ) -> Result<usize, SendError<A::Rejection>> {
        let message = ctx.message_id().0;
        let is_unchanged = outcome.events.is_empty();
        let mut count = 0;
        if outcome.repeated {
            for event in &outcome.events {
                let event = AnyMessage::new(event.clone());
                effects.reply(ReplyOutcome::Recorded, Some(event), message)?;
            }
        } else if !is_unchanged {
            count = outcome.events.len();
            let metadata = event_metadata(ctx);
            for (n, event) in outcome.events.into_iter().enumerate() {
                self.push_event(event, n, &metadata, ctx, effects)?;
            }
        }
        for reaction in outcome.effects {
            effects.react(reaction, message)?;
        }
        if is_unchanged && pending.is_request() {
            effects.reply(ReplyOutcome::Unchanged, None, message)?;
        }
        Ok(count)
    }

    /// Adds event number `n` of a command and its reactions to the append, and applies the event.
    fn push_event(
        &mut self,
        event: A::Event,
        n: usize,
        metadata: &str,
        ctx: &Context<'_, A>,
        effects: &mut EffectRows<'_, A>,
    ) -> Result<(), SendError<A::Rejection>> {
        let content = self.context.encoded(&event)?;
        self.context.check_publication(&event)?;
        let id = ctx.event_id(index(n));
        self.append.events.push(NewEvent { id, content, metadata: metadata.to_owned() });
        self.state.apply(event.clone());
        let reactions = self.state.react(&event, ctx);
        self.version = self.version.next();
        for reaction in reactions {
            effects.react(reaction, id.0)?;
        }
        effects.reply(ReplyOutcome::Recorded, Some(AnyMessage::new(event)), id.0)
    }

    /// Adds the reply to a rejected command. Returns the outcome for the inbox.
    fn reject(
        &self,
        rejection: &A::Rejection,
        pending: &PendingCommand<A::Command>,
        effects: &mut EffectRows<'_, A>,
    ) -> Result<StoredOutcome, SendError<A::Rejection>> {
        if pending.is_request() {
            let (content, cause) = (AnyMessage::new(rejection.clone()), pending.message_id().0);
            effects.reply(ReplyOutcome::Rejected, Some(content), cause)?;
        }
        Ok(match pending.digest {
            Some(_) => StoredOutcome::rejected(self.context.encoded(rejection)?),
            None => StoredOutcome::Accepted,
        })
    }

    /// Adds an inbox entry if the command can be redelivered. The command's events start at index
    /// `first` of the append.
    fn store_outcome(
        &mut self,
        pending: &PendingCommand<A::Command>,
        first: usize,
        outcome: &StoredOutcome,
    ) -> Result<(), SendError<A::Rejection>> {
        match pending.digest {
            Some(digest) => self.push_inbox_entry(pending, first, digest, outcome),
            None => Ok(()),
        }
    }

    fn push_inbox_entry(
        &mut self,
        pending: &PendingCommand<A::Command>,
        first: usize,
        digest: u128,
        outcome: &StoredOutcome,
    ) -> Result<(), SendError<A::Rejection>> {
        self.append.inbox.push(NewInboxEntry {
            message_id: pending.message_id(),
            digest,
            first_event: index(first),
            event_count: index(self.append.events.len() - first),
            outcome: encode_value(Format::Binary, outcome).map_err(unstorable)?,
        });
        Ok(())
    }

    /// Returns `true` if an earlier command of the batch has armed, cancelled or fired the timer,
    /// or has finished the instance, which cancels all timers.
    fn has_changed_timer(&self, timer: &str) -> bool {
        let changed = self.append.timers.iter().any(|change| match change {
            TimerChange::Arm(armed) => armed.id == timer,
            TimerChange::Cancel { id } => id == timer,
        });
        let has_fired = self.append.fired_timers.iter().any(|fired| fired.id == timer);
        changed || has_fired || self.append.cancels_timers
    }
}

fn event_metadata<A: Aggregate>(ctx: &Context<'_, A>) -> String {
    let metadata = Metadata {
        causation_id: ctx.message_id().0,
        return_addresses: Vec::new(),
        reply: None,
        follower: None,
        ..ctx.metadata().clone()
    };
    metadata_json(&metadata)
}

fn index(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
