//! Contents of messages, events and states, masked where that is required.

use composable_rust_admin::Content;
use maud::{Markup, html};
use serde_json::Value;

use crate::Payloads;
use crate::context::Context;

/// The text that is shown instead of a value.
const MASK: &str = "•••";
/// The number of characters that a line shows before the content must be unfolded.
const LINE: usize = 90;

/// Returns a content: a line that can be unfolded. The `id` is unique in the page.
pub(crate) fn content(context: &Context, of: &Content, id: &str) -> Markup {
    match of {
        Content::Decoded(value) | Content::Json(value) => json(context, value, id),
        other => html! { span.faint { (other.text()) } },
    }
}

/// Returns JSON: a line that can be unfolded.
pub(crate) fn json(context: &Context, value: &Value, id: &str) -> Markup {
    let value = shown(context, value);
    let line = value.to_string();
    let cut: String = line.chars().take(LINE).collect();
    html! {
        @if cut.len() == line.len() { code { (line) } }
        @else { details id=(id) { summary { code { (cut) "…" } } pre { (pretty(&value)) } } }
    }
}

/// Returns JSON on several lines.
pub(crate) fn block(context: &Context, value: &Value) -> Markup {
    html! { pre { (pretty(&shown(context, value))) } }
}

/// Returns the two values of a difference.
pub(crate) fn difference(
    context: &Context,
    before: Option<&Value>,
    after: Option<&Value>,
) -> Markup {
    let text = |value: Option<&Value>| {
        value.map_or("nothing".to_owned(), |value| shown(context, value).to_string())
    };
    html! { code.before { (text(before)) } " → " code.after { (text(after)) } }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

fn shown(context: &Context, value: &Value) -> Value {
    match context.shared.payloads {
        Payloads::Shown => value.clone(),
        Payloads::Masked => masked(value),
    }
}

/// Returns a value whose scalars are masked; names of fields stay.
fn masked(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Array(values) => Value::Array(values.iter().map(masked).collect()),
        Value::Object(fields) => Value::Object(
            fields.iter().map(|(name, value)| (name.clone(), masked(value))).collect(),
        ),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Value::String(MASK.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::masked;

    #[test]
    fn no_value_survives_the_mask() {
        let value = json!({"name": "Ann", "lines": [{"n": 17, "free": true}], "none": null});
        let text = masked(&value).to_string();
        assert_eq!(text, r#"{"lines":[{"free":"•••","n":"•••"}],"name":"•••","none":null}"#);
    }
}
