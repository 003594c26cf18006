//! Dead letters: grouped, rehearsed, and decided about in bulk.

use std::collections::BTreeMap;

use composable_rust_core::Timestamp;
use composable_rust_core::queue::{DeadLetter, DeadLetterDecision};
use composable_rust_runtime::operations::{DeadLetterError, Rehearsal};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use uuid::Uuid;

use crate::{Admin, AdminError, Intent, MessageView, Progress};

/// The number of dead letters that a list and the groups examine.
const EXAMINED: usize = 100_000;

/// A filter of dead letters. All match the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DeadLetterFilter {
    /// The ids, of which any matches. Empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<Uuid>,
    /// The kind of the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The target of the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The stored name of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A part of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_contains: Option<String>,
    /// The key of a [group](DeadLetterGroup::key).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The time since which the messages are dead letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetterView {
    /// The kind of the queue.
    pub kind: &'static str,
    /// The name of the target, gateway or policy.
    pub target: String,
    /// The log partition.
    pub partition: u16,
    /// The number of attempts.
    pub attempts: u32,
    /// The error; `None` for a message that only waits behind another one.
    pub error: Option<String>,
    /// `true` if a decision is possible; otherwise an earlier one of the same pair comes first.
    pub is_head: bool,
    /// The time since which the message is a dead letter.
    pub parked_at: Timestamp,
    /// The decision, until it is carried out.
    pub decision: Option<&'static str>,
    /// The key of the letter's group.
    pub group: String,
    /// The message.
    pub message: MessageView,
}

/// Dead letters of one cause: of one queue, message and error, apart from ids and numbers in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetterGroup {
    /// The key, for a [filter](DeadLetterFilter::group).
    pub key: String,
    /// The kind of the queue.
    pub kind: &'static str,
    /// The name of the target, gateway or policy.
    pub target: String,
    /// The stored name of the messages.
    pub name: String,
    /// The error of one of them; `None` if they only wait behind others.
    pub error: Option<String>,
    /// The number of dead letters.
    pub count: u64,
    /// The number of those about which a decision is possible.
    pub heads: u64,
    /// The time since which the first of them is a dead letter.
    pub since: Timestamp,
    /// The id of one of them.
    pub example: Uuid,
}

/// A decision about dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// Retry the message, then those that wait behind it.
    Redrive,
    /// Delete the message; its sender gets a reply that says so.
    Discard,
}

/// The result of decisions in bulk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Resolved {
    /// The number of decisions made.
    pub decided: u64,
    /// The number of letters that were resolved meanwhile.
    pub gone: u64,
    /// `true` if the operation ended early. A repetition continues with the others.
    pub interrupted: bool,
    /// The number of matching letters that wait behind others: they follow a redriven one, and need
    /// another decision after a discarded one.
    pub behind: u64,
}

/// The result of a rehearsal: what would happen to dead letters if they were redriven to this
/// build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DryRun {
    /// The number of letters that would be handled.
    pub would_pass: u64,
    /// The number of letters that wait behind others and were not examined.
    pub behind: u64,
    /// `true` if the operation ended early: the numbers are those until then.
    pub interrupted: bool,
    /// The number of letters whose outcome cannot be told: calls of gateways, which are not made,
    /// and messages of types that are not registered here.
    pub unknown: u64,
    /// The errors that letters would end in, each with a number and the id of an example.
    pub would_fail: BTreeMap<String, (u64, Uuid)>,
}

impl DeadLetterFilter {
    fn matches(&self, of: &DeadLetterView) -> bool {
        let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|w| w == value);
        (self.ids.is_empty() || self.ids.contains(&of.message.id))
            && is(&self.kind, of.kind)
            && is(&self.target, &of.target)
            && is(&self.name, &of.message.name)
            && is(&self.group, &of.group)
            && self.since.is_none_or(|since| of.parked_at >= since)
            && self.error_contains.as_ref().is_none_or(|part| {
                of.error.as_ref().is_some_and(|error| error.contains(part.as_str()))
            })
    }
}

impl std::fmt::Display for DeadLetterFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = serde_json::to_string(self).map_err(|_| std::fmt::Error)?;
        f.write_str(if text == "{}" { "all" } else { &text })
    }
}

impl Admin {
    /// Returns up to `limit` dead letters that match a filter, of the first 100,000, in order of
    /// partitions, queues and positions.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        limit: usize,
    ) -> Result<Vec<DeadLetterView>, AdminError> {
        let mut letters = std::pin::pin!(self.app.dead_letters().all().take(EXAMINED));
        let mut found = Vec::new();
        while let Some(letter) = letters.try_next().await? {
            if found.len() == limit {
                break;
            }
            found.extend(Some(self.dead_letter_view(&letter)).filter(|of| filter.matches(of)));
        }
        Ok(found)
    }

    /// Returns a dead letter by the id of its message.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`]: no dead letter has this id; it may have been resolved.
    pub async fn dead_letter(&self, id: Uuid) -> Result<DeadLetterView, AdminError> {
        let filter = DeadLetterFilter { ids: vec![id], ..DeadLetterFilter::default() };
        let found = self.dead_letters(&filter, 1).await?.into_iter().next();
        found.ok_or_else(|| AdminError::not_found("dead letter", id.to_string()))
    }

    /// Returns the first 100,000 dead letters by cause, the largest group first.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn dead_letter_groups(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetterGroup>, AdminError> {
        let mut letters = std::pin::pin!(self.app.dead_letters().all().take(EXAMINED));
        let mut groups: BTreeMap<String, DeadLetterGroup> = BTreeMap::new();
        while let Some(letter) = letters.try_next().await? {
            let of = self.dead_letter_view(&letter);
            if !filter.matches(&of) {
                continue;
            }
            let group = groups.entry(of.group.clone()).or_insert_with(|| DeadLetterGroup {
                key: of.group.clone(),
                kind: of.kind,
                target: of.target.clone(),
                name: of.message.name.clone(),
                error: of.error.clone(),
                count: 0,
                heads: 0,
                since: of.parked_at,
                example: of.message.id,
            });
            group.count += 1;
            group.heads += u64::from(of.is_head);
            group.since = group.since.min(of.parked_at);
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by(|one, other| other.count.cmp(&one.count).then(one.key.cmp(&other.key)));
        Ok(groups)
    }

    /// Rehearses a redrive: decodes each message with this build and decides the command on a copy
    /// of its recipient's state. Nothing is changed and no gateway is called.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn rehearse_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        progress: impl Fn(Progress),
    ) -> Result<DryRun, AdminError> {
        let mut letters = std::pin::pin!(self.app.dead_letters().all());
        let (mut run, mut done) = (DryRun::default(), 0);
        while let Some(letter) = letters.try_next().await? {
            if self.interrupt.is_interrupted() {
                run.interrupted = true;
                break;
            }
            let of = self.dead_letter_view(&letter);
            if !filter.matches(&of) {
                continue;
            }
            if !of.is_head {
                run.behind += 1;
                continue;
            }
            match self.app.rehearse(&letter).await? {
                Rehearsal::Passes => run.would_pass += 1,
                Rehearsal::Fails { error } => {
                    let id = letter.message.row.id;
                    run.would_fail.entry(without_ids(&error)).or_insert((0, id)).0 += 1;
                }
                _ => run.unknown += 1,
            }
            done += 1;
            progress(Progress { done, of: None });
        }
        Ok(run)
    }

    /// Decides about all dead letters that match a filter. The workers of their queues carry the
    /// decisions out, within about a second each.
    ///
    /// A dropped call has decided about some letters; the others are as they were.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store is unavailable. Repeat the call: letters that were decided
    /// about are not decided about again.
    pub async fn resolve_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        resolution: Resolution,
        progress: impl Fn(Progress),
    ) -> Result<Resolved, AdminError> {
        let operation = match resolution {
            Resolution::Redrive => "dead redrive",
            Resolution::Discard => "dead discard",
        };
        self.audited(Intent::new(operation, filter.to_string()), async || {
            let mut resolved = Resolved::default();
            let letters = self.app.dead_letters();
            let mut all = std::pin::pin!(letters.all());
            while let Some(letter) = all.try_next().await? {
                if self.interrupt.is_interrupted() {
                    resolved.interrupted = true;
                    break;
                }
                let of = self.dead_letter_view(&letter);
                if !filter.matches(&of) || of.decision.is_some() {
                    continue;
                }
                if !of.is_head {
                    resolved.behind += 1;
                    continue;
                }
                let decided = match resolution {
                    Resolution::Redrive => letters.redrive(&letter).await,
                    Resolution::Discard => letters.discard(&letter).await,
                };
                match decided {
                    Ok(()) => resolved.decided += 1,
                    Err(DeadLetterError::NotAtHead) => resolved.gone += 1,
                    Err(error) => return Err(error.into()),
                }
                progress(Progress { done: resolved.decided, of: None });
            }
            let end = if resolved.interrupted { ", interrupted" } else { "" };
            let Resolved { decided, behind, .. } = resolved;
            let result = format!("{decided} decided, {behind} behind others{end}");
            Ok((resolved, result))
        })
        .await
    }

    pub(crate) fn dead_letter_view(&self, letter: &DeadLetter) -> DeadLetterView {
        let (queue, row) = (&letter.queue, &letter.message.row);
        let error = letter.error.as_deref().map(without_ids).unwrap_or_default();
        DeadLetterView {
            kind: queue.kind.as_str(),
            target: queue.target.clone(),
            partition: queue.partition,
            attempts: letter.attempts,
            error: letter.error.clone(),
            is_head: letter.is_head,
            parked_at: letter.parked_at,
            decision: letter.decision.map(DeadLetterDecision::as_str),
            group: group_key(&[queue.kind.as_str(), &queue.target, &row.content.name, &error]),
            message: self.message_view(
                row.id,
                &letter.message.sender,
                &row.recipient,
                (&row.content, &row.metadata),
            ),
        }
    }
}

/// Returns a short key of texts: the first 48 bits of their FNV-1a hash.
fn group_key(parts: &[&str]) -> String {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:012x}", hash >> 16)
}

/// Returns an error without what differs between messages of one cause: words with digits become
/// `#`.
fn without_ids(error: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || c == '-' || c == '_' || c == '.' || c == ':';
    let mut text = String::new();
    let mut rest = error;
    while let Some(start) = rest.find(is_part) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c| !is_part(c)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        text.push_str(before);
        text.push_str(if word.contains(|c: char| c.is_ascii_digit()) { "#" } else { word });
        rest = after;
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_one_cause_are_alike() {
        let one = "order-17: the card 4711 of `anna` was declined at 2026-01-02T03:04:05Z (x)";
        let other = "order-9f3a: the card 12 of `anna` was declined at 2027-01-02T03:04:05Z (x)";
        assert_eq!(without_ids(one), "# the card # of `anna` was declined at # (x)");
        assert_eq!(without_ids(one), without_ids(other));
        assert_eq!(without_ids(""), "");
        assert_ne!(group_key(&["a", "b"]), group_key(&["ab", ""]));
        assert_eq!(group_key(&["a"]).len(), 12);
    }
}
