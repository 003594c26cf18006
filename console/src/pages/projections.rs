//! Projections of the app.

use composable_rust_admin::{EventView, ProjectionView};
use maud::{Markup, html};

use crate::action::Outcome;
use crate::context::Context;
use crate::failure::Failure;
use crate::form::{Form, button};
use crate::page::Page;
use crate::pages::instance::at_version;
use crate::parts::text::none;

pub(crate) async fn page(context: Context) -> Result<Page, Failure> {
    let projections = context.admin().projections().await;
    let mut faults = Vec::new();
    for of in &projections {
        faults.push(match of.fault {
            Some(at) => context.admin().event_at(at).await.ok(),
            None => None,
        });
    }
    let body = html! {
        @if projections.is_empty() {
            (none("The app of this console registers none. Projections keep their progress in their read models, which only their app knows."))
        } @else {
            div.scroll { table {
                thead { tr { th { "Projection" } th { "State" } th { "Progress" } th.number { "Behind" } th { "Reason" } th { "Change" } } }
                tbody { @for (of, fault) in projections.iter().zip(&faults) { (row(&context, of, fault.as_ref())) } }
            } }
        }
    };
    Ok(Page::new("Projections", "projections list", body))
}

fn row(context: &Context, of: &ProjectionView, fault: Option<&EventView>) -> Markup {
    let fields = [("name", &*of.name)];
    let is_failed = of.state == "failed" || of.error.is_some();
    html! {
        tr {
            td { (of.name) }
            td { span.tag.bad[is_failed] { (of.state) } }
            td { meter min="0" max=(of.of.max(1)) value=(of.done) {} " " (of.done) " of " (of.of) }
            td.number { (of.of.saturating_sub(of.done)) }
            td.failure {
                (of.error.as_deref().unwrap_or(&of.reason))
                @if let Some(event) = fault {
                    @let link = at_version(context, &event.stream, "at", event.version.get());
                    div { a.mono href=(link) { (event.stream) " at " (event.version.get()) } " " (event.name) }
                }
            }
            td.short {
                @if of.state == "running" { (button(context, "Pause", "/projections/pause", &fields)) }
                @else { (button(context, "Resume", "/projections/resume", &fields)) }
                " " (button(context, "Rebuild…", "/projections/rebuild", &fields))
            }
        }
    }
}

pub(crate) async fn pause(context: Context, form: Form) -> Result<Outcome, Failure> {
    context.admin_because(form.reason()).pause_projection(form.field("name")).await?;
    Ok(Outcome::done("Paused.", "/projections"))
}

pub(crate) async fn resume(context: Context, form: Form) -> Result<Outcome, Failure> {
    context.admin_because(form.reason()).resume_projection(form.field("name")).await?;
    Ok(Outcome::done("Resumed.", "/projections"))
}

pub(crate) async fn rebuild(context: Context, form: Form) -> Result<Outcome, Failure> {
    let name = form.field("name");
    if !form.is_confirmed() {
        let question =
            format!("Rebuild {name}? Its read model is empty until the log is read again.");
        return Ok(Outcome::ask(question, "Rebuild"));
    }
    context.admin_because(form.reason()).rebuild_projection(name).await?;
    Ok(Outcome::done("Rebuilding.", "/projections"))
}
