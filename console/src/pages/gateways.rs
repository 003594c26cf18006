//! Gateways, and the pause of the whole log.

use std::collections::BTreeMap;

use composable_rust_admin::PauseView;
use composable_rust_core::queue::Pause;
use maud::{Markup, html};

use crate::action::Outcome;
use crate::context::Context;
use crate::failure::Failure;
use crate::form::{Form, button};
use crate::page::Page;
use crate::parts::text::{counted, none, seconds, time};

/// A gateway.
#[derive(Debug, Default)]
struct Row {
    waiting: u64,
    oldest: u64,
    dead_letters: u64,
    error: Option<String>,
    pause: Option<PauseView>,
    is_called_here: bool,
}

pub(crate) async fn page(context: Context) -> Result<Page, Failure> {
    let admin = context.admin();
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for name in admin.app().gateways() {
        rows.entry(name.to_owned()).or_default().is_called_here = true;
    }
    for of in admin.queues().await?.into_iter().filter(|of| of.kind == "call") {
        let row = rows.entry(of.target).or_default();
        row.waiting += of.depth;
        row.oldest = row.oldest.max(of.oldest_seconds);
        row.dead_letters += of.dead_letters;
        row.error = row.error.take().or(of.last_error);
    }
    let mut of_log = None;
    for pause in admin.pauses().await? {
        if pause.name == Pause::LOG {
            of_log = Some(pause);
        } else if let Some(name) = pause.name.strip_prefix("gateway/").map(str::to_owned) {
            rows.entry(name).or_default().pause = Some(pause);
        }
    }
    let body = html! {
        @if rows.is_empty() { (none("There are no calls, and the app of this console registers no gateway.")) }
        @else {
            div.scroll { table {
                thead { tr { th { "Gateway" } th.number { "Waiting calls" } th.number { "Oldest" } th.number { "Dead letters" } th { "Called here" } th { "Paused" } th { "Last error" } th { "Change" } } }
                tbody { @for (name, row) in &rows { (gateway(&context, name, row)) } }
            } }
        }
        h2 { "All background work" }
        (log(&context, of_log.as_ref()))
    };
    Ok(Page::new("Gateways", "gateways list", body))
}

fn gateway(context: &Context, name: &str, row: &Row) -> Markup {
    let fields = [("name", name)];
    html! {
        tr {
            td { (name) }
            td.number { (counted(row.waiting)) }
            td.number { @if row.waiting > 0 { (seconds(row.oldest)) } }
            td.number { @if row.dead_letters > 0 { span.bad { (counted(row.dead_letters)) } } }
            td { @if row.is_called_here { "yes" } }
            td { (paused(row.pause.as_ref())) }
            td.failure { (row.error.as_deref().unwrap_or("")) }
            td.short {
                @if row.pause.is_some() { (button(context, "Resume", "/gateways/resume", &fields)) }
                @else { (button(context, "Pause", "/gateways/pause", &fields)) }
            }
        }
    }
}

fn log(context: &Context, pause: Option<&PauseView>) -> Markup {
    html! {
        @match pause {
            Some(pause) => p { (paused(Some(pause))) " " (button(context, "Resume all work", "/log/resume", &[])) },
            None => p { "Not paused. " (button(context, "Pause all work…", "/log/pause", &[])) },
        }
    }
}

fn paused(pause: Option<&PauseView>) -> Markup {
    html! {
        @if let Some(pause) = pause {
            span.warn { "since " (time(pause.since)) @if let Some(by) = &pause.by { " by " (by) } }
        }
    }
}

pub(crate) async fn pause(context: Context, form: Form) -> Result<Outcome, Failure> {
    let name = form.required("name")?;
    context.admin_because(form.reason()).pause_gateway(name).await?;
    Ok(Outcome::done(format!("{name} is paused."), "/gateways"))
}

pub(crate) async fn resume(context: Context, form: Form) -> Result<Outcome, Failure> {
    let name = form.required("name")?;
    context.admin_because(form.reason()).resume_gateway(name).await?;
    Ok(Outcome::done(format!("{name} is resumed."), "/gateways"))
}

pub(crate) async fn pause_log(context: Context, form: Form) -> Result<Outcome, Failure> {
    if !form.is_confirmed() {
        let question = "Pause all background work of all processes? Commands are still handled.";
        return Ok(Outcome::Ask { question: question.to_owned(), label: "Pause".to_owned() });
    }
    context.admin_because(form.reason()).pause_log().await?;
    Ok(Outcome::done("All work is paused.", "/gateways"))
}

pub(crate) async fn resume_log(context: Context, form: Form) -> Result<Outcome, Failure> {
    context.admin_because(form.reason()).resume_log().await?;
    Ok(Outcome::done("Work is resumed.", "/gateways"))
}
