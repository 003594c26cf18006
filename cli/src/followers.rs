//! `policies`, `relays` and `consumers`: progress, and moving to another place.

use clap::Subcommand;
use composable_rust_admin::{Admin, AdminError, CheckpointView, ConsumerMove, ConsumerView};
use serde_json::json;

use crate::args::{ChangeArgs, ListArgs};
use crate::error::Exit;
use crate::place::Place;
use crate::table::Table;
use crate::text::{count, number};
use crate::{CliError, Terminal};

/// The text in the place of an empty table of progress.
pub(crate) const NO_PROGRESS: &str = "None has made progress.";

#[derive(Debug, Subcommand)]
pub(crate) enum PoliciesCommand {
    /// List the policies over the log, with their lag
    List {
        #[command(flatten)]
        list: ListArgs,
    },
    /// Have a policy continue at another place of the log
    ///
    /// For a policy that stopped because the log lost events, or to apply it again. Its recipients
    /// ignore duplicate commands for as long as their inbox remembers them.
    Reset {
        /// Name of the policy
        policy: String,
        /// Place: beginning, end, a time or age, or the positions PARTITION:OFFSET,… of the last
        /// events before it
        #[arg(long, value_name = "PLACE")]
        to: Place,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RelaysCommand {
    /// List the relays to topics, with their lag
    List {
        #[command(flatten)]
        list: ListArgs,
    },
    /// Publish the events of the log to a topic again
    ///
    /// For a topic that was lost, or a relay that stopped because the log lost events. Consumers
    /// ignore duplicate events for as long as their inbox remembers them.
    Republish {
        /// Topic, such as order-events
        topic: String,
        /// Place: beginning, end, a time or age, or the positions PARTITION:OFFSET,… of the last
        /// events before it
        #[arg(long, value_name = "PLACE")]
        from: Place,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConsumersCommand {
    /// List the topics that this program's consumers read, with their positions
    List {
        #[command(flatten)]
        list: ListArgs,
    },
    /// Have a consumer continue at another place of a topic
    ///
    /// For a consumer that lost its position, or to read messages again. The group must have no
    /// members: run `log pause` before, and `log resume` afterwards, or stop the processes.
    Reset {
        /// Name of the consumer, such as commands
        consumer: String,
        /// Topic, such as order-commands
        topic: String,
        /// Place: beginning, end, a time or age, or the positions PARTITION:OFFSET,… of the next
        /// messages
        #[arg(long, value_name = "PLACE")]
        to: Place,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

impl PoliciesCommand {
    pub(crate) async fn run(
        self,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<Exit, CliError> {
        match self {
            Self::List { list } => {
                let print = async |terminal: &mut Terminal, json| {
                    let table = |of: &[CheckpointView]| progress("!policy", of);
                    terminal.list(json, &admin.policies().await?, table, NO_PROGRESS)
                };
                list.repeat(terminal, print).await
            }
            Self::Reset { policy, to, change } => {
                let admin = change.by.admin(admin);
                require("policy", &policy, &admin.policies().await?, |of| of.name == policy)?;
                let to = to.in_log(&admin).await?;
                let events = admin.events_from(&to).await?;
                let what = format!("apply {policy} to {} of the log", count(events, "event"));
                if change.dry_run {
                    let plan = json!({ "policy": policy, "events": events, "dry_run": true });
                    return change.by.report(terminal, &plan, &format!("would {what}"));
                }
                change.confirm(terminal, &what)?;
                let events = admin.reset_policy(&policy, to).await?;
                let done = json!({ "policy": policy, "events": events });
                let text = format!("{policy} continues {} before the end", count(events, "event"));
                change.by.report(terminal, &done, &text)
            }
        }
    }
}

impl RelaysCommand {
    pub(crate) async fn run(
        self,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<Exit, CliError> {
        match self {
            Self::List { list } => {
                let print = async |terminal: &mut Terminal, json| {
                    let table = |of: &[CheckpointView]| progress("!topic/aggregate", of);
                    terminal.list(json, &admin.relays().await?, table, NO_PROGRESS)
                };
                list.repeat(terminal, print).await
            }
            Self::Republish { topic, from, change } => {
                let admin = change.by.admin(admin);
                let is_of = |of: &CheckpointView| {
                    of.name.rsplit_once('/').is_some_and(|(name, _)| name == topic)
                };
                require("topic", &topic, &admin.relays().await?, is_of)?;
                let from = from.in_log(&admin).await?;
                let events = admin.events_from(&from).await?;
                let of_log = count(events, "event");
                let what = format!("publish those of {of_log} of the log that belong to {topic}");
                if change.dry_run {
                    let plan = json!({ "topic": topic, "events": events, "dry_run": true });
                    return change.by.report(terminal, &plan, &format!("would {what}"));
                }
                change.confirm(terminal, &what)?;
                let events = admin.republish(&topic, from).await?;
                let done = json!({ "topic": topic, "events": events });
                let text = format!("{topic} continues {} before the end", count(events, "event"));
                change.by.report(terminal, &done, &text)
            }
        }
    }
}

impl ConsumersCommand {
    pub(crate) async fn run(
        self,
        admin: &Admin,
        terminal: &mut Terminal,
    ) -> Result<Exit, CliError> {
        match self {
            Self::List { list } => {
                let print = async |terminal: &mut Terminal, json| {
                    terminal.list(json, &admin.consumers().await?, positions, "No consumers.")
                };
                list.repeat(terminal, print).await
            }
            Self::Reset { consumer, topic, to, change } => {
                let admin = change.by.admin(admin);
                let to = to.in_topic(&admin).await?;
                let moves = admin.rehearse_move(&consumer, &topic, &to).await?;
                let what = format!("move {consumer} in {topic}: {}", described(&moves));
                if change.dry_run {
                    return change.by.report(terminal, &moves, &format!("would {what}"));
                }
                change.confirm(terminal, &what)?;
                let moves = admin.move_consumer(&consumer, &topic, &to).await?;
                let text = format!("moved {consumer} in {topic}: {}", described(&moves));
                change.by.report(terminal, &moves, &text)
            }
        }
    }
}

/// Checks that something with progress matches a name.
fn require(
    what: &'static str,
    name: &str,
    all: &[CheckpointView],
    matches: impl Fn(&CheckpointView) -> bool,
) -> Result<(), CliError> {
    if all.iter().any(matches) {
        return Ok(());
    }
    let known: Vec<_> = all.iter().map(|of| &*of.name).collect();
    let hint = match &*known {
        [] => String::new(),
        known => format!("; there are: {}", known.join(", ")),
    };
    Err(AdminError::NotFound { what, name: name.to_owned(), hint }.into())
}

/// Returns the table of what has progress in the log; `name` is the head of the first column.
pub(crate) fn progress(name: &'static str, all: &[CheckpointView]) -> Table {
    let mut table = Table::new([name, "#lag", "positions"]);
    for of in all {
        let positions: Vec<_> = of.positions.iter().map(ToString::to_string).collect();
        table.row([of.name.clone(), of.lag.map(number).unwrap_or_default(), positions.join(" ")]);
    }
    table
}

/// Returns the table of positions, a row for each partition.
fn positions(consumers: &[ConsumerView]) -> Table {
    let mut table = Table::new([
        "!consumer",
        "!topic",
        "#partition",
        "#next",
        "#first",
        "#end",
        "#lag",
        "#lost",
    ]);
    for of in consumers {
        for at in &of.partitions {
            table.row([
                of.consumer.clone(),
                of.topic.clone(),
                at.partition.to_string(),
                at.next.map(|next| next.to_string()).unwrap_or_default(),
                at.first.to_string(),
                at.end.to_string(),
                at.lag.to_string(),
                at.lost.to_string(),
            ]);
        }
    }
    table
}

fn described(moves: &[ConsumerMove]) -> String {
    let text = |of: &ConsumerMove| {
        let from = of.from.map_or_else(|| "no position".to_owned(), |from| from.to_string());
        format!("partition {} from {from} to {}", of.partition, of.to)
    };
    match moves {
        [] => "it is there already".to_owned(),
        moves => moves.iter().map(text).collect::<Vec<_>>().join(", "),
    }
}
