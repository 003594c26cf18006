//! The overview: what is there, what waits, what is wrong.

use composable_rust_admin::QueueView;
use composable_rust_core::store::EventStore as _;
use maud::{Markup, html};
use tokio::time::Instant;

use crate::context::Context;
use crate::failure::Failure;
use crate::page::Page;
use crate::parts::samples::{Sample, plot};
use crate::parts::text::{counted, seconds, stream};

/// The number of instances that are listed as not loadable.
const STUCK: usize = 10;

pub(crate) async fn page(context: Context) -> Result<Page, Failure> {
    let admin = context.admin();
    let heads = admin.app().store().heads().await?;
    let events = heads.iter().map(|head| head.offset).sum();
    let queues = admin.queues().await?;
    let projections = admin.projections().await;
    let checkpoints = admin.checkpoints().await?;
    let processes = admin.processes().await?;
    let pauses = admin.pauses().await?;
    let sum = |of: fn(&QueueView) -> u64| queues.iter().map(of).sum::<u64>();
    let (depth, letters) = (sum(|of| of.depth), sum(|of| of.dead_letters));
    let lag = checkpoints.iter().filter_map(|of| of.lag).sum::<u64>()
        + projections.iter().map(|of| of.of.saturating_sub(of.done)).sum::<u64>();
    let oldest = queues.iter().map(|of| of.oldest_seconds).max().unwrap_or(0);
    let unserved = queues.iter().filter(|of| of.depth > 0 && of.has_worker == Some(false)).count();
    let failed = projections.iter().filter(|of| of.state == "failed" || of.error.is_some()).count();
    let stuck = admin.app().stuck_instances();
    let series = context.shared.samples.add(Sample { at: Instant::now(), events, depth, lag });
    let rate = series.rate.last().copied().unwrap_or(0.0);
    let body = html! {
        div.cards {
            (card(&context, "/events", &events.to_string(), "events", ""))
            (card(&context, "/events", &format!("{rate:.1}"), "events per second", ""))
            (card(&context, "/queues", &counted(depth), "messages wait", ""))
            (card(&context, "/queues", &seconds(oldest), "oldest message", if oldest > 300 { "warn" } else { "" }))
            (card(&context, "/dead-letters", &counted(letters), "dead letters", if letters > 0 { "bad" } else { "good" }))
            (card(&context, "/projections", &lag.to_string(), "events behind", ""))
            (card(&context, "/processes", &processes.len().to_string(), "processes", if processes.is_empty() { "warn" } else { "" }))
        }
        h2 { "Lately" small { " while this page was open" } }
        div.columns {
            div { span.faint { "Events per second" } (plot("Events per second", &series.rate)) }
            div { span.faint { "Waiting messages" } (plot("Waiting messages", &series.depth)) }
            div { span.faint { "Events behind" } (plot("Events behind", &series.lag)) }
        }
        h2 { "Needs attention" }
        @if letters == 0 && unserved == 0 && failed == 0 && stuck.is_empty() && pauses.is_empty() {
            p.good { "Nothing. The doctor examines the store as well." }
        }
        ul {
            @if letters > 0 { li.bad { a href=(context.link("/dead-letters")) { "dead letters: " (counted(letters)) } } }
            @if unserved > 0 { li.bad { a href=(context.link("/queues")) { "queues without a worker: " (unserved) } } }
            @if failed > 0 { li.bad { a href=(context.link("/projections")) { "failed projections: " (failed) } } }
            @for of in stuck.iter().take(STUCK) {
                li.bad { "cannot be loaded: " (stream(&context, &of.stream)) " " span.failure { (of.last_error) } }
            }
            @if stuck.len() > STUCK { li.bad { "and " (stuck.len() - STUCK) " other instances cannot be loaded" } }
            @for pause in &pauses {
                li.warn { a href=(context.link("/gateways")) { "paused: " (pause.name) } @if let Some(by) = &pause.by { " by " (by) } }
            }
        }
    };
    Ok(Page::new("Overview", "doctor", body))
}

fn card(context: &Context, path: &str, value: &str, label: &str, class: &str) -> Markup {
    html! { a.card href=(context.link(path)) { strong class=(class) { (value) } span { (label) } } }
}
