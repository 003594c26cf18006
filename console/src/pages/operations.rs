//! Operations that go on after the request that began them: progress, cancelling, results.

use std::sync::Arc;

use composable_rust_admin::{Resolution, Resolved};
use maud::{Markup, html};
use uuid::Uuid;

use crate::action::Outcome;
use crate::background::{Description, Operation, Report};
use crate::context::Context;
use crate::failure::Failure;
use crate::form::{Form, button};
use crate::page::Page;
use crate::parts::text::seconds;

pub(crate) async fn page(context: Context) -> Result<Page, Failure> {
    let operation = find(&context, context.param("id"))?;
    operation.soon().await;
    let body = html! {
        (state(&context, &operation))
        p.pages { a href=(context.link(&operation.page)) { "Back" } }
    };
    Ok(Page::new(&operation.title, "", body))
}

pub(crate) async fn cancel(context: Context, form: Form) -> Result<Outcome, Failure> {
    let operation = find(&context, form.field("id"))?;
    operation.interrupt().interrupt();
    operation.soon().await;
    Ok(Outcome::done("Cancelled.", path(&operation)))
}

fn find(context: &Context, id: &str) -> Result<Arc<Operation>, Failure> {
    let parsed: Uuid = id.parse().map_err(|_| Failure::invalid("operation", id))?;
    context.shared.operations.find(parsed).ok_or_else(|| {
        let detail = "This process has no such operation: another has, or it ended long ago. The \
                      audit has its result.";
        Failure::not_found(detail)
    })
}

fn path(of: &Operation) -> String {
    format!("/operations/{}", of.id)
}

/// Describes an operation of the user of a request.
pub(crate) fn description(
    context: &Context,
    title: &'static str,
    subject: String,
    page: &str,
) -> Description {
    Description { title, subject, by: context.user().to_owned(), page: page.to_owned() }
}

/// Returns the result of an operation, or leads to its page if it takes longer.
pub(crate) async fn outcome(of: &Operation, then: String) -> Result<Outcome, Failure> {
    match of.soon().await {
        Some(Ok(report)) => Ok(Outcome::done(text(report), then)),
        Some(Err(failure)) => Err(failure.clone()),
        None => Ok(Outcome::done("It has begun, and goes on without this page.", path(of))),
    }
}

/// Returns links to the operations under way.
pub(crate) fn running(context: &Context) -> Markup {
    html! {
        @for of in context.shared.operations.running() {
            p.warn {
                "Under way: " a href=(context.link(&path(&of))) { (of.title) }
                ", begun by " (of.by) " " (seconds(of.seconds())) " ago."
            }
        }
    }
}

/// Returns the progress of an operation, or its result.
pub(crate) fn state(context: &Context, of: &Operation) -> Markup {
    let id = of.id.to_string();
    let (done, whole) = of.progress();
    html! {
        p.mono { (of.subject) }
        @match of.result() {
            Some(Ok(report)) => p.good { (text(report)) },
            Some(Err(failure)) => p.failure { (failure.detail) },
            None => {
                p {
                    @if whole > 0 { meter min="0" max=(whole) value=(done) {} " " (done) " of " (whole) }
                    @else { (done) }
                    ", begun by " (of.by) " " (seconds(of.seconds())) " ago"
                }
                (button(context, "Cancel", "/operations/cancel", &[("id", &id)]))
            }
        }
    }
}

fn text(report: &Report) -> String {
    let Report::Resolved { resolved, resolution } = report else {
        return "It has ended.".to_owned();
    };
    let Resolved { decided, gone, interrupted, behind } = *resolved;
    let (verb, later) = match resolution {
        Resolution::Redrive => ("redriven", "follow them"),
        Resolution::Discard => ("discarded", "need another decision"),
    };
    let parts = [
        Some(format!("{decided} {verb}")),
        (gone > 0).then(|| format!("{gone} resolved meanwhile")),
        (behind > 0).then(|| format!("{behind} behind others {later}")),
        interrupted.then(|| "cancelled: the others are as they were".to_owned()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ") + "."
}
