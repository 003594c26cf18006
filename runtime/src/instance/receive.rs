//! Handing an instance a message that the runtime carries: a dispatched command, a reply, a timeout.

use std::sync::Arc;

use composable_rust_core::event::ERASED;
use composable_rust_core::{
    Aggregate, ArmedTimer, DecodeError, EncodedMessage, Format, Id, Incoming, Message as _,
    MessageId, Metadata, RawReply, StreamId,
};
use tokio::sync::oneshot;

use crate::app::unknown_messages::NewerCode;
use crate::error::{LoadError, SendError, error_chain};
use crate::instance::decide::{NO_TARGET, PendingCommand};
use crate::instance::mailbox::MailboxEntry;
use crate::instance::runtime::AggregateRuntime;
use crate::panic::guarded;

/// A message on its way to an instance, as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct InboundMessage {
    /// The instance's.
    pub(crate) stream: StreamId,
    /// What its inbox knows the message by.
    pub(crate) id: MessageId,
    pub(crate) content: EncodedMessage,
    pub(crate) metadata: Metadata,
    /// The timer whose message it is.
    pub(crate) fires: Option<ArmedTimer>,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeliveryOutcome {
    /// It is handled, now or before; a refusal by the domain included.
    Handled,
    /// The instance's stream is closed: nobody will ever handle it.
    Closed,
    /// Its timer is not armed so any more.
    Void,
    /// The handler failed. This counts as an attempt.
    Failed(String),
    /// No attempt can succeed.
    Poison(String),
    /// The process died at every attempt, and there were enough.
    Killed,
    /// Something else is in the way, for as long as it lasts.
    Waiting(String),
    /// The instance is stuck: its stream cannot be loaded.
    Stuck(String),
    /// Newer code knows it.
    Newer(NewerCode),
}

impl<A: Aggregate> AggregateRuntime<A> {
    /// Has the instance handle a message.
    pub(crate) async fn handle_carried(
        self: &Arc<Self>,
        message: &InboundMessage,
    ) -> DeliveryOutcome {
        let command = match self.command_of(message) {
            Ok(Some(command)) => command,
            // Its content was erased with the stream that sent it.
            Ok(None) => return DeliveryOutcome::Handled,
            Err(error) => {
                let poison = || DeliveryOutcome::Poison(error_chain(&error));
                return NewerCode::of(&error).map_or_else(poison, DeliveryOutcome::Newer);
            }
        };
        let is_runtimes = message.metadata.reply.is_some() || message.fires.is_some();
        if command.kind().internal && !is_runtimes {
            let name = command.kind().name;
            return DeliveryOutcome::Poison(format!("`{name}` is internal: nobody may send it"));
        }
        let Some(id) = Id::<A>::of_stream(&message.stream) else {
            return DeliveryOutcome::Poison(format!("{} is not of `{}`", message.stream, A::NAME));
        };
        let now = self.shared.clock.now();
        let incoming = Incoming { message_id: message.id, metadata: message.metadata.clone(), now };
        let fires = message.fires.clone();
        // A row that comes again is the same to the byte, so its id tells all.
        let question =
            PendingCommand { command, incoming, digest: Some(0), expecting: None, fires };
        let instance = self.instance(&id);
        let handled = async {
            let Ok(room) = Arc::clone(&instance.rooms).acquire_owned().await else {
                return DeliveryOutcome::Waiting("the app is shutting down".to_owned());
            };
            let (reply, outcome) = oneshot::channel();
            self.deliver(&instance, MailboxEntry { question, reply, arrival: 0, _room: room });
            match outcome.await {
                Ok(outcome) => delivered(outcome.map(drop)),
                Err(_) => DeliveryOutcome::Failed("the drain failed".to_owned()),
            }
        };
        // One instance that cannot be had must not hold up the others: the message waits where it
        // came from, and its id makes it safe to hand it over again.
        tokio::select! {
            biased;
            handled = handled => handled,
            () = self.shared.clock.sleep(self.shared.settings.default_deadline) => {
                DeliveryOutcome::Waiting("the instance has not answered within the deadline".to_owned())
            }
        }
    }

    fn command_of(&self, message: &InboundMessage) -> Result<Option<A::Command>, DecodeError> {
        let InboundMessage { stream, content, metadata, .. } = message;
        if content.name == ERASED {
            return Ok(None);
        }
        let codecs = &self.shared.codecs;
        let decode = || match &metadata.reply {
            None => codecs.decode(stream, content),
            Some(to) => {
                let (format, bytes) = if content.name == NO_TARGET {
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

fn delivered<R: composable_rust_core::Message>(
    outcome: Result<(), SendError<R>>,
) -> DeliveryOutcome {
    let error = match outcome {
        // A mark stands: it was handled, whether this code can read the answer or not.
        Ok(())
        | Err(SendError::Rejected(_) | SendError::Erased | SendError::UnreadableOutcome { .. }) => {
            return DeliveryOutcome::Handled;
        }
        Err(error) => error,
    };
    let text = error_chain(&error);
    match error {
        SendError::Closed => DeliveryOutcome::Closed,
        SendError::Void => DeliveryOutcome::Void,
        SendError::Load(LoadError::NewerSchema { source, .. }) => match NewerCode::of(&source) {
            Some(newer) => DeliveryOutcome::Newer(NewerCode { reason: text, ..newer }),
            None => DeliveryOutcome::Stuck(text),
        },
        SendError::Load(error) if !error.is_transient() => DeliveryOutcome::Stuck(text),
        SendError::Load(_) | SendError::OutcomeUnknown | SendError::ShuttingDown => {
            DeliveryOutcome::Waiting(text)
        }
        SendError::KeyReused => DeliveryOutcome::Poison(text),
        _ => DeliveryOutcome::Failed(text),
    }
}
