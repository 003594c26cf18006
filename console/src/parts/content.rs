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
        Content::Undecodable { error } if context.shared.payloads == Payloads::Masked => {
            html! { span.faint { "(undecodable: " (masked_error(error)) ")" } }
        }
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

/// Returns an error of decoding without the values that serde quotes: `string "…"`, and scalars and
/// variants between backticks. Names of fields and types stay.
fn masked_error(error: &str) -> String {
    const BEFORE_VALUES: [&str; 5] =
        ["integer", "floating point", "boolean", "character", "variant"];
    let mut shown = String::new();
    let mut rest = error;
    while let Some(at) = rest.find(['"', '`']) {
        let (before, quoted) = rest.split_at(at);
        let quote = if quoted.starts_with('"') { '"' } else { '`' };
        let end = end_of_quoted(quoted, quote);
        let is_value =
            quote == '"' || BEFORE_VALUES.iter().any(|kind| before.trim_end().ends_with(kind));
        shown.push_str(before);
        shown.push_str(if is_value { MASK } else { &quoted[..end] });
        rest = &quoted[end..];
    }
    shown.push_str(rest);
    shown
}

/// Returns the end of the text that begins with a quote: after the closing one, or the whole text.
fn end_of_quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        if character == quote && !is_escaped {
            return at + 1;
        }
        is_escaped = character == '\\' && !is_escaped;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{masked, masked_error};

    #[test]
    fn no_value_survives_in_an_error_of_decoding() {
        let error =
            r#"cannot decode `card.added`: cents: invalid type: string "41\"11", expected u64"#;
        let shown = "cannot decode `card.added`: cents: invalid type: string •••, expected u64";
        assert_eq!(masked_error(error), shown);
        let error = "invalid type: integer `4111`, expected a string";
        assert_eq!(masked_error(error), "invalid type: integer •••, expected a string");
        assert_eq!(
            masked_error("unknown variant `Ann`, expected `A`"),
            "unknown variant •••, expected `A`"
        );
        assert_eq!(masked_error(r#"invalid type: string "41"#), "invalid type: string •••");
        assert_eq!(masked_error("missing field `cents`"), "missing field `cents`");
    }

    #[test]
    fn no_value_survives_the_mask() {
        let value = json!({"name": "Ann", "lines": [{"n": 17, "free": true}], "none": null});
        let text = masked(&value).to_string();
        assert_eq!(text, r#"{"lines":[{"free":"•••","n":"•••"}],"name":"•••","none":null}"#);
    }
}
