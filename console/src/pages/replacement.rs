//! The replacement of an event that cannot be decoded or applied.

use axum::http::StatusCode;
use composable_rust_admin::{Content, EventView, Replacement};
use composable_rust_core::{StreamId, Version};
use maud::{Markup, html};

use crate::Payloads;
use crate::action::Outcome;
use crate::context::Context;
use crate::failure::Failure;
use crate::form::{Form, hidden};
use crate::page::{Page, command};
use crate::pages::instance::at_version;
use crate::parts::content::content;
use crate::url;

fn path(of: &StreamId) -> String {
    format!("/streams/{}/replace", url::encoded(of.as_str()))
}

/// Returns a link to the form for the first of these events; nothing if the user may not make
/// changes, or the event has no content.
pub(crate) fn link(context: &Context, events: &[EventView]) -> Markup {
    let event = events.first().filter(|of| has_content(of) && context.may_change());
    html! {
        @if let Some(event) = event {
            @let query = url::query(&[("version", &event.version.to_string())]);
            p.pages { a href=(context.link(&(path(&event.stream) + &query))) { "Replace its content…" } }
        }
    }
}

fn has_content(of: &EventView) -> bool {
    !matches!(of.content, Content::Erased | Content::Closed)
}

/// The form for the replacement of an event.
pub(crate) async fn form(context: Context) -> Result<Page, Failure> {
    let of = context.stream()?;
    let version: u64 = context.parsed("version")?.ok_or_else(|| Failure::invalid("version", ""))?;
    let events = context.admin().history(&of, Version::new(version.saturating_sub(1)), 1).await?;
    let event = events.entries.into_iter().find(|event| event.version.get() == version);
    let event = event.ok_or_else(|| Failure::not_found("There is no such event."))?;
    let text = match (&event.content, context.shared.payloads) {
        (Content::Decoded(value) | Content::Json(value), Payloads::Shown) => {
            serde_json::to_string_pretty(value).unwrap_or_default()
        }
        _ => String::new(),
    };
    let number = version.to_string();
    let fields = [("version", &*number)];
    let body = html! {
        p {
            "Loads return the new content from then on; the original stays in the log. "
            "First it is rehearsed: this build must be able to decode it."
        }
        p { (event.name) " " (content(&context, &event.content, "event")) }
        @if context.may_change() {
            form.replacement method="post" action=(context.link(&path(&of))) {
                (hidden(&context, &fields))
                label { "Content as JSON" textarea name="json" rows="8" spellcheck="false" required autofocus { (text) } }
                label { "Name " input name="name" placeholder=(event.name); }
                label { "Version of the shape " input name="shape" inputmode="numeric" placeholder=(event.schema_version); }
                button type="submit" { "Rehearse" }
                " " a href=(at_version(&context, &of, "at", version)) { "Cancel" }
            }
        }
    };
    let command = command(["override", of.as_str(), &version.to_string(), "JSON"]);
    Ok(Page::new(format!("Replace event {version} of {of}"), command, body).still())
}

/// Rehearses the replacement, asks, and makes it.
pub(crate) async fn replace(context: Context, form: Form) -> Result<Outcome, Failure> {
    let json = form.required("json")?;
    serde_json::from_str::<serde_json::Value>(json).map_err(|error| {
        Failure::new(StatusCode::BAD_REQUEST, "This is no JSON", error.to_string())
    })?;
    let replacement = Replacement {
        stream: context.stream()?,
        version: Version::new(form.parsed("version")?),
        json: json.to_owned(),
        name: form.given("name"),
        schema_version: form.given("shape").map(|_| form.parsed("shape")).transpose()?,
        is_unchecked: false,
    };
    let Replacement { stream, version, .. } = &replacement;
    if !form.is_confirmed() {
        let (before, after) = context.admin().rehearse_override(&replacement).await?;
        let row = |label: &str, of: &EventView| {
            html! { tr { th { (label) } td { (of.name) } td { (content(&context, &of.content, label)) } } }
        };
        let detail = html! { table { tbody { (row("Before", &before)) (row("After", &after)) } } };
        let question = format!("Replace the content of event {version} of {stream}?");
        return Ok(Outcome::Ask { question, label: "Replace", detail, fields: Vec::new() });
    }
    let error = context.admin_because(form.reason()).override_event(&replacement).await?;
    let notice = match error {
        None => format!("Event {version} is replaced."),
        Some(_) => format!("Event {version} is replaced, and the stream cannot be loaded."),
    };
    Ok(Outcome::done(notice, format!("/streams/{}", url::encoded(stream.as_str()))))
}
