//! Rehearsals: what a redrive of a dead letter would lead to.

use composable_rust_core::MessageId;
use composable_rust_core::queue::{ArmedTimer, DeadLetter, OutboxKind};
use composable_rust_core::store::StoreError;

use crate::app::app::App;
use crate::instance::receive::InboundMessage;
use crate::worker::outcome::{Delivered, Failure};
use crate::worker::queued_input::queued_input;
use crate::worker::queued_message::metadata;

/// The result of a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rehearsal {
    /// The message would be handled.
    Passes,
    /// The message would fail.
    Fails {
        /// The error.
        error: String,
    },
    /// The outcome cannot be told without side effects, as of a gateway's call, or the recipient's
    /// type is not registered in this process.
    Unknown,
}

impl App {
    /// Rehearses the redrive of a dead letter with this process's code: decodes the message, and
    /// decides a command on a copy of its recipient's state, or applies a policy to its event.
    /// Nothing is changed, and no gateway is called.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the store cannot be read. Retry.
    pub async fn rehearse(&self, letter: &DeadLetter) -> Result<Rehearsal, StoreError> {
        let rehearsed = match letter.queue.kind {
            OutboxKind::Dispatch | OutboxKind::Bulk | OutboxKind::Timer => {
                self.rehearse_command(letter).await
            }
            OutboxKind::Policy => match self.policy(&letter.queue.target) {
                Some(policy) => {
                    match queued_input(self.store(), &letter.message.row.content).await? {
                        Some(input) => {
                            policy.apply(self.shared(), &input).map(|_| Delivered::Handled)
                        }
                        None => Ok(Delivered::Handled),
                    }
                }
                None => Err(Failure::unregistered("policy", &letter.queue.target)),
            },
            OutboxKind::Call | OutboxKind::Projection | OutboxKind::Send => {
                return Ok(Rehearsal::Unknown);
            }
        };
        match rehearsed {
            Ok(Delivered::StreamClosed) => {
                Ok(Rehearsal::Fails { error: "the recipient's stream is closed".to_owned() })
            }
            Ok(Delivered::Handled | Delivered::StaleTimer) => Ok(Rehearsal::Passes),
            Err(Failure::Unavailable(error)) => Err(StoreError::unavailable(error)),
            Err(Failure::NeedsNewerCode(newer)) if newer.reason.ends_with("is registered") => {
                Ok(Rehearsal::Unknown)
            }
            Err(failure) => Ok(Rehearsal::Fails { error: failure.to_string() }),
        }
    }

    async fn rehearse_command(&self, letter: &DeadLetter) -> Result<Delivered, Failure> {
        let row = &letter.message.row;
        let Some(metadata) = metadata(&row.metadata)? else { return Ok(Delivered::Handled) };
        let timer = letter.arming.map(|arming| ArmedTimer { id: row.recipient.clone(), arming });
        let stream = match timer {
            Some(_) => letter.message.sender.clone(),
            None => row.recipient.parse().map_err(|error| Failure::Poison(format!("{error}")))?,
        };
        let message = InboundMessage {
            stream,
            id: MessageId(row.id),
            content: row.content.clone(),
            metadata,
            fired_timer: timer,
        };
        self.registry().rehearse(&message).await
    }
}
