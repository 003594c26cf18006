//! The bus: subscriptions of this process, and the positions of consumers, relays and followers.

use composable_rust_admin::CheckpointView;
use composable_rust_runtime::operations::SubscriptionStatus;
use maud::{Markup, html};

use crate::context::Context;
use crate::failure::Failure;
use crate::page::Page;
use crate::pages::consumers;
use crate::parts::text::{none, time};

pub(crate) async fn page(context: Context) -> Result<Page, Failure> {
    let admin = context.admin();
    let checkpoints = admin.checkpoints().await?;
    let subscriptions = admin.app().subscriptions();
    let (followers, others): (Vec<_>, Vec<_>) =
        checkpoints.into_iter().partition(|of| of.name.starts_with("follow/"));
    let (relays, consumers): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|of| of.name.starts_with("relay/"));
    let body = html! {
        h2 { "Subscriptions of this process" }
        (table_of_subscriptions(&subscriptions))
        h2 { "Relays" small { " from the log to topics" } }
        (table(&relays))
        h2 {
            "Consumers" small { " from topics to this service" } " "
            a href=(context.link(consumers::PATH)) { "Positions at the bus" }
        }
        (table(&consumers))
        h2 { "Policies and followers" small { " over the log" } }
        (table(&followers))
    };
    Ok(Page::new("Bus", "checkpoints", body))
}

fn table(checkpoints: &[CheckpointView]) -> Markup {
    html! {
        @if checkpoints.is_empty() { (none("There are none.")) }
        @else {
            div.scroll { table {
                thead { tr { th { "Name" } th.number { "Behind" } th { "Positions" } } }
                tbody {
                    @for of in checkpoints {
                        tr {
                            td.mono { (of.name) }
                            td.number { @if let Some(lag) = of.lag { (lag) } }
                            td.mono { @for position in &of.positions { (position) " " } }
                        }
                    }
                }
            } }
        }
    }
}

fn table_of_subscriptions(subscriptions: &[SubscriptionStatus]) -> Markup {
    html! {
        @if subscriptions.is_empty() { (none("It subscribes to no topic.")) }
        @else {
            div.scroll { table {
                thead { tr { th { "Group" } th { "State" } th { "Topics" } th { "Last error" } } }
                tbody {
                    @for of in subscriptions {
                        tr {
                            td.mono { (of.group) }
                            td { @if of.is_reading() { span.good { "reading" } } @else { span.bad { "not reading" } } }
                            td { @for topic in &of.topics { div { (topic.topic) " " span.faint { (format!("{:?}", topic.state)) } } } }
                            td.failure { @if let Some((at, error)) = &of.last_error { (time(*at)) " " (error) } }
                        }
                    }
                }
            } }
        }
    }
}
