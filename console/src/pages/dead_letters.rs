//! Dead letters: grouped by cause, rehearsed, redriven and discarded.

use composable_rust_admin::{DeadLetterFilter, DeadLetterGroup, DeadLetterView, Resolution};
use maud::{Markup, html};

use crate::action::Outcome;
use crate::context::Context;
use crate::failure::Failure;
use crate::form::{Form, button};
use crate::page::Page;
use crate::parts::content::content;
use crate::parts::text::{none, recipient, stream, time, workflow};
use crate::url;

/// The number of dead letters on a page.
const SHOWN: usize = 100;

pub(crate) async fn groups(context: Context) -> Result<Page, Failure> {
    let filter = DeadLetterFilter {
        error_contains: Some(context.query("error")).filter(|of| !of.is_empty()).map(str::to_owned),
        ..DeadLetterFilter::default()
    };
    let found = context.admin().dead_letter_groups(&filter).await?;
    let groups = &found.entries;
    let body = html! {
        @if found.is_cut { (none("There are more than are counted here. A decision about a group reaches all of it.")) }
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
                a href=(context.link(&format!("/dead-letters/rehearsal{query}"))) { "Rehearse" } " "
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
    Ok(Page::new("Dead letters of a group", command("list", &context), body))
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
    let run = context.admin().rehearse_dead_letters(&filter(&context)?, |_| ()).await?;
    let group = context.query("group");
    let fields = [("group", group), ("then", "/dead-letters")];
    let body = html! {
        p.pages { a href=(context.link("/dead-letters")) { "All groups" } }
        div.cards {
            div.card { strong.good { (run.would_pass) } span { "would be handled" } }
            div.card { strong class=[(!run.would_fail.is_empty()).then_some("bad")] { (run.would_fail.values().map(|(count, _)| count).sum::<u64>()) } span { "would fail again" } }
            div.card { strong { (run.behind) } span { "wait behind others" } }
            div.card { strong { (run.unknown) } span { "cannot be told" } }
        }
        @if !run.would_fail.is_empty() {
            table {
                thead { tr { th.number { "Count" } th { "Error" } th { "Example" } } }
                tbody {
                    @for (error, (count, example)) in &run.would_fail {
                        tr { td.number { (count) } td.failure { (error) } td.mono { (example) } }
                    }
                }
            }
        }
        p { (button(&context, "Redrive the group", "/dead-letters/redrive", &fields)) }
    };
    let command = command("redrive", &context) + " --dry-run";
    Ok(Page::new("Rehearsal: would this build handle them?", command, body).still())
}

pub(crate) async fn redrive(context: Context, form: Form) -> Result<Outcome, Failure> {
    let admin = context.admin_because(form.reason());
    let filter = filter_of(&form)?;
    let done = admin.resolve_dead_letters(&filter, Resolution::Redrive, |_| ()).await?;
    let notice = match done.behind {
        0 => format!("{} redriven.", done.decided),
        behind => format!("{} redriven; {behind} behind others follow them.", done.decided),
    };
    Ok(Outcome::done(notice, form.then("/dead-letters")))
}

pub(crate) async fn discard(context: Context, form: Form) -> Result<Outcome, Failure> {
    let filter = filter_of(&form)?;
    if !form.is_confirmed() {
        let what = if form.field("id").is_empty() {
            "all dead letters of the group"
        } else {
            "the dead letter"
        };
        let question = format!("Discard {what}? Their senders are told, nobody else is.");
        return Ok(Outcome::Ask { question, label: "Discard".to_owned() });
    }
    let admin = context.admin_because(form.reason());
    let done = admin.resolve_dead_letters(&filter, Resolution::Discard, |_| ()).await?;
    Ok(Outcome::done(format!("{} discarded.", done.decided), form.then("/dead-letters")))
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

fn command(verb: &str, context: &Context) -> String {
    format!("dead {verb} --group {}", context.query("group"))
}
