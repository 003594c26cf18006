//! Dead letters: grouped by cause, rehearsed, redriven and discarded.

use std::sync::Arc;

use composable_rust_admin::{
    Admin, DeadLetterFilter, DeadLetterGroup, DeadLetterView, DryRun, Progress, Resolution,
};
use maud::{Markup, html};
use uuid::Uuid;

use crate::action::Outcome;
use crate::background::{Operation, Report};
use crate::context::Context;
use crate::failure::Failure;
use crate::form::{Form, button};
use crate::page::{Page, command};
use crate::pages::operations;
use crate::parts::content::content;
use crate::parts::text::{none, recipient, stream, time, workflow};
use crate::url;

/// The number of dead letters on a page.
const SHOWN: usize = 100;
/// The title of the operation.
const REHEARSAL: &str = "Rehearsal of dead letters";

pub(crate) async fn groups(context: Context) -> Result<Page, Failure> {
    let filter = DeadLetterFilter {
        error_contains: Some(context.query("error")).filter(|of| !of.is_empty()).map(str::to_owned),
        ..DeadLetterFilter::default()
    };
    let found = context.admin().dead_letter_groups(&filter).await?;
    let groups = &found.entries;
    let body = html! {
        @if found.is_cut { (none("There are more than are counted here. A decision about a group reaches all of it.")) }
        (operations::running(&context))
        @if groups.is_empty() { p.good { "There are none." } }
        @else {
            div.scroll { table {
                thead { tr { th.number { "Count" } th { "Queue" } th { "Message" } th { "Error" } th { "Since" } th { "Decide about the group" } } }
                tbody { @for group in groups { (row(&context, group)) } }
            } }
        }
    };
    Ok(Page::new("Dead letters", "dead groups", body).with_head(search(&context)))
}

fn search(context: &Context) -> Markup {
    html! {
        form.filter method="get" action=(context.link("/dead-letters")) role="search" {
            input type="search" name="error" placeholder="Error contains" aria-label="Part of the error" value=(context.query("error"));
            button type="submit" { "Search" }
        }
    }
}

fn row(context: &Context, group: &DeadLetterGroup) -> Markup {
    let query = url::query(&[("group", &group.key)]);
    let fields = [("group", &*group.key), ("then", "/dead-letters")];
    // A rehearsal that has ended is made again.
    let filter = DeadLetterFilter { group: Some(group.key.clone()), ..DeadLetterFilter::default() };
    let last = context.shared.operations.last(REHEARSAL, &filter.to_string());
    let ended = last.filter(|of| of.result().is_some()).map(|of| of.id.to_string());
    let again = [("group", &*group.key), ("again", ended.as_deref().unwrap_or_default())];
    html! {
        tr {
            td.number { a href=(context.link(&format!("/dead-letters/list{query}"))) { (group.count) } }
            td { (group.kind) "/" (group.target) }
            td { (group.name) }
            td.failure {
                @match &group.error {
                    Some(error) => (error),
                    None => span.faint { "waits behind others" },
                }
            }
            td.short { (time(group.since)) }
            td {
                a href=(context.link(&format!("/dead-letters/rehearsal{}", url::query(&again)))) { "Rehearse" } " "
                (button(context, "Redrive", "/dead-letters/redrive", &fields)) " "
                (button(context, "Discard…", "/dead-letters/discard", &fields))
            }
        }
    }
}

pub(crate) async fn list(context: Context) -> Result<Page, Failure> {
    let filter = filter(&context)?;
    let letters = context.admin().dead_letters(&filter, SHOWN).await?.entries;
    let body = html! {
        p.pages { a href=(context.link("/dead-letters")) { "All groups" } }
        (table(&context, &letters))
        @if letters.len() == SHOWN { (none("Only the first 100 are shown.")) }
    };
    Ok(Page::new("Dead letters of a group", command_of("list", &context), body))
}

/// Returns a table of dead letters.
pub(crate) fn table(context: &Context, letters: &[DeadLetterView]) -> Markup {
    html! {
        @if letters.is_empty() { (none("There are none.")) }
        @else {
            div.scroll { table {
                thead { tr { th { "Message" } th { "From" } th { "To" } th { "Since" } th.number { "Attempts" } th { "Error" } th { "Content" } th { "Cause" } th { "Decide" } } }
                tbody { @for of in letters { (letter(context, of)) } }
            } }
        }
    }
}

fn letter(context: &Context, of: &DeadLetterView) -> Markup {
    let (id, then) = (of.message.id.to_string(), context.path.to_string());
    let fields = [("id", &*id), ("then", &*then)];
    html! {
        tr {
            td title=(id) { (of.message.name) }
            td { (stream(context, &of.message.sender)) }
            td { (recipient(context, &of.message.recipient)) }
            td.short { (time(of.parked_at)) }
            td.number { (of.attempts) }
            td.failure { (of.error.as_deref().unwrap_or("")) }
            td { (content(context, &of.message.content, &format!("letter-{id}"))) }
            td { (workflow(context, of.message.correlation_id, Some(of.parked_at))) }
            td.short {
                @if let Some(decision) = of.decision { span.tag { (decision) } }
                @else if of.is_head {
                    (button(context, "Redrive", "/dead-letters/redrive", &fields)) " "
                    (button(context, "Discard…", "/dead-letters/discard", &fields))
                } @else { span.faint { "behind another one" } }
            }
        }
    }
}

pub(crate) async fn rehearsal(context: Context) -> Result<Page, Failure> {
    let filter = filter(&context)?;
    let operation = rehearsed(&context, filter)?;
    let ended = operation.soon().await;
    let body = html! {
        p.pages { a href=(context.link("/dead-letters")) { "All groups" } }
        @match ended {
            Some(Ok(Report::Rehearsed(run))) => (outcome(&context, run)),
            _ => (operations::state(&context, &operation)),
        }
    };
    let command = command_of("redrive", &context) + " --dry-run";
    Ok(Page::new("Rehearsal: would this build handle them?", command, body))
}

/// Returns the rehearsal of a filter: the last one, or another one if the page asks for it.
fn rehearsed(context: &Context, filter: DeadLetterFilter) -> Result<Arc<Operation>, Failure> {
    let subject = filter.to_string();
    let operations = &context.shared.operations;
    let again = context.parsed::<Uuid>("again")?;
    match operations.last(REHEARSAL, &subject) {
        Some(last) if Some(last.id) != again => return Ok(last),
        _ => {}
    }
    let of = operations::description(context, REHEARSAL, subject, "/dead-letters");
    let admin = context.admin().clone();
    operations.begin(of, context.stopping.clone(), |operation| async move {
        let admin = admin.until(operation.interrupt());
        let of = decidable(&admin, &filter).await?;
        let progress = |now: Progress| operation.report(Progress { of: Some(of), ..now });
        Ok(Report::Rehearsed(admin.rehearse_dead_letters(&filter, progress).await?))
    })
}

/// Returns the number of dead letters about which a decision is possible.
async fn decidable(admin: &Admin, filter: &DeadLetterFilter) -> Result<u64, Failure> {
    Ok(admin.dead_letter_groups(filter).await?.entries.iter().map(|group| group.heads).sum())
}

fn outcome(context: &Context, run: &DryRun) -> Markup {
    let fields = [("group", context.query("group")), ("then", "/dead-letters")];
    let failing = run.would_fail.values().map(|(count, _)| count).sum::<u64>();
    html! {
        div.cards {
            div.card { strong.good { (run.would_pass) } span { "would be handled" } }
            div.card { strong class=[(failing > 0).then_some("bad")] { (failing) } span { "would fail again" } }
            div.card { strong { (run.behind) } span { "wait behind others" } }
            div.card { strong { (run.unknown) } span { "cannot be told" } }
        }
        @if run.interrupted { p.warn { "It was cancelled: the numbers are those until then." } }
        @if failing > 0 {
            div.scroll { table {
                thead { tr { th.number { "Count" } th { "Error" } th { "Example" } } }
                tbody {
                    @for (error, (count, example)) in &run.would_fail {
                        tr { td.number { (count) } td.failure { (error) } td.mono { (example) } }
                    }
                }
            } }
        }
        p { (button(context, "Redrive the group", "/dead-letters/redrive", &fields)) }
    }
}

pub(crate) async fn redrive(context: Context, form: Form) -> Result<Outcome, Failure> {
    decide(&context, &form, Resolution::Redrive).await
}

pub(crate) async fn discard(context: Context, form: Form) -> Result<Outcome, Failure> {
    filter_of(&form)?;
    if !form.is_confirmed() {
        let what = if form.field("id").is_empty() {
            "all dead letters of the group"
        } else {
            "the dead letter"
        };
        let question = format!("Discard {what}? Their senders are told, nobody else is.");
        return Ok(Outcome::ask(question, "Discard"));
    }
    decide(&context, &form, Resolution::Discard).await
}

/// Decides about dead letters, beyond this request if there are many.
async fn decide(
    context: &Context,
    form: &Form,
    resolution: Resolution,
) -> Result<Outcome, Failure> {
    let (filter, then) = (filter_of(form)?, form.then("/dead-letters"));
    let title = match resolution {
        Resolution::Redrive => "Redrive of dead letters",
        Resolution::Discard => "Discarding dead letters",
    };
    let of = operations::description(context, title, filter.to_string(), &then);
    let admin = context.admin_because(form.reason());
    let work = async move |operation: Arc<Operation>| {
        let admin = admin.until(operation.interrupt());
        let of = decidable(&admin, &filter).await?;
        let progress = |now: Progress| operation.report(Progress { of: Some(of), ..now });
        let resolved = admin.resolve_dead_letters(&filter, resolution, progress).await?;
        Ok(Report::Resolved { resolved, resolution })
    };
    let operation = context.shared.operations.begin(of, context.stopping.clone(), work)?;
    operations::outcome(&operation, then).await
}

/// Returns the filter of a page.
fn filter(context: &Context) -> Result<DeadLetterFilter, Failure> {
    match context.query("group") {
        "" => Err(Failure::invalid("group", "")),
        group => {
            Ok(DeadLetterFilter { group: Some(group.to_owned()), ..DeadLetterFilter::default() })
        }
    }
}

/// Returns the filter of a form, which is never empty: a group, or one letter.
fn filter_of(form: &Form) -> Result<DeadLetterFilter, Failure> {
    let mut filter = DeadLetterFilter { group: form.given("group"), ..DeadLetterFilter::default() };
    if !form.field("id").is_empty() || filter.group.is_none() {
        filter.ids = vec![form.parsed("id")?];
    }
    Ok(filter)
}

fn command_of(verb: &str, context: &Context) -> String {
    command(["dead", verb, "--group", context.query("group")])
}
