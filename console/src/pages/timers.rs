//! Armed timers, in the order of their deadlines.

use composable_rust_admin::{TimerQuery, TimerRef, TimerView};
use maud::{Markup, html};

use crate::action::Outcome;
use crate::context::Context;
use crate::failure::Failure;
use crate::form::{Form, button};
use crate::page::{Page, command};
use crate::parts::content::content;
use crate::parts::text::{none, stream, time, workflow};

/// The number of timers on a page.
const SHOWN: usize = 100;

pub(crate) async fn page(context: Context) -> Result<Page, Failure> {
    let category = context.query("category");
    let query = TimerQuery {
        category: Some(category).filter(|of| !of.is_empty()).map(str::to_owned),
        due_before: None,
        limit: SHOWN,
    };
    let timers = context.admin().timers(&query).await?;
    let body = html! {
        (table(&context, &timers))
        @if timers.len() == SHOWN { (none("Only the first 100 are shown.")) }
    };
    let command = match category {
        "" => "timers list".to_owned(),
        category => command(["timers", "list", "--category", category]),
    };
    let head = html! {
        form.filter method="get" action=(context.link("/timers")) role="search" {
            input type="search" name="category" placeholder="Type" aria-label="Type of the streams" value=(category);
            button type="submit" { "Search" }
        }
    };
    Ok(Page::new("Timers", command, body).with_head(head))
}

/// Returns a table of timers.
pub(crate) fn table(context: &Context, timers: &[TimerView]) -> Markup {
    html! {
        @if timers.is_empty() { (none("No timer is armed.")) }
        @else {
            div.scroll { table {
                thead { tr { th { "Due" } th { "Stream" } th { "Timer" } th { "Message" } th { "Content" } th { "Error" } th { "Cause" } th { "Change" } } }
                tbody { @for of in timers { (row(context, of)) } }
            } }
        }
    }
}

fn row(context: &Context, of: &TimerView) -> Markup {
    let (stream_of, then) = (of.message.sender.to_string(), context.path.to_string());
    let arming = of.arming.to_string();
    let fields =
        [("stream", &*stream_of), ("timer", &*of.id), ("arming", &*arming), ("then", &*then)];
    html! {
        tr {
            td.short { (time(of.due)) }
            td { (stream(context, &of.message.sender)) }
            td.mono { (of.id) }
            td { (of.message.name) }
            td { (content(context, &of.message.content, &format!("timer-{}", of.message.id))) }
            td.failure { (of.last_error.as_deref().unwrap_or("")) @if of.attempts > 0 { " (" (of.attempts) " attempts)" } }
            td { (workflow(context, of.message.correlation_id, None)) }
            td.short {
                (button(context, "Fire now…", "/timers/fire", &fields)) " "
                (button(context, "Cancel…", "/timers/cancel", &fields))
            }
        }
    }
}

pub(crate) async fn fire(context: Context, form: Form) -> Result<Outcome, Failure> {
    let timer = seen(&form)?;
    if !form.is_confirmed() {
        let question = format!("Fire the timer {} of {} now?", timer.id, timer.stream);
        return Ok(Outcome::ask(question, "Fire"));
    }
    context.admin_because(form.reason()).fire_timer(&timer).await?;
    Ok(Outcome::done("The timer is due now.", form.then("/timers")))
}

pub(crate) async fn cancel(context: Context, form: Form) -> Result<Outcome, Failure> {
    let timer = seen(&form)?;
    if !form.is_confirmed() {
        let TimerRef { stream, id, .. } = &timer;
        let question =
            format!("Cancel the timer {id} of {stream}? Its message is never delivered.");
        return Ok(Outcome::ask(question, "Cancel the timer"));
    }
    context.admin_because(form.reason()).cancel_timer(&timer).await?;
    Ok(Outcome::done("The timer is cancelled.", form.then("/timers")))
}

/// Returns the timer of a form, as the page has shown it.
fn seen(form: &Form) -> Result<TimerRef, Failure> {
    let id = form.field("timer").to_owned();
    Ok(TimerRef { stream: form.parsed("stream")?, id, arming: form.parsed("arming")? })
}
