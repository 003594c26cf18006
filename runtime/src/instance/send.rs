//! The builder that `send` returns.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::message::Incoming;
use composable_rust_core::{
    Aggregate, CorrelationId, Id, Message, MessageId, Metadata, Receipt, Version,
};
use tracing::{Instrument as _, Span};

use crate::error::SendError;
use crate::instance::inbox::digest;
use crate::instance::message::{PendingCommand, SubmitError};
use crate::instance::runtime::AggregateRuntime;
use crate::spans;

/// A command that is not sent yet; await it to send it.
#[must_use = "nothing is sent until it is awaited"]
pub struct SendCommand<'a, A: Aggregate> {
    runtime: &'a Arc<AggregateRuntime<A>>,
    id: &'a Id<A>,
    command: A::Command,
    key: Option<String>,
    expected: Option<Version>,
    user: Option<String>,
    correlation: Option<CorrelationId>,
    traceparent: Option<String>,
    within: Option<Duration>,
    unless_in_progress: bool,
}

impl<A: Aggregate> fmt::Debug for SendCommand<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendCommand")
            .field("aggregate", &A::NAME)
            .field("id", self.id)
            .field("command", &self.command)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl<'a, A: Aggregate> SendCommand<'a, A> {
    pub(crate) fn new(
        runtime: &'a Arc<AggregateRuntime<A>>,
        id: &'a Id<A>,
        command: A::Command,
    ) -> Self {
        Self {
            runtime,
            id,
            command,
            key: None,
            expected: None,
            user: None,
            correlation: None,
            traceparent: None,
            within: None,
            unless_in_progress: false,
        }
    }

    /// Makes the send idempotent: a duplicate with the same key is not decided again but gets the
    /// outcome of the first send, also if that was a rejection. A different command, or a different
    /// expected version, with the same key fails with [`SendError::KeyReused`]. Keys are scoped to
    /// the instance.
    ///
    /// Commands are compared by their encoding, not by `==`. A hash map or a hash set encodes in a
    /// different order each time: use a `BTreeMap`, a `BTreeSet` or a sorted `Vec` in commands that
    /// have keys. `-0.0` and `0.0` differ too: add `0.0` to a number to normalise its zero. The
    /// runtime neither sorts nor normalises, because an order may have a meaning and two different
    /// commands must not count as one. Of two schema versions of a command only the names are
    /// compared, so that a key can be used again from older or newer code.
    ///
    /// Never use a key for a second command: the ids of what follows derive from it. If a key is
    /// used again after its inbox entry was pruned
    /// ([`Settings::inbox_retention`](crate::settings::Settings::inbox_retention)), events and
    /// effects get the ids of the first send, and recipients that still know those ids ignore them.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Decides the command only if the stream is at `version` then; otherwise the send fails with
    /// [`SendError::UnexpectedVersion`].
    pub fn expecting(mut self, version: Version) -> Self {
        self.expected = Some(version);
        self
    }

    /// Sets the user on whose behalf the command is sent. The metadata of every event keeps it
    /// permanently, so use a pseudonym.
    pub fn by(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Makes the command part of a workflow. Default: a new workflow.
    pub fn correlated(mut self, correlation: CorrelationId) -> Self {
        self.correlation = Some(correlation);
        self
    }

    /// Sets the W3C trace context of the request that this command serves.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// Fails with [`SendError::InProgress`] while another such send with the same key to the same
    /// instance is in progress in this process. Without this, the second send waits for the first
    /// and gets its outcome, as it does when the first is in progress in another process. Has no
    /// effect without a [key](Self::key).
    pub fn unless_in_progress(mut self) -> Self {
        self.unless_in_progress = true;
        self
    }

    /// Sets the deadline for the outcome. Default:
    /// [`Settings::default_deadline`](crate::settings::Settings::default_deadline), 10 seconds.
    pub fn within(mut self, duration: Duration) -> Self {
        self.within = Some(duration);
        self
    }

    async fn run(self) -> Result<Receipt, SendError<A::Rejection>> {
        let shared = &self.runtime.shared;
        if self.command.kind().internal {
            return Err(SendError::Internal(self.command.kind().name));
        }
        // Counted before the check, so that a shutdown waits for every send that passes the check.
        let _token = shared.tasks.token();
        if shared.tasks.is_closed() {
            return Err(SendError::ShuttingDown);
        }
        let within = self.within.unwrap_or(shared.settings.default_deadline);
        let (runtime, id) = (self.runtime, self.id);
        let exclusive = self.unless_in_progress && self.key.is_some();
        let span = spans::send(self.command.kind().name, &id.stream(), self.traceparent.as_deref());
        let pending = self.pending(&span)?;
        spans::sent(&span, &pending.incoming.metadata);
        let in_progress = if exclusive {
            let begun = shared.in_progress.begin(id.stream(), pending.message_id());
            Some(begun.ok_or(SendError::InProgress)?)
        } else {
            None
        };
        let submitted = runtime.submit(id, pending, in_progress, within);
        let result = submitted.instrument(span.clone()).await.map_err(send_error);
        match &result {
            Ok(_) | Err(SendError::Rejected(_)) => {}
            Err(error) => spans::failed(&span, error.code()),
        }
        result
    }

    fn pending(self, span: &Span) -> Result<PendingCommand<A::Command>, SendError<A::Rejection>> {
        let shared = &self.runtime.shared;
        let (message_id, digest) = match &self.key {
            Some(key) => {
                let digest = digest(&self.command, self.expected).map_err(SendError::Unstorable)?;
                (MessageId::from_key(key), Some(digest))
            }
            None => (MessageId(shared.ids.new_id()), None),
        };
        // A key is unique only within its instance, so a workflow that begins with a keyed command
        // gets an id of its own.
        let new_workflow = || if self.key.is_some() { shared.ids.new_id() } else { message_id.0 };
        let metadata = Metadata {
            correlation_id: self.correlation.unwrap_or_else(|| CorrelationId(new_workflow())),
            causation_id: message_id.0,
            user: self.user,
            user_from: None,
            traceparent: spans::carried(span, self.traceparent),
            return_addresses: Vec::new(),
            reply: None,
            follower: None,
        };
        let incoming = Incoming { message_id, metadata, now: shared.clock.now() };
        let (command, expected) = (self.command, self.expected);
        Ok(PendingCommand { command, incoming, digest, expected, fired_timer: None })
    }
}

fn send_error<R: Message>(error: SubmitError<R>) -> SendError<R> {
    match error {
        SubmitError::Send(error) => error,
        SubmitError::DeadlinePassed => SendError::DeadlinePassed,
        SubmitError::ShuttingDown => SendError::ShuttingDown,
        SubmitError::DrainFailed => SendError::Panicked("the drain failed".to_owned()),
        SubmitError::StaleTimer => unreachable!("the command has no timer"),
    }
}

impl<'a, A: Aggregate> IntoFuture for SendCommand<'a, A> {
    type Output = Result<Receipt, SendError<A::Rejection>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
