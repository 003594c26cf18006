//! The positions of consumers in topics, as the bus knows them.

use std::time::Duration;

use axum::http::StatusCode;
use composable_rust_admin::{AdminError, ConsumerMove, ConsumerPartitionView, ConsumerView};
use composable_rust_core::bus::TopicOffset;
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
    let fields =
        |to| [("consumer", &*of.consumer), ("topic", &*of.topic), ("to", to), ("then", PATH)];
    let move_to = |label, to| button(context, label, "/bus/consumers/move", &fields(to));
    html! {
        @if of.partitions.is_empty() {
            tr { td { (of.consumer) } td.mono { (of.topic) } td.bad colspan="7" { "the topic is missing" } }
        }
        @for (row, at) in of.partitions.iter().enumerate() {
            tr {
                td { @if row == 0 { (of.consumer) } }
                td.mono { @if row == 0 { (of.topic) } }
                (position(at))
                td.short {
                    @if row == 0 {
                        @if of.partitions.iter().any(|at| at.lost > 0) {
                            (move_to("Leave out what is lost…", "lost")) " "
                        }
                        (move_to("Oldest…", "beginning")) " " (move_to("End…", "end"))
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
    let admin = context.admin_because(form.reason());
    if form.is_confirmed() {
        // What was shown, wherever the topic begins and ends by now.
        let at = form.field("at");
        let at = parsed(at).ok_or_else(|| Failure::invalid("at", at))?;
        admin.move_consumer(consumer, topic, &ConsumerStart::At(at)).await?;
        return Ok(Outcome::done(format!("{consumer} is moved in {topic}."), PATH));
    }
    let planned = async {
        let (to, place) = match form.field("to") {
            "lost" => {
                (lost(&context, consumer, topic).await?, "the oldest message where it lost any")
            }
            "beginning" => (ConsumerStart::Beginning, "the oldest message"),
            "end" => (ConsumerStart::End, "the end"),
            other => return Err(Failure::invalid("to", other)),
        };
        Ok((admin.rehearse_move(consumer, topic, &to).await?, place))
    };
    let planned = tokio::time::timeout(PATIENCE, planned).await;
    let (planned, place) = planned.map_err(|_| unavailable())??;
    let at: Vec<_> = planned.iter().map(|of| format!("{}:{}", of.partition, of.to)).collect();
    Ok(Outcome::Ask {
        question: format!("Move {consumer} in {topic} to {place}?"),
        label: "Move",
        detail: moves(&planned),
        fields: vec![("at", at.join(","))],
    })
}

/// Returns the oldest message of each partition in which the consumer lost messages.
async fn lost(context: &Context, consumer: &str, topic: &str) -> Result<ConsumerStart, Failure> {
    let of = context.admin().consumer(consumer, topic).await?;
    let lost = of.partitions.iter().filter(|at| at.lost > 0);
    let first =
        |at: &ConsumerPartitionView| TopicOffset { partition: at.partition, offset: at.first };
    Ok(ConsumerStart::At(lost.map(first).collect()))
}

/// Parses offsets that are written as `PARTITION:OFFSET,…`.
fn parsed(text: &str) -> Option<Vec<TopicOffset>> {
    let offsets = text.split(',').filter(|of| !of.is_empty()).map(|of| {
        let (partition, offset) = of.split_once(':')?;
        Some(TopicOffset { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
    });
    offsets.collect()
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
                    @match of.from {
                        Some(from) if of.to < from => { ", which delivers " (from - of.to) " again" }
                        Some(from) => { ", which leaves out " (of.to - from) }
                        None => {}
                    }
                }
            } }
        }
    }
}

fn unavailable() -> Failure {
    let detail = format!("The bus did not answer within {} seconds. Retry.", PATIENCE.as_secs());
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "The bus is unavailable", detail)
}
