//! The builder that `send` returns.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{
    Aggregate, CorrelationId, Incoming, Message as _, MessageId, Metadata, Receipt, Version,
};
use tokio::sync::oneshot;

use crate::error::SendError;
use crate::instance::decide::PendingCommand;
use crate::instance::handle::Handle;
use crate::instance::inbox::digest;
use crate::instance::mailbox::MailboxEntry;

/// A command on its way; await it to send it.
#[must_use = "nothing is sent until it is awaited"]
pub struct SendCommand<'a, A: Aggregate> {
    handle: &'a Handle<A>,
    command: A::Command,
    key: Option<String>,
    expecting: Option<Version>,
    user: Option<String>,
    correlation: Option<CorrelationId>,
    traceparent: Option<String>,
    within: Option<Duration>,
}

impl<A: Aggregate> fmt::Debug for SendCommand<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendCommand")
            .field("handle", self.handle)
            .field("command", &self.command)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl<'a, A: Aggregate> SendCommand<'a, A> {
    pub(crate) fn new(handle: &'a Handle<A>, command: A::Command) -> Self {
        Self {
            handle,
            command,
            key: None,
            expecting: None,
            user: None,
            correlation: None,
            traceparent: None,
            within: None,
        }
    }

    /// Makes the send idempotent: sent again with the same key, the same command is not decided
    /// again but answered as the first time, also if that was a refusal. Another command, or another
    /// expected version, with the same key is refused with [`SendError::KeyReused`]. Keys are scoped
    /// to the instance.
    ///
    /// Commands are told apart by their encoding, not by `==`. A hash map or a hash set encodes in
    /// another order each time: use a `BTreeMap`, a `BTreeSet` or a sorted `Vec` in commands that have
    /// keys. `-0.0` and `0.0` are two contents: add `0.0` to a number to normalise its zero. Nothing is
    /// sorted or normalised here, because an order may have a meaning, and two different commands never
    /// count as one. Of two versions of a command only the names are compared, so that a key may come
    /// again from older or newer code.
    ///
    /// A key is for one command, for good: ids of what follows derive from it. Used again after the
    /// inbox has forgotten it ([`Settings::inbox_retention`](crate::Settings::inbox_retention)), it gives events
    /// and effects the ids of then, and receivers that still know those ignore them.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Decides only if the stream is at `version` when the command's turn comes.
    pub fn expecting(mut self, version: Version) -> Self {
        self.expecting = Some(version);
        self
    }

    /// Who asks; kept in the metadata of every event for good, so use a pseudonym.
    pub fn by(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Makes the command part of a workflow; a new one begins unless told.
    pub fn correlated(mut self, correlation: CorrelationId) -> Self {
        self.correlation = Some(correlation);
        self
    }

    /// W3C trace context of the request that this command serves.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// How long to wait for the outcome; 10 seconds unless said.
    pub fn within(mut self, duration: Duration) -> Self {
        self.within = Some(duration);
        self
    }

    async fn run(self) -> Result<Receipt, SendError<A::Rejection>> {
        let runtime = &self.handle.runtime;
        let shared = &runtime.shared;
        if self.command.kind().internal {
            return Err(SendError::Internal(self.command.kind().name));
        }
        // Counted before the look, so that a shutdown waits for whoever it did not refuse.
        let _counted = shared.tasks.token();
        if shared.tasks.is_closed() {
            return Err(SendError::ShuttingDown);
        }
        let deadline = shared.clock.sleep(self.within.unwrap_or(shared.settings.default_deadline));
        let question = self.question()?;
        let delivered = async {
            let instance = runtime.instance(&self.handle.id);
            let Ok(room) = Arc::clone(&instance.rooms).acquire_owned().await else {
                return Err(SendError::ShuttingDown);
            };
            let (reply, outcome) = oneshot::channel();
            runtime.deliver(&instance, MailboxEntry { question, reply, arrival: 0, _room: room });
            drop(instance);
            // The drain drops a letter only when it panics outside the aggregate's code.
            outcome
                .await
                .unwrap_or_else(|_| Err(SendError::Panicked("the drain failed".to_owned())))
        };
        tokio::select! {
            biased;
            outcome = delivered => outcome,
            () = deadline => Err(SendError::DeadlinePassed),
        }
    }

    fn question(&self) -> Result<PendingCommand<A::Command>, SendError<A::Rejection>> {
        let shared = &self.handle.runtime.shared;
        let (message_id, digest) = match &self.key {
            Some(key) => {
                let digest =
                    digest(&self.command, self.expecting).map_err(SendError::Unstorable)?;
                (MessageId::from_key(key), Some(digest))
            }
            None => (MessageId(shared.ids.new_id()), None),
        };
        // A key belongs to one instance; the workflow that begins with it is one of its own.
        let begun = || if self.key.is_some() { shared.ids.new_id() } else { message_id.0 };
        let metadata = Metadata {
            correlation_id: self.correlation.unwrap_or_else(|| CorrelationId(begun())),
            causation_id: message_id.0,
            user: self.user.clone(),
            user_from: None,
            traceparent: self.traceparent.clone(),
            return_addresses: Vec::new(),
            reply: None,
        };
        let incoming = Incoming { message_id, metadata, now: shared.clock.now() };
        let command = self.command.clone();
        Ok(PendingCommand { command, incoming, digest, expecting: self.expecting, fires: None })
    }
}

impl<'a, A: Aggregate> IntoFuture for SendCommand<'a, A> {
    type Output = Result<Receipt, SendError<A::Rejection>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
