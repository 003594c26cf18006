//! Handing an instance a message that the runtime delivers: a dispatched command, a reply, a
//! timeout.

use std::sync::Arc;

use composable_rust_core::codec::{DecodeError, EncodedMessage, Format};
use composable_rust_core::event::ERASED;
use composable_rust_core::message::{Incoming, RawReply};
use composable_rust_core::queue::ArmedTimer;
use composable_rust_core::{Aggregate, Id, Message, MessageId, Metadata, StreamId};
use tracing::Instrument as _;

use crate::app::unknown_messages::NewerCode;
use crate::error::{LoadError, SendError, error_chain};
use crate::instance::decide::decide;
use crate::instance::effects::NO_CONTENT;
use crate::instance::load::load;
use crate::instance::message::{CommandOutcome, PendingCommand, SubmitError};
use crate::instance::runtime::AggregateRuntime;
use crate::panic::guarded;
use crate::spans;
use crate::worker::outcome::{Delivered, Failure};

/// A message on its way to an instance, as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct InboundMessage {
    /// The recipient's stream.
    pub(crate) stream: StreamId,
    /// The id by which the recipient's inbox knows the message.
    pub(crate) id: MessageId,
    pub(crate) content: EncodedMessage,
    pub(crate) metadata: Metadata,
    /// The timer that delivers the message.
    pub(crate) fired_timer: Option<ArmedTimer>,
}

/// An instance with the command that a message is for it.
type Accepted<A> = (Id<A>, PendingCommand<<A as Aggregate>::Command>);

impl<A: Aggregate> AggregateRuntime<A> {
    /// Has the instance handle a message.
    ///
    /// An unavailable instance must not hold up others, so the caller gets
    /// [`Failure::Unavailable`] after the default deadline. Delivering the message again is safe.
    pub(crate) async fn handle_carried(
        self: &Arc<Self>,
        message: &InboundMessage,
    ) -> Result<Delivered, Failure> {
        // The content may be erased with the sender's stream.
        let Some((id, mut pending)) = self.accept(message)? else { return Ok(Delivered::Handled) };
        let name = pending.command.kind().name;
        let span = spans::process(name, message);
        let traceparent = &mut pending.incoming.metadata.traceparent;
        *traceparent = spans::carried(&span, traceparent.take());
        let within = self.shared.settings.default_deadline;
        let submitted = self.submit(&id, pending, None, within).instrument(span.clone());
        let delivered = match submitted.await {
            Ok(_) => Ok(Delivered::Handled),
            Err(error) => delivery_outcome(error),
        };
        if let Err(failure) = &delivered {
            spans::failed(&span, failure.kind());
        }
        delivered
    }

    /// Decides a message on a copy of the instance's state. Nothing is changed.
    ///
    /// # Errors
    ///
    /// [`Failure`], as the delivery of the message would lead to; rejections are none.
    pub(crate) async fn rehearse(&self, message: &InboundMessage) -> Result<Delivered, Failure> {
        let Some((id, pending)) = self.accept(message)? else { return Ok(Delivered::Handled) };
        let stream = &message.stream;
        let (store, codecs) = (&self.shared.store, &self.shared.codecs);
        let loaded = match load::<A>(store, codecs, stream, self.fingerprint).await {
            Ok(loaded) => loaded,
            Err(error) => return delivery_outcome::<A::Rejection>(failed_load(error)),
        };
        if loaded.closed {
            return Ok(Delivered::StreamClosed);
        }
        let context = self.decide_context(&id, stream);
        let mut decided = decide(&context, &loaded, &[&pending]);
        match decided.outcomes.pop() {
            Some(CommandOutcome::Failed(error)) => delivery_outcome(SubmitError::Send(error)),
            _ => Ok(Delivered::Handled),
        }
    }

    /// Decodes a message and checks that it may be delivered; `None` if its content was erased.
    fn accept(&self, message: &InboundMessage) -> Result<Option<Accepted<A>>, Failure> {
        let command = match self.command_of(message) {
            Ok(Some(command)) => command,
            Ok(None) => return Ok(None),
            Err(error) => {
                return Err(Failure::of_decode(&error, Failure::Poison));
            }
        };
        let Metadata { reply, follower, .. } = &message.metadata;
        let is_internal = reply.is_some() || follower.is_some() || message.fired_timer.is_some();
        if command.kind().internal && !is_internal {
            let name = command.kind().name;
            let reason = format!("`{name}` is internal: only the runtime may send it");
            return Err(Failure::Poison(reason));
        }
        let Some(id) = Id::<A>::of_stream(&message.stream) else {
            let reason = format!("{} is not of `{}`", message.stream, A::NAME);
            return Err(Failure::Poison(reason));
        };
        let now = self.shared.clock.now();
        let pending = PendingCommand {
            command,
            incoming: Incoming { message_id: message.id, metadata: message.metadata.clone(), now },
            // A redelivery is the same to the byte, so its id identifies the message.
            digest: Some(0),
            expected: None,
            fired_timer: message.fired_timer.clone(),
        };
        Ok(Some((id, pending)))
    }

    /// Decodes a message as a command of the aggregate; `None` if its content was erased.
    fn command_of(&self, message: &InboundMessage) -> Result<Option<A::Command>, DecodeError> {
        let InboundMessage { stream, content, metadata, .. } = message;
        if content.name == ERASED {
            return Ok(None);
        }
        let codecs = &self.shared.codecs;
        let decode = || match &metadata.reply {
            None => codecs.decode(stream, content),
            Some(to) => {
                let (format, bytes) = if content.name == NO_CONTENT {
                    (Format::Json, std::borrow::Cow::default())
                } else {
                    codecs.open(stream, content)?
                };
                let (name, version) = (&*content.name, content.version);
                A::Command::receive_raw(&RawReply { to, name, version, format, bytes: &bytes })
            }
        };
        // Upcasters and codecs are code of users.
        let decoded = guarded(decode).unwrap_or_else(|panic| {
            let (name, version) = (content.name.to_string(), content.version);
            Err(DecodeError::Malformed { name, version, source: panic.into() })
        });
        decoded.map(Some)
    }
}

fn failed_load<R: Message>(error: LoadError) -> SubmitError<R> {
    SubmitError::Send(SendError::Load(error))
}

fn delivery_outcome<R: Message>(error: SubmitError<R>) -> Result<Delivered, Failure> {
    let error = match error {
        SubmitError::Send(error) => error,
        SubmitError::StaleTimer => return Ok(Delivered::StaleTimer),
        SubmitError::DeadlinePassed => {
            let reason = "the instance has not responded within the deadline";
            return Err(Failure::Unavailable(reason.to_owned()));
        }
        SubmitError::ShuttingDown => {
            return Err(Failure::Unavailable("the app is shutting down".to_owned()));
        }
        SubmitError::DrainFailed => return Err(Failure::Failed("the drain failed".to_owned())),
    };
    let text = error_chain(&error);
    match error {
        // The inbox knows the message: it was handled, even if this code cannot read the outcome.
        SendError::Rejected(_) | SendError::Erased | SendError::UnreadableOutcome { .. } => {
            Ok(Delivered::Handled)
        }
        SendError::Closed => Ok(Delivered::StreamClosed),
        SendError::Load(LoadError::NewerSchema { source, .. }) => match NewerCode::of(&source) {
            Some(newer) => Err(Failure::NeedsNewerCode(NewerCode { reason: text, ..newer })),
            None => Err(Failure::Stuck(text)),
        },
        SendError::Load(error) if !error.is_transient() => Err(Failure::Stuck(text)),
        SendError::Load(_) | SendError::OutcomeUnknown | SendError::ShuttingDown => {
            Err(Failure::Unavailable(text))
        }
        SendError::KeyReused => Err(Failure::Poison(text)),
        _ => Err(Failure::Failed(text)),
    }
}
