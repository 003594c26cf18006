//! Unfinished instances by their step, such as sagas.

use std::collections::BTreeMap;

use composable_rust_core::event::CLOSED;
use composable_rust_core::{StreamId, Timestamp, Version};
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::Value;

use crate::content::{error_chain, parsed};
use crate::{Admin, AdminError, Page, StreamQuery, StreamView};

/// The number of instances that one page examines.
const EXAMINED: usize = 2_000;
/// The number of instances that are loaded at a time.
const AT_ONCE: usize = 100;
/// The number of instances that are listed for each step.
const SHOWN: usize = 20;

/// The unfinished instances at one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepView {
    /// The step: the `status` of a saga such as `Doing Charge`, the variant of another state, or
    /// the name of the last event where the type is not registered.
    pub step: String,
    /// The number of instances.
    pub count: u64,
    /// The instances that have waited longest, at most 20.
    pub oldest: Vec<InstanceAt>,
}

/// An unfinished instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InstanceAt {
    /// The stream.
    pub stream: StreamId,
    /// The version.
    pub version: Version,
    /// The time of the last event.
    pub since: Timestamp,
    /// The error, if the instance cannot be loaded.
    pub error: Option<String>,
}

impl Admin {
    /// Returns the unfinished instances of a type by step, of up to 2,000 instances after a stream.
    /// An instance is finished when its state says so or its stream is closed; where the type is
    /// not registered, only closed streams are left out.
    ///
    /// # Errors
    ///
    /// - [`AdminError::NotFound`]: no such type is registered, and no stream has its name.
    /// - [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn unfinished(
        &self,
        category: &str,
        after: Option<StreamId>,
    ) -> Result<Page<StepView, StreamId>, AdminError> {
        let (deadline, is_registered) = (self.deadline(), self.is_registered(category));
        if !is_registered {
            self.require_streams(category).await?;
        }
        let mut query = StreamQuery {
            prefix: format!("{category}-"),
            after,
            limit: AT_ONCE,
            ..StreamQuery::default()
        };
        let mut steps: BTreeMap<String, StepView> = BTreeMap::new();
        for _ in 0..EXAMINED / AT_ONCE {
            let page = self.streams(&query).await?;
            let streams = page.entries.into_iter().filter(|of| of.last_event != CLOSED);
            let found = streams.map(|of| async {
                let step = if is_registered { self.step(&of).await } else { Some((None, None)) };
                (of, step)
            });
            for (stream, step) in join_all(found).await {
                let Some((step, error)) = step else { continue };
                let step = step.unwrap_or_else(|| format!("after {}", stream.last_event));
                let entry = steps.entry(step.clone());
                let view = entry.or_insert(StepView { step, count: 0, oldest: Vec::new() });
                view.add(stream, error);
            }
            query.after = page.next;
            if query.after.is_none() || deadline.has_passed() {
                break;
            }
        }
        let mut entries: Vec<_> = steps.into_values().collect();
        entries.sort_by_key(|step| step.oldest.first().map(|instance| instance.since));
        Ok(Page { entries, next: query.after })
    }

    /// Checks that a type has streams: a misspelt name must not look as if all were finished.
    async fn require_streams(&self, category: &str) -> Result<(), AdminError> {
        let (prefix, limit) = (format!("{category}-"), 1);
        let query = StreamQuery { prefix, limit, ..StreamQuery::default() };
        if !self.streams(&query).await?.entries.is_empty() {
            return Ok(());
        }
        let known: Vec<_> = self.app.registry().names().collect();
        let hint = match &*known {
            [] => String::new(),
            known => format!("; there are: {}", known.join(", ")),
        };
        Err(AdminError::NotFound { what: "type", name: category.to_owned(), hint })
    }

    /// Returns the step of an instance, if its state tells one, and the reason why it cannot be
    /// loaded; `None` if it is finished.
    async fn step(&self, of: &StreamView) -> Option<(Option<String>, Option<String>)> {
        match self.app.registry().instance(&of.stream, None).await {
            Ok(of) if of.is_finished => None,
            Ok(of) => Some((step_of(&parsed(&of.state)), None)),
            Err(error) => Some((Some("(cannot be loaded)".to_owned()), Some(error_chain(&error)))),
        }
    }
}

impl StepView {
    fn add(&mut self, of: StreamView, error: Option<String>) {
        self.count += 1;
        let instance =
            InstanceAt { stream: of.stream, version: of.version, since: of.changed_at, error };
        let place = self.oldest.partition_point(|other| other.since <= instance.since);
        if place < SHOWN {
            self.oldest.insert(place, instance);
            self.oldest.truncate(SHOWN);
        }
    }
}

/// Returns the step that a state tells: that of its field `status` or `phase`, or of itself.
fn step_of(state: &Value) -> Option<String> {
    let field = ["status", "phase", "step", "state"].into_iter().find_map(|name| state.get(name));
    match field.unwrap_or(state) {
        Value::String(name) => Some(name.clone()),
        Value::Object(fields) if fields.len() == 1 => {
            let (variant, content) = fields.iter().next()?;
            match content.get("step").and_then(Value::as_str) {
                Some(step) => Some(format!("{variant} {step}")),
                None => Some(variant.clone()),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_step_is_the_variant_of_a_state() {
        let step = |state| step_of(&state);
        let saga = json!({"input": {}, "status": {"Doing": {"step": "Charge", "since": "…"}}});
        assert_eq!(step(saga).as_deref(), Some("Doing Charge"));
        assert_eq!(step(json!({"status": "Completed"})).as_deref(), Some("Completed"));
        assert_eq!(step(json!({"Placed": {"sku": "a"}})).as_deref(), Some("Placed"));
        assert_eq!(step(json!({"a": 1, "b": 2})), None);
    }
}
