//! Dead letters: grouped, rehearsed, and decided about in bulk.

use std::collections::BTreeMap;

use composable_rust_core::Timestamp;
use composable_rust_core::queue::{DeadLetter, DeadLetterDecision};
use composable_rust_runtime::operations::{DeadLetterError, Rehearsal};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use uuid::Uuid;

use crate::{Admin, AdminError, Examined, Intent, MessageView, Progress};

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

/// Dead letters of one cause: of one queue, message and error, apart from ids and times in it.
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
    /// Returns the dead letters that match a filter, in order of partitions, queues and positions.
    ///
    /// # Errors
    ///
    /// The stream ends with [`AdminError::Store`] if the store cannot be read.
    pub fn all_dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> impl Stream<Item = Result<DeadLetterView, AdminError>> + Send {
        self.dead_letter_views().try_filter(|of| std::future::ready(filter.matches(of)))
    }

    /// Returns the first `limit` dead letters that match a filter, among those that are
    /// [examined](Admin::examining).
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        limit: usize,
    ) -> Result<Examined<DeadLetterView>, AdminError> {
        let mut letters = std::pin::pin!(self.dead_letter_views());
        let mut entries = Vec::new();
        for _ in 0..self.examined {
            if entries.len() == limit {
                break;
            }
            let Some(letter) = letters.try_next().await? else {
                return Ok(Examined { entries, is_cut: false });
            };
            entries.extend(Some(letter).filter(|of| filter.matches(of)));
        }
        let is_cut = letters.try_next().await?.is_some();
        Ok(Examined { entries, is_cut })
    }

    /// Returns a dead letter by the id of its message.
    ///
    /// # Errors
    ///
    /// [`AdminError::NotFound`]: no dead letter has this id; it may have been resolved.
    pub async fn dead_letter(&self, id: Uuid) -> Result<DeadLetterView, AdminError> {
        let filter = DeadLetterFilter { ids: vec![id], ..DeadLetterFilter::default() };
        let found = std::pin::pin!(self.all_dead_letters(&filter)).try_next().await?;
        found.ok_or_else(|| AdminError::not_found("dead letter", id.to_string()))
    }

    /// Returns the dead letters that are [examined](Admin::examining) by cause, the largest group
    /// first.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn dead_letter_groups(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Examined<DeadLetterGroup>, AdminError> {
        let mut letters = std::pin::pin!(self.dead_letter_views());
        let mut groups: BTreeMap<String, DeadLetterGroup> = BTreeMap::new();
        for _ in 0..self.examined {
            let Some(of) = letters.try_next().await? else { break };
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
        let mut entries: Vec<_> = groups.into_values().collect();
        entries.sort_by(|one, other| other.count.cmp(&one.count).then(one.key.cmp(&other.key)));
        let is_cut = letters.try_next().await?.is_some();
        Ok(Examined { entries, is_cut })
    }

    fn dead_letter_views(&self) -> impl Stream<Item = Result<DeadLetterView, AdminError>> + Send {
        let letters = self.app.dead_letters().all();
        letters.map_ok(|letter| self.dead_letter_view(&letter)).map_err(AdminError::from)
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
                    let cause = cause(&error, &ids_of(&letter));
                    run.would_fail.entry(cause).or_insert((0, letter.message.row.id)).0 += 1;
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
    /// [`AdminError::Store`], [`AdminError::PartlyDecided`]: the store is unavailable. Repeat the
    /// call: letters that were decided about are not decided about again.
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
            let failed = |decided, error: AdminError| match decided {
                0 => error,
                decided => AdminError::PartlyDecided { decided, source: Box::new(error) },
            };
            while let Some(letter) = all.next().await {
                let letter = letter.map_err(|error| failed(resolved.decided, error.into()))?;
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
                    Err(error) => return Err(failed(resolved.decided, error.into())),
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
        let error = letter.error.as_deref().unwrap_or_default();
        let error = cause(error, &ids_of(letter));
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
                (queue.kind, &queue.target),
                (&letter.message.sender, &row.recipient),
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

/// Returns the ids of a dead letter that its error may name.
fn ids_of(letter: &DeadLetter) -> Vec<String> {
    let (sender, row) = (&letter.message.sender, &letter.message.row);
    let recipient = row.recipient.as_str();
    let streams = [Some(sender.clone()), recipient.parse().ok()].into_iter().flatten();
    let mut ids = vec![recipient.to_owned()];
    for stream in streams {
        ids.extend([stream.as_str().to_owned(), stream.id().to_owned()]);
    }
    ids.retain(|id| !id.is_empty());
    // A whole name before the id in it.
    ids.sort_by_key(|id| std::cmp::Reverse(id.len()));
    ids
}

/// Returns an error without what differs between messages of one cause: the `ids` of the message,
/// and words of the form of an id or a time, become `#`. Short numbers stay: most are codes.
fn cause(error: &str, ids: &[String]) -> String {
    let is_part = |c: char| c.is_alphanumeric() || c == '-' || c == '_' || c == '.' || c == ':';
    let (mut text, mut rest) = (String::new(), error);
    while let Some(start) = rest.find(is_part) {
        let (before, from) = rest.split_at(start);
        text.push_str(before);
        let id = ids.iter().find_map(|id| from.strip_prefix(id.as_str()));
        if let Some(after) = id.filter(|after| !after.starts_with(char::is_alphanumeric)) {
            text.push('#');
            rest = after;
            continue;
        }
        let end = from.find(|c| !is_part(c)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        text.push_str(if is_id(word) { "#" } else { word });
        rest = after;
    }
    text + rest
}

/// Returns `true` if a word is a UUID, or a number, hash or time of at least six digits.
fn is_id(word: &str) -> bool {
    const DIGITS: usize = 6;
    word.chars().filter(char::is_ascii_digit).count() >= DIGITS || Uuid::try_parse(word).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause_of(error: &str, ids: &[&str]) -> String {
        cause(error, &ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn errors_of_one_cause_are_alike() {
        let one = "order-17: the card 471100 of `anna` was declined at 2026-01-02T03:04:05Z (x)";
        let other =
            "order-9f3a: the card 120000 of `anna` was declined at 2027-01-02T03:04:05Z (x)";
        let cause = cause_of(one, &["order-17", "17"]);
        assert_eq!(cause, "#: the card # of `anna` was declined at # (x)");
        assert_eq!(cause, cause_of(other, &["order-9f3a", "9f3a"]));
        let uuid = "no parcel for aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee";
        assert_eq!(cause_of(uuid, &[]), "no parcel for #");
        let within = cause_of("(17) is not 170, é17 or order-17-b; 17.", &["17"]);
        assert_eq!(within, "(#) is not 170, é17 or order-17-b; #.");
        assert_eq!(cause_of("", &[]), "");
        assert_ne!(group_key(&["a", "b"]), group_key(&["ab", ""]));
        assert_eq!(group_key(&["a"]).len(), 12);
    }

    #[test]
    fn errors_with_different_codes_are_of_different_causes() {
        let alike = [
            ("the bank answered 422", "the bank answered 503"),
            ("SQLSTATE 23505", "SQLSTATE 40001"),
            ("E1001: declined", "E1002: declined"),
            ("the schema is v1", "the schema is v2"),
        ];
        for (one, other) in alike {
            assert_ne!(cause_of(one, &["17"]), cause_of(other, &["17"]));
        }
    }
}
