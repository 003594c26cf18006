//! Gateways, and the pause of the whole log.

use composable_rust_admin::{CircuitView, GatewayView, PauseView};
use composable_rust_core::queue::Pause;
use maud::{Markup, html};

use crate::action::Outcome;
use crate::context::Context;
use crate::failure::Failure;
use crate::form::{Form, button};
use crate::page::Page;
use crate::parts::text::{counted, none, seconds, time};
use crate::url;

/// The number of open circuits that are shown for each gateway.
const SHOWN: usize = 5;

pub(crate) async fn page(context: Context) -> Result<Page, Failure> {
    let gateways = context.admin().gateways().await?;
    let pauses = context.admin().pauses().await?;
    let of_log = pauses.iter().find(|pause| pause.name == Pause::LOG);
    let body = html! {
        @if gateways.is_empty() { (none("There are no calls, and the app of this console registers no gateway.")) }
        @else {
            div.scroll { table {
                thead { tr { th { "Gateway" } th.number { "Waiting calls" } th.number { "Oldest" } th.number { "Dead letters" } th { "Circuit of this process" } th { "Paused" } th { "Last error" } th { "Change" } } }
                tbody { @for of in &gateways { (gateway(&context, of)) } }
            } }
        }
        h2 { "All background work" }
        (log(&context, of_log))
    };
    Ok(Page::new("Gateways", "gateways list", body))
}

fn gateway(context: &Context, of: &GatewayView) -> Markup {
    let fields = [("name", &*of.name)];
    let calls =
        format!("/queues/messages{}", url::query(&[("kind", "call"), ("target", &of.name)]));
    html! {
        tr {
            td { a href=(context.link(&calls)) { (of.name) } }
            td.number { (counted(of.waiting)) }
            td.number { @if of.waiting > 0 { (seconds(of.oldest_seconds)) } }
            td.number { @if of.dead_letters > 0 { span.bad { (counted(of.dead_letters)) } } }
            td { (circuits(of)) }
            td { (paused(of.pause.as_ref())) }
            td.failure { (of.last_error.as_deref().unwrap_or("")) }
            td.short {
                @if of.pause.is_some() { (button(context, "Resume", "/gateways/resume", &fields)) }
                @else { (button(context, "Pause", "/gateways/pause", &fields)) }
            }
        }
    }
}

fn circuits(of: &GatewayView) -> Markup {
    let circuit = |CircuitView { key, until }: &CircuitView| {
        html! {
            div.bad {
                @if let Some(key) = key { (key) ": " }
                @match until {
                    Some(until) => { "open until " (time(*until)) },
                    None => "probing",
                }
            }
        }
    };
    html! {
        @if !of.is_registered { span.faint { "not called here" } }
        @else if of.open_circuits.is_empty() { span.good { "closed" } }
        @for of in of.open_circuits.iter().take(SHOWN) { (circuit(of)) }
        @if of.open_circuits.len() > SHOWN { div.bad { "and " (of.open_circuits.len() - SHOWN) " more" } }
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
        return Ok(Outcome::ask(question, "Pause"));
    }
    context.admin_because(form.reason()).pause_log().await?;
    Ok(Outcome::done("All work is paused.", form.then("/gateways")))
}

pub(crate) async fn resume_log(context: Context, form: Form) -> Result<Outcome, Failure> {
    context.admin_because(form.reason()).resume_log().await?;
    Ok(Outcome::done("Work is resumed.", form.then("/gateways")))
}
