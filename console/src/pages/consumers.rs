//! The positions of consumers in topics, as the bus knows them.

use std::time::Duration;

use axum::http::StatusCode;
use composable_rust_admin::{AdminError, ConsumerMove, ConsumerPartitionView, ConsumerView};
use composable_rust_core::queue::Pause;
use composable_rust_runtime::operations::{ConsumerError, ConsumerStart};
use maud::{Markup, html};

use crate::action::Outcome;
use crate::context::Context;
use crate::failure::Failure;
use crate::form::{Form, button};
use crate::page::Page;
use crate::parts::text::none;

/// The path of the page.
pub(crate) const PATH: &str = "/bus/consumers";

/// The time within which the bus answers.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn page(context: Context) -> Result<Page, Failure> {
    let consumers = match tokio::time::timeout(PATIENCE, context.admin().consumers()).await {
        Ok(Err(AdminError::Consumer(ConsumerError::NoBus))) => Vec::new(),
        Ok(consumers) => consumers?,
        Err(_) => return Err(unavailable()),
    };
    let pauses = context.admin().pauses().await?;
    let is_paused = pauses.iter().any(|pause| pause.name == Pause::LOG);
    let body = html! {
        @if consumers.is_empty() { (none("The app of this console reads no topic.")) }
        @else {
            p {
                "A consumer is moved while no process reads for it: pause all work, move it, resume. "
                @if is_paused { span.warn { "All work is paused. " } (button(&context, "Resume all work", "/log/resume", &[("then", PATH)])) }
                @else { (button(&context, "Pause all work…", "/log/pause", &[("then", PATH)])) }
            }
            div.scroll { table {
                thead { tr { th { "Consumer" } th { "Topic" } th { "Partition" } th.number { "Next" } th.number { "Oldest" } th.number { "End" } th.number { "Behind" } th.number { "Lost" } th { "Move to" } } }
                @for of in &consumers { tbody { (rows(&context, of)) } }
            } }
        }
    };
    Ok(Page::new("Positions at the bus", "consumers list", body).still())
}

fn rows(context: &Context, of: &ConsumerView) -> Markup {
    let fields = |to| [("consumer", &*of.consumer), ("topic", &*of.topic), ("to", to)];
    html! {
        @for (row, at) in of.partitions.iter().enumerate() {
            tr {
                td { @if row == 0 { (of.consumer) } }
                td.mono { @if row == 0 { (of.topic) } }
                (position(at))
                td.short {
                    @if row == 0 {
                        (button(context, "Oldest…", "/bus/consumers/move", &fields("beginning")))
                        " " (button(context, "End…", "/bus/consumers/move", &fields("end")))
                    }
                }
            }
        }
    }
}

fn position(at: &ConsumerPartitionView) -> Markup {
    html! {
        td.number { (at.partition) }
        td.number { @if let Some(next) = at.next { (next) } @else { span.faint { "none" } } }
        td.number { (at.first) }
        td.number { (at.end) }
        td.number { (at.lag) }
        td.number { @if at.lost > 0 { span.bad { (at.lost) } } @else { "0" } }
    }
}

pub(crate) async fn change(context: Context, form: Form) -> Result<Outcome, Failure> {
    let (consumer, topic) = (form.required("consumer")?, form.required("topic")?);
    let (to, place) = match form.field("to") {
        "beginning" => (ConsumerStart::Beginning, "the oldest message"),
        "end" => (ConsumerStart::End, "the end"),
        other => return Err(Failure::invalid("to", other)),
    };
    let admin = context.admin_because(form.reason());
    if !form.is_confirmed() {
        let planned = tokio::time::timeout(PATIENCE, admin.rehearse_move(consumer, topic, &to));
        let planned = planned.await.map_err(|_| unavailable())??;
        return Ok(Outcome::Ask {
            question: format!("Move {consumer} in {topic} to {place}?"),
            label: "Move",
            detail: moves(&planned),
        });
    }
    admin.move_consumer(consumer, topic, &to).await?;
    Ok(Outcome::done(format!("{consumer} continues in {topic} at {place}."), PATH))
}

fn moves(planned: &[ConsumerMove]) -> Markup {
    html! {
        @if planned.is_empty() { (none("It is there already.")) }
        @else {
            ul { @for of in planned {
                li {
                    "partition " (of.partition) ": from "
                    @match of.from { Some(from) => (from), None => "no position" }
                    " to " (of.to)
                }
            } }
        }
    }
}

fn unavailable() -> Failure {
    let detail = format!("The bus did not answer within {} seconds. Retry.", PATIENCE.as_secs());
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "The bus is unavailable", detail)
}
