//! The tree of what a workflow has set in motion.

use std::collections::BTreeMap;

use composable_rust_core::message::derive_id;
use composable_rust_core::queue::ArmedTimer;
use composable_rust_core::store::{Inspection as _, LogInfo, TimerArming};
use composable_rust_core::{CorrelationId, MessageId, StreamId, Timestamp, Version};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use uuid::Uuid;

use crate::patience::Deadline;
use crate::{Admin, AdminError, EventQuery, EventView, MessageView};

/// The number of effects of one message, and of commands of one policy for an event, whose ids are
/// compared with those of handled messages.
const EFFECTS: u32 = 64;
/// The number of waiting messages of each queue that are searched.
const SEARCHED: usize = 10_000;
/// The number of events that are read at a time.
const PAGE: usize = 1_000;
/// The number of pages of a search that are made, each of which examines a bounded part of the log.
const MAX_PAGES: usize = 50;
/// The time before a known moment of a workflow at which the search for its events begins.
const BEFORE: std::time::Duration = std::time::Duration::from_secs(3_600);

/// The time in which the events of a workflow are sought. Default: all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceRange {
    /// The time of the oldest events.
    pub since: Option<Timestamp>,
    /// The time before which the newest events were recorded.
    pub until: Option<Timestamp>,
}

impl TraceRange {
    /// Returns ranges around the middle of this one, each within the next, and this one last: most
    /// workflows are short.
    fn widening(self) -> Vec<Self> {
        const PARTS: [u32; 3] = [360, 36, 6];
        let (Some(since), Some(until)) = (self.since, self.until) else { return vec![self] };
        let half = until.since(since) / 2;
        let inner = PARTS.map(|part| {
            let rest = half / part * (part - 1);
            Self { since: Some(since + rest), until: Some(until - rest) }
        });
        inner.into_iter().chain([self]).collect()
    }
}

/// From an hour before a known moment of the workflow; all times without one.
impl From<Option<Timestamp>> for TraceRange {
    fn from(around: Option<Timestamp>) -> Self {
        Self { since: around.map(|moment| moment - BEFORE), until: None }
    }
}

/// A workflow: the messages that were handled on behalf of one command, as a tree of causes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trace {
    /// The id of the workflow.
    pub correlation_id: CorrelationId,
    /// The messages that no other known message caused, in order of times: normally one.
    pub roots: Vec<TraceNode>,
    /// The messages and timers that wait on behalf of the workflow and belong to no known event.
    pub waiting: Vec<TraceWaiting>,
    /// `true` if the oldest part of the time was not searched, because the search of a page's
    /// worth of the log was repeated 50 times, or the operations' [time](Admin::within) was over.
    pub is_cut: bool,
}

/// A message that an instance has handled, with the events that it caused.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceNode {
    /// The log of the service.
    pub log: Uuid,
    /// The id of the message.
    pub message_id: Uuid,
    /// The instance.
    pub stream: StreamId,
    /// The connection to the parent.
    pub via: Via,
    /// The time of the first event.
    pub at: Timestamp,
    /// The events, in order.
    pub events: Vec<EventView>,
    /// The messages that its effects have caused, in order of times.
    pub children: Vec<TraceNode>,
    /// The messages and timers that wait as effects of its events.
    pub waiting: Vec<TraceWaiting>,
}

/// The connection of a message to its cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// It came from outside.
    Command,
    /// An effect of the parent: a dispatched command, a reply, or a timer.
    Effect,
    /// The outcome of a call to a gateway, or of an undelivered message.
    Outcome,
    /// A policy or follower over the parent's event.
    Policy(String),
    /// A message between the two left no events, such as a rejection.
    Later,
}

/// Something that waits on behalf of a workflow.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceWaiting {
    /// The kind.
    pub kind: WaitingKind,
    /// The name of the target, gateway or policy; of a timer, its id.
    pub target: String,
    /// The message.
    pub message: MessageView,
    /// The deadline of a timer.
    pub due: Option<Timestamp>,
    /// The last error.
    pub error: Option<String>,
}

/// The kind of something that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitingKind {
    /// A message in a queue.
    Message,
    /// An armed timer.
    Timer,
    /// A dead letter.
    DeadLetter,
}

impl Admin {
    /// Returns the tree of a workflow. The connections are derived from the ids, which depend on
    /// the message, the instance and the effect that caused them.
    ///
    /// `range` is the time in which its events are sought, or a moment of the workflow. Waiting
    /// messages are sought among the first 10,000 of each queue, timers of each type, and dead
    /// letters.
    /// `others` are the operations of other services' stores, whose events of the workflow are in
    /// the tree as well.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`]: there is no event of the workflow. [`AdminError::Store`]: a store
    /// cannot be read. Retry.
    pub async fn trace(
        &self,
        correlation: CorrelationId,
        range: impl Into<TraceRange>,
        others: &[Self],
    ) -> Result<Trace, AdminError> {
        let range = range.into();
        let mut is_cut = false;
        let mut nodes = Vec::new();
        let mut waiting = Vec::new();
        let mut policies = Vec::new();
        for admin in std::iter::once(self).chain(others) {
            let (handled, cut) = admin.handled(correlation, range).await?;
            nodes.extend(handled);
            is_cut |= cut;
            waiting.extend(admin.waiting_for(correlation).await?);
            let of = admin.store().all_checkpoints().await?.into_iter();
            policies.extend(of.filter_map(|of| Some(of.name.strip_prefix("follow/")?.to_owned())));
        }
        if nodes.is_empty() && waiting.is_empty() && !is_cut {
            return Err(AdminError::not_found("workflow", correlation.to_string()));
        }
        policies.sort_unstable();
        policies.dedup();
        nodes.sort_by_key(place);
        let waiting = attach(&mut nodes, waiting);
        let logs: Vec<_> = std::iter::once(self).chain(others).map(Self::log).collect();
        let roots = tree(nodes, &policies, &logs);
        Ok(Trace { correlation_id: correlation, roots, waiting, is_cut })
    }

    /// Returns the workflow of the last event of a stream that has one, with the event's time.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`]: the stream has no events, or its last 100 are erased.
    pub async fn workflow_of(
        &self,
        stream: &StreamId,
    ) -> Result<(CorrelationId, Timestamp), AdminError> {
        const SEARCHED: usize = 100;
        let last = self.stream(stream).await?.version;
        let before = Version::new(last.get().saturating_sub(SEARCHED as u64));
        let events = self.history(stream, before, SEARCHED).await?.entries;
        let found = events.iter().rev().find_map(|event| {
            event.correlation_id.map(|correlation| (correlation, event.recorded_at))
        });
        found.ok_or_else(|| AdminError::not_found("workflow of", stream.as_str()))
    }

    /// Returns the messages of a workflow that left events, without their connections, and `true`
    /// if a part of the range was not searched.
    async fn handled(
        &self,
        correlation: CorrelationId,
        range: TraceRange,
    ) -> Result<(Vec<TraceNode>, bool), AdminError> {
        let deadline = self.deadline();
        let mut events: BTreeMap<(StreamId, Version), EventView> = BTreeMap::new();
        let mut is_cut = false;
        for range in range.widening() {
            is_cut = self.seek(correlation, range, deadline, &mut events).await?;
            if is_cut {
                break;
            }
        }
        let mut nodes: BTreeMap<(StreamId, Uuid), TraceNode> = BTreeMap::new();
        for ((stream, _), event) in events {
            let Some(message_id) = event.causation_id else { continue };
            let node = nodes.entry((stream.clone(), message_id)).or_insert_with(|| TraceNode {
                log: self.log().id,
                message_id,
                stream,
                via: Via::Later,
                at: event.recorded_at,
                events: Vec::new(),
                children: Vec::new(),
                waiting: Vec::new(),
            });
            node.at = node.at.min(event.recorded_at);
            node.events.push(event);
        }
        Ok((nodes.into_values().collect(), is_cut))
    }

    /// Adds the events of a workflow in a range. Returns `true` if a part of it was not searched.
    async fn seek(
        &self,
        correlation: CorrelationId,
        range: TraceRange,
        deadline: Deadline,
        events: &mut BTreeMap<(StreamId, Version), EventView>,
    ) -> Result<bool, AdminError> {
        let mut query = EventQuery {
            correlation: Some(correlation),
            since: range.since,
            until: range.until,
            limit: PAGE,
            ..EventQuery::default()
        };
        for _ in 0..MAX_PAGES {
            let page = self.events(&query).await?;
            events.extend(page.entries.into_iter().map(|of| ((of.stream.clone(), of.version), of)));
            query.cursor = page.next;
            if query.cursor.is_none() || deadline.has_passed() {
                break;
            }
        }
        Ok(query.cursor.is_some())
    }

    /// Returns what waits on behalf of a workflow.
    async fn waiting_for(
        &self,
        correlation: CorrelationId,
    ) -> Result<Vec<TraceWaiting>, AdminError> {
        let is_of = |metadata: &str| metadata.contains(&correlation.to_string());
        let messages = self.waiting_where(SEARCHED, |of| is_of(&of.queued.row.metadata)).await?;
        let mut found: Vec<_> = messages
            .into_iter()
            .map(|of| TraceWaiting {
                kind: WaitingKind::Message,
                target: of.target,
                message: of.message,
                due: None,
                error: None,
            })
            .collect();
        for queue in self.store().timer_queues().await? {
            let timers = self.store().list_timers(&queue, None, SEARCHED).await?;
            let timers = timers.iter().filter(|of| is_of(&of.timer.metadata));
            found.extend(timers.map(|of| self.timer_view(of)).map(|of| TraceWaiting {
                kind: WaitingKind::Timer,
                target: of.id,
                message: of.message,
                due: Some(of.due),
                error: of.last_error,
            }));
        }
        let mut letters = std::pin::pin!(self.app.dead_letters().all().take(SEARCHED));
        while let Some(letter) = letters.try_next().await? {
            if is_of(&letter.message.row.metadata) {
                let of = self.dead_letter_view(&letter);
                found.push(TraceWaiting {
                    kind: WaitingKind::DeadLetter,
                    target: of.target,
                    message: of.message,
                    due: None,
                    error: of.error,
                });
            }
        }
        Ok(found)
    }
}

/// Attaches what waits to the nodes whose events caused it. Returns the rest.
fn attach(nodes: &mut [TraceNode], waiting: Vec<TraceWaiting>) -> Vec<TraceWaiting> {
    let mut rest = Vec::new();
    for of in waiting {
        let cause = of.message.causation_id;
        let is_of = |node: &&mut TraceNode| {
            Some(node.message_id) == cause
                || node.events.iter().any(|event| Some(event.id.0) == cause)
        };
        match nodes.iter_mut().find(is_of) {
            Some(node) => node.waiting.push(of),
            None => rest.push(of),
        }
    }
    rest
}

/// Connects the nodes, which are in order of times. Clocks of services may differ.
fn tree(nodes: Vec<TraceNode>, policies: &[String], logs: &[LogInfo]) -> Vec<TraceNode> {
    let mut parents: Vec<Option<(usize, Via)>> = vec![None; nodes.len()];
    let mut by_message: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        by_message.entry(node.message_id).or_default().push(index);
    }
    for (index, node) in nodes.iter().enumerate() {
        let Some(log) = logs.iter().find(|log| log.id == node.log) else { continue };
        for (id, via) in consequences(node, policies, log) {
            for child in by_message.get(&id).into_iter().flatten() {
                if *child != index {
                    parents[*child] = Some((index, via.clone()));
                }
            }
        }
    }
    for index in 0..nodes.len() {
        if parents[index].is_none() {
            let earlier = nodes[..index].iter().rposition(|of| of.stream == nodes[index].stream);
            parents[index] = earlier.map(|parent| (parent, Via::Later));
        }
    }
    let mut order: Vec<usize> = Vec::new();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for index in 0..nodes.len() {
        // Only ids that are no derived ones can form a circle.
        if is_below_itself(index, &parents) {
            parents[index] = None;
        }
        match &parents[index] {
            Some((parent, _)) => children[*parent].push(index),
            None => order.push(index),
        }
    }
    // Parents before their children, whatever their clocks say.
    let mut examined = 0;
    while let Some(index) = order.get(examined).copied() {
        order.extend(&children[index]);
        examined += 1;
    }
    let mut nodes: Vec<Option<TraceNode>> = nodes.into_iter().map(Some).collect();
    let mut roots = Vec::new();
    for index in order.into_iter().rev() {
        let Some(mut node) = nodes[index].take() else { continue };
        node.children.sort_by_key(place);
        if let Some((parent, via)) = parents[index].take() {
            node.via = via;
            if let Some(parent) = &mut nodes[parent] {
                parent.children.push(node);
            }
        } else {
            node.via = Via::Command;
            roots.push(node);
        }
    }
    roots.sort_by_key(place);
    roots
}

/// Returns the place of a node among others: by its time, then by its first event.
fn place(node: &TraceNode) -> (Timestamp, StreamId, Option<Version>) {
    (node.at, node.stream.clone(), node.events.first().map(|event| event.version))
}

/// Returns `true` if a node is among its own ancestors.
fn is_below_itself(index: usize, parents: &[Option<(usize, Via)>]) -> bool {
    let parent = |of: &usize| parents[*of].as_ref().map(|(parent, _)| *parent);
    let above = std::iter::successors(parent(&index), parent);
    // A circle above the node never comes to the node.
    above.take(parents.len()).any(|ancestor| ancestor == index)
}

/// Returns the ids of the messages that the handling of a message may have caused.
fn consequences(node: &TraceNode, policies: &[String], log: &LogInfo) -> Vec<(Uuid, Via)> {
    let mut found = Vec::new();
    let source = format!("urn:uuid:{}", node.log);
    for effect_index in 0..EFFECTS {
        let arming = TimerArming { armed_by: MessageId(node.message_id), effect_index };
        let timer = ArmedTimer { id: String::new(), arming };
        let id = timer.message_id(node.log, &node.stream).0;
        found.push((id, Via::Effect));
        // In the recipient's service, if that is another one.
        let on_bus = log.id_on_bus(id).to_string();
        found.push((MessageId::from_elsewhere(&source, &on_bus).0, Via::Effect));
        found.push((derive_id("answer", id, &[], id, 0), Via::Outcome));
    }
    for event in &node.events {
        for policy in policies {
            for n in 0..EFFECTS {
                let id = derive_id("policy", node.log, &[policy], event.id.0, n);
                found.push((id, Via::Policy(policy.clone())));
            }
        }
    }
    found
}
