//! Executing each kind of row of the outbox.

use std::collections::BTreeMap;
use std::sync::Arc;

use composable_rust_core::message::ReplyOutcome;
use composable_rust_core::queue::{OutboxKind, OutboxMessage, OutboxRow};
use composable_rust_core::store::AppendOutcome;
use composable_rust_core::{MessageId, Metadata, StreamId};
use tracing::{Instrument as _, Span};

use crate::app::registry::Registry;
use crate::instance::effects::BUS_TARGET;
use crate::instance::receive::InboundMessage;
use crate::metrics::GATEWAY_CALL_DURATION;
use crate::spans;
use crate::worker::bus::connection::BusConnection;
use crate::worker::bus::received::{RECEIVED, receive_again};
use crate::worker::bus::sender::send;
use crate::worker::context::WorkerContext;
use crate::worker::dead_letters::{FORWARDED_DIGEST, record_in_inbox};
use crate::worker::outbox::execution::{CallHealth, Execution, RowExecutor};
use crate::worker::outbox::gateway::{CallResponse, RegisteredGateway};
use crate::worker::outcome::{Delivered, Failure};
use crate::worker::policy::registered::ErasedPolicy;
use crate::worker::projection::registered::ErasedProjection;
use crate::worker::queued_input::queued_input;
use crate::worker::queued_message::{metadata, reply_to};

/// The aggregates, gateways, policies, projections and the bus of an app, which execute the rows.
pub(crate) struct Executor {
    pub(crate) context: Arc<WorkerContext>,
    pub(crate) registry: Registry,
    pub(crate) gateways: BTreeMap<&'static str, RegisteredGateway>,
    pub(crate) policies: BTreeMap<String, Arc<dyn ErasedPolicy>>,
    pub(crate) projections: BTreeMap<&'static str, Arc<dyn ErasedProjection>>,
    pub(crate) bus: Option<Arc<BusConnection>>,
}

/// The rows that are queued in the place of an executed one.
type Executed = Result<Vec<OutboxMessage>, Failure>;

impl RowExecutor for Executor {
    async fn execute(&self, row: &OutboxRow) -> Execution {
        if row.behind_parked {
            return Execution::without_call(Ok(Vec::new()));
        }
        let span = spans::row(row, self.context.clock().now());
        let execution = self.execute_row(row).instrument(span.clone()).await;
        if let Err(failure) = &execution.result {
            spans::failed(&span, failure.kind());
        }
        execution
    }
}

impl Executor {
    async fn execute_row(&self, row: &OutboxRow) -> Execution {
        let is_remote = || self.context.shared.remote.contains(&*row.queue.target);
        Execution::without_call(match row.queue.kind {
            OutboxKind::Dispatch | OutboxKind::Bulk if is_remote() => self.forward(row).await,
            OutboxKind::Dispatch | OutboxKind::Bulk => self.dispatch(row).await,
            OutboxKind::Call => return self.call(row).await,
            OutboxKind::Policy => self.apply_policy(row).await,
            OutboxKind::Projection => self.project(row).await,
            OutboxKind::Send => match self.bus() {
                Ok(bus) => send(&self.context, bus, row).await,
                Err(failure) => Err(failure),
            },
            OutboxKind::Timer => {
                Err(Failure::Poison("a timer does not belong in the outbox".to_owned()))
            }
        })
    }

    fn bus(&self) -> Result<&BusConnection, Failure> {
        self.bus.as_deref().ok_or_else(|| Failure::Unavailable("the app has no bus".to_owned()))
    }

    /// Forwards a message that was queued before its target moved to another service, unless it was
    /// handled here. It is queued behind the messages that were sent there since.
    async fn forward(&self, row: &OutboxRow) -> Executed {
        let mut message = row.message.clone();
        let Some(metadata) = metadata(&message.row.metadata)? else { return Ok(Vec::new()) };
        if let Some(follower) = metadata.follower {
            let reason = format!(
                "the follower `{follower}` has handed an event to an instance that lives in another \
                 service now; that service must follow the events itself"
            );
            return Err(Failure::Poison(reason));
        }
        let recipient = recipient_of(row)?;
        let id = message.row.id;
        let recorded = record_in_inbox(&self.context.shared, recipient, id, FORWARDED_DIGEST).await;
        match recorded.map_err(|error| Failure::of_store(&error))? {
            // Committed also if an earlier attempt has written the same entry.
            AppendOutcome::Committed { .. } | AppendOutcome::Closed => {
                (message.row.kind, message.row.target) = (OutboxKind::Send, BUS_TARGET.to_owned());
                Ok(vec![message])
            }
            AppendOutcome::Duplicate(_) => Ok(Vec::new()),
            outcome => Err(Failure::Unavailable(format!("unexpected append outcome: {outcome:?}"))),
        }
    }

    async fn dispatch(&self, row: &OutboxRow) -> Executed {
        let OutboxMessage { row: message, .. } = &row.message;
        let Some(metadata) = metadata(&message.metadata)? else { return Ok(Vec::new()) };
        let inbound = InboundMessage {
            stream: recipient_of(row)?,
            id: MessageId(message.id),
            content: message.content.clone(),
            metadata: metadata.clone(),
            fired_timer: None,
        };
        match self.registry.handle_carried(&inbound).await? {
            Delivered::Handled | Delivered::StaleTimer => Ok(Vec::new()),
            Delivered::StreamClosed => {
                let outcome = ReplyOutcome::Undelivered;
                Ok(reply_to(&row.message, metadata, &row.queue.target, outcome, None))
            }
        }
    }

    async fn call(&self, row: &OutboxRow) -> Execution {
        let target = &row.queue.target;
        let Some(registered) = self.gateways.get(target.as_str()) else {
            return Execution::without_call(Err(Failure::unregistered("gateway", target)));
        };
        // Metadata is read before the call: without it, the response could not be delivered.
        let metadata = match metadata(&row.message.row.metadata) {
            Ok(Some(metadata)) => {
                let traceparent = spans::carried(&Span::current(), metadata.traceparent);
                Metadata { traceparent, ..metadata }
            }
            Ok(None) => return Execution::without_call(Ok(Vec::new())),
            Err(failure) => return Execution::without_call(Err(failure)),
        };
        let (timeout, started) = (registered.timeout, self.context.now());
        let (called, is_timeout) = tokio::select! {
            biased;
            called = registered.gateway.call(self.context.shared.storage(), row) => (called, false),
            () = self.context.clock().sleep(timeout) => {
                (Err(Failure::Failed(format!("no response within {timeout:?}"))), true)
            }
        };
        let outcome = if is_timeout { "timeout" } else { call_outcome(&called) };
        let duration = self.context.now().saturating_sub(started);
        GATEWAY_CALL_DURATION.of([target, outcome]).record(duration);
        let reply = |outcome, content| reply_to(&row.message, metadata, target, outcome, content);
        match called {
            Ok((outcome, content)) => {
                Execution { result: Ok(reply(outcome, Some(content))), call: CallHealth::Succeeded }
            }
            Err(Failure::Failed(error))
                if registered.retry.backoff_after(row.attempts + 1).is_none() =>
            {
                tracing::warn!(
                    gateway = %target, id = %row.message.row.id, error,
                    "a call has failed in every attempt; replying `Exhausted`"
                );
                let result = Ok(reply(ReplyOutcome::Exhausted, None));
                Execution { result, call: CallHealth::Failed }
            }
            Err(failure @ (Failure::Failed(_) | Failure::Unavailable(_))) => {
                Execution { result: Err(failure), call: CallHealth::Failed }
            }
            Err(failure) => Execution::without_call(Err(failure)),
        }
    }

    async fn project(&self, row: &OutboxRow) -> Executed {
        let name = row.queue.target.as_str();
        let Some(projection) = self.projections.get(name) else {
            return Err(Failure::unregistered("projection", name));
        };
        match projection.project_queued(&self.context.shared, &row.message).await {
            Ok(()) => Ok(Vec::new()),
            // The read model may change, so a retry may succeed.
            Err(Failure::Poison(error)) => Err(Failure::Failed(error)),
            Err(failure) => Err(failure),
        }
    }

    async fn apply_policy(&self, row: &OutboxRow) -> Executed {
        let target = &row.queue.target;
        if target == RECEIVED {
            return receive_again(&self.context, self.bus()?, &row.message).await;
        }
        let input = queued_input(self.context.store(), &row.message.row.content).await;
        let Some(policy) = self.policies.get(target) else {
            return Err(Failure::unregistered("policy", target));
        };
        match input.map_err(|error| Failure::of_store(&error))? {
            Some(input) => policy.apply(&self.context.shared, &input),
            // The event was erased.
            None => Ok(Vec::new()),
        }
    }
}

/// Returns the outcome of a call that did not time out, as its metric names it.
fn call_outcome(called: &Result<CallResponse, Failure>) -> &'static str {
    match called {
        Ok((ReplyOutcome::Failed, _)) => "failed",
        Ok(_) => "done",
        Err(Failure::Unavailable(_)) => "unreachable",
        Err(Failure::Poison(_) | Failure::NeedsNewerCode(_)) => "undecodable",
        Err(_) => "error",
    }
}

fn recipient_of(row: &OutboxRow) -> Result<StreamId, Failure> {
    row.message.row.recipient.parse().map_err(|error| Failure::Poison(format!("{error}")))
}
